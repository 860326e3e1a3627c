//! Inverses as generators, of the same orders as the matrix.

use ndarray::Array2;

use super::super::kernels::make_hermitian;
use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};
use super::scratch::refill;
use super::{divides, singular};
use crate::error::Result;
use crate::linalg::{add_adjoint_product, add_small_product, adjoint, inverse, product, vectorize};
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
    vectorize(
        #[inline(always)]
        || {
            for k in (0..factor.len()).rev() {
                step.back(factor, k)?;
                each(k, &step);
            }
            Ok(())
        },
    )
}

/// What a step makes of the factor, and Z, each row after row in memory that the next step uses again.
struct Step<E> {
    inverse: Vec<E>, // d⁻¹
    ell: Vec<E>,
    reader: Vec<E>, // t
    diagonal: Vec<E>,
    z: Vec<E>,
    minus_c: Vec<E>,
    minus_scaled: Vec<E>, // -d⁻¹ C
    bz: Vec<E>,           // B~ᴴ Z
    zl: Vec<E>,           // Z ℓ
}

impl<E: Field> Step<E> {
    fn new(order: usize) -> Self {
        let [inverse, ell, reader, diagonal, minus_c, minus_scaled, bz, zl] = [const { Vec::new() }; 8];
        let z = vec![E::zero(); order * order];
        Self { inverse, ell, reader, diagonal, z, minus_c, minus_scaled, bz, zl }
    }

    #[inline(always)]
    fn back(&mut self, m: &Sss<E>, k: usize) -> Result<()> {
        let (after, before, size) = (m.order_at(k + 1), m.order_at(k), m.inputs(k));
        let (b, c) = (m.b.values(k), m.c.values(k));
        self.invert_pivot(m, k)?;
        self.minus_c.clear();
        self.minus_c.extend(c.iter().map(|c| -*c));
        refill(&mut self.minus_scaled, c.len());
        add_small_product(&mut self.minus_scaled, &self.inverse, &self.minus_c, (size, before));

        refill(&mut self.bz, b.len());
        add_adjoint_product(&mut self.bz, b, &self.z, (after, after));
        self.diagonal.clone_from(&self.inverse);
        add_small_product(&mut self.diagonal, &self.bz, b, (after, size));
        make_hermitian(&mut self.diagonal, size);

        refill(&mut self.ell, after * before);
        m.transition.write(k, (after, before), &mut self.ell, before);
        add_small_product(&mut self.ell, b, &self.minus_c, (size, before));
        self.reader.clone_from(&self.minus_scaled);
        add_small_product(&mut self.reader, &self.bz, &self.ell, (after, before));

        refill(&mut self.zl, after * before);
        add_small_product(&mut self.zl, &self.z, &self.ell, (after, before));
        refill(&mut self.z, before * before);
        add_adjoint_product(&mut self.z, &self.ell, &self.zl, (after, before));
        add_adjoint_product(&mut self.z, &self.minus_c, &self.minus_scaled, (size, before)); // the signs cancel
        make_hermitian(&mut self.z, before);
        Ok(())
    }

    #[inline(always)]
    fn invert_pivot(&mut self, m: &Sss<E>, k: usize) -> Result<()> {
        self.inverse.clear();
        match *m.d.values(k) {
            [d] if divides(d) => self.inverse.push(E::one().over(d)),
            _ => {
                let inverse = inverse(m.d(k)).ok_or_else(|| singular(m.d(k), k))?;
                self.inverse.extend(&inverse);
            }
        }
        Ok(())
    }
}

fn zeros<E: Field>(blocks: &Blocks<E>) -> Blocks<E> {
    blocks.map(|_| E::zero())
}

fn in_order<E: Field>(last_first: Vec<Array2<E>>) -> Blocks<E> {
    Blocks::from_arrays(last_first.into_iter().rev())
}
