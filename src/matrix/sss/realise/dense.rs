//! Generators of a matrix that is given by its entries.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use super::hankel::{Columns, ranges};
use crate::error::{Error, Result, check_shape};
use crate::matrix::Partition;
use crate::matrix::check::is_finite;
use crate::matrix::sss::bare;
use crate::matrix::sss::compress::rounded::check_tolerance;
use crate::matrix::sss::compress::sweeps::rest;
use crate::matrix::sss::{
    HankelSpectrum, HermitianQuasiseparable, Quasiseparable, Rounded, Sss, Tolerance, TwoSided,
};
use crate::scalar::Field;

/// Where the entries come from: blocks of a matrix by ranges of rows and columns, and how they are cut.
struct Source<'a, E> {
    block: &'a dyn Fn(Range<usize>, Range<usize>) -> Array2<E>,
    outputs: &'a [usize],
    inputs: &'a [usize],
}

impl<E: Field> Source<'_, E> {
    /// Does `f` with the part on and below the diagonal.
    fn lower<R>(&self, f: impl FnOnce(Columns<'_, E>) -> R) -> R {
        let (rows, columns) = (ranges(self.outputs), ranges(self.inputs));
        let end = rows.last().map_or(0, |r| r.end);
        let column = |k: usize| {
            let strip = (self.block)(rows[k].start..end, columns[k].clone());
            strip.t().as_standard_layout().into_owned()
        };
        f(Columns { outputs: self.outputs, inputs: self.inputs, column: &column })
    }

    /// Does `f` with the adjoint of the part above the diagonal.
    fn upper<R>(&self, f: impl FnOnce(Columns<'_, E>) -> R) -> R {
        let (rows, columns) = (ranges(self.outputs), ranges(self.inputs));
        let end = columns.last().map_or(0, |c| c.end);
        let column = |k: usize| {
            let mut strip = (self.block)(rows[k].clone(), columns[k].start..end).mapv(E::conj);
            strip.slice_mut(s![.., ..self.inputs[k]]).fill(E::zero());
            strip
        };
        f(Columns { outputs: self.inputs, inputs: self.outputs, column: &column })
    }

    fn two_sided(
        &self,
        tolerance: Tolerance,
    ) -> Result<Rounded<Quasiseparable<E>, TwoSided<HankelSpectrum>>> {
        let (lower, upper) = match tolerance {
            Tolerance::Absolute(_) => {
                (self.lower(|m| m.realise(tolerance)), self.upper(|m| m.realise(tolerance)))
            }
            Tolerance::Relative(share) => {
                let (lower, upper) =
                    (self.lower(|m| m.provisional(share)), self.upper(|m| m.provisional(share)));
                let limit = share * lower.norm().max(upper.norm());
                (self.lower(|m| m.settle(lower, limit)), self.upper(|m| m.settle(upper, limit)))
            }
            Tolerance::Frobenius(share) => {
                let budget = share * self.lower(|m| m.norm()).hypot(self.upper(|m| m.norm()));
                let lower = self.lower(|m| m.within(budget * FRAC_1_SQRT_2));
                let upper = self.upper(|m| m.within(rest(budget, lower.error)));
                (lower, upper)
            }
        };
        Ok(Rounded {
            matrix: Quasiseparable::new(lower.matrix, upper.matrix)?,
            error: lower.error.hypot(upper.error),
            spectrum: TwoSided { lower: lower.spectrum, upper: upper.spectrum },
        })
    }

    /// The lower part is half of the off-diagonal part of the matrix, so a budget for the whole is one for it.
    fn hermitian(&self, tolerance: Tolerance) -> Result<Rounded<HermitianQuasiseparable<E>>> {
        let lower = match tolerance {
            Tolerance::Frobenius(share) => self.lower(|m| {
                let (strict, diagonal) = m.norms();
                m.within(share * strict.hypot(diagonal * FRAC_1_SQRT_2))
            }),
            _ => self.lower(|m| m.realise(tolerance)),
        };
        let matrix = HermitianQuasiseparable::new(lower.matrix)?;
        Ok(Rounded { matrix, error: lower.error * SQRT_2, spectrum: lower.spectrum })
    }
}

fn lengths(partition: &Partition, len: usize) -> Result<Vec<usize>> {
    Ok(partition.ranges(len)?.into_iter().map(|range| range.len()).collect())
}

/// The same where memory for the entries of a column of blocks can be asked for.
fn strips<E>(partition: &Partition, len: usize) -> Result<Vec<usize>> {
    let sizes = lengths(partition, len)?;
    let width = sizes.iter().copied().max().unwrap_or(0);
    if len.checked_mul(width).is_none_or(|count| Vec::<E>::new().try_reserve_exact(count).is_err()) {
        let reason =
            format!("{len} x {width} entries of a column of blocks are more than there is memory for");
        return Err(Error::Config { field: "len", reason });
    }
    Ok(sizes)
}

fn check_dense<E: Field>(m: ArrayView2<'_, E>, outputs: &[usize], inputs: &[usize]) -> Result<()> {
    check_shape("inputs", "(block rows)", &[outputs.len()], &[inputs.len()])?;
    let sum = |sizes: &[usize]| sizes.iter().fold(0usize, |sum, size| sum.saturating_add(*size));
    let shape = [sum(outputs), sum(inputs)];
    check_shape("m", "(sum of outputs, sum of inputs)", &shape, m.shape())?;
    bare::check_length("m", [(m.nrows(), m.ncols() > 0), (m.ncols(), m.nrows() > 0)].into_iter())?;
    if m.iter().all(|v| is_finite(*v)) {
        return Ok(());
    }
    match m.indexed_iter().find(|(_, v)| !is_finite(**v)) {
        None => Ok(()),
        Some((place, v)) => {
            Err(Error::Value { tensor: "m", expected: "finite numbers", found: format!("{v} at {place:?}") })
        }
    }
}

fn check_square<E>(m: ArrayView2<'_, E>) -> Result<()> {
    check_shape("m", "(rows, rows)", &[m.nrows(), m.nrows()], m.shape())
}

impl<E: Field> Sss<E> {
    /// The block lower triangular matrix `m` by generators, cut alike in rows and columns, with the smallest orders that
    /// the tolerance allows.
    ///
    /// A singular value decomposition for each Hankel block, each from the last one, so that the cost is O(len² · order).
    /// The result is in input normal form; [`Rounded`] holds the exact Frobenius error and the singular values.
    ///
    /// # Shapes
    /// `m`: (len, len).
    ///
    /// # Errors
    /// [`Error::Shape`] if `m` is not square, [`Error::Value`] if it holds a number that is not finite or one that is not
    /// zero above the block diagonal, [`Error::Config`] if partition or tolerance cannot be.
    ///
    /// # Example
    /// ```
    /// use ndarray::array;
    /// use semisep::matrix::{Partition, StructuredMatrix};
    /// use semisep::matrix::sss::{Sss, Tolerance};
    ///
    /// let dense = array![[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [4.0, 2.0, 1.0]];
    /// let m = Sss::from_dense(dense.view(), &Partition::Equal(1), Tolerance::Relative(1e-12))?.matrix;
    /// assert_eq!(m.orders(), [0, 1, 1, 0]);
    /// assert!((m.to_dense() - dense).iter().all(|v: &f64| v.abs() < 1e-14));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn from_dense(
        m: ArrayView2<'_, E>,
        partition: &Partition,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self>> {
        check_square(m)?;
        let sizes = lengths(partition, m.nrows())?;
        Self::from_dense_blocks(m, &sizes, &sizes, tolerance)
    }

    /// The same with the sizes of block rows and block columns, which may differ and may be zero.
    ///
    /// # Shapes
    /// `m`: (sum of `outputs`, sum of `inputs`); as many outputs as inputs.
    ///
    /// # Errors
    /// As [`from_dense`](Self::from_dense).
    pub fn from_dense_blocks(
        m: ArrayView2<'_, E>,
        outputs: &[usize],
        inputs: &[usize],
        tolerance: Tolerance,
    ) -> Result<Rounded<Self>> {
        check_dense(m, outputs, inputs)?;
        check_tolerance(tolerance)?;
        for (rows, columns) in ranges(outputs).into_iter().zip(ranges(inputs)) {
            let above = m.slice(s![rows.clone(), columns.end..]);
            if above.iter().all(|v| v.is_zero()) {
                continue;
            }
            if let Some(((i, j), v)) = above.indexed_iter().find(|(_, v)| !v.is_zero()) {
                return Err(Error::Value {
                    tensor: "m",
                    expected: "zeros above the block diagonal",
                    found: format!("{v} at {:?}", (rows.start + i, columns.end + j)),
                });
            }
        }
        let block = |rows, columns| slice(m, rows, columns);
        Ok(Source { block: &block, outputs, inputs }.lower(|m| m.realise(tolerance)))
    }

    /// The block lower triangular matrix with the entries `entry(row, column)`, which is asked only on and below the
    /// block diagonal: entries one column of blocks at a time, none kept. A Frobenius tolerance asks for each twice, and a
    /// relative one where the largest Hankel singular value comes late.
    ///
    /// # Errors
    /// [`Error::Config`] if partition or tolerance cannot be or a column of blocks has more entries than there is memory for,
    /// [`Error::Value`] if an entry is not finite.
    pub fn from_entries(
        len: usize,
        partition: &Partition,
        entry: impl Fn(usize, usize) -> E,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self>> {
        check_tolerance(tolerance)?;
        let sizes = strips::<E>(partition, len)?;
        let block = |rows, columns| entries(&entry, rows, columns);
        let rounded =
            Source { block: &block, outputs: &sizes, inputs: &sizes }.lower(|m| m.realise(tolerance));
        finite(rounded.error, &rounded.spectrum)?;
        Ok(rounded)
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The matrix `m` by generators, cut alike in rows and columns, with the smallest orders on both sides of the
    /// diagonal that the tolerance allows; see [`Sss::from_dense`] and [`Quasiseparable::rounded`].
    ///
    /// # Shapes
    /// `m`: (len, len).
    ///
    /// # Errors
    /// As [`Sss::from_dense`]; any entry may be nonzero.
    pub fn from_dense(
        m: ArrayView2<'_, E>,
        partition: &Partition,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self, TwoSided<HankelSpectrum>>> {
        check_square(m)?;
        let sizes = lengths(partition, m.nrows())?;
        Self::from_dense_blocks(m, &sizes, &sizes, tolerance)
    }

    /// The same with the sizes of block rows and block columns, which may differ and may be zero.
    ///
    /// # Shapes
    /// `m`: (sum of `outputs`, sum of `inputs`); as many outputs as inputs.
    ///
    /// # Errors
    /// As [`from_dense`](Self::from_dense).
    pub fn from_dense_blocks(
        m: ArrayView2<'_, E>,
        outputs: &[usize],
        inputs: &[usize],
        tolerance: Tolerance,
    ) -> Result<Rounded<Self, TwoSided<HankelSpectrum>>> {
        check_dense(m, outputs, inputs)?;
        check_tolerance(tolerance)?;
        let block = |rows, columns| slice(m, rows, columns);
        Source { block: &block, outputs, inputs }.two_sided(tolerance)
    }

    /// The matrix with the entries `entry(row, column)`; see [`Sss::from_entries`].
    ///
    /// # Errors
    /// As there.
    pub fn from_entries(
        len: usize,
        partition: &Partition,
        entry: impl Fn(usize, usize) -> E,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self, TwoSided<HankelSpectrum>>> {
        check_tolerance(tolerance)?;
        let sizes = strips::<E>(partition, len)?;
        let block = |rows, columns| entries(&entry, rows, columns);
        let rounded = Source { block: &block, outputs: &sizes, inputs: &sizes }.two_sided(tolerance)?;
        finite(rounded.error, &rounded.spectrum.lower)?;
        finite(rounded.error, &rounded.spectrum.upper)?;
        Ok(rounded)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The Hermitian matrix `m` by generators; see [`Sss::from_dense`]. The part above the diagonal is not read.
    ///
    /// # Shapes
    /// `m`: (len, len).
    ///
    /// # Errors
    /// As [`Sss::from_dense`], and [`Error::Value`] if a diagonal block is not Hermitian.
    pub fn from_dense(
        m: ArrayView2<'_, E>,
        partition: &Partition,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self>> {
        check_square(m)?;
        let sizes = lengths(partition, m.nrows())?;
        check_dense(m, &sizes, &sizes)?;
        check_tolerance(tolerance)?;
        let block = |rows, columns| slice(m, rows, columns);
        Source { block: &block, outputs: &sizes, inputs: &sizes }.hermitian(tolerance)
    }

    /// The Hermitian matrix with the entries `entry(row, column)` on and below the block diagonal; see
    /// [`Sss::from_entries`]. A covariance, for instance, by its kernel.
    ///
    /// # Errors
    /// As there, and [`Error::Value`] if a diagonal block is not Hermitian.
    ///
    /// # Example
    /// ```
    /// use semisep::matrix::Partition;
    /// use semisep::matrix::sss::{HermitianQuasiseparable, Tolerance};
    ///
    /// let kernel = |i: usize, j: usize| 1.0 / (1.0 + (i as f64 - j as f64).powi(2) / 100.0);
    /// let rounded = HermitianQuasiseparable::from_entries(
    ///     300, &Partition::Equal(1), kernel, Tolerance::Frobenius(1e-6))?;
    /// assert!(rounded.matrix.lower().orders().iter().all(|n| *n <= 10));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn from_entries(
        len: usize,
        partition: &Partition,
        entry: impl Fn(usize, usize) -> E,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self>> {
        check_tolerance(tolerance)?;
        let sizes = strips::<E>(partition, len)?;
        let block = |rows, columns| entries(&entry, rows, columns);
        let rounded = Source { block: &block, outputs: &sizes, inputs: &sizes }.hermitian(tolerance)?;
        finite(rounded.error, &rounded.spectrum)?;
        Ok(rounded)
    }
}

fn slice<E: Field>(m: ArrayView2<'_, E>, rows: Range<usize>, columns: Range<usize>) -> Array2<E> {
    m.slice(s![rows, columns]).to_owned()
}

fn entries<E: Field>(
    entry: &dyn Fn(usize, usize) -> E,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Array2<E> {
    Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| entry(rows.start + i, columns.start + j))
}

/// An entry that is not finite shows in the norm of the whole.
fn finite(error: f64, spectrum: &HankelSpectrum) -> Result<()> {
    if error.is_finite() && spectrum.frobenius().is_finite() {
        return Ok(());
    }
    Err(Error::Value { tensor: "entry", expected: "finite numbers", found: "one that is not".into() })
}
