//! Steps merged into block steps: the block decomposition of SSD.

use std::ops::Range;

use ndarray::{Array2, ArrayViewMut2, s};

use super::super::kernels::{Apply, add_product};
use super::super::recurrent::{State, flat, flat_mut};
use super::super::{Blocks, HermitianQuasiseparable, Partition, Quasiseparable, Sss};
use crate::error::Result;
use crate::linalg::{add_matmul, set_matmul};
use crate::scalar::Field;

/// The generators of some steps as one: D, B and C of the block step.
pub(in crate::matrix::sss) struct Merged<E> {
    pub(in crate::matrix::sss) diagonal: Array2<E>,
    pub(in crate::matrix::sss) right: Array2<E>,
    pub(in crate::matrix::sss) left: Array2<E>,
}

impl<E: Field> Sss<E> {
    /// The same matrix with the steps of each block merged into one.
    ///
    /// ```math
    /// A' = A_{l} \cdots A_{k}, \quad
    /// B' = [A_{l} \cdots A_{k+1} B_k\ \cdots\ B_{l}], \quad
    /// C' = \begin{bmatrix} C_k \\ \vdots \\ C_{l} A_{l-1} \cdots A_k \end{bmatrix}, \quad
    /// D' = M_{k..l,\,k..l}
    /// ```
    /// for a block of steps k to l. This is exact, and it is the block decomposition of the SSD algorithm: with a scalar
    /// transition D' is the attention within a chunk, B' takes inputs to the chunk's state, A' passes states between
    /// chunks, and C' reads them. Whatever works on block steps then works by products of matrices.
    ///
    /// Memory and time: with L steps in a block O(len · (L p q + N (p + q))) numbers.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the partition does not fit.
    pub fn regroup(&self, partition: &Partition) -> Result<Self> {
        let ranges = partition.ranges(self.len())?;
        let (mut b, mut c, mut d) = (Vec::new(), Vec::new(), Vec::new());
        for range in &ranges {
            let Merged { diagonal, right, left } = merge(self, range.clone());
            b.push(right);
            c.push(left);
            d.push(diagonal);
        }
        let blocks = |arrays: Vec<Array2<E>>| Blocks::from_arrays(arrays);
        Ok(Self::from_parts(self.chain().merged(&ranges), blocks(b), blocks(c), blocks(d)))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The same matrix with the steps of each block merged into one; see [`Sss::regroup`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the partition does not fit.
    pub fn regroup(&self, partition: &Partition) -> Result<Self> {
        let (mut lower, upper) = (self.lower().regroup(partition)?, self.upper().regroup(partition)?);
        // What of the upper part falls into diagonal blocks; its own diagonal is zero.
        lower.d = add_adjoint(lower.d, &upper.d);
        Self::new(lower, upper)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The same matrix with the steps of each block merged into one; see [`Sss::regroup`].
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the partition does not fit.
    pub fn regroup(&self, partition: &Partition) -> Result<Self> {
        let ranges = partition.ranges(self.len())?;
        let mut lower = self.lower().regroup(partition)?;
        let mut strict = lower.d.clone();
        for (block, range) in ranges.into_iter().enumerate() {
            let mut strict = strict.block_mut(block);
            for (k, (at, _)) in range.clone().zip(places(self.lower(), range)) {
                let size = self.lower().outputs(k);
                strict.slice_mut(s![at..at + size, at..at + size]).fill(E::zero());
            }
        }
        lower.d = add_adjoint(lower.d, &strict);
        Ok(Self::from_lower(lower))
    }
}

fn add_adjoint<E: Field>(mut d: Blocks<E>, other: &Blocks<E>) -> Blocks<E> {
    for k in 0..d.len() {
        d.block_mut(k).zip_mut_with(&other.block(k).t(), |d, e| *d += e.conj());
    }
    d
}

/// First output and first input of every step of a range, counted from those of the range; and their numbers.
fn places<E: Field>(m: &Sss<E>, range: Range<usize>) -> Vec<(usize, usize)> {
    let mut place = (0, 0);
    let mut places: Vec<_> = range
        .map(|k| {
            let (outputs, inputs) = m.d.dims(k);
            let next = (place.0 + outputs, place.1 + inputs);
            std::mem::replace(&mut place, next)
        })
        .collect();
    places.push(place);
    places
}

/// The steps of `range` as one step.
///
/// The state after each step is kept as a product with the inputs so far, B' growing by columns; its outputs are rows of
/// D'.
pub(in crate::matrix::sss) fn merge<E: Field>(m: &Sss<E>, range: Range<usize>) -> Merged<E> {
    let places = places(m, range.clone());
    let (outputs, inputs) = *places.last().expect("there is one place more than steps");
    let mut diagonal = Array2::zeros((outputs, inputs));
    let mut right = Array2::zeros((m.orders[range.start], 0));
    for (k, &(row, column)) in range.clone().zip(&places) {
        let (q, p) = m.d.dims(k);
        let mut rows = diagonal.slice_mut(s![row..row + q, ..]);
        set_matmul(rows.slice_mut(s![.., ..column]), m.c(k), right.view());
        rows.slice_mut(s![.., column..column + p]).assign(&m.d(k));
        let passed = m.apply_a(k, right.view());
        right = Array2::zeros((m.orders[k + 1], column + p));
        right.slice_mut(s![.., ..column]).assign(&passed);
        right.slice_mut(s![.., column..]).assign(&m.b(k));
    }
    Merged { diagonal, right, left: left(m, range) }
}

/// $`C_i A_{i-1} \cdots A_k`$ for the steps i of a range that starts at k, one above another.
pub(in crate::matrix::sss) fn left<E: Field>(m: &Sss<E>, range: Range<usize>) -> Array2<E> {
    let rows = range.clone().map(|k| m.outputs(k)).sum();
    let mut left = Array2::zeros((rows, m.orders[range.start]));
    let (mut through, mut row) = (m.chain().through(range.start), 0);
    for k in range {
        let next = row + m.outputs(k);
        left.slice_mut(s![row..next, ..]).assign(&through.read(m.c(k)));
        through.append(k);
        row = next;
    }
    left
}

/// $`A_l \cdots A_{j+1} B_j`$ for the steps j of a range that ends at l, side by side.
pub(in crate::matrix::sss) fn right<E: Field>(m: &Sss<E>, range: Range<usize>) -> Array2<E> {
    let mut column = range.clone().map(|k| m.inputs(k)).sum();
    let mut right = Array2::zeros((m.orders[range.end], column));
    let mut through = m.chain().through(range.end);
    for k in range.rev() {
        let first = column - m.inputs(k);
        right.slice_mut(s![.., first..column]).assign(&through.enter(m.b(k)));
        through.prepend(k);
        column = first;
    }
    right
}

/// `y = M x` block step by block step; `x`: (columns, width), `y`: (rows, width).
pub(in crate::matrix::sss) fn multiply<E: Field>(
    m: &Sss<E>,
    ranges: &[Range<usize>],
    (mut x, width): (&[E], usize),
    mut y: &mut [E],
) {
    let mut state = State::zeros(m.orders[0], width);
    for range in ranges {
        let block = merge(m, range.clone());
        let (outputs, inputs) = block.diagonal.dim();
        let (u, rest) = x.split_at(inputs * width);
        let (out, rest_out) = std::mem::take(&mut y).split_at_mut(outputs * width);
        (x, y) = (rest, rest_out);
        let mut rows: ArrayViewMut2<'_, E> = super::super::kernels::view_mut(out, outputs, width);
        let u_view = super::super::kernels::view(u, inputs, width);
        set_matmul(rows.view_mut(), block.diagonal.view(), u_view);
        let before = super::super::kernels::view(&state.now, m.orders[range.start], width);
        add_matmul(rows, block.left.view(), before);
        let mut after = pass(m, range.clone(), &state.now, width);
        add_product(Apply::Plain, (flat(&block.right), block.right.dim()), u, width, flat_mut(&mut after));
        state.now.clear();
        state.now.extend(after);
    }
}

/// The transitions of a range applied to a state, (states, width).
pub(in crate::matrix::sss) fn pass<E: Field>(
    m: &Sss<E>,
    range: Range<usize>,
    state: &[E],
    width: usize,
) -> Array2<E> {
    let (mut now, mut next) = (state.to_vec(), Vec::new());
    let end = m.orders[range.end];
    for k in range {
        m.transition.apply(Apply::Plain, k, &now, width, m.orders[k + 1], &mut next);
        std::mem::swap(&mut now, &mut next);
    }
    Array2::from_shape_vec((end, width), now).expect("a state has order * width numbers")
}
