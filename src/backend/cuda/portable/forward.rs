//! `y = M x`: `cuda/ssd/portable/forward.cu`.
#![allow(unsafe_code)]

use super::{GAP, masked, padded};
use crate::backend::cuda::exact::Operands;
use crate::backend::cuda::launch::Grid;
use crate::backend::cuda::source::Program;
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;
use crate::ssd::Diagonal;

/// Threads of a block.
const THREADS: u32 = 256;
/// Channels of a block.
const CHANNELS: usize = 64;

/// `y = M x` of the tensors that the recurrent form takes too; their sequences, not their chunks, matter.
pub(crate) fn forward<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: &CudaTensor<T::Acc>,
    y: &CudaTensor<T>,
) -> Result<()> {
    let size = (m.head_dim(), m.state_dim());
    let program = program(stored_macro::<T>(), size, m.diagonal);
    let kernel = m.stream().device().kernel(&program, "portable_forward")?;
    let table = &m.spans.sequences;
    let blocks = [table.count, m.heads(), m.head_dim().div_ceil(CHANNELS)];
    let grid = Grid { shared: shared(m.state_dim()), ..Grid::new(blocks, THREADS) };
    let dims = m.dims(y, None);
    // SAFETY: the arguments are those of `portable_forward`; spans lie inside the tensors' rows, and the states they name
    // inside `initial` and `last`.
    unsafe {
        kernel.launch(
            m.stream(),
            grid,
            &[&table.rows, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, &initial, last, y],
        )
    }
}

/// Positions of a chunk: short where wide states would take more shared memory than small devices have.
fn chunk(state_dim: usize) -> usize {
    if state_dim > 128 { 32 } else { 64 }
}

/// Bytes of `Shared` of `forward.cu`.
fn shared(state_dim: usize) -> u32 {
    let (chunk, wide) = (chunk(state_dim), padded(state_dim) + GAP);
    let numbers = wide * (2 * chunk + CHANNELS) + chunk * (CHANNELS + GAP);
    (2 * numbers + 4 * 4 * chunk + 8 * 4) as u32
}

pub(super) fn program(stored: &'static str, size: (usize, usize), diagonal: Diagonal) -> Program {
    masked("ssd/portable/forward.cu", stored, size, diagonal).define("CHUNK", chunk(size.1))
}
