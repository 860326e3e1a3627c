//! The Toeplitz mask: constant along diagonals.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use num_complex::Complex;

use super::spectrum::{Spectral, column_spectra, good_length};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{Fft, Sign};
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::{Field, real};

/// A matrix that is constant along its diagonals, $`L_{ij} = \alpha_{i-j}`$ (paper, section 4.3).
///
/// The coefficients stand in the order of i - j, from $`\alpha_{-(S-1)}`$ in the upper right corner to
/// $`\alpha_{T-1}`$ in the lower left one. Products go through an FFT of length at least T + S - 1; their error
/// is small against the norms of coefficients and column, not against every single entry of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Toeplitz<E> {
    shape: (usize, usize),
    coefficients: Array1<E>,
}

/// How many diagonals a matrix of this shape has.
fn diagonals((rows, columns): (usize, usize)) -> usize {
    if rows == 0 || columns == 0 { 0 } else { rows.saturating_add(columns - 1) }
}

/// That column and row begin with the same number, if they have any.
pub(crate) fn check_corner<E: Field>(column: ArrayView1<'_, E>, row: ArrayView1<'_, E>) -> Result<()> {
    match (column.first(), row.first()) {
        (Some(column), Some(row)) if column != row => Err(Error::Value {
            tensor: "row",
            expected: "the first number of the column in the corner that both share",
            found: format!("{row} against {column}"),
        }),
        _ => Ok(()),
    }
}

impl<E: Spectral> Toeplitz<E> {
    /// The matrix of these coefficients.
    ///
    /// # Shapes
    /// `coefficients`: (rows + columns - 1), or (0) if the matrix has no entries.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of coefficients, [`Error::Value`] if one is not finite.
    pub fn new(rows: usize, columns: usize, coefficients: Array1<E>) -> Result<Self> {
        let shape = (rows, columns);
        let expected = [diagonals(shape)];
        check_shape("coefficients", "(rows + columns - 1)", &expected, coefficients.shape())?;
        check::finite("coefficients", coefficients.view())?;
        Ok(Self { shape, coefficients })
    }

    /// The matrix with this first column and this first row.
    ///
    /// # Shapes
    /// `column`: (rows); `row`: (columns).
    ///
    /// # Errors
    /// [`Error::Value`] if a number is not finite or the two do not begin with the same one.
    pub fn from_column_and_row(column: ArrayView1<'_, E>, row: ArrayView1<'_, E>) -> Result<Self> {
        let shape = (column.len(), row.len());
        if diagonals(shape) == 0 {
            return Self::new(shape.0, shape.1, Array1::zeros(0));
        }
        check_corner(column, row)?;
        let above = row.slice(s![1..;-1]);
        Self::new(shape.0, shape.1, above.iter().chain(column).copied().collect())
    }

    /// The causal matrix with this first column, and zeros above the diagonal. `column`: (len).
    ///
    /// # Errors
    /// [`Error::Value`] if a number is not finite.
    pub fn causal(column: ArrayView1<'_, E>) -> Result<Self> {
        let mut row = Array1::zeros(column.len());
        if let (Some(corner), Some(&first)) = (row.first_mut(), column.first()) {
            *corner = first;
        }
        Self::from_column_and_row(column, row.view())
    }

    /// The coefficients, from the upper right corner to the lower left. Shape (rows + columns - 1).
    pub fn coefficients(&self) -> &Array1<E> {
        &self.coefficients
    }

    fn adjoint(&self) -> Self {
        let coefficients = self.coefficients.iter().rev().map(|a| a.conj()).collect();
        Self { shape: (self.shape.1, self.shape.0), coefficients }
    }

    /// The linear convolution of the coefficients with every column, of which the matrix is a stretch.
    fn product(&self, x: ArrayView2<'_, E>) -> Array2<E> {
        let (rows, columns) = self.shape;
        let mut y = Array2::zeros((rows, x.ncols()));
        if diagonals(self.shape) == 0 || x.ncols() == 0 {
            return y;
        }
        // Row i of the product is element i + columns - 1 of the convolution; what wraps around lies before.
        let n = good_length(self.coefficients.len());
        let multiplier = column_spectra(self.coefficients.view().insert_axis(ndarray::Axis(1)), n);
        let mut spectra = column_spectra(x, n);
        for spectrum in spectra.chunks_exact_mut(n) {
            spectrum.iter_mut().zip(&multiplier).for_each(|(x, &a)| *x *= a);
        }
        E::Real::transform(&mut spectra, n, Sign::Positive);
        let scale = real::<E::Real>(1.0 / n as f64);
        for (mut y, spectrum) in y.columns_mut().into_iter().zip(spectra.chunks_exact(n)) {
            for (y, &value) in y.iter_mut().zip(&spectrum[columns - 1..]) {
                *y = E::from_complex(value * scale);
            }
        }
        y
    }
}

impl<E: Spectral> StructuredMatrix<E> for Toeplitz<E> {
    /// Cotangents of the coefficients. Shape (rows + columns - 1).
    type Gradient = Array1<E>;

    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::from_shape_fn(self.shape, |(i, j)| self.coefficients[i + self.shape.1 - 1 - j])
    }

    /// A convolution by FFT; O((rows + columns) log(rows + columns)) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.shape.1, x)?;
        Ok(self.product(x))
    }

    /// A correlation by FFT; O((rows + columns) log(rows + columns)) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.shape.0, y)?;
        Ok(self.adjoint().product(y))
    }

    /// $`\mathrm{d}\alpha_n = \sum_{i-j=n} \langle x_j, \mathrm{d}y_i \rangle`$, a correlation by FFT.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Array1<E>, Array2<E>)> {
        check::vjp_operands(self.shape, x, dy)?;
        let dx = self.adjoint().product(dy);
        let mut d_coefficients = Array1::zeros(self.coefficients.len());
        if d_coefficients.is_empty() {
            return Ok((d_coefficients, dx));
        }
        let n = good_length(self.coefficients.len());
        let zero = num_traits::Zero::zero();
        let mut correlation = vec![Complex::<E::Real>::new(zero, zero); n];
        let (x, dy) = (column_spectra(x, n), column_spectra(dy, n));
        for (x, dy) in x.chunks_exact(n).zip(dy.chunks_exact(n)) {
            for ((sum, x), dy) in correlation.iter_mut().zip(x).zip(dy) {
                *sum += x.conj() * dy;
            }
        }
        E::Real::transform(&mut correlation, n, Sign::Positive);
        let scale = real::<E::Real>(1.0 / n as f64);
        for (index, d) in d_coefficients.iter_mut().enumerate() {
            // Coefficient i - j, and negative ones from the end of the circle.
            let place = (index + n + 1 - self.shape.1) % n;
            *d = E::from_complex(correlation[place] * scale);
        }
        Ok((d_coefficients, dx))
    }

    /// Sums along the diagonals; O(rows columns).
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Array1<E>> {
        check::dense_cotangent(self.shape, d_dense)?;
        let mut d_coefficients = Array1::zeros(self.coefficients.len());
        for ((i, j), &d) in d_dense.indexed_iter() {
            d_coefficients[i + self.shape.1 - 1 - j] += d;
        }
        Ok(d_coefficients)
    }
}
