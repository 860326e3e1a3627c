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
use crate::linalg::{FACTORS, Into, STEPS, Sweep, TILE_COLUMNS, vectorize};
use crate::scalar::Field;

/// Numbers of the state whose factors are computed together: one vector of the widest machine for `f64`.
const GROUP: usize = 8;
/// Numbers of factors that are kept at once: they stay in the first cache beside a tile of the state.
const KEPT: usize = 2048;
/// Merged steps that are taken at once at most: their inputs and outputs stay in the second cache.
const STRETCH: usize = 16;

/// `y = M x` or `y += M x`; `x`, `y`: (len, width).
///
/// Rows of x are read once, in order, into tiles of columns, and rows of y written once, in order, from tiles.
pub(super) fn multiply<E: Field>(u: Uniform<'_, E>, into: Into, (x, width): (&[E], usize), y: &mut [E]) {
    let merged = u.len.div_ceil(STEPS);
    let stretch = (KEPT / (u.order * FACTORS)).clamp(1, STRETCH);
    let tiles = width.div_ceil(TILE_COLUMNS);
    let zero = [E::zero(); TILE_COLUMNS];
    let mut factors = vec![[E::zero(); FACTORS]; stretch * u.order];
    let mut diagonals = vec![[[E::zero(); STEPS]; STEPS]; stretch];
    let mut states = vec![zero; tiles * u.order];
    let (mut inputs, mut outputs) =
        (vec![zero; tiles * stretch * STEPS], vec![zero; tiles * stretch * STEPS]);
    for first in (0..merged).step_by(stretch) {
        let count = stretch.min(merged - first);
        let (factors, diagonals) = (&mut factors[..count * u.order], &mut diagonals[..count]);
        vectorize(
            #[inline(always)]
            || {
                let merged = factors.chunks_exact_mut(u.order).zip(diagonals.iter_mut());
                for (offset, (factors, diagonal)) in merged.enumerate() {
                    merge(&u, (first + offset) * STEPS, factors, diagonal);
                }
            },
        );
        let (start, rows) = (first * STEPS, count * STEPS);
        let present = rows.min(u.len - start);
        let row = |position: usize| {
            let at = u.step(start + position) * width;
            at..at + width
        };
        for position in 0..present {
            for (tile, x) in x[row(position)].chunks(TILE_COLUMNS).enumerate() {
                inputs[tile * rows + position][..x.len()].copy_from_slice(x);
            }
        }
        let tiles = inputs.chunks_exact(rows).zip(outputs.chunks_exact_mut(rows));
        for ((x, y), state) in tiles.zip(states.chunks_exact_mut(u.order)) {
            E::sweep(Sweep { factors: &*factors, diagonals: &*diagonals, x, y, state });
        }
        for position in 0..present {
            for (tile, y) in y[row(position)].chunks_mut(TILE_COLUMNS).enumerate() {
                let values = &outputs[tile * rows + position][..y.len()];
                match into {
                    Into::Replace => y.copy_from_slice(values),
                    Into::Add => y.iter_mut().zip(values).for_each(|(y, v)| *y += *v),
                }
            }
        }
    }
}

/// The factors of the steps from `position` on. Steps past the end are not there: their inputs and outputs weigh
/// nothing, and the state that they would leave is not used.
#[inline(always)]
fn merge<E: Field>(
    u: &Uniform<'_, E>,
    position: usize,
    factors: &mut [[E; FACTORS]],
    diagonal: &mut [[E; STEPS]; STEPS],
) {
    *diagonal = [[E::zero(); STEPS]; STEPS];
    let present = STEPS.min(u.len - position);
    for (group, factors) in factors.chunks_mut(GROUP).enumerate() {
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
        for i in 1..STEPS {
            let mut path = c[i];
            for j in (0..i).rev() {
                let mut sum = E::zero();
                for n in 0..GROUP {
                    sum += path[n] * b[j][n];
                    path[n] *= a[j][n];
                }
                diagonal[i][j] += sum;
            }
        }
        let (mut passed, mut left) = ([E::one(); GROUP], [E::one(); GROUP]);
        for i in 0..STEPS {
            let back = STEPS - 1 - i;
            for n in 0..GROUP {
                c[i][n] *= passed[n];
                passed[n] *= a[i][n];
                b[back][n] *= left[n];
                left[n] *= a[back][n];
            }
        }
        for (n, factors) in factors.iter_mut().enumerate() {
            *factors = [passed[n], b[0][n], b[1][n], b[2][n], b[3][n], c[0][n], c[1][n], c[2][n], c[3][n]];
        }
    }
    for (i, row) in diagonal.iter_mut().enumerate().take(present) {
        row[i] = u.skip(u.step(position + i));
    }
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
