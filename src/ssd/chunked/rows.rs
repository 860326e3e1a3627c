//! Loops over rows, for the stages; to be called inside `vectorize`, unless they call it themselves.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};
use num_traits::Zero;

use crate::linalg::{LANES, flat, flat_mut, total, vectorize};
use crate::scalar::{Real, Scalar};

/// `h = γ h + left`
pub(super) fn pass<A: Real>(through: A, mut h: ArrayViewMut2<'_, A>, left: ArrayView2<'_, A>) {
    vectorize(
        #[inline(always)]
        || {
            for (h, left) in h.outer_iter_mut().zip(left.outer_iter()) {
                for (h, &left) in flat_mut(h).iter_mut().zip(flat(left)) {
                    *h = through * *h + left;
                }
            }
        },
    );
}

/// `row = [a row, 1]`: row i of L from row i - 1; zeros follow.
#[inline(always)]
pub(super) fn next_mask_row<A: Real>(row: &mut [A], i: usize, a: A) {
    let width = whole_vectors(i, row.len());
    for l in &mut row[..width] {
        *l *= a;
    }
    row[i] = A::one();
}

/// Where a row that ends with its diagonal element `i` may stop: after whole vectors, for speed.
#[inline(always)]
pub(super) fn whole_vectors(i: usize, len: usize) -> usize {
    len.min((i / 16 + 1) * 16)
}

/// `mask value`, and zero where the mask is zero even if the value has overflowed.
#[inline(always)]
pub(super) fn masked<A: Real>(mask: A, value: A) -> A {
    if mask == A::zero() { A::zero() } else { mask * value }
}

/// `row *= by`
#[inline(always)]
pub(super) fn scale<A: Real>(row: ArrayViewMut1<'_, A>, by: A) {
    for v in flat_mut(row) {
        *v *= by;
    }
}

/// `dst = by src`, widened.
#[inline(always)]
pub(super) fn scale_into<T: Scalar>(dst: ArrayViewMut1<'_, T::Acc>, by: T::Acc, src: ArrayView1<'_, T>) {
    let dst = flat_mut(dst);
    match src.to_slice() {
        Some(src) => dst.iter_mut().zip(src).for_each(|(d, s)| *d = by * s.widen()),
        None => dst.iter_mut().zip(src).for_each(|(d, s)| *d = by * s.widen()),
    }
}

/// `out = narrow(by y + d ∘ x)` for one row.
#[inline(always)]
pub(super) fn skip_row<T: Scalar>(
    mut out: ArrayViewMut1<'_, T>,
    by: T::Acc,
    y: &[T::Acc],
    d: Option<ArrayView1<'_, T::Acc>>,
    x: ArrayView1<'_, T>,
) {
    match (out.as_slice_mut(), d.map(|d| (d.to_slice(), x.to_slice()))) {
        (Some(out), None) => out.iter_mut().zip(y).for_each(|(out, &y)| *out = T::narrow(by * y)),
        (Some(out), Some((Some(d), Some(x)))) => {
            for ((out, &y), (&d, x)) in out.iter_mut().zip(y).zip(d.iter().zip(x)) {
                *out = T::narrow(by * y + d * x.widen());
            }
        }
        _ => {
            for (p, (out, &y)) in out.iter_mut().zip(y).enumerate() {
                *out = T::narrow(by * y + d.map_or(*T::Acc::ZERO, |d| d[p] * x[p].widen()));
            }
        }
    }
}

/// `sum += x` and `dots += x ∘ y`.
#[inline(always)]
pub(super) fn add_and_dot<A: Real>(sum: &mut [A], dots: &mut [A], x: &[A], y: &[A]) {
    for (((sum, dot), &x), &y) in sum.iter_mut().zip(dots).zip(x).zip(y) {
        *sum += x;
        *dot += x * y;
    }
}

/// `⟨x, y⟩`, widened.
#[inline(always)]
pub(super) fn dot_wide<T: Scalar>(x: ArrayView1<'_, T>, y: &[T::Acc]) -> T::Acc {
    let Some(x) = x.to_slice() else {
        return x.iter().zip(y).map(|(x, &y)| x.widen() * y).sum();
    };
    let mut sums = [T::Acc::zero(); LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for ((sum, x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x.widen() * y;
        }
    }
    total(sums)
}
