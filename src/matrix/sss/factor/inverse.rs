//! Inverses as generators, of the same orders as the matrix.

use ndarray::Array2;

use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};
use super::{hermitian_part, pivot};
use crate::error::Result;
use crate::linalg::{adjoint, product};
use crate::scalar::Field;

/// The inverse of `L U` from L with unit diagonal and the adjoint V of U.
///
/// The inverses of the triangular factors have the generators
///
/// ```math
/// L^{-1} = (A - \tilde B C,\ \tilde B,\ -C,\ I), \qquad
/// U^{-1} = (E - F \tilde D^{-1} \tilde G,\ F \tilde D^{-1},\ -\tilde D^{-1} \tilde G,\ \tilde D^{-1})
/// ```
///
/// and the product of an upper by a lower matrix keeps both orders: with Z collecting the part behind step k,
/// backwards from zero, its lower part is (A, B, H C + G Z A), its upper part (E, F D + E Z B, G), its diagonal
/// H D + G Z B, and Z becomes E Z A + F C.
pub(super) fn two_sided<E: Field>(l: &Sss<E>, v: &Sss<E>) -> Result<Quasiseparable<E>> {
    let n = l.len();
    let mut z = Array2::zeros((v.order_at(n), l.order_at(n)));
    let mut parts = Parts::with_capacity(n);
    for k in (0..n).rev() {
        let h = pivot(adjoint(v.d(k)).view(), k)?.inverse();
        let g = -product(h.view(), adjoint(v.b(k)).view());
        let f = product(adjoint(v.c(k)).view(), h.view());
        let e = adjoint(v.a(k).view()) + product(adjoint(v.c(k)).view(), g.view());
        let (b, c) = (l.b(k), l.c(k));
        let a = l.a(k) - product(b, c);
        let gz = product(g.view(), z.view());
        let ez = product(e.view(), z.view());
        parts.lower_c.push(product(gz.view(), a.view()) - product(h.view(), c));
        parts.d.push(product(gz.view(), b) + &h);
        let upper_f = product(ez.view(), b) + &f;
        z = product(ez.view(), a.view()) - product(f.view(), c);
        parts.lower_a.push(a);
        parts.upper_a.push(adjoint(e.view()));
        parts.upper_b.push(adjoint(g.view()));
        parts.upper_c.push(adjoint(upper_f.view()));
    }
    let lower = Sss::from_parts(
        Transition::Dense(in_order(parts.lower_a)),
        l.b.clone(),
        in_order(parts.lower_c),
        in_order(parts.d),
    );
    let upper = Sss::from_parts(
        Transition::Dense(in_order(parts.upper_a)),
        in_order(parts.upper_b),
        in_order(parts.upper_c),
        v.d.map(|_| E::zero()),
    );
    Quasiseparable::new(lower, upper)
}

/// Generators of a two-sided inverse, last step first.
struct Parts<E> {
    lower_a: Vec<Array2<E>>,
    lower_c: Vec<Array2<E>>,
    upper_a: Vec<Array2<E>>,
    upper_b: Vec<Array2<E>>,
    upper_c: Vec<Array2<E>>,
    d: Vec<Array2<E>>,
}

impl<E> Parts<E> {
    fn with_capacity(n: usize) -> Self {
        let empty = || Vec::with_capacity(n);
        Self {
            lower_a: empty(),
            lower_c: empty(),
            upper_a: empty(),
            upper_b: empty(),
            upper_c: empty(),
            d: empty(),
        }
    }
}

/// The inverse of `L diag(d) Lᴴ` from (A, B~, C) and the pivots d that stand on the diagonal of `factor`.
///
/// ```math
/// \begin{aligned}
/// \ell_k &= A_k - \tilde B_k C_k, & \lambda_k &= d_k^{-1} + \tilde B_k^H Z \tilde B_k, \\
/// t_k &= \tilde B_k^H Z \ell_k - d_k^{-1} C_k, & Z &\leftarrow \ell_k^H Z \ell_k + C_k^H d_k^{-1} C_k
/// \end{aligned}
/// ```
///
/// backwards from Z = 0; the inverse is the Hermitian matrix of the lower part $`(\ell, \tilde B, t)`$ and the
/// diagonal λ.
pub(super) fn hermitian<E: Field>(factor: &Sss<E>) -> Result<HermitianQuasiseparable<E>> {
    let n = factor.len();
    let (mut a, mut c, mut d) = (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    backward(factor, |step| {
        a.push(step.ell);
        c.push(step.reader);
        d.push(step.diagonal);
    })?;
    let lower = Sss::from_parts(Transition::Dense(in_order(a)), factor.b.clone(), in_order(c), in_order(d));
    Ok(HermitianQuasiseparable::from_lower(lower))
}

/// The diagonal blocks of that inverse.
pub(super) fn hermitian_diagonal<E: Field>(factor: &Sss<E>) -> Result<Blocks<E>> {
    let mut d = Vec::with_capacity(factor.len());
    backward(factor, |step| d.push(step.diagonal))?;
    Ok(in_order(d))
}

struct Step<E> {
    ell: Array2<E>,
    reader: Array2<E>,
    diagonal: Array2<E>,
}

fn backward<E: Field>(factor: &Sss<E>, mut each: impl FnMut(Step<E>)) -> Result<()> {
    let order = factor.order_at(factor.len());
    let mut z = Array2::zeros((order, order));
    for k in (0..factor.len()).rev() {
        let (b, c) = (factor.b(k), factor.c(k));
        let inverse = pivot(factor.d(k), k)?.inverse();
        let ell = factor.a(k) - product(b, c);
        let bz = product(adjoint(b).view(), z.view());
        let scaled = product(inverse.view(), c);
        let diagonal = hermitian_part(&(&inverse + &product(bz.view(), b)));
        let reader = product(bz.view(), ell.view()) - &scaled;
        let zl = product(z.view(), ell.view());
        z = product(adjoint(ell.view()).view(), zl.view()) + product(adjoint(c).view(), scaled.view());
        z = hermitian_part(&z);
        each(Step { ell, reader, diagonal });
    }
    Ok(())
}

fn in_order<E: Field>(last_first: Vec<Array2<E>>) -> Blocks<E> {
    Blocks::from_arrays(last_first.into_iter().rev())
}
