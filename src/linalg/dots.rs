//! Products of the rows of two matrices, each summed up in an order that nothing but its length decides.
//!
//! A product of matrices chooses its blocks, and with them the order of its sums, by all of the sizes. Here every number of the
//! result is `⟨x_t, w_o⟩` added up in the same way whether x has one row or a thousand, so that a sequence gives the same bits
//! wherever it is cut. Rows stand in vectors as they do in memory: nothing is packed, and what is used once is read in order.

use std::array;

use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Arch, Simd, WithSimd};

use super::flat;

/// Numbers of a row that are added up at a time; the sums of the parts are added up in order.
const PART: usize = 768;

/// Rows of x that are worked on with all of w, so that they stay in cache.
const BUNDLE: usize = 64;

/// The product of the rows of a type; sealed, since this module is private.
pub trait Dots: Sized {
    /// `y[t][o] += ⟨x_t, w_o⟩`, the rows of x and w contiguous. x: (len, inputs), w: (outputs, inputs), y: (len, outputs).
    fn add_dots(y: ArrayViewMut2<'_, Self>, x: ArrayView2<'_, Self>, w: ArrayView2<'_, Self>);
}

macro_rules! impl_dots {
    ($($t:ident: $splat:ident $vectors:ident $partial:ident $mul_add:ident $sum:ident),* $(,)?) => {$(
        impl Dots for $t {
            fn add_dots(y: ArrayViewMut2<'_, $t>, x: ArrayView2<'_, $t>, w: ArrayView2<'_, $t>) {
                /// `⟨x_i, w_j⟩` of a few rows, all of one length. Neither M nor N has a say in the order of a sum.
                #[inline(always)]
                fn tile<S: Simd, const M: usize, const N: usize>(
                    simd: S,
                    x: [&[$t]; M],
                    w: [&[$t]; N],
                ) -> [[$t; N]; M] {
                    let mut sums = [[simd.$splat(0.0); N]; M];
                    let (x, w) = (x.map(S::$vectors), w.map(S::$vectors));
                    let whole = x[0].0.len();
                    let (xs, ws) = (x.map(|x| &x.0[..whole]), w.map(|w| &w.0[..whole]));
                    for k in 0..whole {
                        let x = xs.map(|x| x[k]);
                        for j in 0..N {
                            let w = ws[j][k];
                            for i in 0..M {
                                sums[i][j] = simd.$mul_add(x[i], w, sums[i][j]);
                            }
                        }
                    }
                    if !x[0].1.is_empty() {
                        let x = x.map(|x| simd.$partial(x.1));
                        for j in 0..N {
                            let w = simd.$partial(w[j].1);
                            for i in 0..M {
                                sums[i][j] = simd.$mul_add(x[i], w, sums[i][j]);
                            }
                        }
                    }
                    let mut out = [[0.0; N]; M];
                    for i in 0..M {
                        for j in 0..N {
                            out[i][j] = simd.$sum(sums[i][j]);
                        }
                    }
                    out
                }

                struct Work<'a> {
                    y: ArrayViewMut2<'a, $t>,
                    x: ArrayView2<'a, $t>,
                    w: ArrayView2<'a, $t>,
                }

                impl Work<'_> {
                    /// One tile of the result: what the numbers from `first` to `end` of the rows add to it.
                    #[inline(always)]
                    fn tile<S: Simd, const M: usize, const N: usize>(
                        &mut self,
                        simd: S,
                        (t, o): (usize, usize),
                        (first, end): (usize, usize),
                    ) {
                        let x = array::from_fn(|i| &flat(self.x.row(t + i))[first..end]);
                        let w = array::from_fn(|j| &flat(self.w.row(o + j))[first..end]);
                        for (i, sums) in tile::<S, M, N>(simd, x, w).iter().enumerate() {
                            for (j, sum) in sums.iter().enumerate() {
                                self.y[[t + i, o + j]] += sum;
                            }
                        }
                    }

                    /// All tiles, of M rows by N where there are as many.
                    #[inline(always)]
                    fn tiles<S: Simd, const M: usize, const N: usize>(mut self, simd: S) {
                        let ((len, inputs), outputs) = (self.x.dim(), self.w.nrows());
                        let wide = outputs / N * N;
                        for start in (0..len).step_by(BUNDLE) {
                            let end = len.min(start + BUNDLE);
                            let tall = start + (end - start) / M * M;
                            for o in (0..wide).step_by(N) {
                                for first in (0..inputs).step_by(PART) {
                                    let part = (first, inputs.min(first + PART));
                                    for t in (start..tall).step_by(M) {
                                        self.tile::<S, M, N>(simd, (t, o), part);
                                    }
                                    for t in tall..end {
                                        self.tile::<S, 1, N>(simd, (t, o), part);
                                    }
                                }
                            }
                            for o in wide..outputs {
                                for first in (0..inputs).step_by(PART) {
                                    let part = (first, inputs.min(first + PART));
                                    for t in start..end {
                                        self.tile::<S, 1, 1>(simd, (t, o), part);
                                    }
                                }
                            }
                        }
                    }
                }

                impl WithSimd for Work<'_> {
                    type Output = ();
                    #[inline(always)]
                    fn with_simd<S: Simd>(self, simd: S) {
                        if S::REGISTER_COUNT >= 32 {
                            self.tiles::<S, 4, 6>(simd);
                        } else {
                            self.tiles::<S, 2, 4>(simd);
                        }
                    }
                }

                debug_assert!(x.ncols() == w.ncols() && y.dim() == (x.nrows(), w.nrows()));
                Arch::new().dispatch(Work { y, x, w });
            }
        }
    )*};
}
impl_dots! {
    f32: splat_f32s as_simd_f32s partial_load_f32s mul_add_f32s reduce_sum_f32s,
    f64: splat_f64s as_simd_f64s partial_load_f64s mul_add_f64s reduce_sum_f64s,
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn products_of_rows_are_those_of_loops_and_no_row_knows_of_another() {
        for (len, inputs, outputs) in [(1, 1, 1), (5, 7, 13), (70, 33, 6), (3, 2 * PART + 5, 8), (2, 0, 3)] {
            let x =
                Array2::from_shape_fn((len, inputs), |(t, k)| ((t * 31 + k * 17) % 23) as f32 / 7.0 - 1.5);
            let w =
                Array2::from_shape_fn((outputs, inputs), |(o, k)| ((o * 13 + k * 5) % 19) as f32 / 9.0 - 1.0);
            let mut y = Array2::ones((len, outputs));
            f32::add_dots(y.view_mut(), x.view(), w.view());
            for ((t, o), &y) in y.indexed_iter() {
                let exact: f64 = (0..inputs).map(|k| f64::from(x[[t, k]]) * f64::from(w[[o, k]])).sum();
                assert!((f64::from(y) - 1.0 - exact).abs() < 1e-6 * (1.0 + inputs as f64), "{t} {o}");
                let mut alone = Array2::ones((1, 1));
                f32::add_dots(alone.view_mut(), x.slice(s![t..t + 1, ..]), w.slice(s![o..o + 1, ..]));
                assert_eq!(alone[[0, 0]].to_bits(), y.to_bits(), "{t} {o}");
            }
        }
    }
}
