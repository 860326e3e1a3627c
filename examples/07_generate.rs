//! Lesson 7: a model is trained and generates, all made on the spot.
//!
//! A tiny random model learns a tune by plain descent on the gradient of its loss, then continues it token by token.
//!
//! `cargo run --example 07_generate`

use semisep::mamba2::{Config, Model, State, Tokens};
use semisep::nn::Weight;

const NOTES: [&str; 6] = ["c", "d", "e", "f", "g", "a"];
const TUNE: [u32; 12] = [0, 0, 4, 4, 5, 5, 4, 3, 3, 2, 2, 1];

fn main() -> semisep::Result<()> {
    let config = Config { state_dim: 8, head_dim: 8, ..Config::new(16, 2, NOTES.len()) };
    let mut model = Model::<Weight<f32>>::random(&config, 7)?;
    println!("{} parameters, {} notes", config.parameter_count()?, NOTES.len());
    println!("untrained: {}", sing(&continued(&model, &TUNE[..2], 22)?));

    let tokens = Tokens::one(&TUNE.repeat(2));
    let start = State::new(&config, 1)?;
    for step in 0..=120 {
        let (loss, grad) = model.loss_vjp(&tokens, &tokens.next(), &start)?;
        if step % 40 == 0 {
            println!("step {step:>3}: loss {loss:.3}");
        }
        // Model and gradient are the same struct with other leaves.
        model = model.zip_map(&grad.parameters, |w, d| Weight::from(w.to_array() - d * 0.3))?;
    }
    println!("trained:   {}", sing(&continued(&model, &TUNE[..2], 22)?));
    println!("the tune:  {}", sing(&TUNE.repeat(2)));
    Ok(())
}

/// The prompt and `count` more tokens, each the most likely one.
fn continued(model: &Model<Weight<f32>>, prompt: &[u32], count: usize) -> semisep::Result<Vec<u32>> {
    let mut state = State::new(model.config(), 1)?;
    let mut all = prompt.to_vec();
    let mut read = Tokens::one(prompt); // the prompt in one pass, then a token at a time
    for _ in 0..count {
        let logits = model.advance(&read, &mut state)?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(k, _)| k as u32);
        all.push(best);
        read = Tokens::one(&[best]);
    }
    Ok(all)
}

fn sing(tokens: &[u32]) -> String {
    tokens.iter().map(|&k| NOTES[k as usize]).collect::<Vec<_>>().join(" ")
}
