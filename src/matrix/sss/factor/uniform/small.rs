//! The sweep of a segment for a small order that is known when compiling: what is carried from step to step in registers.

use super::reverse::{Backward, Out, Segment};
use super::{add_scaled, add_times, conjugate, scaled, times, total};
use crate::linalg::{Eight, vectorize};
use crate::scalar::Field;

/// What the sweep carries from step to step and keeps of a segment; matrices by columns.
pub(super) struct Small<E, const N: usize> {
    met: Vec<Met<E, N>>,
    carried: Carried<E, N>,
}

/// What is met forward at a step.
#[derive(Clone, Copy)]
struct Met<E, const N: usize> {
    p: [[E; N]; N],
    f: [E; N], // P conj(c)
    s: [E; N], // state of the substitution
}

#[derive(Clone, Copy)]
struct Carried<E, const N: usize> {
    pi: [[E; N]; N], // cotangent of P behind the step
    product: [E; N], // Π w of the step to come
    lambda: [E; N],
}

impl<E: Field, const N: usize> Small<E, N> {
    pub(super) fn zeros(length: usize) -> Self {
        let (zero, matrix) = ([E::zero(); N], [[E::zero(); N]; N]);
        let met = vec![Met { p: matrix, f: zero, s: zero }; length + 1];
        Self { met, carried: Carried { pi: matrix, product: zero, lambda: zero } }
    }
}

impl<E: Field, const N: usize> Backward<E> for Small<E, N> {
    fn through(&mut self, p: &[Eight<E>], s: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>) {
        let start = &mut self.met[0];
        for (column, p) in start.p.iter_mut().zip(p) {
            column.copy_from_slice(&p.0[..N]);
        }
        start.s = s.and_then(<[E]>::first_chunk).map_or([E::zero(); N], |s| *s);
        let Self { met, carried } = self;
        vectorize(
            #[inline(always)]
            || match out.column {
                None => {
                    forward::<E, N, false>(met, &segment, &out);
                    backward::<E, N, false>(met, carried, &segment, out);
                }
                Some(_) => {
                    forward::<E, N, true>(met, &segment, &out);
                    backward::<E, N, true>(met, carried, &segment, out);
                }
            },
        );
    }
}

/// Every P, f and state of a segment.
#[inline(always)]
fn forward<E: Field, const N: usize, const SOLVED: bool>(
    met: &mut [Met<E, N>],
    segment: &Segment<'_, E>,
    out: &Out<'_, E>,
) {
    let rows = |values| <[E]>::as_chunks::<N>(values).0;
    let (a, c, gains) =
        (&rows(segment.a)[segment.lead..], rows(segment.c), &rows(segment.gains)[segment.lead..]);
    let z = out.column.as_deref().unwrap_or_default();
    let (mut p, mut s) = (met[0].p, met[0].s);
    for k in 0..segment.pivots.len() {
        let (a, c, w, g) = (a[k], c[k], gains[k], scaled(gains[k], segment.pivots[k]));
        let mut f = [E::zero(); N];
        for j in 0..N {
            f = add_scaled(p[j], c[j].conj(), f);
        }
        met[k] = Met { p, f, s };
        for j in 0..N {
            p[j] = add_scaled(g, w[j].conj(), scaled(times(p[j], a), a[j].conj()));
        }
        if SOLVED {
            s = add_scaled(w, z[k], times(a, s));
        }
    }
}

/// Cotangents of the generators, from the last step to the first.
///
/// A step waits for few numbers of the one behind it: with the w to come, $`\Pi w = A^H \Pi' (A w) + \tfrac12 (\mathrm{d}f\,
/// (C w) + C^H \mathrm{d}f^H w)`$, whose first term is ready early.
#[inline(always)]
fn backward<E: Field, const N: usize, const SOLVED: bool>(
    met: &[Met<E, N>],
    carried: &mut Carried<E, N>,
    segment: &Segment<'_, E>,
    mut out: Out<'_, E>,
) {
    let rows = |values| <[E]>::as_chunks::<N>(values).0;
    let lead = segment.lead;
    let (a, c, gains) = (&rows(segment.a)[lead..], rows(segment.c), rows(segment.gains));
    let (out_b, out_c) = (out.b.as_chunks_mut::<N>().0, out.c.as_chunks_mut::<N>().0);
    let column = out.column.unwrap_or_default();
    let two = E::one() + E::one();
    let half = E::one() / two;
    let Carried { mut pi, mut product, mut lambda } = *carried;
    for k in (0..segment.pivots.len()).rev() {
        let (a, c, w) = (a[k], c[k], gains[k + lead]);
        let before = if k + lead > 0 { gains[k + lead - 1] } else { [E::zero(); N] };
        let Met { p, f, s } = met[k];
        let (ai, ci) = (conjugate(a), conjugate(c));
        let inverse = E::one().over(segment.pivots[k]);
        let mut dd = segment.weight * inverse - total(times(conjugate(w), product));
        let mut dg = scaled(product, two);
        let mut alpha = E::zero();
        if SOLVED {
            let beta = column[k] * inverse;
            alpha = beta - total(times(conjugate(w), lambda));
            column[k] = alpha;
            dd += (alpha - half * beta) * beta.conj();
            dg = add_scaled(lambda, beta.conj(), dg);
        }
        let dd = dd.real_part();
        let df = scaled(add_times(ai, dg, scaled(ci, dd)), -E::one());
        let (half_df, half_c, carry) = (scaled(df, half), scaled(ci, half), times(a, before));
        let (mut da, mut dc, mut early) = ([E::zero(); N], [E::zero(); N], [E::zero(); N]);
        for j in 0..N {
            early = add_scaled(pi[j], carry[j], early);
            let moved = scaled(pi[j], a[j]);
            da = add_times(moved, conjugate(p[j]), da);
            dc = add_scaled(p[j], df[j], dc);
            let read = add_scaled(half_df, c[j], times(ai, moved));
            pi[j] = add_scaled(half_c, df[j].conj(), read);
        }
        let early = add_scaled(half_df, total(times(c, before)), times(ai, early));
        product = add_scaled(half_c, total(times(conjugate(df), before)), early);
        let f = conjugate(f);
        let mut da = add_times(scaled(dg, -E::one()), f, scaled(da, two));
        let mut dc = add_scaled(f, -dd, conjugate(dc));
        if SOLVED {
            let s = conjugate(s);
            (da, dc) = (add_times(lambda, s, da), add_scaled(s, alpha, dc));
            lambda = add_times(ai, lambda, scaled(ci, alpha));
        }
        out.a.write(k, &da);
        out.d[k] = dd;
        (out_b[k], out_c[k]) = (dg, dc);
    }
    *carried = Carried { pi, product, lambda };
}
