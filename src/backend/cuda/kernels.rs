//! Every program that a shape needs: what is compiled ahead of time.

use super::source::Program;

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
pub fn programs(_shape: Shape) -> Vec<Program> {
    STORED.iter().map(|stored| Program::new("fill.cu").define(stored, 1)).collect()
}
