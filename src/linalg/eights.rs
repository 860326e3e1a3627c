//! Numbers by eights, in vector registers.
//!
//! What a compiler makes of loops over arrays of eight changes with every line around them; these are vectors by their
//! type. Numbers that are no lanes of a vector, and those of which eight are less than one, go by loops.

use num_complex::Complex;
pub(crate) use pulp::{Simd, WithSimd};

use super::Decompose;

/// Eight numbers in memory, where a vector can be loaded from one line of a cache.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Eight<E>(pub [E; 8]);

/// Arithmetic of eight numbers; sealed, since this module is private.
pub trait Eights: Copy {
    /// Eight numbers in registers; only the first vectors that hold eight are used.
    type Vector<S: Simd>: Copy;
    /// What stands in memory.
    fn load<S: Simd>(simd: S, from: &[Self; 8]) -> Self::Vector<S>;
    /// Writes to memory.
    fn store<S: Simd>(simd: S, v: Self::Vector<S>, to: &mut [Self; 8]);
    /// One number eight times.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    /// `a + b`
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a ∘ b`
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a ∘ b + c`
    fn add_times<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `c - a ∘ b`
    fn less_times<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// Complex conjugates.
    fn conjugate<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S>;
    /// The sum of the eight.
    fn total<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;
}

/// Runs with the widest vectors that this machine has.
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// `f` of the vectors at every place that holds some of eight numbers.
#[inline(always)]
fn each<S: Simd>(mut vector: [S::f64s; 8], mut f: impl FnMut(usize) -> S::f64s) -> [S::f64s; 8] {
    for (i, vector) in vector.iter_mut().enumerate().take(8 / S::F64_LANES) {
        *vector = f(i);
    }
    vector
}

impl Eights for f64 {
    type Vector<S: Simd> = [S::f64s; 8];

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f64; 8]) -> [S::f64s; 8] {
        let from = S::as_simd_f64s(from).0;
        each::<S>([simd.splat_f64s(0.0); 8], |i| from[i])
    }
    #[inline(always)]
    fn store<S: Simd>(_: S, v: [S::f64s; 8], to: &mut [f64; 8]) {
        S::as_mut_simd_f64s(to).0.iter_mut().zip(v).for_each(|(to, v)| *to = v);
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: f64) -> [S::f64s; 8] {
        [simd.splat_f64s(value); 8]
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: [S::f64s; 8], b: [S::f64s; 8]) -> [S::f64s; 8] {
        each::<S>(a, |i| simd.add_f64s(a[i], b[i]))
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: [S::f64s; 8], b: [S::f64s; 8]) -> [S::f64s; 8] {
        each::<S>(a, |i| simd.mul_f64s(a[i], b[i]))
    }
    #[inline(always)]
    fn add_times<S: Simd>(simd: S, a: [S::f64s; 8], b: [S::f64s; 8], c: [S::f64s; 8]) -> [S::f64s; 8] {
        each::<S>(a, |i| simd.mul_add_e_f64s(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn less_times<S: Simd>(simd: S, a: [S::f64s; 8], b: [S::f64s; 8], c: [S::f64s; 8]) -> [S::f64s; 8] {
        each::<S>(a, |i| simd.negate_mul_add_e_f64s(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn conjugate<S: Simd>(_: S, a: [S::f64s; 8]) -> [S::f64s; 8] {
        a
    }
    #[inline(always)]
    fn total<S: Simd>(simd: S, a: [S::f64s; 8]) -> f64 {
        let mut sum = a[0];
        for a in &a[1..8 / S::F64_LANES] {
            sum = simd.add_f64s(sum, *a);
        }
        simd.reduce_sum_f64s(sum)
    }
}

macro_rules! impl_by_loops {
    ($($t:ty),*) => {$(
        impl Eights for $t {
            type Vector<S: Simd> = [$t; 8];

            #[inline(always)]
            fn load<S: Simd>(_: S, from: &[$t; 8]) -> [$t; 8] {
                *from
            }
            #[inline(always)]
            fn store<S: Simd>(_: S, v: [$t; 8], to: &mut [$t; 8]) {
                *to = v;
            }
            #[inline(always)]
            fn splat<S: Simd>(_: S, value: $t) -> [$t; 8] {
                [value; 8]
            }
            #[inline(always)]
            fn plus<S: Simd>(_: S, mut a: [$t; 8], b: [$t; 8]) -> [$t; 8] {
                for l in 0..8 {
                    a[l] += b[l];
                }
                a
            }
            #[inline(always)]
            fn times<S: Simd>(_: S, mut a: [$t; 8], b: [$t; 8]) -> [$t; 8] {
                for l in 0..8 {
                    a[l] *= b[l];
                }
                a
            }
            #[inline(always)]
            fn add_times<S: Simd>(_: S, a: [$t; 8], b: [$t; 8], mut c: [$t; 8]) -> [$t; 8] {
                for l in 0..8 {
                    c[l] = Decompose::fused(a[l], b[l], c[l]);
                }
                c
            }
            #[inline(always)]
            fn less_times<S: Simd>(_: S, a: [$t; 8], b: [$t; 8], mut c: [$t; 8]) -> [$t; 8] {
                for l in 0..8 {
                    c[l] = Decompose::fused(-a[l], b[l], c[l]);
                }
                c
            }
            #[inline(always)]
            fn conjugate<S: Simd>(_: S, mut a: [$t; 8]) -> [$t; 8] {
                a.iter_mut().for_each(|a| *a = crate::scalar::Field::conj(*a));
                a
            }
            #[inline(always)]
            fn total<S: Simd>(_: S, a: [$t; 8]) -> $t {
                ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
            }
        }
    )*};
}
impl_by_loops!(f32, Complex<f32>, Complex<f64>);
