//! Norms, distances, condition numbers and eigenvalues.
//!
//! | number | method | is | cost |
//! |---|---|---|---|
//! | Frobenius norm, distance of two matrices | `norm_frobenius`, `distance` | exact | O(len · order³) |
//! | Hankel norm | `norm_hankel` | exact | the same |
//! | 1- and ∞-norm | `norm_one`, `norm_inf` | [`Bounds`], equal up to order one and for nonnegative generators | O(len · order²) |
//! | | [`norm_one_exact`], [`norm_inf_exact`] | exact, by all entries | O(len² · order) time, O(len) memory |
//! | 2-norm | [`norm_two_estimate`] | from below, to some digits | some tens of products |
//! | condition numbers | `condition_one_estimate`, `condition_two_estimate` | estimates from below | some solutions |
//! | condition numbers of 1-semiseparable matrices | `condition_one`, `condition_inf` | exact | O(len) |
//! | eigenvalues of a Hermitian matrix | `eigenvalue_count_below`, `eigenvalues` | by bisection | O(len · order²) a count |

mod bounds;
mod condition;
mod eigenvalues;
mod estimate;
mod exact;
mod norms;

pub use bounds::Bounds;
pub use estimate::norm_two_estimate;
pub use exact::{norm_inf_exact, norm_one_exact};
