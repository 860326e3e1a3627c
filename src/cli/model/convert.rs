//! `semisep convert`: a checkpoint in another layout or type.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::put;
use super::open;
use crate::error::Result;
use crate::mamba2::Naming;
use crate::mamba2::checkpoint::Conversion;
use crate::nn::Storage;

/// Command line of `semisep convert`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Folder of the model, or its name on the hub where the tool is built for that
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Folder to write; a new or an empty one
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Whose files and names to write
    #[arg(long)]
    pub layout: Layout,
    /// Type of the weights; by default every tensor keeps its own
    #[arg(long)]
    pub dtype: Option<Type>,
    /// Share the weights out to files of at most so many bytes, such as 500MB or 5GB, with an index
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub shard_size: Option<u64>,
}

/// Layouts by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Hugging Face's: model.safetensors
    Hf,
    /// The authors': pytorch_model.bin
    Original,
}

/// Number types by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// 64 bits
    F64,
    /// 32 bits
    F32,
    /// 16 bits, range of f32
    Bf16,
    /// 16 bits, IEEE
    F16,
}

/// A size in bytes, or in thousands, millions or thousand millions of them.
fn bytes(text: &str) -> std::result::Result<u64, String> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("", 1)];
    let unit = units.iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, each)));
    let size = unit.and_then(|(count, each)| count.parse::<u64>().ok()?.checked_mul(*each));
    size.filter(|&size| size > 0).ok_or_else(|| "expected a size such as 5GB, 500MB or 4096".to_owned())
}

/// Reads and writes, and prints the names of the files of weights.
///
/// # Errors
/// [`crate::Error`] if the checkpoint is not whole, the layout cannot say what it is, or the folder cannot be written.
pub fn convert(options: &Options) -> Result<()> {
    let how = Conversion {
        naming: match options.layout {
            Layout::Hf => Naming::HuggingFace,
            Layout::Original => Naming::Original,
        },
        storage: options.dtype.map(|dtype| match dtype {
            Type::F64 => Storage::F64,
            Type::F32 => Storage::F32,
            Type::Bf16 => Storage::Bf16,
            Type::F16 => Storage::F16,
        }),
        shard_bytes: options.shard_size,
    };
    let files = open(&options.model)?.convert(&options.output, how)?;
    files.iter().try_for_each(|file| put(&format!("{file}\n")))
}
