//! Scans: the ways to multiply by a 1-semiseparable matrix (paper, appendix B).
//!
//! ```math
//! h_t = a_t h_{t-1} + b_t, \qquad h_{-1} \text{ given or } 0
//! ```
//!
//! Every file holds one algorithm, and every algorithm is a function
//! `scan(a, b, initial) -> h` with `a`: (len), `b` and `h`: (len, k), `initial`: (k). They give the same h up
//! to rounding. Work and depth count operations on rows of k columns; memory is beyond inputs and output.
//!
//! | algorithm | work | depth | memory | |
//! |---|---|---|---|---|
//! | [`sequential`] | O(len) | O(len) | O(1) | the quickest on one thread |
//! | [`associative`] | O(len) | O(log len) | O(len) scalars | Blelloch's two sweeps over a tree |
//! | [`dilated`] | O(len log len) | O(log len), half the levels | O(len) rows | no tree: every level is one loop |
//! | [`state_passing`] | O(len) | O(chunk + len / chunk) | O(len) scalars, O(len / chunk) rows | the frame of the chunked SSD |
//! | [`divide_and_conquer`] | O(len log len) | O(log len) | O(len) scalars | blocks and rank-1 corners |
//! | [`matrix_factors`] | O(len) | O(log len) | O(len) rows | the sweeps as sparse factors |
//!
//! No result depends on the number of threads. All but [`sequential`] form products of transitions over long
//! ranges: where such a product overflows (transitions above one) their result may not be finite although
//! that of [`sequential`] is; where it underflows, so does the entry of the dense matrix.

pub mod associative;
pub mod dilated;
pub mod divide_and_conquer;
pub mod matrix_factors;
pub mod sequential;
pub mod state_passing;

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::check;
use crate::error::{Result, check_shape};
use crate::parallel;
use crate::scalar::Field;

/// Elements that one thread works on at a time: large against the cost of handing them over.
const GRAIN: usize = 8192;

fn check_scan<E>(
    a: ArrayView1<'_, E>,
    b: ArrayView2<'_, E>,
    initial: Option<ArrayView1<'_, E>>,
) -> Result<()> {
    check::operand("b", a.len(), b)?;
    match initial {
        Some(initial) => check_shape("initial", "(columns of b)", &[b.ncols()], initial.shape()),
        None => Ok(()),
    }
}

/// The scan that starts from `initial`, by one that starts from zero, in place: `run(a, h, k)` turns the rows
/// of b, the first of which has taken in $`a_0 h_{-1}`$, into the rows of h. Its $`a_0`$ is zero, and there is
/// at least one number.
fn scan_in_place<E: Field>(
    a: ArrayView1<'_, E>,
    b: ArrayView2<'_, E>,
    initial: Option<ArrayView1<'_, E>>,
    run: impl FnOnce(Vec<E>, &mut [E], usize),
) -> Result<Array2<E>> {
    check_scan(a, b, initial)?;
    let mut h = b.as_standard_layout().into_owned();
    if h.is_empty() {
        return Ok(h);
    }
    if let Some(initial) = initial {
        h.row_mut(0).scaled_add(a[0], &initial);
    }
    let mut a = a.to_vec();
    a[0] = E::zero();
    let columns = h.ncols();
    run(a, h.as_slice_mut().expect("standard layout"), columns);
    Ok(h)
}

/// `y += a x`
#[inline]
fn add_scaled<E: Field>(y: &mut [E], a: E, x: &[E]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// The recurrence in place, rows of b in and rows of h out, from the state `before` them.
#[inline]
fn advance<E: Field>(a: &[E], before: &[E], rows: &mut [E]) {
    if let &[mut h] = before {
        for (&a, row) in a.iter().zip(rows) {
            h = a * h + *row;
            *row = h;
        }
        return;
    }
    let mut before = before;
    for (&a, row) in a.iter().zip(rows.chunks_exact_mut(before.len())) {
        add_scaled(row, a, before);
        before = row;
    }
}

/// Turns transitions into their running products, $`a_0, a_1 a_0, \ldots`$
fn running_products<E: Field>(a: &mut [E]) {
    let mut product = E::one();
    for a in a {
        product *= *a;
        *a = product;
    }
}

/// `f(t, row t)` for all rows of k numbers, in any order, on all threads.
fn for_each_row<E: Field>(rows: &mut [E], k: usize, f: impl Fn(usize, &mut [E]) + Sync + Send) {
    let block = (GRAIN / k).max(1);
    let blocks: Vec<_> = rows.chunks_mut(block * k).enumerate().collect();
    parallel::for_each(blocks, |(index, rows)| {
        for (i, row) in rows.chunks_exact_mut(k).enumerate() {
            f(index * block + i, row);
        }
    });
}

/// Both calls, side by side if `elements` are worth two threads.
fn join(elements: usize, left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    if elements > GRAIN {
        parallel::join(left, right);
    } else {
        left();
        right();
    }
}
