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
use crate::linalg::{Direction, FACTORS, GROUP, Into, STEPS, StateTile, Sweep, TILE_COLUMNS, vectorize};
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
        vectorize(
            #[inline(always)]
            || {
                let merged = factors.chunks_exact_mut(groups).zip(diagonals.iter_mut());
                for (offset, (factors, diagonal)) in merged.enumerate() {
                    let position = first + offset * STEPS;
                    if position + STEPS <= u.len {
                        merge::<E, true>(&u, position, factors, diagonal);
                    } else {
                        merge::<E, false>(&u, position, factors, diagonal);
                    }
                }
            },
        );
        E::sweep(Sweep { order, factors, diagonals, x, y, width, into, first, direction, state: &mut state });
    }
}

/// The factors of the steps from `position` on, all of them there if `WHOLE`. Steps past the end are not there: their
/// inputs and outputs weigh nothing, and the state that they would leave is not used.
#[inline(always)]
fn merge<E: Field, const WHOLE: bool>(
    u: &Uniform<'_, E>,
    position: usize,
    factors: &mut [[[E; GROUP]; FACTORS]],
    diagonal: &mut [[E; STEPS]; STEPS],
) {
    const PAIRS: usize = STEPS * (STEPS - 1) / 2;
    let present = if WHOLE { STEPS } else { STEPS.min(u.len - position) };
    let mut sums = [[E::zero(); GROUP]; PAIRS];
    for (group, factors) in factors.iter_mut().enumerate() {
        let start = group * GROUP;
        let (mut a, mut b, mut c) =
            ([[E::one(); GROUP]; STEPS], [[E::zero(); GROUP]; STEPS], [[E::zero(); GROUP]; STEPS]);
        for i in 0..present {
            let k = u.step(position + i);
            load(&mut b[i], u.b, u.order, (k, start), u.how);
            load(&mut c[i], u.c, u.order, (k, start), u.how);
            match u.a {
                Numbers::One => {}
                Numbers::Shared(values) => a[i] = [u.how.of(values[k]); GROUP],
                Numbers::Own(values) => load(&mut a[i], values, u.order, (k, start), u.how),
            }
        }
        // Inside the block first: C_i A .. A B_j below the diagonal.
        let mut pair = 0;
        for (i, c) in c.iter().enumerate().skip(1) {
            let mut path = *c;
            for j in (0..i).rev() {
                for n in 0..GROUP {
                    sums[pair][n] += path[n] * b[j][n];
                    path[n] *= a[j][n];
                }
                pair += 1;
            }
        }
        let (mut passed, mut left) = ([E::one(); GROUP], [E::one(); GROUP]);
        for i in 0..STEPS {
            let back = STEPS - 1 - i;
            for n in 0..GROUP {
                factors[1 + STEPS + i][n] = c[i][n] * passed[n];
                passed[n] *= a[i][n];
                factors[1 + back][n] = b[back][n] * left[n];
                left[n] *= a[back][n];
            }
        }
        factors[0] = passed;
    }
    *diagonal = [[E::zero(); STEPS]; STEPS];
    let mut pair = 0;
    for (i, row) in diagonal.iter_mut().enumerate().skip(1) {
        for j in (0..i).rev() {
            row[j] = total(sums[pair]);
            pair += 1;
        }
    }
    for (i, row) in diagonal.iter_mut().enumerate().take(present) {
        row[i] = u.skip(u.step(position + i));
    }
}

/// The sum of a group, in pairs.
#[inline(always)]
fn total<E: Field>(mut values: [E; GROUP]) -> E {
    let mut half = GROUP / 2;
    while half > 0 {
        for n in 0..half {
            let other = values[n + half];
            values[n] += other;
        }
        half /= 2;
    }
    values[0]
}

/// Numbers `start..` of row k, as many as there are.
#[inline(always)]
fn load<E: Field>(into: &mut [E; GROUP], values: &[E], order: usize, (k, start): (usize, usize), how: Apply) {
    let row = &values[k * order + start..k * order + order.min(start + GROUP)];
    match <&[E; GROUP]>::try_from(row) {
        Ok(row) => {
            for n in 0..GROUP {
                into[n] = how.of(row[n]);
            }
        }
        Err(_) => into.iter_mut().zip(row).for_each(|(into, v)| *into = how.of(*v)),
    }
}
