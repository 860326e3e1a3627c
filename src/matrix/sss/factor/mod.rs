//! Factorisations, the solutions, determinants and inverses that they give, and their derivatives.
//!
//! | matrix | factor | for | cost |
//! |---|---|---|---|
//! | [`Sss`], [`Upper`](super::Upper) | itself, by substitution | square blocks on the diagonal | that of a product |
//! | [`HermitianQuasiseparable`](super::HermitianQuasiseparable) | [`Cholesky`] | positive definite matrices | O(len N²), diagonal A |
//! | | [`Ldl`] | Hermitian matrices, inertia | the same |
//! | [`StateSpaceRoots`] | [`Cholesky`] by orthogonal steps | covariances that are nearly singular | O(len N³) |
//! | [`Quasiseparable`](super::Quasiseparable) | [`Lu`] | dominant matrices; growth is reported | O(len N²), diagonal A |
//! | | [`TwoSidedQr`] | every matrix, least squares | O(len N³) |
//! | [`Sss`] | [`LowerQr`] | least squares with lower matrices | O(len N³) |

mod array;
mod cholesky;
mod derivatives;
mod inverse;
mod ldl;
mod ldl_vjp;
mod likelihood;
mod lower_qr;
mod lu;
mod lu_vjp;
mod orthogonal_inverse;
mod refactor;
mod scratch;
mod substitution;
mod two_sided_qr;
mod uniform;

pub use array::StateSpaceRoots;
pub use cholesky::Cholesky;
pub use ldl::{Inertia, Ldl};
pub use likelihood::{LikelihoodMemory, LikelihoodVjp};
pub use lower_qr::LowerQr;
pub use lu::Lu;
pub use two_sided_qr::{LeastSquares, TwoSidedQr};

use ndarray::{ArrayView2, s};
use num_traits::{Float, ToPrimitive, Zero};

use super::{Blocks, Sss};
use crate::error::{Error, Result};
use crate::scalar::{Field, larger};

/// A determinant as a phase and a logarithm, which neither overflow nor underflow.
///
/// ```math
/// \det M = \text{phase} \cdot e^{\text{log\_modulus}}
/// ```
///
/// For real matrices the phase is the sign. The matrix without rows has the determinant 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogDeterminant<E: Field> {
    /// A number of modulus one.
    pub phase: E,
    /// Logarithm of the modulus.
    pub log_modulus: E::Real,
}

impl<E: Field> LogDeterminant<E> {
    /// The determinant of a product of triangular block matrices with these diagonal blocks.
    fn of_blocks(blocks: &Blocks<E>) -> Result<Self> {
        let mut all = Self { phase: E::one(), log_modulus: E::Real::zero() };
        for (k, d) in blocks.iter().enumerate() {
            let (phase, log) = pivot(d, k)?.log_det();
            all = Self { phase: all.phase * phase, log_modulus: all.log_modulus + log };
        }
        Ok(all)
    }
}

/// The logarithm of the modulus of the product of some numbers.
fn log_of_product<E: Field>(values: &[E]) -> E::Real {
    const TOGETHER: usize = 16;
    // A logarithm costs as much as a step of a small elimination: one for many numbers, where nothing over- or underflows.
    let (whole, rest) = values.as_chunks::<TOGETHER>();
    let logarithm = |v: &E| v.modulus().ln();
    let whole = whole.iter().map(|values| {
        let mut products = values.map(E::modulus);
        let (mut normal, mut width) = (true, TOGETHER);
        while width > 1 {
            width /= 2;
            for l in 0..width {
                products[l] *= products[l + width];
                normal &= products[l].is_normal();
            }
        }
        if normal { products[0].ln() } else { values.iter().map(logarithm).sum() }
    });
    whole.chain(rest.iter().map(logarithm)).sum()
}

/// The factors of a block that must be inverted at step k.
fn pivot<E: Field>(d: ArrayView2<'_, E>, k: usize) -> Result<crate::linalg::Lu<E>> {
    crate::linalg::Lu::new(d).ok_or_else(|| singular(d, k))
}

/// The error of a block that cannot be inverted at step k.
fn singular<E: Field>(d: ArrayView2<'_, E>, k: usize) -> Error {
    let found = match d.dim() {
        (1, 1) => format!("pivot {}", d[[0, 0]]),
        (rows, columns) if !d.iter().all(|v| v.modulus().is_finite()) => {
            format!("a block of size {rows} x {columns} with numbers that are not finite")
        }
        (rows, columns) => format!("a block of size {rows} x {columns} of lower rank"),
    };
    Error::Singular { step: k, found }
}

/// `Ok` if every diagonal block is square.
fn check_square<E: Field>(m: &Sss<E>) -> Result<()> {
    for k in 0..m.len() {
        let (outputs, inputs) = m.d.dims(k);
        if outputs != inputs {
            return Err(Error::shape("d", format!("a square block at step {k}"), &[outputs, inputs]));
        }
    }
    Ok(())
}

/// The largest modulus of some numbers, as `f64`; NaN if one of them is.
fn largest<'a, E: Field>(values: impl IntoIterator<Item = &'a E>) -> f64 {
    values.into_iter().map(|v| v.modulus().to_f64().unwrap_or(f64::NAN)).fold(0.0, larger)
}

/// How much larger the numbers of a factorisation became than those it started from; infinite where they overflowed.
fn growth(largest_before: f64, largest_after: f64) -> f64 {
    let growth = if largest_after == 0.0 { 1.0 } else { largest_after / largest_before };
    if growth.is_nan() { f64::INFINITY } else { growth.max(1.0) }
}

/// The largest entry of the block below the diagonal block of step k, when `b` stands for B_k.
fn below<E: Field>(m: &Sss<E>, k: usize, b: ArrayView2<'_, E>) -> f64 {
    if k + 1 < m.len() { largest(&crate::linalg::product(m.c(k + 1), b)) } else { 0.0 }
}

/// The rows `start ..` of x that belong to a step with `rows` of them.
fn rows<E>(x: ArrayView2<'_, E>, start: usize, rows: usize) -> ArrayView2<'_, E> {
    x.slice_move(s![start..start + rows, ..])
}

/// Whether every component is finite and the modulus positive: a pivot to divide by.
#[inline(always)]
fn divides<E: Field>(pivot: E) -> bool {
    let size = pivot.modulus();
    size.is_finite() && !size.is_zero()
}

#[cfg(test)]
mod tests {
    use super::log_of_product;

    #[test]
    fn logarithms_of_products_that_leave_the_range_are_sums() {
        let of = |v: &[f64]| (log_of_product(v), v.iter().map(|v| v.abs().ln()).sum::<f64>());
        let far = [1e200, -1e-200, 1e-310, 3.0];
        for len in [0, 1, 15, 16, 17, 40] {
            let near: Vec<f64> = (0..len).map(|k| 0.5 + k as f64).collect();
            let (found, expected) = of(&near);
            assert!((found - expected).abs() <= 1e-13 * (1.0 + expected.abs()), "{len}: {found} {expected}");
            for k in 1..=far.len() {
                let (found, expected) = of(&(0..len).map(|i| far[i % k]).collect::<Vec<_>>());
                assert!(
                    (found - expected).abs() <= 1e-13 * (1.0 + expected.abs()),
                    "{len} {k}: {found} {expected}"
                );
            }
        }
        assert_eq!(log_of_product(&[0.0; 16]), f64::NEG_INFINITY);
        assert!(log_of_product(&[f64::NAN; 16]).is_nan());
    }
}
