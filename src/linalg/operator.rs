//! Structured matrices as linear operators of `faer`, so that its matrix-free solvers work on them.

use std::fmt::Debug;

use faer::dyn_stack::{MemStack, StackReq};
use faer::matrix_free::{BiLinOp, LinOp};
use faer::traits::ComplexField;
use faer::{MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2};

use crate::error::{Result, check_shape};
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// A structured matrix as a linear operator of [`faer`]: conjugate gradients, LSMR and partial eigenvalues take it.
///
/// The traits come from `faer` 0.24, whose version is part of this type's interface.
///
/// # Panics
/// The traits have no errors. Where operands of another size are given to their methods directly, these panic, as those
/// of every operator of `faer` do; its solvers check sizes before, and panic too. What can be wrong about a matrix is
/// found by [`square`](Self::square), and products that return errors are [`StructuredMatrix::matmul`] and
/// [`StructuredMatrix::adjoint_matmul`].
///
/// # Example
/// ```
/// use faer::matrix_free::LinOp;
/// use ndarray::{Array2, array};
/// use semisep::matrix::{Operator, Sss, Transition};
///
/// let ones = Array2::ones((3, 1));
/// let m = Sss::uniform(Transition::Identity, ones.clone(), ones, array![1.0, 1.0, 1.0])?;
/// let operator = Operator::square(&m)?;
/// assert_eq!(LinOp::<f64>::nrows(&operator), 3);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug)]
pub struct Operator<'a, M>(pub &'a M);

// Not derived: a reference can be copied whatever it refers to.
impl<M> Clone for Operator<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Operator<'_, M> {}

impl<'a, M> Operator<'a, M> {
    /// The operator of a square matrix, as conjugate gradients and partial eigenvalues need it.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the matrix is not square.
    pub fn square<E: Field>(matrix: &'a M) -> Result<Self>
    where
        M: StructuredMatrix<E>,
    {
        let (rows, columns) = matrix.shape();
        check_shape("matrix", "(rows, rows)", &[rows, rows], &[rows, columns])?;
        Ok(Self(matrix))
    }

    /// `out = conj(f(conj(rhs)))`, or without the conjugations.
    fn apply<E: Field>(
        mut out: MatMut<'_, E>,
        rhs: MatRef<'_, E>,
        conjugate: Conjugate,
        f: impl FnOnce(ArrayView2<'_, E>) -> Result<Array2<E>>,
    ) {
        let of = |v: E| if conjugate == Conjugate::Yes { v.conj() } else { v };
        let rhs = Array2::from_shape_fn((rhs.nrows(), rhs.ncols()), |(i, j)| of(rhs[(i, j)]));
        let y = match f(rhs.view()) {
            Ok(y) => y,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(y.dim(), (out.nrows(), out.ncols()), "shape of the output");
        for ((i, j), v) in y.indexed_iter() {
            out[(i, j)] = of(*v);
        }
    }
}

/// Whether an operator is applied between conjugations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conjugate {
    Yes,
    No,
}

impl<E, M> LinOp<E> for Operator<'_, M>
where
    E: Field + ComplexField,
    M: StructuredMatrix<E> + Sync + Debug,
{
    fn apply_scratch(&self, _: usize, _: Par) -> StackReq {
        StackReq::EMPTY
    }

    fn nrows(&self) -> usize {
        self.0.shape().0
    }

    fn ncols(&self) -> usize {
        self.0.shape().1
    }

    fn apply(&self, out: MatMut<'_, E>, rhs: MatRef<'_, E>, _: Par, _: &mut MemStack) {
        Self::apply(out, rhs, Conjugate::No, |x| self.0.matmul(x));
    }

    fn conj_apply(&self, out: MatMut<'_, E>, rhs: MatRef<'_, E>, _: Par, _: &mut MemStack) {
        Self::apply(out, rhs, Conjugate::Yes, |x| self.0.matmul(x));
    }
}

impl<E, M> BiLinOp<E> for Operator<'_, M>
where
    E: Field + ComplexField,
    M: StructuredMatrix<E> + Sync + Debug,
{
    fn transpose_apply_scratch(&self, _: usize, _: Par) -> StackReq {
        StackReq::EMPTY
    }

    fn transpose_apply(&self, out: MatMut<'_, E>, rhs: MatRef<'_, E>, _: Par, _: &mut MemStack) {
        Self::apply(out, rhs, Conjugate::Yes, |y| self.0.adjoint_matmul(y));
    }

    fn adjoint_apply(&self, out: MatMut<'_, E>, rhs: MatRef<'_, E>, _: Par, _: &mut MemStack) {
        Self::apply(out, rhs, Conjugate::No, |y| self.0.adjoint_matmul(y));
    }
}
