//! Structured state space duality.
#![warn(clippy::all)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod error;
mod linalg;
pub mod matrix;
mod parallel;
mod scalar;
pub mod ssd;

pub use error::{Error, Result};
pub use scalar::{Field, Real, Scalar};
