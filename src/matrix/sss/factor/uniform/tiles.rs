//! The elimination for any order: the lower half of P in square tiles of vectors.

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::{LANES, Lane, add_scaled, add_times, conjugate, pad, scaled, times, total};
use crate::scalar::Field;

/// P before a step, with the update of the step before it still to come, and the vectors of that update.
pub(super) struct Tiles<E> {
    order: usize,
    p: Vec<Lane<E>>, // tile (I, J), I ≥ J, by columns of tiles; each tile by columns
    a: Vec<Lane<E>>,
    g: Vec<Lane<E>>,
    w: Vec<Lane<E>>,
    c: Vec<Lane<E>>,
    f: Vec<Lane<E>>,
}

impl<E: Field> Tiles<E> {
    pub(super) fn zeros(order: usize) -> Self {
        let blocks = order.div_ceil(LANES);
        let zeros = |vectors: usize| vec![[E::zero(); LANES]; vectors];
        let vector = || zeros(blocks);
        let p = zeros(blocks * (blocks + 1) / 2 * LANES);
        Self { order, p, a: vector(), g: vector(), w: vector(), c: vector(), f: vector() }
    }

    /// Steps of the elimination.
    #[inline(always)]
    pub(super) fn run(
        &mut self,
        input: Input<'_, E>,
        demand: Demand,
        output: Output<'_, E>,
    ) -> Result<(), Refused<E>> {
        let order = self.order;
        let rows = input.a.chunks_exact(order).zip(input.b.chunks_exact(order));
        let rows = rows.zip(input.c.chunks_exact(order)).zip(input.d);
        let gains = output.gains.chunks_exact_mut(order).zip(output.pivots);
        for (k, ((((a, b), c), d), (gain, pivot))) in rows.zip(gains).enumerate() {
            pad(c, &mut self.c);
            self.update_and_read();
            pad(a, &mut self.a);
            pad(b, &mut self.g);
            let mut read = [E::zero(); LANES];
            for ((g, a), (f, c)) in self.g.iter_mut().zip(&self.a).zip(self.f.iter().zip(&self.c)) {
                *g = add_times(scaled(*a, -E::one()), *f, *g);
                read = add_times(*f, *c, read);
            }
            *pivot = (*d - total(read)).real_part();
            accept(*pivot, demand).map_err(|()| Refused { step: k, pivot: *pivot })?;
            let inverse = E::one() / *pivot;
            for (w, g) in self.w.iter_mut().zip(&self.g) {
                *w = scaled(*g, inverse);
            }
            gain.copy_from_slice(&self.w.as_flattened()[..order]);
        }
        Ok(())
    }

    /// P before the next step by columns, appended to `all`.
    pub(super) fn columns(&self, all: &mut Vec<E>) {
        let (n, blocks) = (self.order, self.a.len());
        let (a, g, w) = (self.a.as_flattened(), self.g.as_flattened(), self.w.as_flattened());
        let stored = |i: usize, j: usize| {
            let (row, column) = (i / LANES, j / LANES);
            let tile = column * blocks - column * column.saturating_sub(1) / 2 + row - column;
            let value = self.p[tile * LANES + j % LANES][i % LANES];
            g[i].fused(w[j].conj(), value * (a[i] * a[j].conj()))
        };
        for j in 0..n {
            all.extend((0..n).map(|i| {
                // The diagonal tiles are whole: both halves of each are stored.
                if i / LANES >= j / LANES { stored(i, j) } else { stored(j, i).conj() }
            }));
        }
    }

    /// `P ← A P Aᴴ + g wᴴ` of the step before, and `f = P conj(c)` of this one, in one pass over half of P.
    #[inline(always)]
    fn update_and_read(&mut self) {
        let Self { p, a, g, w, c, f, .. } = self;
        let blocks = a.len();
        f.fill([E::zero(); LANES]);
        let mut rest = &mut p[..];
        for j in 0..blocks {
            let (column, below) = rest.split_at_mut((blocks - j) * LANES);
            rest = below;
            let (diagonal, lower) = column.split_at_mut(LANES);
            let (aj, wj, cj) = (conjugate(a[j]), conjugate(w[j]), conjugate(c[j]));
            let (own_a, own_g) = (a[j], g[j]);
            let mut own = f[j];
            for (n, p) in diagonal.iter_mut().enumerate() {
                let value = add_scaled(own_g, wj[n], times(*p, scaled(own_a, aj[n])));
                *p = value;
                own = add_scaled(value, cj[n], own);
            }
            // Above the diagonal P is the adjoint of what is stored: those products are summed over rows.
            let mut across = [[E::zero(); LANES]; LANES];
            for (i, tile) in (j + 1..blocks).zip(lower.as_chunks_mut::<LANES>().0) {
                let (ai, gi, ci) = (a[i], g[i], c[i]);
                let mut fi = f[i];
                for n in 0..LANES {
                    let value = add_scaled(gi, wj[n], times(tile[n], scaled(ai, aj[n])));
                    tile[n] = value;
                    fi = add_scaled(value, cj[n], fi);
                    across[n] = add_times(value, ci, across[n]);
                }
                f[i] = fi;
            }
            if j + 1 < blocks {
                for n in 0..LANES {
                    own[n] += total(across[n]).conj();
                }
            }
            f[j] = own;
        }
    }
}
