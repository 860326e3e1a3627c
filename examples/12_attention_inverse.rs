//! Lesson 12: a linear-attention matrix, and its inverse.
//!
//! Causal linear attention multiplies by the lower triangle of Q Kᵀ: a semiseparable matrix whose states never decay, of
//! the order of the features. In predictor form its diagonal is free, and so the inverse has the same order: undoing an
//! attention layer costs what the layer costs.
//!
//! `cargo run --example 12_attention_inverse`

use ndarray::{Array1, Array2};
use semisep::Result;
use semisep::matrix::mask::Causal;
use semisep::matrix::sss::{Sss, Tolerance, Transition};
use semisep::matrix::{MaskedAttention, StructuredMatrix};

const LEN: usize = 64;
const FEATURES: usize = 4;

fn main() -> Result<()> {
    let (q, k) = (features(0.3), features(1.1));
    let causal = Causal::new(LEN);
    let attention = MaskedAttention::new(&causal, q.view(), k.view())?;
    println!("1. Causal linear attention, tril(Q Kᵀ), as masked attention and by its generators.\n");
    let diagonal: Array1<f64> = q.outer_iter().zip(k.outer_iter()).map(|(q, k)| q.dot(&k)).collect();
    let m = Sss::uniform(Transition::Identity, k.clone(), q.clone(), diagonal)?;
    println!("{m:#}\n");
    println!("   both agree up to {:.1e}\n", largest(&(m.to_dense() - attention.to_dense())));

    println!("2. Its inverse, in the same order, and dense: below the diagonal it is full too.\n");
    let inverse = m.inverse()?;
    println!("{inverse:#}\n");
    println!("   condition number {:.1e}", m.condition_one_estimate()?);
    println!(
        "   M M⁻¹ - I: {:.1e}\n",
        largest(&(m.to_dense().dot(&inverse.to_dense()) - Array2::<f64>::eye(LEN)))
    );

    println!("3. Values from outputs, in one pass: by the inverse, and by substitution, which needs none.\n");
    let v = Array2::from_shape_fn((LEN, 3), |(t, p)| (0.7 * t as f64 + p as f64).cos());
    let y = m.matmul(v.view())?;
    println!("   inverse       off by {:.1e}", largest(&(inverse.matmul(y.view())? - &v)));
    println!("   substitution  off by {:.1e}\n", largest(&(m.solve(y.view())? - &v)));

    println!("4. Ranks of the blocks below the diagonal, of the matrix and of the inverse: the same.\n");
    let ranks = |m: &Sss<f64>| m.hankel_ranks(Tolerance::Relative(1e-10));
    println!("   M    {:?} ..", &ranks(&m)?[..8]);
    println!("   M⁻¹  {:?} ..", &ranks(&inverse)?[..8]);
    Ok(())
}

/// Positive features, as attention without softmax has them; no two positions alike.
fn features(shift: f64) -> Array2<f64> {
    Array2::from_shape_fn((LEN, FEATURES), |(t, n)| {
        1.2 + (0.9 * (t * (n + 1)) as f64 + shift).sin() + if t % FEATURES == n { 1.0 } else { 0.0 }
    })
}

fn largest(m: &Array2<f64>) -> f64 {
    m.iter().fold(0.0, |most, v| most.max(v.abs()))
}
