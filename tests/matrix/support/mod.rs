//! Helpers of the tests of semiseparable matrices and attention: random numbers, differences, a dense mask.
#![allow(dead_code)]

pub mod dense;
pub mod generators;
pub mod ragged;
pub mod structured;

use ndarray::{Array1, Array2, Array3, ArrayView2};
use num_complex::Complex;
use semisep::matrix::StructuredMatrix;
use semisep::{Field, Result};

/// A small generator of numbers in [-1, 1].
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(88_172_645_463_325_252))
    }

    pub fn number(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn vector(&mut self, len: usize) -> Array1<f64> {
        Array1::from_shape_simple_fn(len, || self.number())
    }

    pub fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f64> {
        Array2::from_shape_simple_fn((rows, columns), || self.number())
    }

    pub fn tensor(&mut self, shape: (usize, usize, usize)) -> Array3<f64> {
        Array3::from_shape_simple_fn(shape, || self.number())
    }

    pub fn complex(&mut self, rows: usize, columns: usize) -> Array2<Complex<f64>> {
        Array2::from_shape_simple_fn((rows, columns), || Complex::new(self.number(), self.number()))
    }
}

/// Largest difference relative to the largest number, or absolute where all numbers are below one.
pub fn distance<'a, E, I, J>(a: I, b: J) -> f64
where
    E: Field<Real = f64>,
    I: IntoIterator<Item = &'a E>,
    J: IntoIterator<Item = &'a E>,
    E: 'a,
{
    let (a, b): (Vec<_>, Vec<_>) = (a.into_iter().collect(), b.into_iter().collect());
    assert_eq!(a.len(), b.len(), "different numbers of entries");
    let scale = b.iter().map(|v| v.modulus()).fold(1.0, f64::max);
    // A NaN must count as a failure, which the maximum of floats would hide.
    let worst = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (**a - **b).modulus())
        .fold(0.0, |worst: f64, d| if d.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(d) });
    worst / scale
}

#[track_caller]
pub fn assert_close<'a, E, I, J>(a: I, b: J, tolerance: f64)
where
    E: Field<Real = f64> + 'a,
    I: IntoIterator<Item = &'a E>,
    J: IntoIterator<Item = &'a E>,
{
    let distance = distance(a, b);
    assert!(distance <= tolerance, "distance {distance:e} above {tolerance:e}");
}

/// Central differences of f at a point given by flat numbers.
pub fn differences(f: impl Fn(&[f64]) -> f64, at: &[f64]) -> Vec<f64> {
    const STEP: f64 = 1e-6;
    let mut point = at.to_vec();
    (0..at.len())
        .map(|i| {
            point[i] = at[i] + STEP;
            let above = f(&point);
            point[i] = at[i] - STEP;
            let below = f(&point);
            point[i] = at[i];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// `Σ u v`
pub fn inner<'a>(u: impl IntoIterator<Item = &'a f64>, v: impl IntoIterator<Item = &'a f64>) -> f64 {
    u.into_iter().zip(v).map(|(u, v)| u * v).sum()
}

/// Any matrix with its entries as parameters.
#[derive(Debug, Clone)]
pub struct Entries<E>(pub Array2<E>);

impl<E: Field> StructuredMatrix<E> for Entries<E> {
    type Gradient = Array2<E>;

    fn shape(&self) -> (usize, usize) {
        self.0.dim()
    }

    fn to_dense(&self) -> Array2<E> {
        self.0.clone()
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        Ok(self.0.dot(&x))
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        Ok(self.0.t().mapv(E::conj).dot(&y))
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Array2<E>, Array2<E>)> {
        Ok((dy.dot(&x.t().mapv(E::conj)), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Array2<E>> {
        Ok(d_dense.to_owned())
    }
}
