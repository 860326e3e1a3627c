//! One segment of the elimination for any order, two steps at a time: forward to find P again before pairs of steps, and
//! backward for the cotangents.
//!
//! One pass over P and Π does for a pair what involves matrices. With A through both steps, U the halves of df, $`V = C^H`$
//! and W the gains, those of the second step read before it and of the first carried behind the second,
//!
//! ```math
//! P' = A P A^H + G W^H, \qquad \Pi = A^H \Pi' A + U V^H + V U^H, \qquad
//! R = \mathrm{rows}\; \Pi' A P, \quad P U, \quad P V, \quad \Pi W \text{ of the pair before},
//! ```
//!
//! and everything else follows from these columns.

use super::passes::{Pass, Rows, every, keep, write_passes};
use super::reverse::{Backward, Cotangents, Out, Segment};
use super::{LANES, lane, put, unrolled};
use crate::linalg::{Eight, Simd, WithSimd, dispatch, prefetch};
use crate::scalar::Field;

/// What the sweep carries from pair to pair and keeps of a segment: matrices by lanes of all columns.
pub(super) struct Sweep<E> {
    n: usize,
    p: Vec<Eight<E>>,  // P before every pair, or every second, but the first
    pi: Vec<Eight<E>>, // cotangent of P behind the pair
    passes: Vec<Pass<E>>,
    states: Vec<Eight<E>>, // of the substitution before each step
    vectors: Vec<Vectors<E>>,
    ones: Vec<E>,
    zeros: Vec<E>,
    da: [Vec<E>; 2],
}

/// One lane of the vectors of a pair; those of the second step first.
#[derive(Clone, Copy)]
struct Vectors<E> {
    u: [Eight<E>; 2],
    v: [Eight<E>; 2],
    product: [Eight<E>; 2], // Π w
    dg: [Eight<E>; 2],
    half_df: Eight<E>,     // of the second step
    lambda: [Eight<E>; 2], // behind the second step, and before it
}

/// Generators and factors of one step.
#[derive(Clone, Copy)]
struct Step<'a, E> {
    a: &'a [E],
    c: &'a [E],
    w: &'a [E],
    pivot: E,
}

/// The numbers of a step that its vectors are combined with.
#[derive(Clone, Copy)]
struct Numbers<E> {
    alpha: E,
    beta: E,
    dd: E,
}

/// Numbers of a pair.
#[derive(Clone, Copy)]
struct Pair<E> {
    steps: [Numbers<E>; 2], // second first
    read: E,                // c of the second step on w of the first
    cross: E,               // wᴴ of the first on df of the second
}

impl<E: Field> Sweep<E> {
    pub(super) fn zeros(n: usize, length: usize) -> Self {
        let (blocks, pairs) = (n.div_ceil(LANES), length.div_ceil(2));
        let zero = Eight([E::zero(); LANES]);
        let two = [zero; 2];
        let matrix = blocks * blocks * LANES;
        let vectors = Vectors { u: two, v: two, product: two, dg: two, half_df: zero, lambda: two };
        Self {
            n,
            p: vec![zero; matrix * (pairs.div_ceil(every(blocks)) - 1)],
            pi: vec![zero; matrix],
            passes: vec![Pass { a: zero, w: two }; blocks * (pairs + 1)],
            states: vec![zero; blocks * (2 * pairs + 1)],
            vectors: vec![vectors; blocks],
            ones: vec![E::one(); n],
            zeros: vec![E::zero(); n],
            da: [vec![E::zero(); n], vec![E::zero(); n]],
        }
    }
}

impl<E: Field> Backward<E> for Sweep<E> {
    fn through(&mut self, p: &[Eight<E>], state: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>) {
        for (lane, s) in self.states.iter_mut().zip(state.into_iter().flat_map(|s| s.chunks(LANES))) {
            lane.0[..s.len()].copy_from_slice(s);
        }
        dispatch(Through { sweep: self, start: p, segment, out });
    }
}

/// A sweep through a segment.
struct Through<'a, E> {
    sweep: &'a mut Sweep<E>,
    start: &'a [Eight<E>],
    segment: Segment<'a, E>,
    out: Out<'a, E>,
}

impl<E: Field> WithSimd for Through<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.sweep.n {
            8 => self.run(simd, (8, 1)),
            16 => self.run(simd, (16, 2)),
            n => self.run(simd, (n, n.div_ceil(LANES))),
        }
    }
}

impl<E: Field> Through<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, (n, blocks): (usize, usize)) {
        let Self { sweep, start, segment, mut out } = self;
        let Sweep { p, pi, passes, states, vectors, ones, zeros, da, .. } = sweep;
        let steps = segment.pivots.len();
        let missing = Step { a: ones, c: zeros, w: zeros, pivot: E::one() };
        let z = out.column.as_deref();
        let every = every(blocks);
        write_passes(simd, segment.a, segment.gains, (missing.a, missing.w), passes);
        let own = &passes[segment.lead / 2 * blocks..];
        if every == 1 {
            keep::<E, S, 1>(simd, start, p, own, segment.pivots, blocks);
        } else {
            keep::<E, S, 2>(simd, start, p, own, segment.pivots, blocks);
        }
        let mut work = Work { start, n, blocks, segment: &segment, missing, p, pi, passes, states, vectors };
        if let Some(z) = z {
            for (k, z) in z.iter().enumerate() {
                work.state(simd, k, *z);
            }
        }
        for pair in (0..steps.div_ceil(2)).rev() {
            let numbers = work.turn(simd, pair, &mut out);
            if pair.is_multiple_of(every) {
                work.backward::<S, true>(simd, pair, numbers, &mut out, da);
            } else {
                work.backward::<S, false>(simd, pair, numbers, &mut out, da);
            }
            for (k, da) in (2 * pair..steps).zip(&*da) {
                out.a.write(k, da);
            }
        }
    }
}

/// The memory of a sweep, as slices: a vector would be looked up again behind every store.
struct Work<'a, E> {
    n: usize,
    blocks: usize,
    segment: &'a Segment<'a, E>,
    missing: Step<'a, E>,
    start: &'a [Eight<E>], // P before the first pair
    p: &'a mut [Eight<E>], // before the others
    pi: &'a mut [Eight<E>],
    passes: &'a [Pass<E>],
    states: &'a mut [Eight<E>],
    vectors: &'a mut [Vectors<E>],
}

impl<'a, E: Field> Work<'a, E> {
    /// Step k of the segment, or one that does nothing behind its end.
    #[inline(always)]
    fn step(&self, k: usize) -> Step<'a, E> {
        let segment = self.segment;
        let Some(&pivot) = segment.pivots.get(k) else { return self.missing };
        let (row, with_lead) = (k * self.n, (k + segment.lead) * self.n);
        let a = &segment.a[with_lead..with_lead + self.n];
        let w = &segment.gains[with_lead..with_lead + self.n];
        Step { a, c: &segment.c[row..row + self.n], w, pivot }
    }

    /// Where the lanes of the pass through a pair stand, behind those of the pair before the segment.
    #[inline(always)]
    fn pass(&self, pair: usize) -> usize {
        (pair + self.segment.lead / 2) * self.blocks
    }

    /// The state before step k + 1.
    #[inline(always)]
    fn state<S: Simd>(&mut self, simd: S, k: usize, z: E) {
        let (step, z) = (self.step(k), E::splat(simd, z));
        let (s, next) = self.states[k * self.blocks..(k + 2) * self.blocks].split_at_mut(self.blocks);
        for (i, (s, next)) in s.iter().zip(next).enumerate() {
            let moved = E::times(simd, lane(simd, step.a, i), E::load(simd, &s.0));
            E::store(simd, E::add_times(simd, lane(simd, step.w, i), z, moved), &mut next.0);
        }
    }

    /// The numbers of a pair, and its vectors. Every sum is one of vectors that are there before; the cotangents of pivots
    /// are written, and α.
    #[inline(always)]
    fn turn<S: Simd>(&mut self, simd: S, pair: usize, out: &mut Out<'_, E>) -> Pair<E> {
        let (first, second) = (self.step(2 * pair), self.step(2 * pair + 1));
        let at = self.pass(pair);
        let all = self.passes;
        let passes = &all[at..at + self.blocks];
        let zero = E::splat(simd, E::zero());
        let (mut products, mut lambdas, mut mixed, mut read) = ([zero; 2], [zero; 2], zero, zero);
        for (i, (pass, v)) in passes.iter().zip(&*self.vectors).enumerate() {
            let (mut w, product) = (vectors(simd, &pass.w), vectors(simd, &v.product));
            let lambda = vector(simd, &v.lambda[0]);
            for s in 0..2 {
                w[s] = E::conjugate(simd, w[s]);
                products[s] = E::add_times(simd, w[s], product[s], products[s]);
                lambdas[s] = E::add_times(simd, w[s], lambda, lambdas[s]);
            }
            mixed = E::add_times(simd, w[1], product[0], mixed);
            read = E::add_times(simd, lane(simd, second.c, i), lane(simd, first.w, i), read);
        }
        let products = [E::total(simd, products[0]), E::total(simd, products[1])];
        let lambdas = [E::total(simd, lambdas[0]), E::total(simd, lambdas[1])];
        let (mixed, read) = (E::total(simd, mixed), E::total(simd, read));
        let (two, weight) = (E::one() + E::one(), self.segment.weight);
        let mut column = |k: usize, pivot: E, lambda: E| {
            let inverse = E::one().over(pivot);
            let z = out.column.as_deref_mut().and_then(|column| column.get_mut(k));
            let Some(z) = z else { return (weight * inverse, E::zero(), E::zero()) };
            let (beta, half) = (*z * inverse, E::one() / two);
            let alpha = beta - lambda;
            *z = alpha;
            ((alpha - half * beta).fused(beta.conj(), weight * inverse), alpha, beta)
        };
        let (dd, alpha, beta) = column(2 * pair + 1, second.pivot, lambdas[0]);
        let behind = Numbers { alpha, beta, dd: (dd - products[0]).real_part() };
        let cross = -(two * mixed + beta.conj() * lambdas[1] + read.conj() * behind.dd);
        let (dd, alpha, beta) = column(2 * pair, first.pivot, lambdas[1] + read.conj() * alpha);
        let before = Numbers { alpha, beta, dd: (dd - products[1] - cross * read).real_part() };
        for (k, numbers) in [(2 * pair + 1, behind), (2 * pair, before)] {
            if let Some(d) = out.d.get_mut(k) {
                *d = numbers.dd;
            }
        }
        let numbers = Pair { steps: [behind, before], read, cross };
        self.vectors(simd, pair, numbers);
        numbers
    }

    /// The vectors of a pair, from its numbers.
    #[inline(always)]
    fn vectors<S: Simd>(&mut self, simd: S, pair: usize, numbers: Pair<E>) {
        let (first, second) = (self.step(2 * pair), self.step(2 * pair + 1));
        let splat = |value: E| E::splat(simd, value);
        let two = E::one() + E::one();
        let (half, double, less) = (splat(E::one() / two), splat(two), splat(-E::one() / two));
        let Pair { steps: [behind, before], read, cross } = numbers;
        for (i, v) in self.vectors.iter_mut().enumerate() {
            let (a, c) = (conjugate_lane(simd, first.a, i), conjugate_lane(simd, first.c, i));
            let (next_a, next_c) = (conjugate_lane(simd, second.a, i), conjugate_lane(simd, second.c, i));
            let product = vectors(simd, &v.product);
            let lambda = vector(simd, &v.lambda[0]);
            let dg =
                E::add_times(simd, lambda, splat(behind.beta.conj()), E::times(simd, product[0], double));
            let df = E::add_times(simd, next_a, dg, E::times(simd, next_c, splat(behind.dd)));
            let half_df = E::times(simd, df, less);
            let middle = E::add_times(simd, next_a, lambda, E::times(simd, next_c, splat(behind.alpha)));
            let crossed = E::times(simd, E::times(simd, next_c, half), splat(cross.conj()));
            let carried = E::add_times(simd, half_df, splat(read), crossed);
            let product = E::add_times(simd, next_a, product[1], carried);
            let early =
                E::add_times(simd, middle, splat(before.beta.conj()), E::times(simd, product, double));
            let early_df = E::add_times(simd, a, early, E::times(simd, c, splat(before.dd)));
            E::store(simd, dg, &mut v.dg[0].0);
            E::store(simd, early, &mut v.dg[1].0);
            E::store(simd, half_df, &mut v.half_df.0);
            E::store(simd, middle, &mut v.lambda[1].0);
            E::store(simd, E::times(simd, a, half_df), &mut v.u[0].0);
            E::store(simd, E::times(simd, early_df, less), &mut v.u[1].0);
            E::store(simd, E::times(simd, a, next_c), &mut v.v[0].0);
            E::store(simd, c, &mut v.v[1].0);
        }
    }

    /// The pass over P and Π, and with it the cotangents of the generators of a pair. P is `KEPT`, or follows from that
    /// before the pair before.
    #[inline(always)]
    fn backward<S: Simd, const KEPT: bool>(
        &mut self,
        simd: S,
        pair: usize,
        numbers: Pair<E>,
        out: &mut Out<'_, E>,
        da: &mut [Vec<E>; 2],
    ) {
        let (columns, matrix) = (self.blocks * LANES, self.blocks * self.blocks * LANES);
        let at = self.pass(pair);
        let all = self.passes;
        let passes = &all[at..at + self.blocks];
        // Before the first pair of all there is none, and no use for its Π w.
        let earlier = &all[at.saturating_sub(self.blocks)..][..self.blocks];
        let zero = E::splat(simd, E::zero());
        for lane in 0..self.blocks {
            // There and back: what a pass leaves in the first cache is what the next one begins with.
            let i = if pair.is_multiple_of(2) { lane } else { self.blocks - 1 - lane };
            self.ask_ahead((pair, i), out);
            let kept = pair / every(self.blocks);
            let p = if kept == 0 { self.start } else { &self.p[(kept - 1) * matrix..] };
            let pivots = if KEPT { &[E::one(); 2] } else { &self.segment.pivots[2 * pair - 2..2 * pair] };
            let rows = Rows::new(simd, &earlier[i], pivots);
            let p = p[i * columns..(i + 1) * columns].as_chunks::<LANES>().0;
            let pi = self.pi[i * columns..(i + 1) * columns].as_chunks_mut::<LANES>().0;
            let (own, a) = (self.vectors[i], E::conjugate(simd, E::load(simd, &passes[i].a.0)));
            let (u, v) = (vectors(simd, &own.u), vectors(simd, &own.v));
            let mut met = Met { pu: [zero; 2], pv: [zero; 2], rows: zero, product: [zero; 2] };
            let weights = self.vectors.iter().zip(passes).zip(earlier);
            for ((p, pi), ((across, pass), earlier)) in p.iter().zip(pi).zip(weights) {
                unrolled::<LANES>(
                    #[inline(always)]
                    |n| {
                        let by = |v: &Eight<E>| E::splat(simd, v.0[n]);
                        let conjugate = |v: &Eight<E>| E::splat(simd, v.0[n].conj());
                        let mut p = E::load(simd, &p[n].0);
                        if !KEPT {
                            p = rows.through(simd, p, earlier, n);
                        }
                        let moved = E::times(simd, E::load(simd, &pi[n].0), by(&pass.a));
                        met.rows = E::add_times(simd, moved, E::conjugate(simd, p), met.rows);
                        let mut value = E::times(simd, a, moved);
                        for s in 0..2 {
                            met.pu[s] = E::add_times(simd, p, by(&across.u[s]), met.pu[s]);
                            met.pv[s] = E::add_times(simd, p, by(&across.v[s]), met.pv[s]);
                            value = E::add_times(simd, u[s], conjugate(&across.v[s]), value);
                            value = E::add_times(simd, v[s], conjugate(&across.u[s]), value);
                        }
                        E::store(simd, value, &mut pi[n].0);
                        for s in 0..2 {
                            met.product[s] = E::add_times(simd, value, by(&earlier.w[s]), met.product[s]);
                        }
                    },
                );
            }
            self.write(simd, (pair, i), numbers, met, out, da);
        }
    }

    /// Asks for lanes i of what the pair before reads and writes, and of what the segment before reads when it begins: those
    /// rows come from far while this pair computes.
    #[inline(always)]
    fn ask_ahead(&self, (pair, i): (usize, usize), out: &Out<'_, E>) {
        let prefetch = |values: &[E], lane: usize| prefetch(values.as_ptr().wrapping_add(lane), LANES);
        for k in 2 * pair..2 * pair + 2 {
            let lane = k * self.n + i * LANES;
            if let Some(lane) = lane.checked_sub(2 * self.n) {
                prefetch(self.segment.c, lane);
                prefetch(out.b, lane);
                prefetch(out.c, lane);
                if let Cotangents::Each(a) = &out.a {
                    prefetch(a, lane);
                }
            }
            prefetch(self.segment.before[0], lane);
            prefetch(self.segment.before[1], lane);
        }
    }

    /// Lanes i of the cotangents of a pair, from what the pass met; leaves those of transitions in `da`.
    #[inline(always)]
    fn write<S: Simd>(
        &mut self,
        simd: S,
        (pair, i): (usize, usize),
        numbers: Pair<E>,
        met: Met<E::Vector<S>>,
        out: &mut Out<'_, E>,
        da: &mut [Vec<E>; 2],
    ) {
        let (n, [k, next_k]) = (self.n, [2 * pair, 2 * pair + 1]);
        let (first, second) = (self.step(k), self.step(next_k));
        let splat = |value: E| E::splat(simd, value);
        let double = splat(E::one() + E::one());
        let Pair { steps: [behind, before], read, cross } = numbers;
        let own = &mut self.vectors[i];
        let (a, next_a) = (lane(simd, first.a, i), conjugate_lane(simd, second.a, i));
        let g = E::times(simd, lane(simd, first.w, i), splat(first.pivot));
        let [h, f] = met.pv;
        let next_f = E::conjugate(simd, E::add_times(simd, g, splat(read.conj()), E::times(simd, a, h)));
        let f = E::conjugate(simd, f);
        let (q, p_df) = (E::times(simd, met.pu[0], double), E::times(simd, met.pu[1], double));
        let next_p_df = E::add_times(simd, g, splat(cross), E::times(simd, a, q));
        let rows = E::times(simd, met.rows, double);
        let df = E::times(simd, vector(simd, &own.half_df), double);
        let (dg, next_dg) = (vector(simd, &own.dg[1]), vector(simd, &own.dg[0]));
        let (lambda, next_lambda) = (vector(simd, &own.lambda[1]), vector(simd, &own.lambda[0]));
        let state = E::conjugate(simd, vector(simd, &self.states[k * self.blocks + i]));
        let next_state = E::conjugate(simd, vector(simd, &self.states[next_k * self.blocks + i]));
        let (c, next_c) = (conjugate_lane(simd, first.c, i), conjugate_lane(simd, second.c, i));

        let dc = E::less_times(simd, f, splat(before.dd), E::conjugate(simd, p_df));
        let dc = E::add_times(simd, state, splat(before.alpha), dc);
        let crossed =
            E::add_times(simd, df, E::conjugate(simd, h), E::times(simd, next_c, E::conjugate(simd, q)));
        let moved = E::add_times(simd, next_a, rows, crossed);
        let moved = E::add_times(simd, lambda, state, E::less_times(simd, dg, f, moved));
        put(simd, &mut out.b[k * n..(k + 1) * n], i, dg);
        put(simd, &mut out.c[k * n..(k + 1) * n], i, dc);
        put(simd, &mut da[0], i, moved);
        let entered = E::times(simd, c, splat(before.alpha));
        E::store(simd, E::add_times(simd, E::conjugate(simd, a), lambda, entered), &mut own.lambda[0].0);
        let twice = E::times(simd, vector(simd, &own.product[1]), double);
        for s in 0..2 {
            E::store(simd, met.product[s], &mut own.product[s].0);
        }
        if next_k == self.segment.pivots.len() {
            return;
        }
        let dc = E::less_times(simd, next_f, splat(behind.dd), E::conjugate(simd, next_p_df));
        let dc = E::add_times(simd, next_state, splat(behind.alpha), dc);
        let moved =
            E::add_times(simd, E::conjugate(simd, g), twice, E::times(simd, E::conjugate(simd, a), rows));
        let moved = E::less_times(simd, next_dg, next_f, moved);
        let moved = E::add_times(simd, next_lambda, next_state, moved);
        put(simd, &mut out.b[next_k * n..(next_k + 1) * n], i, next_dg);
        put(simd, &mut out.c[next_k * n..(next_k + 1) * n], i, dc);
        put(simd, &mut da[1], i, moved);
    }
}

/// A vector from memory.
#[inline(always)]
fn vector<E: Field, S: Simd>(simd: S, v: &Eight<E>) -> E::Vector<S> {
    E::load(simd, &v.0)
}

/// Two of them.
#[inline(always)]
fn vectors<E: Field, S: Simd>(simd: S, [v, w]: &[Eight<E>; 2]) -> [E::Vector<S>; 2] {
    [vector(simd, v), vector(simd, w)]
}

/// Lane i of a row, conjugated.
#[inline(always)]
fn conjugate_lane<E: Field, S: Simd>(simd: S, row: &[E], i: usize) -> E::Vector<S> {
    E::conjugate(simd, lane(simd, row, i))
}

/// One lane of what a pass over P and Π meets.
#[derive(Clone, Copy)]
struct Met<V> {
    pu: [V; 2],
    pv: [V; 2],
    rows: V,
    product: [V; 2],
}
