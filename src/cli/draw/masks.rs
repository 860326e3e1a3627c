//! Each mask, entry by entry.

use ndarray::{Array1, Array2};
use num_complex::Complex;

use super::Picture;
use super::canvas::Canvas;
use super::heat::{key, largest, panel};
use crate::error::Result;
use crate::matrix::mask::{AllOnes, Banded, Causal, Decay, Fourier, Normalization, Sign, Toeplitz};
use crate::matrix::{OneSemiseparable, Sss, StructuredMatrix, Transition};

const LEN: usize = 24;
const CELL: f64 = 16.0;
const TOP: f64 = 80.0;
const LEFT: f64 = 26.0;

/// One mask with its formula.
///
/// # Errors
/// None: the generators fit.
pub(super) fn draw(mask: Picture) -> Result<Canvas> {
    let (title, formula, panels) = panels(mask)?;
    let side = LEN as f64 * CELL;
    let count = panels.len() as f64;
    let width = (LEFT + count * (side + 30.0) + 60.0).max(560.0);
    let left = (width - count * (side + 30.0) - 40.0) / 2.0;
    let mut canvas = Canvas::new((width, TOP + side + 40.0), title, formula);
    let (mut least, mut scale) = (0.0, 0.0_f64);
    for (k, (caption, m)) in panels.iter().enumerate() {
        panel(&mut canvas, (left + k as f64 * (side + 30.0), TOP), CELL, m.view(), caption);
        scale = scale.max(largest(m.view()));
        if m.iter().any(|&v| v < 0.0) {
            least = -1.0;
        }
    }
    key(&mut canvas, (left + count * (side + 30.0), TOP), side, least * scale, scale);
    Ok(canvas)
}

type Panels = Vec<(&'static str, Array2<f64>)>;

fn panels(mask: Picture) -> Result<(&'static str, &'static str, Panels)> {
    let one = |m: Array2<f64>| vec![("row i (output) below, column j (input) to the right", m)];
    Ok(match mask {
        Picture::Causal => {
            ("Causal mask", "1 for i ≥ j: causal linear attention", one(Causal::new(LEN).to_dense()))
        }
        Picture::Decay => (
            "Decay mask",
            "γ^(i − j) for i ≥ j, here γ = 0.85: retention",
            one(Decay::new(LEN, 0.85)?.to_dense()),
        ),
        Picture::OneSemiseparable => (
            "1-semiseparable mask",
            "aᵢ aᵢ₋₁ ⋯ aⱼ₊₁ for i ≥ j: every step has a decay of its own",
            one(OneSemiseparable::new(decays(LEN))?.to_dense()),
        ),
        Picture::Semiseparable => (
            "Semiseparable matrix of order 4",
            "Cᵢᵀ Aᵢ₋₁ ⋯ Aⱼ₊₁ Bⱼ below a free diagonal",
            one(semiseparable()?),
        ),
        Picture::Toeplitz => (
            "Causal Toeplitz mask",
            "αᵢ₋ⱼ: constant along diagonals, a convolution",
            one(Toeplitz::causal(Array1::from_shape_fn(LEN, filter).view())?.to_dense()),
        ),
        Picture::Fourier => {
            let m: Array2<Complex<f64>> = Fourier::new(LEN, Sign::Negative, Normalization::One).to_dense();
            let panels =
                vec![("real part", m.mapv(|v| tidy(v.re))), ("imaginary part", m.mapv(|v| tidy(v.im)))];
            ("Fourier mask", "exp(−2πi jk/n): mixing without any attention scores", panels)
        }
        Picture::Banded => (
            "Banded mask",
            "1 for 0 ≤ i − j ≤ 6: attention in a window",
            one(Banded::new(LEN, LEN, 6, 0).to_dense()),
        ),
        _ => (
            "Mask of all ones",
            "1 everywhere: linear attention without causality",
            one(AllOnes::new(LEN, LEN).to_dense()),
        ),
    })
}

/// Decays from nearly none to strong, with one step that forgets almost everything.
pub(super) fn decays(len: usize) -> Array1<f64> {
    Array1::from_shape_fn(len, |t| match t {
        _ if t == len * 5 / 8 => 0.12,
        _ => 0.9 + 0.09 * (0.9 * t as f64).sin(),
    })
}

fn filter(k: usize) -> f64 {
    let k = k as f64;
    (0.55 * k).cos() * (-0.09 * k).exp()
}

fn semiseparable() -> Result<Array2<f64>> {
    let order = 4;
    let wave =
        |t: usize, n: usize, shift: f64| (0.35 * t as f64 * (1.0 + 0.4 * n as f64) + n as f64 + shift).sin();
    let a = Array2::from_shape_fn((LEN, order), |(t, n)| 0.93 - 0.06 * n as f64 + 0.03 * wave(t, n, 0.4));
    let b = Array2::from_shape_fn((LEN, order), |(t, n)| wave(t, n, 0.0));
    let c = Array2::from_shape_fn((LEN, order), |(t, n)| wave(t, n, 0.7));
    let m = Sss::uniform(Transition::diagonal(a), b, c, Array1::from_elem(LEN, 1.5))?;
    Ok(m.to_dense())
}

/// Rounding around zero is zero.
fn tidy(v: f64) -> f64 {
    if v.abs() < 1e-12 { 0.0 } else { v }
}
