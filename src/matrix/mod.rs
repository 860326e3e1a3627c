//! Definitions: matrices known by their generators and never formed unless asked.
//!
//! | matrix | entries | product with one column |
//! |---|---|---|
//! | [`OneSemiseparable`] | $`a_i \cdots a_{j+1}`$ for i ≥ j | O(len), a scan ([`scan`]) |
//! | [`Bidiagonal`], its inverse | two diagonals | O(len) |
//! | [`FilterForm`] | $`C_i A_i \cdots A_{j+1} B_j`$ for i ≥ j | O(len · order), diagonal A |
//! | [`Sss`] | $`C_i A_{i-1} \cdots A_{j+1} B_j`$ for i > j, free for i = j | the same |
//! | [`Upper`], [`Quasiseparable`], [`HermitianQuasiseparable`] | the same above the diagonal, and on both sides | as [`Sss`], once or twice |
//! | [`MaskedAttention`] | $`L_{ij}\, Q_i \cdot K_j`$ for any mask L | that of L, once for each feature |
//! | the masks of [`mask`] | all ones, causal, decay, Toeplitz, Fourier, banded, dense | see there |

pub mod attention;
mod bidiagonal;
pub(crate) mod check;
mod cotangent;
pub mod mask;
mod one_semiseparable;
mod ranks;
pub mod scan;
mod segment_sum;
pub mod sss;

pub use crate::linalg::Operator;
pub use attention::MaskedAttention;
pub use bidiagonal::Bidiagonal;
pub use cotangent::Cotangent;
pub use one_semiseparable::OneSemiseparable;
pub use ranks::{MainDiagonal, maximal_block_ranks};
pub use segment_sum::{segment_sums, segment_sums_by_difference};
pub use sss::{
    Blocks, FilterForm, HermitianQuasiseparable, Multiply, Partition, Quasiseparable, Sss, Transition, Upper,
};

#[cfg(feature = "svg")]
pub use crate::picture::spy::spy_svg;

use ndarray::{Array2, ArrayView2};

use crate::error::Result;
use crate::scalar::Field;

/// A matrix known by its generators.
///
/// [`to_dense`](Self::to_dense) *is* the definition; everything else must agree with it.
/// Cotangents follow the inner product ⟨u, v⟩ = Re Σ conj(u) v, so that for real matrices a vjp is the
/// transposed product and for complex ones the adjoint.
pub trait StructuredMatrix<E: Field> {
    /// The same generators, holding their cotangents.
    type Gradient;

    /// (rows, columns).
    fn shape(&self) -> (usize, usize);

    /// All entries, from the definition.
    fn to_dense(&self) -> Array2<E>;

    /// `M x` without forming `M`. `x`: (columns, k); result: (rows, k).
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>>;

    /// `Mᴴ y` without forming `M`. `y`: (rows, k); result: (columns, k).
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>>;

    /// Cotangents of the generators and of `x`, given the cotangent `dy` of `M x`.
    /// `x`: (columns, k); `dy`: (rows, k).
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self::Gradient, Array2<E>)>;

    /// Cotangents of the generators, given the cotangent of every entry of the dense form.
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self::Gradient>;
}
