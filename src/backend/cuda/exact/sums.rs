//! Sums over heads and positions in a fixed order: `cuda/ssd/sums.cu`.
#![allow(unsafe_code)]

use super::{Operands, THREADS};
use crate::backend::cuda::launch::{Grid, Kernel};
use crate::backend::cuda::source::Program;
use crate::backend::cuda::stream::Stream;
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;

/// Rows that are summed up before they join a longer sum; as in `sums.cu` and `discretize.cu`.
pub(crate) const PAGE: usize = 256;

/// Most blocks of a kernel whose threads stride through their work.
const MOST: usize = 8192;

/// One thread for each of `count` pieces of work, as far as the grid goes.
pub(crate) fn strided(count: usize) -> Grid {
    Grid::new([count.div_ceil(THREADS as usize).min(MOST), 1, 1], THREADS)
}

/// `out`: (batch, len, groups, state_dim) from shares (rows, per_row, state_dim), `per_row` heads or parts of heads.
pub(crate) fn heads<T: Stored>(
    m: &Operands<'_, T>,
    shares: &CudaTensor<T::Acc>,
    per_row: usize,
    out: &CudaTensor<T>,
) -> Result<()> {
    let (rows, groups, width) = (m.rows() as i64, m.groups() as i32, m.state_dim() as i32);
    // SAFETY: the arguments are those of `sum_heads`; the shapes are as said above.
    unsafe {
        kernel::<T>(m.stream(), "sum_heads")?.launch(
            m.stream(),
            strided(out.len()),
            &[shares, &rows, &(per_row as i32), &groups, &width, out, &(out.pitch() as i64)],
        )
    }
}

/// `out`, contiguous, from `part`: (pages, numbers of out, width).
pub(crate) fn pages<T: Stored>(
    part: &CudaTensor<T::Acc>,
    pages: usize,
    width: usize,
    out: &CudaTensor<T::Acc>,
) -> Result<()> {
    let stream = out.stream();
    // SAFETY: the arguments are those of `sum_pages`; the shapes are as said above.
    unsafe {
        kernel::<T>(stream, "sum_pages")?.launch(
            stream,
            strided(out.len()),
            &[part, &(pages as i64), &(out.len() as i64), &(width as i32), out],
        )
    }
}

/// The skip's cotangent, shaped like `d`.
pub(crate) fn skip_vjp<T: Stored>(
    m: &Operands<'_, T>,
    d: &CudaTensor<T::Acc>,
    dy: &CudaTensor<T>,
) -> Result<CudaTensor<T::Acc>> {
    let count = m.rows().div_ceil(PAGE);
    let part = CudaTensor::<T::Acc>::room(m.stream(), &[count, m.heads(), m.head_dim()])?;
    let (x_pitch, dy_pitch) = (m.x.pitch() as i64, dy.pitch() as i64);
    // SAFETY: the arguments are those of `skip_pages`; there is a page of `part` for each block.
    unsafe {
        kernel::<T>(m.stream(), "skip_pages")?.launch(
            m.stream(),
            Grid::new([count, m.heads(), 1], THREADS),
            &[&(m.rows() as i64), &(m.head_dim() as i32), m.x, &x_pitch, dy, &dy_pitch, &part],
        )
    }?;
    let out = CudaTensor::room(m.stream(), d.shape())?;
    pages::<T>(&part, count, m.head_dim() / d.shape()[1], &out)?;
    Ok(out)
}

fn kernel<T: Stored>(stream: &Stream, name: &'static str) -> Result<Kernel> {
    stream.device().kernel(&Program::new("ssd/sums.cu").define(stored_macro::<T>(), 1), name)
}
