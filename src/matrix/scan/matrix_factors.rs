//! The scan as a product of three sparse matrices, the middle one of half the length (paper, appendix B.3.5).

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{add_scaled, for_each_row, scan_in_place};
use crate::error::Result;
use crate::scalar::Field;

/// The factors $`\mathrm{1SS}(a) = S_3 S_2 S_1`$, each the identity but for the following.
///
/// - $`S_1`$ pairs up: $`a_i`$ at (i, i-1) for odd i.
/// - $`S_2`$ scans the odd rows: the 1-semiseparable matrix of $`a_{3:1}, a_{5:3}, \ldots`$, by the same factors.
/// - $`S_3`$ broadcasts: $`a_i`$ at (i, i-1) for even i.
///
/// The graph of operations is that of [`super::associative`] (paper, remark 10).
/// Work O(len), depth O(log len), memory O(len) rows.
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
    scan_in_place(a, b, initial, |a, h, k| multiply(&a, h, k))
}

fn multiply<E: Field>(a: &[E], h: &mut [E], k: usize) {
    if a.len() < 2 {
        return;
    }
    // S1, on the odd rows alone: the even ones stay.
    let mut odd = vec![E::zero(); a.len() / 2 * k];
    for_each_row(&mut odd, k, |i, row| {
        let t = 2 * i + 1;
        row.copy_from_slice(&h[t * k..][..k]);
        add_scaled(row, a[t], &h[(t - 1) * k..][..k]);
    });
    // S2
    let pairs: Vec<_> = a.chunks_exact(2).map(|pair| pair[1] * pair[0]).collect();
    multiply(&pairs, &mut odd, k);
    // S3
    for_each_row(h, k, |t, row| match t {
        0 => {}
        _ if t % 2 == 1 => row.copy_from_slice(&odd[t / 2 * k..][..k]),
        _ => add_scaled(row, a[t], &odd[(t / 2 - 1) * k..][..k]),
    });
}
