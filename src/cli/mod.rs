//! The command-line tool: one file per command, and what they share.
//!
//! Results go to standard output, progress and errors to standard error; an error is one line. Exit status: 0 when
//! all is well, 1 when a verification fails, 2 when the input or the command line is at fault.
//!
//! `generate` alone prints as it goes, and its speed on standard error.

pub mod bench;
pub mod case;
pub mod draw;
pub mod golden;
pub mod help;
#[cfg(feature = "cuda")]
pub mod kernels;
pub mod machine;
pub mod model;
pub mod operator;
pub mod output;
pub mod progress;
pub mod run;
pub mod table;
pub mod tensor_file;
pub mod verify;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use crate::error::in_file;
use crate::error::{Error, Result};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "semisep",
    version,
    about = help::ABOUT,
    long_about = help::LONG,
    after_long_help = help::EXAMPLES,
    arg_required_else_help = false
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare every algorithm, forward and gradient, with reference results
    #[command(long_about = help::VERIFY)]
    Verify(verify::Options),
    /// Compute the operator on the tensors of a file
    #[command(long_about = help::SSD)]
    Ssd(run::Options),
    /// Measure every algorithm against the limits of this machine
    #[command(long_about = help::BENCH)]
    Bench(bench::Options),
    /// Draw a mask, an SSD matrix, its ranks, or a benchmark
    #[command(long_about = help::DRAW)]
    Draw(draw::Options),
    /// Compile the GPU kernels ahead of time
    #[cfg(feature = "cuda")]
    #[command(long_about = help::KERNELS)]
    Kernels(kernels::Options),
    /// Continue a text or a sequence of tokens with a model
    #[command(long_about = model::help::GENERATE)]
    Generate(model::generate::Options),
    /// Compute a model's logits for the tokens of a file
    #[command(long_about = model::help::LOGITS)]
    Logits(model::logits::Options),
    /// Show what a checkpoint holds
    #[command(long_about = model::help::INSPECT)]
    Inspect(model::inspect::Options),
    /// Measure how well a model foresees a text
    #[command(long_about = model::help::PERPLEXITY)]
    Perplexity(model::perplexity::Options),
    /// Write a checkpoint in another layout or type
    #[command(long_about = model::help::CONVERT)]
    Convert(model::convert::Options),
}

/// How a command that did not fail has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// A comparison exceeded its limit.
    Exceeded,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run_from(std::env::args_os())
}

fn run_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(wrong) if !wrong.use_stderr() => return finish(put(&wrong.render().to_string())),
        Err(wrong) => return fail(&first_paragraph(&wrong.render().to_string())),
    };
    let verdict = match &arguments.command {
        Command::Verify(options) => verify::verify(options),
        Command::Ssd(options) => run::run(options).map(|()| Verdict::Good),
        Command::Bench(options) => bench::bench(options).map(|()| Verdict::Good),
        #[cfg(feature = "cuda")]
        Command::Kernels(options) => kernels::kernels(options).map(|()| Verdict::Good),
        Command::Draw(options) => draw::draw(options).map(|()| Verdict::Good),
        Command::Generate(options) => model::generate::generate(options).map(|()| Verdict::Good),
        Command::Logits(options) => model::logits::logits(options).map(|()| Verdict::Good),
        Command::Inspect(options) => model::inspect::inspect(options).map(|()| Verdict::Good),
        Command::Perplexity(options) => model::perplexity::perplexity(options).map(|()| Verdict::Good),
        Command::Convert(options) => model::convert::convert(options).map(|()| Verdict::Good),
    };
    match verdict {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Exceeded) => ExitCode::from(1),
        Err(wrong) => fail(&format!("error: {wrong}")),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => fail(&format!("error: {wrong}")),
    }
}

/// Prints one line on standard error, whatever `message` holds.
fn fail(message: &str) -> ExitCode {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(std::io::stderr(), "{line}"); // with no standard error there is nobody left to tell
    ExitCode::from(2)
}

/// What a usage error says before its hints, on one line.
fn first_paragraph(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Prints on standard output; a reader that went away is not an error.
pub(crate) fn put(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(wrong) if wrong.kind() != ErrorKind::BrokenPipe => {
            Err(Error::File { path: PathBuf::from("standard output"), reason: wrong.to_string() })
        }
        _ => Ok(()),
    }
}
