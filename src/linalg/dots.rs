//! Products of the rows of two matrices, each summed up in an order that nothing but its length decides.
//!
//! A product of matrices chooses its blocks, and with them the order of its sums, by all of the sizes. Here every number of the
//! result is `⟨x_t, w_o⟩` added up in the same way whether x has one row or a thousand, so that a sequence gives the same bits
//! wherever it is cut. Rows stand in vectors as they do in memory: nothing is packed, and what is used once is read in order.

use std::array;

use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Arch, Simd, WithSimd};

use super::{Widening, flat, prefetch_behind};
use crate::numbers::Stored;

/// Numbers of a row that are added up at a time; the sums of the parts are added up in order.
const PART: usize = 768;

/// Bytes of a row of stored numbers that are on their way while those before them are added up. Machines fetch ahead by
/// themselves, but not as far as numbers of 16 bits need: two threads then read 24 GB/s instead of 30.
const AHEAD: usize = 1024;

/// Rows of x that are worked on with all of w, so that they stay in cache.
const BUNDLE: usize = 64;

/// The product of the rows of a type; sealed, since this module is private.
pub trait Dots: Sized {
    /// `y[t][o] += ⟨x_t, w_o⟩`, the rows of x and w contiguous. x: (len, inputs), w: (outputs, inputs), y: (len, outputs).
    fn add_dots(y: ArrayViewMut2<'_, Self>, x: ArrayView2<'_, Self>, w: ArrayView2<'_, Self>);

    /// The same for one row and stored numbers, each widened as it is read: half of the bytes take half of the time.
    /// x: (inputs), w: (outputs, inputs), y: (outputs).
    fn add_row_dots<W: Stored>(y: &mut [Self], x: &[Self], w: &[W]);
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

            fn add_row_dots<W: Stored>(y: &mut [$t], x: &[$t], w: &[W]) {
                /// `⟨x, w_j⟩` of a few rows, in the order of the tiles above.
                #[inline(always)]
                fn sums<S: Simd, W: Stored, const N: usize>(
                    simd: S,
                    by: Widening,
                    x: &[$t],
                    w: [&[W]; N],
                ) -> [$t; N] {
                    let mut sums = [simd.$splat(0.0); N];
                    let (x, x_rest) = x.as_chunks::<16>();
                    let w: [_; N] = array::from_fn(|j| w[j].as_chunks::<16>());
                    for (k, x) in x.iter().enumerate() {
                        let x = S::$vectors(x).0;
                        for j in 0..N {
                            let w = &w[j].0[k];
                            prefetch_behind(w.as_ptr(), AHEAD);
                            let w = W::read_sixteen::<$t>(w, by);
                            for (&x, &w) in x.iter().zip(S::$vectors(&w).0) {
                                sums[j] = simd.$mul_add(x, w, sums[j]);
                            }
                        }
                    }
                    let (x, last) = S::$vectors(x_rest);
                    for j in 0..N {
                        let mut w_rest = [0.0; 16];
                        w_rest.iter_mut().zip(w[j].1).for_each(|(to, w)| *to = w.read());
                        let (w, w_last) = S::$vectors(&w_rest[..x_rest.len()]);
                        for (&x, &w) in x.iter().zip(w) {
                            sums[j] = simd.$mul_add(x, w, sums[j]);
                        }
                        if !last.is_empty() {
                            sums[j] = simd.$mul_add(simd.$partial(last), simd.$partial(w_last), sums[j]);
                        }
                    }
                    let mut out = [0.0; N]; // (a closure would be compiled for any machine, and its sums with it)
                    for j in 0..N {
                        out[j] = simd.$sum(sums[j]);
                    }
                    out
                }

                struct Work<'a, W> {
                    y: &'a mut [$t],
                    x: &'a [$t],
                    w: &'a [W],
                }

                impl<W: Stored> Work<'_, W> {
                    /// N numbers of the result, those at `o`, `o + apart` and so on.
                    #[inline(always)]
                    fn add<S: Simd, const N: usize>(&mut self, simd: S, by: Widening, o: usize, apart: usize) {
                        let inputs = self.x.len();
                        for first in (0..inputs).step_by(PART) {
                            let end = inputs.min(first + PART);
                            let w = array::from_fn(|j| &self.w[(o + j * apart) * inputs..][first..end]);
                            let sums = sums::<S, W, N>(simd, by, &self.x[first..end], w);
                            for (j, sum) in sums.iter().enumerate() {
                                self.y[o + j * apart] += sum;
                            }
                        }
                    }
                }

                impl<W: Stored> WithSimd for Work<'_, W> {
                    type Output = ();
                    /// Rows are read side by side, so that no sum waits for another, and far apart: each is then read on and on
                    /// in order, which is what machines fetch ahead of time. (Neighbours would share a page out of order.)
                    #[inline(always)]
                    fn with_simd<S: Simd>(mut self, simd: S) {
                        const ROWS: usize = 6;
                        let (by, outputs) = (Widening::of_this_machine(), self.y.len());
                        let apart = outputs / ROWS;
                        for o in 0..apart {
                            self.add::<S, ROWS>(simd, by, o, apart);
                        }
                        for o in ROWS * apart..outputs {
                            self.add::<S, 1>(simd, by, o, 0);
                        }
                    }
                }

                debug_assert!(y.len() * x.len() == w.len());
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
    use half::{bf16, f16};
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

    #[test]
    fn stored_numbers_give_the_bits_of_wide_ones() {
        fn check<W: Stored>(narrow: impl Fn(f32) -> W) {
            for (inputs, outputs) in
                [(1, 1), (7, 13), (16, 6), (33, 12), (2 * PART + 5, 8), (1536, 7), (0, 3)]
            {
                let w: Vec<W> =
                    (0..inputs * outputs).map(|k| narrow(((k * 13) % 1019) as f32 / 509.0 - 1.0)).collect();
                let x = Array2::from_shape_fn((1, inputs), |(_, k)| ((k * 17) % 23) as f32 / 7.0 - 1.5);
                let wide: Vec<f32> = w.iter().map(|w| w.read()).collect();
                let wide = Array2::from_shape_vec((outputs, inputs), wide).expect("as many");
                let (mut y, mut expected) = (vec![1.0; outputs], Array2::ones((1, outputs)));
                f32::add_row_dots(&mut y, flat(x.row(0)), &w);
                f32::add_dots(expected.view_mut(), x.view(), wide.view());
                assert_eq!(y, expected.row(0).to_vec(), "({outputs}, {inputs}) of {}", W::NAME);
                let (mut y, mut expected) = (vec![1.0; outputs], Array2::ones((1, outputs)));
                let (x, wide) = (x.mapv(f64::from), wide.mapv(f64::from));
                f64::add_row_dots(&mut y, flat(x.row(0)), &w);
                f64::add_dots(expected.view_mut(), x.view(), wide.view());
                assert_eq!(y, expected.row(0).to_vec(), "({outputs}, {inputs}) of {}, f64", W::NAME);
            }
        }
        check(bf16::from_f32);
        check(f16::from_f32);
        check(|v| v);
    }
}
