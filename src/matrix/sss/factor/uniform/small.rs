//! The sweep of a segment for a small order that is known when compiling: what is carried from step to step in registers.
//!
//! A step waits for the sums of the step behind it, not for the Π of it: with Π' behind the step and w' the gain of the step
//! before, $`\Pi w' = A^H \Pi' (A w') + \tfrac12 \mathrm{d}f\, (C w') + \tfrac12 C^H (\mathrm{d}f^H w')`$.

use super::sweep::{Backward, Out, Segment, Start};
use super::{add_scaled, add_times, conjugate, plus, scaled, times, total};
use crate::linalg::vectorize;
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
    h: [E; N], // state of the substitution
}

#[derive(Clone, Copy)]
struct Carried<E, const N: usize> {
    pi: [[E; N]; N], // cotangent of P behind the step
    product: [E; N], // Π w of the step to come
    mu: [E; N],      // cotangent of the state of the substitution
}

impl<E: Field, const N: usize> Small<E, N> {
    pub(super) fn zeros(length: usize) -> Self {
        let (zero, matrix) = ([E::zero(); N], [[E::zero(); N]; N]);
        let met = vec![Met { p: matrix, f: zero, h: zero }; length];
        Self { met, carried: Carried { pi: matrix, product: zero, mu: zero } }
    }
}

impl<E: Field, const N: usize> Backward<E> for Small<E, N> {
    fn through(&mut self, start: Start<'_, E>, segment: Segment<'_, E>, out: Out<'_, E>) {
        let (mut p, mut h) = ([[E::zero(); N]; N], [E::zero(); N]);
        for (column, start) in p.iter_mut().zip(start.p) {
            column.copy_from_slice(&start.0[..N]);
        }
        if let Some(state) = start.state {
            h.copy_from_slice(state);
        }
        let Self { met, carried } = self;
        vectorize(
            #[inline(always)]
            || {
                forward(met, p, h, &segment);
                backward(met, carried, &segment, out);
            },
        );
    }
}

/// Every P, f and state of a segment, from those before it.
#[inline(always)]
fn forward<E: Field, const N: usize>(
    met: &mut [Met<E, N>],
    mut p: [[E; N]; N],
    mut h: [E; N],
    segment: &Segment<'_, E>,
) {
    let rows = |values| <[E]>::as_chunks::<N>(values).0;
    let (a, c, gains) = (rows(segment.a), rows(segment.c), rows(segment.gains));
    for k in 0..segment.pivots.len() {
        let (a, c, w, g) = (a[k], c[k], gains[k], scaled(gains[k], segment.pivots[k]));
        let mut f = [E::zero(); N];
        for j in 0..N {
            f = add_scaled(p[j], c[j].conj(), f);
        }
        met[k] = Met { p, f, h };
        for j in 0..N {
            p[j] = add_times(p[j], scaled(a, a[j].conj()), scaled(g, w[j].conj()));
        }
        if let Some(weighted) = segment.weighted {
            h = add_times(a, h, scaled(g, weighted[k]));
        }
    }
}

/// Cotangents of the generators, from the last step to the first.
#[inline(always)]
fn backward<E: Field, const N: usize>(
    met: &[Met<E, N>],
    carried: &mut Carried<E, N>,
    segment: &Segment<'_, E>,
    mut out: Out<'_, E>,
) {
    let rows = |values| <[E]>::as_chunks::<N>(values).0;
    let (a, c, gains) = (rows(segment.a), rows(segment.c), rows(segment.gains));
    let (out_b, out_c) = (out.b.as_chunks_mut::<N>().0, out.c.as_chunks_mut::<N>().0);
    let two = E::one() + E::one();
    let half = E::one() / two;
    let Carried { mut pi, mut product, mut mu } = *carried;
    for k in (0..segment.pivots.len()).rev() {
        let (a, c, w) = (a[k], c[k], gains[k]);
        let before = if k > 0 { gains[k - 1] } else { *segment.before.first_chunk().unwrap_or(&w) };
        let Met { p, f, h } = met[k];
        let weighted = segment.weighted.map_or(E::zero(), |weighted| weighted[k]);
        let moved = times(a, before);
        let mut early = [E::zero(); N];
        for j in 0..N {
            early = add_scaled(pi[j], moved[j], early);
        }
        let read = total(times(c, before));
        let passed = total(times(mu, moved));
        let alpha = weighted - total(times(mu, w));
        let dd = (segment.weight / segment.pivots[k] - total(times(conjugate(w), product))).real_part()
            + weighted * (alpha - half * weighted);
        out.d[k] = dd;
        if let Some(y) = &mut out.y {
            y[k] = -alpha;
        }
        let entered = total(times(moved, conjugate(product)));
        let written = -(two * entered + weighted * passed + dd * read);
        let dg = add_scaled(mu, weighted, scaled(product, two));
        let (ai, ci) = (conjugate(a), conjugate(c));
        let df = scaled(add_times(ai, dg, scaled(ci, dd)), -E::one());
        let (half_df, half_c) = (scaled(df, half), scaled(ci, half));
        product = add_scaled(half_c, written, add_scaled(half_df, read, times(ai, early)));
        let (mut da, mut dc) = ([E::zero(); N], [E::zero(); N]);
        for j in 0..N {
            let moved = scaled(pi[j], a[j]);
            da = add_times(moved, conjugate(p[j]), da);
            dc = add_scaled(p[j], df[j], dc);
            let read = add_scaled(half_c, df[j].conj(), scaled(half_df, c[j]));
            pi[j] = add_times(ai, moved, read);
        }
        let f = conjugate(f);
        let da = add_times(mu, h, add_times(scaled(dg, -E::one()), f, scaled(da, two)));
        out.a.take(k, N, std::iter::once(&da[..]));
        out_b[k] = dg;
        out_c[k] = add_scaled(h, alpha, add_scaled(f, -dd, conjugate(dc)));
        mu = plus(times(a, mu), scaled(c, alpha));
    }
    *carried = Carried { pi, product, mu };
}
