//! Block upper triangular matrices: adjoints of lower ones.

use std::borrow::Borrow;

use ndarray::{Array2, ArrayView2};

use super::Sss;
use crate::error::Result;
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// The adjoint of a lower matrix, which it owns or borrows: no copy is made.
///
/// ```math
/// z_{k-1} = E_k z_k + F_k u_k, \quad y_k = G_k z_k + D_k^H u_k, \qquad E_k = A_k^H, \quad F_k = C_k^H, \quad G_k = B_k^H
/// ```
///
/// # Example
/// ```
/// use ndarray::{Array2, array};
/// use semisep::matrix::StructuredMatrix;
/// use semisep::matrix::sss::{Sss, Transition, Upper};
///
/// let ones = Array2::ones((3, 1));
/// let lower = Sss::uniform(Transition::Identity, ones.clone(), ones, array![5.0, 6.0, 7.0])?;
/// assert_eq!(Upper(&lower).to_dense(), array![[5.0, 1.0, 1.0], [0.0, 6.0, 1.0], [0.0, 0.0, 7.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upper<S>(pub S);

impl<S> Upper<S> {
    /// The lower matrix whose adjoint this is.
    pub fn lower<E>(&self) -> &Sss<E>
    where
        S: Borrow<Sss<E>>,
    {
        self.0.borrow()
    }

    /// Number of rows: that of columns of the lower matrix.
    pub fn rows<E: Field>(&self) -> usize
    where
        S: Borrow<Sss<E>>,
    {
        self.lower().columns()
    }

    /// Number of columns: that of rows of the lower matrix.
    pub fn columns<E: Field>(&self) -> usize
    where
        S: Borrow<Sss<E>>,
    {
        self.lower().rows()
    }
}

impl<E: Field, S: Borrow<Sss<E>>> StructuredMatrix<E> for Upper<S> {
    /// Cotangents of the generators of the lower matrix.
    type Gradient = Sss<E>;

    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.columns())
    }

    fn to_dense(&self) -> Array2<E> {
        self.lower().to_dense().t().mapv(E::conj)
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        super::super::check::operand("x", self.columns(), x)?;
        self.lower().adjoint_matmul(x)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        super::super::check::operand("y", self.rows(), y)?;
        self.lower().matmul(y)
    }

    /// The cotangent of the adjoint is the adjoint of the cotangent, so x and dy change places.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Sss<E>, Array2<E>)> {
        super::super::check::vjp_operands(self.shape(), x, dy)?;
        let (grad, _) = self.lower().vjp(dy, x)?;
        Ok((grad, self.lower().matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Sss<E>> {
        super::super::check::dense_cotangent(self.shape(), d_dense)?;
        self.lower().pull_back(d_dense.t().mapv(E::conj).view())
    }
}
