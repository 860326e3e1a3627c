//! The sweep of a segment for any order: halves of P and Π in tiles, two steps in one pass over them.
//!
//! With P before two steps 0 and 1, Π behind them, and $`u_1 = A_0^H \mathrm{d}f_1`$, $`v_1 = A_0^H C_1^H`$,
//! $`u_0 = \mathrm{d}f_0`$, $`v_0 = C_0^H`$:
//!
//! ```math
//! \Pi_k = (A_1 A_0)^H \Pi (A_1 A_0) + \tfrac12 \sum_s (u_s v_s^H + v_s u_s^H), \qquad
//! \mathrm{diag}(\Pi A_1 A_0 P), \; P u_s, \; P v_s
//! ```
//!
//! are all that the cotangents of both steps take from P and Π.

use super::halves::{Source, TILE, Vectors, add_totals, columns_of_half, update_and_read};
use super::sweep::{Backward, Out, Segment, Start};
use super::tiles::resume;
use super::{LANES, lane, put, unrolled};
use crate::linalg::{Eight, Simd, WithSimd, dispatch};
use crate::scalar::Field;

/// What the sweep carries from pair to pair and keeps of a segment; matrices by halves.
pub(super) struct Pairs<E> {
    order: usize,
    met: Vec<Eight<E>>,       // P before each pair
    read: Vec<[Eight<E>; 2]>, // P v of each pair, first step first
    states: Vec<Eight<E>>,    // of the substitution before each step
    passing: Vec<Vectors<E, 2>>,
    pi: Vec<Eight<E>>, // Π behind the pair to come, without the update still to come
    vectors: Vec<Vectors<E, 4>>, // that update, then Π w_1 and Π A_1 w_0
    lanes: Vec<Lane<E>>,
}

/// One lane of what the cotangents of two steps are made of; first step first.
#[derive(Clone, Copy)]
struct Lane<E> {
    a: [Eight<E>; 2],
    c: [Eight<E>; 2],
    w: [Eight<E>; 2],
    mu: Eight<E>,       // cotangent of the state behind the pair
    mus: [Eight<E>; 2], // behind each step
    dg: [Eight<E>; 2],
    df1: Eight<E>,
    through: Eight<E>, // A_1 A_0
    u: [Eight<E>; 2],
    sum: Eight<E>,    // diag(Π A_1 A_0 P)
    t: [Eight<E>; 2], // P u
    da: [Eight<E>; 2],
}

/// What belongs to a step.
#[derive(Clone, Copy)]
struct Step<E> {
    pivot: E,
    weighted: E,
    alpha: E,
    dd: E,
}

/// What belongs to a pair, first step first.
#[derive(Clone, Copy)]
struct Numbers<E> {
    steps: [Step<E>; 2],
    read: E,    // C_1 w_0
    written: E, // df_1ᴴ w_0
}

impl<E: Field> Pairs<E> {
    pub(super) fn zeros(order: usize, length: usize) -> Self {
        let (lanes, pairs) = (order.div_ceil(LANES), length.div_ceil(2));
        let zero = Eight([E::zero(); LANES]);
        let two = [zero; 2];
        let lane = Lane {
            a: two,
            c: two,
            w: two,
            mu: zero,
            mus: two,
            dg: two,
            df1: zero,
            through: zero,
            u: two,
            sum: zero,
            t: two,
            da: two,
        };
        Self {
            order,
            met: vec![zero; pairs * columns_of_half(lanes)],
            read: vec![two; pairs * lanes],
            states: vec![zero; (2 * pairs + 1) * lanes],
            passing: vec![Vectors::zeros(); lanes],
            pi: vec![zero; columns_of_half(lanes)],
            vectors: vec![Vectors::zeros(); lanes],
            lanes: vec![lane; lanes],
        }
    }
}

impl<E: Field> Backward<E> for Pairs<E> {
    fn through(&mut self, start: Start<'_, E>, segment: Segment<'_, E>, out: Out<'_, E>) {
        let order = self.order;
        for (lane, state) in self.states.iter_mut().zip(start.state.into_iter().flat_map(|h| h.chunks(LANES)))
        {
            lane.0[..state.len()].copy_from_slice(state);
        }
        let p = resume(start.p, &mut self.passing);
        let Self { met, read, states, passing, pi, vectors, lanes, .. } = self;
        let carried = Carried { order, met, read, states, passing, pi, vectors, lanes };
        dispatch(Through { carried, p, segment, out });
    }
}

/// The memory of a sweep, as slices: a vector would be looked up again behind every store.
struct Carried<'a, E> {
    order: usize,
    met: &'a mut [Eight<E>],
    read: &'a mut [[Eight<E>; 2]],
    states: &'a mut [Eight<E>],
    passing: &'a mut [Vectors<E, 2>],
    pi: &'a mut [Eight<E>],
    vectors: &'a mut [Vectors<E, 4>],
    lanes: &'a mut [Lane<E>],
}

/// A sweep through a segment.
struct Through<'a, E> {
    carried: Carried<'a, E>,
    p: &'a [Eight<E>],
    segment: Segment<'a, E>,
    out: Out<'a, E>,
}

impl<E: Field> WithSimd for Through<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut carried, p, segment, mut out } = self;
        let pairs = segment.pivots.len().div_ceil(2);
        for pair in 0..pairs {
            carried.forward(simd, &segment, p, pair);
        }
        for pair in (0..pairs).rev() {
            carried.backward(simd, &segment, pair, &mut out);
        }
    }
}

/// Lane i of step k of `values`, `order` numbers a step.
#[inline(always)]
fn step<E: Field, S: Simd>(simd: S, values: &[E], order: usize, k: usize, i: usize) -> E::Vector<S> {
    lane(simd, &values[k * order..(k + 1) * order], i)
}

impl<E: Field> Carried<'_, E> {
    /// P before a pair and its products, and the states behind each step.
    #[inline(always)]
    fn forward<S: Simd>(&mut self, simd: S, segment: &Segment<'_, E>, start: &[Eight<E>], pair: usize) {
        let (order, lanes, size) = (self.order, self.passing.len(), start.len());
        let (first, second) = (2 * pair, 2 * pair + 1);
        let both = second < segment.pivots.len();
        let zero = E::splat(simd, E::zero());
        for (i, v) in self.passing.iter_mut().enumerate() {
            v.read(simd, 0, step(simd, segment.c, order, first, i));
            let next = if both {
                E::times(
                    simd,
                    step(simd, segment.c, order, second, i),
                    step(simd, segment.a, order, first, i),
                )
            } else {
                zero
            };
            v.read(simd, 1, next);
        }
        let (before, rest) = self.met.split_at_mut(pair * size);
        let before = if pair == 0 { start } else { &before[(pair - 1) * size..] };
        update_and_read(simd, Source::There(before), &mut rest[..size], self.passing);
        for (v, read) in self.passing.iter().zip(&mut self.read[pair * lanes..]) {
            *read = v.f;
        }
        if !both {
            return;
        }
        let pivots = [E::splat(simd, segment.pivots[first]), E::splat(simd, segment.pivots[second])];
        for (i, v) in self.passing.iter_mut().enumerate() {
            let two =
                |values: &[E]| [step(simd, values, order, first, i), step(simd, values, order, second, i)];
            let (a, w) = (two(segment.a), two(segment.gains));
            let g = [E::times(simd, w[0], pivots[0]), E::times(simd, w[1], pivots[1])];
            E::store(simd, E::times(simd, a[0], a[1]), &mut v.a.0);
            E::store(simd, E::times(simd, a[1], g[0]), &mut v.g[0].0);
            E::store(simd, g[1], &mut v.g[1].0);
            E::store(simd, E::conjugate(simd, E::times(simd, a[1], w[0])), &mut v.w[0].0);
            E::store(simd, E::conjugate(simd, w[1]), &mut v.w[1].0);
            if let Some(weighted) = segment.weighted {
                let mut h = E::load(simd, &self.states[first * lanes + i].0);
                h = E::add_times(simd, a[0], h, E::times(simd, g[0], E::splat(simd, weighted[first])));
                E::store(simd, h, &mut self.states[second * lanes + i].0);
                h = E::add_times(simd, a[1], h, E::times(simd, g[1], E::splat(simd, weighted[second])));
                E::store(simd, h, &mut self.states[(second + 1) * lanes + i].0);
            }
        }
    }

    /// Cotangents of the generators of a pair.
    #[inline(always)]
    fn backward<S: Simd>(&mut self, simd: S, segment: &Segment<'_, E>, pair: usize, out: &mut Out<'_, E>) {
        let first = 2 * pair;
        let present = 2.min(segment.pivots.len() - first);
        self.take(simd, segment, first, present);
        update_and_read(simd, Source::Here, self.pi, self.vectors);
        let numbers = self.numbers(simd, segment, first, present);
        self.update(simd, numbers);
        let size = self.pi.len();
        read_both(simd, &self.met[pair * size..(pair + 1) * size], self.pi, self.lanes);
        self.give(simd, numbers, (pair, present), out);
    }

    /// The generators of a pair, and what Π is multiplied by. A second step that is missing passes everything on.
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, segment: &Segment<'_, E>, first: usize, present: usize) {
        let order = self.order;
        let (zero, one) = (E::splat(simd, E::zero()), E::splat(simd, E::one()));
        for (i, (v, l)) in self.vectors.iter_mut().zip(&mut *self.lanes).enumerate() {
            for s in 0..2 {
                let row = |values: &[E]| step(simd, values, order, first + s, i);
                let (a, c, w) = if s < present {
                    (row(segment.a), row(segment.c), row(segment.gains))
                } else {
                    (one, zero, zero)
                };
                E::store(simd, a, &mut l.a[s].0);
                E::store(simd, c, &mut l.c[s].0);
                E::store(simd, w, &mut l.w[s].0);
            }
            let load = |v: &Eight<E>| E::load(simd, &v.0);
            let (a0, a1) = (load(&l.a[0]), load(&l.a[1]));
            E::store(simd, E::times(simd, a0, a1), &mut l.through.0);
            v.read(simd, 0, E::conjugate(simd, E::times(simd, a1, load(&l.w[0]))));
            v.read(simd, 1, E::conjugate(simd, load(&l.w[1])));
        }
    }

    /// The numbers of both steps, from all sums over the state at once.
    #[inline(always)]
    fn numbers<S: Simd>(
        &self,
        simd: S,
        segment: &Segment<'_, E>,
        first: usize,
        present: usize,
    ) -> Numbers<E> {
        let zero = E::splat(simd, E::zero());
        let (mut gained, mut bent, mut read) = (zero, zero, zero);
        let (mut bent_before, mut entered, mut passed) = (zero, zero, zero);
        for (v, l) in self.vectors.iter().zip(&*self.lanes) {
            let load = |v: &Eight<E>| E::load(simd, &v.0);
            let (mu, product, moved, conjugate) = (load(&l.mu), load(&v.f[1]), load(&v.r[0]), load(&v.c[0]));
            gained = E::add_times(simd, mu, load(&l.w[1]), gained);
            bent = E::add_times(simd, load(&v.c[1]), product, bent);
            read = E::add_times(simd, load(&l.c[1]), load(&l.w[0]), read);
            bent_before = E::add_times(simd, conjugate, load(&v.f[0]), bent_before);
            entered = E::add_times(simd, conjugate, product, entered);
            passed = E::add_times(simd, mu, moved, passed);
        }
        let (gained, bent, read) = (E::total(simd, gained), E::total(simd, bent), E::total(simd, read));
        let (bent_before, entered, passed) =
            (E::total(simd, bent_before), E::total(simd, entered), E::total(simd, passed));
        let two = E::one() + E::one();
        let number = |s: usize, gained: E, bent: E| {
            let k = first + s;
            if s >= present {
                return Step { pivot: E::one(), weighted: E::zero(), alpha: E::zero(), dd: E::zero() };
            }
            let (pivot, weighted) =
                (segment.pivots[k], segment.weighted.map_or(E::zero(), |values| values[k]));
            let alpha = weighted - gained;
            let dd = (segment.weight / pivot - bent).real_part() + weighted * (alpha - weighted / two);
            Step { pivot, weighted, alpha, dd }
        };
        let second = number(1, gained, bent);
        let written = -(two * entered.conj() + second.weighted * passed + second.dd * read);
        let bent = bent_before + written.conj() * read;
        let first = number(0, passed + second.alpha * read, bent);
        Numbers { steps: [first, second], read, written }
    }

    /// Cotangents of the vectors of both steps, and the update of Π.
    #[inline(always)]
    fn update<S: Simd>(&mut self, simd: S, numbers: Numbers<E>) {
        let splat = |value: E| E::splat(simd, value);
        let minus = |v: E::Vector<S>| E::less_times(simd, v, splat(E::one()), splat(E::zero()));
        let (two, half) = (splat(E::one() + E::one()), E::one() / (E::one() + E::one()));
        let [first, second] = numbers.steps;
        let (half, half_read, half_written) =
            (splat(half), splat(half * numbers.read), splat(half * numbers.written));
        for (v, l) in self.vectors.iter_mut().zip(&mut *self.lanes) {
            let load = |v: &Eight<E>| E::load(simd, &v.0);
            let conjugate = |v: &Eight<E>| E::conjugate(simd, load(v));
            let mu = load(&l.mu);
            l.mus[1] = l.mu;
            let dg1 = E::add_times(simd, mu, splat(second.weighted), E::times(simd, two, load(&v.f[1])));
            let bent = E::times(simd, conjugate(&l.c[1]), splat(second.dd));
            let df1 = minus(E::add_times(simd, conjugate(&l.a[1]), dg1, bent));
            let mu =
                E::add_times(simd, load(&l.a[1]), mu, E::times(simd, load(&l.c[1]), splat(second.alpha)));
            E::store(simd, mu, &mut l.mus[0].0);
            let product = E::times(simd, conjugate(&l.a[1]), load(&v.f[0]));
            let product = E::add_times(simd, df1, half_read, product);
            let product = E::add_times(simd, conjugate(&l.c[1]), half_written, product);
            let dg0 = E::add_times(simd, mu, splat(first.weighted), E::times(simd, two, product));
            let bent = E::times(simd, conjugate(&l.c[0]), splat(first.dd));
            let df0 = minus(E::add_times(simd, conjugate(&l.a[0]), dg0, bent));
            let mu = E::add_times(simd, load(&l.a[0]), mu, E::times(simd, load(&l.c[0]), splat(first.alpha)));
            E::store(simd, mu, &mut l.mu.0);
            let read = E::times(simd, load(&l.a[0]), load(&l.c[1])); // conj(v_1)
            let u1 = E::times(simd, conjugate(&l.a[0]), df1);
            E::store(simd, dg0, &mut l.dg[0].0);
            E::store(simd, dg1, &mut l.dg[1].0);
            E::store(simd, df0, &mut l.u[0].0);
            E::store(simd, u1, &mut l.u[1].0);
            E::store(simd, df1, &mut l.df1.0);
            E::store(simd, conjugate(&l.through), &mut v.a.0);
            symmetric(simd, v, 0, (half, u1, read));
            symmetric(simd, v, 2, (half, df0, load(&l.c[0])));
        }
    }

    /// The cotangents of the generators.
    #[inline(always)]
    fn give<S: Simd>(
        &mut self,
        simd: S,
        numbers: Numbers<E>,
        (pair, present): (usize, usize),
        out: &mut Out<'_, E>,
    ) {
        let (order, lanes, first) = (self.order, self.lanes.len(), 2 * pair);
        let splat = |value: E| E::splat(simd, value);
        let half = splat(E::one() / (E::one() + E::one()));
        let two = splat(E::one() + E::one());
        let [before, behind] = numbers.steps;
        let written = splat(numbers.written.conj());
        for (i, (v, l)) in self.vectors.iter().zip(&mut *self.lanes).enumerate() {
            let load = |v: &Eight<E>| E::load(simd, &v.0);
            let conjugate = |v: &Eight<E>| E::conjugate(simd, load(v));
            let [f0, read] = &self.read[pair * lanes + i];
            let (f0, read) = (load(f0), load(read));
            let g = E::times(simd, load(&l.w[0]), splat(before.pivot));
            let f1 = E::add_times(simd, g, splat(numbers.read.conj()), E::times(simd, load(&l.a[0]), read));
            let first_sum = E::add_times(
                simd,
                load(&l.df1),
                E::conjugate(simd, read),
                E::times(simd, conjugate(&l.c[1]), conjugate(&l.t[1])),
            );
            let first_sum =
                E::add_times(simd, half, first_sum, E::times(simd, conjugate(&l.a[1]), load(&l.sum)));
            let second_sum = E::times(simd, conjugate(&l.a[0]), load(&l.sum));
            let second_sum = E::add_times(simd, E::conjugate(simd, g), load(&v.f[0]), second_sum);
            let t1 = E::add_times(simd, g, written, E::times(simd, load(&l.a[0]), load(&l.t[1])));
            E::store(simd, first_sum, &mut l.da[0].0);
            E::store(simd, second_sum, &mut l.da[1].0);
            E::store(simd, t1, &mut l.t[1].0);
            for s in 0..present {
                let (f, number) = if s == 0 { (f0, before) } else { (f1, behind) };
                let row = (first + s) * order..(first + s + 1) * order;
                let (f, h) = (E::conjugate(simd, f), load(&self.states[(first + s) * lanes + i]));
                let da = E::less_times(simd, load(&l.dg[s]), f, E::times(simd, two, load(&l.da[s])));
                E::store(simd, E::add_times(simd, load(&l.mus[s]), h, da), &mut l.da[s].0);
                let dc = E::less_times(simd, splat(number.dd), f, conjugate(&l.t[s]));
                put(simd, &mut out.c[row.clone()], i, E::add_times(simd, splat(number.alpha), h, dc));
                put(simd, &mut out.b[row], i, load(&l.dg[s]));
            }
        }
        for (s, number) in numbers.steps.into_iter().enumerate().take(present) {
            let k = first + s;
            out.d[k] = number.dd;
            if let Some(y) = &mut out.y {
                y[k] = -number.alpha;
            }
            out.a.take(k, order, self.lanes.iter().map(|l| &l.da[s].0[..]));
        }
    }
}

/// `diag(Π A P)` and `P u` of both steps, in one pass over both matrices.
#[inline(always)]
fn read_both<E: Field, S: Simd>(simd: S, p: &[Eight<E>], pi: &[Eight<E>], lanes: &mut [Lane<E>]) {
    let zero = E::splat(simd, E::zero());
    let count = lanes.len();
    for l in lanes.iter_mut() {
        (l.sum, l.t) = (Eight([E::zero(); LANES]), [Eight([E::zero(); LANES]); 2]);
    }
    let (mut p, mut pi) = (p.as_chunks::<TILE>().0.iter(), pi.as_chunks::<TILE>().0.iter());
    for j in 0..count {
        let (own, others) = lanes[j..].split_first_mut().expect("j is below their number");
        // Column n of a tile into the sums of its rows.
        let add = |p: E::Vector<S>, pi: E::Vector<S>, n: usize, rows: [E::Vector<S>; 3]| {
            let both = E::times(simd, pi, E::conjugate(simd, p));
            let rows = [
                E::add_times(simd, both, E::splat(simd, own.through.0[n]), rows[0]),
                E::add_times(simd, p, E::splat(simd, own.u[0].0[n]), rows[1]),
                E::add_times(simd, p, E::splat(simd, own.u[1].0[n]), rows[2]),
            ];
            (both, rows)
        };
        let load = |v: &Eight<E>| E::load(simd, &v.0);
        let (Some(tile), Some(tile_pi)) = (p.next(), pi.next()) else { return };
        let mut rows = [load(&own.sum), load(&own.t[0]), load(&own.t[1])];
        unrolled::<TILE>(
            #[inline(always)]
            |n| rows = add(load(&tile[n]), load(&tile_pi[n]), n, rows).1,
        );
        // Above the diagonal both are the adjoints of what is stored.
        let mut across = [[zero; LANES]; 3];
        for ((l, tile), tile_pi) in others.iter_mut().zip(&mut p).zip(&mut pi) {
            let conjugate = |v: &Eight<E>| E::conjugate(simd, load(v));
            let weights = [conjugate(&l.through), conjugate(&l.u[0]), conjugate(&l.u[1])];
            let mut rows = [load(&l.sum), load(&l.t[0]), load(&l.t[1])];
            unrolled::<TILE>(
                #[inline(always)]
                |n| {
                    let p = load(&tile[n]);
                    let (both, sums) = add(p, load(&tile_pi[n]), n, rows);
                    rows = sums;
                    across[0][n] = E::add_times(simd, both, weights[0], across[0][n]);
                    across[1][n] = E::add_times(simd, p, weights[1], across[1][n]);
                    across[2][n] = E::add_times(simd, p, weights[2], across[2][n]);
                },
            );
            E::store(simd, rows[0], &mut l.sum.0);
            E::store(simd, rows[1], &mut l.t[0].0);
            E::store(simd, rows[2], &mut l.t[1].0);
        }
        E::store(simd, rows[0], &mut own.sum.0);
        E::store(simd, rows[1], &mut own.t[0].0);
        E::store(simd, rows[2], &mut own.t[1].0);
        if j + 1 < count {
            add_totals(simd, &mut own.sum, &across[0]);
            add_totals(simd, &mut own.t[0], &across[1]);
            add_totals(simd, &mut own.t[1], &across[2]);
        }
    }
}

/// The terms `s` and `s + 1` of an update: `½ (u vᴴ + v uᴴ)`, given conj(v).
#[inline(always)]
fn symmetric<E: Field, S: Simd>(
    simd: S,
    update: &mut Vectors<E, 4>,
    s: usize,
    (half, u, v): (E::Vector<S>, E::Vector<S>, E::Vector<S>),
) {
    E::store(simd, E::times(simd, half, u), &mut update.g[s].0);
    E::store(simd, v, &mut update.w[s].0);
    E::store(simd, E::times(simd, half, E::conjugate(simd, v)), &mut update.g[s + 1].0);
    E::store(simd, E::conjugate(simd, u), &mut update.w[s + 1].0);
}
