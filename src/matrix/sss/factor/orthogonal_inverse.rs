//! The inverse of any nonsingular two-sided matrix as generators, by orthogonal factors.

use ndarray::{Array2, ArrayView2, s};

use super::super::hermitian::make_hermitian;
use super::super::{HermitianQuasiseparable, Quasiseparable, Sss, Transition};
use super::two_sided_qr::{Step, TwoSidedQr};
use crate::error::{Error, Result};
use crate::linalg::{above, back_substitute, beside, product};
use crate::scalar::Field;

impl<E: Field> Quasiseparable<E> {
    /// The inverse by its generators, with dense transitions: for every nonsingular matrix, also where the elimination
    /// of [`lu`](Self::lu) breaks down. Of at most the same orders where blocks on the diagonal are square; otherwise by as
    /// many more as there are rows beyond columns before a step.
    ///
    /// With $`M = V W R`$ as in [`qr`](Self::qr), and with the factors of $`M^H`$ for the other side,
    ///
    /// ```math
    /// \mathrm{tril}(M^{-1}) = \mathrm{tril}(R^{-1}\, \mathrm{tril}(W^H V^H)), \qquad
    /// \mathrm{triu}(M^{-1}) = \mathrm{tril}(M^{-H})^H
    /// ```
    ///
    /// With (A, B, C, D) the generators of $`\mathrm{tril}(W^H V^H)`$, which a pass from the start finds, the lower part of
    /// the inverse is $`(A, B, \hat C, \hat D)`$, backwards from Z = 0:
    ///
    /// ```math
    /// \hat C = R_k^{-1} (C - G^R_k Z A), \quad \hat D = R_k^{-1} (D - G^R_k Z B), \quad
    /// Z \leftarrow \tilde A_k Z A + \tilde B_k \hat C
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrix is not square, [`Error::Singular`] and [`Error::Value`] as [`qr`](Self::qr).
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{Quasiseparable, Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let part = Sss::uniform(Transition::Identity, ones.clone(), ones, array![0.0, 0.0, 0.0])?;
    /// let m = Quasiseparable::new(part.clone(), part)?; // ones, and zeros on the diagonal
    /// assert!(m.lu().is_err());
    /// let expected = array![[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]];
    /// assert!((m.inverse()?.to_dense() - expected).iter().all(|r: &f64| r.abs() < 1e-14));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn inverse(&self) -> Result<Self> {
        if self.rows() != self.columns() {
            return Err(Error::shape("m", "a square matrix", &[self.rows(), self.columns()]));
        }
        Self::new(inverse_lower(&self.qr()?), inverse_lower(&self.adjoint().qr()?))
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The inverse by its generators, of at most the same orders, with dense transitions: for every nonsingular matrix, also
    /// where the elimination of [`ldl`](Self::ldl) breaks down. See [`Quasiseparable::inverse`].
    ///
    /// # Errors
    /// [`Error::Singular`] and [`Error::Value`] as [`Quasiseparable::qr`].
    pub fn inverse(&self) -> Result<Self> {
        let mut lower = inverse_lower(&self.to_quasiseparable().qr()?);
        make_hermitian(&mut lower.d);
        Ok(Self::from_lower(lower))
    }
}

/// The lower part of the inverse, with the diagonal.
fn inverse_lower<E: Field>(qr: &TwoSidedQr<E>) -> Sss<E> {
    let mut p = Array2::zeros((0, 0)); // what W carries of each row that V hands on
    let orthogonal: Vec<_> = qr.steps().iter().map(|step| Orthogonal::new(step, &mut p)).collect();
    let states = qr.steps().last().map_or(0, |step| step.a.ncols());
    let mut z = Array2::zeros((states, 0));
    let (mut c, mut d) = (Vec::with_capacity(orthogonal.len()), Vec::with_capacity(orthogonal.len()));
    for (step, part) in qr.steps().iter().zip(&orthogonal).rev() {
        let za = product(z.view(), part.a.view());
        let (inputs, r) = (step.inputs, step.w.full_r());
        let solve = |read: ArrayView2<'_, E>, behind: ArrayView2<'_, E>| {
            let mut x = &read - &product(r.slice(s![..inputs, inputs..]), behind);
            back_substitute(r.slice(s![..inputs, ..inputs]), &mut x);
            x
        };
        let read = solve(part.c.view(), za.view());
        d.push(solve(part.d.view(), product(z.view(), part.b.view()).view()));
        z = product(step.a.view(), za.view()) + product(step.b.view(), read.view());
        c.push(read);
    }
    let (a, b): (Vec<_>, Vec<_>) = orthogonal.into_iter().map(|part| (part.a, part.b)).unzip();
    let (c, d) = (c.into_iter().rev().collect(), d.into_iter().rev().collect());
    Sss::from_parts(Transition::Dense(a.into_iter().collect()), b.into_iter().collect(), c, d)
}

/// Generators of a step of the lower part of `Wᴴ Vᴴ`.
struct Orthogonal<E> {
    a: Array2<E>,
    b: Array2<E>,
    c: Array2<E>,
    d: Array2<E>,
}

impl<E: Field> Orthogonal<E> {
    /// Replaces P before the step, (carried, handed on), by that behind it.
    ///
    /// `Vₖᴴ` makes of the outputs and the rows handed to it those that it hands on and others, which `Wₖᴴ` takes in:
    ///
    /// ```text
    /// Wₖᴴ [[P 0] Vₖᴴ   I]   =   [D  *   C]   rows of the solution
    ///     [[0 I] Vₖᴴ   0]       [B  P₊  A]   carried on
    /// ```
    fn new(step: &Step<E>, p: &mut Array2<E>) -> Self {
        let (outputs, inputs, carried) = (step.outputs, step.inputs, step.carried);
        let mut v = Array2::eye(step.v.full_r().nrows());
        step.v.apply_adjoint(&mut v);
        let (handed, turned) = v.view().split_at(ndarray::Axis(0), step.rank);
        let past = above(Array2::eye(carried).view(), Array2::zeros((turned.nrows(), carried)).view());
        let entered = above(product(p.view(), handed).view(), turned);
        let mut all = beside(entered.view(), past.view());
        step.w.apply_adjoint(&mut all);
        // A square matrix with independent columns leaves no rows behind those carried on.
        let (solved, on) = all.view().split_at(ndarray::Axis(0), inputs);
        let behind = v.ncols();
        *p = on.slice(s![.., outputs..behind]).to_owned();
        let part = |rows: ArrayView2<'_, E>, columns| rows.slice(columns).to_owned();
        Self {
            a: part(on, s![.., behind..]),
            b: part(on, s![.., ..outputs]),
            c: part(solved, s![.., behind..]),
            d: part(solved, s![.., ..outputs]),
        }
    }
}
