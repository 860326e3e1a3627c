//! Hermitian matrices, for real numbers symmetric ones.

use ndarray::{Array2, ArrayView2};

use super::recurrent::{self, flat_mut, slice, standard};
use super::{Blocks, Quasiseparable, Sss, kernels, multiply};
use crate::error::{Error, Result};
use crate::matrix::{Cotangent, MainDiagonal, StructuredMatrix, check};
use crate::scalar::Field;

/// A Hermitian matrix by its lower part.
///
/// ```math
/// M = \mathrm{tril}(L, -1) + D + \mathrm{tril}(L, -1)^H, \qquad D_k = D_k^H
/// ```
///
/// # Example
/// ```
/// use ndarray::{Array2, array};
/// use semisep::matrix::StructuredMatrix;
/// use semisep::matrix::sss::{HermitianQuasiseparable, Sss, Transition};
///
/// let ones = Array2::ones((3, 1));
/// let lower = Sss::uniform(Transition::Scalar(array![0.0, 0.5, 0.5]), ones.clone(), ones, array![3.0, 3.0, 3.0])?;
/// let m = HermitianQuasiseparable::new(lower)?;
/// assert_eq!(m.to_dense(), array![[3.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 3.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HermitianQuasiseparable<E> {
    lower: Sss<E>,
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The matrix with this lower part and diagonal.
    ///
    /// # Errors
    /// [`Error::Shape`] if a diagonal block is not square, [`Error::Value`] if it is not Hermitian; both name the step.
    pub fn new(lower: Sss<E>) -> Result<Self> {
        for (k, d) in lower.d_blocks().iter().enumerate() {
            if !d.is_square() {
                let expected = format!("a square block at step {k}");
                return Err(Error::shape("d", expected, d.shape()));
            }
            if let Some(found) = other_than_hermitian(d) {
                let found = format!("{found} of step {k}");
                return Err(Error::Value { tensor: "d", expected: "Hermitian blocks", found });
            }
        }
        Ok(Self { lower })
    }

    /// The matrix of a lower part whose diagonal is known to be Hermitian.
    pub(crate) fn from_lower(lower: Sss<E>) -> Self {
        Self { lower }
    }

    /// Lower part and diagonal.
    pub fn lower(&self) -> &Sss<E> {
        &self.lower
    }

    /// Lower part and diagonal.
    pub fn into_lower(self) -> Sss<E> {
        self.lower
    }

    /// The same matrix with both parts by generators of their own.
    pub fn to_quasiseparable(&self) -> Quasiseparable<E> {
        Quasiseparable::new(self.lower.clone(), self.lower.clone()).expect("the diagonal blocks are square")
    }

    /// The diagonal blocks.
    pub fn diagonal_blocks(&self) -> &Blocks<E> {
        self.lower.d_blocks()
    }

    /// Number of steps, which is that of block rows and of block columns.
    pub fn len(&self) -> usize {
        self.lower.len()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.lower.is_empty()
    }

    /// Number of rows, and of columns.
    pub fn rows(&self) -> usize {
        self.lower.rows()
    }
}

impl<E: Field> StructuredMatrix<E> for HermitianQuasiseparable<E> {
    /// Cotangents of the generators of the lower part; those of diagonal blocks are Hermitian too.
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.rows())
    }

    fn to_dense(&self) -> Array2<E> {
        self.to_quasiseparable().to_dense()
    }

    /// One pass forward for the lower part and the diagonal, one backward for the upper part.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.rows(), x)?;
        let x = standard(x);
        let mut y = Array2::zeros(x.raw_dim());
        multiply::hermitian(self, (slice(&x), x.ncols()), flat_mut(&mut y));
        Ok(y)
    }

    /// The product itself: the matrix is its adjoint.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.rows(), y)?;
        self.matmul(y)
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        let dx = self.matmul(dy)?;
        let (x, dy) = (standard(x), standard(dy));
        let (x, dy, width) = (slice(&x), slice(&dy), x.ncols());
        let (mut lower, mut unused) = (self.lower.zeros_like(), Array2::zeros((self.rows(), width)));
        recurrent::vjp(
            &self.lower,
            MainDiagonal::Included,
            (x, dy, width),
            &mut lower,
            flat_mut(&mut unused),
        );
        recurrent::vjp(
            &self.lower,
            MainDiagonal::Excluded,
            (dy, x, width),
            &mut lower,
            flat_mut(&mut unused),
        );
        make_hermitian(&mut lower.d);
        Ok((Self { lower }, dx))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        check::dense_cotangent(self.shape(), d_dense)?;
        let mut lower = self.lower.zeros_like();
        recurrent::pull_back(&self.lower, MainDiagonal::Included, d_dense, &mut lower);
        let adjoint = d_dense.t().mapv(E::conj);
        recurrent::pull_back(&self.lower, MainDiagonal::Excluded, adjoint.view(), &mut lower);
        make_hermitian(&mut lower.d);
        Ok(Self { lower })
    }
}

/// The first entry of a square block that is not the conjugate of the one across the diagonal.
pub(super) fn other_than_hermitian<E: Field>(d: ArrayView2<'_, E>) -> Option<String> {
    let ((i, j), value) = d.indexed_iter().find(|&((i, j), v)| d[[j, i]].conj() != *v)?;
    Some(format!("{value} at ({i}, {j}) against {} at ({j}, {i})", d[[j, i]]))
}

/// Every block replaced by its Hermitian part.
pub(super) fn make_hermitian<E: Field>(d: &mut Blocks<E>) {
    let sizes: Vec<_> = (0..d.len()).map(|k| d.dims(k).0).collect();
    let mut all = d.unshared();
    sizes.into_iter().enumerate().for_each(|(k, size)| kernels::make_hermitian(all.values(k), size));
}

impl<E: Field> Cotangent for HermitianQuasiseparable<E> {
    fn accumulate(&mut self, other: &Self) {
        self.lower.accumulate(&other.lower);
    }
}
