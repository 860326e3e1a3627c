//! `semisep generate`: a text continued.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};

use super::lines::Lines;
use super::{check_tokens, tokenizer};
use crate::error::{Error, Result};
use crate::mamba2::generate::{Continuation, Draw, Sampling, Tokenizer};

/// Command line of `semisep generate`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("start").required(true))]
pub struct Options {
    /// The model
    #[command(flatten)]
    pub model: super::ModelOptions,
    /// Text to continue; may be given several times
    #[arg(long, value_name = "TEXT", group = "start")]
    pub prompt: Vec<String>,
    /// Token ids to continue; the new ids are printed then, and no tokenizer is needed; may be given several times
    #[arg(long, value_name = "ID,...", value_parser = Ids::parse, group = "start")]
    pub tokens: Vec<Ids>,
    /// The most tokens to add to each prompt
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true)]
    pub max_new: usize,
    /// Take the likeliest token always
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "seed"])]
    pub greedy: bool,
    /// Below 1: closer to the likeliest tokens
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Keep that many of the likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0, allow_negative_numbers = true)]
    pub top_k: usize,
    /// Keep the fewest tokens whose probabilities sum to P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Keep tokens of at least this share of the largest probability
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f64,
    /// Above 1: what has been said is less likely to be said again
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    pub repetition_penalty: f64,
    /// What chance depends on
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
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

/// Token ids of one prompt.
#[derive(Debug, Clone)]
pub struct Ids(Vec<u32>);

impl Ids {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let id = |word: &str| word.trim().parse().map_err(|_| format!("`{word}` is not a token id"));
        text.split(',').map(id).collect::<std::result::Result<_, _>>().map(Self)
    }
}

/// Reads the prompts, prints what comes token by token, and at the end on standard error how fast that was.
///
/// # Errors
/// [`Error`] if the model, the tokenizer or a prompt is at fault, or standard output does not take the text.
pub fn generate(options: &Options) -> Result<()> {
    options.sampling().validate()?;
    let (checkpoint, model) = options.model.load::<f32>()?;
    let reader = match options.prompt.is_empty() {
        false => Some(tokenizer(options.tokenizer.as_deref(), &checkpoint)?),
        true => None,
    };
    let prompts = prompts(options, reader.as_ref(), model.config().vocab_rows())?;
    let mut lines = match &reader {
        Some(reader) => Lines::of_text(prompts.len(), reader, &options.stop, checkpoint.end_tokens()),
        None => Lines::of_ids(prompts.len()),
    };

    let clock = Instant::now();
    let mut continuation = Continuation::new(&model, &prompts, options.sampling())?;
    let read = clock.elapsed();
    for _ in 0..options.max_new {
        if continuation.has_ended() {
            break;
        }
        for (k, token) in continuation.step()?.into_iter().enumerate() {
            if let Some(token) = token
                && !lines.push(k, token)?
            {
                continuation.end(k);
            }
        }
    }
    let added = lines.finish()?;
    eprintln!("{}", speeds(prompts.iter().map(Vec::len).sum(), read, added, clock.elapsed() - read));
    Ok(())
}

/// The prompts as tokens of the model, which has `rows` of them.
fn prompts(options: &Options, reader: Option<&Tokenizer>, rows: usize) -> Result<Vec<Vec<u32>>> {
    let (field, prompts) = match reader {
        Some(reader) => {
            ("--prompt", options.prompt.iter().map(|text| reader.encode(text)).collect::<Result<_>>()?)
        }
        None => ("--tokens", options.tokens.iter().map(|ids| ids.0.clone()).collect::<Vec<_>>()),
    };
    for ids in &prompts {
        if ids.is_empty() {
            return Err(Error::Config { field, reason: "expected at least one token, found none".into() });
        }
        check_tokens(field, ids, rows)?;
    }
    Ok(prompts)
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
