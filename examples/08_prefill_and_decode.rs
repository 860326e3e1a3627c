//! Lesson 8: prefill and decoding are the same thing.
//!
//! One function reads any number of tokens from any state. A prompt is many at once, a decoding step is one, and a batch is
//! several sequences packed one after the other, whatever their lengths.
//!
//! `cargo run --example 08_prefill_and_decode`

use std::time::Instant;

use ndarray::{ArrayView2, s};
use semisep::mamba2::{Config, Model, State, Tokens};
use semisep::nn::Weight;

fn main() -> semisep::Result<()> {
    let config = Config { state_dim: 16, head_dim: 16, ..Config::new(64, 3, 100) };
    let model = Model::<Weight<f32>>::random(&config, 8)?;
    let ids: Vec<u32> = (0..200u32).map(|t| t * t % 97).collect();

    let mut whole = State::new(&config, 1)?;
    let expected = model.forward(&Tokens::one(&ids), &mut whole)?;
    println!("{:>28} {:>12} {:>12}", "the 200 tokens in pieces of", "time", "difference");
    for length in [200, 64, 17, 1] {
        let (mut state, mut worst, start) = (State::new(&config, 1)?, 0.0, Instant::now());
        for (k, piece) in ids.chunks(length).enumerate() {
            let found = model.forward(&Tokens::one(piece), &mut state)?;
            let there = expected.slice(s![k * length..k * length + piece.len(), ..]);
            worst = f32::max(worst, difference(found.view(), there));
        }
        println!("{length:>28} {:>9.2} ms {worst:>12.1e}", start.elapsed().as_secs_f64() * 1e3);
    }
    println!("\nWhat is remembered: {} bytes after 1 token or a million.", whole.bytes());

    let batch = [&ids[..50], &ids[50..53], &ids[53..120]];
    let mut states = State::new(&config, batch.len())?;
    let together = model.advance(&Tokens::packed(&batch), &mut states)?;
    println!("\nThree prompts of 50, 3 and 67 tokens packed in one row of 120, no padding:");
    for (k, prompt) in batch.iter().enumerate() {
        let alone = model.advance(&Tokens::one(prompt), &mut State::new(&config, 1)?)?;
        let worst = difference(together.slice(s![k..k + 1, ..]), alone.view());
        println!("  prompt {k} differs from itself alone by {worst:.1e}");
    }

    let (snapshot, fork) = (states.snapshot(), states.clone());
    model.advance(&Tokens::packed(&[[1], [2], [3]]), &mut states)?;
    states.rewind(&snapshot)?;
    println!("\nA snapshot taken before a step brings the state back: {}", states == fork);
    Ok(())
}

fn difference(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> f32 {
    a.iter().zip(b).fold(0.0, |worst, (a, b)| worst.max((a - b).abs()))
}
