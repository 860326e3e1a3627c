//! Numbers as a file holds them: shared, of any stored type, owned or mapped into memory.

use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};

use crate::linalg::{Widening, vectorize};
use crate::scalar::{Real, Scalar, real};

/// A run of numbers behind a counted reference: a `Vec`, or whatever else keeps them in memory, such as a mapped file.
///
/// # Examples
/// ```
/// use semisep::nn::Shared;
/// let numbers = Shared::new(vec![1.0, 2.0]);
/// assert_eq!(numbers.clone().as_slice(), [1.0, 2.0]);
/// ```
pub struct Shared<T>(Arc<dyn AsRef<[T]> + Send + Sync>);

impl<T> Shared<T> {
    /// Shares what `owner` holds. Its slice must be the same whenever it is asked for.
    pub fn new(owner: impl AsRef<[T]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(owner))
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[T] {
        (*self.0).as_ref()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} numbers)", self.as_slice().len())
    }
}

/// A type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 64 bits.
    F64,
    /// 32 bits.
    F32,
    /// 16 bits, 8 of them the exponent.
    Bf16,
    /// 16 bits, 5 of them the exponent.
    F16,
}

impl Storage {
    /// As users write it: `f32`, `bf16`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => f64::NAME,
            Self::F32 => f32::NAME,
            Self::Bf16 => bf16::NAME,
            Self::F16 => f16::NAME,
        }
    }

    /// Bytes that a number takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// Numbers of one of the types in which weights are stored.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// 64 bits.
    F64(Shared<f64>),
    /// 32 bits.
    F32(Shared<f32>),
    /// 16 bits, 8 of them the exponent.
    Bf16(Shared<bf16>),
    /// 16 bits, 5 of them the exponent.
    F16(Shared<f16>),
}

/// `$body` with `$slice` bound to the numbers, whatever their type.
macro_rules! with_slice {
    ($numbers:expr, $slice:ident => $body:expr) => {
        match $numbers {
            $crate::numbers::Numbers::F64(numbers) => {
                let $slice = numbers.as_slice();
                $body
            }
            $crate::numbers::Numbers::F32(numbers) => {
                let $slice = numbers.as_slice();
                $body
            }
            $crate::numbers::Numbers::Bf16(numbers) => {
                let $slice = numbers.as_slice();
                $body
            }
            $crate::numbers::Numbers::F16(numbers) => {
                let $slice = numbers.as_slice();
                $body
            }
        }
    };
}
pub(crate) use with_slice;

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        with_slice!(self, slice => slice.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type they are stored in.
    pub fn storage(&self) -> Storage {
        match self {
            Self::F64(_) => Storage::F64,
            Self::F32(_) => Storage::F32,
            Self::Bf16(_) => Storage::Bf16,
            Self::F16(_) => Storage::F16,
        }
    }

    /// The nearest numbers that can be stored as `how`; the same ones, shared, if they are stored so.
    pub fn stored_as(&self, how: Storage) -> Self {
        if self.storage() == how {
            return self.clone();
        }
        match how {
            Storage::F64 => Self::F64(self.narrowed(|v| v)),
            Storage::F32 => Self::F32(self.narrowed(|v| v as f32)),
            Storage::Bf16 => Self::Bf16(self.narrowed(nearest_bf16)),
            Storage::F16 => Self::F16(self.narrowed(nearest_f16)),
        }
    }

    fn narrowed<T: Send + Sync + 'static>(&self, narrow: impl Fn(f64) -> T) -> Shared<T> {
        with_slice!(self, slice => Shared::new(slice.iter().map(|&v| narrow(v.read())).collect::<Vec<T>>()))
    }

    /// The same numbers to compute with, in memory of their own.
    pub fn widened<A: Real>(&self) -> Vec<A> {
        with_slice!(self, slice => slice.iter().map(|&v| v.read()).collect())
    }
}

/// The nearest number of that type, the even one of two.
pub(crate) fn nearest_bf16(v: f64) -> bf16 {
    bf16::from_f32(rounded_to_odd(v))
}

/// The nearest number of that type, the even one of two.
pub(crate) fn nearest_f16(v: f64) -> f16 {
    f16::from_f32(rounded_to_odd(v))
}

/// `v` cut to the bits of an `f32`, the last of which is 1 if any was lost: rounded once more, to fewer bits, it yields what `v`
/// itself would. (The conversions from `f64` in `half` round twice, or look at the upper half of the bits only.)
fn rounded_to_odd(v: f64) -> f32 {
    let near = v as f32;
    if f64::from(near) == v || !near.is_finite() {
        return near;
    }
    let beyond = f64::from(near).abs() > v.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

/// A stored number that can be read to compute with; inlined into loops.
pub trait Stored: Scalar {
    /// The number in the precision of computation; rounded only from `f64` to `f32`.
    fn read<A: Real>(self) -> A;

    /// Sixteen numbers at once; inlined into loops as well.
    #[inline(always)]
    fn read_sixteen<A: Real>(from: &[Self; 16], _: Widening) -> [A; 16] {
        from.map(Self::read)
    }
}

/// `to` = the numbers of `from`, which has as many.
pub(crate) fn read_all<S: Stored, A: Real>(from: &[S], to: &mut [A]) {
    let by = Widening::of_this_machine();
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks(), to.as_chunks_mut());
    vectorize(
        #[inline(always)]
        || to.iter_mut().zip(from).for_each(|(to, from)| *to = S::read_sixteen(from, by)),
    );
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = from.read());
}

impl Stored for f64 {
    #[inline(always)]
    fn read<A: Real>(self) -> A {
        real(self)
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn read<A: Real>(self) -> A {
        A::of_f32(self)
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn read<A: Real>(self) -> A {
        A::of_f32(f32::from_bits(u32::from(self.to_bits()) << 16))
    }
}

impl Stored for f16 {
    /// The bits moved to their places in an `f32`, whose exponent is then put right by a product; infinities and NaN, of
    /// the largest exponent, get the largest one.
    #[inline(always)]
    fn read<A: Real>(self) -> A {
        let bits = u32::from(self.to_bits());
        let moved = (bits & 0x7fff) << 13;
        let scaled = f32::from_bits(moved) * f32::from_bits((254 - 15) << 23);
        let finite = scaled.to_bits();
        let magnitude = if moved >= 0x0f80_0000 { finite | 0x7f80_0000 } else { finite };
        A::of_f32(f32::from_bits(magnitude | (bits & 0x8000) << 16))
    }

    #[inline(always)]
    fn read_sixteen<A: Real>(from: &[Self; 16], by: Widening) -> [A; 16] {
        A::read_halves(from, by)
    }
}

/// What a number to compute with has in common with stored ones; sealed, since this module is private.
pub trait Native: Sized {
    /// The same number.
    fn of_f32(v: f32) -> Self;
    /// Sixteen numbers that are stored short.
    fn read_halves(from: &[f16; 16], by: Widening) -> [Self; 16];
    /// The numbers themselves, if they are stored in the type that computes.
    fn slice(numbers: &Numbers) -> Option<&[Self]>;
    /// Numbers stored in the type that computes.
    fn numbers(shared: Shared<Self>) -> Numbers;
    /// `exp`, to a few units in the last place, in a form that loops over slices can be vectorised with.
    fn quick_exp(self) -> Self;
}

impl Native for f64 {
    #[inline(always)]
    fn of_f32(v: f32) -> Self {
        f64::from(v)
    }
    #[inline(always)]
    fn read_halves(from: &[f16; 16], _: Widening) -> [Self; 16] {
        from.map(Stored::read)
    }
    fn slice(numbers: &Numbers) -> Option<&[Self]> {
        match numbers {
            Numbers::F64(numbers) => Some(numbers.as_slice()),
            _ => None,
        }
    }
    fn numbers(shared: Shared<Self>) -> Numbers {
        Numbers::F64(shared)
    }
    #[inline(always)]
    fn quick_exp(self) -> Self {
        self.exp()
    }
}

impl Native for f32 {
    #[inline(always)]
    fn of_f32(v: f32) -> Self {
        v
    }
    #[inline(always)]
    fn read_halves(from: &[f16; 16], by: Widening) -> [Self; 16] {
        by.widened(from).unwrap_or_else(
            #[inline(always)]
            || from.map(Stored::read),
        )
    }
    fn slice(numbers: &Numbers) -> Option<&[Self]> {
        match numbers {
            Numbers::F32(numbers) => Some(numbers.as_slice()),
            _ => None,
        }
    }
    fn numbers(shared: Shared<Self>) -> Numbers {
        Numbers::F32(shared)
    }
    /// exp(v) = 2ᵏ exp(r) with |r| ≤ ln 2 / 2, and exp(r) by its Taylor polynomial, whose seventh term is below 2⁻²³.
    /// Arguments beyond ±87 are taken as that: the results there are finite, and 0 or ∞ to whoever adds 1 to them.
    #[inline(always)]
    fn quick_exp(self) -> Self {
        const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number, which then stands in the low bits
        const HIGH: f32 = 0.693_359_4; // ln 2 in two parts; products of the first with small whole numbers are exact
        const LOW: f32 = -2.121_944_4e-4;
        let v = if self.is_nan() { self } else { self.clamp(-87.0, 87.0) };
        let shifted = v * std::f32::consts::LOG2_E + MAGIC;
        let k = shifted - MAGIC;
        let r = (v - k * HIGH) - k * LOW;
        let mut p = 1.0 / 5040.0;
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p * r + c;
        }
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        p * power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sixteen_bit_number_is_read_as_it_is() {
        for bits in 0..=u16::MAX {
            let (short, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
            assert!(same(short.read::<f32>(), short.to_f32()), "f16 {bits:#06x}");
            assert!(same(brain.read::<f32>(), brain.to_f32()), "bf16 {bits:#06x}");
            assert!(same(short.read::<f64>() as f32, short.to_f32()), "f16 {bits:#06x}");
        }
    }

    #[test]
    fn numbers_are_read_together_as_they_are_read_alone() {
        fn check<S: Stored, A: Real>(from: &[S]) {
            let mut to = vec![A::one(); from.len()];
            read_all(from, &mut to);
            let alone = from.iter().map(|v| v.read::<A>());
            assert!(to.iter().zip(alone).all(|(&to, v)| to == v || (to.is_nan() && v.is_nan())));
        }
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for len in [0, 1, 15, 16, 17, 40, 65535, 65536] {
            check::<_, f32>(&all[..len]);
            check::<_, f64>(&all[..len]);
            check::<_, f32>(&all[..len].iter().map(|v| bf16::from_bits(v.to_bits())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_number_becomes_the_nearest_one_of_sixteen_bits() {
        let one = |bits: i32| 2_f64.powi(-bits);
        // Just above the middle of two neighbours, in the middle, and just below.
        for sign in [1.0, -1.0] {
            for little in [one(23), one(30), one(52)] {
                let near =
                    |v: f64| (sign * nearest_bf16(sign * v).to_f64(), sign * nearest_f16(sign * v).to_f64());
                assert_eq!(near(1.0 + one(8) + little).0, 1.0 + one(7));
                assert_eq!(near(1.0 + one(8)).0, 1.0);
                assert_eq!(near(1.0 + one(7) + one(8)).0, 1.0 + one(6));
                assert_eq!(near(1.0 + one(7) + one(8) - little).0, 1.0 + one(7));
                assert_eq!(near(1.0 + one(11) + little).1, 1.0 + one(10));
                assert_eq!(near(1.0 + one(11)).1, 1.0);
                assert_eq!(near(1.0 + one(10) + one(11) - little).1, 1.0 + one(10));
            }
            assert_eq!(nearest_bf16(sign * 1e300).to_f64(), sign * f64::INFINITY);
            assert_eq!(nearest_f16(sign * 65520.0).to_f64(), sign * f64::INFINITY);
            assert_eq!(nearest_f16(sign * (65520.0 - one(30))).to_f64(), sign * 65504.0);
            assert_eq!(nearest_f16(sign * one(25)).to_f64(), 0.0);
            assert_eq!(nearest_f16(sign * (one(25) + one(75))).to_f64(), sign * one(24));
            assert_eq!(nearest_bf16(sign * 1e-320).to_f64(), 0.0);
        }
        assert!(nearest_bf16(f64::NAN).is_nan() && nearest_f16(f64::NAN).is_nan());
        for bits in 0..=u16::MAX {
            let (short, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(short.is_nan() || nearest_f16(short.to_f64()) == short);
            assert!(brain.is_nan() || nearest_bf16(brain.to_f64()) == brain);
        }
    }

    #[test]
    fn the_quick_exponential_is_within_two_units() {
        for step in -870_000..=870_000 {
            let v = step as f32 * 1e-4;
            let (quick, exact) = (f64::from(v.quick_exp()), f64::from(v).exp());
            assert!((quick / exact - 1.0).abs() < 2.5e-7, "exp({v}): {quick} instead of {exact}");
        }
        assert!(f32::NAN.quick_exp().is_nan());
        assert!(f32::NEG_INFINITY.quick_exp() < 1e-37);
        assert!(f32::INFINITY.quick_exp() > 1e37);
    }
}
