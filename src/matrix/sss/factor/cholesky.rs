//! The Cholesky factor of a positive definite matrix.

use ndarray::{Array2, ArrayView2};
use num_traits::Zero;

use super::super::{Blocks, HermitianQuasiseparable, Sss};
use super::ldl::Demand;
use super::{Ldl, log_of_product};
use crate::error::{Error, Result};
use crate::linalg::{cholesky, product};
use crate::scalar::Field;

/// The factor of a positive definite matrix: `M = L Lᴴ`, L of the same orders.
///
/// It is held as [`Ldl`] with positive pivots, which is what the solutions are made from; [`lower`](Self::lower) gives
/// L itself. For a covariance that is nearly singular see [`StateSpaceRoots::cholesky`](super::StateSpaceRoots::cholesky).
#[derive(Debug, Clone, PartialEq)]
pub struct Cholesky<E> {
    ldl: Ldl<E>,
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The Cholesky factor, by the elimination of [`ldl`](Self::ldl) with pivots that must be positive.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`] naming the first step whose pivot is not positive, and the pivot.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{HermitianQuasiseparable, Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let lower = Sss::uniform(Transition::Identity, ones.clone(), ones, array![4.0, 5.0, 6.0])?;
    /// let m = HermitianQuasiseparable::new(lower)?;
    /// let l = m.cholesky()?.lower().to_dense();
    /// assert!((l.dot(&l.t()) - m.to_dense()).iter().all(|r: &f64| r.abs() < 1e-14));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn cholesky(&self) -> Result<Cholesky<E>> {
        let ldl = Ldl::allocate(self).fill(self, self.diagonal_blocks(), Demand::Positive)?;
        Ok(Cholesky { ldl })
    }
}

impl<E: Field> Cholesky<E> {
    /// The factor whose pivots are known to be positive definite.
    pub(super) fn from_ldl(ldl: Ldl<E>) -> Self {
        Self { ldl }
    }

    /// The factor of the same matrix with another diagonal, in the memory of this one.
    ///
    /// # Shapes
    /// As [`Ldl::refactor`].
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Value`] as there; [`Error::NotPositiveDefinite`] naming step and pivot.
    pub fn refactor(self, m: &HermitianQuasiseparable<E>, diagonal: &Blocks<E>) -> Result<Self> {
        self.ldl.check_refactor(m, diagonal)?;
        Ok(Self { ldl: self.ldl.fill(m, diagonal, Demand::Positive)? })
    }

    /// The same factorisation as `L D Lᴴ`, with its solutions, inverse and pivots.
    pub fn ldl(&self) -> &Ldl<E> {
        &self.ldl
    }

    /// The factor L, lower triangular with a positive diagonal.
    pub fn lower(&self) -> Sss<E> {
        let l = &self.ldl.factor;
        let roots: Vec<Array2<E>> =
            l.d.iter().map(|d| root(d, 0).expect("pivots are positive definite")).collect();
        let b = l.b.iter().zip(&roots).map(|(b, root)| product(b, root.view()));
        let b = Blocks::from_arrays(b);
        Sss::from_parts(l.transition.clone(), b, l.c.clone(), Blocks::from_arrays(roots))
    }

    /// The solution of `M x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width); result: the same.
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows.
    pub fn solve(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.ldl.solve(b)
    }

    /// Logarithm of the determinant of M, which is positive.
    pub fn log_determinant(&self) -> E::Real {
        let blocks = &self.ldl.factor.d;
        if blocks.uniform() == Some((1, 1)) {
            return log_of_product(blocks.flat());
        }
        self.ldl.log_determinant().map_or(E::Real::zero(), |d| d.log_modulus)
    }

    /// The inverse by its generators; see [`Ldl::inverse`].
    ///
    /// # Errors
    /// As there.
    pub fn inverse(&self) -> Result<HermitianQuasiseparable<E>> {
        self.ldl.inverse()
    }

    /// The diagonal blocks of the inverse; see [`Ldl::inverse_diagonal`].
    ///
    /// # Errors
    /// As there.
    pub fn inverse_diagonal(&self) -> Result<Blocks<E>> {
        self.ldl.inverse_diagonal()
    }
}

/// The lower Cholesky factor of a pivot.
pub(super) fn root<E: Field>(d: ArrayView2<'_, E>, step: usize) -> Result<Array2<E>> {
    cholesky(d).map_err(|pivot| Error::NotPositiveDefinite { step, pivot: pivot.to_string() })
}
