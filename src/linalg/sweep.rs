//! Merged steps of a recurrence on many columns, in vector registers.
//!
//! Four steps on one number h of the state are nine products: h weighs into four outputs, and itself and four inputs
//! make up the next h. Inputs and outputs of the four steps stay in registers while the numbers of the state pass by.

use num_complex::Complex;
use pulp::{Simd, WithSimd};

use super::{Into, prefetch};
use crate::scalar::Field;

/// Steps that are merged.
pub(crate) const STEPS: usize = 4;
/// Weights of a number of the state: its passage, four of inputs, four of outputs.
pub(crate) const FACTORS: usize = 1 + 2 * STEPS;
/// Numbers of the state whose weights stand side by side: one vector of the widest machine for `f64`.
pub(crate) const GROUP: usize = 8;
/// Columns of a tile: at least one vector, for every type.
pub(crate) const TILE_COLUMNS: usize = 16;

/// How many rows ahead memory is asked for: half a microsecond and more, while the rows take a share of the first cache.
const AHEAD: usize = 4 * STEPS;

/// Columns of a tile in one row.
pub(crate) type Tile<E> = [E; TILE_COLUMNS];

/// One number of the state for the columns of a tile. A vector of it never crosses a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct StateTile<E>(Tile<E>);

impl<E: Field> StateTile<E> {
    /// Before the first step.
    pub(crate) const fn new(zero: E) -> Self {
        Self([zero; TILE_COLUMNS])
    }
}

/// Some merged steps on all columns.
#[derive(Debug)]
pub struct Sweep<'a, E> {
    /// Numbers of the state.
    pub order: usize,
    /// Weights: a merged step after another, its groups of numbers one after another.
    pub factors: &'a [[[E; GROUP]; FACTORS]],
    /// How inputs of the four steps weigh into their outputs, one for each merged step.
    pub diagonals: &'a [[[E; STEPS]; STEPS]],
    /// Inputs, (len, width).
    pub x: &'a [E],
    /// Outputs, (len, width).
    pub y: &'a mut [E],
    /// Columns of inputs and outputs.
    pub width: usize,
    /// What happens to outputs that are there.
    pub into: Into,
    /// How many steps were taken before.
    pub first: usize,
    /// Which way the rows are taken.
    pub direction: Direction,
    /// The states, a tile of columns after another, one row for each number.
    pub state: &'a mut [StateTile<E>],
}

/// The order in which rows are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// First row first.
    Forward,
    /// Last row first.
    Backward,
}

/// Sweeps of a scalar type; sealed, since this module is private.
pub trait Sweeps: Sized {
    /// Takes the steps.
    fn sweep(sweep: Sweep<'_, Self>);
}

/// What four steps of one tile take and give.
#[derive(Debug)]
struct Steps<'a, E> {
    factors: &'a [[[E; GROUP]; FACTORS]],
    diagonal: &'a [[E; STEPS]; STEPS],
    x: [&'a Tile<E>; STEPS],
    y: [&'a mut Tile<E>; STEPS],
    into: Into,
    state: &'a mut [StateTile<E>],
}

impl<E: Field> Sweep<'_, E> {
    /// Takes the steps of every tile by `take`. Rows past the end and columns past the last are taken as zeros and not
    /// written.
    #[inline(always)]
    fn each(self, mut take: impl FnMut(Steps<'_, E>)) {
        let Self { order, factors, diagonals, x, y, width, into, first, direction, state } = self;
        let (groups, len) = (order.div_ceil(GROUP), x.len() / width);
        for (merged, (factors, diagonal)) in factors.chunks_exact(groups).zip(diagonals).enumerate() {
            let position = first + merged * STEPS;
            let present = STEPS.min(len - position);
            let lowest = match direction {
                Direction::Forward => position,
                Direction::Backward => len - present - position,
            };
            let rows = lowest * width..(lowest + present) * width;
            let ahead = match direction {
                Direction::Forward => rows.start + AHEAD * width,
                Direction::Backward => rows.start.wrapping_sub(AHEAD * width),
            };
            let share = (STEPS * width).div_ceil(width.div_ceil(TILE_COLUMNS));
            let place = |row: usize| if direction == Direction::Forward { row } else { present - 1 - row };
            for (tile, state) in state.chunks_exact_mut(order).enumerate() {
                // Tiles take pieces of rows, which the machine does not foresee: it is asked for whole rows in order.
                prefetch(x, ahead.wrapping_add(tile * share), share);
                prefetch(y, ahead.wrapping_add(tile * share), share);
                let (x, y) = (&x[rows.clone()], &mut y[rows.clone()]);
                let columns = tile * TILE_COLUMNS..width.min((tile + 1) * TILE_COLUMNS);
                if let (Some(x), Some(y)) =
                    (tiles(x, width, columns.start), tiles_mut(y, width, columns.start))
                {
                    let (x, y) = (in_order(direction, x), in_order(direction, y));
                    take(Steps { factors, diagonal, x, y, into, state });
                    continue;
                }
                let zero = [E::zero(); TILE_COLUMNS];
                let (mut inputs, mut outputs) = ([zero; STEPS], [zero; STEPS]);
                for (row, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact(width)).enumerate() {
                    inputs[place(row)][..columns.len()].copy_from_slice(&x[columns.clone()]);
                    outputs[place(row)][..columns.len()].copy_from_slice(&y[columns.clone()]);
                }
                let (x, y_tiles) = (inputs.each_ref(), outputs.each_mut());
                take(Steps { factors, diagonal, x, y: y_tiles, into, state });
                for (row, y) in y.chunks_exact_mut(width).enumerate() {
                    y[columns.clone()].copy_from_slice(&outputs[place(row)][..columns.len()]);
                }
            }
        }
    }
}

/// Columns `start..` of four rows, if there are four, and as many columns as a tile has.
#[inline(always)]
fn tiles<E>(x: &[E], width: usize, start: usize) -> Option<[&Tile<E>; STEPS]> {
    let (a, x) = x.split_at_checked(width)?;
    let (b, x) = x.split_at_checked(width)?;
    let (c, d) = x.split_at_checked(width)?;
    Some([
        a.get(start..)?.first_chunk()?,
        b.get(start..)?.first_chunk()?,
        c.get(start..)?.first_chunk()?,
        d.get(start..)?.first_chunk()?,
    ])
}

/// The same, to be changed.
#[inline(always)]
fn tiles_mut<E>(y: &mut [E], width: usize, start: usize) -> Option<[&mut Tile<E>; STEPS]> {
    let (a, y) = y.split_at_mut_checked(width)?;
    let (b, y) = y.split_at_mut_checked(width)?;
    let (c, d) = y.split_at_mut_checked(width)?;
    Some([
        a.get_mut(start..)?.first_chunk_mut()?,
        b.get_mut(start..)?.first_chunk_mut()?,
        c.get_mut(start..)?.first_chunk_mut()?,
        d.get_mut(start..)?.first_chunk_mut()?,
    ])
}

#[inline(always)]
fn in_order<T>(direction: Direction, rows: [T; STEPS]) -> [T; STEPS] {
    let [a, b, c, d] = rows;
    match direction {
        Direction::Forward => [a, b, c, d],
        Direction::Backward => [d, c, b, a],
    }
}

macro_rules! impl_sweeps {
    ($t:ty, $lanes:ident, $splat:ident, $fused:ident, $product:ident, $slices:ident, $slices_mut:ident) => {
        impl Sweeps for $t {
            fn sweep(sweep: Sweep<'_, $t>) {
                pulp::Arch::new().dispatch(sweep);
            }
        }

        impl WithSimd for Sweep<'_, $t> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.each(
                    #[inline(always)]
                    |steps| {
                        // Two vectors at once need 21 registers, and then share each weight that is read.
                        if S::REGISTER_COUNT >= 32 && TILE_COLUMNS >= 2 * S::$lanes {
                            steps.take::<S, 2>(simd);
                        } else {
                            steps.take::<S, 1>(simd);
                        }
                    },
                );
            }
        }

        impl Steps<'_, $t> {
            /// The four steps, `V` vectors at once.
            #[inline(always)]
            fn take<S: Simd, const V: usize>(self, simd: S) {
                let d = self.diagonal;
                for part in 0..TILE_COLUMNS / (V * S::$lanes) {
                    let mut x = [[simd.$splat(0.0); V]; STEPS];
                    let mut y = x;
                    for i in 0..STEPS {
                        for v in 0..V {
                            x[i][v] = S::$slices(self.x[i]).0[part * V + v];
                            if self.into == Into::Add {
                                y[i][v] = S::$slices(self.y[i]).0[part * V + v];
                            }
                        }
                        for j in 0..=i {
                            let weight = simd.$splat(d[i][j]);
                            for v in 0..V {
                                y[i][v] = simd.$fused(weight, x[j][v], y[i][v]);
                            }
                        }
                    }
                    for (factors, state) in self.factors.iter().zip(self.state.chunks_mut(GROUP)) {
                        for (n, state) in state.iter_mut().enumerate() {
                            let h = &mut S::$slices_mut(&mut state.0).0[part * V..(part + 1) * V];
                            let mut now = [simd.$splat(0.0); V];
                            now.copy_from_slice(h);
                            let weight = simd.$splat(factors[0][n]);
                            let mut next = now;
                            for v in 0..V {
                                next[v] = simd.$product(weight, now[v]);
                            }
                            for i in 0..STEPS {
                                let (from, to) =
                                    (simd.$splat(factors[1 + i][n]), simd.$splat(factors[1 + STEPS + i][n]));
                                for v in 0..V {
                                    y[i][v] = simd.$fused(to, now[v], y[i][v]);
                                    next[v] = simd.$fused(from, x[i][v], next[v]);
                                }
                            }
                            h.copy_from_slice(&next);
                        }
                    }
                    for i in 0..STEPS {
                        S::$slices_mut(&mut self.y[i][..]).0[part * V..(part + 1) * V].copy_from_slice(&y[i]);
                    }
                }
            }
        }
    };
}
impl_sweeps!(f64, F64_LANES, splat_f64s, mul_add_e_f64s, mul_f64s, as_simd_f64s, as_mut_simd_f64s);
impl_sweeps!(f32, F32_LANES, splat_f32s, mul_add_e_f32s, mul_f32s, as_simd_f32s, as_mut_simd_f32s);

macro_rules! impl_sweeps_by_loops {
    ($($t:ty),*) => {$(
        impl Sweeps for $t {
            fn sweep(sweep: Sweep<'_, Self>) {
                super::vectorize(
                    #[inline(always)]
                    || sweep.each(loops),
                );
            }
        }
    )*};
}
impl_sweeps_by_loops!(Complex<f32>, Complex<f64>);

/// The four steps by loops over the columns of the tile, for numbers that are no lanes of a vector.
#[inline(always)]
fn loops<E: Field>(steps: Steps<'_, E>) {
    let Steps { factors, diagonal, x, mut y, into, state } = steps;
    for (y, d) in y.iter_mut().zip(diagonal) {
        if into == Into::Replace {
            y.fill(E::zero());
        }
        for (d, x) in d.iter().zip(x) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += *d * *x);
        }
    }
    for (factors, state) in factors.iter().zip(state.chunks_mut(GROUP)) {
        for (n, StateTile(state)) in state.iter_mut().enumerate() {
            for (y, c) in y.iter_mut().zip(&factors[1 + STEPS..]) {
                y.iter_mut().zip(state.iter()).for_each(|(y, h)| *y += c[n] * *h);
            }
            state.iter_mut().for_each(|h| *h *= factors[0][n]);
            for (x, b) in x.iter().zip(&factors[1..]) {
                state.iter_mut().zip(x.iter()).for_each(|(h, x)| *h += b[n] * *x);
            }
        }
    }
}
