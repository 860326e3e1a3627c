//! The elimination for a small order that is known when compiling: P in registers.

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::total;
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
        let mut f = [[E::zero(); N]; 2];
        for j in 0..N {
            let cj = c[j].conj();
            for i in 0..N {
                f[j % 2][i] = q[j][i].fused(cj, f[j % 2][i]);
            }
        }
        let mut g = [E::zero(); N];
        let mut read = [E::zero(); N];
        for i in 0..N {
            let f = f[0][i] + f[1][i];
            read[i] = c[i] * f;
            g[i] = (-a[i]).fused(f, b[i]);
        }
        *pivot = (*d - total(read)).real_part();
        accept(*pivot, demand).map_err(|()| Refused { step: k, pivot: *pivot })?;
        let inverse = E::one() / *pivot;
        for i in 0..N {
            gain[i] = g[i] * inverse;
        }
        for j in 0..N {
            let (aj, wj) = (a[j].conj(), gain[j].conj());
            for i in 0..N {
                q[j][i] = g[i].fused(wj, q[j][i] * (a[i] * aj));
            }
        }
    }
    *p = q;
    Ok(())
}
