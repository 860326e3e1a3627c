//! The road to the FFT: numbers as complex ones, and the transform of every column.

use ndarray::ArrayView2;
use num_complex::Complex;
use rustfft::{FftDirection, FftPlanner};

use super::Sign;
use crate::scalar::Field;

/// The fast Fourier transform of a real type's complex numbers; sealed, since this module is private. A trait, not a
/// generic function, so that it is compiled with this crate and not again with each that uses it.
pub trait Fft: Sized {
    /// The transform of every stretch of `n` numbers, in place, without normalization.
    fn transform(columns: &mut [Complex<Self>], n: usize, sign: Sign);
}

/// A number that can be sent through an FFT: `f32`, `f64` and complex of both.
pub trait Spectral: Field {
    /// The same number, complex.
    fn into_complex(self) -> Complex<Self::Real>;
    /// The number of this field with that real part, and that imaginary part if it has one.
    fn from_complex(value: Complex<Self::Real>) -> Self;
}

macro_rules! impl_spectral {
    ($($t:ty),*) => {$(
        impl Fft for $t {
            fn transform(columns: &mut [Complex<$t>], n: usize, sign: Sign) {
                let direction = match sign {
                    Sign::Negative => FftDirection::Forward,
                    Sign::Positive => FftDirection::Inverse,
                };
                if !columns.is_empty() {
                    FftPlanner::new().plan_fft(n, direction).process(columns);
                }
            }
        }
        impl Spectral for $t {
            fn into_complex(self) -> Complex<$t> { Complex::new(self, 0.0) }
            fn from_complex(value: Complex<$t>) -> Self { value.re }
        }
        impl Spectral for Complex<$t> {
            fn into_complex(self) -> Self { self }
            fn from_complex(value: Self) -> Self { value }
        }
    )*};
}
impl_spectral!(f32, f64);

/// A length of at least `n` that factors into twos and at most one three.
pub(super) fn good_length(n: usize) -> usize {
    let power = n.next_power_of_two();
    if power >= 4 && power / 4 * 3 >= n { power / 4 * 3 } else { power }
}

/// The columns of `x`, each filled up with zeros to `n` and transformed in place, without normalization.
pub(super) fn column_spectra<E: Spectral>(x: ArrayView2<'_, E>, n: usize) -> Vec<Complex<E::Real>> {
    let mut spectra = vec![Complex::new(num_traits::Zero::zero(), num_traits::Zero::zero()); n * x.ncols()];
    if n > 0 {
        for (spectrum, column) in spectra.chunks_exact_mut(n).zip(x.columns()) {
            for (out, &value) in spectrum.iter_mut().zip(column) {
                *out = value.into_complex();
            }
        }
    }
    E::Real::transform(&mut spectra, n, Sign::Negative);
    spectra
}
