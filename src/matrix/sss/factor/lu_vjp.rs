//! The derivative of the determinant of a two-sided matrix: the elimination, backwards.

use ndarray::{Array2, ArrayView2};

use super::super::Quasiseparable;
use super::ldl_vjp::{add_transition, segment_length};
use super::lu::Step;
use super::{check_square, singular};
use crate::error::Result;
use crate::linalg::{adjoint, flat_rows, inverse, product, solve_right};
use crate::matrix::sss::kernels::view;
use crate::scalar::Field;

impl<E: Field> Quasiseparable<E> {
    /// Cotangents of the generators, given the cotangent `weight` of the logarithm of the modulus of the determinant.
    ///
    /// They are $`w M^{-H}`$ read through the generators, by the elimination of [`lu`](Self::lu) run backwards; so the
    /// result is as accurate as that factorisation. One P in every 2N steps is kept and the others are computed again.
    ///
    /// # Errors
    /// As [`lu`](Self::lu).
    pub fn log_determinant_vjp(&self, weight: E::Real) -> Result<Self> {
        let (l, v) = (self.lower(), self.upper());
        check_square(l)?;
        let length = segment_length(&l.orders).max(segment_length(&v.orders));
        let advance = |k: usize, step: &mut Step<E>| -> Result<()> {
            step.eliminate(self, self.diagonal_blocks(), k);
            let d = step.d(self, k);
            let gain = solve_right(step.g(self, k), d).ok_or_else(|| singular(d, k))?;
            step.advance(self, k, &flat_rows(gain.view()));
            Ok(())
        };
        let mut step = Step::new(self);
        let mut starts = Vec::with_capacity(l.len().div_ceil(length));
        for k in 0..l.len() {
            if k % length == 0 {
                starts.push(step.p.clone());
            }
            advance(k, &mut step)?;
        }
        let mut grad = (l.zeros_like(), v.zeros_like());
        let mut pi = Array2::zeros((l.order_at(l.len()), v.order_at(l.len())));
        for (segment, start) in starts.into_iter().enumerate().rev() {
            let steps = segment * length..((segment + 1) * length).min(l.len());
            step.p.clone_from(&start);
            let mut states = vec![start];
            for k in steps.start..steps.end - 1 {
                advance(k, &mut step)?;
                states.push(step.p.clone());
            }
            for (k, p) in steps.zip(states).rev() {
                step.p = p;
                step.eliminate(self, self.diagonal_blocks(), k);
                pi = reverse(self, k, &step, (pi.view(), E::from_real(weight)), &mut grad)?;
            }
        }
        Self::new(grad.0, grad.1)
    }
}

/// One step backwards: adds to `grad`, returns the cotangent of P before the step, given that after it, Π.
///
/// ```text
/// dg = Π G~ᴴ d⁻ᴴ    dG~ = B~ᴴ Π    dd = w d⁻ᴴ - B~ᴴ Π (d⁻¹ G~)ᴴ
/// dA = Π (P E)ᴴ - dg (P F)ᴴ        dC = -dG~ (P E)ᴴ - dd (P F)ᴴ
/// dE = (A P)ᴴ Π - (C P)ᴴ dG~       dF = -(A P)ᴴ dg - (C P)ᴴ dd
/// dP = Aᴴ (Π Eᴴ - dg Fᴴ) - Cᴴ (dG~ Eᴴ + dd Fᴴ)
/// ```
fn reverse<E: Field>(
    m: &Quasiseparable<E>,
    k: usize,
    step: &Step<E>,
    (pi, weight): (ArrayView2<'_, E>, E),
    grad: &mut (super::super::Sss<E>, super::super::Sss<E>),
) -> Result<Array2<E>> {
    let (l, v) = (m.lower(), m.upper());
    let (states, others, size) = (l.order_at(k), v.order_at(k), l.inputs(k));
    let (p, d) = (view(&step.p, states, others), step.d(m, k));
    let adjoint_pf = adjoint(view(&step.pf, states, size));
    let adjoint_cp = adjoint(view(&step.cp, size, others));
    let inverse = inverse(d).ok_or_else(|| singular(d, k))?;
    let gain = product(step.g(m, k), inverse.view());
    let scaled = product(inverse.view(), step.reader(m, k).view());
    let mul = |a: &Array2<E>, b: &Array2<E>| product(a.view(), b.view());
    let adj = |a: &Array2<E>| adjoint(a.view());
    let (a, c) = (l.a(k), l.c(k));
    let (eh, fh) = (v.a(k), v.c(k)); // Eᴴ and Fᴴ
    let pe = product(p, adj(&eh).view());
    let ap = l.apply_a(k, p);

    let dg = product(pi, adj(&scaled).view());
    let dreader = product(adj(&gain).view(), pi);
    let dd = adj(&inverse).mapv(|v| weight * v) - mul(&dreader, &adj(&scaled));
    let da = product(pi, adj(&pe).view()) - mul(&dg, &adjoint_pf);
    let dc = -mul(&dreader, &adj(&pe)) - mul(&dd, &adjoint_pf);
    let de = product(adj(&ap).view(), pi) - mul(&adjoint_cp, &dreader);
    let df = -mul(&adj(&ap), &dg) - mul(&adjoint_cp, &dd);

    add_transition(&mut grad.0, k, &da);
    add_transition(&mut grad.1, k, &adj(&de));
    grad.0.b.block_mut(k).assign(&dg);
    grad.0.c.block_mut(k).assign(&dc);
    grad.0.d.block_mut(k).assign(&dd);
    grad.1.b.block_mut(k).assign(&adj(&dreader));
    grad.1.c.block_mut(k).assign(&adj(&df));
    let above = product(pi, eh.view()) - product(dg.view(), fh);
    let below = product(dreader.view(), eh.view()) + product(dd.view(), fh);
    Ok(product(adj(&a).view(), above.view()) - product(adjoint(c).view(), below.view()))
}
