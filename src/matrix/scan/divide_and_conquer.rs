//! The block decomposition by halves: two triangles and a corner of rank one (paper, appendix B.3.4).

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{add_scaled, advance, for_each_row, join, running_products, scan_in_place};
use crate::error::Result;
use crate::scalar::Field;

/// Rows below which halving stops; the paper stops early as well, and multiplies the block densely.
const LEAF: usize = 8;

/// Both halves side by side, then the corner below them.
///
/// ```math
/// M = \begin{pmatrix} M_L & 0 \\ u v^T & M_R \end{pmatrix}, \qquad
/// u_i = a_i \cdots a_m, \quad v_j = a_{m-1} \cdots a_{j+1}
/// ```
///
/// $`v^T b`$ is the last row of $`M_L b`$, and u is a running product that every half brings along.
///
/// Work O(len log len), depth O(log len), memory O(len) scalars.
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
    scan_in_place(a, b, initial, |mut a, h, k| conquer(&mut a, h, k))
}

/// Turns the transitions of a block into their running products, and its rows of b into rows of h.
fn conquer<E: Field>(products: &mut [E], h: &mut [E], k: usize) {
    let len = products.len();
    if len <= LEAF {
        let (first, rest) = h.split_at_mut(k);
        advance(&products[1..], first, rest);
        running_products(products);
        return;
    }
    let half = len / 2;
    let (products_left, u) = products.split_at_mut(half);
    let (left, right) = h.split_at_mut(half * k);
    join(len * k, || conquer(products_left, left, k), || conquer(u, right, k));
    let state = &left[(half - 1) * k..];
    for_each_row(right, k, |i, row| add_scaled(row, u[i], state));
    let total = products_left[half - 1];
    for_each_row(u, 1, |_, product| product[0] *= total);
}
