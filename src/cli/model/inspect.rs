//! `semisep inspect`: what a checkpoint holds.

use clap::Args;

use super::super::table::Table;
use super::super::{in_file, put};
use super::open;
use crate::error::Result;
use crate::mamba2::checkpoint::Checkpoint;
use crate::mamba2::{Config, Naming};

/// Command line of `semisep inspect`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Folder of the model, or its name on the hub where the tool is built for that
    #[arg(value_name = "MODEL")]
    pub model: String,
}

/// Prints sizes, parameters, layers, types, and what is missing.
///
/// # Errors
/// [`crate::Error::File`] if there is no checkpoint, or one that is not whole; that is told after all that is there.
pub fn inspect(options: &Options) -> Result<()> {
    let checkpoint = open(&options.model)?;
    let report = checkpoint.report();
    put(&table(&checkpoint)?.render())?;
    put(&format!("\n{report}\n"))?;
    if report.is_clean() { Ok(()) } else { Err(in_file(checkpoint.folder(), report)) }
}

fn table(checkpoint: &Checkpoint) -> Result<Table> {
    let config = checkpoint.config();
    let mut table = Table::new(&["key", "value"], 2);
    let mut row = |key: &str, value: String| table.push(vec![key.to_owned(), value]);
    row(
        "layout",
        match checkpoint.naming() {
            Naming::Original => "original".into(),
            Naming::HuggingFace => "hf".into(),
        },
    );
    row("parameters", grouped(config.parameter_count()?));
    row(
        "vocabulary",
        match config.vocab_rows() {
            rows if rows == config.vocab_size => format!("{rows}"),
            rows => format!("{}, padded to {rows}", config.vocab_size),
        },
    );
    row("width", config.d_model.to_string());
    row("head", if config.tie_embeddings { "the embedding".into() } else { "its own".into() });
    row("layers", layers(config));
    let limits = config.dt_limits;
    row(
        "Mamba-2",
        format!(
            "inner width {}, {} heads of {}, state {}, {} groups, convolution {}{}{}",
            config.d_inner(),
            config.heads(),
            config.head_dim,
            config.state_dim,
            config.groups,
            config.conv_width,
            if config.conv_bias { "" } else { " without bias" },
            if config.proj_bias { ", projections with bias" } else { "" },
        ),
    );
    row("steps", format!("between {} and {}", limits.0, limits.1));
    if let Some(of) = &config.attention {
        row(
            "attention",
            format!(
                "{} heads of {}, {} of keys and values, {} channels rotated, convolution {}",
                of.heads, of.head_dim, of.kv_heads, of.rotary_dim, of.conv_width
            ),
        );
    }
    if let Some(of) = &config.mlp {
        row("MLP", format!("inner width {}", of.hidden()));
    }
    for (dtype, (count, bytes)) in checkpoint.stored() {
        row("stored", format!("{} numbers of {dtype}, {:.1} MB", grouped(count), bytes as f64 / 1e6));
    }
    Ok(table)
}

/// How many blocks of each kind, and which.
fn layers(config: &Config) -> String {
    let attention = config.attention.as_ref().map_or(&[][..], |attention| &attention.layers);
    let mamba = config.n_layer - attention.len();
    let mut kinds = Vec::new();
    if mamba > 0 {
        kinds.push(format!("{mamba} Mamba-2"));
    }
    if !attention.is_empty() {
        kinds.push(format!("{} attention {attention:?}", attention.len()));
    }
    if let Some(mlp) = &config.mlp {
        kinds.push(format!("{} with MLP", mlp.layers.len()));
    }
    format!("{}: {}", config.n_layer, kinds.join(", "))
}

/// A number with its digits in threes.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let threes = digits.as_bytes().rchunks(3).rev().map(|three| String::from_utf8_lossy(three).into_owned());
    threes.collect::<Vec<_>>().join(" ")
}
