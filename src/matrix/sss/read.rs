//! Reading entries, diagonals and blocks.

use std::borrow::Borrow;
use std::ops::Range;

use ndarray::{Array1, Array2, s};

use super::multiply::regroup;
use super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::error::{Error, Result};
use crate::linalg::{adjoint, matmul};
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// A block of low rank as a product of three factors (paper Lemma 3.3, equation 5).
///
/// ```math
/// M_{r:r',\,s:s'} = \text{left} \cdot \text{centre} \cdot \text{right}
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FactoredBlock<E> {
    /// The C-block-factors, (rows, order before the first row).
    pub left: Array2<E>,
    /// The A-block-factors, (order before the first row, order after the last column).
    pub centre: Array2<E>,
    /// The B-block-factors, (order after the last column, columns).
    pub right: Array2<E>,
}

impl<E: Field> FactoredBlock<E> {
    /// All entries of the block, (rows, columns).
    pub fn to_dense(&self) -> Array2<E> {
        matmul(matmul(self.left.view(), self.centre.view()).view(), self.right.view())
    }

    /// The adjoint of the block: factors change places.
    pub fn adjoint(&self) -> Self {
        let adjoint = |factor: &Array2<E>| adjoint(factor.view());
        Self { left: adjoint(&self.right), centre: adjoint(&self.centre), right: adjoint(&self.left) }
    }
}

/// A block of a matrix, still by generators.
#[derive(Debug, Clone, PartialEq)]
pub enum SubBlock<E> {
    /// A block beside the diagonal, on a side where the matrix has entries.
    LowRank(FactoredBlock<E>),
    /// Another block of a lower matrix: it shares steps with the diagonal or is zero.
    Lower(Sss<E>),
    /// The same of an upper matrix.
    Upper(Upper<Sss<E>>),
    /// A block of a two-sided matrix that shares steps with the diagonal.
    TwoSided(Box<Quasiseparable<E>>),
}

impl<E: Field> SubBlock<E> {
    /// All entries of the block.
    pub fn to_dense(&self) -> Array2<E> {
        match self {
            Self::LowRank(block) => block.to_dense(),
            Self::Lower(block) => block.to_dense(),
            Self::Upper(block) => block.to_dense(),
            Self::TwoSided(block) => block.to_dense(),
        }
    }
}

/// The step that an index falls into, and the index within it.
fn locate(offsets: &[usize], index: usize) -> (usize, usize) {
    let step = offsets.partition_point(|o| *o <= index) - 1;
    (step, index - offsets[step])
}

fn check_index((rows, columns): (usize, usize), i: usize, j: usize) -> Result<()> {
    if i < rows && j < columns {
        return Ok(());
    }
    Err(Error::Value {
        tensor: "index",
        expected: "a row and a column of the matrix",
        found: format!("({i}, {j}) of {rows} rows, {columns} columns"),
    })
}

fn check_block(
    (all_rows, all_columns): (usize, usize),
    rows: &Range<usize>,
    columns: &Range<usize>,
) -> Result<()> {
    let within = |range: &Range<usize>, end: usize| range.start <= range.end && range.end <= end;
    if within(rows, all_rows) && within(columns, all_columns) {
        return Ok(());
    }
    Err(Error::Value {
        tensor: "block",
        expected: "rows and columns of the matrix",
        found: format!("rows {rows:?} of {all_rows}, columns {columns:?} of {all_columns}"),
    })
}

impl<E: Field> Sss<E> {
    /// First rows and first columns of the steps that hold row i and column j, cheap where sizes are equal.
    fn find(&self, i: usize, j: usize) -> ((usize, usize), (usize, usize)) {
        match self.d.uniform() {
            Some((q, p)) => ((i / q, i % q), (j / p, j % p)),
            None => (locate(&self.row_offsets(), i), locate(&self.column_offsets(), j)),
        }
    }

    /// The entry in row `i` and column `j`, in as many steps as lie between them; zero above the diagonal.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such row or column.
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        check_index((self.rows(), self.columns()), i, j)?;
        let (row, column) = self.find(i, j);
        Ok(self.entry_at(row, column))
    }

    /// The entry in row `i` of step `r` and column `j` of step `s`.
    fn entry_at(&self, (r, i): (usize, usize), (s, j): (usize, usize)) -> E {
        match r.checked_sub(s) {
            None => E::zero(),
            Some(0) => self.d(r)[[i, j]],
            Some(_) => {
                let column = self.b(s).slice(s![.., j..j + 1]).to_owned();
                let state = (s + 1..r).fold(column, |state, k| self.apply_a(k, state.view()));
                self.c(r).row(i).dot(&state.column(0))
            }
        }
    }

    /// The entries (i, i), as many as there are.
    pub fn diagonal(&self) -> Array1<E> {
        diagonal(&self.d, |row, column| self.entry_at(row, column))
    }

    /// The sum of the entries (i, i).
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrix is not square.
    pub fn trace(&self) -> Result<E> {
        trace((self.rows(), self.columns()), || self.diagonal())
    }

    /// The block of these rows and columns, by generators.
    ///
    /// Where all steps of the rows lie behind all steps of the columns, it is a product of three factors:
    ///
    /// ```math
    /// \text{left}_i = C_i A_{i-1} \cdots A_r, \quad \text{centre} = A_{r-1} \cdots A_s, \quad
    /// \text{right}_j = A_{s-1} \cdots A_{j+1} B_j
    /// ```
    /// with r the first step of the rows and s the end of the steps of the columns. Elsewhere it is a lower matrix again,
    /// of all steps between the first and the last, those outside the rows yielding nothing and those outside the columns
    /// taking in nothing. Steps may be cut.
    ///
    /// # Errors
    /// [`Error::Value`] if the block leaves the matrix.
    pub fn sub_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<SubBlock<E>> {
        let (all_rows, all_columns) = (self.row_offsets(), self.column_offsets());
        let (last_row, last_column) = (all_rows[self.len()], all_columns[self.len()]);
        check_block((last_row, last_column), &rows, &columns)?;
        let (row_steps, column_steps) = (touched(&all_rows, &rows), touched(&all_columns, &columns));
        let within = |range: &Range<usize>, offsets: &[usize], k: usize| {
            let cut = |i: usize| i.clamp(offsets[k], offsets[k + 1]) - offsets[k];
            cut(range.start)..cut(range.end)
        };
        let steps = row_steps.start.min(column_steps.start)..row_steps.end.max(column_steps.end);
        let b: Blocks<E> = steps
            .clone()
            .map(|k| self.b(k).slice(s![.., within(&columns, &all_columns, k)]).to_owned())
            .collect();
        let c: Blocks<E> =
            steps.clone().map(|k| self.c(k).slice(s![within(&rows, &all_rows, k), ..]).to_owned()).collect();
        let d = steps.clone().map(|k| {
            let (rows, columns) = (within(&rows, &all_rows, k), within(&columns, &all_columns, k));
            self.d(k).slice(s![rows, columns]).to_owned()
        });
        let block = Self::from_parts(self.transition.of_steps(steps.clone()), b, c, d.collect());
        if column_steps.end > row_steps.start || column_steps.is_empty() || row_steps.is_empty() {
            return Ok(SubBlock::Lower(block));
        }
        let local = |range: Range<usize>| range.start - steps.start..range.end - steps.start;
        let (row_steps, column_steps) = (local(row_steps), local(column_steps));
        Ok(SubBlock::LowRank(FactoredBlock {
            left: regroup::left(&block, row_steps.clone()),
            centre: block.chain().passage(column_steps.end..row_steps.start),
            right: regroup::right(&block, column_steps),
        }))
    }
}

/// The steps that a range of rows or columns falls into.
fn touched(offsets: &[usize], range: &Range<usize>) -> Range<usize> {
    if range.is_empty() {
        let at = offsets.partition_point(|o| *o <= range.start) - 1;
        return at..at;
    }
    locate(offsets, range.start).0..locate(offsets, range.end - 1).0 + 1
}

/// Entries (i, i), read from blocks on the diagonal where they hold them and by `entry` elsewhere.
fn diagonal<E: Field>(d: &Blocks<E>, entry: impl Fn((usize, usize), (usize, usize)) -> E) -> Array1<E> {
    let (mut row, mut column) = ((0, 0), (0, 0));
    let mut entries = Vec::new();
    let settle = |place: &mut (usize, usize), size: &dyn Fn(usize) -> usize| {
        while place.0 < d.len() && place.1 >= size(place.0) {
            *place = (place.0 + 1, place.1 - size(place.0));
        }
        place.0 < d.len()
    };
    while settle(&mut row, &|k| d.dims(k).0) && settle(&mut column, &|k| d.dims(k).1) {
        entries.push(entry(row, column));
        row.1 += 1;
        column.1 += 1;
    }
    Array1::from(entries)
}

fn trace<E: Field>((rows, columns): (usize, usize), diagonal: impl FnOnce() -> Array1<E>) -> Result<E> {
    if rows != columns {
        return Err(Error::shape("m", "as many rows as columns", &[rows, columns]));
    }
    Ok(diagonal().sum())
}

impl<S> Upper<S> {
    /// The entry in row `i` and column `j`; zero below the diagonal.
    ///
    /// # Errors
    /// As [`Sss::entry`].
    pub fn entry<E: Field>(&self, i: usize, j: usize) -> Result<E>
    where
        S: Borrow<Sss<E>>,
    {
        check_index((self.rows(), self.columns()), i, j)?;
        Ok(self.lower().entry(j, i)?.conj())
    }

    /// The entries (i, i), as many as there are.
    pub fn diagonal<E: Field>(&self) -> Array1<E>
    where
        S: Borrow<Sss<E>>,
    {
        self.lower().diagonal().mapv_into(E::conj)
    }

    /// The sum of the entries (i, i).
    ///
    /// # Errors
    /// As [`Sss::trace`].
    pub fn trace<E: Field>(&self) -> Result<E>
    where
        S: Borrow<Sss<E>>,
    {
        Ok(self.lower().trace()?.conj())
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The block of these rows and columns, by generators: the adjoint of that of the lower matrix.
    ///
    /// # Errors
    /// As [`Sss::sub_block`].
    pub fn sub_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<SubBlock<E>> {
        check_block((self.rows(), self.columns()), &rows, &columns)?;
        Ok(match self.0.sub_block(columns, rows)? {
            SubBlock::LowRank(block) => SubBlock::LowRank(block.adjoint()),
            SubBlock::Lower(block) => SubBlock::Upper(Upper(block)),
            other => other,
        })
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The block of these rows and columns, by generators.
    ///
    /// Where no step of the rows is one of the columns, it is a product of three factors as in [`Sss::sub_block`], above
    /// the diagonal the adjoint of one. Elsewhere it is a two-sided matrix again, of all steps between the first and the
    /// last.
    ///
    /// # Errors
    /// As there.
    pub fn sub_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<SubBlock<E>> {
        let lower = self.lower().sub_block(rows.clone(), columns.clone())?;
        Ok(match (lower, self.upper().sub_block(columns, rows)?) {
            (_, SubBlock::LowRank(above)) => SubBlock::LowRank(above.adjoint()),
            (SubBlock::Lower(lower), SubBlock::Lower(upper)) => {
                SubBlock::TwoSided(Box::new(Self::new(lower, upper)?))
            }
            (below, _) => below,
        })
    }

    /// The entry in row `i` and column `j`, in as many steps as lie between them.
    ///
    /// # Errors
    /// As [`Sss::entry`].
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        check_index((self.rows(), self.columns()), i, j)?;
        let (row, column) = self.lower().find(i, j);
        Ok(self.entry_at(row, column))
    }

    fn entry_at(&self, row: (usize, usize), column: (usize, usize)) -> E {
        if row.0 < column.0 {
            return self.upper().entry_at(column, row).conj();
        }
        self.lower().entry_at(row, column)
    }

    /// The entries (i, i), as many as there are.
    pub fn diagonal(&self) -> Array1<E> {
        diagonal(self.diagonal_blocks(), |row, column| self.entry_at(row, column))
    }

    /// The sum of the entries (i, i).
    ///
    /// # Errors
    /// As [`Sss::trace`].
    pub fn trace(&self) -> Result<E> {
        trace((self.rows(), self.columns()), || self.diagonal())
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The block of these rows and columns, by generators; see [`Quasiseparable::sub_block`].
    ///
    /// # Errors
    /// As there.
    pub fn sub_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<SubBlock<E>> {
        self.to_quasiseparable().sub_block(rows, columns)
    }

    /// The entry in row `i` and column `j`, in as many steps as lie between them.
    ///
    /// # Errors
    /// As [`Sss::entry`].
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        check_index((self.rows(), self.rows()), i, j)?;
        let (row, column) = self.lower().find(i, j);
        if row.0 < column.0 {
            return Ok(self.lower().entry_at(column, row).conj());
        }
        Ok(self.lower().entry_at(row, column))
    }

    /// The entries (i, i).
    pub fn diagonal(&self) -> Array1<E> {
        self.lower().diagonal()
    }

    /// The sum of the entries (i, i).
    pub fn trace(&self) -> E {
        self.diagonal().sum()
    }
}
