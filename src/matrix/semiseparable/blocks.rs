//! Products by block decomposition (paper section 6), for equal and unequal blocks.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::state::State;
use super::transition::{Apply, Transition};
use super::{Semiseparable, read};
use crate::error::{Error, Result};
use crate::linalg::{add_matmul, matmul as dense_matmul, set_matmul, vectorize};
use crate::scalar::Field;

/// How the rows of a matrix are cut into consecutive blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partition {
    /// Blocks of one length, the last one as long as the rest.
    Equal(usize),
    /// Blocks of these lengths.
    Lengths(Vec<usize>),
}

impl Partition {
    /// The blocks of a matrix with `len` rows.
    ///
    /// # Errors
    /// [`Error::Config`] if a block is empty or the lengths do not add up to `len`.
    pub fn ranges(&self, len: usize) -> Result<Vec<Range<usize>>> {
        let wrong = |reason: String| Err(Error::Config { field: "partition", reason });
        match self {
            Self::Equal(0) => wrong("a block has at least one row".into()),
            Self::Equal(size) => {
                Ok((0..len).step_by(*size).map(|i| i..i.saturating_add(*size).min(len)).collect())
            }
            Self::Lengths(lengths) => {
                let mut start = 0usize;
                let mut ranges = Vec::with_capacity(lengths.len());
                for length in lengths {
                    let end = start.saturating_add(*length);
                    ranges.push(start..end);
                    start = end;
                }
                if lengths.contains(&0) {
                    wrong("a block has at least one row".into())
                } else if start != len {
                    wrong(format!("block lengths add up to {start}, expected {len}"))
                } else {
                    Ok(ranges)
                }
            }
        }
    }
}

/// One block of rows as a single step of a recurrence on blocks.
///
/// ```math
/// y = \text{diagonal} \cdot x + \text{left} \cdot h, \qquad h \leftarrow \text{centre} \cdot h + \text{right} \cdot x
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFactors<E, A> {
    /// The block on the diagonal, (rows, rows).
    pub diagonal: Array2<E>,
    /// Inputs to state, (order, rows).
    pub right: Array2<E>,
    /// State before the block to state after it, a transition of length 1.
    pub centre: A,
    /// State to outputs, (rows, order).
    pub left: Array2<E>,
}

impl<E: Field, A: Transition<E>> Semiseparable<E, A> {
    /// The factors of the block `rows`.
    ///
    /// Merging steps into blocks is exact, and the result generates the same matrix with block entries.
    ///
    /// # Errors
    /// [`Error::Value`] if `rows` is not within the matrix.
    pub fn block_factors(&self, rows: Range<usize>) -> Result<BlockFactors<E, A>> {
        if rows.start > rows.end || rows.end > self.len() {
            return Err(Error::Value {
                tensor: "block",
                expected: "rows within len",
                found: format!("{rows:?}"),
            });
        }
        Ok(factors(self, rows))
    }
}

fn factors<E: Field, A: Transition<E>>(m: &Semiseparable<E, A>, rows: Range<usize>) -> BlockFactors<E, A> {
    let (diagonal, right) = diagonal_and_right(m, rows.clone());
    let (left, centre) = read::left(&m.transition, &m.c, rows.clone(), rows.start);
    BlockFactors { diagonal, right, centre, left }
}

/// The recurrence on the unit columns of the block: its outputs are the diagonal block, its last state the
/// right factor.
fn diagonal_and_right<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    rows: Range<usize>,
) -> (Array2<E>, Array2<E>) {
    let mut h = State::zeros(m.order(), rows.len());
    let mut diagonal = Array2::zeros((rows.len(), rows.len()));
    vectorize(
        #[inline(always)]
        || {
            for (position, k) in rows.enumerate() {
                let mut y = diagonal.row_mut(position);
                h.add_read(m.c.row(k).iter().copied(), y.as_slice_mut().expect("standard layout"));
                y[position] = m.d[k];
                m.transition.apply(Apply::Plain, k, &mut h);
                for (n, b) in m.b.row(k).iter().enumerate() {
                    h.row_mut(n)[position] = *b;
                }
            }
        },
    );
    (diagonal, h.view().to_owned())
}

/// `y = M x` block by block; `x`: (len, columns).
pub(super) fn matmul<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    x: ArrayView2<'_, E>,
    blocks: &[Range<usize>],
) -> Array2<E> {
    let mut y = Array2::zeros(x.raw_dim());
    let mut h = State::zeros(m.order(), x.ncols());
    for rows in blocks {
        let block = factors(m, rows.clone());
        let x = x.slice(s![rows.clone(), ..]);
        let mut y = y.slice_mut(s![rows.clone(), ..]);
        set_matmul(y.view_mut(), block.diagonal.view(), x);
        add_matmul(y, block.left.view(), h.view());
        let state = dense_matmul(block.right.view(), x);
        block.centre.apply(Apply::Plain, 0, &mut h);
        h.view_mut().zip_mut_with(&state, |h, s| *h += *s);
    }
    y
}
