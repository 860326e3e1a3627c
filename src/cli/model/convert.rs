//! `semisep convert`: a checkpoint in another layout or type.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::open;
use crate::error::Result;
use crate::mamba2::Naming;
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

/// Reads and writes.
///
/// # Errors
/// [`crate::Error`] if the checkpoint is not whole, the layout cannot say what it is, or the folder cannot be written.
pub fn convert(options: &Options) -> Result<()> {
    let naming = match options.layout {
        Layout::Hf => Naming::HuggingFace,
        Layout::Original => Naming::Original,
    };
    let dtype = options.dtype.map(|dtype| match dtype {
        Type::F64 => Storage::F64,
        Type::F32 => Storage::F32,
        Type::Bf16 => Storage::Bf16,
        Type::F16 => Storage::F16,
    });
    open(&options.model)?.convert(&options.output, naming, dtype)
}
