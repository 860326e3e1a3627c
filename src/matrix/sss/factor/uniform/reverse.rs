//! The elimination backwards: cotangents of determinant and likelihood.

use super::super::super::{Sss, Transition};
use super::super::ldl::Demand;
use super::eliminate::{Kept, eliminate_keeping};
use super::small::Small;
use super::sweep::{Backward, Cotangents, Out, Segment, Sweep};
use super::{LANES, diagonals, segments};
use crate::error::Result;
use crate::linalg::vectorize;
use crate::scalar::Field;

/// Writes the cotangents of the generators to `grad`; `false` if these loops do not apply.
pub(in super::super) fn log_determinant_vjp<E: Field>(
    l: &Sss<E>,
    weight: E::Real,
    grad: &mut Sss<E>,
) -> Result<bool> {
    let mut kept = Kept::default();
    if !eliminate_keeping(l, Demand::Nonsingular, &mut kept)? {
        return Ok(false);
    }
    reverse(l, &kept, E::from_real(weight), None, grad);
    Ok(true)
}

/// Writes to `grad` the cotangents of the generators for the cotangent $`w M^{-1}`$ of M, and, given α and memory for
/// states, for $`\tfrac12 \alpha \alpha^H`$ beside it.
///
/// The second are those of a product: with the states $`x_{k+1} = A x_k + B \alpha_k`$ and
/// $`\lambda_k = A^H \lambda_{k+1} + C^H \alpha_k`$, dA = λ xᴴ, dB = λ conj(α), dC = α xᴴ.
pub(in super::super) fn reverse<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    mut alpha: Option<(&[E], &mut Vec<E>)>,
    grad: &mut Sss<E>,
) {
    let n = l.orders[0];
    let mut buffer = Vec::new();
    if let Some((alpha, states)) = &mut alpha {
        states.clear();
        let mut x = vec![E::zero(); n];
        for steps in segments(l.len(), kept.length) {
            states.extend_from_slice(&x);
            let a = diagonals(l, n, steps.clone(), &mut buffer);
            let b = &l.b.flat()[steps.start * n..steps.end * n];
            vectorize(
                #[inline(always)]
                || states_behind(a, b, &alpha[steps], &mut x),
            );
        }
    }
    let alpha = alpha.map(|(alpha, states)| (alpha, &states[..]));
    match n {
        1 => sweep(l, kept, weight, alpha, grad, Small::<E, 1>::zeros(kept.length)),
        2 => sweep(l, kept, weight, alpha, grad, Small::<E, 2>::zeros(kept.length)),
        3 => sweep(l, kept, weight, alpha, grad, Small::<E, 3>::zeros(kept.length)),
        4 => sweep(l, kept, weight, alpha, grad, Small::<E, 4>::zeros(kept.length)),
        _ => sweep(l, kept, weight, alpha, grad, Sweep::zeros(n, kept.length)),
    }
}

/// The sweep of [`reverse`] in one of its forms, given α and the states before segments.
fn sweep<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    alpha: Option<(&[E], &[E])>,
    grad: &mut Sss<E>,
    mut sweep: impl Backward<E>,
) {
    let (n, mut buffer) = (l.orders[0], Vec::new());
    let size = n * n.div_ceil(LANES);
    for (s, steps) in segments(l.len(), kept.length).enumerate().rev() {
        let rows = steps.start * n..steps.end * n;
        let before = steps.start.saturating_sub(1) * n;
        let segment = Segment {
            a: diagonals(l, n, steps.clone(), &mut buffer),
            b: &l.b.flat()[rows.clone()],
            c: &l.c.flat()[rows.clone()],
            gains: &kept.gains[rows.clone()],
            before: &kept.gains[before..before + n],
            pivots: &kept.pivots[steps.clone()],
            alpha: alpha.map(|(alpha, _)| &alpha[steps.clone()]),
            weight,
        };
        let state = alpha.map(|(_, states)| &states[s * n..(s + 1) * n]);
        let p = &kept.starts[s * size..(s + 1) * size];
        let da = match &mut grad.transition {
            Transition::Diagonal(a) => Cotangents::Each(&mut a.flat_mut()[rows.clone()]),
            Transition::Scalar(a) => {
                Cotangents::Sum(&mut a.as_slice_mut().expect("cotangents are contiguous")[steps.clone()])
            }
            _ => Cotangents::None,
        };
        let out = Out {
            a: da,
            b: &mut grad.b.flat_mut()[rows.clone()],
            c: &mut grad.c.flat_mut()[rows],
            d: &mut grad.d.flat_mut()[steps],
        };
        sweep.through(p, state, segment, out);
    }
}

/// `x ← a ∘ x + b α` for some steps.
#[inline(always)]
fn states_behind<E: Field>(a: &[E], b: &[E], alpha: &[E], x: &mut [E]) {
    let n = x.len();
    for ((a, b), alpha) in a.chunks_exact(n).zip(b.chunks_exact(n)).zip(alpha) {
        for ((x, a), b) in x.iter_mut().zip(a).zip(b) {
            *x = b.fused(*alpha, *a * *x);
        }
    }
}
