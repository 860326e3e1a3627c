//! `M = L D Lᴴ` of a Hermitian matrix.

use ndarray::{Array2, ArrayView2};

use super::super::hermitian::other_than_hermitian;
use super::super::kernels::{Apply, hermitian_part};
use super::super::recurrent::standard;
use super::super::{Blocks, HermitianQuasiseparable, Sss};
use super::refactor::{check_kept, check_sizes};
use super::substitution::{divide, solve_lower, solve_reverse};
use super::uniform::{self, Pivots};
use super::{LogDeterminant, below, growth, inverse, largest, singular};
use crate::error::{Error, Result};
use crate::linalg::{adjoint, eigh, product, solve_right};
use crate::matrix::check;
use crate::scalar::{Field, larger};

/// The factors of a Hermitian matrix: L unit block lower triangular of the same orders, D the pivots.
///
/// ```math
/// M = L\, \mathrm{diag}(d)\, L^H, \qquad L = (A, \tilde B, C, I)
/// ```
///
/// They exist if all leading block minors are nonsingular. The elimination does not pivot between steps: for matrices
/// that are not definite look at [`growth`](Self::growth).
#[derive(Debug, Clone, PartialEq)]
pub struct Ldl<E> {
    pub(super) factor: Sss<E>, // A, B~, C and the pivots on the diagonal
    growth: f64,
}

/// How many eigenvalues of a Hermitian matrix are negative and how many positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inertia {
    /// Number of negative eigenvalues.
    pub negative: usize,
    /// Number of positive eigenvalues.
    pub positive: usize,
}

/// What is asked of a pivot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// That it can be divided by.
    Nonsingular,
    /// That it is positive definite.
    Positive,
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The factors L and D, in one pass.
    ///
    /// ```math
    /// d_k = D_k - C_k P_k C_k^H, \quad \tilde B_k = (B_k - A_k P_k C_k^H)\, d_k^{-1}, \quad
    /// P_{k+1} = A_k P_k A_k^H + \tilde B_k d_k \tilde B_k^H, \quad P_0 = 0
    /// ```
    ///
    /// # Errors
    /// [`Error::Singular`] naming step and pivot.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::sss::{HermitianQuasiseparable, Inertia, Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let lower = Sss::uniform(Transition::Identity, ones.clone(), ones, array![0.5, 0.5, 0.5])?;
    /// let ldl = HermitianQuasiseparable::new(lower)?.ldl()?; // eigenvalues -0.5, -0.5 and 2.5
    /// assert_eq!(ldl.inertia()?, Inertia { negative: 2, positive: 1 });
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn ldl(&self) -> Result<Ldl<E>> {
        Ldl::allocate(self).fill(self, self.diagonal_blocks(), Demand::Nonsingular)
    }
}

impl<E: Field> Ldl<E> {
    /// Memory for the factors of m.
    pub(super) fn allocate(m: &HermitianQuasiseparable<E>) -> Self {
        let l = m.lower();
        let zero = |blocks: &Blocks<E>| blocks.map(|_| E::zero());
        let factor = Sss::from_parts(l.transition.clone(), zero(&l.b), l.c.clone(), zero(&l.d));
        Self { factor, growth: 1.0 }
    }

    /// The factors of a positive definite matrix, found in another way.
    pub(super) fn from_positive_factor(factor: Sss<E>) -> Self {
        Self { factor, growth: 1.0 }
    }

    /// The factors of m with another diagonal in place of its own, in this memory.
    pub(super) fn fill(
        mut self,
        m: &HermitianQuasiseparable<E>,
        diagonal: &Blocks<E>,
        demand: Demand,
    ) -> Result<Self> {
        let l = m.lower();
        if !uniform::eliminate(l, diagonal, demand, &mut self.factor)? {
            eliminate(l, diagonal, demand, &mut self.factor)?;
        }
        self.growth = match demand {
            Demand::Nonsingular => self.growth_from(l, diagonal),
            Demand::Positive => 1.0,
        };
        Ok(self)
    }

    /// The factors of the same matrix with another diagonal, in the memory of these.
    ///
    /// # Shapes
    /// `m`: the matrix that was factored, or one of the same shapes, transition and C; `diagonal`: blocks as in its own.
    ///
    /// # Errors
    /// [`Error::Shape`] if shapes differ, [`Error::Value`] if transition or C do,
    /// [`Error::Singular`] naming step and pivot.
    pub fn refactor(self, m: &HermitianQuasiseparable<E>, diagonal: &Blocks<E>) -> Result<Self> {
        self.check_refactor(m, diagonal)?;
        self.fill(m, diagonal, Demand::Nonsingular)
    }

    pub(super) fn check_refactor(&self, m: &HermitianQuasiseparable<E>, diagonal: &Blocks<E>) -> Result<()> {
        check_kept(m.lower(), &self.factor, ("a", "c"))?;
        check_sizes("diagonal", diagonal, &self.factor)?;
        let other = if diagonal.uniform() == Some((1, 1)) {
            diagonal.flat().iter().position(|d| d.conj() != *d)
        } else {
            diagonal.iter().position(|d| other_than_hermitian(d).is_some())
        };
        match other {
            None => Ok(()),
            Some(k) => Err(Error::Value {
                tensor: "diagonal",
                expected: "Hermitian blocks",
                found: format!("another one at step {k}"),
            }),
        }
    }

    /// The factor L, with identities on its diagonal.
    pub fn lower(&self) -> Sss<E> {
        let ones = Blocks::from_arrays(self.factor.d.iter().map(|d| Array2::eye(d.nrows())));
        let l = &self.factor;
        Sss::from_parts(l.transition.clone(), l.b.clone(), l.c.clone(), ones)
    }

    /// The pivots $`d_k`$, Hermitian blocks.
    pub fn pivots(&self) -> &Blocks<E> {
        &self.factor.d
    }

    /// Number of rows, and of columns.
    pub fn rows(&self) -> usize {
        self.factor.rows()
    }

    /// How much larger the entries met in the elimination became than those of the matrix, at least 1.
    ///
    /// The entries compared are those of the diagonal blocks and of the blocks below them, in the matrix and in its
    /// Schur complements. The backward error of a solution is about this number times the rounding unit. It is 1 for
    /// positive definite matrices, where it is not computed.
    pub fn growth(&self) -> f64 {
        self.growth
    }

    fn growth_from(&self, l: &Sss<E>, diagonal: &Blocks<E>) -> f64 {
        let factor = &self.factor;
        let before = (0..l.len()).map(|k| larger(largest(diagonal.block(k)), below(l, k, l.b(k))));
        let after = (0..l.len()).map(|k| {
            let undivided = product(factor.b(k), factor.d(k));
            larger(largest(factor.d(k)), below(l, k, undivided.view()))
        });
        growth(before.fold(0.0, larger), after.fold(0.0, larger))
    }

    /// The solution of `M x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width); result: the same.
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows.
    pub fn solve(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("b", self.rows(), b)?;
        let mut x = standard(b).into_owned();
        self.solve_in_place(&mut x)?;
        Ok(x)
    }

    /// `x ← M⁻¹ x`, in memory that is already there.
    ///
    /// # Shapes
    /// `x`: (rows, width), row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another number of rows.
    pub fn solve_in_place(&self, x: &mut Array2<E>) -> Result<()> {
        check::operand("x", self.rows(), x.view())?;
        if !x.is_standard_layout() {
            *x = x.as_standard_layout().into_owned();
        }
        solve_lower(&self.factor, Pivots::Unit, x)?;
        self.divide_by_pivots(x)?;
        solve_reverse(&self.factor, Apply::Adjoint, Pivots::Unit, x)
    }

    fn divide_by_pivots(&self, x: &mut Array2<E>) -> Result<()> {
        if uniform::divide_by_pivots(&self.factor, x) {
            return Ok(());
        }
        let mut start = 0;
        for k in 0..self.factor.len() {
            let end = start + self.factor.outputs(k);
            divide(&self.factor, Apply::Plain, k, &mut x.slice_mut(ndarray::s![start..end, ..]))?;
            start = end;
        }
        Ok(())
    }

    /// The determinant of M, the product of those of the pivots.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::log_determinant`].
    pub fn log_determinant(&self) -> Result<LogDeterminant<E>> {
        LogDeterminant::of_blocks(&self.factor.d)
    }

    /// Numbers of negative and positive eigenvalues of M, which are those of the pivots (Sylvester).
    ///
    /// # Errors
    /// [`Error::Value`] if the eigenvalues of a pivot cannot be computed.
    pub fn inertia(&self) -> Result<Inertia> {
        let mut inertia = Inertia { negative: 0, positive: 0 };
        for (k, d) in self.factor.d.iter().enumerate() {
            let values = eigh(d).ok_or_else(|| Error::Value {
                tensor: "pivots",
                expected: "blocks with eigenvalues",
                found: format!("none at step {k}"),
            })?;
            let negative = values.iter().filter(|v| **v < 0.0).count();
            inertia.negative += negative;
            inertia.positive += values.len() - negative;
        }
        Ok(inertia)
    }

    /// The inverse by its generators, of the same orders, with dense transitions.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::solve`].
    pub fn inverse(&self) -> Result<HermitianQuasiseparable<E>> {
        inverse::hermitian(&self.factor)
    }

    /// The diagonal blocks of the inverse: marginal variances, leave-one-out errors. O(len N³), no generators kept.
    ///
    /// # Errors
    /// None: the pivots were inverted before; the type is that of [`Sss::solve`].
    pub fn inverse_diagonal(&self) -> Result<Blocks<E>> {
        inverse::hermitian_diagonal(&self.factor)
    }
}

/// The elimination for blocks of any sizes; writes B~ and the pivots.
fn eliminate<E: Field>(l: &Sss<E>, diagonal: &Blocks<E>, demand: Demand, factor: &mut Sss<E>) -> Result<()> {
    let mut p = Array2::zeros((l.order_at(0), l.order_at(0)));
    for k in 0..l.len() {
        let step = Step::new(l, diagonal.block(k), k, p.view());
        check_pivot(&step.d, demand, k)?;
        let gain = solve_right(step.g.view(), step.d.view()).ok_or_else(|| singular(step.d.view(), k))?;
        p = step.next(l, k, p.view(), gain.view());
        factor.b.block_mut(k).assign(&gain);
        factor.d.block_mut(k).assign(&step.d);
    }
    Ok(())
}

/// What a step of the elimination makes of the generators, from the P before it.
pub(super) struct Step<E> {
    pub(super) f: Array2<E>, // P Cᴴ
    pub(super) d: Array2<E>, // D - C f
    pub(super) g: Array2<E>, // B - A f
}

impl<E: Field> Step<E> {
    pub(super) fn new(l: &Sss<E>, diagonal: ArrayView2<'_, E>, k: usize, p: ArrayView2<'_, E>) -> Self {
        let f = product(p, adjoint(l.c(k)).view());
        let d = hermitian_part(&diagonal - &product(l.c(k), f.view()));
        let g = &l.b(k) - &l.apply_a(k, f.view());
        Self { f, d, g }
    }

    /// P after the step, `A P Aᴴ + B~ gᴴ`.
    pub(super) fn next(
        &self,
        l: &Sss<E>,
        k: usize,
        p: ArrayView2<'_, E>,
        gain: ArrayView2<'_, E>,
    ) -> Array2<E> {
        let moved = l.times_adjoint_a(k, l.apply_a(k, p).view());
        hermitian_part(moved + product(gain, adjoint(self.g.view()).view()))
    }
}

fn check_pivot<E: Field>(d: &Array2<E>, demand: Demand, step: usize) -> Result<()> {
    if demand == Demand::Positive
        && let Err(pivot) = crate::linalg::cholesky(d.view())
    {
        return Err(Error::NotPositiveDefinite { step, pivot: pivot.to_string() });
    }
    Ok(())
}
