//! Reading a semiseparable matrix: entries, blocks in factored form, ranks.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::Semiseparable;
use super::state::State;
use super::transition::{Apply, Transition};
use crate::error::{Error, Result};
use crate::linalg::{matmul, singular_values};
use crate::scalar::Field;

/// A block of a semiseparable matrix as a product of three factors (paper Lemma 3.3, equation 5).
///
/// ```math
/// M_{r:r',\,s:s'} = \text{left} \cdot \text{centre} \cdot \text{right}
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FactoredBlock<E> {
    /// The C-block-factors, (rows, order).
    pub left: Array2<E>,
    /// The A-block-factors, (order, order).
    pub centre: Array2<E>,
    /// The B-block-factors, (order, columns).
    pub right: Array2<E>,
}

impl<E: Field> FactoredBlock<E> {
    /// All entries of the block, (rows, columns).
    pub fn to_dense(&self) -> Array2<E> {
        matmul(matmul(self.left.view(), self.centre.view()).view(), self.right.view())
    }
}

/// Whether blocks reach up to the main diagonal or stay below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainDiagonal {
    /// Blocks `M[k:, :k+1]`: the paper's N-semiseparable matrices (Definition 3.1).
    Included,
    /// Blocks `M[k:, :k]`, the Hankel blocks: matrices with a free diagonal.
    Excluded,
}

impl<E: Field, A: Transition<E>> Semiseparable<E, A> {
    /// The entry in row `i` and column `j`, in |i - j| steps; zero above the diagonal.
    ///
    /// # Errors
    /// [`Error::Value`] if the index is out of range.
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        check_index(i, j, self.len())?;
        if i <= j {
            return Ok(if i == j { self.d[i] } else { E::zero() });
        }
        let mut h = column_of(&self.b, j);
        (j + 1..i).for_each(|k| self.transition.apply(Apply::Plain, k, &mut h));
        Ok(self.c.row(i).iter().zip(&h.values).map(|(c, h)| *c * *h).sum())
    }

    /// A block strictly below the diagonal as left, centre and right factor.
    ///
    /// ```math
    /// \text{left}_i = C_i^\top A_{i-1} \cdots A_r, \quad \text{centre} = A_{r-1} \cdots A_s, \quad
    /// \text{right}_j = A_{s-1} \cdots A_{j+1} B_j
    /// ```
    /// with r the first row and s the end of the columns (paper Lemma 3.3; the paper's A_r stands in the centre).
    ///
    /// # Errors
    /// [`Error::Value`] if the block leaves the matrix or has an entry on or above the diagonal.
    pub fn factored_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<FactoredBlock<E>> {
        check_block(&rows, &columns, self.len(), MainDiagonal::Excluded)?;
        let (left, _) = left(&self.transition, &self.c, rows.clone(), rows.start);
        let centre = product(&self.transition, columns.end..rows.start, self.order());
        let right = right(&self.transition, &self.b, columns);
        Ok(FactoredBlock { left, centre, right })
    }

    /// Numerical ranks of the Hankel blocks `M[k:, :k]` for k = 1 .. len - 1, at most the order.
    ///
    /// # Errors
    /// As [`maximal_block_ranks`]. O(len⁴) time: for checking small matrices.
    pub fn hankel_ranks(&self, tolerance: f64) -> Result<Vec<usize>> {
        maximal_block_ranks(dense(self).view(), MainDiagonal::Excluded, tolerance)
    }
}

/// All entries, column by column from the definition.
pub(super) fn dense<E: Field, A: Transition<E>>(m: &Semiseparable<E, A>) -> Array2<E> {
    let len = m.len();
    let mut dense = Array2::from_diag(&m.d);
    for j in 0..len {
        let mut h = column_of(&m.b, j);
        for i in j + 1..len {
            dense[[i, j]] = m.c.row(i).iter().zip(&h.values).map(|(c, h)| *c * *h).sum();
            m.transition.apply(Apply::Plain, i, &mut h);
        }
    }
    dense
}

/// Row k of `b` as a state with one column.
fn column_of<E: Field>(b: &Array2<E>, k: usize) -> State<E> {
    let mut h = State::zeros(b.ncols(), 1);
    h.values.iter_mut().zip(b.row(k)).for_each(|(h, b)| *h = *b);
    h
}

/// Rows `C_iᵀ A ⋯` of the left factor, and the product of all transitions that it passed: one transition is
/// taken in after each row, the first being number `first`.
pub(super) fn left<E: Field, A: Transition<E>>(
    transition: &A,
    c: &Array2<E>,
    rows: Range<usize>,
    first: usize,
) -> (Array2<E>, A) {
    let order = c.ncols();
    let mut passed = A::identity(order);
    let mut left = Array2::zeros((rows.len(), order));
    for (offset, mut left) in left.outer_iter_mut().enumerate() {
        let mut h = column_of(c, rows.start + offset);
        passed.apply(Apply::Transposed, 0, &mut h);
        left.iter_mut().zip(&h.values).for_each(|(l, h)| *l = *h);
        if first + offset < transition.len() {
            transition.compose(first + offset, &mut passed);
        }
    }
    (left, passed)
}

/// `A_{end-1} ⋯ A_start`, dense.
pub(super) fn product<E: Field, A: Transition<E>>(
    transition: &A,
    steps: Range<usize>,
    order: usize,
) -> Array2<E> {
    let mut product = A::identity(order);
    steps.for_each(|k| transition.compose(k, &mut product));
    product.step(0, order)
}

/// Columns `A_{end-1} ⋯ A_{j+1} B_j` of the right factor.
pub(super) fn right<E: Field, A: Transition<E>>(
    transition: &A,
    b: &Array2<E>,
    columns: Range<usize>,
) -> Array2<E> {
    let mut h = State::zeros(b.ncols(), columns.len());
    for (position, k) in columns.enumerate() {
        transition.apply(Apply::Plain, k, &mut h);
        h.view_mut().column_mut(position).assign(&b.row(k));
    }
    h.view().to_owned()
}

/// Numerical ranks of the maximal blocks below the diagonal of any square matrix.
///
/// A singular value counts if it exceeds `tolerance` times the largest one of its block. With
/// [`MainDiagonal::Included`] there is one block for each row k, with [`MainDiagonal::Excluded`] one for each k ≥ 1.
/// O(len⁴) time.
///
/// # Errors
/// [`Error::Shape`] if `m` is not square, [`Error::Value`] if it holds a number that is not finite.
pub fn maximal_block_ranks<E: Field>(
    m: ArrayView2<'_, E>,
    diagonal: MainDiagonal,
    tolerance: f64,
) -> Result<Vec<usize>> {
    let (len, extra) = (m.nrows(), usize::from(diagonal == MainDiagonal::Included));
    crate::error::check_shape("m", "(len, len)", &[len, len], m.shape())?;
    (1 - extra..len)
        .map(|k| {
            let values = singular_values(m.slice(s![k.., ..k + extra])).ok_or_else(|| Error::Value {
                tensor: "m",
                expected: "finite numbers",
                found: format!("a number that is not, in block {k}"),
            })?;
            let largest = values.first().copied().unwrap_or(0.0);
            Ok(values.iter().filter(|v| **v > tolerance * largest).count())
        })
        .collect()
}

pub(super) fn check_index(i: usize, j: usize, len: usize) -> Result<()> {
    if i < len && j < len {
        return Ok(());
    }
    Err(Error::Value { tensor: "index", expected: "row and column below len", found: format!("({i}, {j})") })
}

pub(super) fn check_block(
    rows: &Range<usize>,
    columns: &Range<usize>,
    len: usize,
    diagonal: MainDiagonal,
) -> Result<()> {
    let extra = usize::from(diagonal == MainDiagonal::Included);
    let ordered = rows.start <= rows.end && columns.start <= columns.end;
    if ordered && rows.end <= len && columns.end <= len && columns.end <= rows.start + extra {
        return Ok(());
    }
    let expected = match diagonal {
        MainDiagonal::Included => {
            "rows and columns within len, columns ending at most one past the first row"
        }
        MainDiagonal::Excluded => "rows and columns within len, columns ending at most at the first row",
    };
    Err(Error::Value { tensor: "block", expected, found: format!("rows {rows:?}, columns {columns:?}") })
}
