//! `semisep logits`: what a model thinks of tokens in a file.

use std::path::PathBuf;

use clap::Args;
use ndarray::{Array2, Array3, Axis, s};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use super::super::case::read_bytes;
use super::super::in_file;
use super::super::output::Pending;
use super::super::progress::bar;
use super::super::tensor_file::TensorFile;
use crate::error::{Error, Result};
use crate::mamba2::{Model, State, Tokens};
use crate::nn::Weight;

/// Command line of `semisep logits`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The model
    #[command(flatten)]
    pub model: super::ModelOptions,
    /// File with `input_ids` (batch, len), I64
    #[arg(long, value_name = "FILE")]
    pub tokens_file: PathBuf,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Run the sequence in pieces of these lengths, the state going on from one to the next
    #[arg(long, value_name = "N,...", value_delimiter = ',', allow_negative_numbers = true)]
    pub split: Option<Vec<usize>>,
}

/// Reads, computes, writes.
///
/// # Errors
/// [`Error::File`] if a file is at fault, [`Error::Config`] if the pieces do not sum to the length.
pub fn logits(options: &Options) -> Result<()> {
    let (_, model) = options.model.load::<f64>()?;
    let bytes = read_bytes(&options.tokens_file)?;
    let file = TensorFile::new(&options.tokens_file, &bytes)?;
    let ids = ids(&file, model.config().vocab_rows())?;
    let pieces = pieces(options.split.as_deref(), ids.ncols())?;
    let pending = Pending::new(&options.output)?;
    let logits = run(&model, &ids, &pieces)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
    let wrong = |e: SafeTensorError| in_file(&options.output, e);
    let view = TensorView::new(Dtype::F32, logits.shape().to_vec(), &bytes).map_err(wrong)?;
    pending.commit(&safetensors::serialize([("logits", view)], None).map_err(wrong)?)
}

/// The tokens of the file, each of them one of the model's.
fn ids(file: &TensorFile<'_>, rows: usize) -> Result<Array2<u32>> {
    let name = "input_ids";
    let ids = file.long_integers(name)?.ok_or_else(|| file.wrong(name, "missing"))?;
    let ids: Array2<i64> = file.ranked(name, "(batch, len)", ids)?;
    if ids.is_empty() {
        let reason = format!("expected at least one sequence of at least one token, found {:?}", ids.dim());
        return Err(file.wrong(name, reason));
    }
    let token = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < rows);
    if let Some((at, id)) = ids.indexed_iter().find(|&(_, &id)| token(id).is_none()) {
        let reason = format!("expected ids from 0 to {}, found {id} at {at:?}", rows - 1);
        return Err(file.wrong(name, reason));
    }
    Ok(ids.mapv(|id| token(id).unwrap_or_default()))
}

/// Lengths of the pieces in which the sequences are run.
fn pieces(split: Option<&[usize]>, len: usize) -> Result<Vec<usize>> {
    let Some(pieces) = split else { return Ok(vec![len]) };
    let sum = pieces.iter().try_fold(0, |sum: usize, &n| sum.checked_add(n));
    if sum == Some(len) && !pieces.contains(&0) {
        return Ok(pieces.to_vec());
    }
    let reason = format!("expected lengths above 0 that sum to {len}, found {pieces:?}");
    Err(Error::Config { field: "--split", reason })
}

/// Logits (batch, len, vocabulary), computed in f64 from weights of any type: what is left is the error of the model's own
/// numbers, where a pass in f32 may be off by hundreds of roundings.
fn run(model: &Model<Weight<f64>>, ids: &Array2<u32>, pieces: &[usize]) -> Result<Array3<f32>> {
    let (batch, len) = ids.dim();
    let mut state = State::new(model.config(), batch)?;
    let mut logits = Array3::zeros((batch, len, model.config().vocab_rows()));
    let bar = bar(len);
    let mut start = 0;
    for &piece in pieces {
        let part = ids.slice(s![.., start..start + piece]);
        let rows: Vec<Vec<u32>> = part.rows().into_iter().map(|row| row.to_vec()).collect();
        let found = model.forward(&Tokens::packed(&rows), &mut state)?; // (batch · piece, vocabulary)
        for (mut to, from) in logits.outer_iter_mut().zip(found.axis_chunks_iter(Axis(0), piece)) {
            to.slice_mut(s![start..start + piece, ..]).assign(&from.mapv(|v| v as f32));
        }
        start += piece;
        bar.inc(piece as u64);
    }
    bar.finish_and_clear();
    Ok(logits)
}
