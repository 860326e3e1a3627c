//! The elimination backwards: cotangents of determinant and likelihood.

use super::super::super::{Sss, Transition};
use super::super::ldl::Demand;
use super::eliminate::{Kept, eliminate_keeping};
use super::pairs::Pairs;
use super::small::Small;
use super::sweep::{Backward, Cotangents, Out, Segment, Start};
use super::{diagonals, segments};
use crate::error::Result;
use crate::scalar::Field;

/// Writes the cotangents of the generators to `grad`; `false` if these loops do not apply.
pub(in super::super) fn log_determinant_vjp<E: Field>(
    l: &Sss<E>,
    weight: E::Real,
    grad: &mut Sss<E>,
) -> Result<bool> {
    let mut kept = Kept::default();
    if !eliminate_keeping(l, Demand::Nonsingular, None, &mut kept)? {
        return Ok(false);
    }
    reverse(l, &kept, E::from_real(weight), None, grad);
    Ok(true)
}

/// Writes to `grad` the cotangents of the generators for the cotangent $`w M^{-1}`$ of M, and, given where
/// the cotangent of the residuals goes, those for $`-\tfrac12 \sum_k z_k^2 / d_k`$ beside it, of real numbers.
///
/// The substitution $`z_k = y_k - C_k h_k`$, $`h_{k+1} = A_k h_k + \tilde B_k z_k`$ is reversed in the same sweep: with μ
/// the cotangent of $`h_{k+1}`$ and $`\alpha_k = z_k / d_k - \mu^\top \tilde B_k`$, an element of $`M^{-1} y`$,
///
/// ```math
/// \begin{aligned}
/// \mathrm{d}g &\mathrel{+}= \mu z_k / d_k, & \mathrm{d}d &\mathrel{+}= (z_k / d_k) (\alpha_k - \tfrac12 z_k / d_k), \\
/// \mathrm{d}A &\mathrel{+}= \mu h_k^\top, & \mathrm{d}C &\mathrel{+}= \alpha_k h_k^\top, &
/// \mu &\leftarrow A_k^\top \mu + C_k^\top \alpha_k, & \mathrm{d}y_k &= -\alpha_k
/// \end{aligned}
/// ```
pub(in super::super) fn reverse<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    y: Option<&mut [E]>,
    grad: &mut Sss<E>,
) {
    match l.orders[0] {
        1 => sweep(l, kept, weight, y, grad, Small::<E, 1>::zeros(kept.length)),
        2 => sweep(l, kept, weight, y, grad, Small::<E, 2>::zeros(kept.length)),
        3 => sweep(l, kept, weight, y, grad, Small::<E, 3>::zeros(kept.length)),
        4 => sweep(l, kept, weight, y, grad, Small::<E, 4>::zeros(kept.length)),
        n => sweep(l, kept, weight, y, grad, Pairs::zeros(n, kept.length)),
    }
}

/// The sweep of [`reverse`] in one of its forms.
fn sweep<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    mut y: Option<&mut [E]>,
    grad: &mut Sss<E>,
    mut sweep: impl Backward<E>,
) {
    let (n, mut buffer) = (l.orders[0], Vec::new());
    let segments = segments(l.len(), kept.length);
    let size = kept.starts.len() / segments.len().max(1);
    for (s, steps) in segments.enumerate().rev() {
        let rows = steps.start * n..steps.end * n;
        let before = steps.start.saturating_sub(1) * n;
        let segment = Segment {
            a: diagonals(l, n, steps.clone(), &mut buffer),
            c: &l.c.flat()[rows.clone()],
            gains: &kept.gains[rows.clone()],
            before: &kept.gains[before..before + n],
            pivots: &kept.pivots[steps.clone()],
            weight,
            weighted: y.as_ref().map(|_| &kept.weighted[steps.clone()]),
        };
        let start = Start {
            p: &kept.starts[s * size..(s + 1) * size],
            state: y.as_ref().map(|_| &kept.states[s * n..(s + 1) * n]),
        };
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
            d: &mut grad.d.flat_mut()[steps.clone()],
            y: y.as_mut().map(|y| &mut y[steps]),
        };
        sweep.through(start, segment, out);
    }
}
