//! The state space form on the device: `cuda/ssd/recurrent.cu` and `cuda/ssd/recurrent_vjp.cu`.
#![allow(unsafe_code)]

use super::{Cotangents, Operands, THREADS, sums};
use crate::backend::cuda::launch::Grid;
use crate::backend::cuda::tensor::{CudaTensor, Stored};
use crate::error::Result;

/// Threads that share the state of a channel.
const LANES: usize = 16;
/// Steps between states that the vjp keeps; as in `recurrent_vjp.cu`.
pub(crate) const SEGMENT: usize = 32;
/// Blocks of the vjp for each multiprocessor: each has scratch memory for [`SEGMENT`] states.
const BLOCKS: usize = 4;

/// Channels of a thread: four share every load of b and c, as long as their states fit the registers.
pub(crate) fn rows(head_dim: usize, state_dim: usize, bytes: usize) -> usize {
    let most = if bytes == 8 && state_dim > 128 { 2 } else { 4 };
    head_dim.div_ceil(THREADS as usize / LANES).min(most)
}

/// `y = M x`; the states that enter are read from `initial`, those that leave written to `last`, which may be the same
/// memory where every state travels with one sequence.
pub(crate) fn forward<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: &CudaTensor<T::Acc>,
    y: &CudaTensor<T>,
) -> Result<()> {
    let kernel = m.stream().device().kernel(&m.program("ssd/recurrent.cu"), "recurrent_forward")?;
    let table = &m.spans.sequences;
    let grid = Grid::new([table.count, m.heads(), tiles(m)], THREADS);
    let dims = m.dims(y, None);
    // SAFETY: the arguments are those of `recurrent_forward`; spans lie inside the tensors' rows, and the states they
    // name inside `initial` and `last`.
    unsafe {
        kernel.launch(
            m.stream(),
            grid,
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, &initial, last, y],
        )
    }
}

/// Cotangents, given those of y and of the states that leave. The chunks of `m.spans` are segments.
pub(crate) fn vjp<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
) -> Result<Cotangents<T>> {
    let (stream, device) = (m.stream(), m.stream().device());
    let grad = m.cotangents(dlast.shape(), dy)?;
    let tiles = tiles(m);
    let work = m.spans.sequences.count * m.heads() * tiles;
    let blocks = work.min(BLOCKS * device.multiprocessors() as usize);
    let rows = rows(m.head_dim(), m.state_dim(), size_of::<T::Acc>());
    let pack = 16 / size_of::<T::Acc>();
    let state = rows * m.state_dim().div_ceil(LANES * pack) * pack * THREADS as usize;
    let kept: CudaTensor<T::Acc> =
        CudaTensor::room(stream, &[m.spans.chunks.count, m.heads() * tiles, state])?;
    let scratch: CudaTensor<T::Acc> = CudaTensor::room(stream, &[blocks, SEGMENT, state])?;
    let (db, dc) = (m.shares(m.heads() * tiles)?, m.shares(m.heads() * tiles)?);
    let parts = || CudaTensor::<T::Acc>::room(stream, &[tiles, m.rows(), m.heads()]);
    let (ddt, dlog_a) = (parts()?, parts()?);
    let dims = m.dims(dy, Some(&grad.x));
    let kernel = device.kernel(&m.program("ssd/recurrent_vjp.cu"), "recurrent_vjp")?;
    // SAFETY: the arguments are those of `recurrent_vjp`; spans lie inside the tensors' rows, their chunks are segments
    // of `SEGMENT` steps with a place in `kept` each, and every block has its own scratch.
    unsafe {
        kernel.launch(
            stream,
            Grid::new([blocks, 1, 1], THREADS),
            &[
                &m.spans.sequences.rows,
                &m.spans.ranges,
                &dims,
                &(work as i64),
                &(m.rows() as i64),
                m.log_a,
                m.dt,
                m.x,
                m.b,
                m.c,
                &m.d,
                &initial,
                dlast,
                dy,
                &grad.x,
                &ddt,
                &dlog_a,
                &db,
                &dc,
                &grad.state,
                &kept,
                &scratch,
            ],
        )
    }?;
    sums::heads(m, &db, m.heads() * tiles, &grad.b)?;
    sums::heads(m, &dc, m.heads() * tiles, &grad.c)?;
    sums::pages::<T>(&ddt, tiles, 1, &grad.dt)?;
    sums::pages::<T>(&dlog_a, tiles, 1, &grad.log_a)?;
    Ok(grad)
}

/// Tiles of channels that a head is cut into.
fn tiles<T: Stored>(m: &Operands<'_, T>) -> usize {
    let rows = rows(m.head_dim(), m.state_dim(), size_of::<T::Acc>());
    m.head_dim().div_ceil(THREADS as usize / LANES * rows)
}
