//! The recurrence of a state that is read at every step, its numbers in registers for several steps at a time.

use std::array;

use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Arch, Simd, WithSimd};

use super::{LINE, flat, flat_mut, prefetch_behind};

/// Rows of the state between the one that takes a step and the one that is fetched meanwhile.
const AHEAD: usize = 4;

/// What a step reads of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The state behind the step.
    After,
    /// The state before the step, decayed.
    Before,
}

/// Steps that a state takes.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, A> {
    /// (len)
    pub a: &'a [A],
    /// (len, head_dim)
    pub u: ArrayView2<'a, A>,
    /// (len, state_dim), rows contiguous
    pub b: ArrayView2<'a, A>,
    /// (len, state_dim), rows contiguous
    pub c: ArrayView2<'a, A>,
}

/// The recurrence of a type; sealed, since this module is private.
pub trait Recurrence: Sized {
    /// `h_t = a_t h_{t-1} + u_t b_tᵀ` and `y_t += h_t c_t`, or `y_t += a_t h_{t-1} c_t`. The order of every sum depends on
    /// state_dim alone. h: (head_dim, state_dim), in and out, rows contiguous; y: (len, head_dim).
    fn recur(h: ArrayViewMut2<'_, Self>, inputs: Inputs<'_, Self>, reads: Reads, y: ArrayViewMut2<'_, Self>);
}

macro_rules! impl_recurrence {
    ($($t:ident: $of:ident $splat:ident $vectors:ident $vectors_mut:ident $load:ident $store:ident
        $mul:ident $mul_add:ident $add:ident $sum:ident),* $(,)?) => {$(
        impl Recurrence for $t {
            fn recur(h: ArrayViewMut2<'_, $t>, inputs: Inputs<'_, $t>, reads: Reads, y: ArrayViewMut2<'_, $t>) {
                struct Work<'h, 'i, 'y, const AFTER: bool> {
                    h: ArrayViewMut2<'h, $t>,
                    inputs: Inputs<'i, $t>,
                    y: ArrayViewMut2<'y, $t>,
                }

                impl<const AFTER: bool> Work<'_, '_, '_, AFTER> {
                    /// All steps of the vectors `at` to `at + V` of channel `p`, whose state is `h`.
                    #[inline(always)]
                    fn vectors<S: Simd, const V: usize>(
                        inputs: Inputs<'_, $t>,
                        y: &mut ArrayViewMut2<'_, $t>,
                        simd: S,
                        (p, at): (usize, usize),
                        h: &mut [S::$of],
                    ) {
                        let mut state: [S::$of; V] = array::from_fn(|k| h[k]);
                        for (t, &a) in inputs.a.iter().enumerate() {
                            let b = &S::$vectors(flat(inputs.b.row(t))).0[at..at + V];
                            let c = &S::$vectors(flat(inputs.c.row(t))).0[at..at + V];
                            let (a, u) = (simd.$splat(a), simd.$splat(inputs.u[[t, p]]));
                            let mut sums = [simd.$splat(0.0); 2];
                            for k in 0..V {
                                let kept = simd.$mul(a, state[k]);
                                state[k] = simd.$mul_add(u, b[k], kept);
                                let read = if AFTER { state[k] } else { kept };
                                sums[k % 2] = simd.$mul_add(read, c[k], sums[k % 2]);
                            }
                            y[[t, p]] += simd.$sum(simd.$add(sums[0], sums[1]));
                        }
                        h.copy_from_slice(&state);
                    }

                    /// All steps of what is left of channel `p` behind whole vectors.
                    #[inline(always)]
                    fn rest<S: Simd>(
                        inputs: Inputs<'_, $t>,
                        y: &mut ArrayViewMut2<'_, $t>,
                        simd: S,
                        p: usize,
                        h: &mut [$t],
                    ) {
                        let mut state = simd.$load(h);
                        for (t, &a) in inputs.a.iter().enumerate() {
                            let b = simd.$load(S::$vectors(flat(inputs.b.row(t))).1);
                            let c = simd.$load(S::$vectors(flat(inputs.c.row(t))).1);
                            let kept = simd.$mul(simd.$splat(a), state);
                            state = simd.$mul_add(simd.$splat(inputs.u[[t, p]]), b, kept);
                            y[[t, p]] += simd.$sum(simd.$mul(if AFTER { state } else { kept }, c));
                        }
                        simd.$store(h, state);
                    }
                }

                impl<const AFTER: bool> WithSimd for Work<'_, '_, '_, AFTER> {
                    type Output = ();
                    #[inline(always)]
                    fn with_simd<S: Simd>(mut self, simd: S) {
                        let (inputs, y) = (self.inputs, &mut self.y);
                        let once = inputs.a.len() == 1; // the state comes from memory; more steps come back to it in cache
                        for (p, h) in self.h.outer_iter_mut().enumerate() {
                            let h = flat_mut(h);
                            if once {
                                let bytes = size_of_val(h);
                                for line in (0..bytes).step_by(LINE) {
                                    prefetch_behind(h.as_ptr(), AHEAD * bytes + line);
                                }
                            }
                            let (h, rest) = S::$vectors_mut(h);
                            let mut at = 0;
                            while at + 8 <= h.len() {
                                Self::vectors::<S, 8>(inputs, y, simd, (p, at), &mut h[at..at + 8]);
                                at += 8;
                            }
                            if at + 4 <= h.len() {
                                Self::vectors::<S, 4>(inputs, y, simd, (p, at), &mut h[at..at + 4]);
                                at += 4;
                            }
                            for at in at..h.len() {
                                Self::vectors::<S, 1>(inputs, y, simd, (p, at), &mut h[at..=at]);
                            }
                            if !rest.is_empty() {
                                Self::rest(inputs, y, simd, p, rest);
                            }
                        }
                    }
                }

                match reads {
                    Reads::After => Arch::new().dispatch(Work::<true> { h, inputs, y }),
                    Reads::Before => Arch::new().dispatch(Work::<false> { h, inputs, y }),
                }
            }
        }
    )*};
}
impl_recurrence! {
    f32: f32s splat_f32s as_simd_f32s as_mut_simd_f32s partial_load_f32s partial_store_f32s
        mul_f32s mul_add_f32s add_f32s reduce_sum_f32s,
    f64: f64s splat_f64s as_simd_f64s as_mut_simd_f64s partial_load_f64s partial_store_f64s
        mul_f64s mul_add_f64s add_f64s reduce_sum_f64s,
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::scalar::{Real, real};

    /// Numbers without a pattern, between -1 and 1.
    fn noise<A: Real>(rows: usize, columns: usize, seed: usize) -> Array2<A> {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            real(((i * 71 + j * 13 + seed * 29) as f64 * 1.7).sin())
        })
    }

    /// The recurrence number by number, in f64: the state behind the last step and the outputs.
    fn plain<A: Real>(h: &Array2<A>, inputs: Inputs<'_, A>, reads: Reads) -> (Array2<f64>, Array2<f64>) {
        let wide = |v: A| v.to_f64().expect("a number");
        let mut h = h.mapv(wide);
        let mut y = Array2::zeros((inputs.a.len(), h.nrows()));
        for ((t, p), y) in y.indexed_iter_mut() {
            for n in 0..h.ncols() {
                let kept = wide(inputs.a[t]) * h[[p, n]];
                h[[p, n]] = kept + wide(inputs.u[[t, p]]) * wide(inputs.b[[t, n]]);
                *y += wide(inputs.c[[t, n]]) * if reads == Reads::After { h[[p, n]] } else { kept };
            }
        }
        (h, y)
    }

    fn check<A: Real>(tolerance: f64) {
        // Widths of no, one and more vectors of 2 to 16 numbers, with and without a rest.
        for width in [1, 3, 4, 7, 16, 17, 31, 64, 67, 128, 150, 200] {
            for (len, channels) in [(0, 3), (1, 1), (5, 3), (33, 2)] {
                let a: Vec<A> = (0..len).map(|t| real(0.5 + 0.4 * (t as f64).cos())).collect();
                let (u, b, c) =
                    (noise(len, channels, 1), noise::<A>(len, width, 2), noise::<A>(len, width, 3));
                let inputs = Inputs { a: &a, u: u.view(), b: b.view(), c: c.view() };
                for reads in [Reads::After, Reads::Before] {
                    let start = noise::<A>(channels, width, 4);
                    let (expected_h, expected_y) = plain(&start, inputs, reads);
                    let (mut h, mut y) = (start, Array2::from_elem((len, channels), A::one()));
                    A::recur(h.view_mut(), inputs, reads, y.view_mut());
                    let worst = |found: &Array2<A>, expected: Array2<f64>| {
                        let off = found
                            .iter()
                            .zip(&expected)
                            .map(|(f, e)| (f.to_f64().expect("a number") - e).abs());
                        off.fold(0.0, f64::max)
                    };
                    let case = (width, len, channels, reads);
                    assert!(worst(&h, expected_h) < tolerance, "state, {case:?}");
                    assert!(worst(&y, expected_y + 1.0) < tolerance * width as f64, "outputs, {case:?}");
                }
            }
        }
    }

    #[test]
    fn it_is_the_plain_recurrence_for_every_width() {
        check::<f64>(1e-14);
        check::<f32>(3e-6);
    }
}
