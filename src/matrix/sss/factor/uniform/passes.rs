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

/// How many pairs P passes from one that is kept to the next. What is kept of large matrices does not stay in the first
/// cache; going on from the pair before takes less time.
pub(super) const fn every(blocks: usize) -> usize {
    if blocks > 2 { 2 } else { 1 }
}

/// P before every pair, or every second, but the first of a segment, from that `start`, by lanes of all columns.
#[inline(always)]
pub(super) fn keep<E: Field, S: Simd, const EVERY: usize>(
    simd: S,
    start: &[Eight<E>],
    p: &mut [Eight<E>],
    passes: &[Pass<E>],
    pivots: &[E],
    blocks: usize,
) {
    let matrix = blocks * blocks * LANES;
    for i in (0..blocks).step_by(2) {
        for kept in 1..pivots.len().div_ceil(2 * EVERY) {
            let (before, next) = p.split_at_mut((kept - 1) * matrix);
            let before = if kept == 1 { start } else { &before[(kept - 2) * matrix..] };
            let first = (kept - 1) * EVERY;
            let passes = &passes[first * blocks..(first + EVERY) * blocks];
            let (before, next) = (&before[..matrix], &mut next[..matrix]);
            if i + 1 < blocks {
                rows_through::<E, S, EVERY, 2>(simd, before, next, passes, &pivots[2 * first..], i);
            } else {
                rows_through::<E, S, EVERY, 1>(simd, before, next, passes, &pivots[2 * first..], i);
            }
        }
    }
}

/// Rows of lanes from number i on, `ROWS` of them, through `EVERY` pairs.
#[inline(always)]
fn rows_through<E: Field, S: Simd, const EVERY: usize, const ROWS: usize>(
    simd: S,
    before: &[Eight<E>],
    next: &mut [Eight<E>],
    passes: &[Pass<E>],
    pivots: &[E],
    i: usize,
) {
    let blocks = passes.len() / EVERY;
    let mut rows = [[Rows::new(simd, &passes[i], pivots); EVERY]; ROWS];
    for (r, rows) in rows.iter_mut().enumerate() {
        for (s, rows) in rows.iter_mut().enumerate() {
            *rows = Rows::new(simd, &passes[s * blocks + i + r], &pivots[2 * s..]);
        }
    }
    let (before, next) = (before.as_chunks::<LANES>().0, next.as_chunks_mut::<LANES>().0);
    for j in 0..blocks {
        unrolled::<LANES>(
            #[inline(always)]
            |n| {
                let mut values = [rows[0][0].a; ROWS];
                for r in 0..ROWS {
                    values[r] = E::load(simd, &before[(i + r) * blocks + j][n].0);
                }
                for s in 0..EVERY {
                    for r in 0..ROWS {
                        values[r] = rows[r][s].through(simd, values[r], &passes[s * blocks + j], n);
                    }
                }
                for r in 0..ROWS {
                    E::store(simd, values[r], &mut next[(i + r) * blocks + j][n].0);
                }
            },
        );
    }
}
