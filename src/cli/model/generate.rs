//! `semisep generate`: a text continued.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};

use super::super::put;
use super::{check_tokens, tokenizer};
use crate::error::{Error, Result};
use crate::mamba2::generate::{Continuation, Draw, Sampling, Text};

/// Command line of `semisep generate`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("start").required(true))]
pub struct Options {
    /// The model
    #[command(flatten)]
    pub model: super::ModelOptions,
    /// Text to continue
    #[arg(long, value_name = "TEXT", group = "start")]
    pub prompt: Option<String>,
    /// Token ids to continue; the new ids are printed then, and no tokenizer is needed
    #[arg(long, value_name = "ID,...", value_delimiter = ',', group = "start")]
    pub tokens: Option<Vec<u32>>,
    /// The most tokens to add
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_new: usize,
    /// Take the likeliest token always
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    pub greedy: bool,
    /// Below 1: closer to the likeliest tokens
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Keep that many of the likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Keep the fewest tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Keep tokens of at least this share of the largest probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Above 1: what has been said is less likely to be said again
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// What chance depends on
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Text at which to stop; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "tokens")]
    pub stop: Vec<String>,
    /// tokenizer.json to use; by default that of the model
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub tokenizer: Option<PathBuf>,
}

impl Options {
    fn sampling(&self) -> Sampling {
        let draw = match self.greedy {
            true => Draw::Greedy,
            false => Draw::Random {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                seed: self.seed,
            },
        };
        Sampling { repetition_penalty: self.repetition_penalty, draw }
    }
}

/// Reads the prompt, prints token by token, and at the end on standard error how fast that was.
///
/// # Errors
/// [`Error`] if the model, the tokenizer or the prompt is at fault, or standard output does not take the text.
pub fn generate(options: &Options) -> Result<()> {
    options.sampling().validate()?;
    let (checkpoint, model) = options.model.load::<f32>()?;
    let reader = match &options.prompt {
        Some(_) => Some(tokenizer(options.tokenizer.as_deref(), &checkpoint)?),
        None => None,
    };
    let (field, ids) = match (&reader, &options.prompt) {
        (Some(reader), Some(prompt)) => ("--prompt", reader.encode(prompt)?),
        _ => ("--tokens", options.tokens.clone().unwrap_or_default()),
    };
    if ids.is_empty() {
        return Err(Error::Config { field, reason: "expected at least one token, found none".into() });
    }
    check_tokens(field, &ids, model.config().vocab_rows())?;

    let clock = Instant::now();
    let mut continuation = Continuation::new(&model, &[&ids], options.sampling())?;
    let read = clock.elapsed();
    let mut text = reader.as_ref().map(|reader| Text::new(reader, &options.stop));
    let ends = if text.is_some() { checkpoint.end_tokens() } else { Vec::new() };
    let mut added = 0;
    while added < options.max_new {
        let Some(token) = continuation.step()?[0] else { break };
        let gap = if added == 0 { "" } else { " " };
        added += 1;
        match &mut text {
            None => put(&format!("{gap}{token}"))?,
            Some(_) if ends.contains(&token) => break,
            Some(text) => put(&text.push(token)?)?,
        }
        if text.as_ref().is_some_and(Text::has_stopped) {
            break;
        }
    }
    let rest = text.map(Text::finish).transpose()?.unwrap_or_default();
    put(&format!("{rest}\n"))?;
    eprintln!("{}", speeds(ids.len(), read, added, clock.elapsed() - read));
    Ok(())
}

/// One line about prompt and continuation.
fn speeds(prompt: usize, read: Duration, added: usize, spent: Duration) -> String {
    let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
    format!(
        "prompt: {prompt} tokens, {:.1} tokens/s; new: {added} tokens, {:.1} tokens/s",
        rate(prompt, read),
        rate(added, spent)
    )
}
