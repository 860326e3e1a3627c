//! The derivative of the determinant of a Hermitian matrix: the elimination, backwards.

use ndarray::{Array2, ArrayView2};

use super::super::kernels::hermitian_part;
use super::super::{HermitianQuasiseparable, Sss};
use super::ldl::Step;
use super::singular;
use super::uniform;
use crate::error::Result;
use crate::linalg::{adjoint, inverse, product};
use crate::scalar::Field;

impl<E: Field> HermitianQuasiseparable<E> {
    /// Cotangents of the generators, given the cotangent `weight` of the logarithm of the modulus of the determinant.
    ///
    /// They are $`w M^{-1}`$ read through the generators, by the elimination run backwards: with Π the cotangent of
    /// $`P_{k+1}`$, f and g as there,
    ///
    /// ```math
    /// \begin{aligned}
    /// \mathrm{d}g &= 2 \Pi \tilde B, & \mathrm{d}d &= w\, d^{-1} - \tilde B^H \Pi \tilde B, &
    /// \mathrm{d}f &= -A^H \mathrm{d}g - C^H \mathrm{d}d, \\
    /// \mathrm{d}A &= 2 \Pi A P - \mathrm{d}g\, f^H, & \mathrm{d}C &= (P\, \mathrm{d}f)^H - \mathrm{d}d\, f^H, &
    /// \Pi &\leftarrow A^H \Pi A + \mathrm{herm}(\mathrm{d}f\, C)
    /// \end{aligned}
    /// ```
    ///
    /// One P in some tens of steps is kept and the others are computed again, so that the memory is that of the generators.
    ///
    /// # Errors
    /// As [`ldl`](Self::ldl).
    pub fn log_determinant_vjp(&self, weight: E::Real) -> Result<Self> {
        let l = self.lower();
        let mut grad = l.zeros_like();
        if !uniform::log_determinant_vjp(l, weight, &mut grad)? {
            sweep(l, E::from_real(weight), &mut grad)?;
        }
        Ok(Self::from_lower(grad))
    }
}

/// P before the first step of each segment, and one segment's all P at a time.
pub(super) fn segment_length(orders: &[usize]) -> usize {
    2 * orders.iter().copied().max().unwrap_or(0).max(8)
}

fn sweep<E: Field>(l: &Sss<E>, weight: E, grad: &mut Sss<E>) -> Result<()> {
    let length = segment_length(&l.orders);
    let advance = |k: usize, p: &Array2<E>| -> Result<Array2<E>> {
        let step = Step::new(l, l.d(k), k, p.view());
        let inverse = inverse(step.d.view()).ok_or_else(|| singular(step.d.view(), k))?;
        Ok(step.next(l, k, p.view(), product(step.g.view(), inverse.view()).view()))
    };
    let mut p = Array2::zeros((l.order_at(0), l.order_at(0)));
    let mut starts = Vec::with_capacity(l.len().div_ceil(length));
    for k in 0..l.len() {
        if k % length == 0 {
            starts.push(p.clone());
        }
        p = advance(k, &p)?;
    }
    let mut pi = Array2::zeros((l.order_at(l.len()), l.order_at(l.len())));
    for (segment, start) in starts.into_iter().enumerate().rev() {
        let steps = segment * length..((segment + 1) * length).min(l.len());
        let mut states = vec![start];
        for k in steps.start..steps.end - 1 {
            states.push(advance(k, &states[states.len() - 1])?);
        }
        for (k, p) in steps.zip(&states).rev() {
            pi = reverse(l, k, p.view(), pi.view(), weight, grad)?;
        }
    }
    Ok(())
}

/// One step backwards: adds to `grad`, returns the cotangent of P before the step.
fn reverse<E: Field>(
    l: &Sss<E>,
    k: usize,
    p: ArrayView2<'_, E>,
    pi: ArrayView2<'_, E>,
    weight: E,
    grad: &mut Sss<E>,
) -> Result<Array2<E>> {
    let step = Step::new(l, l.d(k), k, p);
    let inverse = inverse(step.d.view()).ok_or_else(|| singular(step.d.view(), k))?;
    let gain = product(step.g.view(), inverse.view());
    let two = E::one() + E::one();
    let (a, c) = (l.a(k), l.c(k));
    let pi_gain = product(pi, gain.view());
    let dg = pi_gain.mapv(|v| two * v);
    let dd =
        hermitian_part(inverse.mapv(|v| weight * v) - product(adjoint(gain.view()).view(), pi_gain.view()));
    let df = -(product(adjoint(a.view()).view(), dg.view()) + product(adjoint(c).view(), dd.view()));
    let f = adjoint(step.f.view());
    let ap = l.apply_a(k, p);
    let da = product(pi, ap.view()).mapv(|v| two * v) - product(dg.view(), f.view());
    let dc = adjoint(product(p, df.view()).view()) - product(dd.view(), f.view());
    add_transition(grad, k, &da);
    grad.b.block_mut(k).zip_mut_with(&dg, |g, v| *g += *v);
    grad.c.block_mut(k).zip_mut_with(&dc, |g, v| *g += *v);
    grad.d.block_mut(k).zip_mut_with(&dd, |g, v| *g += *v);
    let moved = times_adjoint(l, k, pi);
    Ok(hermitian_part(moved + product(df.view(), c)))
}

/// `Aᴴ Π A`
fn times_adjoint<E: Field>(l: &Sss<E>, k: usize, pi: ArrayView2<'_, E>) -> Array2<E> {
    let a = l.a(k);
    product(adjoint(a.view()).view(), product(pi, a.view()).view())
}

/// Adds a dense cotangent of A_k, kept to the numbers that the transition has.
pub(super) fn add_transition<E: Field>(grad: &mut Sss<E>, k: usize, da: &Array2<E>) {
    let width = da.ncols();
    let unit = Array2::<E>::eye(width);
    let lambda = da.as_standard_layout();
    let flat = (lambda.as_slice().expect("standard layout"), unit.as_slice().expect("standard layout"));
    grad.transition.unshared().add_cotangent(k, flat.0, flat.1, width);
}
