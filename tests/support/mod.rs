//! Checkers shared by the tests; every test crate uses a part of them.
#![allow(dead_code)]

pub mod matrix;
