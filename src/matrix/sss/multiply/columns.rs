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
use crate::linalg::{Into, vectorize};
use crate::scalar::Field;

/// Steps that are merged.
const STEPS: usize = 4;
/// Numbers of the state whose factors are computed together: one vector of the widest machine for `f64`.
const GROUP: usize = 8;
/// Rows of the factors: one passage, then as many weights of inputs and of outputs as steps.
const FACTORS: usize = 1 + 2 * STEPS;
/// Numbers of factors that are kept at once: they stay in the first cache beside a tile of the state.
const KEPT: usize = 2048;

/// The factors of one merged step, for some numbers of the state in a row.
type Group<E> = [[E; GROUP]; FACTORS];

/// `y = M x` or `y += M x`; `x`, `y`: (len, width).
pub(super) fn multiply<E: Field>(u: Uniform<'_, E>, into: Into, (x, width): (&[E], usize), y: &mut [E]) {
    let work = Work { u, into, x, width };
    vectorize(
        #[inline(always)]
        || if width <= 16 { work.tiles::<16>(y) } else { work.tiles::<32>(y) },
    );
}

#[derive(Clone, Copy)]
struct Work<'a, E> {
    u: Uniform<'a, E>,
    into: Into,
    x: &'a [E],
    width: usize,
}

impl<E: Field> Work<'_, E> {
    /// All steps, in tiles of `T` columns.
    #[inline(always)]
    fn tiles<const T: usize>(&self, y: &mut [E]) {
        let groups = self.u.order.div_ceil(GROUP);
        let pairs = self.u.order.div_ceil(2);
        let merged = self.u.len.div_ceil(STEPS);
        // Merged steps whose factors are kept at once.
        let stretch = (KEPT / (groups * GROUP * FACTORS)).clamp(1, merged.max(1));
        let mut factors = vec![[[E::zero(); GROUP]; FACTORS]; stretch * groups];
        let mut diagonals = vec![[[E::zero(); STEPS]; STEPS]; stretch];
        let tiles = self.width.div_ceil(T);
        let mut states = vec![[[E::zero(); T]; 2]; tiles * pairs];
        for first in (0..merged).step_by(stretch) {
            let count = stretch.min(merged - first);
            for (offset, diagonal) in diagonals[..count].iter_mut().enumerate() {
                let factors = &mut factors[offset * groups..(offset + 1) * groups];
                self.merge((first + offset) * STEPS, factors, diagonal);
            }
            for (tile, state) in states.chunks_exact_mut(pairs).enumerate() {
                for (offset, diagonal) in diagonals[..count].iter().enumerate() {
                    let factors = &factors[offset * groups..(offset + 1) * groups];
                    self.step::<T>((first + offset) * STEPS, tile * T, (factors, diagonal), state, y);
                }
            }
        }
    }

    /// Steps at a position that there are.
    #[inline(always)]
    fn present(&self, position: usize) -> usize {
        STEPS.min(self.u.len - position)
    }

    /// The factors of the steps from `position` on. Steps past the end are not there: their inputs and outputs weigh
    /// nothing, and the state that they would leave is not used.
    #[inline(always)]
    fn merge(&self, position: usize, factors: &mut [Group<E>], diagonal: &mut [[E; STEPS]; STEPS]) {
        let u = &self.u;
        *diagonal = [[E::zero(); STEPS]; STEPS];
        let present = self.present(position);
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
                    factors[1 + STEPS + i][n] = c[i][n] * passed[n];
                    passed[n] *= a[i][n];
                    factors[1 + back][n] = b[back][n] * left[n];
                    left[n] *= a[back][n];
                }
            }
            factors[0] = passed;
        }
        for (i, row) in diagonal.iter_mut().enumerate().take(present) {
            row[i] = u.skip(u.step(position + i));
        }
    }

    /// One merged step on a tile of columns.
    #[inline(always)]
    fn step<const T: usize>(
        &self,
        position: usize,
        column: usize,
        (factors, diagonal): (&[Group<E>], &[[E; STEPS]; STEPS]),
        state: &mut [[[E; T]; 2]],
        y: &mut [E],
    ) {
        let (present, columns) = (self.present(position), T.min(self.width - column));
        let mut x = [[E::zero(); T]; STEPS];
        for (i, row) in x.iter_mut().enumerate().take(present) {
            let start = self.u.step(position + i) * self.width + column;
            row[..columns].copy_from_slice(&self.x[start..start + columns]);
        }
        let mut out = [[E::zero(); T]; STEPS];
        inside(diagonal, &x, &mut out);
        for (pair, state) in state.iter_mut().enumerate() {
            let (group, n) = (&factors[2 * pair / GROUP], 2 * pair % GROUP);
            let mut weights = [[E::zero(); 2]; FACTORS];
            for (weights, row) in weights.iter_mut().zip(group) {
                *weights = [row[n], row[n + 1]];
            }
            two(&weights, &x, &mut out, state);
        }
        for (i, row) in out.iter().enumerate().take(present) {
            let start = self.u.step(position + i) * self.width + column;
            let y = &mut y[start..start + columns];
            match self.into {
                Into::Replace => y.copy_from_slice(&row[..columns]),
                Into::Add => y.iter_mut().zip(row).for_each(|(y, v)| *y += *v),
            }
        }
    }
}

/// `out_i = Σ_j D'_ij x_j` over j ≤ i.
#[inline(always)]
fn inside<E: Field, const T: usize>(
    d: &[[E; STEPS]; STEPS],
    [x0, x1, x2, x3]: &[[E; T]; STEPS],
    [y0, y1, y2, y3]: &mut [[E; T]; STEPS],
) {
    for l in 0..T {
        let (x0, x1, x2, x3) = (x0[l], x1[l], x2[l], x3[l]);
        y0[l] = d[0][0] * x0;
        y1[l] = d[1][0].fused(x0, d[1][1] * x1);
        y2[l] = d[2][0].fused(x0, d[2][1].fused(x1, d[2][2] * x2));
        y3[l] = d[3][0].fused(x0, d[3][1].fused(x1, d[3][2].fused(x2, d[3][3] * x3)));
    }
}

/// What two numbers of the state give to the outputs of four steps, and what they become: one loop over the columns, so
/// that the compiler makes vectors of it.
#[inline(always)]
fn two<E: Field, const T: usize>(
    [g, b0, b1, b2, b3, c0, c1, c2, c3]: &[[E; 2]; FACTORS],
    [x0, x1, x2, x3]: &[[E; T]; STEPS],
    [y0, y1, y2, y3]: &mut [[E; T]; STEPS],
    [first, second]: &mut [[E; T]; 2],
) {
    for l in 0..T {
        let (h, i) = (first[l], second[l]);
        y0[l] = c0[0].fused(h, c0[1].fused(i, y0[l]));
        y1[l] = c1[0].fused(h, c1[1].fused(i, y1[l]));
        y2[l] = c2[0].fused(h, c2[1].fused(i, y2[l]));
        y3[l] = c3[0].fused(h, c3[1].fused(i, y3[l]));
        let (x0, x1, x2, x3) = (x0[l], x1[l], x2[l], x3[l]);
        first[l] = g[0].fused(h, b0[0].fused(x0, b1[0].fused(x1, b2[0].fused(x2, b3[0] * x3))));
        second[l] = g[1].fused(i, b0[1].fused(x0, b1[1].fused(x1, b2[1].fused(x2, b3[1] * x3))));
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
