//! `semisep bench`: every algorithm against the limits of this machine, in one run.

mod ceilings;
mod clock;
#[cfg(feature = "cuda")]
mod cuda;
mod factors;
mod mamba2;
mod matrices;
mod memory;
mod problem;
mod report;
mod scans;

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::machine::{Device, Machine};
use super::output::Pending;
use super::progress::bar;
use super::put;
use crate::error::{Error, Result};
use crate::mamba2::Config;
use crate::parallel;
use ceilings::{Ceilings, Yardstick};
use clock::Effort;
use problem::{Pass, Problem};

/// Command line of `semisep bench`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What to measure
    #[arg(long, value_enum, default_value_t)]
    pub suite: Subject,
    /// Where to measure
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Also write the measurement as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Short lengths, small products, few repetitions: to see that all is there, not to report
    #[arg(long)]
    pub quick: bool,
    /// Lengths to measure, e.g. 2048,65536
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(allow_negative_numbers = true)]
    pub lengths: Vec<u32>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Subject {
    /// The SSD operator by every algorithm, and scans
    #[default]
    Ssd,
    /// Semiseparable matrices on one thread
    Matrix,
    /// The language model of the size of mamba2-130m, random weights
    Mamba2,
}

/// How much is measured.
#[derive(Debug, Clone)]
struct Suite {
    lengths: Vec<usize>,
    /// Side of the matrices whose product is the limit.
    side: usize,
    /// Side of the matrices that are multiplied in turn with a row.
    yardstick: usize,
    /// Numbers in a copy that measures bandwidth.
    copied: usize,
    /// Length of scans.
    scanned: usize,
    effort: Effort,
}

impl Suite {
    fn new(options: &Options) -> Self {
        let mut suite = if options.quick {
            let effort = Effort { budget: 0.02, patience: 0.5 };
            let (side, yardstick, copied, scanned) = (384, 128, 1 << 20, 10_000);
            Self { lengths: vec![16, 64, 256], side, yardstick, copied, scanned, effort }
        } else {
            let effort = Effort { budget: 0.3, patience: 2.0 };
            let lengths = vec![64, 256, 2048, 8192, 65536];
            Self { lengths, side: 2048, yardstick: 768, copied: 1 << 24, scanned: 1_000_000, effort }
        };
        if !options.lengths.is_empty() {
            suite.lengths = options.lengths.iter().map(|&n| n as usize).collect();
            suite.lengths.sort_unstable();
            suite.lengths.dedup();
        }
        suite
    }
}

/// What the rate of a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Operations, against matrix products.
    Operations,
    /// Bytes read and written, against copying.
    Bytes,
}

/// One measurement.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    dtype: &'static str,
    threads: usize,
    len: usize,
    seconds: f64,
    unit: Unit,
    /// Operations or bytes a second.
    rate: f64,
    /// The limit measured in turn with the row, in the same unit.
    ceiling: f64,
    /// Peak memory beyond inputs and outputs, in bytes.
    extra: Option<u64>,
    /// Time grows like this power of the length, from the next shorter length to this one.
    growth: Option<f64>,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.rate / self.ceiling
    }
}

/// All that a run yields.
#[derive(Debug, Default)]
struct Measured {
    rows: Vec<Row>,
    skipped: Vec<String>,
}

/// Measures, prints, and writes the JSON file if asked.
///
/// # Errors
/// [`Error::File`] if the JSON file cannot be written, [`Error::Config`] for lengths of a suite that has its own and for what
/// is not measured on a GPU.
pub fn bench(options: &Options) -> Result<()> {
    #[cfg(feature = "cuda")]
    cuda::check(options)?;
    #[cfg(feature = "cuda")]
    if let Machine::Cuda(stream) = Machine::open(options.device)? {
        return cuda::bench(options, &stream);
    }
    #[cfg(not(feature = "cuda"))]
    Machine::open(options.device)?;
    if matches!(options.suite, Subject::Matrix) && !options.lengths.is_empty() {
        let reason = "expected none: the lengths of the suite `matrix` are fixed".into();
        return Err(Error::Config { field: "--lengths", reason });
    }
    let pending = options.json.as_deref().map(Pending::new).transpose()?;
    let suite = Suite::new(options);
    let mut ceilings = Ceilings::default();
    let mut measured = Measured::default();
    match options.suite {
        Subject::Ssd => operator(&suite, &mut ceilings, &mut measured)?,
        Subject::Matrix => parallel::with_threads(1, || -> Result<()> {
            let bar = bar(3 + matrices::STEPS + factors::STEPS);
            ceilings.measure(&suite, 1, &bar);
            matrices::rows(&suite, &bar, &mut measured)?;
            factors::rows(&suite, &bar, &mut measured)?;
            bar.finish_and_clear();
            Ok(())
        })?,
        Subject::Mamba2 => language_model(options, &suite, &mut ceilings, &mut measured)?,
    }
    put(&report::text(&ceilings, &measured))?;
    match pending {
        Some(pending) => pending.commit(report::json(&ceilings, &measured).as_bytes()),
        None => Ok(()),
    }
}

/// The SSD operator and scans, on one thread and on all.
fn operator(suite: &Suite, ceilings: &mut Ceilings, measured: &mut Measured) -> Result<()> {
    let mut threads = vec![1, parallel::threads()];
    threads.dedup();
    let bar = bar(threads.len() * (4 + 2 * (2 + 6 * suite.lengths.len())));
    for &threads in &threads {
        parallel::with_threads(threads, || -> Result<()> {
            ceilings.measure(suite, threads, &bar);
            rows::<f32>(suite, threads, &bar, measured)?;
            rows::<f64>(suite, threads, &bar, measured)?;
            scans::rows(suite, threads, &bar, measured)
        })?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// A model on all threads: of the size of mamba2-130m, or a tiny one to see that all is there.
fn language_model(
    options: &Options,
    suite: &Suite,
    ceilings: &mut Ceilings,
    measured: &mut Measured,
) -> Result<()> {
    let config = if options.quick { Config::new(64, 2, 512) } else { Config::new(768, 24, 50288) };
    let lengths = match (options.lengths.is_empty(), options.quick) {
        (false, _) => suite.lengths.clone(),
        (true, true) => vec![64],
        (true, false) => vec![512, 2048],
    };
    let bar = bar(3 + mamba2::STEPS + lengths.len());
    ceilings.measure(suite, parallel::threads(), &bar);
    mamba2::rows(suite, (&config, &lengths), parallel::threads(), &bar, measured)?;
    bar.finish_and_clear();
    Ok(())
}

/// Every algorithm over all lengths in one precision, then single steps.
fn rows<A: crate::Real>(
    suite: &Suite,
    threads: usize,
    bar: &ProgressBar,
    measured: &mut Measured,
) -> Result<()> {
    for algorithm in problem::ALGORITHMS {
        for pass in [Pass::Forward, Pass::Both] {
            let mut shorter: Option<(usize, f64)> = None;
            for &len in &suite.lengths {
                let name = format!("{} {}", algorithm.name, pass.name());
                bar.set_message(format!("{name}, {}, {threads} threads, length {len}", A::NAME));
                bar.inc(1);
                let expected = shorter.map(|(n, seconds)| {
                    seconds * (len as f64 / n as f64).powi(if algorithm.name == "quadratic" { 2 } else { 1 })
                });
                if let Some(reason) =
                    problem::too_much::<A>(&algorithm, pass, len, threads, expected, suite.effort)
                {
                    let place = format!("{name}, {}, threads {threads}, from length {len} on", A::NAME);
                    measured.skipped.push(format!("{place}: {reason}"));
                    break;
                }
                let problem = Problem::<A>::new(1, len);
                let mut yardstick = Yardstick::<A>::product(suite.yardstick, threads);
                let timed = problem.time(algorithm.how, pass, suite.effort, &mut yardstick)?;
                let rate = problem.operations(pass) / timed.seconds;
                let growth =
                    shorter.map(|(n, seconds)| (timed.seconds / seconds).ln() / (len as f64 / n as f64).ln());
                shorter = Some((len, timed.seconds));
                measured.rows.push(Row {
                    name,
                    dtype: A::NAME,
                    threads,
                    len,
                    seconds: timed.seconds,
                    unit: Unit::Operations,
                    rate,
                    ceiling: yardstick.amount() / timed.yardstick,
                    extra: timed.extra,
                    growth,
                });
            }
        }
    }
    for batch in [1, 64] {
        bar.set_message(format!("single steps, {}, {threads} threads, batch {batch}", A::NAME));
        bar.inc(1);
        let problem = Problem::<A>::new(batch, 1);
        let mut yardstick = Yardstick::<A>::copy(suite.copied);
        let timed = problem.time_step(suite.effort, &mut yardstick)?;
        measured.rows.push(Row {
            name: format!("step batch {batch}"),
            dtype: A::NAME,
            threads,
            len: 1,
            seconds: timed.seconds,
            unit: Unit::Bytes,
            rate: 2.0 * problem.state_bytes() / timed.seconds,
            ceiling: yardstick.amount() / timed.yardstick,
            extra: timed.extra,
            growth: None,
        });
    }
    Ok(())
}
