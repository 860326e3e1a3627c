//! The road to the FFT: numbers as complex ones, and the transform of every column.

use ndarray::ArrayView2;
use num_complex::Complex;

use crate::linalg::{Fft, Sign};
use crate::scalar::Field;

/// A number that can be sent through an FFT: `f32`, `f64` and complex of both.
pub trait Spectral: Field {
    /// The same number, complex.
    fn into_complex(self) -> Complex<Self::Real>;
    /// The number of this field with that real part, and that imaginary part if it has one.
    fn from_complex(value: Complex<Self::Real>) -> Self;
}

macro_rules! impl_spectral {
    ($($t:ty),*) => {$(
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
