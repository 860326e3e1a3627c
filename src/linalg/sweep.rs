//! The recurrence on many columns, in vector registers: numbers as entries, elementwise transitions.
//!
//! ```math
//! y_k = c_k h + d_k x_k, \qquad h \leftarrow a_k h + b_k x_k
//! ```
//!
//! A few numbers of the state for a tile of columns stay in registers for some steps. So each generator that is read goes
//! into products with two vectors, and inputs and outputs are in the first cache when the next numbers of the state need
//! them.

use num_complex::Complex;
use num_traits::Zero;
use pulp::{Arch, Simd, WithSimd};

use super::{Into, LINE, prefetch};
use crate::scalar::Field;

/// Steps that some numbers of the state take before the next ones. What the steps behind them read is asked for meanwhile.
const STRETCH: usize = 8;

/// Vectors of columns in a tile.
const VECTORS: usize = 2;

/// Generators, a row for each step.
#[derive(Debug, Clone, Copy)]
pub struct Generators<'a, E> {
    /// Transitions, `apart` numbers from one to the next.
    pub a: &'a [E],
    /// The order, or 1 where one number is all of a transition, or 0 where one transition is that of all steps.
    pub apart: usize,
    /// From input to state, (len, order).
    pub b: &'a [E],
    /// From state to output, (len, order).
    pub c: &'a [E],
    /// From input to output, (len), or nothing.
    pub d: Option<&'a [E]>,
    /// Numbers of the state, at least one.
    pub order: usize,
    /// Whether their complex conjugates are meant.
    pub conjugate: bool,
}

/// All steps on all columns.
#[derive(Debug)]
pub struct Sweep<'a, E> {
    /// The matrix.
    pub generators: Generators<'a, E>,
    /// Inputs, (len, width).
    pub x: &'a [E],
    /// Outputs, (len, width).
    pub y: &'a mut [E],
    /// Columns of inputs and outputs, at least one.
    pub width: usize,
    /// What happens to outputs that are there.
    pub into: Into,
    /// Which way the steps are taken.
    pub direction: Direction,
}

/// The order in which steps are taken.
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

/// Some numbers of the state, some steps and a tile of columns.
struct Piece<'a, E> {
    generators: Generators<'a, E>,
    /// The first number of the state.
    first: usize,
    /// The lowest row, how many, and the order of steps.
    steps: (usize, usize, Direction),
    /// Inputs and outputs from the lowest row and the first column on, `stride` numbers from row to row.
    x: &'a [E],
    y: &'a mut [E],
    stride: usize,
    into: Into,
    /// The tile, one row for each number of the state.
    state: &'a mut [E],
    ahead: Ahead<E>,
}

/// What is asked for at each step, so that all that the next steps read is asked for in the order in which it stands in
/// memory.
#[derive(Clone, Copy)]
struct Ahead<E> {
    /// Inputs and outputs, if the first numbers of the state bring them.
    operands: Option<[*const E; 2]>,
    /// A number of the next rows of generators, if the first tile brings them.
    generators: Option<usize>,
}

impl<E> Ahead<E> {
    /// Asks at step `i` of some numbers of the state for `width` columns.
    #[inline(always)]
    fn ask<const OWN: bool>(self, g: Generators<'_, E>, i: usize, width: usize, numbers: usize) {
        if let Some([x, y]) = self.operands {
            prefetch(x.wrapping_add(i * width), width);
            prefetch(y.wrapping_add(i * width), width);
        }
        if let Some(start) = self.generators {
            let start = start.wrapping_add(i * numbers);
            if OWN {
                prefetch(g.a.as_ptr().wrapping_add(start), numbers);
            }
            prefetch(g.b.as_ptr().wrapping_add(start), numbers);
            prefetch(g.c.as_ptr().wrapping_add(start), numbers);
        }
    }
}

impl<E: Field> Sweep<'_, E> {
    /// Rows of the steps from `position` on: the lowest, how many, and the lowest of those behind, which may be none.
    #[inline(always)]
    fn rows(&self, len: usize, position: usize) -> (usize, usize, usize) {
        let count = STRETCH.min(len - position);
        match self.direction {
            Direction::Forward => (position, count, position + STRETCH),
            Direction::Backward => {
                let lowest = len - position - count;
                (lowest, count, lowest.wrapping_sub(STRETCH))
            }
        }
    }

    /// What the numbers of the state from `first` on and the tile of `column` ask for of the rows from `next` on.
    #[inline(always)]
    fn ahead(&self, next: usize, first: usize, column: usize) -> Ahead<E> {
        let place = next.wrapping_mul(self.width).wrapping_add(column * STRETCH);
        let operands = [self.x.as_ptr().wrapping_add(place), self.y.as_ptr().wrapping_add(place)];
        let number = next.wrapping_mul(self.generators.order).wrapping_add(first * STRETCH);
        Ahead { operands: (first == 0).then_some(operands), generators: (column == 0).then_some(number) }
    }
}

/// The columns behind the last whole tile, as a tile; used unless there are none or just a vector of them.
struct Edge<E> {
    x: Vec<E>,
    y: Vec<E>,
    columns: std::ops::Range<usize>,
    tile: usize,
}

impl<E: Field> Edge<E> {
    fn new(width: usize, tile: usize) -> Self {
        let columns = width / tile * tile..width;
        let numbers = if columns.is_empty() { 0 } else { STRETCH * tile };
        Self { x: vec![E::zero(); numbers], y: vec![E::zero(); numbers], columns, tile }
    }

    /// Takes inputs and outputs of these rows.
    #[inline(always)]
    fn load(&mut self, sweep: &Sweep<'_, E>, lowest: usize, count: usize) {
        for (j, (x, y)) in
            self.x.chunks_exact_mut(self.tile).zip(self.y.chunks_exact_mut(self.tile)).take(count).enumerate()
        {
            let row = (lowest + j) * sweep.width;
            let columns = row + self.columns.start..row + self.columns.end;
            x[..columns.len()].copy_from_slice(&sweep.x[columns.clone()]);
            y[..columns.len()].copy_from_slice(&sweep.y[columns]);
        }
    }

    /// Puts the outputs where they belong.
    #[inline(always)]
    fn store(&self, sweep: &mut Sweep<'_, E>, lowest: usize, count: usize) {
        for (j, y) in self.y.chunks_exact(self.tile).take(count).enumerate() {
            let row = (lowest + j) * sweep.width;
            let columns = row + self.columns.start..row + self.columns.end;
            sweep.y[columns.clone()].copy_from_slice(&y[..columns.len()]);
        }
    }
}

macro_rules! impl_sweeps {
    ($($t:ty: $complex:literal $lanes:ident $splat:ident $product:ident $fused:ident
        $slices:ident $slices_mut:ident;)*) => {$(
        impl Sweeps for $t {
            fn sweep(sweep: Sweep<'_, $t>) {
                Arch::new().dispatch(sweep);
            }
        }

        impl WithSimd for Sweep<'_, $t> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(mut self, simd: S) {
                let Self { generators, width, into, direction, .. } = self;
                let (order, tile) = (generators.order, VECTORS * S::$lanes);
                let size = width.next_multiple_of(tile) * order;
                let mut state = vec![<$t>::zero(); size + LINE / size_of::<$t>()];
                let aligned = state.as_ptr().align_offset(LINE).min(LINE / size_of::<$t>());
                let state = &mut state[aligned..aligned + size];
                let mut edge = Edge::new(width, tile);
                let (len, rest) = (self.x.len() / width, width % tile);
                let ragged = rest != 0 && rest != S::$lanes;
                for position in (0..len).step_by(STRETCH) {
                    let (lowest, count, next) = self.rows(len, position);
                    if ragged {
                        edge.load(&self, lowest, count);
                    }
                    let mut first = 0;
                    while first < order {
                        let numbers = match order - first {
                            8.. if S::REGISTER_COUNT >= 32 => 8,
                            4.. => 4,
                            2.. => 2,
                            _ => 1,
                        };
                        for column in (0..width).step_by(tile) {
                            let ahead = self.ahead(next, first, column);
                            let start = lowest * width + column;
                            let (x, y, stride) = if !ragged || column + tile <= width {
                                (&self.x[start..], &mut self.y[start..], width)
                            } else {
                                (&edge.x[..], &mut edge.y[..], tile)
                            };
                            let state = &mut state[column * order..][..tile * order];
                            let steps = (lowest, count, direction);
                            let piece = Piece { generators, first, steps, x, y, stride, into, state, ahead };
                            if column + S::$lanes < width {
                                piece.take_numbers::<S, VECTORS>(simd, numbers);
                            } else {
                                piece.take_numbers::<S, 1>(simd, numbers);
                            }
                        }
                        first += numbers;
                    }
                    if ragged {
                        edge.store(&mut self, lowest, count);
                    }
                }
            }
        }

        impl Piece<'_, $t> {
            #[inline(always)]
            fn take_numbers<S: Simd, const V: usize>(self, simd: S, numbers: usize) {
                match numbers {
                    8 => self.take_transitions::<S, V, 8>(simd),
                    4 => self.take_transitions::<S, V, 4>(simd),
                    2 => self.take_transitions::<S, V, 2>(simd),
                    _ => self.take_transitions::<S, V, 1>(simd),
                }
            }

            #[inline(always)]
            fn take_transitions<S: Simd, const V: usize, const N: usize>(self, simd: S) {
                let own = self.generators.apart == self.generators.order;
                match ($complex && self.generators.conjugate, own) {
                    (false, true) => self.take::<S, V, N, true, false>(simd),
                    (false, false) => self.take::<S, V, N, false, false>(simd),
                    (true, true) => self.take::<S, V, N, true, $complex>(simd),
                    (true, false) => self.take::<S, V, N, false, $complex>(simd),
                }
            }

            /// The steps of `N` numbers of the state in `V` vectors of columns, each with transitions of its `OWN` or not.
            #[inline(always)]
            fn take<S: Simd, const V: usize, const N: usize, const OWN: bool, const CONJUGATE: bool>(
                self,
                simd: S,
            ) {
                #[inline(always)]
                fn of<const CONJUGATE: bool>(value: $t) -> $t {
                    if CONJUGATE { Field::conj(value) } else { value }
                }

                let Self { generators: g, first, steps, x, y, stride, into, state, ahead } = self;
                let ((lowest, count, direction), width) = (steps, V * S::$lanes);
                let state = &mut S::$slices_mut(&mut state[first * width..(first + N) * width]).0[..N * V];
                let mut h = [[simd.$splat(<$t>::zero()); V]; N];
                for n in 0..N {
                    h[n].copy_from_slice(&state[n * V..(n + 1) * V]);
                }
                for i in 0..count {
                    let j = if direction == Direction::Forward { i } else { count - 1 - i };
                    let k = lowest + j;
                    ahead.ask::<OWN>(g, i, width, N);
                    let x = &S::$slices(&x[j * stride..][..width]).0[..V];
                    let y = &mut S::$slices_mut(&mut y[j * stride..][..width]).0[..V];
                    let a = if OWN { &g.a[k * g.apart + first..][..N] } else { &g.a[k * g.apart..][..1] };
                    let (b, c) = (&g.b[k * g.order + first..][..N], &g.c[k * g.order + first..][..N]);
                    let mut sums = [simd.$splat(<$t>::zero()); V];
                    if first > 0 {
                        sums.copy_from_slice(y);
                    } else if let Some(d) = g.d {
                        let d = simd.$splat(of::<CONJUGATE>(d[k]));
                        for v in 0..V {
                            sums[v] = match into {
                                Into::Add => simd.$fused(d, x[v], y[v]),
                                Into::Replace => simd.$product(d, x[v]),
                            };
                        }
                    } else if into == Into::Add {
                        sums.copy_from_slice(y);
                    }
                    for n in 0..N {
                        let a = simd.$splat(of::<CONJUGATE>(a[if OWN { n } else { 0 }]));
                        let (b, c) = (simd.$splat(of::<CONJUGATE>(b[n])), simd.$splat(of::<CONJUGATE>(c[n])));
                        for v in 0..V {
                            sums[v] = simd.$fused(c, h[n][v], sums[v]);
                            h[n][v] = simd.$fused(a, h[n][v], simd.$product(b, x[v]));
                        }
                    }
                    y.copy_from_slice(&sums);
                }
                for n in 0..N {
                    state[n * V..(n + 1) * V].copy_from_slice(&h[n]);
                }
            }
        }
    )*};
}
impl_sweeps! {
    f64: false F64_LANES splat_f64s mul_f64s mul_add_e_f64s as_simd_f64s as_mut_simd_f64s;
    f32: false F32_LANES splat_f32s mul_f32s mul_add_e_f32s as_simd_f32s as_mut_simd_f32s;
    Complex<f64>: true C64_LANES splat_c64s mul_c64s mul_add_c64s as_simd_c64s as_mut_simd_c64s;
    Complex<f32>: true C32_LANES splat_c32s mul_c32s mul_add_c32s as_simd_c32s as_mut_simd_c32s;
}
