//! The elimination for a small order that is known when compiling: P in registers.
//!
//! A step waits for the pivot of the step before, not for P behind it: with $`P = A P' A^H + g g^H / d`$ of that step,
//! $`P c^H = A P' (c A)^H + g\, (c g)^H / d`$, whose first term is ready early.

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::{add_scaled, add_times, plus, scaled, times, total, unrolled};
use crate::scalar::Field;

/// Steps of the elimination; `p[j]` is column j of P. A column is looked for only if it is `SOLVED`.
#[inline(always)]
pub(super) fn steps<E: Field, const N: usize, const SOLVED: bool>(
    p: &mut [[E; N]; N],
    input: Input<'_, E>,
    demand: Demand,
    output: Output<'_, E>,
) -> Result<(), Refused<E>> {
    let (a, b, c) = (input.a.as_chunks::<N>().0, input.b.as_chunks::<N>().0, input.c.as_chunks::<N>().0);
    let gains = output.gains.as_chunks_mut::<N>().0;
    let column = output.column.filter(|_| SOLVED).map(|column| (column.x, column.state));
    let (x, state) = column.unwrap_or_default();
    let mut s = state.first_chunk().map_or([E::zero(); N], |state| *state);
    let mut q = *p;
    // The update of the step before, still to come.
    let (mut moves, mut g, mut w, mut inverse) = ([E::one(); N], [E::zero(); N], [E::zero(); N], E::zero());
    let rows = a.iter().zip(b).zip(c).zip(input.d).zip(gains.iter_mut().zip(output.pivots));
    for (k, ((((a, b), c), d), (gain, pivot))) in rows.enumerate() {
        let (a, c) = (*a, *c);
        let read = total(times(g, c));
        let weighted = read.conj() * inverse;
        let moved = times(moves, c);
        let mut sums = [[E::zero(); N]; 2];
        unrolled::<N>(
            #[inline(always)]
            |j| sums[j % 2] = add_scaled(q[j], moved[j].conj(), sums[j % 2]),
        );
        let early = times(moves, plus(sums[0], sums[1]));
        *pivot = (-read).fused(weighted, *d - total(times(c, early))).real_part();
        accept(*pivot, demand).map_err(|()| Refused { step: k, pivot: *pivot })?;
        update(&mut q, moves, g, w);
        let f = add_scaled(g, weighted, early);
        g = add_times(scaled(a, -E::one()), f, *b);
        inverse = E::one().over(*pivot);
        w = scaled(g, inverse);
        *gain = w;
        moves = a;
        if SOLVED {
            let rest = x[k] - total(times(c, s));
            x[k] = rest;
            s = add_scaled(w, rest, times(a, s));
        }
    }
    update(&mut q, moves, g, w);
    *p = q;
    if let Some(state) = state.first_chunk_mut() {
        *state = s;
    }
    Ok(())
}

/// `P ← A P Aᴴ + g wᴴ`
#[inline(always)]
fn update<E: Field, const N: usize>(p: &mut [[E; N]; N], a: [E; N], g: [E; N], w: [E; N]) {
    unrolled::<N>(
        #[inline(always)]
        |j| p[j] = add_scaled(g, w[j].conj(), scaled(times(p[j], a), a[j].conj())),
    );
}
