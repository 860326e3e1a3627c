//! `y = M x` and the states between the chunks.
#![allow(unsafe_code)]

use super::{File, load, start};
use crate::backend::cuda::exact::Operands;
use crate::backend::cuda::exact::blocks::{Way, pass};
use crate::backend::cuda::tensor::{CudaTensor, Stored};
use crate::error::Result;

/// `y = M x` of the tensors that the exact tier takes too.
pub(crate) fn forward<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: &CudaTensor<T::Acc>,
    y: &CudaTensor<T>,
) -> Result<()> {
    load(m, &[File::States, File::Channels])?;
    let [entering, _] = entering(m, initial, Some(last))?;
    let (chunks, dims) = (&m.spans.chunks.rows, m.dims(y, None));
    // SAFETY: the arguments are those of `portable_y`; each chunk has its own state in `entering`.
    unsafe {
        start(
            m,
            File::Channels,
            "portable_y",
            &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, &entering, y],
        )
    }
}

/// The state that enters each chunk, (chunks, heads, head_dim, state_dim), and the decay through each, (chunks, heads);
/// `last`: where the states that leave sequences go.
pub(super) fn entering<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: Option<&CudaTensor<T::Acc>>,
) -> Result<[CudaTensor<T::Acc>; 2]> {
    let (states, gamma) = (m.states(m.spans.chunks.count)?, m.gammas()?);
    let (chunks, dims) = (&m.spans.chunks.rows, m.dims(m.x, None));
    // SAFETY: the arguments are those of `portable_states`; every chunk has its place in `states` and `gamma`.
    unsafe {
        start(m, File::States, "portable_states", &[chunks, &dims, m.log_a, m.dt, m.x, m.b, &states, &gamma])
    }?;
    pass(m, Way::Onwards, initial, &gamma, &states, last)?;
    Ok([states, gamma])
}
