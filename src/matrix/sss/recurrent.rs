//! Products by the recurrence, forward and backward, and their derivative: any sizes and orders.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, CowArray, Ix2, s};

use super::kernels::{Apply, add_outer, add_product};
use super::multiply::run;
use super::{Multiply, Sss, dense};
use crate::error::Result;
use crate::linalg::{Into, vectorize};
use crate::matrix::{Cotangent, MainDiagonal, StructuredMatrix, check};
use crate::scalar::Field;

/// Steps between two states that the vjp keeps; the states in between are computed again.
const SEGMENT: usize = 64;

/// A state, with the memory that a step on it needs.
pub(super) struct State<E> {
    pub(super) now: Vec<E>,
    next: Vec<E>,
    width: usize,
}

impl<E: Field> State<E> {
    pub(super) fn zeros(order: usize, width: usize) -> Self {
        Self { now: vec![E::zero(); order * width], next: Vec::new(), width }
    }

    /// `x ← A_k x + B_k u`
    #[inline(always)]
    pub(super) fn advance(&mut self, m: &Sss<E>, k: usize, u: &[E]) {
        let states = m.orders[k + 1];
        m.transition.apply(Apply::Plain, k, &self.now, self.width, states, &mut self.next);
        add_product(Apply::Plain, (m.b.values(k), m.b.dims(k)), u, self.width, &mut self.next);
        std::mem::swap(&mut self.now, &mut self.next);
    }

    /// `λ ← A_kᴴ λ + C_kᴴ y`, or with transposes.
    #[inline(always)]
    pub(super) fn retreat(&mut self, how: Apply, m: &Sss<E>, k: usize, y: &[E]) {
        let states = m.orders[k];
        m.transition.apply(how, k, &self.now, self.width, states, &mut self.next);
        add_product(how, (m.c.values(k), m.c.dims(k)), y, self.width, &mut self.next);
        std::mem::swap(&mut self.now, &mut self.next);
    }
}

/// `y += M x`, with or without the diagonal; `x`: (columns, width), `y`: (rows, width).
pub(super) fn forward<E: Field>(m: &Sss<E>, diagonal: MainDiagonal, x: &[E], width: usize, y: &mut [E]) {
    let mut state = State::zeros(m.orders[0], width);
    steps(m, diagonal, 0..m.len(), (x, width), y, &mut state);
}

/// The steps `range` of the recurrence, from and to `state`; `x` and `y` hold the rows of these steps.
pub(super) fn steps<E: Field>(
    m: &Sss<E>,
    diagonal: MainDiagonal,
    range: Range<usize>,
    (mut x, width): (&[E], usize),
    mut y: &mut [E],
    state: &mut State<E>,
) {
    vectorize(
        #[inline(always)]
        || {
            for k in range {
                let (outputs, inputs) = m.d.dims(k);
                let (u, rest) = x.split_at(inputs * width);
                let (out, rest_out) = std::mem::take(&mut y).split_at_mut(outputs * width);
                (x, y) = (rest, rest_out);
                if diagonal == MainDiagonal::Included {
                    add_product(Apply::Plain, (m.d.values(k), (outputs, inputs)), u, width, out);
                }
                add_product(Apply::Plain, (m.c.values(k), m.c.dims(k)), &state.now, width, out);
                state.advance(m, k, u);
            }
        },
    );
}

/// `x += Mᴴ y` or `x += Mᵀ y`, by the recurrence that runs backwards: $`x_k = B_k^H \lambda + D_k^H y_k`$, then
/// $`\lambda \leftarrow A_k^H \lambda + C_k^H y_k`$.
pub(super) fn reverse<E: Field>(
    m: &Sss<E>,
    how: Apply,
    diagonal: MainDiagonal,
    (mut y, width): (&[E], usize),
    mut x: &mut [E],
) {
    let mut lambda = State::zeros(m.orders[m.len()], width);
    vectorize(
        #[inline(always)]
        || {
            for k in (0..m.len()).rev() {
                let (outputs, inputs) = m.d.dims(k);
                let (rest, v) = y.split_at(y.len() - outputs * width);
                let end = x.len() - inputs * width;
                let (rest_out, out) = std::mem::take(&mut x).split_at_mut(end);
                (y, x) = (rest, rest_out);
                if diagonal == MainDiagonal::Included {
                    add_product(how, (m.d.values(k), (outputs, inputs)), v, width, out);
                }
                add_product(how, (m.b.values(k), m.b.dims(k)), &lambda.now, width, out);
                lambda.retreat(how, m, k, v);
            }
        },
    );
}

/// Adds to `grad` and `dx` the cotangents of the generators and of `x`:
///
/// ```math
/// dA_k = \lambda x_k^H, \quad dB_k = \lambda u_k^H, \quad dC_k = dy_k x_k^H, \quad dD_k = dy_k u_k^H, \quad
/// du_k = B_k^H \lambda + D_k^H dy_k
/// ```
/// with $`x_k`$ the state before step k and λ the cotangent of the state after it.
pub(super) fn vjp<E: Field>(
    m: &Sss<E>,
    diagonal: MainDiagonal,
    (x, dy, width): (&[E], &[E], usize),
    grad: &mut Sss<E>,
    dx: &mut [E],
) {
    let (mut input, mut output) = (0, 0); // first row of x and of dy that a step takes
    let mut state = State::zeros(m.orders[0], width);
    let mut segments = Vec::with_capacity(m.len().div_ceil(SEGMENT));
    for start in (0..m.len()).step_by(SEGMENT) {
        let segment = start..(start + SEGMENT).min(m.len());
        segments.push((segment.clone(), (input, output), state.now.clone()));
        vectorize(
            #[inline(always)]
            || {
                for k in segment {
                    let (outputs, inputs) = m.d.dims(k);
                    state.advance(m, k, &x[input * width..(input + inputs) * width]);
                    (input, output) = (input + inputs, output + outputs);
                }
            },
        );
    }
    let mut lambda = State::zeros(m.orders[m.len()], width);
    let mut states = Vec::new();
    let Sss { transition, b, c, d, .. } = grad;
    let (mut da, mut db, mut dc, mut dd) = (transition.unshared(), b.unshared(), c.unshared(), d.unshared());
    for (segment, (first_input, first_output), start) in segments.into_iter().rev() {
        state.now = start;
        states.clear();
        (input, output) = (first_input, first_output);
        vectorize(
            #[inline(always)]
            || {
                for k in segment.clone() {
                    let (outputs, inputs) = m.d.dims(k);
                    states.extend_from_slice(&state.now);
                    state.advance(m, k, &x[input * width..(input + inputs) * width]);
                    (input, output) = (input + inputs, output + outputs);
                }
                for k in segment.rev() {
                    let (outputs, inputs) = m.d.dims(k);
                    let at = states.len() - m.orders[k] * width;
                    let h = &states[at..];
                    (input, output) = (input - inputs, output - outputs);
                    let u = &x[input * width..(input + inputs) * width];
                    let v = &dy[output * width..(output + outputs) * width];
                    let du = &mut dx[input * width..(input + inputs) * width];
                    da.add_cotangent(k, &lambda.now, h, width);
                    add_outer(&lambda.now, u, width, db.values(k));
                    add_outer(v, h, width, dc.values(k));
                    if diagonal == MainDiagonal::Included {
                        add_outer(v, u, width, dd.values(k));
                        add_product(Apply::Adjoint, (m.d.values(k), (outputs, inputs)), v, width, du);
                    }
                    add_product(Apply::Adjoint, (m.b.values(k), m.b.dims(k)), &lambda.now, width, du);
                    lambda.retreat(Apply::Adjoint, m, k, v);
                    states.truncate(at);
                }
            },
        );
    }
}

/// Adds to `grad` the cotangents of the generators, given those of all entries: the vjp of the product with the
/// identity, some columns at a time.
pub(super) fn pull_back<E: Field>(
    m: &Sss<E>,
    diagonal: MainDiagonal,
    d_dense: ArrayView2<'_, E>,
    grad: &mut Sss<E>,
) {
    const COLUMNS: usize = 32;
    let columns = m.columns();
    for start in (0..columns).step_by(COLUMNS) {
        let end = (start + COLUMNS).min(columns);
        let mut unit = Array2::zeros((columns, end - start));
        unit.slice_mut(s![start..end, ..]).diag_mut().fill(E::one());
        let d_columns = d_dense.slice(s![.., start..end]).as_standard_layout().into_owned();
        let mut d_unit = Array2::zeros(unit.raw_dim());
        let operands = (flat(&unit), flat(&d_columns), end - start);
        vjp(m, diagonal, operands, grad, flat_mut(&mut d_unit));
    }
}

/// The numbers of an array in standard layout.
pub(super) fn flat<E>(a: &Array2<E>) -> &[E] {
    a.as_slice().expect("standard layout")
}

/// The numbers of an array in standard layout.
pub(super) fn flat_mut<E>(a: &mut Array2<E>) -> &mut [E] {
    a.as_slice_mut().expect("standard layout")
}

/// The same numbers in standard layout.
pub(super) fn standard<E: Field>(a: ArrayView2<'_, E>) -> CowArray<'_, E, Ix2> {
    if a.is_standard_layout() { a.into() } else { a.as_standard_layout().into_owned().into() }
}

/// The numbers of an array in standard layout.
pub(super) fn slice<'a, E>(a: &'a CowArray<'_, E, Ix2>) -> &'a [E] {
    a.as_slice().expect("standard layout")
}

impl<E: Field> StructuredMatrix<E> for Sss<E> {
    /// The same generators, holding their cotangents.
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.columns())
    }

    fn to_dense(&self) -> Array2<E> {
        dense::dense(self)
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.multiply(x, &Multiply::Automatic)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.rows(), y)?;
        let y = standard(y);
        let mut x = Array2::zeros((self.columns(), y.ncols()));
        let operand = (slice(&y), y.ncols());
        run(self, Apply::Adjoint, MainDiagonal::Included, operand, Into::Replace, flat_mut(&mut x));
        Ok(x)
    }

    /// Backward through the recurrence. Beside inputs and outputs it keeps one state in 64 and computes the others
    /// again; it never divides by A.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        let (x, dy) = (standard(x), standard(dy));
        let (mut grad, mut dx) = (self.zeros_like(), Array2::zeros(x.raw_dim()));
        let operands = (slice(&x), slice(&dy), x.ncols());
        vjp(self, MainDiagonal::Included, operands, &mut grad, flat_mut(&mut dx));
        Ok((grad, dx))
    }

    /// The vjp of the product with the identity, some columns at a time.
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        check::dense_cotangent(self.shape(), d_dense)?;
        let mut grad = self.zeros_like();
        pull_back(self, MainDiagonal::Included, d_dense, &mut grad);
        Ok(grad)
    }
}

impl<E: Field> Cotangent for Sss<E> {
    fn accumulate(&mut self, other: &Self) {
        let add = |a: &mut [E], b: &[E]| a.iter_mut().zip(b).for_each(|(a, b)| *a += *b);
        self.transition.accumulate(&other.transition);
        add(self.b.flat_mut(), other.b.flat());
        add(self.c.flat_mut(), other.c.flat());
        add(self.d.flat_mut(), other.d.flat());
    }
}
