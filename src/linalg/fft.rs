//! The fast Fourier transform, through `rustfft`.

use num_complex::Complex;
use rustfft::{FftDirection, FftPlanner};

/// The sign of the exponent of a [`Fourier`](crate::matrix::mask::Fourier) matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// $`e^{-2\pi \mathrm{i} jk/n}`$, the forward transform of signal processing.
    Negative,
    /// $`e^{+2\pi \mathrm{i} jk/n}`$
    Positive,
}

/// The transform of a real type's complex numbers; sealed, since this module is private. A trait, not a generic function,
/// so that it is compiled with this crate and not again with each that uses it.
pub trait Fft: Sized {
    /// The transform of every stretch of `n` numbers, in place, without normalization.
    fn transform(columns: &mut [Complex<Self>], n: usize, sign: Sign);
}

macro_rules! impl_fft {
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
    )*};
}
impl_fft!(f32, f64);
