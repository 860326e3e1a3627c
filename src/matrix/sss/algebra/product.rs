//! Products of two structured matrices.

use ndarray::Array2;

use super::super::hermitian::make_hermitian;
use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition, Upper};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{above, add_flat_product, add_product_to_part, adjoint, beside, product};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The product with a lower matrix; orders add up.
    ///
    /// ```math
    /// A = \begin{bmatrix} A_1 & B_1 C_2 \\ 0 & A_2 \end{bmatrix}, \quad
    /// B = \begin{bmatrix} B_1 D_2 \\ B_2 \end{bmatrix}, \quad C = [C_1\ D_1 C_2], \quad D = D_1 D_2
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] naming the step at which the outputs of `other` are not the inputs of `self`.
    pub fn multiply_lower(&self, other: &Self) -> Result<Self> {
        check_inner(&self.d, &other.d)?;
        let (rows, columns) = (|k| self.d.dims(k).0, |k| other.d.dims(k).1);
        let order = |k: usize| self.orders[k] + other.orders[k];
        let mut b = Blocks::zeros((0..self.len()).map(|k| (order(k + 1), columns(k))));
        let mut c = Blocks::zeros((0..self.len()).map(|k| (rows(k), order(k))));
        let mut d = Blocks::zeros((0..self.len()).map(|k| (rows(k), columns(k))));
        let (mut all_b, mut all_c, mut all_d) = (b.unshared(), c.unshared(), d.unshared());
        for k in 0..self.len() {
            let (through, inputs) = (other.d.values(k), other.d.dims(k));
            let (top, bottom) = all_b.values(k).split_at_mut(self.orders[k + 1] * inputs.1);
            add_flat_product(top, self.b.values(k), through, inputs);
            bottom.copy_from_slice(other.b.values(k));
            add_flat_product(all_d.values(k), self.d.values(k), through, inputs);
            let (c, own) = (all_c.values(k), self.orders[k]);
            for (c, row) in c.chunks_mut(order(k).max(1)).zip(self.c.values(k).chunks_exact(own.max(1))) {
                c[..own].copy_from_slice(row);
            }
            if let Some(c) = c.get_mut(own..) {
                add_product_to_part(c, order(k), self.d.values(k), other.c.values(k), other.c.dims(k));
            }
        }
        Ok(Self::from_parts(cascade(self, other), b, c, d))
    }

    /// The product with an upper matrix: a two-sided matrix of the orders of both, which do not grow.
    ///
    /// ```math
    /// P_{k+1} = A_k P_k E_k + B_k G_k, \qquad
    /// \text{lower } (A_k,\ B_k H_k + A_k P_k F_k,\ C_k), \quad \text{upper } (E_k,\ F_k,\ D_k G_k + C_k P_k E_k), \quad
    /// \text{diagonal } D_k H_k + C_k P_k F_k
    /// ```
    ///
    /// # Errors
    /// As [`multiply_lower`](Self::multiply_lower).
    pub fn multiply_upper(&self, other: &Upper<Self>) -> Result<Quasiseparable<E>> {
        Quasiseparable::from(self.clone()).multiply(&other.clone().into())
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The product with a lower matrix: a two-sided matrix of the orders of both, which do not grow.
    ///
    /// The mirror of [`Sss::multiply_upper`]: its recursion $`Q_{k-1} = F_k C_k + E_k Q_k A_k`$ runs backwards.
    ///
    /// # Errors
    /// As [`Sss::multiply_lower`].
    pub fn multiply_lower(&self, other: &Sss<E>) -> Result<Quasiseparable<E>> {
        Quasiseparable::from(self.clone()).multiply(&other.clone().into())
    }

    /// The product with an upper matrix; orders add up.
    ///
    /// # Errors
    /// As [`Sss::multiply_lower`].
    pub fn multiply_upper(&self, other: &Self) -> Result<Self> {
        Ok(Self(other.0.multiply_lower(&self.0)?))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The product with a two-sided matrix; orders add up on both sides.
    ///
    /// With $`L_i`$ the lower parts and $`U_i`$ the strictly upper parts,
    /// $`M_1 M_2 = L_1 L_2 + L_1 U_2 + U_1 L_2 + U_1 U_2`$. The two mixed products add nothing to the orders: each is
    /// two-sided with the generators of its factors, see [`Sss::multiply_upper`].
    ///
    /// # Errors
    /// As [`Sss::multiply_lower`].
    pub fn multiply(&self, other: &Self) -> Result<Self> {
        let (l1, v1) = (self.lower(), self.upper());
        let (l2, v2) = (other.lower(), other.upper());
        check_inner(&l1.d, &l2.d)?;
        let mixed = Mixed::new(self, other);
        let steps = 0..l1.len();
        let (p, q) = (&mixed.before, &mixed.after);
        // A_1 P and A_2, each once for all that it enters.
        let carried: Vec<_> = steps.clone().map(|k| l1.apply_a(k, p[k].view())).collect();

        let lower_b = steps.clone().map(|k| {
            let mut b = product(l1.b(k), l2.d(k));
            b += &product(carried[k].view(), adjoint(v2.c(k)).view());
            above(b.view(), l2.b(k))
        });
        let lower_c = steps.clone().map(|k| {
            let mut c = product(l1.d(k), l2.c(k));
            let forward = product(q[k].view(), l2.a(k).view());
            c += &product(adjoint(v1.b(k)).view(), forward.view());
            beside(l1.c(k), c.view())
        });
        let upper_b = steps.clone().map(|k| {
            let mut b = product(v2.b(k), adjoint(l1.d(k)).view());
            let past = product(adjoint(p[k].view()).view(), adjoint(l1.c(k)).view());
            b += &v2.apply_a(k, past.view());
            above(b.view(), v1.b(k))
        });
        let upper_c = steps.clone().map(|k| {
            let mut c = product(adjoint(l2.d(k)).view(), v1.c(k));
            let future = product(adjoint(l2.b(k)).view(), adjoint(q[k].view()).view());
            c += &product(future.view(), v1.a(k).view());
            beside(v2.c(k), c.view())
        });
        let d = steps.clone().map(|k| {
            let mut d = product(l1.d(k), l2.d(k));
            let past = product(l1.c(k), p[k].view());
            d += &product(past.view(), adjoint(v2.c(k)).view());
            let future = product(q[k].view(), l2.b(k));
            d += &product(adjoint(v1.b(k)).view(), future.view());
            d
        });
        let lower = Sss::from_parts(cascade(l1, l2), lower_b.collect(), lower_c.collect(), d.collect());
        let zero = Blocks::zeros(steps.map(|k| (lower.d.dims(k).1, lower.d.dims(k).0)));
        let upper = Sss::from_parts(cascade(v2, v1), upper_b.collect(), upper_c.collect(), zero);
        Self::new(lower, upper)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The Gram matrix $`T^H T`$ of a lower matrix, of the order of T.
    pub fn gram(lower: &Sss<E>) -> Self {
        let gram = Upper(lower.clone()).multiply_lower(lower).expect("rows of a matrix are rows of itself");
        let (mut lower, _) = gram.into_parts();
        make_hermitian(&mut lower.d);
        Self::from_lower(lower)
    }
}

/// What the steps on one side of a step contribute to the mixed products there.
struct Mixed<E> {
    /// $`P_k`$ of L_1 U_2, over the steps before k.
    before: Vec<Array2<E>>,
    /// $`Q_k`$ of U_1 L_2, over the steps after k.
    after: Vec<Array2<E>>,
}

impl<E: Field> Mixed<E> {
    fn new(m1: &Quasiseparable<E>, m2: &Quasiseparable<E>) -> Self {
        let (l1, v1, l2, v2) = (m1.lower(), m1.upper(), m2.lower(), m2.upper());
        let len = l1.len();
        let mut before = Vec::with_capacity(len);
        let mut p = Array2::zeros((l1.orders[0], v2.orders[0]));
        for k in 0..len {
            let mut next = sandwich(l1, k, &p, v2);
            next += &product(l1.b(k), adjoint(v2.b(k)).view());
            before.push(std::mem::replace(&mut p, next));
        }
        let mut after = Vec::with_capacity(len);
        let mut q = Array2::zeros((v1.orders[len], l2.orders[len]));
        for k in (0..len).rev() {
            let mut previous =
                product(adjoint(v1.a(k).view()).view(), product(q.view(), l2.a(k).view()).view());
            previous += &product(adjoint(v1.c(k)).view(), l2.c(k));
            after.push(std::mem::replace(&mut q, previous));
        }
        after.reverse();
        Self { before, after }
    }
}

/// `A_k P A'_kᴴ` with A of `first` and A' of `second`.
pub(in crate::matrix::sss) fn sandwich<E: Field>(
    first: &Sss<E>,
    k: usize,
    p: &Array2<E>,
    second: &Sss<E>,
) -> Array2<E> {
    second.times_adjoint_a(k, first.apply_a(k, p.view()).view())
}

/// `[[A_1, B_1 C_2], [0, A_2]]`: the output of the second drives the first.
fn cascade<E: Field>(first: &Sss<E>, second: &Sss<E>) -> Transition<E> {
    if first.orders.iter().all(|n| *n == 0) {
        return second.transition.clone();
    }
    if second.orders.iter().all(|n| *n == 0) {
        return first.transition.clone();
    }
    let orders: Vec<_> = first.orders.iter().zip(&second.orders).map(|(n, m)| n + m).collect();
    let mut a = Blocks::zeros(orders.windows(2).map(|order| (order[1], order[0])));
    let mut all = a.unshared();
    for (k, &width) in orders.iter().enumerate().take(first.len()) {
        let states = |m: &Sss<E>| (m.orders[k + 1], m.orders[k]);
        let (rows, own) = states(first);
        let (top, bottom) = all.values(k).split_at_mut(rows * width);
        first.transition.write(k, states(first), top, width);
        if let Some(bottom) = bottom.get_mut(own..) {
            second.transition.write(k, states(second), bottom, width);
        }
        if let Some(top) = top.get_mut(own..) {
            add_product_to_part(top, width, first.b.values(k), second.c.values(k), second.c.dims(k));
        }
    }
    Transition::Dense(a)
}

/// `Ok` if the inputs of the first are the outputs of the second, step by step.
fn check_inner<E: Field>(first: &Blocks<E>, second: &Blocks<E>) -> Result<()> {
    check_shape("other", "(steps)", &[first.len()], &[second.len()])?;
    match (0..first.len()).find(|&k| first.dims(k).1 != second.dims(k).0) {
        None => Ok(()),
        Some(k) => {
            let (rows, columns) = second.dims(k);
            let expected = format!("({}, any) at step {k}, (outputs, inputs)", first.dims(k).1);
            Err(Error::shape("other", expected, &[rows, columns]))
        }
    }
}
