//! The causal mask: lower triangular ones.

use ndarray::{Array2, ArrayView2, Axis};

use crate::error::Result;
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

/// The mask of causal linear attention, $`L_{ij} = 1`$ for i ≥ j and 0 above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Causal {
    len: usize,
}

impl Causal {
    /// The mask of this length.
    pub fn new(len: usize) -> Self {
        Self { len }
    }
}

impl<E: Field> StructuredMatrix<E> for Causal {
    type Gradient = ();

    fn shape(&self) -> (usize, usize) {
        (self.len, self.len)
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::from_shape_fn((self.len, self.len), |(i, j)| if i >= j { E::one() } else { E::zero() })
    }

    /// The cumulative sum of the rows; O(len) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.len, x)?;
        let mut y = x.to_owned();
        y.accumulate_axis_inplace(Axis(0), |&before, row| *row += before);
        Ok(y)
    }

    /// The cumulative sum of the rows from the last one; O(len) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.len, y)?;
        let mut x = y.to_owned();
        let mut backwards = x.view_mut();
        backwards.invert_axis(Axis(0));
        backwards.accumulate_axis_inplace(Axis(0), |&after, row| *row += after);
        Ok(x)
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<((), Array2<E>)> {
        check::vjp_operands((self.len, self.len), x, dy)?;
        Ok(((), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<()> {
        check::dense_cotangent((self.len, self.len), d_dense)
    }
}
