//! The portable tier: tensor cores of any supported architecture, for bf16, f16 and, where f32 may be rounded to 11 bits in
//! products, tf32; heads and states of any width.
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

/// Most heads of a block; `HEADS` of `chunk.cuh`.
const HEADS: usize = 8;
/// Rows of a tile in shared memory lie this many bytes farther apart than they are wide.
const GAP: usize = 16;

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

    /// The program for a type and a shape.
    fn program(self, stored: &'static str, size: (usize, usize)) -> Program {
        let bytes = if stored == "STORED_F32" { 4 } else { 2 };
        Program::new(self.name())
            .define(stored, 1)
            .define("HEAD_DIM", size.0)
            .define("STATE_DIM", size.1)
            .define("SHARED", self.shared(bytes, size))
    }

    /// Warps that share 16 positions; `SPLIT` of `tile.cuh`.
    fn split(self, bytes: usize) -> usize {
        if bytes == 4 && self != Self::States { 2 } else { 1 }
    }

    /// Bytes of shared memory, which the kernels make sure suffice; `bytes`: of a number.
    fn shared(self, bytes: usize, (head_dim, state_dim): (usize, usize)) -> u32 {
        let (chunk, single) = (chunk(bytes, state_dim), bytes == 4);
        let wide = padded(state_dim) * bytes + GAP;
        let side = chunk * wide;
        let steps = (3 + 1) * 4 * chunk + 4 * 4;
        let tile = |widest_of_wide| {
            let channels = padded(head_dim).min(if wide > 256 + GAP { widest_of_wide } else { 64 });
            let terms = if single { 1 } else { 2 };
            2 * chunk * (channels * bytes + GAP) + terms * channels * wide
        };
        let all = match self {
            Self::States => side + chunk * (chunk * bytes + GAP) + steps,
            Self::Channels => side + side.max(tile(if single { 32 } else { 16 })) + steps,
            Self::Features if single => 2 * side + tile(16) + steps + 512 * (chunk / 16) * (chunk / 16 + 1),
            Self::Features => 2 * side + tile(16) + steps + 16,
            Self::Decays => 0,
        };
        all as u32
    }
}

/// Positions of a chunk for numbers of so many bytes; `Q` of `tile.cuh`.
fn chunk(bytes: usize, state_dim: usize) -> usize {
    if bytes == 4 && padded(state_dim) > 128 { 32 } else { 64 }
}

/// Positions of the chunks that the kernels take for this type and width of a state.
pub(crate) fn chunk_of<T: Stored>(state_dim: usize) -> usize {
    chunk(size_of::<T>(), state_dim)
}

/// Numbers of a row of a tile before the gap.
fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// The programs for a type of 16 bits or f32.
pub(super) fn programs(stored: &'static str, size: (usize, usize)) -> impl Iterator<Item = Program> {
    File::ALL.into_iter().map(move |file| file.program(stored, size))
}

/// Loads the programs of these files and that of passing states before the first is needed.
fn load<T: Stored>(m: &Operands<'_, T>, files: &[File]) -> Result<()> {
    let size = (m.head_dim(), m.state_dim());
    let own = files.iter().map(|file| file.program(stored_macro::<T>(), size));
    m.stream().device().load(&own.chain([m.program("ssd/states.cu")]).collect::<Vec<_>>())
}

/// Blocks of at most [`HEADS`] heads of one group.
fn blocks_of_heads<T: Stored>(m: &Operands<'_, T>) -> usize {
    m.groups() * (m.heads() / m.groups()).div_ceil(HEADS)
}

/// Starts a kernel over the chunks of `m`, which have [`chunk_of`] positions, and blocks of heads.
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
    let program = file.program(stored_macro::<T>(), size);
    let kernel = m.stream().device().kernel(&program, name)?;
    let heads = if file == File::Decays { m.heads() } else { blocks_of_heads(m) };
    let bytes = size_of::<T>();
    let threads = (2 * file.split(bytes) * chunk_of::<T>(m.state_dim())) as u32;
    let grid = Grid::new([m.spans.chunks.count, heads, 1], threads);
    let shared = file.shared(bytes, size);
    // SAFETY: the caller's.
    unsafe { kernel.launch(m.stream(), Grid { shared, ..grid }, arguments) }
}

#[cfg(test)]
mod tests {
    use super::File;

    #[test]
    fn the_shared_memory_of_the_smallest_devices_suffices() {
        let widths = || (16..=256).step_by(16);
        for (bytes, head_dim) in [2, 4].into_iter().flat_map(|bytes| widths().map(move |p| (bytes, p))) {
            for state_dim in widths() {
                let most = File::ALL.map(|file| file.shared(bytes, (head_dim, state_dim))).into_iter().max();
                assert!(most <= Some(99 << 10), "{bytes} bytes, {head_dim}, {state_dim}: {most:?}");
            }
        }
    }
}
