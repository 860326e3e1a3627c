//! Feature maps of polynomial kernels: Taylor (Based) and learnable affine (ReBased).

use std::f64::consts::FRAC_1_SQRT_2;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use crate::scalar::{Real, real};

/// Added to the variance of the layer norm.
const EPSILON: f64 = 1e-5;

/// `(1, x, x ⊗ x / √2)`
pub(super) fn taylor<T: Real>(x: ArrayView2<'_, T>) -> Array2<T> {
    let width = x.ncols();
    let half: T = real(FRAC_1_SQRT_2);
    Array2::from_shape_fn((x.nrows(), 1 + width + width * width), |(t, i)| match i {
        0 => T::one(),
        i if i <= width => x[[t, i - 1]],
        i => x[[t, (i - 1 - width) / width]] * x[[t, (i - 1 - width) % width]] * half,
    })
}

/// `dx_n = dy_n + Σ_m (dy_{nm} + dy_{mn}) x_m / √2`
pub(super) fn taylor_vjp<T: Real>(x: ArrayView2<'_, T>, dy: ArrayView2<'_, T>) -> Array2<T> {
    let width = x.ncols();
    let half: T = real(FRAC_1_SQRT_2);
    let mut dx = Array2::zeros(x.raw_dim());
    for ((x, dy), mut dx) in x.outer_iter().zip(dy.outer_iter()).zip(dx.outer_iter_mut()) {
        for n in 0..width {
            dx[n] = dy[1 + n] + half * square_vjp(x, dy, 1 + width, n);
        }
    }
    dx
}

/// `Σ_m (dy_{nm} + dy_{mn}) x_m`, where the square x ⊗ x starts at `first` in the row of features.
fn square_vjp<T: Real>(x: ArrayView1<'_, T>, dy: ArrayView1<'_, T>, first: usize, n: usize) -> T {
    let width = x.len();
    let at = |i: usize, j: usize| dy[first + i * width + j];
    (0..width).map(|m| (at(n, m) + at(m, n)) * x[m]).sum()
}

/// The layer norm of a row without its affine part, and the factor by which it was scaled.
fn layer_norm<T: Real>(x: ArrayView1<'_, T>) -> (Array1<T>, T) {
    let count: T = real(x.len().max(1) as f64);
    let mean = x.sum() / count;
    let mut x = x.mapv(|x| x - mean);
    let scale = (x.dot(&x) / count + real(EPSILON)).sqrt().recip();
    x *= scale;
    (x, scale)
}

/// `z ⊗ z` with `z = scale ∘ norm(x) + shift`
pub(super) fn rebased<T: Real>(scale: &Array1<T>, shift: &Array1<T>, x: ArrayView2<'_, T>) -> Array2<T> {
    let width = x.ncols();
    let mut y = Array2::zeros((x.nrows(), width * width));
    for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
        let z = layer_norm(x).0 * scale + shift;
        y.iter_mut().enumerate().for_each(|(i, y)| *y = z[i / width] * z[i % width]);
    }
    y
}

/// Cotangents of scale, shift and x. With u = norm(x), its factor f and `du = scale ∘ dz`:
/// `dx = f (du - mean(du) - u mean(u ∘ du))`.
pub(super) fn rebased_vjp<T: Real>(
    scale: &Array1<T>,
    shift: &Array1<T>,
    x: ArrayView2<'_, T>,
    dy: ArrayView2<'_, T>,
) -> (Array1<T>, Array1<T>, Array2<T>) {
    let width = x.ncols();
    let count: T = real(width.max(1) as f64);
    let (mut d_scale, mut d_shift) = (Array1::zeros(width), Array1::zeros(width));
    let mut dx = Array2::zeros(x.raw_dim());
    for ((x, dy), mut dx) in x.outer_iter().zip(dy.outer_iter()).zip(dx.outer_iter_mut()) {
        let (u, factor) = layer_norm(x);
        let z = &u * scale + shift;
        let dz = Array1::from_shape_fn(width, |n| square_vjp(z.view(), dy, 0, n));
        d_scale += &(&dz * &u);
        d_shift += &dz;
        let du = dz * scale;
        let (mean, along) = (du.sum() / count, du.dot(&u) / count);
        for n in 0..width {
            dx[n] = factor * (du[n] - mean - u[n] * along);
        }
    }
    (d_scale, d_shift, dx)
}
