//! The elimination for any order: the lower half of P in square tiles of vectors, two steps in one pass over them.
//!
//! ```math
//! P_{k+2} = A_{k+1} (A_k P_k A_k^H + g_k w_k^H) A_{k+1}^H + g_{k+1} w_{k+1}^H, \qquad
//! P_{k+1} C_{k+1}^H = A_k P_k (C_{k+1} A_k)^H + g_k (C_{k+1} w_k)^H
//! ```

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::{LANES, lane, put, unrolled};
use crate::linalg::{Eight, Simd};
use crate::scalar::Field;

/// P before two steps, with the update of the two before them still to come, and the vectors of that update.
pub(super) struct Tiles<E> {
    order: usize,
    p: Vec<Eight<E>>, // tile (I, J), I ≥ J, by columns of tiles; each tile by columns
    vectors: Vec<Vectors<E>>,
}

/// One lane of every vector of two steps.
#[derive(Clone, Copy)]
struct Vectors<E> {
    a: Eight<E>,      // through both steps
    g: [Eight<E>; 2], // behind both
    w: [Eight<E>; 2], // conjugates, behind both
    c: [Eight<E>; 2], // before both
    r: [Eight<E>; 2], // conjugates of c
    f: [Eight<E>; 2], // P conj(c)
}

/// The generators of a step.
#[derive(Clone, Copy)]
struct Row<'a, E> {
    a: &'a [E],
    b: &'a [E],
    c: &'a [E],
    d: E,
}

impl<E: Field> Tiles<E> {
    pub(super) fn zeros(order: usize) -> Self {
        let blocks = order.div_ceil(LANES);
        let zero = Eight([E::zero(); LANES]);
        let two = [zero; 2];
        let vectors = Vectors { a: zero, g: two, w: two, c: two, r: two, f: two };
        Self { order, p: vec![zero; blocks * (blocks + 1) / 2 * LANES], vectors: vec![vectors; blocks] }
    }

    /// Steps of the elimination.
    #[inline(always)]
    pub(super) fn run<S: Simd>(
        &mut self,
        simd: S,
        input: Input<'_, E>,
        demand: Demand,
        output: Output<'_, E>,
    ) -> Result<(), Refused<E>> {
        let order = self.order;
        let zero = E::splat(simd, E::zero());
        let row = |k: usize| {
            let places = k * order..(k + 1) * order;
            Row {
                a: &input.a[places.clone()],
                b: &input.b[places.clone()],
                c: &input.c[places],
                d: input.d[k],
            }
        };
        let pairs = output.gains.chunks_mut(2 * order).zip(output.pivots.chunks_mut(2));
        for (pair, (gains, pivots)) in pairs.enumerate() {
            let (gain, next_gain) = gains.split_at_mut(order);
            let first = row(2 * pair);
            let second = (pivots.len() == 2).then(|| row(2 * pair + 1));
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let (a, c) = (lane(simd, first.a, i), lane(simd, first.c, i));
                let next = second.map_or(zero, |second| E::times(simd, a, lane(simd, second.c, i)));
                for (s, c) in [c, next].into_iter().enumerate() {
                    E::store(simd, c, &mut v.c[s].0);
                    E::store(simd, E::conjugate(simd, c), &mut v.r[s].0);
                }
            }
            self.update_and_read(simd);
            let mut read = zero;
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let (a, f) = (lane(simd, first.a, i), E::load(simd, &v.f[0].0));
                E::store(simd, a, &mut v.a.0);
                E::store(simd, E::less_times(simd, a, f, lane(simd, first.b, i)), &mut v.g[0].0);
                E::store(simd, zero, &mut v.g[1].0);
                E::store(simd, zero, &mut v.w[1].0);
                read = E::add_times(simd, f, E::load(simd, &v.c[0].0), read);
            }
            let refused = |step, pivot| move |()| Refused { step, pivot };
            pivots[0] = (first.d - E::total(simd, read)).real_part();
            accept(pivots[0], demand).map_err(refused(2 * pair, pivots[0]))?;
            let inverse = E::splat(simd, E::one().over(pivots[0]));
            let mut weights = zero;
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let w = E::times(simd, E::load(simd, &v.g[0].0), inverse);
                put(simd, gain, i, w);
                E::store(simd, E::conjugate(simd, w), &mut v.w[0].0);
                if let Some(second) = second {
                    weights = E::add_times(simd, w, lane(simd, second.c, i), weights);
                }
            }
            let Some(second) = second else { continue };
            let (weight, mut read) = (E::splat(simd, E::total(simd, weights).conj()), zero);
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let (before, a) = (E::load(simd, &v.a.0), lane(simd, second.a, i));
                let (g, w) = (E::load(simd, &v.g[0].0), E::load(simd, &v.w[0].0));
                let f = E::add_times(simd, g, weight, E::times(simd, before, E::load(simd, &v.f[1].0)));
                E::store(simd, E::times(simd, a, g), &mut v.g[0].0);
                E::store(simd, E::times(simd, E::conjugate(simd, a), w), &mut v.w[0].0);
                E::store(simd, E::less_times(simd, a, f, lane(simd, second.b, i)), &mut v.g[1].0);
                E::store(simd, E::times(simd, a, before), &mut v.a.0);
                read = E::add_times(simd, f, lane(simd, second.c, i), read);
            }
            pivots[1] = (second.d - E::total(simd, read)).real_part();
            accept(pivots[1], demand).map_err(refused(2 * pair + 1, pivots[1]))?;
            let inverse = E::splat(simd, E::one().over(pivots[1]));
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let w = E::times(simd, E::load(simd, &v.g[1].0), inverse);
                put(simd, next_gain, i, w);
                E::store(simd, E::conjugate(simd, w), &mut v.w[1].0);
            }
        }
        Ok(())
    }

    /// Lanes of the columns of P before the next step: the first lane of all, the second, ...
    #[inline(always)]
    pub(super) fn columns<S: Simd>(&self, simd: S, columns: &mut [Eight<E>]) {
        let blocks = self.vectors.len();
        let zero = Eight([E::zero(); LANES]);
        let columns = columns.as_chunks_mut::<LANES>().0;
        let mut tiles = self.p.as_chunks::<LANES>().0.iter();
        for j in 0..blocks {
            for (i, tile) in (j..blocks).zip(&mut tiles) {
                let (rows, across) = (&self.vectors[i], &self.vectors[j]);
                let a = E::load(simd, &rows.a.0);
                let g = [E::load(simd, &rows.g[0].0), E::load(simd, &rows.g[1].0)];
                let mut whole = [zero; LANES];
                for n in 0..LANES {
                    let weight = |v: &Eight<E>| E::splat(simd, v.0[n]);
                    let moved = E::times(
                        simd,
                        E::times(simd, E::load(simd, &tile[n].0), a),
                        E::splat(simd, across.a.0[n].conj()),
                    );
                    let value = E::add_times(simd, g[0], weight(&across.w[0]), moved);
                    let value = E::add_times(simd, g[1], weight(&across.w[1]), value);
                    E::store(simd, value, &mut whole[n].0);
                }
                // The diagonal tiles are whole; of the others the adjoint stands above the diagonal.
                columns[i * blocks + j] = whole;
                if i > j {
                    for (l, column) in columns[j * blocks + i].iter_mut().enumerate() {
                        for (above, stored) in column.0.iter_mut().zip(&whole) {
                            *above = stored.0[l].conj();
                        }
                    }
                }
            }
        }
    }

    /// `P ← A P Aᴴ + g wᴴ` of the two steps before, and `f = P conj(c)` of the next two, in one pass over half of P.
    #[inline(always)]
    fn update_and_read<S: Simd>(&mut self, simd: S) {
        let Self { p, vectors, .. } = self;
        let blocks = vectors.len();
        vectors.iter_mut().for_each(|v| v.f = [Eight([E::zero(); LANES]); 2]);
        let mut rest = &mut p[..];
        for j in 0..blocks {
            let (column, below) = rest.split_at_mut((blocks - j) * LANES);
            rest = below;
            let (diagonal, lower) = column.split_at_mut(LANES);
            let (own, others) = vectors[j..].split_first_mut().expect("j is below their number");
            let mut aj = Eight([E::zero(); LANES]);
            E::store(simd, E::conjugate(simd, E::load(simd, &own.a.0)), &mut aj.0);
            // Column n of a tile: `p a_i conj(a_j) + Σ_s g_s w_s`.
            let updated = |p: &mut Eight<E>, i: (E::Vector<S>, [E::Vector<S>; 2]), n: usize| {
                let (a, g) = i;
                let moved = E::times(simd, E::times(simd, E::load(simd, &p.0), a), E::splat(simd, aj.0[n]));
                let value = E::add_times(simd, g[0], E::splat(simd, own.w[0].0[n]), moved);
                let value = E::add_times(simd, g[1], E::splat(simd, own.w[1].0[n]), value);
                E::store(simd, value, &mut p.0);
                value
            };
            let read = |value, n: usize, f: [E::Vector<S>; 2]| {
                let first = E::add_times(simd, value, E::splat(simd, own.r[0].0[n]), f[0]);
                [first, E::add_times(simd, value, E::splat(simd, own.r[1].0[n]), f[1])]
            };
            let pair = |v: &[Eight<E>; 2]| [E::load(simd, &v[0].0), E::load(simd, &v[1].0)];
            let (i, mut f) = ((E::load(simd, &own.a.0), pair(&own.g)), pair(&own.f));
            unrolled::<LANES>(
                #[inline(always)]
                |n| f = read(updated(&mut diagonal[n], i, n), n, f),
            );
            // Above the diagonal P is the adjoint of what is stored: those products are summed over rows.
            let mut across = [[E::splat(simd, E::zero()); LANES]; 2];
            for (v, tile) in others.iter_mut().zip(lower.as_chunks_mut::<LANES>().0) {
                let (i, c, mut f) = ((E::load(simd, &v.a.0), pair(&v.g)), pair(&v.c), pair(&v.f));
                unrolled::<LANES>(
                    #[inline(always)]
                    |n| {
                        let value = updated(&mut tile[n], i, n);
                        f = read(value, n, f);
                        across[0][n] = E::add_times(simd, value, c[0], across[0][n]);
                        across[1][n] = E::add_times(simd, value, c[1], across[1][n]);
                    },
                );
                E::store(simd, f[0], &mut v.f[0].0);
                E::store(simd, f[1], &mut v.f[1].0);
            }
            for s in 0..2 {
                E::store(simd, f[s], &mut own.f[s].0);
                if j + 1 < blocks {
                    for (f, across) in own.f[s].0.iter_mut().zip(across[s]) {
                        *f += E::total(simd, across).conj();
                    }
                }
            }
        }
    }
}
