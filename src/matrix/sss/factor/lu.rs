//! `M = L U` without pivoting between steps.

use ndarray::{Array2, ArrayView2};

use super::super::recurrent::standard;
use super::super::{Blocks, Quasiseparable, Sss, Upper};
use super::substitution::{solve_lower, solve_reverse};
use super::uniform::Pivots;
use super::{LogDeterminant, below, check_square, growth, inverse, largest, singular, times_adjoint_a};
use crate::error::Result;
use crate::linalg::{adjoint, product, solve_right};
use crate::matrix::check;
use crate::matrix::sss::kernels::Apply;
use crate::scalar::{Field, larger};

/// The factors of a two-sided matrix: L unit block lower triangular, U block upper triangular, of the same orders.
///
/// ```math
/// M = L U, \qquad L = (A, \tilde B, C, I), \quad U = (E, F, \tilde G, \tilde D)
/// ```
///
/// They exist if all leading block minors are nonsingular, and are accurate for positive definite, diagonally dominant
/// and M-matrices. For others look at [`growth`](Self::growth) or take [`Quasiseparable::qr`], which is always accurate.
#[derive(Debug, Clone, PartialEq)]
pub struct Lu<E> {
    lower: Sss<E>,
    upper: Sss<E>, // its adjoint is U
    growth: f64,
}

impl<E: Field> Quasiseparable<E> {
    /// The factors without pivoting between steps; inside a diagonal block rows are pivoted.
    ///
    /// ```math
    /// \begin{aligned}
    /// \tilde D_k &= D_k - C_k P_k F_k, & \tilde B_k &= (B_k - A_k P_k F_k) \tilde D_k^{-1}, \\
    /// \tilde G_k &= G_k - C_k P_k E_k, & P_{k+1} &= A_k P_k E_k + \tilde B_k \tilde G_k, \qquad P_0 = 0
    /// \end{aligned}
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a diagonal block is not square,
    /// [`Error::Singular`](crate::Error::Singular) naming the step of a singular pivot.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{Quasiseparable, Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let part = Sss::uniform(Transition::Identity, ones.clone(), ones, array![4.0, 5.0, 6.0])?;
    /// let m = Quasiseparable::new(part.clone(), part)?;
    /// let b = array![[1.0], [2.0], [3.0]];
    /// let lu = m.lu()?;
    /// let x = lu.solve(b.view())?;
    /// assert!((m.matmul(x.view())? - b).iter().all(|r: &f64| r.abs() < 1e-14));
    /// assert_eq!(lu.growth(), 1.0);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn lu(&self) -> Result<Lu<E>> {
        let (l, v) = (self.lower(), self.upper());
        check_square(l)?;
        let mut p = Array2::zeros((l.order_at(0), v.order_at(0)));
        let (mut gains, mut readers) = (Vec::with_capacity(l.len()), Vec::with_capacity(l.len()));
        let (mut pivots, mut ones) = (Vec::with_capacity(l.len()), Vec::with_capacity(l.len()));
        let (mut before, mut after) = (0.0, 0.0);
        for k in 0..l.len() {
            let step = Step::new(self, k, p.view());
            let entries = [largest(l.d(k)), below(l, k, l.b(k)), below(v, k, v.b(k))];
            before = entries.into_iter().fold(before, larger);
            let reader = adjoint(step.reader.view());
            let entries = [largest(&step.d), below(l, k, step.g.view()), below(v, k, reader.view())];
            after = entries.into_iter().fold(after, larger);
            let gain = solve_right(step.g.view(), step.d.view()).ok_or_else(|| singular(step.d.view(), k))?;
            p = step.next(self, k, p.view(), gain.view());
            gains.push(gain);
            readers.push(reader);
            ones.push(Array2::eye(step.d.nrows()));
            pivots.push(adjoint(step.d.view()));
        }
        let from = |m: &Sss<E>, b: Vec<_>, d: Vec<_>| {
            Sss::from_parts(m.transition.clone(), Blocks::from_arrays(b), m.c.clone(), Blocks::from_arrays(d))
        };
        Ok(Lu { lower: from(l, gains, ones), upper: from(v, readers, pivots), growth: growth(before, after) })
    }
}

/// What a step of the elimination makes of the generators, from the P before it.
pub(super) struct Step<E> {
    pub(super) d: Array2<E>,      // D - C P F
    pub(super) g: Array2<E>,      // B - A P F
    pub(super) reader: Array2<E>, // G - C P E
    pub(super) pf: Array2<E>,     // P F
    pub(super) cp: Array2<E>,     // C P
}

impl<E: Field> Step<E> {
    pub(super) fn new(m: &Quasiseparable<E>, k: usize, p: ArrayView2<'_, E>) -> Self {
        let (l, v) = (m.lower(), m.upper());
        let pf = product(p, adjoint(v.c(k)).view());
        let cp = product(l.c(k), p);
        Self {
            d: &l.d(k) - &product(l.c(k), pf.view()),
            g: &l.b(k) - &l.apply_a(k, pf.view()),
            reader: adjoint(v.b(k)) - times_adjoint_a(v, k, cp.view()),
            pf,
            cp,
        }
    }

    /// P after the step, `A P E + B~ G~`.
    pub(super) fn next(
        &self,
        m: &Quasiseparable<E>,
        k: usize,
        p: ArrayView2<'_, E>,
        gain: ArrayView2<'_, E>,
    ) -> Array2<E> {
        let moved = times_adjoint_a(m.upper(), k, m.lower().apply_a(k, p).view());
        moved + product(gain, self.reader.view())
    }
}

impl<E: Field> Lu<E> {
    /// The factor L, with identities on its diagonal.
    pub fn lower(&self) -> &Sss<E> {
        &self.lower
    }

    /// The factor U, with the pivots on its diagonal.
    pub fn upper(&self) -> Upper<&Sss<E>> {
        Upper(&self.upper)
    }

    /// How much larger the entries met in the elimination became than those of the matrix, at least 1.
    ///
    /// The entries compared are those of the diagonal blocks and of the blocks beside them, in the matrix and in its
    /// Schur complements. The backward error of a solution is about this number times the rounding unit: 1e8 in double precision means
    /// that half of the digits are gone, however well conditioned the matrix is.
    pub fn growth(&self) -> f64 {
        self.growth
    }

    /// The solution of `M x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width); result: the same.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `b` has another number of rows.
    pub fn solve(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("b", self.lower.rows(), b)?;
        let mut x = standard(b).into_owned();
        solve_lower(&self.lower, Pivots::Unit, &mut x)?;
        solve_reverse(&self.upper, Apply::Adjoint, Pivots::Stored, &mut x)?;
        Ok(x)
    }

    /// The solution of `Mᴴ x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width); result: the same.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `b` has another number of rows.
    pub fn solve_adjoint(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("b", self.lower.rows(), b)?;
        let mut x = standard(b).into_owned();
        solve_lower(&self.upper, Pivots::Stored, &mut x)?;
        solve_reverse(&self.lower, Apply::Adjoint, Pivots::Unit, &mut x)?;
        Ok(x)
    }

    /// The determinant of M, the product of those of the pivots.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::log_determinant`].
    pub fn log_determinant(&self) -> Result<LogDeterminant<E>> {
        self.upper().log_determinant()
    }

    /// The inverse by its generators, of the same orders, with dense transitions.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::solve`].
    pub fn inverse(&self) -> Result<Quasiseparable<E>> {
        inverse::two_sided(&self.lower, &self.upper)
    }
}
