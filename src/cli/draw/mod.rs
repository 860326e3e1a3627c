//! `semisep draw`: pictures of matrices and of measurements.

mod curves;
mod masks;
mod ranks;
mod ssd;
mod two_sided;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::Pending;
use super::put;
use super::table::Table;
use crate::error::{Error, Result};
use crate::picture::{canvas, heat};
use canvas::Canvas;

/// Command line of `semisep draw`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Name of the picture
    #[arg(required_unless_present = "list")]
    pub name: Option<Picture>,
    /// File to write; replaced if it exists
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    pub output: Option<PathBuf>,
    /// For `bench`: what `semisep bench --json` wrote
    #[arg(long, value_name = "JSON", required_if_eq("name", "bench"))]
    pub from: Option<PathBuf>,
    /// Name the pictures
    #[arg(long)]
    pub list: bool,
}

/// What can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Picture {
    /// Mask of plain linear attention without causality
    AllOnes,
    /// Mask of causal linear attention
    Causal,
    /// Mask of a retentive network: powers of one decay
    Decay,
    /// Mask of the duality: products of the decays in between
    OneSemiseparable,
    /// A semiseparable matrix of order 4
    Semiseparable,
    /// A causal Toeplitz mask
    Toeplitz,
    /// The Fourier mask, real and imaginary part
    Fourier,
    /// Mask of windowed attention
    Banded,
    /// The matrix of an SSD and the roles of its blocks in the block decomposition
    Ssd,
    /// Numerical ranks of the blocks of an SSD matrix
    Ranks,
    /// Singular values of the Hankel blocks of a smooth kernel, and its orders when rounded
    Hankel,
    /// Sizes of the entries of a two-sided matrix
    Spy,
    /// Time per token over length, from a measurement
    Bench,
}

/// Draws one picture, or lists them.
///
/// # Errors
/// [`Error::File`] if the picture cannot be written or the measurement cannot be read.
pub fn draw(options: &Options) -> Result<()> {
    let (Some(name), Some(output)) = (options.name, &options.output) else {
        return put(&list());
    };
    if options.list {
        return put(&list());
    }
    let pending = Pending::new(output)?;
    pending.commit(picture(name, options)?.render().as_bytes())
}

fn picture(name: Picture, options: &Options) -> Result<Canvas> {
    match (name, &options.from) {
        (Picture::Bench, Some(path)) => curves::draw(path),
        (Picture::Bench, None) => {
            Err(Error::Config { field: "--from", reason: "expected the file of a measurement".into() })
        }
        (_, Some(_)) => {
            Err(Error::Config { field: "--from", reason: "only `bench` is drawn from a file".into() })
        }
        (Picture::Ssd, None) => ssd::draw(),
        (Picture::Ranks, None) => ranks::draw(),
        (Picture::Hankel, None) => two_sided::draw_hankel(),
        (Picture::Spy, None) => two_sided::draw_spy(),
        (mask, None) => masks::draw(mask),
    }
}

fn list() -> String {
    let mut table = Table::new(&["name", "picture"], 2);
    for value in Picture::value_variants().iter().filter_map(Picture::to_possible_value) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        table.push(vec![value.get_name().to_owned(), help]);
    }
    table.render()
}
