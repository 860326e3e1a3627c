//! The portable tier: tensor cores of any supported architecture, for bf16 and f16.
#![allow(unsafe_code)]

use super::exact::Operands;
use super::launch::Grid;
use super::source::Program;
use super::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;
use crate::ssd::Diagonal;

/// Threads of a block.
const THREADS: u32 = 256;
/// Channels of a block.
const CHANNELS: usize = 64;

/// `y = M x` of the tensors that [`super::exact::recurrent::forward`] takes too; their sequences, not their chunks, matter.
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

/// Bytes of `portable::Shared`.
fn shared(state_dim: usize) -> u32 {
    let (chunk, wide) = (chunk(state_dim), state_dim.next_multiple_of(16) + 8);
    let numbers = wide * (2 * chunk + CHANNELS) + chunk * (CHANNELS + 8);
    (2 * numbers + 4 * 4 * chunk + 8 * 4) as u32
}

/// The programs for a type of 16 bits.
pub(super) fn programs(stored: &'static str, size: (usize, usize)) -> impl Iterator<Item = Program> {
    [Diagonal::Scores, Diagonal::Free].into_iter().map(move |diagonal| program(stored, size, diagonal))
}

fn program(stored: &'static str, (head_dim, state_dim): (usize, usize), diagonal: Diagonal) -> Program {
    Program::new("ssd/portable/forward.cu")
        .define(stored, 1)
        .define("HEAD_DIM", head_dim)
        .define("STATE_DIM", state_dim)
        .define("FREE_DIAGONAL", i32::from(diagonal == Diagonal::Free))
        .define("CHUNK", chunk(state_dim))
}
