//! `semisep verify`: every algorithm against reference results.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use ndarray::ArrayD;

use super::case::{Case, GRADIENTS, Reference, read_bytes};
use super::golden::GOLDEN;
use super::machine::{Device, Machine, Number};
use super::operator::{Named, Operator, named_output, rounded};
use super::progress::bar;
use super::table::Table;
use super::tensor_file::TensorFile;
use super::{Verdict, put};
use crate::error::Result;
use crate::ssd::Algorithm;

/// Command line of `semisep verify`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Operator files with reference results; the cases that come with the tool if none is given
    pub files: Vec<PathBuf>,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Show the error of every gradient in a column of its own, not only the largest
    #[arg(long)]
    pub all: bool,
}

/// A precision and the largest error that is accepted in it.
#[derive(Debug, Clone, Copy)]
struct Precision {
    name: &'static str,
    limit: f64,
    compute: fn(&Case, &Machine, Algorithm) -> Result<Computed>,
}

const PRECISIONS: [Precision; 2] = [
    Precision { name: "f64", limit: 1e-10, compute: compute::<f64> },
    Precision { name: "f32", limit: 1e-4, compute: compute::<f32> },
];

/// Everything that one algorithm yields for one case.
struct Computed {
    results: Vec<Named>,
    seconds: f64,
}

/// The errors of one algorithm on one case, in the order of the references.
struct Row {
    case: String,
    algorithm: String,
    precision: Precision,
    errors: Vec<(&'static str, f64)>,
    seconds: f64,
}

/// Compares and prints.
///
/// # Errors
/// [`crate::Error::File`] if a file cannot be read, is not a case, or lacks reference results.
pub fn verify(options: &Options) -> Result<Verdict> {
    let machine = Machine::open(options.device)?;
    let mut rows = Vec::new();
    if options.files.is_empty() {
        let bar = bar(GOLDEN.len());
        for golden in GOLDEN {
            bar.set_message(golden.name);
            rows.extend(compare(Path::new(golden.name), golden.bytes, &machine)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
    } else {
        let bar = bar(options.files.len());
        for path in &options.files {
            bar.set_message(path.display().to_string());
            rows.extend(compare(path, &read_bytes(path)?, &machine)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    put(&if options.all { wide_table(&rows) } else { short_table(&rows) })?;
    put(&summary(&rows))?;
    Ok(if rows.iter().all(Row::passes) { Verdict::Good } else { Verdict::Exceeded })
}

/// All algorithms in all precisions on one file.
fn compare(path: &Path, bytes: &[u8], machine: &Machine) -> Result<Vec<Row>> {
    let file = TensorFile::new(path, bytes)?;
    let case = Case::new(&file)?;
    case.cotangent(&file)?;
    let references = case.references(&file)?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.strip_prefix("ssd_").unwrap_or(&name).to_owned();
    let mut rows = Vec::new();
    for how in algorithms(case.len()) {
        for precision in PRECISIONS {
            let computed = (precision.compute)(&case, machine, how)?;
            let errors = references.iter().map(|reference| (reference.name, error(&computed, reference)));
            rows.push(Row {
                case: name.clone(),
                algorithm: describe(how),
                precision,
                errors: errors.collect(),
                seconds: computed.seconds,
            });
        }
    }
    Ok(rows)
}

/// Every algorithm, with chunks of one, chunks that do not divide the length, and one longer than the whole.
fn algorithms(len: usize) -> Vec<Algorithm> {
    let mut all = vec![Algorithm::Automatic, Algorithm::Quadratic, Algorithm::Recurrent];
    all.extend([1, 7, 16, 64, len + 3].map(|chunk| Algorithm::Chunked { chunk }));
    all
}

fn describe(how: Algorithm) -> String {
    match how {
        Algorithm::Automatic => "automatic".into(),
        Algorithm::Quadratic => "quadratic".into(),
        Algorithm::Recurrent => "recurrent".into(),
        Algorithm::Chunked { chunk } => format!("chunked {chunk}"),
    }
}

fn compute<T: Number>(case: &Case, machine: &Machine, how: Algorithm) -> Result<Computed> {
    let (operator, place) = (Operator::<T>::new(case), machine.place::<T>());
    let cotangent = case.cotangent.as_ref().map(rounded::<T>);
    let start = Instant::now();
    let output = operator.forward(&*place, how)?;
    let gradient = cotangent.map(|cotangent| operator.vjp(&*place, how, &cotangent)).transpose()?;
    let seconds = start.elapsed().as_secs_f64();
    let mut results = named_output(&output);
    results.extend(gradient.iter().flat_map(|gradient| gradient.named()));
    Ok(Computed { results, seconds })
}

/// The relative error of one result; NaN, which exceeds every limit, if there is no such result.
fn error(computed: &Computed, reference: &Reference) -> f64 {
    match computed.results.iter().find(|result| result.name == reference.name) {
        Some(found) => relative_error(&found.values, &reference.values),
        None => f64::NAN,
    }
}

/// `‖found - expected‖ / ‖expected‖`, or `‖found‖` where `expected` is zero. Both are scaled by their largest
/// number, so that squares neither overflow nor vanish.
fn relative_error(found: &ArrayD<f64>, expected: &ArrayD<f64>) -> f64 {
    if found.shape() != expected.shape() {
        return f64::NAN;
    }
    let difference = norm(found.iter().zip(expected).map(|(f, e)| f - e));
    match norm(expected.iter().copied()) {
        0.0 => difference,
        size => difference / size,
    }
}

fn norm(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(0.0, |m: f64, v| if v.is_nan() { v } else { m.max(v.abs()) });
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * values.map(|v| (v / largest).powi(2)).sum::<f64>().sqrt()
}

impl Row {
    fn passes(&self) -> bool {
        self.errors.iter().all(|&(_, error)| error <= self.precision.limit)
    }

    fn verdict(&self) -> String {
        if self.passes() { String::new() } else { "EXCEEDED".into() }
    }

    fn start(&self) -> Vec<String> {
        vec![self.case.clone(), self.algorithm.clone(), self.precision.name.into()]
    }

    fn error_of(&self, name: &str) -> String {
        self.errors.iter().find(|(n, _)| *n == name).map_or("-".into(), |(_, error)| format!("{error:.1e}"))
    }

    fn milliseconds(&self) -> String {
        format!("{:.2} ms", self.seconds * 1e3)
    }
}

/// The larger of two errors; NaN is the largest.
fn larger(a: (&'static str, f64), b: (&'static str, f64)) -> (&'static str, f64) {
    if a.1.is_nan() || a.1 >= b.1 { a } else { b }
}

fn short_table(rows: &[Row]) -> String {
    let header = ["case", "algorithm", "type", "y", "final_state", "worst gradient", "", "time", ""];
    let mut table = Table::new(&header, 3);
    for row in rows {
        let (name, error) = row.errors[2..].iter().copied().fold(("", 0.0), larger);
        let mut cells = row.start();
        cells.extend([row.error_of("y"), row.error_of("final_state"), format!("{error:.1e}"), name.into()]);
        cells.extend([row.milliseconds(), row.verdict()]);
        table.push(cells);
    }
    table.render()
}

fn wide_table(rows: &[Row]) -> String {
    let mut header = vec!["case", "algorithm", "type", "y", "final_state"];
    header.extend(GRADIENTS.iter().map(|(_, gradient)| *gradient));
    header.extend(["time", ""]);
    let mut table = Table::new(&header, 3);
    for row in rows {
        let mut cells = row.start();
        cells.extend(header[3..header.len() - 2].iter().map(|name| row.error_of(name)));
        cells.extend([row.milliseconds(), row.verdict()]);
        table.push(cells);
    }
    table.render()
}

/// The largest error of each precision beside its limit.
fn summary(rows: &[Row]) -> String {
    let mut text = String::from("\n");
    for precision in PRECISIONS {
        let rows: Vec<_> = rows.iter().filter(|row| row.precision.name == precision.name).collect();
        let failed = rows.iter().filter(|row| !row.passes()).count();
        let (name, worst) = rows.iter().flat_map(|row| row.errors.iter().copied()).fold(("", 0.0), larger);
        let verdict = if failed == 0 { "all within".into() } else { format!("{failed} of them exceed") };
        text.push_str(&format!(
            "{}: {} runs, forward and gradient, {verdict} {:.0e}; largest error {worst:.1e} ({name})\n",
            precision.name,
            rows.len(),
            precision.limit,
        ));
    }
    text
}
