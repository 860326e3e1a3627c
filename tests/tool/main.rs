//! The command-line tool: what it prints, what it writes, how it fails.

#[path = "../model/files.rs"]
mod files;
#[cfg(feature = "hub")]
mod hub;
mod model;
mod operator;
mod support;
#[path = "../model/tokenizer.rs"]
mod tokenizer;
