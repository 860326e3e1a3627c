//! The attention form inside the chunks of `m.spans`, states passed between them: `cuda/ssd/quadratic.cu`,
//! `quadratic_vjp.cu`, `states.cu` and `decays.cu`. With one chunk a sequence this is the quadratic algorithm.
//!
//! Forward: what each chunk adds to the state, the states that enter the chunks, then every chunk by itself. The vjp does the
//! same with cotangents from the end, and has then both the state that enters a chunk and the cotangent of the one that
//! leaves it, so that chunks are independent again.
#![allow(unsafe_code)]

use super::{Cotangents, Operands, THREADS, sums};
use crate::backend::cuda::launch::Grid;
use crate::backend::cuda::tensor::{CudaTensor, Stored};
use crate::error::Result;

/// Positions of a tile.
const TILE: usize = 32;

/// `y = M x`; `initial` and `last` as in the recurrent form.
pub(crate) fn forward<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: &CudaTensor<T::Acc>,
    y: &CudaTensor<T>,
) -> Result<()> {
    m.load(["ssd/states.cu", "ssd/quadratic.cu"])?;
    let entering = entering(m, initial, Some(last))?;
    let kernel = m.stream().device().kernel(&m.program("ssd/quadratic.cu"), "quadratic_forward")?;
    let table = &m.spans.chunks;
    let dims = m.dims(y, None);
    // SAFETY: the arguments are those of `quadratic_forward`; chunks lie inside the tensors' rows, and each has its own
    // state in `entering`.
    unsafe {
        kernel.launch(
            m.stream(),
            over_tiles(m),
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, &entering, y],
        )
    }
}

/// Cotangents, given those of y and of the states that leave.
pub(crate) fn vjp<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
) -> Result<Cotangents<T>> {
    let (stream, device, table) = (m.stream(), m.stream().device(), &m.spans.chunks);
    m.load(["ssd/states.cu", "ssd/quadratic_vjp.cu", "ssd/decays.cu"])?;
    let grad = m.cotangents(dlast.shape(), dy)?;
    let entering = entering(m, initial, None)?;
    let leaving = leaving(m, dy, dlast, &grad.state)?;
    let dims = m.dims(dy, Some(&grad.x));
    let program = m.program("ssd/quadratic_vjp.cu");

    let (rows, read, columns, written) = (m.scalars()?, m.scalars()?, m.scalars()?, m.scalars()?);
    let share = m.shares(m.heads())?;
    let kernel = device.kernel(&program, "quadratic_dc")?;
    // SAFETY: the arguments are those of `quadratic_dc`; chunks lie inside the tensors' rows.
    unsafe {
        kernel.launch(
            stream,
            over_tiles(m),
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, m.c, &entering, dy, &share, &rows, &read],
        )
    }?;
    sums::heads(m, &share, m.heads(), &grad.c)?;

    let kernel = device.kernel(&program, "quadratic_db")?;
    // SAFETY: the arguments are those of `quadratic_db`; `share` is read by earlier work of the same stream only.
    unsafe {
        kernel.launch(
            stream,
            over_tiles(m),
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.c, &leaving, dy, &share],
        )
    }?;
    sums::heads(m, &share, m.heads(), &grad.b)?;

    let kernel = device.kernel(&program, "quadratic_dx")?;
    // SAFETY: the arguments are those of `quadratic_dx`.
    unsafe {
        kernel.launch(
            stream,
            over_tiles(m),
            &[
                &table.rows,
                &dims,
                m.log_a,
                m.dt,
                m.x,
                m.b,
                m.c,
                &m.d,
                &leaving,
                dy,
                &grad.x,
                &grad.dt,
                &columns,
                &written,
            ],
        )
    }?;

    let tiles = table.longest.div_ceil(TILE);
    let pairs: CudaTensor<T::Acc> = CudaTensor::room(stream, &[table.count, m.heads(), tiles, tiles])?;
    let sums: CudaTensor<T::Acc> = CudaTensor::room(stream, &[table.count, m.heads(), tiles, 3])?;
    let program = m.program("ssd/decays.cu");
    let kernel = device.kernel(&program, "quadratic_pairs")?;
    // SAFETY: the arguments are those of `quadratic_pairs`; `pairs` has a place for every pair of tiles.
    unsafe {
        kernel.launch(
            stream,
            over_tiles(m),
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, m.c, dy, &pairs, &grad.log_a],
        )
    }?;
    let kernel = device.kernel(&program, "quadratic_decays")?;
    // SAFETY: the arguments are those of `quadratic_decays`; all of them were written by earlier work of the stream.
    unsafe {
        kernel.launch(
            stream,
            Grid::new([table.count, m.heads(), 1], THREADS),
            &[
                &table.rows,
                &dims,
                m.log_a,
                &(tiles as i32),
                &pairs,
                &rows,
                &columns,
                &read,
                &written,
                &entering,
                &leaving,
                &sums,
                &grad.log_a,
            ],
        )
    }?;
    Ok(grad)
}

/// The state that enters each chunk, (chunks, heads, head_dim, state_dim); `last`: where those that leave sequences go.
fn entering<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: Option<&CudaTensor<T::Acc>>,
) -> Result<CudaTensor<T::Acc>> {
    let table = &m.spans.chunks;
    let (states, gamma) = (m.states(table.count)?, m.gammas()?);
    let kernel = m.stream().device().kernel(&m.program("ssd/states.cu"), "span_states")?;
    let dims = m.dims(m.x, None);
    // SAFETY: the arguments are those of `span_states`; every chunk has its place in `states` and `gamma`.
    unsafe {
        kernel.launch(
            m.stream(),
            over_states(m),
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, &states, &gamma],
        )
    }?;
    pass(m, Way::Onwards, initial, &gamma, &states, last)?;
    Ok(states)
}

/// The cotangent of the state that leaves each chunk; those of the states that enter sequences go to `first`.
fn leaving<T: Stored>(
    m: &Operands<'_, T>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
    first: &CudaTensor<T::Acc>,
) -> Result<CudaTensor<T::Acc>> {
    let table = &m.spans.chunks;
    let (states, gamma) = (m.states(table.count)?, m.gammas()?);
    let kernel = m.stream().device().kernel(&m.program("ssd/states.cu"), "span_cotangents")?;
    let dims = m.dims(dy, None);
    // SAFETY: the arguments are those of `span_cotangents`; every chunk has its place in `states` and `gamma`.
    unsafe {
        kernel.launch(m.stream(), over_states(m), &[&table.rows, &dims, m.log_a, dy, m.c, &states, &gamma])
    }?;
    pass(m, Way::Back, Some(dlast), &gamma, &states, Some(first))?;
    Ok(states)
}

/// Which way states pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Onwards,
    Back,
}

/// From chunk to chunk of each sequence; `added` is replaced by what each chunk starts from.
pub(crate) fn pass<T: Stored>(
    m: &Operands<'_, T>,
    way: Way,
    initial: Option<&CudaTensor<T::Acc>>,
    gamma: &CudaTensor<T::Acc>,
    added: &CudaTensor<T::Acc>,
    last: Option<&CudaTensor<T::Acc>>,
) -> Result<()> {
    let kernel = m.stream().device().kernel(&m.program("ssd/states.cu"), "state_passing")?;
    let table = &m.spans.sequences;
    let size = m.head_dim() * m.state_dim();
    let piece = if size.is_multiple_of(4) { 4 } else { 1 }; // numbers of a thread
    let blocks = size.div_ceil(piece * THREADS as usize);
    let dims = m.dims(m.x, None);
    let reverse = i32::from(way == Way::Back);
    // SAFETY: the arguments are those of `state_passing`; ranges number the chunks of `added`, spans the states of
    // `initial` and `last`.
    unsafe {
        kernel.launch(
            m.stream(),
            Grid::new([table.count * blocks, m.heads(), 1], THREADS),
            &[&table.rows, &m.spans.ranges, &dims, &reverse, &initial, gamma, added, &last],
        )
    }
}

impl<T: Stored> Operands<'_, T> {
    /// Room for the decay through each chunk, (chunks, heads).
    pub(crate) fn gammas(&self) -> Result<CudaTensor<T::Acc>> {
        CudaTensor::room(self.stream(), &[self.spans.chunks.count, self.heads()])
    }
}

/// A block for every tile of positions of every chunk and head.
fn over_tiles<T: Stored>(m: &Operands<'_, T>) -> Grid {
    let table = &m.spans.chunks;
    Grid::new([table.count, m.heads(), table.longest.div_ceil(TILE)], THREADS)
}

/// A block for every tile of the state of every chunk and head.
fn over_states<T: Stored>(m: &Operands<'_, T>) -> Grid {
    let tiles = m.head_dim().div_ceil(TILE) * m.state_dim().div_ceil(TILE);
    Grid::new([m.spans.chunks.count, m.heads(), tiles], THREADS)
}
