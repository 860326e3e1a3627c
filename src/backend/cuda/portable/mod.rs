//! The portable tier: tensor cores of any supported architecture, for bf16 and f16, heads and states of any width.

pub(crate) mod backward;
pub(crate) mod forward;

use super::source::Program;
use crate::ssd::Diagonal;

/// Rows of a tile in shared memory lie this many numbers farther apart than they are wide.
const GAP: usize = 8;

/// Numbers of a state's row, and of a row of b and c, in shared memory.
fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// The programs for a type of 16 bits.
pub(super) fn programs(stored: &'static str, size: (usize, usize)) -> Vec<Program> {
    let masked = [Diagonal::Scores, Diagonal::Free].into_iter().flat_map(|diagonal| {
        [forward::program(stored, size, diagonal)]
            .into_iter()
            .chain(backward::MASKED.map(|name| masked(name, stored, size, diagonal)))
    });
    masked.chain(backward::PLAIN.map(|name| program(name, stored, size))).collect()
}

/// A program for a type and a shape.
fn program(name: &'static str, stored: &'static str, (head_dim, state_dim): (usize, usize)) -> Program {
    Program::new(name).define(stored, 1).define("HEAD_DIM", head_dim).define("STATE_DIM", state_dim)
}

/// The same where the diagonal matters.
fn masked(name: &'static str, stored: &'static str, size: (usize, usize), diagonal: Diagonal) -> Program {
    program(name, stored, size).define("FREE_DIAGONAL", i32::from(diagonal == Diagonal::Free))
}
