//! Work on the rows of matrices, several at a time side by side.

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::linalg::{flat_mut, vectorize};
use crate::parallel;
use crate::scalar::Real;

/// Numbers that are worth a task of their own.
const TASK: usize = 1 << 14;

/// Calls `f` with every row of `y` and its index, compiled for the widest vectors; `f` needs `#[inline(always)]`.
pub(super) fn each_row<A: Real>(y: ArrayViewMut2<'_, A>, f: impl Fn(usize, &mut [A]) + Send + Sync) {
    let per = (TASK / y.ncols().max(1)).max(1);
    let mut y = y;
    let bundles = y.axis_chunks_iter_mut(Axis(0), per).enumerate().collect();
    parallel::for_each(bundles, |(k, mut rows)| {
        vectorize(
            #[inline(always)]
            || {
                for (i, row) in rows.outer_iter_mut().enumerate() {
                    f(k * per + i, flat_mut(row));
                }
            },
        );
    });
}

/// Adds up the rows of a matrix, in order.
pub(super) fn sum_rows<A: Real>(x: ArrayView2<'_, A>) -> ndarray::Array1<A> {
    let mut sum = ndarray::Array1::zeros(x.ncols());
    for row in x.outer_iter() {
        sum += &row;
    }
    sum
}

/// Views of so many rows each, in order.
pub(super) fn bundles_of<A>(mut rows: ArrayViewMut2<'_, A>, per: usize) -> Vec<ArrayViewMut2<'_, A>> {
    let mut bundles = Vec::with_capacity(rows.nrows().div_ceil(per));
    while rows.nrows() > per {
        let (bundle, rest) = rows.split_at(Axis(0), per);
        bundles.push(bundle);
        rows = rest;
    }
    bundles.push(rows);
    bundles
}
