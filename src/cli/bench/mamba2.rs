//! `semisep bench --suite mamba2`: prefill and decoding of a model of the size of mamba2-130m, with random weights.

use indicatif::ProgressBar;

use super::ceilings::Yardstick;
use super::clock::{MOST_SAMPLES, beforehand, in_turn, median, seconds};
use super::memory::peak_during;
use super::{Measured, Row, Suite, Unit};
use crate::error::Result;
use crate::mamba2::{Config, Model, State, Tokens};
use crate::nn::{Storage, Weight};

/// Progress steps beside the lengths.
pub(super) const STEPS: usize = 2;

/// Prefill of every length, then decoding by weights stored in three types.
pub(super) fn rows(
    suite: &Suite,
    (config, lengths): (&Config, &[usize]),
    threads: usize,
    bar: &ProgressBar,
    measured: &mut Measured,
) -> Result<()> {
    bar.set_message("random weights");
    let model = Model::<Weight<f32>>::random(config, 0)?;
    bar.inc(1);
    let mut shorter: Option<(usize, f64)> = None;
    for &len in lengths {
        bar.set_message(format!("prefill, length {len}"));
        bar.inc(1);
        let ids: Vec<u32> = (0..len).map(|t| (t * 7919 % config.vocab_size) as u32).collect();
        let tokens = Tokens::one(&ids);
        let (first, extra) = peak_during(|| prefill(&model, &tokens));
        first?;
        let yardstick = Yardstick::<f32>::product(suite.yardstick, threads);
        let mut row = timed(suite, yardstick, operations(config, len), || prefill(&model, &tokens))?;
        (row.threads, row.len, row.extra) = (threads, len, extra);
        row.growth = shorter.map(|(n, seconds)| (row.seconds / seconds).ln() / (len as f64 / n as f64).ln());
        shorter = Some((len, row.seconds));
        measured.rows.push(row);
    }
    bar.set_message("decoding");
    bar.inc(1);
    measured.rows.extend(decoding(suite, model, threads)?);
    Ok(())
}

/// A token by weights of every storage and a copy in turn, since what counts is how they compare.
fn decoding(suite: &Suite, model: Model<Weight<f32>>, threads: usize) -> Result<Vec<Row>> {
    const STORED: [Storage; 3] = [Storage::F32, Storage::Bf16, Storage::F16];
    let mut models = Vec::new();
    for storage in STORED {
        models.push((model.map(|w| w.stored_as(storage)), State::new(model.config(), 1)?, Vec::new()));
    }
    drop(model);
    let mut yardstick = Yardstick::<f32>::copy(suite.copied);
    let mut copies = beforehand(|| yardstick.run());
    let (mut spent, mut round) = (0.0, 0);
    while round <= 3 || (spent < STORED.len() as f64 * suite.effort.budget && round <= MOST_SAMPLES) {
        for (model, state, times) in &mut models {
            copies.push(seconds(|| yardstick.run()));
            let mut result = Ok(());
            let time = seconds(|| result = model.advance(&Tokens::one(&[1]), state).map(drop));
            result?;
            if round > 0 {
                times.push(time);
                spent += time;
            }
        }
        round += 1;
    }
    let ceiling = yardstick.amount() / median(&mut copies);
    let rows = STORED.into_iter().zip(models).map(|(storage, (model, _, mut times))| {
        let seconds = median(&mut times);
        let rate = bytes(&model) / seconds;
        Row {
            threads,
            dtype: storage.name(),
            len: 1,
            unit: Unit::Bytes,
            ..row("decoding a token", seconds, rate, ceiling)
        }
    });
    Ok(rows.collect())
}

fn prefill(model: &Model<Weight<f32>>, tokens: &Tokens) -> Result<()> {
    model.advance(tokens, &mut State::new(model.config(), 1)?).map(drop)
}

/// Times of a prefill and of the yardstick in turn, after a run of each.
fn timed(
    suite: &Suite,
    mut yardstick: Yardstick<f32>,
    amount: f64,
    mut work: impl FnMut() -> Result<()>,
) -> Result<Row> {
    work()?;
    let before = beforehand(|| yardstick.run());
    let mut result = Ok(());
    let mut work = || {
        if let Err(wrong) = work() {
            result = Err(wrong);
        }
    };
    let first = seconds(&mut work);
    let (seconds, limit) = in_turn(suite.effort, (first, before), &mut work, || yardstick.run());
    result?;
    Ok(row("prefill, last logits", seconds, amount / seconds, yardstick.amount() / limit))
}

/// A row of operations in f32.
fn row(name: &str, seconds: f64, rate: f64, ceiling: f64) -> Row {
    let (extra, growth) = (None, None);
    Row {
        name: name.into(),
        dtype: "f32",
        threads: 1,
        len: 0,
        seconds,
        unit: Unit::Operations,
        rate,
        ceiling,
        extra,
        growth,
    }
}

/// Operations of the projections of all positions, of their states, and of the head at the last one.
fn operations(config: &Config, len: usize) -> f64 {
    let projections = 2 * config.d_model * (config.in_proj_dim() + config.d_inner());
    let states = 4 * config.d_ssm * config.state_dim;
    let head = 2 * config.vocab_rows() * config.d_model;
    (len * config.n_layer * (projections + states) + head) as f64
}

/// Bytes of all weights, each of which a token reads once, and of the state, which it reads and writes.
fn bytes(model: &Model<Weight<f32>>) -> f64 {
    let mut sum = 0;
    model.for_each(|_, w| sum += w.numbers().len() * w.numbers().storage().bytes());
    let config = model.config();
    (sum + 2 * config.n_layer * config.d_ssm * config.state_dim * size_of::<f32>()) as f64
}
