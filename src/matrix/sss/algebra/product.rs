//! Products of two structured matrices.

use ndarray::{Array2, ArrayView2, s};

use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition, Upper};
use super::sum::{above, beside};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{add_matmul, matmul};
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
        let steps = 0..self.len();
        let transition = cascade(self, other);
        let b = steps.clone().map(|k| above(matmul(self.b(k), other.d(k)).view(), other.b(k))).collect();
        let c = steps.clone().map(|k| beside(self.c(k), matmul(self.d(k), other.c(k)).view())).collect();
        let d = steps.map(|k| matmul(self.d(k), other.d(k))).collect();
        Ok(Self::from_parts(transition, b, c, d))
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
            let mut b = matmul(l1.b(k), l2.d(k));
            add_matmul(b.view_mut(), carried[k].view(), adjoint(v2.c(k)).view());
            above(b.view(), l2.b(k))
        });
        let lower_c = steps.clone().map(|k| {
            let mut c = matmul(l1.d(k), l2.c(k));
            let forward = matmul(q[k].view(), l2.a(k).view());
            add_matmul(c.view_mut(), adjoint(v1.b(k)).view(), forward.view());
            beside(l1.c(k), c.view())
        });
        let upper_b = steps.clone().map(|k| {
            let mut b = matmul(v2.b(k), adjoint(l1.d(k)).view());
            let past = matmul(p[k].t().mapv(E::conj).view(), adjoint(l1.c(k)).view());
            b += &v2.apply_a(k, past.view());
            above(b.view(), v1.b(k))
        });
        let upper_c = steps.clone().map(|k| {
            let mut c = matmul(adjoint(l2.d(k)).view(), v1.c(k));
            let future = matmul(adjoint(l2.b(k)).view(), q[k].t().mapv(E::conj).view());
            add_matmul(c.view_mut(), future.view(), v1.a(k).view());
            beside(v2.c(k), c.view())
        });
        let d = steps.clone().map(|k| {
            let mut d = matmul(l1.d(k), l2.d(k));
            let past = matmul(l1.c(k), p[k].view());
            add_matmul(d.view_mut(), past.view(), adjoint(v2.c(k)).view());
            let future = matmul(q[k].view(), l2.b(k));
            add_matmul(d.view_mut(), adjoint(v1.b(k)).view(), future.view());
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
        let product =
            Upper(lower.clone()).multiply_lower(lower).expect("rows of a matrix are rows of itself");
        let (mut lower, _) = product.into_parts();
        for k in 0..lower.len() {
            let adjoint = adjoint(lower.d(k));
            let half = E::one() / (E::one() + E::one());
            lower.d.block_mut(k).zip_mut_with(&adjoint, |d, a| *d = half * (*d + *a));
        }
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
            add_matmul(next.view_mut(), l1.b(k), adjoint(v2.b(k)).view());
            before.push(std::mem::replace(&mut p, next));
        }
        let mut after = Vec::with_capacity(len);
        let mut q = Array2::zeros((v1.orders[len], l2.orders[len]));
        for k in (0..len).rev() {
            let mut previous =
                matmul(adjoint(v1.a(k).view()).view(), matmul(q.view(), l2.a(k).view()).view());
            add_matmul(previous.view_mut(), adjoint(v1.c(k)).view(), l2.c(k));
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
    let left = first.apply_a(k, p.view());
    let right = second.apply_a(k, left.t().mapv(E::conj).view());
    right.t().mapv(E::conj)
}

/// `[[A_1, B_1 C_2], [0, A_2]]`: the output of the second drives the first.
fn cascade<E: Field>(first: &Sss<E>, second: &Sss<E>) -> Transition<E> {
    if first.orders.iter().all(|n| *n == 0) {
        return second.transition.clone();
    }
    if second.orders.iter().all(|n| *n == 0) {
        return first.transition.clone();
    }
    let step = |k: usize| {
        let (a1, a2) = (first.a(k), second.a(k));
        let (rows, columns) = a1.dim();
        let mut a = Array2::zeros((rows + a2.nrows(), columns + a2.ncols()));
        a.slice_mut(s![..rows, ..columns]).assign(&a1);
        a.slice_mut(s![rows.., columns..]).assign(&a2);
        a.slice_mut(s![..rows, columns..]).assign(&matmul(first.b(k), second.c(k)));
        a
    };
    Transition::Dense((0..first.len()).map(step).collect())
}

/// The adjoint of a block.
pub(in crate::matrix::sss) fn adjoint<E: Field>(a: ArrayView2<'_, E>) -> Array2<E> {
    a.t().mapv(E::conj)
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
