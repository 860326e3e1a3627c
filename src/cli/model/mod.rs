//! Commands about models: what they share.

pub mod convert;
pub mod generate;
pub mod help;
pub mod inspect;
pub mod lines;
pub mod logits;
pub mod perplexity;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::mamba2::Model;
use crate::mamba2::checkpoint::Checkpoint;
use crate::mamba2::generate::Tokenizer;
use crate::nn::{Storage, Weight};
use crate::scalar::Real;

/// The model of a command, and how it is to run.
#[derive(Debug, Clone, Args)]
pub struct ModelOptions {
    /// Folder of the model, or its name on the hub where the tool is built for that
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Type in which matrices are held; by default that of the files
    #[arg(long)]
    pub dtype: Option<Type>,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Types of weights by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// 32 bits
    F32,
    /// 16 bits, range of f32
    Bf16,
    /// 16 bits, IEEE
    F16,
}

/// Places to compute by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor, on all threads
    Cpu,
}

impl From<Type> for Storage {
    fn from(of: Type) -> Self {
        match of {
            Type::F32 => Self::F32,
            Type::Bf16 => Self::Bf16,
            Type::F16 => Self::F16,
        }
    }
}

impl ModelOptions {
    /// The model, ready to compute in `A`.
    fn load<A: Real>(&self) -> Result<(Checkpoint, Model<Weight<A>>)> {
        let Device::Cpu = self.device;
        let checkpoint = open(&self.model)?;
        let model = match self.dtype {
            None => checkpoint.model(),
            Some(dtype) => checkpoint.model_in(dtype.into()),
        }?;
        Ok((checkpoint, model))
    }
}

/// The checkpoint in a folder, or on the hub.
fn open(model: &str) -> Result<Checkpoint> {
    let folder = Path::new(model);
    if folder.exists() {
        return Checkpoint::open(folder);
    }
    #[cfg(feature = "hub")]
    return Checkpoint::open(&crate::mamba2::checkpoint::fetch(model)?);
    #[cfg(not(feature = "hub"))]
    Err(super::in_file(folder, "no such folder, and this tool is built without the feature `hub`"))
}

/// The tokenizer at `given`, else that of the model.
fn tokenizer(given: Option<&Path>, checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => own_tokenizer(checkpoint)?,
    };
    let tokenizer = Tokenizer::open(&path)?;
    tokenizer.check(checkpoint.config().vocab_rows())?;
    Ok(tokenizer)
}

fn own_tokenizer(checkpoint: &Checkpoint) -> Result<PathBuf> {
    let path = checkpoint.folder().join("tokenizer.json");
    if path.exists() {
        return Ok(path);
    }
    // The authors' repositories have none: all of their models have the tokens of this one.
    #[cfg(feature = "hub")]
    if checkpoint.naming() == crate::mamba2::Naming::Original {
        return crate::mamba2::checkpoint::fetch_file("EleutherAI/gpt-neox-20b", "tokenizer.json");
    }
    let reason = "missing; give one with --tokenizer, or token ids with --tokens where there is that option";
    Err(super::in_file(&path, reason))
}

/// `Ok` if every id is that of a token of the model.
fn check_tokens(field: &'static str, ids: &[u32], rows: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= rows) {
        None => Ok(()),
        Some(k) => {
            let reason = format!("expected token ids from 0 to {}, found {} at {k}", rows - 1, ids[k]);
            Err(Error::Config { field, reason })
        }
    }
}
