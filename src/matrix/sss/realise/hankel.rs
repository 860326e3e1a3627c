//! Realisation by singular value decompositions of Hankel blocks, one step from the last.

use std::ops::Range;

use ndarray::{Array2, Axis, s};
use num_traits::Float;

use crate::linalg::{RightSvd, above, product, right_svd};
use crate::matrix::sss::compress::steps::Steps;
use crate::matrix::sss::compress::sweeps::{Cut, ROUNDING, Truncation, norm, to_f64};
use crate::matrix::sss::{HankelSpectrum, Rounded, Sss, Tolerance};
use crate::scalar::Field;

/// A block lower triangular matrix, column by column.
pub(super) struct Columns<'a, E> {
    /// Rows of every block row.
    pub outputs: &'a [usize],
    /// Columns of every block column.
    pub inputs: &'a [usize],
    /// Block column k from its diagonal block on, **transposed**: (inputs of k, rows from block row k on).
    pub column: &'a dyn Fn(usize) -> Array2<E>,
}

impl<E: Field> Columns<'_, E> {
    /// The Frobenius norms of the part below the block diagonal and of the diagonal.
    pub(super) fn norms(&self) -> (f64, f64) {
        (0..self.inputs.len()).fold((0.0f64, 0.0f64), |(strict, diagonal), k| {
            let column = (self.column)(k);
            let (own, below) = column.view().split_at(Axis(1), self.outputs[k]);
            (strict.hypot(norm(below)), diagonal.hypot(norm(own)))
        })
    }

    /// The Frobenius norm.
    pub(super) fn norm(&self) -> f64 {
        let (strict, diagonal) = self.norms();
        strict.hypot(diagonal)
    }

    /// The matrix with the smallest orders for the tolerance, in input normal form.
    pub(super) fn realise(&self, tolerance: Tolerance) -> Rounded<Sss<E>> {
        match tolerance {
            Tolerance::Absolute(limit) => self.rounded(|_| Cut::Below(limit)),
            Tolerance::Frobenius(share) => {
                let budget = share * self.norm();
                self.rounded(|_| Cut::Budget(budget))
            }
            Tolerance::Relative(share) => {
                let first = self.provisional(share);
                let limit = share * first.norm();
                self.settle(first, limit)
            }
        }
    }

    /// As [`realise`](Self::realise) within a budget.
    pub(super) fn within(&self, budget: f64) -> Rounded<Sss<E>> {
        self.rounded(|_| Cut::Budget(budget))
    }

    /// A first pass that drops what is below this share of the largest value so far, which is less than it will be.
    pub(super) fn provisional(&self, share: f64) -> Provisional<E> {
        let (steps, found, whole) = self.steps(|largest| Cut::Below(share * largest));
        Provisional { steps, found, whole }
    }

    /// The matrix without values up to `limit`: the first pass, if it dropped the same, or another one.
    pub(super) fn settle(&self, first: Provisional<E>, limit: f64) -> Rounded<Sss<E>> {
        let kept = first.found.values.iter().zip(&first.found.kept);
        let same = kept.into_iter().all(|(values, kept)| values.iter().take(*kept).all(|v| *v > limit));
        if same {
            rounded(first.steps, first.found, first.whole)
        } else {
            self.rounded(|_| Cut::Below(limit))
        }
    }

    fn rounded(&self, cut: impl Fn(f64) -> Cut) -> Rounded<Sss<E>> {
        let (steps, found, whole) = self.steps(cut);
        rounded(steps, found, whole)
    }

    /// With $`H_k = V_k R_k`$, R_k of orthonormal rows, and `[V_k below its first block row, M_{k+1.., k}] = U S [A_k B_k]`
    /// with orthonormal rows in `[A_k B_k]`: $`C_k`$ is the first block row of $`V_k`$ and $`V_{k+1} = U S`$.
    ///
    /// `cut` is asked at every step with the largest singular value so far. Returns the steps, what was found, and the
    /// Frobenius norm.
    fn steps(&self, cut: impl Fn(f64) -> Cut) -> (Steps<E>, Truncation, f64) {
        let len = self.inputs.len();
        let mut steps = Steps { a: Vec::new(), b: Vec::new(), c: Vec::new(), d: Vec::new() };
        let mut found = Truncation { values: Vec::new(), kept: Vec::new(), dropped: 0.0 };
        let mut v = Array2::zeros((0, self.outputs.iter().sum())); // V_k transposed
        let epsilon = to_f64(E::Real::epsilon());
        let (mut noise, mut largest, mut whole) = (0.0f64, 0.0f64, 0.0f64);
        for (k, (&outputs, &inputs)) in self.outputs.iter().zip(self.inputs).enumerate() {
            let column = (self.column)(k);
            whole = whole.hypot(norm(&column));
            steps.c.push(v.slice(s![.., ..outputs]).t().to_owned());
            steps.d.push(column.slice(s![.., ..outputs]).t().to_owned());
            if k + 1 == len {
                steps.a.push(Array2::zeros((0, v.nrows())));
                steps.b.push(Array2::zeros((0, inputs)));
                break;
            }
            let w = above(v.slice(s![.., outputs..]), column.slice(s![.., outputs..]));
            let RightSvd { values, right } = right_svd(w.t());
            let values: Vec<f64> = values.into_iter().map(to_f64).collect();
            let top = values.first().copied().unwrap_or(0.0);
            noise = noise.hypot(ROUNDING * epsilon * top);
            largest = largest.max(top);
            let rank = cut(largest).rank(&values, noise, (found.dropped, len - 1 - k));
            found.dropped = values[rank..].iter().copied().fold(found.dropped, f64::hypot);
            let right = right.slice(s![..rank, ..]);
            steps.a.push(right.slice(s![.., ..v.nrows()]).to_owned());
            steps.b.push(right.slice(s![.., v.nrows()..]).to_owned());
            v = product(right.mapv(E::conj).view(), w.view());
            found.values.push(values);
            found.kept.push(rank);
        }
        (steps, found, whole)
    }
}

/// What a first pass found.
pub(super) struct Provisional<E> {
    steps: Steps<E>,
    found: Truncation,
    whole: f64,
}

impl<E> Provisional<E> {
    /// The largest Hankel singular value, up to what dropping a share of it can change.
    pub(super) fn norm(&self) -> f64 {
        self.found.values.iter().flatten().copied().fold(0.0, f64::max)
    }
}

/// The matrix of these steps, `whole` being its Frobenius norm before anything was dropped.
fn rounded<E: Field>(steps: Steps<E>, found: Truncation, whole: f64) -> Rounded<Sss<E>> {
    let spectrum = HankelSpectrum::new(found.values, whole);
    Rounded { matrix: steps.into_matrix(), error: found.dropped, spectrum }
}

/// The ranges of blocks of these sizes.
pub(super) fn ranges(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut start = 0;
    sizes
        .iter()
        .map(|size| {
            start += size;
            start - size..start
        })
        .collect()
}
