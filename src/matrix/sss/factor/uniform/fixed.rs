//! The elimination for a small order that is known when compiling: P in registers.

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::{add_scaled, add_times, plus, scaled, times, total};
use crate::scalar::Field;

/// Steps of the elimination; `p[j]` is column j of P.
#[inline(always)]
pub(super) fn steps<E: Field, const N: usize>(
    p: &mut [[E; N]; N],
    input: Input<'_, E>,
    demand: Demand,
    output: Output<'_, E>,
) -> Result<(), Refused<E>> {
    let (a, b, c) = (input.a.as_chunks::<N>().0, input.b.as_chunks::<N>().0, input.c.as_chunks::<N>().0);
    let gains = output.gains.as_chunks_mut::<N>().0;
    let mut q = *p;
    let rows = a.iter().zip(b).zip(c).zip(input.d).zip(gains.iter_mut().zip(output.pivots));
    for (k, ((((a, b), c), d), (gain, pivot))) in rows.enumerate() {
        let (a, c) = (*a, *c);
        let mut f = [[E::zero(); N]; 2];
        for j in 0..N {
            f[j % 2] = add_scaled(q[j], c[j].conj(), f[j % 2]);
        }
        let f = plus(f[0], f[1]);
        let g = add_times(scaled(a, -E::one()), f, *b);
        *pivot = (*d - total(times(c, f))).real_part();
        accept(*pivot, demand).map_err(|()| Refused { step: k, pivot: *pivot })?;
        let w = scaled(g, E::one() / *pivot);
        *gain = w;
        for j in 0..N {
            q[j] = add_scaled(g, w[j].conj(), times(q[j], scaled(a, a[j].conj())));
        }
    }
    *p = q;
    Ok(())
}
