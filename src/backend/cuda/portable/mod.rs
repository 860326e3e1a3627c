//! The portable tier: tensor cores of any supported architecture, for bf16 and f16, heads and states of any width.
//!
//! Chunk by chunk, as in the exact tier: what each chunk adds to the state, the states passed from chunk to chunk, and then
//! every chunk by itself. Kernels: `cuda/ssd/portable/`.
#![allow(unsafe_code)]

pub(crate) mod backward;
pub(crate) mod forward;

use super::exact::Operands;
use super::launch::{Argument, Grid};
use super::source::Program;
use super::tensor::{Stored, stored_macro};
use crate::error::Result;
use crate::ssd::Diagonal;

/// Positions of a chunk; `Q` of `tile.cuh`.
pub(crate) const CHUNK: usize = 64;
/// Most heads of a block; `HEADS` of `chunk.cuh`.
const HEADS: usize = 8;
/// Threads of a block, where a warp has 16 positions.
const THREADS: u32 = 128;
/// Channels of a tile of `states.cu`.
const CHANNELS: usize = 64;
/// Rows of a tile in shared memory lie this many numbers farther apart than they are wide.
const GAP: usize = 8;

/// A file below `cuda/ssd/portable/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    States,
    Channels,
    Features,
    Decays,
}

impl File {
    const ALL: [Self; 4] = [Self::States, Self::Channels, Self::Features, Self::Decays];

    fn name(self) -> &'static str {
        match self {
            Self::States => "ssd/portable/states.cu",
            Self::Channels => "ssd/portable/channels.cu",
            Self::Features => "ssd/portable/features.cu",
            Self::Decays => "ssd/portable/decays.cu",
        }
    }

    /// The program for a type and a shape, and for a diagonal where that matters.
    fn program(self, stored: &'static str, size: (usize, usize), diagonal: Diagonal) -> Program {
        let program = Program::new(self.name()).define(stored, 1);
        let program = program.define("HEAD_DIM", size.0).define("STATE_DIM", size.1);
        match self {
            Self::States | Self::Decays => program,
            _ => program.define("FREE_DIAGONAL", i32::from(diagonal == Diagonal::Free)),
        }
    }

    /// Bytes of its `Shared`.
    fn shared(self, (head_dim, state_dim): (usize, usize)) -> u32 {
        let wide = padded(state_dim) + GAP;
        let steps = 3 * 4 * CHUNK;
        let tile = padded(head_dim).min(if padded(state_dim) > 128 { 16 } else { 64 });
        let tiles = 2 * (2 * CHUNK * (wide + tile + GAP) + 2 * tile * wide) + 4 * 4 + steps;
        let bytes = match self {
            Self::States => 2 * CHUNK * (wide + CHANNELS + GAP) + steps + 4 * CHUNK,
            Self::Channels | Self::Features => tiles,
            Self::Decays => 0,
        };
        bytes as u32
    }
}

/// Numbers of a row of a tile before the gap.
fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// The programs for a type of 16 bits.
pub(super) fn programs(stored: &'static str, size: (usize, usize)) -> Vec<Program> {
    let both = |file: File| [Diagonal::Scores, Diagonal::Free].map(|d| file.program(stored, size, d));
    let mut programs: Vec<_> = File::ALL.into_iter().flat_map(both).collect();
    programs.dedup();
    programs
}

/// Blocks of at most [`HEADS`] heads of one group.
fn blocks_of_heads<T: Stored>(m: &Operands<'_, T>) -> usize {
    m.groups() * (m.heads() / m.groups()).div_ceil(HEADS)
}

/// Starts a kernel over the chunks of `m`, which have [`CHUNK`] positions, and blocks of heads.
///
/// # Safety
/// As for a kernel's launch; chunks lie inside the tensors' rows.
unsafe fn start<T: Stored>(
    m: &Operands<'_, T>,
    file: File,
    name: &'static str,
    arguments: &[&dyn Argument],
) -> Result<()> {
    let size = (m.head_dim(), m.state_dim());
    let program = file.program(stored_macro::<T>(), size, m.diagonal);
    let kernel = m.stream().device().kernel(&program, name)?;
    let heads = if file == File::Decays { m.heads() } else { blocks_of_heads(m) };
    let grid = Grid::new([m.spans.chunks.count, heads, 1], THREADS);
    // SAFETY: the caller's.
    unsafe { kernel.launch(m.stream(), Grid { shared: file.shared(size), ..grid }, arguments) }
}
