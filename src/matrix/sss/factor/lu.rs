//! `M = L U` without pivoting between steps.

use ndarray::{Array2, ArrayView2};

use super::super::recurrent::standard;
use super::super::{Blocks, Quasiseparable, Sss, Upper};
use super::refactor::{check_kept, check_sizes};
use super::scratch::{set_product, turn};
use super::substitution::{solve_lower, solve_reverse};
use super::uniform::Pivots;
use super::{LogDeterminant, below, check_square, growth, inverse, largest, singular};
use crate::error::Result;
use crate::linalg::{add_flat_product, adjoint, flat_rows, solve_right};
use crate::matrix::check;
use crate::matrix::sss::kernels::{Apply, view};
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
        check_square(self.lower())?;
        Lu::allocate(self).fill(self, self.diagonal_blocks())
    }
}

/// What a step of the elimination makes of the generators and P, in memory that the next step uses again.
pub(super) struct Step<E> {
    pub(super) p: Vec<E>,
    pub(super) pf: Vec<E>, // P F
    pub(super) cp: Vec<E>, // C P
    d: Vec<E>,             // D - C P F
    g: Vec<E>,             // B - A P F
    reader: Vec<E>,        // (G - C P E)ᴴ
    turned: Vec<E>,
    moved: Vec<E>,
}

impl<E: Field> Step<E> {
    pub(super) fn new(m: &Quasiseparable<E>) -> Self {
        let [pf, cp, d, g, reader, turned, moved] = [const { Vec::new() }; 7];
        let p = vec![E::zero(); m.lower().order_at(0) * m.upper().order_at(0)];
        Self { p, pf, cp, d, g, reader, turned, moved }
    }

    pub(super) fn d<'a>(&'a self, m: &Quasiseparable<E>, k: usize) -> ArrayView2<'a, E> {
        view_of(&self.d, m.lower().d(k))
    }

    pub(super) fn g<'a>(&'a self, m: &Quasiseparable<E>, k: usize) -> ArrayView2<'a, E> {
        view_of(&self.g, m.lower().b(k))
    }

    /// `G - C P E`
    pub(super) fn reader(&self, m: &Quasiseparable<E>, k: usize) -> Array2<E> {
        adjoint(view_of(&self.reader, m.upper().b(k)))
    }

    /// All but P, from P; `diagonal` stands for the blocks on the diagonal of m.
    pub(super) fn eliminate(&mut self, m: &Quasiseparable<E>, diagonal: &Blocks<E>, k: usize) {
        let (l, v) = (m.lower(), m.upper());
        let (states, others, size) = (l.order_at(k), v.order_at(k), l.inputs(k));
        turn(v.c.values(k), others, &mut self.turned);
        set_product(&mut self.pf, &self.p, &self.turned, (others, size), states);
        set_product(&mut self.cp, l.c.values(k), &self.p, (states, others), size);
        set_product(&mut self.d, l.c.values(k), &self.pf, (states, size), size);
        l.transition.apply(Apply::Plain, k, &self.pf, size, l.order_at(k + 1), &mut self.g);
        turn(&self.cp, others, &mut self.turned);
        v.transition.apply(Apply::Plain, k, &self.turned, size, v.order_at(k + 1), &mut self.reader);
        for (new, old) in [(&mut self.d, diagonal), (&mut self.g, &l.b), (&mut self.reader, &v.b)] {
            new.iter_mut().zip(old.values(k)).for_each(|(new, old)| *new = *old - *new);
        }
    }

    /// P after the step, `A P E + B~ G~`.
    pub(super) fn advance(&mut self, m: &Quasiseparable<E>, k: usize, gain: &[E]) {
        let (l, v) = (m.lower(), m.upper());
        let (states, others, size) = (l.order_at(k + 1), v.order_at(k + 1), l.inputs(k));
        l.transition.apply(Apply::Plain, k, &self.p, v.order_at(k), states, &mut self.moved);
        turn(&self.moved, v.order_at(k), &mut self.turned);
        v.transition.apply(Apply::Plain, k, &self.turned, states, others, &mut self.moved);
        turn(&self.moved, states, &mut self.p);
        turn(&self.reader, size, &mut self.turned);
        add_flat_product(&mut self.p, gain, &self.turned, (size, others));
    }
}

/// Numbers as a matrix of the shape of another.
fn view_of<'a, E>(values: &'a [E], like: ArrayView2<'_, E>) -> ArrayView2<'a, E> {
    view(values, like.nrows(), like.ncols())
}

impl<E: Field> Lu<E> {
    /// Memory for the factors of m, with identities on the diagonal of L.
    fn allocate(m: &Quasiseparable<E>) -> Self {
        let zeros = |blocks: &Blocks<E>| blocks.map(|_| E::zero());
        let from = |m: &Sss<E>, d| Sss::from_parts(m.transition.clone(), zeros(&m.b), m.c.clone(), d);
        let mut ones = zeros(m.diagonal_blocks());
        (0..ones.len()).for_each(|k| ones.block_mut(k).diag_mut().fill(E::one()));
        Self { lower: from(m.lower(), ones), upper: from(m.upper(), zeros(&m.upper().d)), growth: 1.0 }
    }

    /// The factors of m with another diagonal in place of its own, in this memory.
    fn fill(mut self, m: &Quasiseparable<E>, diagonal: &Blocks<E>) -> Result<Self> {
        let (l, v) = (m.lower(), m.upper());
        let (mut before, mut after) = (0.0, 0.0);
        let mut step = Step::new(m);
        for k in 0..l.len() {
            step.eliminate(m, diagonal, k);
            let (d, g, reader) = (step.d(m, k), step.g(m, k), view_of(&step.reader, v.b(k)));
            let entries = [largest(diagonal.block(k)), below(l, k, l.b(k)), below(v, k, v.b(k))];
            before = entries.into_iter().fold(before, larger);
            let entries = [largest(d), below(l, k, g), below(v, k, reader)];
            after = entries.into_iter().fold(after, larger);
            let gain = solve_right(g, d).ok_or_else(|| singular(d, k))?;
            self.lower.b.block_mut(k).assign(&gain);
            self.upper.b.block_mut(k).assign(&reader);
            self.upper.d.block_mut(k).assign(&adjoint(d));
            step.advance(m, k, &flat_rows(gain.view()));
        }
        self.growth = growth(before, after);
        Ok(self)
    }

    /// The factors of the same matrix with another diagonal, in the memory of these.
    ///
    /// # Shapes
    /// `m`: the matrix that was factored, or one of the same shapes, transitions and C, F; `diagonal`: blocks as in its own.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if shapes differ, [`Error::Value`](crate::Error::Value) if a transition, C
    /// or F does, [`Error::Singular`](crate::Error::Singular) naming the step of a singular pivot.
    pub fn refactor(self, m: &Quasiseparable<E>, diagonal: &Blocks<E>) -> Result<Self> {
        check_kept(m.lower(), &self.lower, ("a", "c"))?;
        check_kept(m.upper(), &self.upper, ("e", "f"))?;
        check_sizes("diagonal", diagonal, &self.lower)?;
        self.fill(m, diagonal)
    }

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

    /// The inverse by its generators, of the same orders, with dense transitions. [`Quasiseparable::inverse`] is that of
    /// matrices without these factors.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::solve`].
    pub fn inverse(&self) -> Result<Quasiseparable<E>> {
        inverse::two_sided(&self.lower, &self.upper)
    }
}
