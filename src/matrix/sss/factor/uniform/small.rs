//! The sweep of a segment for a small order that is known when compiling: what is carried from step to step in registers.

use super::sweep::{Backward, Cotangents, Out, Segment};
use super::{add_scaled, add_times, conjugate, plus, scaled, times, total};
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
    x: [E; N], // state
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
        let met = vec![Met { p: matrix, f: zero, x: zero }; length + 1];
        Self { met, carried: Carried { pi: matrix, product: zero, lambda: zero } }
    }
}

impl<E: Field, const N: usize> Backward<E> for Small<E, N> {
    fn through(&mut self, p: &[Eight<E>], x: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>) {
        for (column, start) in self.met[0].p.iter_mut().zip(p) {
            column.copy_from_slice(&start.0[..N]);
        }
        if let Some(x) = x {
            self.met[0].x.copy_from_slice(x);
        }
        let Self { met, carried } = self;
        vectorize(
            #[inline(always)]
            || {
                forward(met, &segment);
                backward(met, carried, &segment, out);
            },
        );
    }
}

/// Every P, f and state of a segment.
#[inline(always)]
fn forward<E: Field, const N: usize>(met: &mut [Met<E, N>], segment: &Segment<'_, E>) {
    let rows = |values| <[E]>::as_chunks::<N>(values).0;
    let (a, b, c, gains) = (rows(segment.a), rows(segment.b), rows(segment.c), rows(segment.gains));
    let (mut p, mut x) = (met[0].p, met[0].x);
    for k in 0..segment.pivots.len() {
        let (a, c, w, g) = (a[k], c[k], gains[k], scaled(gains[k], segment.pivots[k]));
        let mut f = [E::zero(); N];
        for j in 0..N {
            f = add_scaled(p[j], c[j].conj(), f);
        }
        met[k] = Met { p, f, x };
        for j in 0..N {
            p[j] = add_scaled(g, w[j].conj(), scaled(times(p[j], a), a[j].conj()));
        }
        if let Some(alpha) = segment.alpha {
            x = add_scaled(b[k], alpha[k], times(a, x));
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
    let Carried { mut pi, mut product, mut lambda } = *carried;
    for k in (0..segment.pivots.len()).rev() {
        let (a, c, w) = (a[k], c[k], gains[k]);
        let before = if k > 0 { gains[k - 1] } else { *segment.before.first_chunk().unwrap_or(&w) };
        let Met { p, f, x } = met[k];
        let alpha = segment.alpha.map_or(E::zero(), |alpha| alpha[k]);
        let dg = scaled(product, two);
        let dd = (segment.weight.over(segment.pivots[k]) - total(times(conjugate(w), product))).real_part();
        out.d[k] = dd + half * (alpha * alpha.conj());
        let (ai, ci) = (conjugate(a), conjugate(c));
        let df = scaled(add_times(ai, dg, scaled(ci, dd)), -E::one());
        let (half_df, half_c) = (scaled(df, half), scaled(ci, half));
        let (mut da, mut dc) = ([E::zero(); N], [E::zero(); N]);
        product = [E::zero(); N];
        for j in 0..N {
            let moved = scaled(pi[j], a[j]);
            da = add_times(moved, conjugate(p[j]), da);
            dc = add_scaled(p[j], df[j], dc);
            let read = add_scaled(half_c, df[j].conj(), scaled(half_df, c[j]));
            pi[j] = add_times(ai, moved, read);
            product = add_scaled(pi[j], before[j], product);
        }
        let (f, x) = (conjugate(f), conjugate(x));
        let da = add_times(lambda, x, add_times(scaled(dg, -E::one()), f, scaled(da, two)));
        match &mut out.a {
            Cotangents::None => {}
            Cotangents::Sum(out) => out[k] = total(da),
            Cotangents::Each(out) => out[k * N..(k + 1) * N].copy_from_slice(&da),
        }
        out_b[k] = plus(dg, scaled(lambda, alpha.conj()));
        out_c[k] = add_scaled(x, alpha, add_scaled(f, -dd, conjugate(dc)));
        lambda = add_times(ai, lambda, scaled(ci, alpha));
    }
    *carried = Carried { pi, product, lambda };
}
