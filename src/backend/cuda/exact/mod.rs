//! The exact tier: plain arithmetic in the precision of computation, any shape, any type.
//!
//! It is what f64 and f32 are computed by, and what the other tiers are judged beside. [`recurrent`] steps through the
//! state; [`blocks`] is the attention form inside blocks with states passed between them, and with blocks as long as the
//! sequences it is the attention form alone.

pub(crate) mod blocks;
pub(crate) mod discretize;
pub(crate) mod recurrent;
pub(crate) mod sums;

use super::launch::Parameters;
use super::source::Program;
use super::spans::Spans;
use super::stream::Stream;
use super::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;
use crate::ssd::Diagonal;

/// Threads of a block of every kernel of this tier.
pub(crate) const THREADS: u32 = 256;

/// Most channels of a head and most numbers of its state for a channel that the kernels are made for.
pub(crate) const WIDEST: usize = 256;

/// Twin of `Dims` in `cuda/common/exact.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Dims {
    heads: i32,
    groups: i32,
    skip: i32,
    zero: i32,
    free_diagonal: i32,
    x_pitch: i64,
    b_pitch: i64,
    c_pitch: i64,
    y_pitch: i64,
    dx_pitch: i64,
}

impl Parameters for Dims {}

/// The matrix with its steps at hand, and x: what every kernel of this tier reads. Shapes are checked, tensors are of one
/// stream, steps and decays contiguous.
#[derive(Debug)]
pub(crate) struct Operands<'a, T: Stored> {
    pub log_a: &'a CudaTensor<T::Acc>,     // (batch, len, heads)
    pub dt: &'a CudaTensor<T::Acc>,        // (batch, len, heads)
    pub b: &'a CudaTensor<T>,              // (batch, len, groups, state_dim)
    pub c: &'a CudaTensor<T>,              // (batch, len, groups, state_dim)
    pub d: Option<&'a CudaTensor<T::Acc>>, // (heads, 1 or head_dim)
    pub x: &'a CudaTensor<T>,              // (batch, len, heads, head_dim)
    pub diagonal: Diagonal,
    pub spans: &'a Spans,
}

/// The cotangents of [`Operands`] and of the state that entered.
#[derive(Debug)]
pub(crate) struct Cotangents<T: Stored> {
    pub log_a: CudaTensor<T::Acc>,
    pub dt: CudaTensor<T::Acc>,
    pub b: CudaTensor<T>,
    pub c: CudaTensor<T>,
    pub d: Option<CudaTensor<T::Acc>>,
    pub x: CudaTensor<T>,
    pub state: CudaTensor<T::Acc>,
}

impl<T: Stored> Operands<'_, T> {
    pub(crate) fn stream(&self) -> &Stream {
        self.x.stream()
    }

    fn rows(&self) -> usize {
        self.x.rows()
    }

    pub(crate) fn heads(&self) -> usize {
        self.x.shape()[2]
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.x.shape()[3]
    }

    pub(crate) fn groups(&self) -> usize {
        self.b.shape()[2]
    }

    pub(crate) fn state_dim(&self) -> usize {
        self.b.shape()[3]
    }

    /// The dimensions with `y` (or its cotangent), and with the cotangent of x, if there is one.
    pub(crate) fn dims(&self, y: &CudaTensor<T>, dx: Option<&CudaTensor<T>>) -> Dims {
        Dims {
            heads: self.heads() as i32,
            groups: self.groups() as i32,
            skip: self.d.map_or(0, |d| d.shape()[1]) as i32,
            zero: 0,
            free_diagonal: i32::from(self.diagonal == Diagonal::Free),
            x_pitch: self.x.pitch() as i64,
            b_pitch: self.b.pitch() as i64,
            c_pitch: self.c.pitch() as i64,
            y_pitch: y.pitch() as i64,
            dx_pitch: dx.map_or(0, |dx| dx.pitch()) as i64,
        }
    }

    /// A program for these shapes.
    pub(crate) fn program(&self, name: &'static str) -> Program {
        program(name, stored_macro::<T>(), (self.head_dim(), self.state_dim()), self.diagonal)
    }

    /// Loads the programs of these files before the first is needed.
    fn load<const N: usize>(&self, names: [&'static str; N]) -> Result<()> {
        self.stream().device().load(&names.map(|name| self.program(name)))
    }

    /// Room for a number for each position and head.
    pub(crate) fn scalars(&self) -> Result<CudaTensor<T::Acc>> {
        CudaTensor::room(self.stream(), self.log_a.shape())
    }

    /// Room for `count` states of every head.
    pub(crate) fn states(&self, count: usize) -> Result<CudaTensor<T::Acc>> {
        CudaTensor::room(self.stream(), &[count, self.heads(), self.head_dim(), self.state_dim()])
    }

    /// Room for a row of the state's width for each position and `per_row` heads or parts of heads.
    pub(crate) fn shares(&self, per_row: usize) -> Result<CudaTensor<T::Acc>> {
        CudaTensor::room(self.stream(), &[self.rows(), per_row, self.state_dim()])
    }

    /// Room for the cotangents, with the skip's computed.
    pub(crate) fn cotangents(&self, states: &[usize], dy: &CudaTensor<T>) -> Result<Cotangents<T>> {
        let stream = self.stream();
        Ok(Cotangents {
            log_a: self.scalars()?,
            dt: self.scalars()?,
            b: CudaTensor::room(stream, self.b.shape())?,
            c: CudaTensor::room(stream, self.c.shape())?,
            d: self.d.map(|d| sums::skip_vjp(self, d, dy)).transpose()?,
            x: CudaTensor::room(stream, self.x.shape())?,
            state: CudaTensor::room(stream, states)?,
        })
    }
}

/// The programs of this tier whose kernels are made for a shape.
pub(crate) const SIZED: [&str; 6] = [
    "ssd/decays.cu",
    "ssd/quadratic.cu",
    "ssd/quadratic_vjp.cu",
    "ssd/recurrent.cu",
    "ssd/recurrent_vjp.cu",
    "ssd/states.cu",
];

/// A program of [`SIZED`] for a type of [`super::kernels::STORED`] and a shape.
pub(crate) fn program(
    name: &'static str,
    stored: &'static str,
    (head_dim, state_dim): (usize, usize),
    diagonal: Diagonal,
) -> Program {
    let program =
        Program::new(name).define(stored, 1).define("HEAD_DIM", head_dim).define("STATE_DIM", state_dim);
    let bytes = if stored == "STORED_F64" { size_of::<f64>() } else { size_of::<f32>() };
    match name {
        "ssd/recurrent.cu" | "ssd/recurrent_vjp.cu" => {
            let program = program.define("ROWS", recurrent::rows(head_dim, state_dim, bytes));
            program.define("FREE_DIAGONAL", i32::from(diagonal == Diagonal::Free))
        }
        _ => program,
    }
}
