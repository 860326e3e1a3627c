//! Matrices made of other things, exactly.

mod banded;
mod covariance;
mod exponentials;
mod filter_form;

pub use covariance::StateSpace;
pub use exponentials::Exponential;
pub use filter_form::FilterForm;
