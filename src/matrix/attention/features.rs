//! Feature maps ψ for queries and keys: the kernels of linear attention (paper section 4.1.3 and its ablations).

use std::f64::consts::FRAC_PI_2;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{polynomial, random_features};
use crate::error::{Error, Result, check_shape};
use crate::scalar::{Real, real};

/// A map of the rows of Q and K to features, so that attention uses the kernel ψ(q)·ψ(k).
///
/// Every map takes x, (len, N), to (len, [`width`](Self::width)); its parameters are part of it, and its cotangent
/// is the same map holding the cotangents of its parameters.
///
/// # Example
/// ```
/// use ndarray::array;
/// use semisep::matrix::attention::features::FeatureMap;
///
/// let x = array![[1.0, -2.0]];
/// assert_eq!(FeatureMap::Relu.apply(x.view())?, array![[1.0, 0.0]]);
/// assert_eq!(FeatureMap::<f64>::Taylor.width(2), 7);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureMap<T> {
    /// `x`
    Identity,
    /// `x / (1 + e^{-x})`, also called SiLU.
    Swish,
    /// `max(x, 0)`
    Relu,
    /// `e^x`
    Exp,
    /// `1 + elu(x)`: `1 + x` for positive x, else `e^x`; positive everywhere.
    OnePlusElu,
    /// `(cos W x, sin W x) / √m`: random Fourier features (Random Feature Attention).
    ///
    /// With standard normal rows of W the kernel has mean `exp(-|q - k|² / 2)`.
    RandomFourier {
        /// The projection, (m, N).
        w: Array2<T>,
    },
    /// `exp(-|x|² / 2) (exp W x, exp -W x) / √(2m)`: positive random features (Performer).
    ///
    /// With standard normal rows of W the kernel has mean `exp(q·k)`, the softmax kernel.
    PositiveRandom {
        /// The projection, (m, N).
        w: Array2<T>,
    },
    /// `(x cos θ_t, x sin θ_t)` with `θ_t = π t / (2 len)` in row t (cosFormer; both halves are multiplied by x, as in
    /// the original).
    Cosformer {
        /// Position of the first row.
        first: usize,
        /// Length of the longest sequence, at which the angle reaches a right one.
        len: usize,
    },
    /// `(1, x, x ⊗ x / √2)`: the Taylor expansion of the exponential (Based).
    ///
    /// The kernel is `1 + q·k + (q·k)² / 2`.
    Taylor,
    /// `z ⊗ z` with `z = scale ∘ norm(x) + shift`, norm the layer norm of each row (ReBased).
    ///
    /// The variance in the layer norm is increased by 1e-5.
    Polynomial {
        /// Learnable scale, (N,).
        scale: Array1<T>,
        /// Learnable shift, (N,).
        shift: Array1<T>,
    },
}

impl<T: Real> FeatureMap<T> {
    /// Random Fourier features with `features` standard normal rows in W, the same for the same seed.
    pub fn random_fourier(features: usize, width: usize, seed: u64) -> Self {
        Self::RandomFourier { w: random_features::gaussian(features, width, seed) }
    }

    /// Positive random features with `features` standard normal rows in W, the same for the same seed.
    pub fn positive_random(features: usize, width: usize, seed: u64) -> Self {
        Self::PositiveRandom { w: random_features::gaussian(features, width, seed) }
    }

    /// The polynomial map of inputs of this width, with scale one and shift zero.
    pub fn polynomial(width: usize) -> Self {
        Self::Polynomial { scale: Array1::ones(width), shift: Array1::zeros(width) }
    }

    /// Number of features of an input of `width` numbers.
    pub fn width(&self, width: usize) -> usize {
        match self {
            Self::Identity | Self::Swish | Self::Relu | Self::Exp | Self::OnePlusElu => width,
            Self::RandomFourier { w } | Self::PositiveRandom { w } => 2 * w.nrows(),
            Self::Cosformer { .. } => 2 * width,
            Self::Taylor => 1 + width + width * width,
            Self::Polynomial { .. } => width * width,
        }
    }

    /// The features of every row. `x`: (len, N); result: (len, width).
    ///
    /// # Errors
    /// [`Error::Shape`] if a parameter does not fit N, [`Error::Config`] if a position is not below the `len` of
    /// [`Cosformer`](Self::Cosformer).
    pub fn apply(&self, x: ArrayView2<'_, T>) -> Result<Array2<T>> {
        self.check(x)?;
        Ok(match self {
            Self::RandomFourier { w } => random_features::fourier(w.view(), x),
            Self::PositiveRandom { w } => random_features::positive(w.view(), x),
            Self::Cosformer { first, len } => cosformer(*first, *len, x),
            Self::Taylor => polynomial::taylor(x),
            Self::Polynomial { scale, shift } => polynomial::rebased(scale, shift, x),
            pointwise => x.mapv(|x| pointwise.value(x)),
        })
    }

    /// Cotangents of the parameters and of `x`, given the cotangent `dy` of the features.
    /// `x`: (len, N); `dy`: (len, width).
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and [`Error::Shape`] naming `dy`.
    pub fn vjp(&self, x: ArrayView2<'_, T>, dy: ArrayView2<'_, T>) -> Result<(Self, Array2<T>)> {
        self.check(x)?;
        check_shape("dy", "(len, width)", &[x.nrows(), self.width(x.ncols())], dy.shape())?;
        Ok(match self {
            Self::RandomFourier { w } => {
                let (w, dx) = random_features::fourier_vjp(w.view(), x, dy);
                (Self::RandomFourier { w }, dx)
            }
            Self::PositiveRandom { w } => {
                let (w, dx) = random_features::positive_vjp(w.view(), x, dy);
                (Self::PositiveRandom { w }, dx)
            }
            Self::Cosformer { first, len } => (self.clone(), cosformer_vjp(*first, *len, x, dy)),
            Self::Taylor => (Self::Taylor, polynomial::taylor_vjp(x, dy)),
            Self::Polynomial { scale, shift } => {
                let (scale, shift, dx) = polynomial::rebased_vjp(scale, shift, x, dy);
                (Self::Polynomial { scale, shift }, dx)
            }
            pointwise => {
                let mut dx = x.mapv(|x| pointwise.slope(x));
                dx *= &dy;
                (pointwise.clone(), dx)
            }
        })
    }

    fn check(&self, x: ArrayView2<'_, T>) -> Result<()> {
        let (len, width) = x.dim();
        match self {
            Self::RandomFourier { w } | Self::PositiveRandom { w } => {
                check_shape("w", "(features, N)", &[w.nrows(), width], w.shape())
            }
            Self::Cosformer { first, len: longest } => {
                let end = first.saturating_add(len);
                if end <= *longest {
                    return Ok(());
                }
                let reason = format!("positions up to {end} reach beyond it: {longest}");
                Err(Error::Config { field: "len", reason })
            }
            Self::Polynomial { scale, shift } => {
                check_shape("scale", "(N,)", &[width], scale.shape())?;
                check_shape("shift", "(N,)", &[width], shift.shape())
            }
            _ => Ok(()),
        }
    }

    /// A pointwise map at x.
    fn value(&self, x: T) -> T {
        match self {
            Self::Swish => x * logistic(x),
            Self::Relu if x < T::zero() => T::zero(),
            Self::Exp => x.exp(),
            Self::OnePlusElu if x > T::zero() => T::one() + x,
            Self::OnePlusElu => x.exp(),
            _ => x,
        }
    }

    /// Its derivative; that of `Relu` at zero is zero.
    fn slope(&self, x: T) -> T {
        match self {
            Self::Swish => {
                let s = logistic(x);
                s + x * s * (T::one() - s)
            }
            Self::Relu if x > T::zero() => T::one(),
            Self::Relu => T::zero(),
            Self::Exp => x.exp(),
            Self::OnePlusElu if x > T::zero() => T::one(),
            Self::OnePlusElu => x.exp(),
            _ => T::one(),
        }
    }
}

/// `1 / (1 + e^{-x})`; an overflow of the exponential gives the limit zero.
fn logistic<T: Real>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// `(sin θ_t, cos θ_t)`
fn angle<T: Real>(t: usize, len: usize) -> (T, T) {
    let (sin, cos) = (FRAC_PI_2 * t as f64 / len as f64).sin_cos();
    (real(sin), real(cos))
}

fn cosformer<T: Real>(first: usize, len: usize, x: ArrayView2<'_, T>) -> Array2<T> {
    let width = x.ncols();
    let mut y = Array2::zeros((x.nrows(), 2 * width));
    for (t, (x, y)) in x.outer_iter().zip(y.outer_iter_mut()).enumerate() {
        let (sin, cos) = angle(first + t, len);
        let (mut of_cos, mut of_sin) = y.split_at(Axis(0), width);
        of_cos.zip_mut_with(&x, |y, x| *y = *x * cos);
        of_sin.zip_mut_with(&x, |y, x| *y = *x * sin);
    }
    y
}

fn cosformer_vjp<T: Real>(
    first: usize,
    len: usize,
    x: ArrayView2<'_, T>,
    dy: ArrayView2<'_, T>,
) -> Array2<T> {
    let width = x.ncols();
    Array2::from_shape_fn(x.raw_dim(), |(t, n)| {
        let (sin, cos) = angle::<T>(first + t, len);
        cos * dy[[t, n]] + sin * dy[[t, n + width]]
    })
}
