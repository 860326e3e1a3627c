//! The elimination backwards: cotangents of determinant and likelihood.

use super::super::super::{Sss, Transition};
use super::super::ldl::Demand;
use super::eliminate::eliminate_keeping;
use super::{LANES, Lane, add_scaled, add_times, conjugate, diagonals, pad, scaled, segments, times, total};
use crate::error::Result;
use crate::linalg::vectorize;
use crate::scalar::Field;

/// Some of the P that were met on the way to a factor.
pub(in super::super) struct Kept<E> {
    pub(super) length: usize,  // steps of a segment
    pub(super) starts: Vec<E>, // P before each segment, by columns
}

/// Adds to `grad` the cotangents of the generators; `false` if these loops do not apply.
pub(in super::super) fn log_determinant_vjp<E: Field>(
    l: &Sss<E>,
    weight: E::Real,
    grad: &mut Sss<E>,
) -> Result<bool> {
    let Some(kept) = eliminate_keeping(l, Demand::Nonsingular) else { return Ok(false) };
    let (factor, kept) = kept?;
    reverse(l, (&factor, &kept), E::from_real(weight), None, grad);
    Ok(true)
}

/// Adds to `grad` the cotangents of the generators for the cotangent $`w M^{-1}`$ of M, and, given α, for
/// $`\tfrac12 \alpha \alpha^H`$ beside it.
///
/// The second are those of a product: with the states $`x_{k+1} = A x_k + B \alpha_k`$ and
/// $`\lambda_k = A^H \lambda_{k+1} + C^H \alpha_k`$, dA = λ xᴴ, dB = λ conj(α), dC = α xᴴ.
pub(in super::super) fn reverse<E: Field>(
    l: &Sss<E>,
    (factor, kept): (&Sss<E>, &Kept<E>),
    weight: E,
    alpha: Option<&[E]>,
    grad: &mut Sss<E>,
) {
    let n = l.orders[0];
    let mut sweep = Sweep::zeros(n, kept.length);
    // The states before segments, for which the recurrence runs once ahead.
    let mut states = Vec::new();
    let mut buffer = Vec::new();
    if let Some(alpha) = alpha {
        let mut x = vec![E::zero(); n];
        for steps in segments(l.len(), kept.length) {
            states.extend_from_slice(&x);
            let a = diagonals(l, n, steps.clone(), &mut buffer);
            let b = &l.b.flat()[steps.start * n..steps.end * n];
            vectorize(
                #[inline(always)]
                || {
                    for ((a, b), u) in a.chunks_exact(n).zip(b.chunks_exact(n)).zip(&alpha[steps]) {
                        for ((x, a), b) in x.iter_mut().zip(a).zip(b) {
                            *x = b.fused(*u, *a * *x);
                        }
                    }
                },
            );
        }
    }
    for (s, steps) in segments(l.len(), kept.length).enumerate().rev() {
        let rows = steps.start * n..steps.end * n;
        let segment = Segment {
            a: diagonals(l, n, steps.clone(), &mut buffer),
            b: &l.b.flat()[rows.clone()],
            c: &l.c.flat()[rows.clone()],
            gains: &factor.b.flat()[rows.clone()],
            before: steps.start.checked_sub(1).map(|k| factor.b.values(k)),
            pivots: &factor.d.flat()[steps.clone()],
            alpha: alpha.map(|alpha| &alpha[steps.clone()]),
        };
        let x = alpha.map(|_| &states[s * n..(s + 1) * n]);
        sweep.start(n, &kept.starts[s * n * n..(s + 1) * n * n], x);
        let mut da = match &mut grad.transition {
            Transition::Diagonal(a) => Cotangents::Each(&mut a.flat_mut()[rows.clone()]),
            Transition::Scalar(a) => {
                Cotangents::Sum(&mut a.as_slice_mut().expect("cotangents are contiguous")[steps.clone()])
            }
            _ => Cotangents::None,
        };
        let mut out = Out {
            b: &mut grad.b.flat_mut()[rows.clone()],
            c: &mut grad.c.flat_mut()[rows],
            d: &mut grad.d.flat_mut()[steps],
        };
        vectorize(
            #[inline(always)]
            || match n {
                2 => sweep.segment(2, 1, &segment, weight, &mut da, &mut out),
                8 => sweep.segment(8, 1, &segment, weight, &mut da, &mut out),
                16 => sweep.segment(16, 2, &segment, weight, &mut da, &mut out),
                n => sweep.segment(n, n.div_ceil(LANES), &segment, weight, &mut da, &mut out),
            },
        );
    }
}

/// Generators and factors of the steps of a segment.
struct Segment<'a, E> {
    a: &'a [E],
    b: &'a [E],
    c: &'a [E],
    gains: &'a [E],
    before: Option<&'a [E]>, // gain of the step before the segment
    pivots: &'a [E],
    alpha: Option<&'a [E]>,
}

/// Where cotangents of transitions go.
enum Cotangents<'a, E> {
    None,
    Sum(&'a mut [E]),
    Each(&'a mut [E]),
}

/// Where the other cotangents go.
struct Out<'a, E> {
    b: &'a mut [E],
    c: &'a mut [E],
    d: &'a mut [E],
}

/// What the sweep carries from step to step and keeps of a segment.
struct Sweep<E> {
    p: Vec<Lane<E>>,       // P before each step of the segment, by columns
    f: Vec<Lane<E>>,       // P conj(c)
    x: Vec<Lane<E>>,       // states
    pi: Vec<Lane<E>>,      // cotangent of P behind the step
    product: Vec<Lane<E>>, // Π w of the step to come
    lambda: Vec<Lane<E>>,
    rows: Rows<E>,
}

/// The vectors of one step.
struct Rows<E> {
    a: Vec<Lane<E>>,
    b: Vec<Lane<E>>,
    c: Vec<Lane<E>>,
    w: Vec<Lane<E>>,
    before: Vec<Lane<E>>,
    dg: Vec<Lane<E>>,
    df: Vec<Lane<E>>,
}

impl<E: Field> Sweep<E> {
    fn zeros(n: usize, length: usize) -> Self {
        let blocks = n.div_ceil(LANES);
        let zeros = |vectors: usize| vec![[E::zero(); LANES]; vectors];
        let vector = || zeros(blocks);
        let rows = Rows {
            a: vector(),
            b: vector(),
            c: vector(),
            w: vector(),
            before: vector(),
            dg: vector(),
            df: vector(),
        };
        let many = || zeros(blocks * (length + 1));
        Self {
            p: zeros(n * blocks * (length + 1)),
            f: many(),
            x: many(),
            pi: zeros(n * blocks),
            product: vector(),
            lambda: vector(),
            rows,
        }
    }

    /// P and state before a segment.
    fn start(&mut self, n: usize, p: &[E], x: Option<&[E]>) {
        let blocks = n.div_ceil(LANES);
        for (column, lanes) in p.chunks_exact(n).zip(self.p.chunks_exact_mut(blocks)) {
            pad(column, lanes);
        }
        if let Some(x) = x {
            pad(x, &mut self.x[..blocks]);
        }
    }

    /// All P, f and states of a segment forward, then its steps backward.
    #[inline(always)]
    fn segment(
        &mut self,
        n: usize,
        blocks: usize,
        segment: &Segment<'_, E>,
        weight: E,
        da: &mut Cotangents<'_, E>,
        out: &mut Out<'_, E>,
    ) {
        let steps = segment.pivots.len();
        for k in 0..steps {
            self.forward(n, blocks, segment, k);
        }
        for k in (0..steps).rev() {
            self.backward(n, blocks, segment, weight, k, out);
            let (da_row, row) = (self.rows.dg.as_flattened(), k * n..(k + 1) * n);
            match da {
                Cotangents::None => {}
                Cotangents::Sum(da) => da[k] += da_row[..n].iter().copied().sum(),
                Cotangents::Each(da) => da[row].iter_mut().zip(da_row).for_each(|(out, v)| *out += *v),
            }
        }
    }

    /// f of step k, and P and the state before step k + 1.
    #[inline(always)]
    fn forward(&mut self, n: usize, blocks: usize, segment: &Segment<'_, E>, k: usize) {
        let row = k * n..(k + 1) * n;
        let rows = &mut self.rows;
        pad(&segment.a[row.clone()], &mut rows.a[..blocks]);
        pad(&segment.c[row.clone()], &mut rows.c[..blocks]);
        pad(&segment.gains[row.clone()], &mut rows.w[..blocks]);
        let (a, c, w) = (rows.a.as_flattened(), rows.c.as_flattened(), rows.w.as_flattened());
        let size = n * blocks;
        let (p, next) = self.p[k * size..(k + 2) * size].split_at_mut(size);
        for i in 0..blocks {
            let (ai, mut g, mut f) = (rows.a[i], rows.w[i], [E::zero(); LANES]);
            g.iter_mut().for_each(|g| *g *= segment.pivots[k]);
            for j in 0..n {
                let (aj, wj, cj) = (a[j].conj(), w[j].conj(), c[j].conj());
                let p = p[j * blocks + i];
                f = add_scaled(p, cj, f);
                next[j * blocks + i] = add_scaled(g, wj, times(p, scaled(ai, aj)));
            }
            self.f[k * blocks + i] = f;
        }
        if let Some(alpha) = segment.alpha {
            pad(&segment.b[row], &mut rows.b[..blocks]);
            let (x, next) = self.x[k * blocks..(k + 2) * blocks].split_at_mut(blocks);
            for i in 0..blocks {
                for l in 0..LANES {
                    next[i][l] = rows.b[i][l].fused(alpha[k], rows.a[i][l] * x[i][l]);
                }
            }
        }
    }

    /// Cotangents of the generators of step k, that of the transition left in `rows.dg`.
    #[inline(always)]
    fn backward(
        &mut self,
        n: usize,
        blocks: usize,
        segment: &Segment<'_, E>,
        weight: E,
        k: usize,
        out: &mut Out<'_, E>,
    ) {
        let row = k * n..(k + 1) * n;
        let rows = &mut self.rows;
        pad(&segment.a[row.clone()], &mut rows.a[..blocks]);
        pad(&segment.c[row.clone()], &mut rows.c[..blocks]);
        pad(&segment.gains[row.clone()], &mut rows.w[..blocks]);
        let before = if k > 0 { Some(&segment.gains[(k - 1) * n..k * n]) } else { segment.before };
        match before {
            Some(gain) => pad(gain, &mut rows.before[..blocks]),
            None => rows.before.fill([E::zero(); LANES]),
        }
        let two = E::one() + E::one();
        let half = E::one() / two;
        let mut inner = [E::zero(); LANES];
        for i in 0..blocks {
            rows.dg[i] = scaled(self.product[i], two);
            inner = add_times(conjugate(rows.w[i]), self.product[i], inner);
        }
        let dd = (weight / segment.pivots[k] - total(inner)).real_part();
        for i in 0..blocks {
            for l in 0..LANES {
                rows.df[i][l] = -(rows.a[i][l].conj() * rows.dg[i][l] + rows.c[i][l].conj() * dd);
            }
        }
        let alpha = segment.alpha.map_or(E::zero(), |alpha| alpha[k]);
        out.d[k] += dd + half * (alpha * alpha.conj());
        let (a, c) = (rows.a.as_flattened(), rows.c.as_flattened());
        let (df, before) = (rows.df.as_flattened(), rows.before.as_flattened());
        let p = &self.p[k * n * blocks..(k + 1) * n * blocks];
        let (db_out, dc_out) = (&mut out.b[row.clone()], &mut out.c[row]);
        for i in 0..blocks {
            let (ai, ci, dfi) = (rows.a[i], rows.c[i], rows.df[i]);
            let (half_df, half_c) = (scaled(dfi, half), scaled(conjugate(ci), half));
            let conjugate_a = conjugate(ai);
            let (mut da, mut dc, mut next) = ([E::zero(); LANES], [E::zero(); LANES], [E::zero(); LANES]);
            for j in 0..n {
                let (aj, cj, dfj, wj) = (a[j], c[j], df[j], before[j]);
                let (p, pi) = (p[j * blocks + i], &mut self.pi[j * blocks + i]);
                let moved = scaled(*pi, aj);
                da = add_times(moved, conjugate(p), da);
                dc = add_scaled(p, dfj, dc);
                let read = add_scaled(half_c, dfj.conj(), scaled(half_df, cj));
                let value = add_times(conjugate_a, moved, read);
                *pi = value;
                next = add_scaled(value, wj, next);
            }
            self.product[i] = next;
            let (f, x) = (self.f[k * blocks + i], self.x[k * blocks + i]);
            let (mut db_i, lambda) = (rows.dg[i], &mut self.lambda[i]);
            for l in 0..LANES {
                da[l] = two * da[l] - rows.dg[i][l] * f[l].conj() + lambda[l] * x[l].conj();
                dc[l] = dc[l].conj() - dd * f[l].conj() + alpha * x[l].conj();
                db_i[l] += lambda[l] * alpha.conj();
                lambda[l] = ai[l].conj().fused(lambda[l], ci[l].conj() * alpha);
            }
            let start = i * LANES;
            let width = LANES.min(n - start);
            db_out[start..start + width].iter_mut().zip(&db_i).for_each(|(out, v)| *out += *v);
            dc_out[start..start + width].iter_mut().zip(&dc).for_each(|(out, v)| *out += *v);
            rows.dg[i] = da;
        }
    }
}
