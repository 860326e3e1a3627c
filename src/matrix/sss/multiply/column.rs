//! The recurrence for one column, at the speed of memory: numbers as entries, one order, elementwise transitions.

use super::uniform::{Numbers, Uniform};
use crate::linalg::{Into, vectorize};
use crate::scalar::Field;

/// Accumulators of a scalar product: one vector of the widest machine for `f64`.
const LANES: usize = 8;

/// `y = M x` or `y += M x` for one column.
pub(super) fn multiply<E: Field>(u: Uniform<'_, E>, into: Into, x: &[E], y: &mut [E]) {
    let column = Column { u, x, into };
    vectorize(
        #[inline(always)]
        || match (u.a, u.order) {
            (Numbers::Own(a), 1) | (Numbers::Shared(a), 1) => column.fixed::<1, 1, 1>(a, y),
            (Numbers::Own(a), 2) => column.fixed::<2, 2, 2>(a, y),
            (Numbers::Own(a), 4) => column.fixed::<4, 4, 4>(a, y),
            (Numbers::Own(a), 8) => column.fixed::<8, 8, 8>(a, y),
            (Numbers::Own(a), 16) => column.fixed::<16, 16, 8>(a, y),
            (Numbers::Shared(a), 2) => column.fixed::<2, 1, 2>(a, y),
            (Numbers::Shared(a), 4) => column.fixed::<4, 1, 4>(a, y),
            (Numbers::Shared(a), 8) => column.fixed::<8, 1, 8>(a, y),
            (Numbers::Shared(a), 16) => column.fixed::<16, 1, 8>(a, y),
            _ => column.any_order(y),
        },
    );
}

#[derive(Clone, Copy)]
struct Column<'a, E> {
    u: Uniform<'a, E>,
    x: &'a [E],
    into: Into,
}

impl<E: Field> Column<'_, E> {
    /// `y_k = c_k·h + d_k x_k`, then `h ← a_k h + b_k x_k`; order `N`, `W` numbers a transition (1 or `N`) and `L`
    /// accumulators, `L` dividing `N`. The state lives in registers.
    #[inline(always)]
    fn fixed<const N: usize, const W: usize, const L: usize>(&self, a: &[E], y: &mut [E]) {
        let (u, x) = (&self.u, self.x);
        let (a, b, c) = (a.as_chunks::<W>().0, u.b.as_chunks::<N>().0, u.c.as_chunks::<N>().0);
        let mut h = [E::zero(); N];
        for position in 0..u.len {
            let k = u.step(position);
            let (a, b, c, x) = (&a[k], &b[k], &c[k], x[k]);
            let mut sums = [E::zero(); L];
            for n in 0..N {
                sums[n % L] += u.how.of(c[n]) * h[n];
                h[n] = u.how.of(a[if W == 1 { 0 } else { n }]).fused(h[n], u.how.of(b[n]) * x);
            }
            self.store(&mut y[k], total(sums) + u.skip(k, x));
        }
    }

    /// The same for any order, with the state in memory.
    #[inline(always)]
    fn any_order(&self, y: &mut [E]) {
        let (u, one) = (&self.u, [E::one()]);
        let mut h = vec![E::zero(); u.order];
        let (h, h_rest) = h.as_chunks_mut::<LANES>();
        for position in 0..u.len {
            let k = u.step(position);
            let (b, c, x) = (row(u.b, u.order, k), row(u.c, u.order, k), self.x[k]);
            let ((b, b_rest), (c, c_rest)) = (b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
            let mut sums = [E::zero(); LANES];
            let mut rest = u.skip(k, x);
            if let Numbers::Own(a) = u.a {
                let (a, a_rest) = row(a, u.order, k).as_chunks::<LANES>();
                for (((h, a), b), c) in h.iter_mut().zip(a).zip(b).zip(c) {
                    for l in 0..LANES {
                        sums[l] += u.how.of(c[l]) * h[l];
                        h[l] = u.how.of(a[l]).fused(h[l], u.how.of(b[l]) * x);
                    }
                }
                for (((h, a), b), c) in h_rest.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
                    rest += u.how.of(*c) * *h;
                    *h = u.how.of(*a).fused(*h, u.how.of(*b) * x);
                }
            } else {
                let shared = if let Numbers::Shared(a) = u.a { &a[k..k + 1] } else { &one };
                let a = u.how.of(shared[0]);
                for ((h, b), c) in h.iter_mut().zip(b).zip(c) {
                    for l in 0..LANES {
                        sums[l] += u.how.of(c[l]) * h[l];
                        h[l] = a.fused(h[l], u.how.of(b[l]) * x);
                    }
                }
                for ((h, b), c) in h_rest.iter_mut().zip(b_rest).zip(c_rest) {
                    rest += u.how.of(*c) * *h;
                    *h = a.fused(*h, u.how.of(*b) * x);
                }
            }
            self.store(&mut y[k], total(sums) + rest);
        }
    }

    #[inline(always)]
    fn store(&self, y: &mut E, value: E) {
        *y = if self.into == Into::Add { *y + value } else { value };
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
