//! Random features of the Gaussian and of the softmax kernel.

use std::f64::consts::TAU;

use ndarray::{Array2, ArrayView2, Axis, s};

use crate::linalg::matmul;
use crate::scalar::{Real, real};

/// A matrix of independent standard normal numbers, (rows, columns), the same for the same seed on every machine
/// whose elementary functions agree.
///
/// Uniform numbers come from the generator SplitMix64 (Steele, Lea and Flood 2014), normal ones from them by the
/// transform of Box and Muller.
pub(super) fn gaussian<T: Real>(rows: usize, columns: usize, seed: u64) -> Array2<T> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 53 bits, moved half a unit off zero, where the logarithm is not finite.
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) * (-53f64).exp2()
    };
    Array2::from_shape_simple_fn((rows, columns), || {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), TAU * uniform());
        real(radius * angle.cos())
    })
}

/// `(cos p, sin p) / √m` with `p = W x`.
pub(super) fn fourier<T: Real>(w: ArrayView2<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
    let m = w.nrows();
    let scale = scale::<T>(m);
    let p = matmul(x, w.t());
    let mut y = Array2::zeros((x.nrows(), 2 * m));
    y.slice_mut(s![.., ..m]).zip_mut_with(&p, |y, p| *y = scale * p.cos());
    y.slice_mut(s![.., m..]).zip_mut_with(&p, |y, p| *y = scale * p.sin());
    y
}

/// `dp = (cos p ∘ dy_sin - sin p ∘ dy_cos) / √m`, `dW = dpᵀ x`, `dx = dp W`.
pub(super) fn fourier_vjp<T: Real>(
    w: ArrayView2<'_, T>,
    x: ArrayView2<'_, T>,
    dy: ArrayView2<'_, T>,
) -> (Array2<T>, Array2<T>) {
    let m = w.nrows();
    let scale = scale::<T>(m);
    let mut dp = matmul(x, w.t());
    for ((t, i), p) in dp.indexed_iter_mut() {
        *p = scale * (p.cos() * dy[[t, i + m]] - p.sin() * dy[[t, i]]);
    }
    (matmul(dp.t(), x), matmul(dp.view(), w))
}

/// `(exp(p - r), exp(-p - r)) / √(2m)` with `p = W x`, `r = |x|² / 2`; one exponent, so that neither factor
/// overflows alone.
pub(super) fn positive<T: Real>(w: ArrayView2<'_, T>, x: ArrayView2<'_, T>) -> Array2<T> {
    let m = w.nrows();
    let scale = scale::<T>(2 * m);
    let p = matmul(x, w.t());
    let mut y = Array2::zeros((x.nrows(), 2 * m));
    for (t, x) in x.outer_iter().enumerate() {
        let r = x.dot(&x) / real(2.0);
        for i in 0..m {
            y[[t, i]] = scale * (p[[t, i]] - r).exp();
            y[[t, i + m]] = scale * (-p[[t, i]] - r).exp();
        }
    }
    y
}

/// With the features y₊ and y₋: `dp = y₊ dy₊ - y₋ dy₋`, `dr = -Σ (y₊ dy₊ + y₋ dy₋)`, `dW = dpᵀ x`, `dx = dp W + dr x`.
pub(super) fn positive_vjp<T: Real>(
    w: ArrayView2<'_, T>,
    x: ArrayView2<'_, T>,
    dy: ArrayView2<'_, T>,
) -> (Array2<T>, Array2<T>) {
    let m = w.nrows();
    let products = positive(w, x) * dy;
    let dp = &products.slice(s![.., ..m]) - &products.slice(s![.., m..]);
    let mut dx = matmul(dp.view(), w);
    let dr = products.sum_axis(Axis(1)).insert_axis(Axis(1));
    dx -= &(&x * &dr);
    (matmul(dp.t(), x), dx)
}

fn scale<T: Real>(m: usize) -> T {
    real(1.0 / (m as f64).sqrt())
}
