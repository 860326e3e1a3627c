//! Structured state space duality.
#![warn(clippy::all)]

mod error;
mod linalg;
pub mod matrix;
mod parallel;
mod scalar;
pub mod ssd;

pub use error::{Error, Result};
pub use scalar::{Field, Real, Scalar};
