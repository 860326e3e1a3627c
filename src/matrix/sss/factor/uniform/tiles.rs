//! The elimination for any order: the lower half of P in square tiles of vectors, two steps in one pass over them.
//!
//! ```math
//! P_{k+2} = A_{k+1} (A_k P_k A_k^H + g_k w_k^H) A_{k+1}^H + g_{k+1} w_{k+1}^H, \qquad
//! P_{k+1} C_{k+1}^H = A_k P_k (C_{k+1} A_k)^H + g_k (C_{k+1} w_k)^H
//! ```

use super::super::ldl::Demand;
use super::eliminate::{Input, Output, Refused, accept};
use super::halves::{Source, Vectors, columns_of_half, update_and_read};
use super::{LANES, lane, put};
use crate::linalg::{Eight, Simd};
use crate::scalar::Field;

/// P before two steps, with the update of the two before them still to come, and the vectors of that update.
pub(super) struct Tiles<E> {
    order: usize,
    p: Vec<Eight<E>>,
    vectors: Vec<Vectors<E, 2>>, // A through both steps, g and w behind both, c before both
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
        let lanes = order.div_ceil(LANES);
        let p = vec![Eight([E::zero(); LANES]); columns_of_half(lanes)];
        Self { order, p, vectors: vec![Vectors::zeros(); lanes] }
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
                v.read(simd, 0, c);
                v.read(simd, 1, next);
            }
            update_and_read(simd, Source::Here, &mut self.p, &mut self.vectors);
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
            let inverse = E::splat(simd, E::one() / pivots[0]);
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
            let inverse = E::splat(simd, E::one() / pivots[1]);
            for (i, v) in self.vectors.iter_mut().enumerate() {
                let w = E::times(simd, E::load(simd, &v.g[1].0), inverse);
                put(simd, next_gain, i, w);
                E::store(simd, E::conjugate(simd, w), &mut v.w[1].0);
            }
        }
        Ok(())
    }

    /// P and the update still to come, appended to `all`; [`resume`] reads them.
    pub(super) fn write(&self, all: &mut Vec<Eight<E>>) {
        all.extend_from_slice(&self.p);
        all.extend(self.vectors.iter().flat_map(|v| [v.a, v.g[0], v.g[1], v.w[0], v.w[1]]));
    }
}

/// P as it was written, the update still to come put into `vectors`. P of a fixed order is written without one.
pub(super) fn resume<'a, E: Field>(all: &'a [Eight<E>], vectors: &mut [Vectors<E, 2>]) -> &'a [Eight<E>] {
    let (p, updates) = all.split_at(columns_of_half(vectors.len()));
    let none = Vectors { a: Eight([E::one(); LANES]), ..Vectors::zeros() };
    vectors.fill(none);
    for (v, [a, g0, g1, w0, w1]) in vectors.iter_mut().zip(updates.as_chunks::<5>().0) {
        (v.a, v.g, v.w) = (*a, [*g0, *g1], [*w0, *w1]);
    }
    p
}
