//! Decoding steps in a replayed graph, and the selective scan of Mamba-1.

use super::{Row, median};
use crate::backend::cuda::{
    CudaTensor, DecodeStep, ScanOutput, SelectiveScan, StateElement, StepRule, Stored, Stream,
};
use crate::error::Result;
use crate::ssd::Squash;
use half::bf16;

/// Batches of decoding steps of 80 heads, P 64, N 128.
const BATCHES: [usize; 3] = [1, 16, 64];
/// Bytes of states that steps take in turn, so that none is left in the cache.
const STATES: usize = 768 << 20;
/// Steps of a recording.
const RECORDED: usize = 96;

/// Decoding steps with states in f32 and bf16.
pub(super) fn decoding(stream: &Stream, copy: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in BATCHES {
        rows.push(decode::<f32>(stream, batch, "decode, f32 state", copy)?);
        rows.push(decode::<bf16>(stream, batch, "decode, bf16 state", copy)?);
    }
    Ok(rows)
}

fn decode<S: StateElement + Stored>(
    stream: &Stream,
    batch: usize,
    algorithm: &'static str,
    copy: f64,
) -> Result<Row> {
    let (heads, head_dim, state_dim) = (80, 64, 128);
    let tensor = |seed, shape: [usize; 4]| CudaTensor::<bf16>::noise(stream, &shape, seed, -1.0, 1.0);
    let raw = CudaTensor::<f32>::noise(stream, &[batch, 1, heads], 1, -5.0, -1.0)?;
    let a = CudaTensor::<f32>::noise(stream, &[heads], 2, -16.0, -1.0)?;
    let [b, c] = [tensor(3, [batch, 1, 1, state_dim])?, tensor(4, [batch, 1, 1, state_dim])?];
    let x = tensor(5, [batch, 1, heads, head_dim])?;
    let y = tensor(6, [batch, 1, heads, head_dim])?;
    let shape = [batch, heads, head_dim, state_dim];
    let bytes = 2 * size_of::<S>() * shape.iter().product::<usize>();
    let sets = (STATES / bytes).clamp(2, RECORDED);
    let mut states = (0..sets as u64)
        .map(|k| CudaTensor::<S>::noise(stream, &shape, 7 + k, -1.0, 1.0))
        .collect::<Result<Vec<_>>>()?;
    let step = DecodeStep::new(&raw, &a, &b, &c)?.with_rule(StepRule::default().squash(Squash::Softplus))?;
    let seconds = stream
        .time_replayed(9, || (0..RECORDED).try_for_each(|k| step.step_into(&x, &mut states[k % sets], &y)))?
        / RECORDED as f64;
    let [batch, bytes] = [batch, bytes].map(|n| n as f64);
    let numbers = batch * (heads * head_dim * state_dim) as f64;
    let shape = [batch as usize, 1, heads, 1, head_dim, state_dim];
    let (operations, roof) = (5.0 * numbers, Some(bytes / copy));
    Ok(Row { shape, dtype: "bf16", algorithm, pass: "in a graph", seconds, bytes, operations, roof })
}

/// Selective scans of 5120 channels and their vjps; their roof counts bytes alone, though exponentials take longer.
pub(super) fn scans(stream: &Stream, quick: bool, copy: f64) -> Result<Vec<Row>> {
    let (channels, state_dim) = (5120, 16);
    let mut rows = Vec::new();
    for [batch, len] in [[8, 4096], [2, 16384]] {
        let len = if quick { 512 } else { len };
        let tensor = |seed, last: &[usize]| {
            CudaTensor::<bf16>::noise(stream, &[&[batch, len], last].concat(), seed, -1.0, 1.0)
        };
        let f32s =
            |shape: &[usize], seed, low, high| CudaTensor::<f32>::noise(stream, shape, seed, low, high);
        let raw = f32s(&[batch, len, channels], 1, -6.0, -2.0)?;
        let a = f32s(&[channels, state_dim], 2, -16.0, -0.5)?;
        let [b, c] = [tensor(3, &[1, state_dim])?, tensor(4, &[1, state_dim])?];
        let [x, dy] = [tensor(5, &[channels])?, tensor(6, &[channels])?];
        let scan =
            SelectiveScan::new(&raw, &a, &b, &c)?.with_rule(StepRule::default().squash(Squash::Softplus))?;
        let cotangent = ScanOutput { y: dy, state: f32s(&[batch, channels, state_dim], 7, -1.0, 1.0)? };
        let forward = median(stream, |_| scan.matmul(&x, None).map(drop))?;
        let backward = median(stream, |_| scan.vjp(&x, None, &cotangent).map(drop))?;
        let shape = [batch, len, channels, 1, 1, state_dim];
        let tokens = (batch * len) as f64;
        for (pass, seconds, numbers, operations) in
            [("forward", forward, 8.0, 6.0), ("backward", backward, 16.0, 20.0)]
        {
            let bytes = tokens * channels as f64 * numbers;
            let operations = tokens * (channels * state_dim) as f64 * operations;
            let (dtype, roof) = ("bf16", Some(bytes / copy));
            rows.push(Row {
                shape,
                dtype,
                algorithm: "selective scan",
                pass,
                seconds,
                bytes,
                operations,
                roof,
            });
        }
    }
    Ok(rows)
}
