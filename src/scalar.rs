//! Numbers: how they are stored ([`Scalar`]), what they are computed in ([`Real`]), and the wider
//! class that matrices accept ([`Field`]: real or complex).

use std::fmt::{Debug, Display};
use std::iter::Sum;

use half::{bf16, f16};
use ndarray::{ArrayView, CowArray, Dimension, LinalgScalar, ScalarOperand};
use num_complex::Complex;
use num_traits::{Float, FromPrimitive, NumAssign};

use crate::linalg::{Decompose, Dots, Eights, Fft, Gemm, Lookahead, Recurrence, Sweeps};
use crate::numbers::Native;

/// A number that a structured matrix may hold: `f32`, `f64` and complex of both.
pub trait Field:
    LinalgScalar
    + ScalarOperand
    + NumAssign
    + std::ops::Neg<Output = Self>
    + Sum
    + Debug
    + Display
    + Send
    + Sync
    + Gemm
    + Decompose
    + Sweeps
    + Eights
    + Lookahead
{
    /// The real numbers below this field.
    type Real: Real;
    /// Complex conjugate; the number itself when it is real.
    fn conj(self) -> Self;
    /// Absolute value.
    fn modulus(self) -> Self::Real;
    /// Square of the absolute value, without a root.
    fn squared_modulus(self) -> Self::Real;
    /// The real number `r` as an element of the field.
    fn from_real(r: Self::Real) -> Self;
    /// $`e^x`$.
    fn exponential(self) -> Self;
}

/// A real number to compute with: `f32` or `f64`.
pub trait Real:
    Field<Real = Self> + Scalar<Acc = Self> + Float + FromPrimitive + Fft + Native + Dots + Recurrence
{
    /// A zero with a lifetime, so that an absent tensor can be a broadcast view of it.
    const ZERO: &'static Self;
    /// A one with a lifetime, likewise.
    const ONE: &'static Self;
}

/// How a number is stored, and the precision it is computed in.
///
/// `f32` and `f64` are computed in themselves, `f16` and `bf16` in `f32`.
pub trait Scalar: Copy + Debug + Send + Sync + 'static {
    /// Precision of all arithmetic on numbers stored this way.
    type Acc: Real;
    /// Name of the type, as users write it: `f32`, `bf16`, ...
    const NAME: &'static str;
    /// The same number in the precision of computation; exact.
    fn widen(self) -> Self::Acc;
    /// The nearest number that can be stored.
    fn narrow(acc: Self::Acc) -> Self;
    /// A view in the precision of computation: borrows where it agrees with storage, else converts.
    fn widen_view<D: Dimension>(x: ArrayView<'_, Self, D>) -> CowArray<'_, Self::Acc, D>;
}

macro_rules! impl_real {
    ($($t:ident),*) => {$(
        impl Field for $t {
            type Real = $t;
            #[inline(always)]
            fn conj(self) -> Self { self }
            #[inline(always)]
            fn modulus(self) -> $t { self.abs() }
            fn squared_modulus(self) -> $t { self * self }
            #[inline(always)]
            fn from_real(r: $t) -> Self { r }
            fn exponential(self) -> Self { self.exp() }
        }
        impl Real for $t {
            const ZERO: &'static Self = &0.0;
            const ONE: &'static Self = &1.0;
        }
        impl Scalar for $t {
            type Acc = $t;
            const NAME: &'static str = stringify!($t);
            fn widen(self) -> $t { self }
            fn narrow(acc: $t) -> Self { acc }
            fn widen_view<D: Dimension>(x: ArrayView<'_, Self, D>) -> CowArray<'_, $t, D> { x.into() }
        }
        impl Field for Complex<$t> {
            type Real = $t;
            #[inline(always)]
            fn conj(self) -> Self { Complex::conj(&self) }
            #[inline]
            fn modulus(self) -> $t { self.norm() }
            fn squared_modulus(self) -> $t { self.norm_sqr() }
            #[inline(always)]
            fn from_real(r: $t) -> Self { Complex::new(r, 0.0) }
            fn exponential(self) -> Self { self.exp() }
        }
    )*};
}
impl_real!(f32, f64);

macro_rules! impl_half {
    ($($t:ident),*) => {$(
        impl Scalar for $t {
            type Acc = f32;
            const NAME: &'static str = stringify!($t);
            fn widen(self) -> f32 { self.to_f32() }
            fn narrow(acc: f32) -> Self { $t::from_f32(acc) }
            fn widen_view<D: Dimension>(x: ArrayView<'_, Self, D>) -> CowArray<'_, f32, D> {
                x.mapv($t::to_f32).into()
            }
        }
    )*};
}
impl_half!(f16, bf16);

/// The real number nearest to `v`.
#[inline(always)]
pub(crate) fn real<A: Real>(v: f64) -> A {
    A::from_f64(v).unwrap_or_else(A::nan)
}

/// A real number in f64.
#[inline(always)]
pub(crate) fn double<A: Real>(v: A) -> f64 {
    v.to_f64().unwrap_or(f64::NAN)
}

/// The larger of two numbers; NaN if one of them is.
pub(crate) fn larger<R: Real>(a: R, b: R) -> R {
    if a.is_nan() || a > b { a } else { b }
}
