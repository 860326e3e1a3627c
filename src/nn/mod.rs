//! Parts of networks: plain functions on views, each with its vjp behind it.

mod weight;

pub use crate::numbers::{Numbers, Shared};
pub use weight::Weight;
