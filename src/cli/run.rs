//! `semisep ssd`: the operator on the tensors of a file.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use half::{bf16, f16};
use safetensors::Dtype;

use super::case::{Case, read_bytes};
use super::machine::{Device, Machine, Number};
use super::operator::{Kept, Named, Operator, named_output, rounded};
use super::output::{Pending, Tensor, safetensors_bytes};
use super::progress::bar;
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};
use crate::ssd::{Algorithm, Output};

/// Command line of `semisep ssd`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Operator file
    pub input: PathBuf,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How to multiply; by default the fastest for the length, or chunked where --chunk is given
    #[arg(long)]
    pub algorithm: Option<How>,
    /// Block length of the chunked algorithm
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(allow_negative_numbers = true)]
    pub chunk: Option<u64>,
    /// Type in which x, B, C and z are held
    #[arg(long, default_value = "f64")]
    pub dtype: Type,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Also write gradients; needs dy and dfinal_state
    #[arg(long)]
    pub grad: bool,
}

/// Algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// Forms the matrix of each head
    Quadratic,
    /// Steps through the state
    Recurrent,
    /// Blocks
    Chunked,
}

/// Number types by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// 64 bits
    F64,
    /// 32 bits
    F32,
    /// 16 bits, range of f32; computed in f32
    Bf16,
    /// 16 bits, IEEE; computed in f32
    F16,
}

impl Options {
    /// The algorithm that the options ask for.
    fn how(&self) -> Result<Algorithm> {
        let chunk = self.chunk.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match (self.algorithm, chunk) {
            (None, None) => Ok(Algorithm::Automatic),
            (None | Some(How::Chunked), Some(chunk)) => Ok(Algorithm::Chunked { chunk }),
            (Some(How::Chunked), None) => Ok(Algorithm::Chunked { chunk: Algorithm::CHUNK }),
            (Some(How::Quadratic), None) => Ok(Algorithm::Quadratic),
            (Some(How::Recurrent), None) => Ok(Algorithm::Recurrent),
            (Some(How::Quadratic | How::Recurrent), Some(_)) => Err(Error::Config {
                field: "--chunk",
                reason: "only the chunked algorithm has chunks".into(),
            }),
        }
    }
}

/// Reads, computes, writes.
///
/// # Errors
/// [`Error::File`] if the input is not a case or the output cannot be written, [`Error::Config`] if options
/// contradict each other.
pub fn run(options: &Options) -> Result<()> {
    let how = options.how()?;
    let bytes = read_bytes(&options.input)?;
    let file = TensorFile::new(&options.input, &bytes)?;
    let case = Case::new(&file)?;
    let cotangent = if options.grad { Some(case.cotangent(&file)?) } else { None };
    let pending = Pending::new(&options.output)?;
    let machine = Machine::open(options.device)?;
    let tensors = match options.dtype {
        Type::F64 => compute::<f64>(&case, &machine, how, cotangent, (Dtype::F64, Dtype::F64)),
        Type::F32 => compute::<f32>(&case, &machine, how, cotangent, (Dtype::F32, Dtype::F32)),
        Type::Bf16 => compute::<bf16>(&case, &machine, how, cotangent, (Dtype::BF16, Dtype::F32)),
        Type::F16 => compute::<f16>(&case, &machine, how, cotangent, (Dtype::F16, Dtype::F32)),
    }?;
    pending.commit(&safetensors_bytes(&options.output, &tensors, HashMap::new())?)
}

/// All results, each with the type it takes in the file: that of storage or that of computing.
fn compute<T: Number>(
    case: &Case,
    machine: &Machine,
    how: Algorithm,
    cotangent: Option<&Output<f64>>,
    (stored, computed): (Dtype, Dtype),
) -> Result<Vec<Tensor>> {
    let bar = bar(1 + usize::from(cotangent.is_some()));
    bar.set_message("forward");
    let (operator, place) = (Operator::<T>::new(case), machine.place::<T>());
    let mut results: Vec<Named> = named_output(&operator.forward(&*place, how)?);
    bar.inc(1);
    if let Some(cotangent) = cotangent {
        bar.set_message("gradient");
        results.extend(operator.vjp(&*place, how, &rounded(cotangent))?.named());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let dtype = |kept| match kept {
        Kept::Stored => stored,
        Kept::Computed => computed,
    };
    Ok(results.into_iter().map(|r| Tensor { name: r.name, dtype: dtype(r.kept), values: r.values }).collect())
}
