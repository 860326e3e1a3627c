//! Products by the recurrence, and their derivative.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};

use super::state::{State, axpy, dot_conj};
use super::transition::{Apply, Transition};
use super::{Semiseparable, column};
use crate::linalg::vectorize;
use crate::scalar::Field;

/// Steps between two states that the vjp keeps; the states in between are computed again.
const SEGMENT: usize = 64;

impl<E: Field, A: Transition<E>> Semiseparable<E, A> {
    /// `h ← A_k h + B_k x_kᵀ`
    #[inline(always)]
    fn advance(&self, k: usize, x: &[E], h: &mut State<E>) {
        self.transition.apply(Apply::Plain, k, h);
        h.add_outer(slice(self.b.row(k)).iter().copied(), x);
    }
}

/// `y = M x`; `x`: (len, columns), rows contiguous.
pub(super) fn matmul<E: Field, A: Transition<E>>(m: &Semiseparable<E, A>, x: ArrayView2<'_, E>) -> Array2<E> {
    let mut y = Array2::zeros(x.raw_dim());
    if let (1, Some(x), Some(column)) = (x.ncols(), x.as_slice(), y.as_slice_mut())
        && column::matmul(m, x, column).is_some()
    {
        return y;
    }
    let mut h = State::zeros(m.order(), x.ncols());
    vectorize(
        #[inline(always)]
        || {
            for (k, mut y) in y.outer_iter_mut().enumerate() {
                let (x, y) = (slice(x.row(k)), y.as_slice_mut().expect("standard layout"));
                axpy(y, m.d[k], x);
                h.add_read(slice(m.c.row(k)).iter().copied(), y);
                m.advance(k, x, &mut h);
            }
        },
    );
    y
}

/// `x = Mᴴ y` by the recurrence that runs backwards: `x_k = B_kᴴ λ + conj(D_k) y_k`, then
/// `λ ← A_kᴴ λ + conj(C_k) y_kᵀ`.
pub(super) fn adjoint_matmul<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    y: ArrayView2<'_, E>,
) -> Array2<E> {
    let mut x = Array2::zeros(y.raw_dim());
    let mut lambda = State::zeros(m.order(), y.ncols());
    vectorize(
        #[inline(always)]
        || {
            for k in (0..m.len()).rev() {
                let y = slice(y.row(k));
                let mut x = x.row_mut(k);
                adjoint_step(m, k, y, &mut lambda, x.as_slice_mut().expect("standard layout"));
            }
        },
    );
    x
}

#[inline(always)]
fn adjoint_step<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    k: usize,
    y: &[E],
    lambda: &mut State<E>,
    x: &mut [E],
) {
    axpy(x, m.d[k].conj(), y);
    lambda.add_read(slice(m.b.row(k)).iter().map(|b| b.conj()), x);
    m.transition.apply(Apply::Adjoint, k, lambda);
    lambda.add_outer(slice(m.c.row(k)).iter().map(|c| c.conj()), y);
}

/// Adds to `grad` and `dx` the cotangents of the generators and of `x`:
///
/// `dA_k = λ hᴴ`, `dB_k = λ conj(x_k)`, `dC_k = conj(h) dy_k`, `dD_k = dy_k · conj(x_k)`, with h the state before
/// step k and λ the cotangent of the state after it.
pub(super) fn matmul_vjp<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    x: ArrayView2<'_, E>,
    dy: ArrayView2<'_, E>,
    grad: &mut Semiseparable<E, A>,
    mut dx: ArrayViewMut2<'_, E>,
) {
    let (order, columns) = (m.order(), x.ncols());
    let mut h = State::zeros(order, columns);
    let mut starts: Vec<(Range<usize>, Vec<E>)> = Vec::with_capacity(m.len().div_ceil(SEGMENT));
    for start in (0..m.len()).step_by(SEGMENT) {
        let segment = start..(start + SEGMENT).min(m.len());
        starts.push((segment.clone(), h.values.clone()));
        segment.for_each(|k| m.advance(k, slice(x.row(k)), &mut h));
    }

    let mut lambda = State::zeros(order, columns);
    let mut states = Vec::with_capacity(SEGMENT.min(m.len()) * order * columns);
    for (segment, start) in starts.into_iter().rev() {
        states.clear();
        h.values = start;
        vectorize(
            #[inline(always)]
            || {
                for k in segment.clone() {
                    states.extend_from_slice(&h.values);
                    m.advance(k, slice(x.row(k)), &mut h);
                }
                for k in segment.clone().rev() {
                    let size = order * columns;
                    let h = &states[(k - segment.start) * size..][..size];
                    let (x, dy) = (slice(x.row(k)), slice(dy.row(k)));
                    grad.transition.add_cotangent(k, &lambda, h);
                    let mut db = grad.b.row_mut(k);
                    let mut dc = grad.c.row_mut(k);
                    let gradients = db.iter_mut().zip(&mut dc);
                    if let ([x], [dy]) = (x, dy) {
                        for ((db, dc), (lambda, h)) in gradients.zip(lambda.values.iter().zip(h)) {
                            *db += *lambda * x.conj();
                            *dc += *dy * h.conj();
                        }
                    } else {
                        for (n, (db, dc)) in gradients.enumerate() {
                            *db += dot_conj(lambda.row(n), x);
                            *dc += dot_conj(dy, &h[n * columns..(n + 1) * columns]);
                        }
                    }
                    grad.d[k] += dot_conj(dy, x);
                    let mut dx = dx.row_mut(k);
                    adjoint_step(m, k, dy, &mut lambda, dx.as_slice_mut().expect("rows are contiguous"));
                }
            },
        );
    }
}

/// A row of an array in standard layout.
#[inline(always)]
fn slice<'a, E>(row: ArrayView1<'a, E>) -> &'a [E] {
    row.to_slice().expect("rows are contiguous")
}
