//! The elimination backwards: cotangents of determinant and likelihood.

use super::super::super::{Sss, Transition};
use super::super::ldl::Demand;
use super::eliminate::{Kept, eliminate_keeping, lanes_of};
use super::small::Small;
use super::sweep::Sweep;
use super::{diagonals, segments};
use crate::error::Result;
use crate::linalg::Eight;
use crate::scalar::Field;

/// Generators and factors of the steps of a segment.
pub(super) struct Segment<'a, E> {
    pub(super) lead: usize, // steps before the segment with which `a` and `gains` begin: two, or none
    pub(super) a: &'a [E],
    pub(super) gains: &'a [E],
    pub(super) c: &'a [E],
    pub(super) pivots: &'a [E],
    pub(super) weight: E,
    pub(super) before: [&'a [E]; 2], // what is read first of the segment before
}

/// Where cotangents of transitions go.
pub(super) enum Cotangents<'a, E> {
    None,
    Sum(&'a mut [E]),
    Each(&'a mut [E]),
}

impl<E: Field> Cotangents<'_, E> {
    /// Writes those of step k.
    #[inline(always)]
    pub(super) fn write(&mut self, k: usize, da: &[E]) {
        match self {
            Self::None => {}
            Self::Sum(out) => out[k] = da.iter().copied().sum(),
            Self::Each(out) => out[k * da.len()..(k + 1) * da.len()].copy_from_slice(da),
        }
    }
}

/// Where cotangents go.
pub(super) struct Out<'a, E> {
    pub(super) a: Cotangents<'a, E>,
    pub(super) b: &'a mut [E],
    pub(super) c: &'a mut [E],
    pub(super) d: &'a mut [E],
    /// $`z = L^{-1} y`$ where there is a column y; becomes $`\alpha = M^{-1} y`$.
    pub(super) column: Option<&'a mut [E]>,
}

/// A sweep backward, a segment after another from the last to the first.
pub(super) trait Backward<E> {
    /// Writes the cotangents of a segment, before which P and the state of the substitution are these.
    fn through(&mut self, p: &[Eight<E>], state: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>);
}

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

/// Writes to `grad` the cotangents of the generators for the logarithms of all pivots, each weighed by w, and, given
/// $`z = L^{-1} y`$, for $`-\tfrac12 \sum_k |z_k|^2 / d_k = -\tfrac12 y^H M^{-1} y`$ beside them; z becomes α = M⁻¹ y.
///
/// Backward through the steps of the elimination, with Π the cotangent of P behind step k and λ that of the state s,
/// $`g = d\, \tilde B`$, $`f = P C^H`$ and $`\beta = z / d`$:
///
/// ```math
/// \begin{aligned}
/// \alpha &= \beta - \tilde B^H \lambda, &
/// \mathrm{d}g &= 2 \Pi \tilde B + \lambda \bar\beta, &
/// \mathrm{d}d &= w / d - \tilde B^H \Pi \tilde B + \alpha \bar\beta - \tfrac12 |\beta|^2, &
/// \mathrm{d}f &= -A^H \mathrm{d}g - C^H \mathrm{d}d, \\
/// \mathrm{d}B &= \mathrm{d}g, &
/// \mathrm{d}C &= (P\, \mathrm{d}f)^H - \mathrm{d}d\, f^H + \alpha s^H, &
/// \mathrm{d}A &= 2 \Pi A P - \mathrm{d}g f^H + \lambda s^H, &
/// \mathrm{d}D &= \mathrm{d}d, \\
/// \Pi &\leftarrow A^H \Pi A + \tfrac12 (\mathrm{d}f\, C + C^H \mathrm{d}f^H), &
/// \lambda &\leftarrow A^H \lambda + C^H \alpha
/// \end{aligned}
/// ```
pub(in super::super) fn reverse<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    z: Option<&mut [E]>,
    grad: &mut Sss<E>,
) {
    let length = kept.length;
    match l.orders[0] {
        1 => sweep(l, kept, weight, z, grad, Small::<E, 1>::zeros(length)),
        2 => sweep(l, kept, weight, z, grad, Small::<E, 2>::zeros(length)),
        3 => sweep(l, kept, weight, z, grad, Small::<E, 3>::zeros(length)),
        4 => sweep(l, kept, weight, z, grad, Small::<E, 4>::zeros(length)),
        n => sweep(l, kept, weight, z, grad, Sweep::zeros(n, length)),
    }
}

/// The sweep of [`reverse`] in one of its forms.
fn sweep<E: Field>(
    l: &Sss<E>,
    kept: &Kept<E>,
    weight: E,
    mut z: Option<&mut [E]>,
    grad: &mut Sss<E>,
    mut sweep: impl Backward<E>,
) {
    let (n, mut buffer) = (l.orders[0], Vec::new());
    let size = lanes_of(n);
    for (s, steps) in segments(l.len(), kept.length).enumerate().rev() {
        let rows = steps.start * n..steps.end * n;
        let lead = steps.start.min(2);
        let with_lead = steps.start - lead..steps.end;
        let before = steps.start.saturating_sub(kept.length) * n..steps.start * n;
        let transitions = match &l.transition {
            Transition::Diagonal(a) => &a.flat()[before.clone()],
            _ => &[],
        };
        let segment = Segment {
            lead,
            a: diagonals(l, n, with_lead.clone(), &mut buffer),
            gains: &kept.gains[with_lead.start * n..with_lead.end * n],
            c: &l.c.flat()[rows.clone()],
            pivots: &kept.pivots[steps.clone()],
            weight,
            before: [transitions, &kept.gains[before]],
        };
        let state = z.is_some().then(|| &kept.states[s * n..(s + 1) * n]);
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
            d: &mut grad.d.flat_mut()[steps.clone()],
            column: z.as_mut().map(|z| &mut z[steps]),
        };
        sweep.through(p, state, segment, out);
    }
}
