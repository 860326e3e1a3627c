//! Sequentially semiseparable matrices: block entries of any size, orders that vary by step, in the predictor form.
//!
//! | type | is |
//! |---|---|
//! | [`Sss`] | block lower triangular: generators A, B, C below a free block diagonal D |
//! | [`Upper`] | the adjoint of a lower one, without a copy |
//! | [`Quasiseparable`] | lower part, diagonal and upper part |
//! | [`HermitianQuasiseparable`] | the same with an upper part that is the adjoint of the lower one |
//! | [`Transition`] | the matrices A: identity, scalar, diagonal or dense |
//! | [`Blocks`] | a row of matrices of any sizes in one allocation |

mod algebra;
mod bare;
mod blocks;
mod compress;
mod construct;
mod dense;
mod factor;
mod finite;
mod hermitian;
mod kernels;
mod lower;
mod multiply;
mod numbers;
mod quasiseparable;
mod read;
mod realise;
mod recurrent;
mod show;
mod transition;
mod upper;

pub use blocks::Blocks;
pub use compress::{Canonical, HankelSpectrum, Rounded, Tolerance, TwoSided};
pub use construct::{Exponential, FilterForm, StateSpace};
pub use factor::{
    Cholesky, Inertia, Ldl, LeastSquares, LikelihoodMemory, LikelihoodVjp, LogDeterminant, LowerQr, Lu,
    StateSpaceRoots, TwoSidedQr,
};
pub use hermitian::HermitianQuasiseparable;
pub use lower::Sss;
pub use multiply::{Multiply, Partition};
pub use numbers::{Bounds, norm_inf_exact, norm_one_exact, norm_two_estimate};
pub use quasiseparable::Quasiseparable;
pub use read::{FactoredBlock, SubBlock};
pub use transition::Transition;
pub use upper::Upper;
