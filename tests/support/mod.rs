//! Checkers shared by the tests.

pub mod matrix;
