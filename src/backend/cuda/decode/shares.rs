//! How states are shared out among threads, and the programs for it.

use super::super::kernels::Shape;
use super::super::source::Program;
use super::StateElement;

/// Rows by the registers of `ssd/decode.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Enough states for every multiprocessor: many rows a thread, all of them on their way at once.
    Coarse,
    /// Few states: few rows a thread, many blocks.
    Fine,
}

impl Parts {
    const WARPS: usize = 4;
    pub(super) const THREADS: u32 = 32 * Self::WARPS as u32;

    /// Rows of a thread.
    fn steps(self) -> usize {
        match self {
            Self::Coarse => 8,
            Self::Fine => 2,
        }
    }

    /// Rows of a block at a time, as the kernel finds it: lanes that share a row each move 16 bytes of it.
    pub(super) fn rows(self, bytes: usize, state_dim: usize) -> usize {
        let lanes = lanes(bytes, state_dim);
        Self::WARPS * self.steps().min(lanes) * (32 / lanes)
    }

    pub(super) fn program(self, stored: &'static str, state: &'static str, shape: Shape) -> Program {
        program("ssd/decode.cu", stored, state, shape)
            .define("WARPS", Self::WARPS)
            .define("STEPS", self.steps())
    }
}

/// Tiles of `ssd/sm90/decode.cu`: rows of a head's state that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    rows: usize,
    row_bytes: usize,
    steps: usize, // rows of a lane
}

impl Tiles {
    const WARPS: usize = 8;
    pub(super) const THREADS: u32 = 32 * Self::WARPS as u32;
    /// Bytes of a tile at most.
    const MOST: usize = 16 << 10;
    /// Tiles of a block that are on their way or being worked on.
    const STAGES: usize = 6;

    /// For states of numbers of `bytes`, if the kernel is made for them.
    pub(super) fn of(Shape { head_dim, state_dim }: Shape, bytes: usize) -> Option<Self> {
        let known = matches!(head_dim, 64 | 128) && matches!(state_dim, 64 | 128 | 256);
        let row_bytes = state_dim * bytes;
        let apart = Self::WARPS * (32 / lanes(bytes, state_dim));
        known.then(|| {
            let rows = head_dim.min(Self::MOST / row_bytes);
            Self { rows, row_bytes, steps: rows / apart }
        })
    }

    /// Tiles of a head.
    pub(super) fn parts(self, head_dim: usize) -> usize {
        head_dim / self.rows
    }

    /// `SHARED_BYTES`.
    pub(super) fn shared(self) -> u32 {
        (Self::STAGES * (self.rows * self.row_bytes + 8)) as u32
    }

    pub(super) fn program(self, stored: &'static str, state: &'static str, shape: Shape) -> Program {
        program("ssd/sm90/decode.cu", stored, state, shape).define("STEPS", self.steps)
    }
}

/// Lanes that share a row, each moving 16 bytes of it at a time, or fewer where rows are not made of such.
fn lanes(bytes: usize, state_dim: usize) -> usize {
    let mut width = 16 / bytes;
    while !state_dim.is_multiple_of(width) {
        width /= 2;
    }
    state_dim.div_ceil(width).next_power_of_two().min(32)
}

/// All programs of steps with inputs of one type.
pub(in super::super) fn programs(stored: &'static str, shape: Shape) -> impl Iterator<Item = Program> {
    let states = [(f32::KERNEL, 4), (half::bf16::KERNEL, 2), (half::f16::KERNEL, 2)].into_iter();
    states.flat_map(move |(state, bytes)| {
        let tiles = Tiles::of(shape, bytes).map(|tiles| tiles.program(stored, state, shape));
        let parts =
            [Parts::Coarse, Parts::Fine].into_iter().map(move |parts| parts.program(stored, state, shape));
        parts.chain(tiles)
    })
}

fn program(name: &'static str, stored: &'static str, state: &'static str, shape: Shape) -> Program {
    Program::new(name)
        .define(stored, 1)
        .define("STATE", state)
        .define("HEAD_DIM", shape.head_dim)
        .define("STATE_DIM", shape.state_dim)
}

#[cfg(test)]
mod tests {
    use super::{Shape, Tiles};

    #[test]
    fn tiles_are_16_kb_or_a_whole_head() {
        let tiles = |head_dim, state_dim, bytes| {
            let tiles = Tiles::of(Shape { head_dim, state_dim }, bytes).unwrap();
            (tiles.rows, tiles.steps, tiles.parts(head_dim))
        };
        assert_eq!(tiles(64, 128, 2), (64, 4, 1));
        assert_eq!(tiles(64, 128, 4), (32, 4, 2));
        assert_eq!(tiles(64, 64, 2), (64, 2, 1));
        assert_eq!(tiles(128, 256, 4), (16, 2, 8));
        assert_eq!(Tiles::of(Shape { head_dim: 64, state_dim: 96 }, 2), None);
    }
}
