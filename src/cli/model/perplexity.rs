//! `semisep perplexity`: how well a model foresees a text.

use std::path::PathBuf;

use clap::Args;

use super::super::case::read_bytes;
use super::super::progress::bar;
use super::super::{in_file, put};
use super::tokenizer;
use crate::error::Result;
use crate::mamba2::generate::perplexity as of_tokens;

/// Command line of `semisep perplexity`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The model
    #[command(flatten)]
    pub model: super::ModelOptions,
    /// Text file, UTF-8
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// tokenizer.json to use; by default that of the model
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

/// Reads the text and prints its perplexity.
///
/// # Errors
/// [`crate::Error`] if the model, the tokenizer or the text is at fault.
pub fn perplexity(options: &Options) -> Result<()> {
    let bytes = read_bytes(&options.file)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| in_file(&options.file, e))?;
    let (checkpoint, model) = options.model.load::<f32>()?;
    let ids = tokenizer(options.tokenizer.as_deref(), &checkpoint)?.encode(text)?;
    if ids.len() < 2 {
        let reason = format!("expected a text of at least two tokens, found {}", ids.len());
        return Err(in_file(&options.file, reason));
    }
    let bar = bar(ids.len() - 1);
    let found = of_tokens(&model, &ids, |count| bar.set_position(count as u64))?;
    bar.finish_and_clear();
    put(&format!(
        "perplexity {:.4} ({:.6} nats a token, {} tokens, {:.4} bits a byte)\n",
        found.value(),
        found.mean(),
        found.count,
        found.surprise / std::f64::consts::LN_2 / bytes.len() as f64
    ))
}
