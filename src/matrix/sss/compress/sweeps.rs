//! The two sweeps of rounding: orthogonal states backwards, truncated singular value decompositions forwards.

use ndarray::{Array2, s};
use num_traits::Float;

use super::steps::Steps;
use crate::linalg::{RightSvd, above, adjoint, beside, product, right_svd, root_of_squares, thin_qr};
use crate::scalar::{Field, Real};

/// Which singular values a truncation drops. Those that rounding alone can make are always dropped, except by
/// `Nothing`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::matrix::sss) enum Cut {
    /// None.
    Nothing,
    /// Values up to this one.
    Below(f64),
    /// As many as have a norm of at most this over all steps.
    Budget(f64),
}

impl Cut {
    /// The same with a part of the budget, if it has one.
    pub(in crate::matrix::sss) fn part(self, of: impl FnOnce(f64) -> f64) -> Self {
        if let Self::Budget(budget) = self { Self::Budget(of(budget)) } else { self }
    }

    /// How many of `values`, largest first, are kept at a step: `noise` is the level of rounding errors, `dropped` what
    /// was dropped before, and `steps` how many steps are still to come with this one.
    pub(in crate::matrix::sss) fn rank(
        self,
        values: &[f64],
        noise: f64,
        (dropped, steps): (f64, usize),
    ) -> usize {
        let above = |limit: f64| values.iter().take_while(|v| **v > limit).count();
        match self {
            Self::Nothing => values.len(),
            Self::Below(limit) => above(limit.max(noise)),
            Self::Budget(budget) => {
                let allowance = rest(budget, dropped) / (steps as f64).sqrt();
                let mut tail = 0.0f64;
                let small = values.iter().rev().take_while(|v| {
                    tail = tail.hypot(**v);
                    tail <= allowance
                });
                above(noise).min(values.len() - small.count())
            }
        }
    }
}

/// How many units in the last place of what it was computed from a singular value may be and still be nothing.
pub(in crate::matrix::sss) const ROUNDING: f64 = 8.0;

/// What a truncation found.
#[derive(Debug, Clone)]
pub(in crate::matrix::sss) struct Truncation {
    /// Singular values at every step but the last, before anything was dropped there.
    pub values: Vec<Vec<f64>>,
    /// How many of them were kept.
    pub kept: Vec<usize>,
    /// Norm of all that were dropped: the Frobenius distance.
    pub dropped: f64,
}

/// Makes every `(C_k; A_k)` have orthonormal columns, so that what a state can still cause has the norm of the state.
///
/// ```math
/// \begin{pmatrix} C_k \\ A_k \end{pmatrix} = Q R, \qquad
/// \begin{pmatrix} C_k \\ A_k \end{pmatrix} \leftarrow Q, \quad A_{k-1} \leftarrow R A_{k-1}, \quad B_{k-1} \leftarrow R B_{k-1}
/// ```
///
/// Returns for every step a bound of the size of the products that `B_k` is the sum of, which is what its rounding
/// errors are relative to.
pub(in crate::matrix::sss) fn output_normal<E: Field>(m: &mut Steps<E>) -> Vec<f64> {
    let mut sizes: Vec<_> = m.b.iter().map(norm).collect();
    for k in (1..m.len()).rev() {
        let outputs = m.c[k].nrows();
        let (q, r) = thin_qr(above(m.c[k].view(), m.a[k].view()).view());
        m.c[k] = q.slice(s![..outputs, ..]).to_owned();
        m.a[k] = q.slice(s![outputs.., ..]).to_owned();
        sizes[k - 1] = r.columns().into_iter().zip(m.b[k - 1].rows()).map(|(r, b)| norm(r) * norm(b)).sum();
        m.a[k - 1] = product(r.view(), m.a[k - 1].view());
        m.b[k - 1] = product(r.view(), m.b[k - 1].view());
    }
    sizes
}

/// The Frobenius norms of the part below the block diagonal and of the diagonal, after [`output_normal`].
pub(in crate::matrix::sss) fn normal_norms<E: Field>(m: &Steps<E>) -> (f64, f64) {
    let all = |blocks: &[Array2<E>]| blocks.iter().map(norm).fold(0.0, f64::hypot);
    (all(&m.b), all(&m.d))
}

/// `(whole² - part²)^½`, and zero where nothing is left.
pub(in crate::matrix::sss) fn rest(whole: f64, part: f64) -> f64 {
    (whole - part).max(0.0).sqrt() * (whole + part).sqrt()
}

/// Makes every `(A_k B_k)` have orthonormal rows and drops states, after [`output_normal`], which gave `sizes`.
///
/// ```math
/// (A_k \; B_k) = U S V^H, \qquad (A_k \; B_k) \leftarrow V_r^H, \quad
/// A_{k+1} \leftarrow A_{k+1} U_r S_r, \quad C_{k+1} \leftarrow C_{k+1} U_r S_r
/// ```
///
/// The values of S are the singular values of the Hankel block of the matrix truncated so far, and what is dropped at
/// different steps is orthogonal.
pub(in crate::matrix::sss) fn truncate<E: Field>(m: &mut Steps<E>, sizes: &[f64], cut: Cut) -> Truncation {
    let len = m.len();
    let mut found = Truncation { values: Vec::new(), kept: Vec::new(), dropped: 0.0 };
    let epsilon = to_f64(E::Real::epsilon());
    let (mut noise, mut largest) = (0.0f64, 0.0f64);
    for (k, size) in sizes.iter().enumerate().take(len.saturating_sub(1)) {
        let states = m.a[k].ncols();
        let w = beside(m.a[k].view(), m.b[k].view());
        let RightSvd { values, right } = right_svd(w.view());
        let values: Vec<f64> = values.into_iter().map(to_f64).collect();
        noise = noise.hypot(ROUNDING * epsilon * (largest + size));
        largest = values.first().copied().unwrap_or(0.0);
        let rank = cut.rank(&values, noise, (found.dropped, len - 1 - k));
        found.dropped = values[rank..].iter().copied().fold(found.dropped, f64::hypot);
        let right = right.slice(s![..rank, ..]);
        let next = product(w.view(), adjoint(right).view()); // U_r S_r
        m.a[k] = right.slice(s![.., ..states]).to_owned();
        m.b[k] = right.slice(s![.., states..]).to_owned();
        m.a[k + 1] = product(m.a[k + 1].view(), next.view());
        m.c[k + 1] = product(m.c[k + 1].view(), next.view());
        found.values.push(values);
        found.kept.push(rank);
    }
    found
}

/// `(Σ |x|²)^½`, also where squares over- or underflow.
pub(in crate::matrix::sss) fn norm<'a, E: Field>(x: impl IntoIterator<Item = &'a E> + Clone) -> f64 {
    let squares = x.clone().into_iter().map(|x| x.squared_modulus()).sum();
    to_f64(root_of_squares(squares, x))
}

pub(in crate::matrix::sss) fn to_f64<R: Real>(r: R) -> f64 {
    r.to_f64().unwrap_or(f64::NAN)
}
