//! Merged steps of a recurrence on a tile of columns, in vector registers.
//!
//! Four steps on one number h of the state are nine products: h weighs into four outputs, and itself and four inputs
//! make up the next h. Inputs and outputs of the four steps stay in registers while the numbers of the state pass by.

use num_complex::Complex;
use pulp::{Simd, WithSimd};

use crate::scalar::Field;

/// Steps that are merged.
pub(crate) const STEPS: usize = 4;
/// Weights of a number of the state: its passage, four of inputs, four of outputs.
pub(crate) const FACTORS: usize = 1 + 2 * STEPS;
/// Columns of a tile: at least one vector, for every type.
pub(crate) const TILE_COLUMNS: usize = 16;

/// Some merged steps on one tile of columns.
#[derive(Debug)]
pub struct Sweep<'a, E> {
    /// Weights, a merged step after another, one row for each number of the state.
    pub factors: &'a [[E; FACTORS]],
    /// How inputs of the four steps weigh into their outputs, one for each merged step.
    pub diagonals: &'a [[[E; STEPS]; STEPS]],
    /// Inputs, four rows for each merged step.
    pub x: &'a [[E; TILE_COLUMNS]],
    /// Outputs, likewise.
    pub y: &'a mut [[E; TILE_COLUMNS]],
    /// The state, one row for each of its numbers.
    pub state: &'a mut [[E; TILE_COLUMNS]],
}

/// Sweeps of a scalar type; sealed, since this module is private.
pub trait Sweeps: Sized {
    /// Takes the steps.
    fn sweep(sweep: Sweep<'_, Self>);
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
                let order = self.state.len();
                for vector in 0..TILE_COLUMNS / S::$lanes {
                    let merged = self.factors.chunks_exact(order).zip(self.diagonals);
                    let rows = self.x.as_chunks::<STEPS>().0.iter().zip(self.y.as_chunks_mut::<STEPS>().0);
                    for ((factors, d), (x, out)) in merged.zip(rows) {
                        let x = x.each_ref().map(
                            #[inline(always)]
                            |x| S::$slices(x).0[vector],
                        );
                        let mut y = x;
                        for i in 0..STEPS {
                            y[i] = simd.$product(simd.$splat(d[i][0]), x[0]);
                            for j in 1..=i {
                                y[i] = simd.$fused(simd.$splat(d[i][j]), x[j], y[i]);
                            }
                        }
                        for (weights, state) in factors.iter().zip(self.state.iter_mut()) {
                            let h = &mut S::$slices_mut(state).0[vector];
                            let (now, mut next) = (*h, simd.$product(simd.$splat(weights[0]), *h));
                            for i in 0..STEPS {
                                y[i] = simd.$fused(simd.$splat(weights[1 + STEPS + i]), now, y[i]);
                                next = simd.$fused(simd.$splat(weights[1 + i]), x[i], next);
                            }
                            *h = next;
                        }
                        for i in 0..STEPS {
                            S::$slices_mut(&mut out[i]).0[vector] = y[i];
                        }
                    }
                }
            }
        }
    };
}
impl_sweeps!(f64, F64_LANES, splat_f64s, mul_add_e_f64s, mul_f64s, as_simd_f64s, as_mut_simd_f64s);
impl_sweeps!(f32, F32_LANES, splat_f32s, mul_add_e_f32s, mul_f32s, as_simd_f32s, as_mut_simd_f32s);

impl Sweeps for Complex<f64> {
    fn sweep(sweep: Sweep<'_, Self>) {
        super::vectorize(
            #[inline(always)]
            || loops(sweep),
        );
    }
}

impl Sweeps for Complex<f32> {
    fn sweep(sweep: Sweep<'_, Self>) {
        super::vectorize(
            #[inline(always)]
            || loops(sweep),
        );
    }
}

/// The same by loops over the columns of the tile, for numbers that are no lanes of a vector.
#[inline(always)]
fn loops<E: Field>(sweep: Sweep<'_, E>) {
    let merged = sweep.factors.chunks_exact(sweep.state.len()).zip(sweep.diagonals);
    let rows = sweep.x.chunks_exact(STEPS).zip(sweep.y.chunks_exact_mut(STEPS));
    for ((factors, diagonal), (x, y)) in merged.zip(rows) {
        for (y, d) in y.iter_mut().zip(diagonal) {
            y.fill(E::zero());
            for (d, x) in d.iter().zip(x) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += *d * *x);
            }
        }
        for (weights, state) in factors.iter().zip(sweep.state.iter_mut()) {
            let (inputs, outputs) = weights[1..].split_at(STEPS);
            for (y, c) in y.iter_mut().zip(outputs) {
                y.iter_mut().zip(state.iter()).for_each(|(y, h)| *y += *c * *h);
            }
            state.iter_mut().for_each(|h| *h *= weights[0]);
            for (x, b) in x.iter().zip(inputs) {
                state.iter_mut().zip(x).for_each(|(h, x)| *h += *b * *x);
            }
        }
    }
}
