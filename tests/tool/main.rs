//! The command-line tool: what it prints, what it writes, how it fails.

#[path = "../model/files.rs"]
mod files;
mod model;
mod operator;
mod support;
#[path = "../model/tokenizer.rs"]
mod tokenizer;
