//! Continuing a text.

mod sampling;

pub use sampling::{Draw, Sampling};
