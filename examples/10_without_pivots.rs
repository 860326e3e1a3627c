//! Lesson 10: a two-sided system where elimination without pivots fails.
//!
//! A matrix with blocks of low rank on both sides of its diagonal is factored in linear time by the same recursion as in
//! elimination, but the order of its rows is fixed: no pivot can be chosen. Where a pivot is small, digits are lost; where
//! one is zero, it stops. The orthogonal factorisation M = V W R has no pivots, costs a few times more, and loses nothing.
//!
//! `cargo run --example 10_without_pivots`

use ndarray::{Array1, Array2};
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{Quasiseparable, Sss, Transition};
use semisep::{Error, Result};

const LEN: usize = 200;
const ORDER: usize = 3;

fn main() -> Result<()> {
    println!(
        "1. Systems of {LEN} equations, order {ORDER} on both sides, one after another with a smaller diagonal.\n"
    );
    println!(
        "   Backward error: the residual over the norms of the matrix and the solution. 1e-16 is perfect.\n"
    );
    println!("   diagonal   condition   elimination   its growth   orthogonal");
    for diagonal in [1.0, 1e-4, 1e-8, 1e-12, 0.0] {
        let m = system(diagonal)?;
        let b = m.matmul(Array2::from_shape_fn((LEN, 1), |(i, _)| (0.3 * i as f64).cos()).view())?;
        let condition = m.condition_two_estimate()?;
        let orthogonal = backward_error(&m, &m.qr()?.solve(b.view())?, &b)?;
        // What goes wrong is not hidden: growth says how many digits were lost, a zero pivot is an error.
        let (error, growth) = match m.lu() {
            Ok(lu) => {
                let x = lu.solve(b.view())?;
                (format!("{:.1e}", backward_error(&m, &x, &b)?), format!("{:.1e}", lu.growth()))
            }
            Err(Error::Singular { step, .. }) => (format!("stops at {step}"), "-".into()),
            Err(other) => return Err(other),
        };
        println!(
            "   {diagonal:>8.0e}   {condition:>9.1e}   {error:>11}   {growth:>10}   {orthogonal:>10.1e}"
        );
    }

    println!("\n2. The same factorisation solves least squares: rows that are measured twice, at odds.\n");
    let tall = tall()?;
    let y = Array2::from_shape_fn((tall.rows(), 1), |(i, _)| (0.1 * i as f64).sin());
    let found = tall.qr()?.least_squares(y.view())?;
    let residual = &y - &tall.matmul(found.x.view())?;
    let slope = tall.adjoint_matmul(residual.view())?;
    println!("   {tall}\n");
    println!(
        "   residual {:.4}, and its product with the adjoint {:.1e}: no direction is left to go.",
        norm(&residual),
        norm(&slope)
    );
    Ok(())
}

/// A lower and an upper part of generators without a pattern, and this number everywhere on the diagonal.
fn system(diagonal: f64) -> Result<Quasiseparable<f64>> {
    Quasiseparable::new(part(1, Array1::from_elem(LEN, diagonal))?, part(2, Array1::zeros(LEN))?)
}

fn part(seed: usize, d: Array1<f64>) -> Result<Sss<f64>> {
    let wave = |scale: f64, seed: usize| {
        Array2::from_shape_fn((LEN, ORDER), |(k, n)| {
            scale * (7.1 * (k + 1) as f64 * (seed + 3 * n + 1) as f64).sin()
        })
    };
    Sss::uniform(Transition::diagonal(wave(0.8, seed)), wave(1.0, seed + 10), wave(1.0, seed + 20), d)
}

/// Two equations for each unknown.
fn tall() -> Result<Quasiseparable<f64>> {
    use semisep::matrix::sss::Blocks;
    let block = |rows: usize, columns: usize, seed: usize| -> Blocks<f64> {
        (0..40)
            .map(|k| {
                Array2::from_shape_fn((rows, columns), |(i, j)| {
                    (1.7 * (seed + k * 7 + 3 * i + 5 * j) as f64).sin()
                })
            })
            .collect()
    };
    let transition = || Transition::Scalar(Array1::from_elem(40, 0.5));
    let lower = Sss::new(transition(), block(2, 1, 1), block(2, 2, 2), block(2, 1, 3))?;
    let upper = Sss::new(transition(), block(2, 2, 4), block(1, 2, 5), block(1, 2, 6))?;
    Quasiseparable::new(lower, upper)
}

fn backward_error(m: &Quasiseparable<f64>, x: &Array2<f64>, b: &Array2<f64>) -> Result<f64> {
    let residual = &m.matmul(x.view())? - b;
    Ok(norm(&residual) / (m.norm_frobenius()? * norm(x)))
}

fn norm(v: &Array2<f64>) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}
