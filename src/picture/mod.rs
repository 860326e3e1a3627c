//! Pictures of matrices as SVG text.

// The command-line tool draws more than the library does.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

pub(crate) mod canvas;
pub(crate) mod hankel;
pub(crate) mod heat;
pub(crate) mod spy;
