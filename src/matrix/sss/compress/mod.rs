//! Fewer states for the same matrix, or nearly the same.
//!
//! | method | gives | cost |
//! |---|---|---|
//! | `rounded` | the smallest orders for a [`Tolerance`](super::Tolerance), and the exact error | O(len · order³) |
//! | `canonical` | the same matrix with minimal orders and states of a chosen scale | the same |
//! | `hankel_spectrum` | all Hankel singular values | the same |
//!
//! One sweep backwards makes the states orthogonal by what they cause, one forwards drops those that cause little
//! ([`sweeps`]).

mod canonical;
pub(super) mod rounded;
mod spectrum;
pub(super) mod steps;
pub(super) mod sweeps;

pub use canonical::Canonical;
pub use rounded::{Rounded, TwoSided};
pub use spectrum::{HankelSpectrum, Tolerance};
