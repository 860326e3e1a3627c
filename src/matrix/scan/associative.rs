//! The work-efficient parallel scan: two sweeps over a binary tree (Blelloch; paper, appendix B.2.1).

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{add_scaled, advance, join, scan_in_place};
use crate::error::Result;
use crate::scalar::Field;

/// Rows of a leaf of the tree, done in sequence: keeps the tree small against its work.
const LEAF: usize = 32;

/// The recurrence as a scan of the associative operation
///
/// ```math
/// (a_t, b_t) \otimes (a_s, b_s) = (a_t a_s,\; a_t b_s + b_t)
/// ```
///
/// (paper, equation 22; the later element on the left). The sweep up leaves at the last row of every subtree
/// its total; the sweep down hands every subtree the state before it. The tree depends on len alone.
///
/// Work O(len), depth O(log len), memory O(len) scalars.
///
/// # Shapes
/// `a`: (len); `b`: (len, k); `initial`: (k), zero if absent; result: (len, k).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `b` or `initial` does not fit.
pub fn scan<E: Field>(
    a: ArrayView1<'_, E>,
    b: ArrayView2<'_, E>,
    initial: Option<ArrayView1<'_, E>>,
) -> Result<Array2<E>> {
    scan_in_place(a, b, initial, |a, h, k| {
        let mut totals = a.clone();
        sweep_up(&a, &mut totals, h, k);
        let before = vec![E::zero(); k];
        let (inner, _) = h.split_at_mut(h.len() - k);
        sweep_down(&a, &totals, inner, &before);
    })
}

/// Leaves at the last row the total of all rows: the product of their transitions in `totals`, the state they
/// lead to from zero in `h`.
fn sweep_up<E: Field>(a: &[E], totals: &mut [E], h: &mut [E], k: usize) {
    let len = a.len();
    if len <= LEAF {
        let (inner, last) = h.split_at_mut((len - 1) * k);
        let mut product = a[len - 1];
        for (row, &a) in inner.chunks_exact(k).zip(a).rev() {
            add_scaled(last, product, row);
            product *= a;
        }
        totals[len - 1] = product;
        return;
    }
    let half = len / 2;
    let (a_left, a_right) = a.split_at(half);
    let (totals_left, totals_right) = totals.split_at_mut(half);
    let (left, right) = h.split_at_mut(half * k);
    join(len * k, || sweep_up(a_left, totals_left, left, k), || sweep_up(a_right, totals_right, right, k));
    let last = right.len() - k;
    let total = totals_right[len - half - 1];
    add_scaled(&mut right[last..], total, &left[(half - 1) * k..]);
    totals_right[len - half - 1] = total * totals_left[half - 1];
}

/// Completes the rows of a subtree but its last, which is complete and is not in `inner`; `before` is the
/// state before the subtree.
fn sweep_down<E: Field>(a: &[E], totals: &[E], inner: &mut [E], before: &[E]) {
    let (len, k) = (a.len(), before.len());
    if len <= LEAF {
        advance(a, before, inner);
        return;
    }
    let half = len / 2;
    let (left, right) = inner.split_at_mut(half * k);
    let (left, middle) = left.split_at_mut((half - 1) * k);
    add_scaled(middle, totals[half - 1], before);
    let (a_left, a_right) = a.split_at(half);
    let (totals_left, totals_right) = totals.split_at(half);
    join(
        len * k,
        || sweep_down(a_left, totals_left, left, before),
        || sweep_down(a_right, totals_right, right, middle),
    );
}
