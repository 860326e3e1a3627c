//! The recurrence for one column and an elementwise transition, at the speed of memory.

use super::Semiseparable;
use super::transition::Transition;
use crate::linalg::vectorize;
use crate::scalar::Field;

/// Accumulators of a scalar product: one vector of the widest machine for `f64`.
const LANES: usize = 8;

/// Generators and input of some consecutive steps; `a` has `width` numbers a step.
#[derive(Clone, Copy)]
struct Steps<'a, E> {
    a: &'a [E],
    b: &'a [E],
    c: &'a [E],
    d: &'a [E],
    x: &'a [E],
    width: usize,
    order: usize,
}

/// `y = M x` for one column, or `None` if the transition does not act elementwise.
pub(super) fn matmul<E: Field, A: Transition<E>>(
    m: &Semiseparable<E, A>,
    x: &[E],
    y: &mut [E],
) -> Option<()> {
    let (a, width) = m.transition.elementwise()?;
    let (b, c, d) = (m.b.as_slice()?, m.c.as_slice()?, m.d.as_slice()?);
    let steps = Steps { a, b, c, d, x, width, order: m.order() };
    let scalar = width != steps.order;
    vectorize(
        #[inline(always)]
        || match (steps.order, scalar) {
            (1, _) => fixed::<E, 1, 1, 1>(steps, y),
            (2, false) => fixed::<E, 2, 2, 2>(steps, y),
            (4, false) => fixed::<E, 4, 4, 4>(steps, y),
            (8, false) => fixed::<E, 8, 8, 8>(steps, y),
            (16, false) => fixed::<E, 16, 16, 8>(steps, y),
            (2, true) => fixed::<E, 2, 1, 2>(steps, y),
            (4, true) => fixed::<E, 4, 1, 4>(steps, y),
            (8, true) => fixed::<E, 8, 1, 8>(steps, y),
            (16, true) => fixed::<E, 16, 1, 8>(steps, y),
            _ => any_order(steps, y),
        },
    );
    Some(())
}

/// `y_k = c_k·h + d_k x_k`, then `h ← a_k h + b_k x_k`; order `N`, `W` numbers a transition (1 or `N`) and
/// `L` accumulators, `L` dividing `N`. The state lives in registers.
#[inline(always)]
fn fixed<E: Field, const N: usize, const W: usize, const L: usize>(s: Steps<'_, E>, y: &mut [E]) {
    let (a, b, c) = (s.a.as_chunks::<W>().0, s.b.as_chunks::<N>().0, s.c.as_chunks::<N>().0);
    let mut h = [E::zero(); N];
    for (((a, b), c), ((d, x), y)) in a.iter().zip(b).zip(c).zip(s.d.iter().zip(s.x).zip(y)) {
        let mut sums = [E::zero(); L];
        for n in 0..N {
            sums[n % L] += c[n] * h[n];
            h[n] = a[if W == 1 { 0 } else { n }] * h[n] + b[n] * *x;
        }
        *y = total(sums) + *d * *x;
    }
}

/// The same for any order, with the state in memory.
#[inline(always)]
fn any_order<E: Field>(s: Steps<'_, E>, y: &mut [E]) {
    let mut h = vec![E::zero(); s.order];
    let (h, h_rest) = h.as_chunks_mut::<LANES>();
    for (k, y) in y.iter_mut().enumerate() {
        let (a, b, c) = (row(s.a, s.width, k), row(s.b, s.order, k), row(s.c, s.order, k));
        let ((b, b_rest), (c, c_rest)) = (b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
        let x = s.x[k];
        let mut sums = [E::zero(); LANES];
        let mut rest = s.d[k] * x;
        if s.width == s.order {
            let (a, a_rest) = a.as_chunks::<LANES>();
            for (((h, a), b), c) in h.iter_mut().zip(a).zip(b).zip(c) {
                for l in 0..LANES {
                    sums[l] += c[l] * h[l];
                    h[l] = a[l] * h[l] + b[l] * x;
                }
            }
            for (((h, a), b), c) in h_rest.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
                rest += *c * *h;
                *h = *a * *h + *b * x;
            }
        } else {
            let a = a[0];
            for ((h, b), c) in h.iter_mut().zip(b).zip(c) {
                for l in 0..LANES {
                    sums[l] += c[l] * h[l];
                    h[l] = a * h[l] + b[l] * x;
                }
            }
            for ((h, b), c) in h_rest.iter_mut().zip(b_rest).zip(c_rest) {
                rest += *c * *h;
                *h = a * *h + *b * x;
            }
        }
        *y = total(sums) + rest;
    }
}

#[inline(always)]
fn row<E>(values: &[E], width: usize, k: usize) -> &[E] {
    &values[k * width..(k + 1) * width]
}

/// Sum of the accumulators, in pairs.
#[inline(always)]
fn total<E: Field, const L: usize>(mut sums: [E; L]) -> E {
    let mut half = L / 2;
    while half > 0 {
        for l in 0..half {
            let other = sums[l + half];
            sums[l] += other;
        }
        half /= 2;
    }
    sums[0]
}
