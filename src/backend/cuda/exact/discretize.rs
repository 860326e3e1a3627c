//! Raw steps to steps and decays on the device: `cuda/ssd/discretize.cu`.
#![allow(unsafe_code)]

use super::THREADS;
use super::sums::{self, PAGE, strided};
use crate::backend::cuda::generators::Raw;
use crate::backend::cuda::launch::{Grid, Kernel, Parameters};
use crate::backend::cuda::source::Program;
use crate::backend::cuda::steps::StepRule;
use crate::backend::cuda::stream::Stream;
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;

/// Twin of `Rule` in `discretize.cu`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Rule {
    softplus: i32,
    heads: i32,
    lower: f64,
    upper: f64,
    pitch: i64,
}

impl Parameters for Rule {}

/// Cotangents of raw steps (batch, len, heads), of A and of the bias (heads).
#[derive(Debug)]
pub(crate) struct RawCotangents<A> {
    pub dt: CudaTensor<A>,
    pub a: CudaTensor<A>,
    pub bias: CudaTensor<A>,
}

/// [dt, log a], contiguous, (batch, len, heads).
pub(crate) fn apply<T: Stored>(
    raw: &Raw<T>,
    a: &CudaTensor<T::Acc>,
    rule: &StepRule<T::Acc>,
) -> Result<[CudaTensor<T::Acc>; 2]> {
    let (shape, stream) = (raw.shape(), a.stream());
    let (dt, log_a) = (CudaTensor::room(stream, shape)?, CudaTensor::room(stream, shape)?);
    let (computed, stored) = raw.split();
    let rows = shape[0] * shape[1];
    let grid = strided(dt.len());
    // SAFETY: the arguments are those of `discretize`; `Ssd` checked that there is one raw step for each row and head.
    unsafe {
        kernel::<T>(stream, "discretize")?.launch(
            stream,
            grid,
            &[&twin(raw, rule), &(rows as i64), &computed, &stored, a, &rule.bias.as_ref(), &dt, &log_a],
        )
    }?;
    Ok([dt, log_a])
}

/// Cotangents, given those of dt and log a, which are contiguous.
pub(crate) fn vjp<T: Stored>(
    raw: &Raw<T>,
    a: &CudaTensor<T::Acc>,
    rule: &StepRule<T::Acc>,
    d_dt: &CudaTensor<T::Acc>,
    d_log_a: &CudaTensor<T::Acc>,
) -> Result<RawCotangents<T::Acc>> {
    let (shape, stream) = (raw.shape(), a.stream());
    let (rows, heads) = (shape[0] * shape[1], shape[2]);
    let pages = rows.div_ceil(PAGE);
    let room = |shape: &[usize]| CudaTensor::<T::Acc>::room(stream, shape);
    let grad = RawCotangents { dt: room(shape)?, a: room(&[heads])?, bias: room(&[heads])? };
    let (a_part, bias_part) = (room(&[pages, heads])?, room(&[pages, heads])?);
    let (computed, stored) = raw.split();
    let grid = Grid::new([pages, heads.div_ceil(THREADS as usize), 1], THREADS);
    // SAFETY: the arguments are those of `discretize_vjp`; the parts have a row for each page.
    unsafe {
        kernel::<T>(stream, "discretize_vjp")?.launch(
            stream,
            grid,
            &[
                &twin(raw, rule),
                &(rows as i64),
                &computed,
                &stored,
                a,
                &rule.bias.as_ref(),
                d_dt,
                d_log_a,
                &grad.dt,
                &a_part,
                &bias_part,
            ],
        )
    }?;
    sums::pages::<T>(&a_part, pages, 1, &grad.a)?;
    sums::pages::<T>(&bias_part, pages, 1, &grad.bias)?;
    Ok(grad)
}

fn kernel<T: Stored>(stream: &Stream, name: &'static str) -> Result<Kernel> {
    let program = Program::new("ssd/discretize.cu").define(stored_macro::<T>(), 1);
    stream.device().kernel(&program, name)
}

fn twin<T: Stored>(raw: &Raw<T>, rule: &StepRule<T::Acc>) -> Rule {
    let (_, softplus, lower, upper) = rule.arguments();
    Rule { softplus, heads: raw.shape()[2] as i32, lower, upper, pitch: raw.pitch() as i64 }
}

impl<T: Stored> Raw<T> {
    /// The tensor as one of the precision of computation or as a stored one, the other absent.
    fn split(&self) -> (Option<&CudaTensor<T::Acc>>, Option<&CudaTensor<T>>) {
        match self {
            Self::Computed(tensor) => (Some(tensor), None),
            Self::Stored(tensor) => (None, Some(tensor)),
        }
    }
}
