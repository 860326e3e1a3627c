//! `T = Q R` of a lower matrix.

use ndarray::{Array2, ArrayView2, s};

use super::super::finite::check_finite;
use super::super::{Blocks, Sss, Transition};
use super::{LeastSquares, divides};
use crate::error::{Error, Result};
use crate::linalg::{above, beside, product, qr};
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

/// A lower matrix as the product of an isometric and a square lower matrix, `T = Q R` with `Qᴴ Q = I`.
///
/// R has the transitions and the inputs B of T (it is the outer factor), Q orders of at most those of T.
#[derive(Debug, Clone, PartialEq)]
pub struct LowerQr<E> {
    q: Sss<E>,
    r: Sss<E>,
}

impl<E: Field> Sss<E> {
    /// The factors Q and R by one sweep from the end: with Y empty at first,
    ///
    /// ```math
    /// \begin{pmatrix} Y_{k+1} A_k & Y_{k+1} B_k \\ C_k & D_k \end{pmatrix} =
    /// \begin{pmatrix} A^Q_k & B^Q_k \\ C^Q_k & D^Q_k \end{pmatrix}
    /// \begin{pmatrix} Y_k & 0 \\ C'_k & D'_k \end{pmatrix}
    /// ```
    ///
    /// with orthonormal columns on the right-hand side; R = (A, B, C', D').
    ///
    /// # Errors
    /// [`Error::Singular`] naming a step before which the columns are linearly dependent: the matrix has too few rows;
    /// [`Error::Value`] if a generator is not finite.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let t = Sss::uniform(Transition::Identity, ones.clone(), ones, array![0.1, 0.2, 0.3])?;
    /// let qr = t.qr()?;
    /// let (q, r) = (qr.q().to_dense(), qr.r().to_dense());
    /// assert!((q.dot(&r) - t.to_dense()).iter().all(|v: &f64| v.abs() < 1e-15));
    /// assert!((q.t().dot(&q) - Array2::<f64>::eye(3)).iter().all(|v| v.abs() < 1e-15));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn qr(&self) -> Result<LowerQr<E>> {
        check_finite(self)?;
        let n = self.len();
        let mut y = Array2::zeros((0, self.order_at(n)));
        let mut stages: Vec<Stage<E>> = Vec::with_capacity(n);
        for k in (0..n).rev() {
            let stage = Stage::new(self, k, y.view())?;
            y = stage.next.clone();
            stages.push(stage);
        }
        stages.reverse();
        let part = |f: fn(&Stage<E>) -> ArrayView2<'_, E>| {
            Blocks::from_arrays(stages.iter().map(|s| f(s).to_owned()))
        };
        let (c, d) = (part(|s| s.c.view()), part(|s| s.d.view()));
        let r = Sss::from_parts(self.transition.clone(), self.b.clone(), c, d);
        let a = part(|s| s.q.slice(s![..s.after, ..s.before]));
        let b = part(|s| s.q.slice(s![..s.after, s.before..]));
        let c = part(|s| s.q.slice(s![s.after.., ..s.before]));
        let d = part(|s| s.q.slice(s![s.after.., s.before..]));
        Ok(LowerQr { q: Sss::from_parts(Transition::Dense(a), b, c, d), r })
    }
}

/// What the sweep makes of one step.
struct Stage<E> {
    q: Array2<E>,
    after: usize,  // order of Q behind the step
    before: usize, // and before it
    next: Array2<E>,
    c: Array2<E>,
    d: Array2<E>,
}

impl<E: Field> Stage<E> {
    fn new(m: &Sss<E>, k: usize, y: ArrayView2<'_, E>) -> Result<Self> {
        let (outputs, inputs, order) = (m.outputs(k), m.inputs(k), m.order_at(k));
        // The first state is zero: what it would bring is no row of the matrix.
        let states = if k == 0 { 0 } else { order };
        let a = m.a(k);
        let left = above(product(y, a.slice(s![.., ..states])).view(), m.c(k).slice(s![.., ..states]));
        let right = above(product(y, m.b(k)).view(), m.d(k));
        let x = beside(left.view(), right.view());
        let rank = x.nrows().min(x.ncols());
        if rank < inputs {
            let found = format!("{rank} rows for {inputs} columns");
            return Err(Error::Singular { step: k, found });
        }
        // A factorisation with the columns in reverse is one with the zeros at the top right.
        let (q, l) = qr(x.slice(s![.., ..;-1]));
        let (q, l) = (q.slice(s![.., ..;-1]).to_owned(), l.slice(s![..;-1, ..;-1]).to_owned());
        let before = rank - inputs;
        let mut c = Array2::zeros((inputs, order));
        c.slice_mut(s![.., ..states]).assign(&l.slice(s![before.., ..states]));
        let next = l.slice(s![..before, ..states]).to_owned();
        debug_assert_eq!(q.nrows(), y.nrows() + outputs);
        Ok(Self { q, after: y.nrows(), before, next, c, d: l.slice(s![before.., states..]).to_owned() })
    }
}

impl<E: Field> LowerQr<E> {
    /// The isometric factor.
    pub fn q(&self) -> &Sss<E> {
        &self.q
    }

    /// The square factor; its diagonal blocks are lower triangular.
    pub fn r(&self) -> &Sss<E> {
        &self.r
    }

    /// The x of least `‖T x - b‖` for each column of b, which for a square T solves `T x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width).
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows, [`Error::Singular`] if a diagonal block of R is singular.
    pub fn least_squares(&self, b: ArrayView2<'_, E>) -> Result<LeastSquares<E>> {
        check::operand("b", self.q.rows(), b)?;
        for (k, d) in self.r.d.iter().enumerate() {
            if d.diag().iter().any(|v| !divides(*v)) {
                return Err(super::singular(d, k));
            }
        }
        let projected = self.q.adjoint_matmul(b)?;
        let rest = &b - &self.q.matmul(projected.view())?;
        let residuals = rest.columns().into_iter().map(super::two_sided_qr::norm).collect();
        Ok(LeastSquares { x: self.r.solve(projected.view())?, residuals })
    }
}
