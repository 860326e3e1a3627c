//! No mask at all: every entry is one.

use ndarray::{Array2, ArrayView2, Axis};

use crate::error::Result;
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

/// The mask of unmasked attention, $`L_{ij} = 1`$.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllOnes {
    shape: (usize, usize),
}

impl AllOnes {
    /// The mask of this shape.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { shape: (rows, columns) }
    }
}

/// One row, the sum of the rows of `x`, `rows` times.
fn repeated_sum<E: Field>(x: ArrayView2<'_, E>, rows: usize) -> Array2<E> {
    let sum = x.sum_axis(Axis(0));
    let mut y = Array2::zeros((rows, x.ncols()));
    y.outer_iter_mut().for_each(|mut row| row.assign(&sum));
    y
}

impl<E: Field> StructuredMatrix<E> for AllOnes {
    type Gradient = ();

    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::ones(self.shape)
    }

    /// The sum of all rows, in every row; O(rows + columns) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.shape.1, x)?;
        Ok(repeated_sum(x, self.shape.0))
    }

    /// The sum of all rows, in every row; O(rows + columns) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.shape.0, y)?;
        Ok(repeated_sum(y, self.shape.1))
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<((), Array2<E>)> {
        check::vjp_operands(self.shape, x, dy)?;
        Ok(((), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<()> {
        check::dense_cotangent(self.shape, d_dense)
    }
}
