//! Lesson 11: compressing the product of two state-space models.
//!
//! One layer after another is a product of matrices, and the orders of a product are the sums of the orders. How many of
//! these states carry anything is what the Hankel singular values say; rounding drops the others and knows the error.
//!
//! `cargo run --example 11_compression`

use ndarray::{Array1, Array2};
use semisep::Result;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{Canonical, Sss, Tolerance, Transition};

const LEN: usize = 400;

fn main() -> Result<()> {
    let (first, second) = (layer(8, 0.0)?, layer(8, 1.0)?);
    let product = second.multiply_lower(&first)?;
    println!("1. Two layers, and both in a row.\n");
    println!("   {first}\n   {second}\n   {product}\n");

    let spectrum = product.hankel_spectrum()?;
    println!(
        "2. What the later half of the outputs has to do with the earlier half of the inputs: singular values.\n"
    );
    let shown: Vec<_> = spectrum.values(LEN / 2).iter().map(|v| format!("{v:.1e}")).collect();
    println!("   {}\n", shown.join(" "));

    println!("3. Rounded: orders, the error it reports, and the distance measured afterwards.\n");
    let norm = product.norm_frobenius()?;
    println!("   tolerance   largest order    reported    measured   (of the norm)");
    for share in [1e-12, 1e-8, 1e-4, 1e-2] {
        let rounded = product.rounded(Tolerance::Frobenius(share))?;
        let order = rounded.matrix.orders().iter().max().copied().unwrap_or(0);
        let measured = product.distance(&rounded.matrix)?;
        println!(
            "   {share:>9.0e}   {order:>13}   {:>9.3e}   {:>9.3e}",
            rounded.error / norm,
            measured / norm
        );
    }

    println!("\n4. A product with the compressed matrix.\n");
    let compressed = product.rounded(Tolerance::Frobenius(1e-4))?.matrix;
    let x = Array2::from_shape_fn((LEN, 1), |(t, _)| (0.05 * t as f64).sin());
    let (exact, near) = (second.matmul(first.matmul(x.view())?.view())?, compressed.matmul(x.view())?);
    let size = |v: &Array2<f64>| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    println!("   {compressed}\n   off by {:.1e} of its size\n", size(&(&near - &exact)) / size(&exact));

    println!(
        "5. Balanced: what a state remembers and what it causes have the same size, its singular value.\n"
    );
    let balanced = compressed.canonical(Canonical::Balanced)?;
    let mut reach = Array2::<f64>::zeros((balanced.order_at(1), balanced.order_at(1)));
    for k in 0..LEN / 2 {
        let (a, b) = (balanced.a(k), balanced.b(k));
        reach = if k == 0 { b.dot(&b.t()) } else { a.dot(&reach).dot(&a.t()) + b.dot(&b.t()) };
    }
    let values = balanced.hankel_spectrum()?;
    println!("   Gramian of the states   {:.3e}", reach.diag());
    println!("   singular values         {:.3e}", Array1::from_vec(values.values(LEN / 2).to_vec()));
    Ok(())
}

/// Modes that decay over a few steps to a hundred, with inputs and outputs that change in time.
fn layer(order: usize, shift: f64) -> Result<Sss<f64>> {
    let time = |k: usize| k as f64 / LEN as f64 + shift;
    let a = Array2::from_shape_fn((LEN, order), |(k, n)| {
        let steps = 3.0 * 1.6f64.powi(n as i32);
        (-(1.0 + 0.3 * (6.0 * time(k)).sin()) / steps).exp()
    });
    let b = Array2::from_shape_fn((LEN, order), |(k, n)| 0.3 * (3.0 * time(k) + n as f64).cos());
    let c = Array2::from_shape_fn((LEN, order), |(k, n)| 0.3 * (5.0 * time(k) - n as f64).sin());
    Sss::uniform(Transition::diagonal(a), b, c, Array1::ones(LEN))
}
