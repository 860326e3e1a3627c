//! Lesson 5: masks and attention.
//!
//! Structured masked attention is Y = (L ∘ Q Kᵀ) V for any mask L with a fast product (paper, definition 4.2). One
//! contraction of four tensors (equation 12), two orders: quadratic (equation 13) and linear (equation 15).
//!
//! `cargo run --example 05_masks_and_attention`

use ndarray::{Array2, Array3, ArrayView2, array};
use num_complex::Complex;
use semisep::matrix::attention::Order;
use semisep::matrix::attention::features::FeatureMap;
use semisep::matrix::attention::heads::{HeadPattern, Masks, MultiHeadAttention, Role};
use semisep::matrix::mask::{AllOnes, Banded, Causal, Decay, Fourier, Normalization, Sign, Toeplitz};
use semisep::matrix::{
    Cotangent, FilterForm, MaskedAttention, OneSemiseparable, StructuredMatrix, Transition,
};

const LEN: usize = 6;

fn main() -> semisep::Result<()> {
    let wave = |shift: f64| Array2::from_shape_fn((LEN, 3), |(t, n)| ((t + 2 * n) as f64 + shift).sin());
    let (q, k, v) = (wave(0.0), wave(1.0), wave(2.0));

    println!("1. Masks, and by how much the two orders of contraction differ with each.\n");
    let decays = array![1.0, 0.9, 0.5, 0.0, 0.8, 0.7];
    let order_two = FilterForm::uniform(
        Transition::diagonal(Array2::from_shape_fn((LEN, 2), |(_, n)| [0.9, 0.3][n])),
        Array2::ones((LEN, 2)),
        Array2::ones((LEN, 2)),
    )?;
    let qkv = [q.view(), k.view(), v.view()];
    show("all ones: every position sees every other", &AllOnes::new(LEN, LEN), qkv)?;
    show("causal: linear attention", &Causal::new(LEN), qkv)?;
    show("decay: retention", &Decay::new(LEN, 0.7)?, qkv)?;
    show("1-semiseparable: the duality; a_3 = 0 begins anew", &OneSemiseparable::new(decays)?, qkv)?;
    show("2-semiseparable: sums of two decays", &order_two, qkv)?;
    let toeplitz = Toeplitz::causal(array![1.0, 0.5, 0.4, 0.3, 0.2, 0.1].view())?;
    show("Toeplitz: any function of the distance", &toeplitz, qkv)?;
    show("banded: a window", &Banded::new(LEN, LEN, 1, 0), qkv)?;

    println!(
        "   The Fourier mask is complex. Its inverse is the one with the other sign and the factor 1/n,"
    );
    let fourier = Fourier::new(LEN, Sign::Negative, Normalization::One);
    let back = Fourier::new(LEN, Sign::Positive, Normalization::Inverse);
    let x = v.mapv(|v| Complex::new(v, 0.0));
    let there_and_back = back.matmul(fourier.matmul(x.view())?.view())?;
    let off = (&there_and_back - &x).iter().fold(0.0, |m, e| f64::max(m, e.norm()));
    println!("   up to {off:.1e}.\n");

    println!(
        "2. Features: the kernel ψ(q)·ψ(k) in place of the softmax kernel exp(q·k); q = k = (0.3, 0.4).\n"
    );
    let x = array![[0.3, 0.4]];
    let exact = 0.25f64.exp();
    for (name, map) in [
        ("identity, q·k", FeatureMap::Identity),
        ("Taylor, 1 + q·k + (q·k)²/2", FeatureMap::Taylor),
        ("positive random features, 64", FeatureMap::positive_random(64, 2, 1)),
        ("positive random features, 4096", FeatureMap::positive_random(4096, 2, 1)),
    ] {
        let features = map.apply(x.view())?;
        let (count, value) = (features.ncols(), features.row(0).dot(&features.row(0)));
        println!("   {name:<32} {count:>5} features   {value:.4}   (exact {exact:.4})");
    }

    println!(
        "\n3. Rows that sum to one (section 7.3): means instead of sums. Values that are all 5 give 5.\n"
    );
    let map = FeatureMap::OnePlusElu;
    let (q, k) = (map.apply(q.view())?, map.apply(k.view())?);
    let causal = Causal::new(LEN);
    let attention = MaskedAttention::new(&causal, q.view(), k.view())?;
    let five = Array2::from_elem((LEN, 1), 5.0);
    println!("   plain      {:6.2}", attention.multiply(five.view(), Order::Linear)?.column(0));
    println!("   normalised {:6.2}", attention.multiply_normalized(five.view(), Order::Linear)?.column(0));

    println!("\n4. Heads that share tensors (section 7.2): the state is as large in every pattern.\n");
    let heads = 4;
    let tensor =
        |heads: usize| Array3::from_shape_fn((LEN, heads, 2), |(t, h, n)| ((t + 3 * h + 5 * n) as f64).sin());
    for (name, pattern) in [
        ("multi-head", HeadPattern::MultiHead),
        ("multi-contract = multi-query", HeadPattern::MULTI_QUERY),
        ("multi-expand = multi-key", HeadPattern::MULTI_KEY),
        ("multi-input = multi-value", HeadPattern::MULTI_VALUE),
        ("grouped-input = grouped-value", HeadPattern::grouped_value(2)),
    ] {
        let [x, b, c] = [Role::Input, Role::Expand, Role::Contract].map(|role| pattern.heads_of(role, heads));
        let (x, b, c) = (tensor(x?), tensor(b?), tensor(c?));
        let attention = MultiHeadAttention::new(pattern, heads, Masks::Shared(&causal), c.view(), b.view())?;
        let y = attention.multiply(x.view(), Order::Linear)?;
        let [x, b, c] = [x, b, c].map(|tensor| tensor.dim().1);
        println!("   {name:<30} heads of X, B, C: {x} {b} {c}   y: {:?}", y.dim());
    }
    Ok(())
}

/// Prints a mask and the distance between both orders of contraction.
fn show<L>(name: &str, mask: &L, [q, k, v]: [ArrayView2<'_, f64>; 3]) -> semisep::Result<()>
where
    L: StructuredMatrix<f64>,
    L::Gradient: Cotangent,
{
    let attention = MaskedAttention::new(mask, q, k)?;
    let off = attention.multiply(v, Order::Quadratic)? - attention.multiply(v, Order::Linear)?;
    println!("   {name}: {:.1e}", off.iter().fold(0.0, |m, e| f64::max(m, e.abs())));
    for row in mask.to_dense().outer_iter() {
        let cells: Vec<_> =
            row.iter().map(|&v| if v == 0.0 { "   .".into() } else { format!("{v:4.2}") }).collect();
        println!("     {}", cells.join(" "));
    }
    println!();
    Ok(())
}
