//! The recurrence for many columns: numbers as entries, one order, elementwise transitions.
//!
//! Steps are merged in fours, as [`regroup`](crate::matrix::Sss::regroup) does: with $`g = a_3 a_2 a_1 a_0`$,
//!
//! ```math
//! y_i = c_i a_{i-1} \cdots a_0\, h + \sum_{j \le i} D'_{ij} x_j, \qquad
//! h \leftarrow g h + \sum_j a_3 \cdots a_{j+1} b_j x_j
//! ```
//!
//! so that each number of the state is read and written once in four steps, and nine products in a row use it while it
//! is in a register. The factors are computed once for some steps and used by all tiles of columns.

use super::super::kernels::Apply;
use super::uniform::{Numbers, Uniform};
use crate::linalg::{
    Direction, FACTORS, GROUP, Into, STEPS, Simd, StateTile, Sweep, TILE_COLUMNS, WithSimd, dispatch, lane,
};
use crate::scalar::Field;

/// Numbers of factors that are kept at once: they stay in the first cache beside a tile of the state.
const KEPT: usize = 2048;
/// Merged steps that are taken at once at most.
const STRETCH: usize = 16;

/// `y = M x` or `y += M x`; `x`, `y`: (len, width).
pub(super) fn multiply<E: Field>(u: Uniform<'_, E>, into: Into, (x, width): (&[E], usize), y: &mut [E]) {
    let (order, merged, groups) = (u.order, u.len.div_ceil(STEPS), u.order.div_ceil(GROUP));
    let stretch = (KEPT / (groups * GROUP * FACTORS)).clamp(1, STRETCH);
    let mut factors = vec![[[E::zero(); GROUP]; FACTORS]; stretch * groups];
    let mut diagonals = vec![[[E::zero(); STEPS]; STEPS]; stretch];
    let mut state = vec![StateTile::new(E::zero()); width.div_ceil(TILE_COLUMNS) * order];
    let direction = if u.how == Apply::Plain { Direction::Forward } else { Direction::Backward };
    for start in (0..merged).step_by(stretch) {
        let (first, count) = (start * STEPS, stretch.min(merged - start));
        let (factors, diagonals) = (&mut factors[..count * groups], &mut diagonals[..count]);
        dispatch(Merge { u: &u, first, factors, diagonals });
        E::sweep(Sweep { order, factors, diagonals, x, y, width, into, first, direction, state: &mut state });
    }
}

/// The factors of some merged steps. Steps past the end are not there: their inputs and outputs weigh nothing, and the
/// state that they would leave is not used.
struct Merge<'a, 'u, E> {
    u: &'a Uniform<'u, E>,
    first: usize, // step
    factors: &'a mut [[[E; GROUP]; FACTORS]],
    diagonals: &'a mut [[[E; STEPS]; STEPS]],
}

impl<E: Field> WithSimd for Merge<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let groups = self.u.order.div_ceil(GROUP);
        let merged = self.factors.chunks_exact_mut(groups).zip(self.diagonals);
        for (offset, (factors, diagonal)) in merged.enumerate() {
            let position = self.first + offset * STEPS;
            *diagonal = if position + STEPS <= self.u.len {
                merge::<E, S, true>(simd, self.u, position, factors)
            } else {
                merge::<E, S, false>(simd, self.u, position, factors)
            };
        }
    }
}

/// The factors of the steps from `position` on, all of them there if `WHOLE`, and how their inputs weigh into their
/// outputs.
#[inline(always)]
fn merge<E: Field, S: Simd, const WHOLE: bool>(
    simd: S,
    u: &Uniform<'_, E>,
    position: usize,
    factors: &mut [[[E; GROUP]; FACTORS]],
) -> [[E; STEPS]; STEPS] {
    let present = if WHOLE { STEPS } else { u.len - position };
    let zero = E::splat(simd, E::zero());
    let [mut s10, mut s20, mut s21, mut s30, mut s31, mut s32] = [zero; 6];
    for (group, factors) in factors.iter_mut().enumerate() {
        let (a0, b0, c0) = step(simd, u, (position, group), 0 < present);
        let (a1, b1, c1) = step(simd, u, (position + 1, group), 1 < present);
        let (a2, b2, c2) = step(simd, u, (position + 2, group), 2 < present);
        let (a3, b3, c3) = step(simd, u, (position + 3, group), 3 < present);
        // C_i A .. A B_j below the diagonal, each path from later to earlier steps.
        let (c2a1, c3a2) = (E::times(simd, c2, a1), E::times(simd, c3, a2));
        s10 = E::add_times(simd, c1, b0, s10);
        s21 = E::add_times(simd, c2, b1, s21);
        s20 = E::add_times(simd, c2a1, b0, s20);
        s32 = E::add_times(simd, c3, b2, s32);
        s31 = E::add_times(simd, c3a2, b1, s31);
        s30 = E::add_times(simd, E::times(simd, c3a2, a1), b0, s30);
        let (two, back) = (E::times(simd, a1, a0), E::times(simd, a3, a2));
        let three = E::times(simd, a2, two);
        let [whole, inputs @ .., o0, o1, o2, o3] = factors;
        E::store(simd, E::times(simd, a3, three), whole);
        E::store(simd, E::times(simd, E::times(simd, back, a1), b0), &mut inputs[0]);
        E::store(simd, E::times(simd, back, b1), &mut inputs[1]);
        E::store(simd, E::times(simd, a3, b2), &mut inputs[2]);
        E::store(simd, b3, &mut inputs[3]);
        E::store(simd, c0, o0);
        E::store(simd, E::times(simd, c1, a0), o1);
        E::store(simd, E::times(simd, c2, two), o2);
        E::store(simd, E::times(simd, c3, three), o3);
    }
    let mut diagonal = [[E::zero(); STEPS]; STEPS];
    diagonal[1][0] = E::total(simd, s10);
    diagonal[2][0] = E::total(simd, s20);
    diagonal[2][1] = E::total(simd, s21);
    diagonal[3][0] = E::total(simd, s30);
    diagonal[3][1] = E::total(simd, s31);
    diagonal[3][2] = E::total(simd, s32);
    for (i, row) in diagonal.iter_mut().enumerate().take(present) {
        row[i] = u.skip(u.step(position + i));
    }
    diagonal
}

/// A, B and C of a step, of a group of numbers; of one that is not there an identity that takes and gives nothing.
#[inline(always)]
fn step<E: Field, S: Simd>(
    simd: S,
    u: &Uniform<'_, E>,
    (position, group): (usize, usize),
    present: bool,
) -> (E::Vector<S>, E::Vector<S>, E::Vector<S>) {
    let (zero, one) = (E::splat(simd, E::zero()), E::splat(simd, E::one()));
    if !present {
        return (one, zero, zero);
    }
    let k = u.step(position);
    let a = match u.a {
        Numbers::One => one,
        Numbers::Shared(values) => E::splat(simd, u.how.of(values[k])),
        Numbers::Own(values) => generator(simd, u, values, (k, group)),
    };
    (a, generator(simd, u, u.b, (k, group)), generator(simd, u, u.c, (k, group)))
}

/// A group of the numbers of step k, conjugated for an adjoint.
#[inline(always)]
fn generator<E: Field, S: Simd>(
    simd: S,
    u: &Uniform<'_, E>,
    values: &[E],
    (k, group): (usize, usize),
) -> E::Vector<S> {
    let row = lane(simd, &values[k * u.order..(k + 1) * u.order], group);
    if u.how == Apply::Adjoint { E::conjugate(simd, row) } else { row }
}
