//! The discrete Fourier matrix.

use ndarray::{Array2, ArrayView2};
use num_complex::Complex;

use crate::error::Result;
use crate::linalg::Sign;
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::{Field, Real, real};

/// The factor before a [`Fourier`] matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// 1
    One,
    /// $`1/\sqrt n`$: the matrix is unitary.
    Unitary,
    /// $`1/n`$: the inverse of the transform with the other sign and factor 1.
    Inverse,
}

/// The discrete Fourier matrix.
///
/// ```math
/// L_{jk} = c\, e^{\mp 2\pi \mathrm{i} jk/n}
/// ```
///
/// The paper (section 4.3) names this mask and fixes neither sign nor factor; both are options here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fourier {
    len: usize,
    sign: Sign,
    normalization: Normalization,
}

impl Fourier {
    /// The matrix of this length.
    pub fn new(len: usize, sign: Sign, normalization: Normalization) -> Self {
        Self { len, sign, normalization }
    }

    fn factor(&self) -> f64 {
        match self.normalization {
            Normalization::One => 1.0,
            Normalization::Unitary => 1.0 / (self.len as f64).sqrt(),
            Normalization::Inverse => 1.0 / self.len as f64,
        }
    }

    fn transform_columns<R>(&self, x: ArrayView2<'_, Complex<R>>, sign: Sign) -> Array2<Complex<R>>
    where
        R: Real,
        Complex<R>: Field<Real = R>,
    {
        let mut y = Array2::zeros(x.dim());
        if y.is_empty() {
            return y;
        }
        let factor = Complex::<R>::from_real(real(self.factor()));
        let mut columns: Vec<_> = x.t().iter().copied().collect();
        R::transform(&mut columns, self.len, sign);
        for (mut y, column) in y.columns_mut().into_iter().zip(columns.chunks_exact(self.len)) {
            y.iter_mut().zip(column).for_each(|(y, &value)| *y = value * factor);
        }
        y
    }
}

impl<R> StructuredMatrix<Complex<R>> for Fourier
where
    R: Real,
    Complex<R>: Field<Real = R>,
{
    type Gradient = ();

    fn shape(&self) -> (usize, usize) {
        (self.len, self.len)
    }

    fn to_dense(&self) -> Array2<Complex<R>> {
        let turn = match self.sign {
            Sign::Negative => -std::f64::consts::TAU,
            Sign::Positive => std::f64::consts::TAU,
        };
        Array2::from_shape_fn((self.len, self.len), |(j, k)| {
            // Whole turns are taken off while the numbers are still exact.
            let angle = turn * ((j * k) % self.len) as f64 / self.len as f64;
            Complex::new(real(self.factor() * angle.cos()), real(self.factor() * angle.sin()))
        })
    }

    /// The FFT of every column; O(n log n) each.
    fn matmul(&self, x: ArrayView2<'_, Complex<R>>) -> Result<Array2<Complex<R>>> {
        check::operand("x", self.len, x)?;
        Ok(self.transform_columns(x, self.sign))
    }

    /// The FFT with the other sign and the same factor; O(n log n) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, Complex<R>>) -> Result<Array2<Complex<R>>> {
        check::operand("y", self.len, y)?;
        let opposite = match self.sign {
            Sign::Negative => Sign::Positive,
            Sign::Positive => Sign::Negative,
        };
        Ok(self.transform_columns(y, opposite))
    }

    fn vjp(
        &self,
        x: ArrayView2<'_, Complex<R>>,
        dy: ArrayView2<'_, Complex<R>>,
    ) -> Result<((), Array2<Complex<R>>)> {
        check::vjp_operands((self.len, self.len), x, dy)?;
        Ok(((), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, Complex<R>>) -> Result<()> {
        check::dense_cotangent((self.len, self.len), d_dense)
    }
}
