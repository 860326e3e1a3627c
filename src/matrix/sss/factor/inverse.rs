//! Inverses as generators, of the same orders as the matrix.

use ndarray::Array2;

use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};
use super::scratch::{refill, set_product, turn};
use super::singular;
use crate::error::Result;
use crate::linalg::{add_flat_product, adjoint, flat_rows, inverse, product};
use crate::matrix::sss::kernels::{make_hermitian, view_mut};
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
        let d = adjoint(v.d(k));
        let h = inverse(d.view()).ok_or_else(|| singular(d.view(), k))?;
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
    let orders = factor.orders().windows(2).map(|order| (order[1], order[0]));
    let (mut a, mut c, mut d) = (Blocks::zeros(orders), zeros(&factor.c), zeros(&factor.d));
    let (mut all_a, mut all_c, mut all_d) = (a.unshared(), c.unshared(), d.unshared());
    backward(factor, |k, step| {
        all_a.values(k).copy_from_slice(&step.ell);
        all_c.values(k).copy_from_slice(&step.reader);
        all_d.values(k).copy_from_slice(&step.diagonal);
    })?;
    let lower = Sss::from_parts(Transition::Dense(a), factor.b.clone(), c, d);
    Ok(HermitianQuasiseparable::from_lower(lower))
}

/// The diagonal blocks of that inverse.
pub(super) fn hermitian_diagonal<E: Field>(factor: &Sss<E>) -> Result<Blocks<E>> {
    let mut d = zeros(&factor.d);
    let mut all = d.unshared();
    backward(factor, |k, step| all.values(k).copy_from_slice(&step.diagonal))?;
    Ok(d)
}

/// Calls `each` for every step from the last on.
fn backward<E: Field>(factor: &Sss<E>, mut each: impl FnMut(usize, &Step<E>)) -> Result<()> {
    let mut step = Step::new(factor.order_at(factor.len()));
    for k in (0..factor.len()).rev() {
        step.back(factor, k)?;
        each(k, &step);
    }
    Ok(())
}

/// What a step makes of the factor, and Z, each row after row in memory that the next step uses again.
struct Step<E> {
    ell: Vec<E>,
    reader: Vec<E>, // t
    diagonal: Vec<E>,
    z: Vec<E>,
    minus_c: Vec<E>,
    minus_scaled: Vec<E>, // -d⁻¹ C
    turned: Vec<E>,       // an adjoint
    bz: Vec<E>,           // B~ᴴ Z
    zl: Vec<E>,           // Z ℓ
}

impl<E: Field> Step<E> {
    fn new(order: usize) -> Self {
        let empty = Vec::new;
        Self {
            ell: empty(),
            reader: empty(),
            diagonal: empty(),
            z: vec![E::zero(); order * order],
            minus_c: empty(),
            minus_scaled: empty(),
            turned: empty(),
            bz: empty(),
            zl: empty(),
        }
    }

    fn back(&mut self, m: &Sss<E>, k: usize) -> Result<()> {
        let (after, before, size) = (m.order_at(k + 1), m.order_at(k), m.inputs(k));
        let inverse = inverse(m.d(k)).ok_or_else(|| singular(m.d(k), k))?;
        let (inverse, b, c) = (flat_rows(inverse.view()), m.b.values(k), m.c.values(k));
        self.minus_c.clear();
        self.minus_c.extend(c.iter().map(|c| -*c));
        set_product(&mut self.minus_scaled, &inverse, &self.minus_c, (size, before), size);

        turn(b, size, &mut self.turned);
        set_product(&mut self.bz, &self.turned, &self.z, (after, after), size);
        set_product(&mut self.diagonal, &self.bz, b, (after, size), size);
        self.diagonal.iter_mut().zip(&*inverse).for_each(|(d, i)| *d += *i);
        make_hermitian(&mut self.diagonal, size);

        refill(&mut self.ell, after * before);
        m.transition.write(k, view_mut(&mut self.ell, after, before));
        add_flat_product(&mut self.ell, b, &self.minus_c, (size, before));
        set_product(&mut self.reader, &self.bz, &self.ell, (after, before), size);
        self.reader.iter_mut().zip(&self.minus_scaled).for_each(|(r, s)| *r += *s);

        set_product(&mut self.zl, &self.z, &self.ell, (after, before), after);
        turn(&self.ell, before, &mut self.turned);
        set_product(&mut self.z, &self.turned, &self.zl, (after, before), before);
        turn(&self.minus_c, before, &mut self.turned); // the signs cancel
        add_flat_product(&mut self.z, &self.turned, &self.minus_scaled, (size, before));
        make_hermitian(&mut self.z, before);
        Ok(())
    }
}

fn zeros<E: Field>(blocks: &Blocks<E>) -> Blocks<E> {
    blocks.map(|_| E::zero())
}

fn in_order<E: Field>(last_first: Vec<Array2<E>>) -> Blocks<E> {
    Blocks::from_arrays(last_first.into_iter().rev())
}
