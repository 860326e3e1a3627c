//! What takes P through pairs of steps, and P found again from the start of a segment.

use super::{LANES, lane, unrolled};
use crate::linalg::{Eight, Simd};
use crate::scalar::Field;

/// One lane of what takes P through a pair.
#[derive(Clone, Copy)]
pub(super) struct Pass<E> {
    pub(super) a: Eight<E>,
    pub(super) w: [Eight<E>; 2], // of the second step; of the first, behind the second
}

/// Passes of pairs with these transitions and gains; behind their end stands a step that is `missing`.
#[inline(always)]
pub(super) fn write_passes<E: Field, S: Simd>(
    simd: S,
    a: &[E],
    gains: &[E],
    missing: (&[E], &[E]),
    passes: &mut [Pass<E>],
) {
    let n = missing.0.len();
    let pairs = a.chunks(2 * n).zip(gains.chunks(2 * n));
    for ((a, w), passes) in pairs.zip(passes.chunks_mut(n.div_ceil(LANES))) {
        let ((first, second), (early, late)) = (a.split_at(n), w.split_at(n));
        let (second, late) = if second.is_empty() { missing } else { (second, late) };
        for (i, pass) in passes.iter_mut().enumerate() {
            let a = lane(simd, second, i);
            E::store(simd, E::times(simd, lane(simd, first, i), a), &mut pass.a.0);
            E::store(simd, lane(simd, late, i), &mut pass.w[0].0);
            E::store(simd, E::times(simd, lane(simd, early, i), a), &mut pass.w[1].0);
        }
    }
}

/// What takes lanes of rows of P through a pair.
#[derive(Clone, Copy)]
pub(super) struct Rows<V> {
    a: V,
    g: [V; 2],
}

impl<V: Copy> Rows<V> {
    /// Of a pass with these pivots, that of the first step first.
    #[inline(always)]
    pub(super) fn new<E: Field<Vector<S> = V>, S: Simd>(simd: S, pass: &Pass<E>, pivots: &[E]) -> Self {
        let [second, first] = &pass.w;
        let g = [
            E::times(simd, E::load(simd, &second.0), E::splat(simd, pivots[1])),
            E::times(simd, E::load(simd, &first.0), E::splat(simd, pivots[0])),
        ];
        Self { a: E::load(simd, &pass.a.0), g }
    }

    /// `A P Aᴴ + G Wᴴ` in column n of the lane `across`.
    #[inline(always)]
    pub(super) fn through<E: Field<Vector<S> = V>, S: Simd>(
        self,
        simd: S,
        p: V,
        across: &Pass<E>,
        n: usize,
    ) -> V {
        let [second, first] = &across.w;
        let moved = E::times(simd, E::times(simd, p, self.a), E::splat(simd, across.a.0[n].conj()));
        let value = E::add_times(simd, self.g[0], E::splat(simd, second.0[n].conj()), moved);
        E::add_times(simd, self.g[1], E::splat(simd, first.0[n].conj()), value)
    }
}

/// How many pairs P passes from one that is kept to the next. What is kept of large matrices goes to the second cache and
/// comes from there; going on from the pair before takes less time.
pub(super) const fn every(blocks: usize) -> usize {
    if blocks > 2 { 2 } else { 1 }
}

/// P before every pair, or every second, but the first of a segment, from that `start`, by lanes of all columns.
#[inline(always)]
pub(super) fn keep<E: Field, S: Simd, const EVERY: usize>(
    simd: S,
    (start, p): (&[Eight<E>], &mut [Eight<E>]),
    passes: &[Pass<E>],
    pivots: &[E],
    blocks: usize,
) {
    let columns = blocks * LANES;
    for i in 0..blocks {
        for kept in 1..pivots.len().div_ceil(2 * EVERY) {
            let first = (kept - 1) * EVERY;
            let passes = &passes[first * blocks..(first + EVERY) * blocks];
            let mut rows = [Rows::new(simd, &passes[i], &pivots[2 * first..]); EVERY];
            for (s, rows) in rows.iter_mut().enumerate().skip(1) {
                *rows = Rows::new(simd, &passes[s * blocks + i], &pivots[2 * (first + s)..]);
            }
            let (before, next) = p.split_at_mut((kept - 1) * blocks * columns);
            let before = if kept == 1 { start } else { &before[(kept - 2) * blocks * columns..] };
            let before = before[i * columns..(i + 1) * columns].as_chunks::<LANES>().0;
            let next = next[i * columns..(i + 1) * columns].as_chunks_mut::<LANES>().0;
            for (j, (p, next)) in before.iter().zip(next).enumerate() {
                unrolled::<LANES>(
                    #[inline(always)]
                    |n| {
                        let mut value = E::load(simd, &p[n].0);
                        for s in 0..EVERY {
                            value = rows[s].through(simd, value, &passes[s * blocks + j], n);
                        }
                        E::store(simd, value, &mut next[n].0);
                    },
                );
            }
        }
    }
}
