//! Every program that a shape needs: what is compiled ahead of time.

use super::sm90::{backward, forward};
use super::source::Program;
use super::{decode, exact, portable, selective_scan};
use crate::ssd::Diagonal;

/// What programs are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of x in a head.
    pub head_dim: usize,
    /// Width of the state of a head.
    pub state_dim: usize,
}

impl Default for Shape {
    /// The shape of the published models.
    fn default() -> Self {
        Self { head_dim: 64, state_dim: 128 }
    }
}

/// The macros that name the types tensors are stored in.
pub(crate) const STORED: [&str; 4] = ["STORED_F64", "STORED_F32", "STORED_F16", "STORED_BF16"];

/// All programs that products of this shape and their vjps need, in every type.
pub fn programs(shape: Shape) -> Vec<Program> {
    let size = (shape.head_dim, shape.state_dim);
    let of_type = |stored: &'static str| {
        let plain = ["fill.cu", "ssd/discretize.cu", "ssd/sums.cu"];
        let plain = plain.into_iter().map(move |name| Program::new(name).define(stored, 1));
        let diagonals = [Diagonal::Scores, Diagonal::Free];
        let mut sized: Vec<_> = exact::SIZED
            .into_iter()
            .flat_map(|name| diagonals.map(|diagonal| exact::program(name, stored, size, diagonal)))
            .collect();
        sized.dedup(); // most do not ask
        plain.chain(sized).chain(forward::programs(stored, size)).chain(backward::programs(stored, size))
    };
    let single = || STORED.into_iter().skip(1); // what computes in f32
    let portable = single().flat_map(|stored| portable::programs(stored, size));
    let more =
        single().flat_map(|stored| decode::programs(stored, shape).chain(selective_scan::programs(stored)));
    STORED.into_iter().flat_map(of_type).chain(portable).chain(more).collect()
}
