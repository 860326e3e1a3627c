//! Any mask, by all its entries.

use ndarray::{Array2, ArrayView2};

use crate::error::Result;
use crate::linalg;
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

/// A matrix without structure, $`L_{ij}`$ as given.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense<E> {
    entries: Array2<E>,
}

impl<E: Field> Dense<E> {
    /// The matrix of these entries. `entries`: (rows, columns).
    pub fn new(entries: Array2<E>) -> Self {
        Self { entries }
    }

    /// The entries. Shape (rows, columns).
    pub fn entries(&self) -> &Array2<E> {
        &self.entries
    }
}

impl<E: Field> StructuredMatrix<E> for Dense<E> {
    /// The cotangent of every entry. Shape (rows, columns).
    type Gradient = Array2<E>;

    fn shape(&self) -> (usize, usize) {
        self.entries.dim()
    }

    fn to_dense(&self) -> Array2<E> {
        self.entries.clone()
    }

    /// The dense product; O(rows columns) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.entries.ncols(), x)?;
        Ok(linalg::matmul(self.entries.view(), x))
    }

    /// The dense product with the adjoint; O(rows columns) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.entries.nrows(), y)?;
        Ok(linalg::matmul(self.entries.mapv(E::conj).t(), y))
    }

    /// $`\mathrm{d}L = \mathrm{d}y\, x^H`$
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Array2<E>, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        Ok((linalg::matmul(dy, x.mapv(E::conj).t()), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::dense_cotangent(self.shape(), d_dense)?;
        Ok(d_dense.to_owned())
    }
}
