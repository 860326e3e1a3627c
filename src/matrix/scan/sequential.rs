//! The sequential recurrence, row after row.
//!
//! One column is a chain: every row waits for the one before it. So four rows are taken at once. The local
//! result l and the product of the transitions do not depend on the state before the four rows and overlap
//! with the chain, of which one product and one sum in four rows remain; the rows between follow beside it:
//!
//! ```math
//! h_{t+3} = (a_{t+3} a_{t+2} a_{t+1} a_t)\, h_{t-1} + l, \qquad
//! l = a_{t+3} (a_{t+2} (a_{t+1} b_t + b_{t+1}) + b_{t+2}) + b_{t+3}
//! ```
//!
//! Real numbers in double precision go eight rows at a time on processors with AVX-512.
//!
//! Many columns are many chains, and each row is one vector loop.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::check_scan;
use crate::error::Result;
use crate::linalg::{Direction, vectorize};
use crate::matrix::check::is_finite;
use crate::scalar::Field;

/// Rows between two looks at whether a product of transitions overflowed.
const STRETCH: usize = 1024;

/// $`h_t = a_t h_{t-1} + b_t`$, one row after the other.
///
/// Work O(len), depth O(len), memory O(1). Products of more than eight transitions are never formed. Where one of those
/// overflows its stretch is done again row by row; one that underflows is zero, as it is as an entry of the matrix.
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
    check_scan(a, b, initial)?;
    let mut h = Array2::zeros(b.dim());
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let initial = initial.map(|initial| initial.to_vec());
    forward(
        a.as_slice().expect("standard layout"),
        b.as_slice().expect("standard layout"),
        b.ncols(),
        initial.as_deref(),
        h.as_slice_mut().expect("new arrays are contiguous"),
    );
    Ok(h)
}

/// `h_t = a_t h_{t-1} + b_t` over rows of k numbers; without an initial row, `a_0` is not touched.
pub(crate) fn forward<E: Field>(a: &[E], b: &[E], k: usize, initial: Option<&[E]>, h: &mut [E]) {
    debug_assert!(b.len() == a.len() * k && h.len() == b.len());
    if b.is_empty() {
        return;
    }
    let (a, b, h, first) = match initial {
        Some(initial) => (a, b, h, initial),
        None => {
            let (row, rest) = h.split_at_mut(k);
            row.copy_from_slice(&b[..k]);
            (&a[1..], &b[k..], rest, &*row)
        }
    };
    vectorize(
        #[inline(always)]
        || match k {
            1 => column_forward(a, b, first[0], h),
            _ => rows_forward(a, b, first, h),
        },
    );
}

/// `g_t = f(a_{t+1}) g_{t+1} + b_t` over rows of k numbers, from the last to the first; `a_0` is not touched.
/// f leaves real numbers as they are.
pub(crate) fn reverse<E: Field>(a: &[E], b: &[E], k: usize, f: impl Fn(E) -> E + Copy, g: &mut [E]) {
    debug_assert!(b.len() == a.len() * k && g.len() == b.len());
    if b.is_empty() {
        return;
    }
    let (b, last) = b.split_at(b.len() - k);
    let (g, row) = g.split_at_mut(b.len());
    row.copy_from_slice(last);
    vectorize(
        #[inline(always)]
        || match k {
            1 => column_reverse(&a[1..], b, row[0], f, g),
            _ => rows_reverse(&a[1..], b, row, f, g),
        },
    );
}

/// Four rows of the chain from the value before them.
#[inline(always)]
fn four<E: Field>(a: [E; 4], b: [E; 4], h: E) -> [E; 4] {
    let local = a[3].fused(a[2].fused(a[1].fused(b[0], b[1]), b[2]), b[3]);
    let product = (a[3] * a[2]) * (a[1] * a[0]);
    let h0 = a[0].fused(h, b[0]);
    let h1 = a[1].fused(h0, b[1]);
    let h2 = a[2].fused(h1, b[2]);
    [h0, h1, h2, product.fused(h, local)]
}

#[inline(always)]
fn column_forward<E: Field>(a: &[E], b: &[E], mut h: E, y: &mut [E]) {
    for ((a, b), y) in a.chunks(STRETCH).zip(b.chunks(STRETCH)).zip(y.chunks_mut(STRETCH)) {
        let before = h;
        let done = E::look_ahead(Direction::Forward, a, b, h, y);
        let (ahead, y_behind) = y.split_at_mut(done);
        h = ahead.last().copied().unwrap_or(h);
        let (a_blocks, a_rest) = a[done..].as_chunks::<4>();
        let (b_blocks, b_rest) = b[done..].as_chunks::<4>();
        let (y_blocks, y_rest) = y_behind.as_chunks_mut::<4>();
        for ((&a, &b), y) in a_blocks.iter().zip(b_blocks).zip(y_blocks) {
            *y = four(a, b, h);
            h = y[3];
        }
        for ((&a, &b), y) in a_rest.iter().zip(b_rest).zip(y_rest) {
            h = a * h + b;
            *y = h;
        }
        // An infinity in a product or a local result stays in h, or in a row of the last vector, perhaps as NaN.
        if !is_finite(h) || !ahead.iter().rev().take(8).all(|&h| is_finite(h)) {
            h = before;
            for ((&a, &b), y) in a.iter().zip(b).zip(y) {
                h = a * h + b;
                *y = h;
            }
        }
    }
}

#[inline(always)]
fn column_reverse<E: Field>(a: &[E], b: &[E], mut g: E, f: impl Fn(E) -> E + Copy, y: &mut [E]) {
    for ((a, b), y) in a.rchunks(STRETCH).zip(b.rchunks(STRETCH)).zip(y.rchunks_mut(STRETCH)) {
        let before = g;
        let left = y.len() - E::look_ahead(Direction::Backward, a, b, g, y);
        let (y_behind, ahead) = y.split_at_mut(left);
        g = ahead.first().copied().unwrap_or(g);
        let (a_rest, a_blocks) = a[..left].as_rchunks::<4>();
        let (b_rest, b_blocks) = b[..left].as_rchunks::<4>();
        let (y_rest, y_blocks) = y_behind.as_rchunks_mut::<4>();
        for ((&[a0, a1, a2, a3], &[b0, b1, b2, b3]), y) in a_blocks.iter().zip(b_blocks).zip(y_blocks).rev() {
            let [g3, g2, g1, g0] = four([f(a3), f(a2), f(a1), f(a0)], [b3, b2, b1, b0], g);
            *y = [g0, g1, g2, g3];
            g = g0;
        }
        for ((&a, &b), y) in a_rest.iter().zip(b_rest).zip(y_rest).rev() {
            g = f(a) * g + b;
            *y = g;
        }
        if !is_finite(g) || !ahead.iter().take(8).all(|&g| is_finite(g)) {
            g = before;
            for ((&a, &b), y) in a.iter().zip(b).zip(y).rev() {
                g = f(a) * g + b;
                *y = g;
            }
        }
    }
}

#[inline(always)]
fn rows_forward<E: Field>(a: &[E], b: &[E], first: &[E], y: &mut [E]) {
    let mut before = first;
    for ((&a, b), row) in a.iter().zip(b.chunks_exact(first.len())).zip(y.chunks_exact_mut(first.len())) {
        step(a, before, b, row);
        before = row;
    }
}

#[inline(always)]
fn rows_reverse<E: Field>(a: &[E], b: &[E], last: &[E], f: impl Fn(E) -> E, y: &mut [E]) {
    let mut after = last;
    let rows = a.iter().zip(b.chunks_exact(last.len())).zip(y.chunks_exact_mut(last.len()));
    for ((&a, b), row) in rows.rev() {
        step(f(a), after, b, row);
        after = row;
    }
}

/// `row = a h + b`
#[inline(always)]
fn step<E: Field>(a: E, h: &[E], b: &[E], row: &mut [E]) {
    for ((row, &h), &b) in row.iter_mut().zip(h).zip(b) {
        *row = a * h + b;
    }
}
