//! Numbers for tests of networks, and the one check of every vjp.

pub mod models;

use ndarray::{Array, Dimension, ShapeBuilder};

/// Numbers without a pattern, between -1 and 1; the same for the same seed.
pub fn noise<D: Dimension, S: ShapeBuilder<Dim = D>>(shape: S, seed: u64) -> Array<f64, D> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    Array::from_shape_simple_fn(shape, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// `Σ a b`.
pub fn inner<D: Dimension>(a: &Array<f64, D>, b: &Array<f64, D>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares a gradient with central differences of `f`, number by number.
#[track_caller]
pub fn check_gradient<D: Dimension>(
    what: &str,
    at: &Array<f64, D>,
    found: &Array<f64, D>,
    f: impl Fn(&Array<f64, D>) -> f64,
) {
    assert_eq!(at.shape(), found.shape(), "{what}: shape");
    let step = 5e-5; // four points: the error is of the fourth order
    let mut moved = at.clone();
    for k in 0..at.len() {
        let start = moved.as_slice_mut().expect("in order")[k];
        let mut value = |v: f64| {
            moved.as_slice_mut().expect("in order")[k] = v;
            f(&moved)
        };
        let near = value(start + step) - value(start - step);
        let far = value(start + 2.0 * step) - value(start - 2.0 * step);
        let expected = (8.0 * near - far) / (12.0 * step);
        value(start);
        let found =
            found.as_slice().map_or_else(|| found.iter().copied().nth(k).expect("k is an index"), |s| s[k]);
        let bound = 2e-8 * (1.0 + expected.abs());
        assert!((found - expected).abs() < bound, "{what}, number {k}: {found} instead of {expected}");
    }
}

/// The largest difference of two arrays of one shape.
#[track_caller]
pub fn distance<A: Into<f64> + Copy, D: Dimension>(a: &Array<A, D>, b: &Array<A, D>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).fold(0.0, |worst, (&a, &b)| f64::max(worst, (a.into() - b.into()).abs()))
}
