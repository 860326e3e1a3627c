//! Singular values of small matrices by rotations of rows (one-sided Jacobi).
//!
//! Every value comes out with a relative error of a few roundings where the matrix is a well-conditioned one with
//! scaled rows or columns; a bidiagonalisation has that error relative to the largest value only. It cannot fail to
//! converge: a bounded number of sweeps is made, and one more could only improve the last digit.

use ndarray::{Array2, ArrayView2};
use num_traits::{Float, One, Zero};

use super::reflect::{dot_conj, ordered_r, squares};
use super::{LANES, vectorize};
use crate::scalar::{Field, Real, real};

/// Sweeps over all pairs of rows; a handful suffices after the ordered elimination.
const SWEEPS: usize = 40;

/// Singular values and right singular vectors.
#[derive(Debug, Clone)]
pub(crate) struct RightSvd<E: Field> {
    /// Positive, largest first; zeros are left out.
    pub values: Vec<E::Real>,
    /// `vᴴ`, a row for each value.
    pub right: Array2<E>,
}

/// The singular values of `a` and its right singular vectors: `a = u diag(values) right`.
pub(crate) fn right_svd<E: Field>(a: ArrayView2<'_, E>) -> RightSvd<E> {
    let scale = power_below(largest(a));
    let mut r = ordered_r(a, E::from_real(scale.recip()));
    let (rank, n) = r.dim();
    let norms = match r.as_slice_mut() {
        Some(rows) => vectorize(
            #[inline(always)]
            || orthogonalize(rows, rank, n),
        ),
        None => Vec::new(),
    };
    let mut order: Vec<usize> = (0..rank).filter(|&i| norms[i] > E::Real::zero()).collect();
    order.sort_by(|&i, &j| norms[j].partial_cmp(&norms[i]).unwrap_or(std::cmp::Ordering::Equal));
    let mut right = Array2::zeros((order.len(), n));
    for (mut row, &i) in right.outer_iter_mut().zip(&order) {
        row.zip_mut_with(&r.row(i), |v, r| *v = r.over(E::from_real(norms[i])));
    }
    RightSvd { values: order.iter().map(|&i| norms[i] * scale).collect(), right }
}

/// The power of two that is next to the largest modulus from below: dividing by it is exact. The least normal number where
/// that is subnormal, whose reciprocal is finite; one where there is none.
pub(crate) fn scale_of<'a, E: Field>(values: impl IntoIterator<Item = &'a E>) -> E::Real {
    power_below(values.into_iter().fold(E::Real::zero(), |m, v| m.max(v.modulus())))
}

fn power_below<R: Real>(largest: R) -> R {
    if largest.is_normal() {
        largest.log2().floor().exp2()
    } else if largest.is_subnormal() {
        R::min_positive_value()
    } else {
        R::one()
    }
}

/// The largest modulus.
fn largest<E: Field>(a: ArrayView2<'_, E>) -> E::Real {
    let larger = |m: E::Real, v: &E| if v.modulus() > m { v.modulus() } else { m };
    let Some(values) = a.as_slice_memory_order() else {
        return a.iter().fold(E::Real::zero(), larger);
    };
    vectorize(
        #[inline(always)]
        || {
            let (lanes, rest) = values.as_chunks::<LANES>();
            let mut found = [E::Real::zero(); LANES];
            for lane in lanes {
                for l in 0..LANES {
                    found[l] = larger(found[l], &lane[l]);
                }
            }
            let most = rest.iter().fold(E::Real::zero(), larger);
            found.into_iter().fold(most, E::Real::max)
        },
    )
}

/// Rotates rows among themselves until they are orthogonal; returns their norms.
#[inline(always)]
fn orthogonalize<E: Field>(rows: &mut [E], rank: usize, n: usize) -> Vec<E::Real> {
    let enough = E::Real::epsilon() * real::<E::Real>(n as f64).sqrt();
    let half = real::<E::Real>(0.5);
    let mut norms = vec![E::Real::zero(); rank];
    for _ in 0..SWEEPS {
        for (norm, row) in norms.iter_mut().zip(rows.chunks_exact(n.max(1))) {
            *norm = squares(row);
        }
        let mut rotated = false;
        for i in 0..rank {
            for j in i + 1..rank {
                let (x, y) = pair(rows, n, i, j);
                let product = dot_conj(x, y);
                let size = product.modulus();
                if size.is_nan() || size <= enough * norms[i].sqrt() * norms[j].sqrt() {
                    continue;
                }
                rotated = true;
                let zeta = half * (norms[j] - norms[i]) / size;
                let t = zeta.signum() / (zeta.abs() + beside_one(zeta));
                let c = (E::Real::one() + t * t).sqrt().recip();
                let (c, s) = (E::from_real(c), E::from_real(c * t));
                let phase = product.over(E::from_real(size)).conj();
                for (x, y) in x.iter_mut().zip(y) {
                    let turned = phase * *y;
                    (*x, *y) = (c * *x - s * turned, s * *x + c * turned);
                }
                norms[i] -= t * size;
                norms[j] += t * size;
            }
        }
        if !rotated {
            break;
        }
    }
    rows.chunks_exact(n.max(1)).map(|row| squares(row).sqrt()).collect()
}

/// `(1 + x²)^½`, also where the square overflows.
#[inline(always)]
fn beside_one<R: Real>(x: R) -> R {
    if x.abs() * R::epsilon() > R::one() { x.abs() } else { (R::one() + x * x).sqrt() }
}

/// Rows i < j, to be changed.
#[inline(always)]
fn pair<E>(rows: &mut [E], n: usize, i: usize, j: usize) -> (&mut [E], &mut [E]) {
    let (before, behind) = rows.split_at_mut(j * n);
    (&mut before[i * n..(i + 1) * n], &mut behind[..n])
}
