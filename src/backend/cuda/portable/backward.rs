//! The vjp: both states at the borders of chunks, then the cotangents of every chunk.
#![allow(unsafe_code)]

use super::forward::entering;
use super::{File, blocks_of_heads, load, start};
use crate::backend::cuda::exact::blocks::{Way, pass};
use crate::backend::cuda::exact::{Cotangents, Operands, sums};
use crate::backend::cuda::launch::Argument;
use crate::backend::cuda::tensor::{CudaTensor, Stored};
use crate::error::Result;

/// Cotangents, given those of y and of the states that leave.
pub(crate) fn vjp<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
) -> Result<Cotangents<T>> {
    load(m, &File::ALL)?;
    let grad = m.cotangents(dlast.shape(), dy)?;
    let [entering, gamma] = entering(m, initial, None)?;
    let leaving = leaving(m, dy, dlast, &grad.state)?;
    let share = m.shares(blocks_of_heads(m))?;
    let (rows, read, columns, written) = (m.scalars()?, m.scalars()?, m.scalars()?, m.scalars()?);
    let (chunks, dims) = (&m.spans.chunks.rows, m.dims(dy, Some(&grad.x)));
    // SAFETY: the arguments below are those of the kernels' declarations; every chunk, row and block of heads has its place in what
    // is written, and what is read was written by earlier work of the stream.
    let start = |file, name, arguments: &[&dyn Argument]| unsafe { start(m, file, name, arguments) };
    start(
        File::Features,
        "portable_dc",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, dy, &entering, &share, &rows, &read],
    )?;
    sums::heads(m, &share, blocks_of_heads(m), &grad.c)?;
    start(
        File::Features,
        "portable_db",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, dy, &leaving, &share, &columns, &written],
    )?;
    sums::heads(m, &share, blocks_of_heads(m), &grad.b)?;
    start(
        File::Channels,
        "portable_dx",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, dy, &leaving, &grad.x, &grad.dt],
    )?;
    start(
        File::Decays,
        "portable_decays",
        &[chunks, &dims, &rows, &read, &columns, &written, &entering, &leaving, &gamma, &grad.log_a],
    )?;
    Ok(grad)
}

/// The cotangent of the state that leaves each chunk; those of the states that enter sequences go to `first`.
fn leaving<T: Stored>(
    m: &Operands<'_, T>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
    first: &CudaTensor<T::Acc>,
) -> Result<CudaTensor<T::Acc>> {
    let (states, gamma) = (m.states(m.spans.chunks.count)?, m.gammas()?);
    let (chunks, dims) = (&m.spans.chunks.rows, m.dims(dy, None));
    // SAFETY: the arguments are those of `portable_cotangents`; every chunk has its place in `states` and `gamma`.
    unsafe {
        start(
            m,
            File::States,
            "portable_cotangents",
            &[chunks, &dims, m.log_a, m.dt, dy, m.c, &states, &gamma],
        )
    }?;
    pass(m, Way::Back, Some(dlast), &gamma, &states, Some(first))?;
    Ok(states)
}
