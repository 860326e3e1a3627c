//! Lower bidiagonal matrices: the inverses of 1-semiseparable ones.

use ndarray::{Array1, Array2, ArrayView2};

use super::{StructuredMatrix, check};
use crate::error::{Result, check_shape};
use crate::scalar::Field;

/// A lower bidiagonal matrix.
///
/// ```math
/// M_{tt} = d_t, \qquad M_{t,t-1} = l_t, \qquad M_{ij} = 0 \text{ elsewhere}
/// ```
///
/// `lower[0]` stands for no entry; it is kept so that both vectors are indexed by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Bidiagonal<E> {
    diagonal: Array1<E>,
    lower: Array1<E>,
}

impl<E: Field> Bidiagonal<E> {
    /// The matrix with this diagonal and these entries below it.
    ///
    /// # Shapes
    /// `diagonal`, `lower`: (len).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the lengths differ.
    pub fn new(diagonal: Array1<E>, lower: Array1<E>) -> Result<Self> {
        check_shape("lower", "(len)", diagonal.shape(), lower.shape())?;
        Ok(Self { diagonal, lower })
    }

    /// The entries $`d_t`$ of the diagonal. Shape (len).
    pub fn diagonal(&self) -> &Array1<E> {
        &self.diagonal
    }

    /// The entries $`l_t`$ below the diagonal, by row. Shape (len).
    pub fn lower(&self) -> &Array1<E> {
        &self.lower
    }
}

impl<E: Field> StructuredMatrix<E> for Bidiagonal<E> {
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.diagonal.len(), self.diagonal.len())
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::from_shape_fn(self.shape(), |(i, j)| match i.checked_sub(j) {
            Some(0) => self.diagonal[i],
            Some(1) => self.lower[i],
            _ => E::zero(),
        })
    }

    /// $`y_t = d_t x_t + l_t x_{t-1}`$; O(len) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.diagonal.len(), x)?;
        let mut y = Array2::zeros(x.dim());
        for (t, mut row) in y.outer_iter_mut().enumerate() {
            row.scaled_add(self.diagonal[t], &x.row(t));
            if t > 0 {
                row.scaled_add(self.lower[t], &x.row(t - 1));
            }
        }
        Ok(y)
    }

    /// $`x_t = \bar d_t y_t + \bar l_{t+1} y_{t+1}`$; O(len) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        let len = self.diagonal.len();
        check::operand("y", len, y)?;
        let mut x = Array2::zeros(y.dim());
        for (t, mut row) in x.outer_iter_mut().enumerate() {
            row.scaled_add(self.diagonal[t].conj(), &y.row(t));
            if t + 1 < len {
                row.scaled_add(self.lower[t + 1].conj(), &y.row(t + 1));
            }
        }
        Ok(x)
    }

    /// $`\mathrm{d}d_t = \langle x_t, \mathrm{d}y_t \rangle`$ and $`\mathrm{d}l_t = \langle x_{t-1}, \mathrm{d}y_t \rangle`$.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        let inner =
            |s: usize, t: usize| x.row(s).iter().zip(dy.row(t)).map(|(&x, &dy)| x.conj() * dy).sum::<E>();
        let len = self.diagonal.len();
        let gradient = Self {
            diagonal: Array1::from_shape_fn(len, |t| inner(t, t)),
            lower: Array1::from_shape_fn(len, |t| if t == 0 { E::zero() } else { inner(t - 1, t) }),
        };
        Ok((gradient, self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        check::dense_cotangent(self.shape(), d_dense)?;
        let len = self.diagonal.len();
        Ok(Self {
            diagonal: d_dense.diag().to_owned(),
            lower: Array1::from_shape_fn(len, |t| if t == 0 { E::zero() } else { d_dense[[t, t - 1]] }),
        })
    }
}
