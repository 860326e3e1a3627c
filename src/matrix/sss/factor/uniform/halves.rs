//! A Hermitian matrix by the lower half of its square tiles, and one pass over it: an update of low rank, and products
//! with two vectors.
//!
//! ```math
//! P \leftarrow A P A^H + \sum_s g_s w_s^H, \qquad f_t = P \overline{c_t}
//! ```

use super::{LANES, unrolled};
use crate::linalg::{Eight, Simd};
use crate::scalar::Field;

/// Numbers of a tile.
pub(super) const TILE: usize = LANES;

/// Columns of all tiles on and below the diagonal of a matrix with so many lanes.
pub(super) fn columns_of_half(lanes: usize) -> usize {
    lanes * (lanes + 1) / 2 * TILE
}

/// One lane of every vector of a pass, with an update of rank `R`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors<E, const R: usize> {
    pub(super) a: Eight<E>,
    pub(super) g: [Eight<E>; R],
    pub(super) w: [Eight<E>; R], // conjugates
    pub(super) c: [Eight<E>; 2],
    pub(super) r: [Eight<E>; 2], // conjugates of c
    pub(super) f: [Eight<E>; 2],
}

impl<E: Field, const R: usize> Vectors<E, R> {
    pub(super) fn zeros() -> Self {
        let zero = Eight([E::zero(); LANES]);
        Self { a: zero, g: [zero; R], w: [zero; R], c: [zero; 2], r: [zero; 2], f: [zero; 2] }
    }

    /// `c_t` and its conjugate.
    #[inline(always)]
    pub(super) fn read<S: Simd>(&mut self, simd: S, t: usize, c: E::Vector<S>) {
        E::store(simd, c, &mut self.c[t].0);
        E::store(simd, E::conjugate(simd, c), &mut self.r[t].0);
    }
}

/// Where a pass finds the matrix.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a, E> {
    /// Where it goes.
    Here,
    /// Elsewhere.
    There(&'a [Eight<E>]),
}

impl<'a, E> Source<'a, E> {
    /// The first `count` columns, and the others.
    #[inline(always)]
    fn split(self, count: usize) -> (Self, Self) {
        match self {
            Self::Here => (Self::Here, Self::Here),
            Self::There(columns) => {
                let (first, rest) = columns.split_at(count);
                (Self::There(first), Self::There(rest))
            }
        }
    }

    #[inline(always)]
    fn load<S: Simd>(self, simd: S, here: &Eight<E>, n: usize) -> E::Vector<S>
    where
        E: Field,
    {
        match self {
            Self::Here => E::load(simd, &here.0),
            Self::There(columns) => E::load(simd, &columns[n].0),
        }
    }
}

/// The pass over the tiles `p`: tile (I, J), I ≥ J, by columns of tiles; each tile by columns, those on the diagonal
/// whole.
#[inline(always)]
pub(super) fn update_and_read<E: Field, S: Simd, const R: usize>(
    simd: S,
    from: Source<'_, E>,
    p: &mut [Eight<E>],
    vectors: &mut [Vectors<E, R>],
) {
    let lanes = vectors.len();
    vectors.iter_mut().for_each(|v| v.f = [Eight([E::zero(); LANES]); 2]);
    let (mut rest, mut from) = (p, from);
    for j in 0..lanes {
        let (column, below) = rest.split_at_mut((lanes - j) * TILE);
        let (source, source_below) = from.split((lanes - j) * TILE);
        (rest, from) = (below, source_below);
        let (diagonal, lower) = column.split_at_mut(TILE);
        let (source_diagonal, mut source) = source.split(TILE);
        let (own, others) = vectors[j..].split_first_mut().expect("j is below their number");
        let mut aj = Eight([E::zero(); LANES]);
        E::store(simd, E::conjugate(simd, E::load(simd, &own.a.0)), &mut aj.0);
        // Column n of a tile: `p a_i conj(a_j) + Σ_s g_s w_s`.
        let updated = |p: E::Vector<S>, to: &mut Eight<E>, i: (E::Vector<S>, [E::Vector<S>; R]), n: usize| {
            let (a, g) = i;
            let mut value = E::times(simd, E::times(simd, p, a), E::splat(simd, aj.0[n]));
            for s in 0..R {
                value = E::add_times(simd, g[s], E::splat(simd, own.w[s].0[n]), value);
            }
            E::store(simd, value, &mut to.0);
            value
        };
        let read = |value, n: usize, f: [E::Vector<S>; 2]| {
            let first = E::add_times(simd, value, E::splat(simd, own.r[0].0[n]), f[0]);
            [first, E::add_times(simd, value, E::splat(simd, own.r[1].0[n]), f[1])]
        };
        let pair = |v: &[Eight<E>; 2]| [E::load(simd, &v[0].0), E::load(simd, &v[1].0)];
        let all = |v: &[Eight<E>; R]| {
            let mut vectors = [E::splat(simd, E::zero()); R];
            for s in 0..R {
                vectors[s] = E::load(simd, &v[s].0);
            }
            vectors
        };
        let (i, mut f) = ((E::load(simd, &own.a.0), all(&own.g)), pair(&own.f));
        unrolled::<TILE>(
            #[inline(always)]
            |n| {
                let p = source_diagonal.load(simd, &diagonal[n], n);
                f = read(updated(p, &mut diagonal[n], i, n), n, f);
            },
        );
        // Above the diagonal P is the adjoint of what is stored: those products are summed over rows.
        let mut across = [[E::splat(simd, E::zero()); LANES]; 2];
        for (v, tile) in others.iter_mut().zip(lower.as_chunks_mut::<TILE>().0) {
            let (source_tile, source_rest) = source.split(TILE);
            source = source_rest;
            let (i, c, mut f) = ((E::load(simd, &v.a.0), all(&v.g)), pair(&v.c), pair(&v.f));
            unrolled::<TILE>(
                #[inline(always)]
                |n| {
                    let value = updated(source_tile.load(simd, &tile[n], n), &mut tile[n], i, n);
                    f = read(value, n, f);
                    across[0][n] = E::add_times(simd, value, c[0], across[0][n]);
                    across[1][n] = E::add_times(simd, value, c[1], across[1][n]);
                },
            );
            E::store(simd, f[0], &mut v.f[0].0);
            E::store(simd, f[1], &mut v.f[1].0);
        }
        E::store(simd, f[0], &mut own.f[0].0);
        E::store(simd, f[1], &mut own.f[1].0);
        if j + 1 < lanes {
            add_totals(simd, &mut own.f[0], &across[0]);
            add_totals(simd, &mut own.f[1], &across[1]);
        }
    }
}

/// Adds the conjugate of the sum of each vector.
#[inline(always)]
pub(super) fn add_totals<E: Field, S: Simd>(simd: S, to: &mut Eight<E>, across: &[E::Vector<S>; TILE]) {
    unrolled::<TILE>(
        #[inline(always)]
        |n| to.0[n] += E::total(simd, across[n]).conj(),
    );
}
