//! The operator on a GPU against its roof.
//!
//! Roof: the larger of the time that the least traffic takes at the copy's rate (x, B, C, dt and log a read once, y
//! written; backwards x, B, C, dt, log a and dy read, the cotangents written) and the time that the products take at the
//! rate of matrix products, at chunks of 128 with nothing saved for causality.

mod steps;

use super::{Options, Subject};
use crate::backend::cuda::{CudaOutput, CudaSsd, CudaTensor, Steps, Stored, Stream};
use crate::cli::machine::{Device, Number};
use crate::cli::output::Pending;
use crate::cli::progress::bar;
use crate::cli::put;
use crate::cli::table::Table;
use crate::error::{Error, Result};
use crate::ssd::Algorithm;
use half::bf16;
use serde_json::{Value, json};
use std::cell::RefCell;

/// Batch, length, heads, groups, head_dim, state_dim.
type Shape = [usize; 6];

/// What is measured.
const SHAPES: [Shape; 7] = [
    [8, 4096, 80, 1, 64, 128],
    [8, 4096, 80, 1, 64, 64],
    [1, 32768, 80, 1, 64, 128],
    [1, 2048, 80, 1, 64, 128],
    [1, 131072, 24, 1, 64, 128],
    [8, 4096, 80, 1, 64, 256],
    [8, 4096, 40, 8, 128, 128],
];

/// Chunk that the roof counts operations with.
const ROOF_CHUNK: f64 = 128.0;

/// How often calls are timed; the median counts.
const TIMES: usize = 9;
/// Seconds that the calls timed together take, so that what the host does before each is hidden behind the one before.
const TOGETHER: f64 = 4e-3;
/// Bytes of x and y from which on nothing of a call is left in the cache for the next.
const BEYOND_CACHE: usize = 256 << 20;

/// One measurement.
struct Row {
    shape: Shape,
    dtype: &'static str,
    algorithm: &'static str,
    pass: &'static str,
    seconds: f64,
    bytes: f64,
    operations: f64,
    roof: Option<f64>,
}

/// On a GPU there is one suite, of fixed shapes.
///
/// # Errors
/// [`Error::Config`] if the options ask for another one.
pub(super) fn check(options: &Options) -> Result<()> {
    let refused = |field, reason: &str| Err(Error::Config { field, reason: reason.into() });
    match options.device {
        Device::Cpu => Ok(()),
        Device::Cuda if options.suite != Subject::Ssd => {
            refused("--suite", "expected ssd, the one that is measured on a GPU")
        }
        Device::Cuda if !options.lengths.is_empty() => {
            refused("--lengths", "expected none: the shapes that are measured on a GPU are fixed")
        }
        Device::Cuda => Ok(()),
    }
}

/// Measures, prints, and writes the JSON file if asked.
///
/// # Errors
/// [`crate::Error::Device`], [`crate::Error::File`] if the JSON file cannot be written.
pub(super) fn bench(options: &Options, stream: &Stream) -> Result<()> {
    let pending = options.json.as_deref().map(Pending::new).transpose()?;
    let copied = if options.quick { 1 << 24 } else { 1 << 30 };
    let copy = copy_rate(stream, copied)?;
    let shapes = SHAPES.map(|[batch, len, rest @ ..]| {
        let len = if options.quick { len.min(512) } else { len };
        let [heads, groups, head_dim, state_dim] = rest;
        [batch, len, heads, groups, head_dim, state_dim]
    });
    let bar = bar(2 * shapes.len() + 1);
    let mut rows = Vec::new();
    for shape in shapes {
        bar.set_message(format!("{shape:?}"));
        rows.extend(measure::<bf16>(stream, shape, copy, ("chunked", |m| m))?);
        bar.inc(1);
        rows.extend(measure::<f32>(stream, shape, copy, ("tf32", CudaSsd::with_tf32))?);
        bar.inc(1);
    }
    bar.set_message("decoding steps and selective scans");
    rows.extend(steps::decoding(stream, copy)?);
    rows.extend(steps::scans(stream, options.quick, copy)?);
    bar.finish_and_clear();
    put(&text(stream, copy, &rows))?;
    match pending {
        Some(pending) => pending.commit(json(stream, copy, &rows).as_bytes()),
        None => Ok(()),
    }
}

/// Bytes a second, read and written, of copying `bytes`.
fn copy_rate(stream: &Stream, bytes: usize) -> Result<f64> {
    let from = CudaTensor::<f32>::filled(stream, &[bytes / 4], 1.0)?;
    let to = CudaTensor::<f32>::filled(stream, &[bytes / 4], 2.0)?;
    let seconds = median(stream, |_| to.copy_from(&from))?;
    Ok(2.0 * bytes as f64 / seconds)
}

/// Operations a second of matrix products in this type, where it was measured: on a Hopper chip with cuBLASLt, in short
/// bursts (`docs/kernels.md`); f32 without matrix units, and in tf32 with them, by the vendor's data.
fn product_rate<T: Stored>(stream: &Stream, algorithm: &str) -> Option<f64> {
    let hopper = stream.device().architecture().is_hopper();
    match T::NAME {
        "bf16" | "f16" if hopper => Some(797e12),
        "f32" if hopper => Some(if algorithm == "tf32" { 494e12 } else { 67e12 }),
        _ => None,
    }
}

/// Seconds of a call on the device: the median over several rounds of calls back to back. A call is given its number.
fn median(stream: &Stream, call: impl Fn(usize) -> Result<()>) -> Result<f64> {
    call(0)?; // compiles, loads, and makes the memory pool grow
    let once = stream.time(|| call(0))?;
    let calls = ((TOGETHER / once) as usize).clamp(1, 100);
    let round = |_| Ok(stream.time(|| (0..calls).try_for_each(&call))? / calls as f64);
    let mut all = (0..TIMES).map(round).collect::<Result<Vec<_>>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[TIMES / 2])
}

/// The portable tier: its name in this type, and what makes a matrix use it.
type Portable<T> = (&'static str, fn(CudaSsd<T>) -> CudaSsd<T>);

/// Forward and backward of the default algorithm, the forward of the recurrence, and the portable tier.
fn measure<T: Number>(
    stream: &Stream,
    shape: Shape,
    copy: f64,
    (name, portable): Portable<T>,
) -> Result<Vec<Row>> {
    let [batch, len, heads, groups, head_dim, state_dim] = shape;
    let scalars =
        |seed, low, high| CudaTensor::<T::Acc>::noise(stream, &[batch, len, heads], seed, low, high);
    let tensor = |seed, shape: [usize; 4]| CudaTensor::<T>::noise(stream, &shape, seed, -1.0, 1.0);
    let steps = Steps::Given { log_a: scalars(1, -0.1, -0.001)?, dt: scalars(2, 0.001, 0.1)? };
    let generators = [batch, len, groups, state_dim];
    let m = CudaSsd::new(steps, tensor(3, generators)?, tensor(4, generators)?)?;
    let wide = [batch, len, heads, head_dim];
    let sets = (BEYOND_CACHE / (2 * size_of::<T>() * wide.iter().product::<usize>())).clamp(1, 8);
    let x = (0..sets).map(|k| tensor(5 + k as u64, wide)).collect::<Result<Vec<_>>>()?;
    let state = [batch, heads, head_dim, state_dim];
    let cotangent =
        CudaOutput { y: tensor(6, wide)?, state: CudaTensor::<T::Acc>::noise(stream, &state, 7, -1.0, 1.0)? };
    let forward = |m: &CudaSsd<T>, how| {
        let kept = RefCell::new(vec![None; sets]); // so that y is elsewhere each time, too
        median(stream, |k| {
            let y = m.matmul(&x[k % sets], None, how)?;
            kept.borrow_mut()[k % sets] = Some(y);
            Ok(())
        })
    };
    let backward =
        |m: &CudaSsd<T>, how| median(stream, |k| m.vjp(&x[k % sets], None, how, &cotangent).map(drop));
    let (automatic, chunked) = (Algorithm::Automatic, Algorithm::Chunked { chunk: Algorithm::CHUNK });
    let blocks = portable(m.clone());
    let timed = [
        ("automatic", "forward", forward(&m, automatic)?),
        ("recurrent", "forward", forward(&m, Algorithm::Recurrent)?),
        ("automatic", "backward", backward(&m, automatic)?),
        (name, "forward", forward(&blocks, chunked)?),
        (name, "backward", backward(&blocks, chunked)?),
    ];
    let tokens = (batch * len) as f64;
    let [h, g, p, n] = [heads, groups, head_dim, state_dim].map(|v| v as f64);
    let (stored, acc) = (size_of::<T>() as f64, size_of::<T::Acc>() as f64);
    Ok(timed
        .into_iter()
        .map(|(algorithm, pass, seconds)| {
            let scores = ROOF_CHUNK * g / h; // shared by the heads of a group
            let (channels, per_group, scalars, operations) = match pass {
                "forward" => (2.0, 2.0, 2.0, 2.0 * n * p + ROOF_CHUNK * p + scores * n),
                _ => (3.0, 4.0, 4.0, 5.0 * n * p + 2.0 * ROOF_CHUNK * p + 3.0 * scores * n),
            };
            let bytes = tokens * (channels * h * p * stored + per_group * g * n * stored + scalars * h * acc);
            let operations = 2.0 * tokens * h * operations;
            let roof = product_rate::<T>(stream, algorithm).map(|rate| (bytes / copy).max(operations / rate));
            Row { shape, dtype: T::NAME, algorithm, pass, seconds, bytes, operations, roof }
        })
        .collect())
}

fn text(stream: &Stream, copy: f64, rows: &[Row]) -> String {
    let header = [
        "batch x len",
        "heads",
        "groups",
        "P",
        "N",
        "type",
        "work",
        "time",
        "GB/s",
        "TFLOP/s",
        "roof",
        "of roof",
    ];
    let mut table = Table::new(&header, 7);
    for row in rows {
        let [batch, len, heads, groups, head_dim, state_dim] = row.shape;
        let duration =
            |s: f64| if s < 1e-4 { format!("{:.1} us", s * 1e6) } else { format!("{:.3} ms", s * 1e3) };
        table.push(vec![
            format!("{batch} x {len}"),
            heads.to_string(),
            groups.to_string(),
            head_dim.to_string(),
            state_dim.to_string(),
            row.dtype.into(),
            format!("{} {}", row.algorithm, row.pass),
            duration(row.seconds),
            format!("{:.0}", row.bytes / row.seconds / 1e9),
            format!("{:.1}", row.operations / row.seconds / 1e12),
            row.roof.map_or("n/a".into(), duration),
            row.roof.map_or("n/a".into(), |roof| format!("{:.1} x", row.seconds / roof)),
        ]);
    }
    let device = stream.device();
    let head = format!("{}, {}; copy {:.0} GB/s", device.name(), device.architecture(), copy / 1e9);
    format!(
        "{head}\n\n{}\nGB/s and TFLOP/s: of the least traffic and the products that the roof counts\n",
        table.render()
    )
}

fn json(stream: &Stream, copy: f64, rows: &[Row]) -> String {
    let row = |row: &Row| {
        let [batch, len, heads, groups, head_dim, state_dim] = row.shape;
        json!({
            "batch": batch, "len": len, "heads": heads, "groups": groups,
            "head_dim": head_dim, "state_dim": state_dim,
            "dtype": row.dtype, "algorithm": row.algorithm, "pass": row.pass,
            "seconds": row.seconds, "bytes": row.bytes, "operations": row.operations, "roof": row.roof,
        })
    };
    let value: Value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": stream.device().name(),
        "architecture": stream.device().architecture().to_string(),
        "copy": copy / 1e9,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}
