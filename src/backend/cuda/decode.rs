//! One decoding step of a batch: every sequence's state advances by one position, in place.
#![allow(unsafe_code)]

use super::kernels::Shape;
use super::launch::{Grid, Parameters, Start};
use super::source::Program;
use super::steps::{StepRule, check_flat, check_stream};
use super::stream::Stream;
use super::tensor::{CudaTensor, Element, Stored, stored_macro};
use crate::error::{Error, Result, check_shape};

/// Warps of a block.
const WARPS: usize = 4;

/// A number that states can be kept in: `f32`, `bf16` or `f16`; they are computed with in `f32`.
pub trait StateElement: Element {
    /// Its name in kernels.
    #[doc(hidden)]
    const KERNEL: &'static str;
}

impl StateElement for f32 {
    const KERNEL: &'static str = "float";
}
impl StateElement for half::bf16 {
    const KERNEL: &'static str = "bf16";
}
impl StateElement for half::f16 {
    const KERNEL: &'static str = "f16";
}

/// Which states of a pool the sequences of a batch own.
#[derive(Debug, Clone)]
pub struct Slots {
    numbers: CudaTensor<i32>,
    pool: usize,
}

impl Slots {
    /// Sequence k owns state `numbers[k]` of a pool of `pool` states.
    ///
    /// # Errors
    /// [`Error::Value`] if a number is not below `pool` or two sequences own one state, and those of an upload.
    pub fn new(stream: &Stream, numbers: &[usize], pool: usize) -> Result<Self> {
        let mut owner = vec![None; pool];
        let mut narrow = Vec::with_capacity(numbers.len());
        for (k, &slot) in numbers.iter().enumerate() {
            let wrong = |expected, found| Err(Error::Value { tensor: "slots", expected, found });
            match (owner.get_mut(slot), i32::try_from(slot)) {
                (Some(free @ None), Ok(slot)) => {
                    *free = Some(k);
                    narrow.push(slot);
                }
                (Some(Some(first)), _) => {
                    return wrong(
                        "a slot of its own for each sequence",
                        format!("{slot} at {first} and {k}"),
                    );
                }
                _ => return wrong("slots of the pool", format!("{slot} at {k} of a pool of {pool}")),
            }
        }
        let numbers = CudaTensor::upload(stream, ndarray::ArrayView1::from(&narrow))?;
        Ok(Self { numbers, pool })
    }
}

/// The generators of one position of every sequence of a batch, on a device.
///
/// ```math
/// h = e^{A\, \mathrm{dt}}\, h + \mathrm{dt}\, x\, b^\top, \qquad y = h\, c + d \circ x
/// ```
///
/// All tensors are those of [`Ssd`](crate::ssd::Ssd) with `len` = 1. A sequence's result does not depend on the others, bit
/// for bit.
#[derive(Debug, Clone)]
pub struct DecodeStep<'a, T> {
    steps: StepRule<'a>,            // (batch, 1, heads)
    a: &'a CudaTensor<f32>,         // (heads)
    b: &'a CudaTensor<T>,           // (batch, 1, groups, state_dim)
    c: &'a CudaTensor<T>,           // (batch, 1, groups, state_dim)
    d: Option<&'a CudaTensor<f32>>, // (heads, 1 or head_dim)
    slots: Option<&'a Slots>,
}

/// Twin of the struct in `cuda/ssd/decode.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Arguments {
    x: u64,
    b: u64,
    c: u64,
    dt: u64,
    a: u64,
    bias: u64,
    d: u64,
    state: u64,
    slots: u64,
    y: u64,
    x_pitch: i64,
    b_pitch: i64,
    c_pitch: i64,
    dt_pitch: i64,
    y_pitch: i64,
    heads: i32,
    groups: i32,
    d_width: i32,
    softplus: i32,
    dt_min: f32,
    dt_max: f32,
}

impl Parameters for Arguments {}

impl<'a, T: Stored> DecodeStep<'a, T> {
    /// The step with these generators, without a skip; sequence k owns state k.
    ///
    /// # Shapes
    /// `steps`: (batch, 1, heads); `a`: (heads); `b`, `c`: (batch, 1, groups, state_dim).
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree or heads is not a multiple of groups;
    /// [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if they are not on one stream.
    pub fn new(
        steps: StepRule<'a>,
        a: &'a CudaTensor<f32>,
        b: &'a CudaTensor<T>,
        c: &'a CudaTensor<T>,
    ) -> Result<Self> {
        let stream = steps.raw.stream();
        let [batch, 1, heads @ (1..)] = *steps.raw.shape() else {
            return Err(Error::shape("dt", "(batch, 1, heads) with at least one head", steps.raw.shape()));
        };
        check_flat("A", "(heads)", a, &[heads], stream)?;
        if let Some(bias) = steps.bias {
            check_flat("dt_bias", "(heads)", bias, &[heads], stream)?;
        }
        check_stream("b", b, stream)?;
        match *b.shape() {
            [rows, 1, groups @ (1..), (1..)] if rows == batch && heads % groups == 0 => {}
            _ => {
                let expected = format!(
                    "(batch, 1, groups, state_dim) = [{batch}, 1, a divisor of heads = {heads}, at least 1]"
                );
                return Err(Error::shape("b", expected, b.shape()));
            }
        }
        check_stream("c", c, stream)?;
        check_shape("c", "(batch, 1, groups, state_dim)", b.shape(), c.shape())?;
        if T::NAME == "f64" {
            let reason = "expected f32, bf16 or f16 for the decoding kernel, found f64".into();
            return Err(Error::Config { field: "dtype", reason });
        }
        Ok(Self { steps, a, b, c, d: None, slots: None })
    }

    /// Adds `d`: (heads, 1) for one number a head, (heads, head_dim) for one a channel.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has another number of rows or none of the two widths, the latter when a step is done.
    pub fn with_skip(self, d: &'a CudaTensor<f32>) -> Result<Self> {
        let heads = self.heads();
        match *d.shape() {
            [rows, width @ (1..)] if rows == heads => {
                check_flat("d", "(heads, 1 or head_dim)", d, &[heads, width], self.stream())?;
                Ok(Self { d: Some(d), ..self })
            }
            _ => Err(Error::shape("d", format!("(heads, 1 or head_dim) with heads = {heads}"), d.shape())),
        }
    }

    /// Lets the sequences own states of a larger pool.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one slot a sequence.
    pub fn with_slots(self, slots: &'a Slots) -> Result<Self> {
        check_flat("slots", "(batch)", &slots.numbers, &[self.batch()], self.stream())?;
        Ok(Self { slots: Some(slots), ..self })
    }

    /// `y`, and `state` after the step in the place of what it was.
    ///
    /// # Shapes
    /// `x`, `y`: (batch, 1, heads, head_dim); `state`: (batch or the pool, heads, head_dim, state_dim), without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit the generators, and those of compiling and starting a kernel.
    pub fn step<S: StateElement>(
        &self,
        x: &CudaTensor<T>,
        state: &mut CudaTensor<S>,
    ) -> Result<CudaTensor<T>> {
        let y = CudaTensor::room(self.stream(), x.shape())?;
        self.step_into(x, state, &y)?;
        Ok(y)
    }

    /// The same into memory that is there, as a graph that is captured once and replayed needs it.
    ///
    /// # Errors
    /// As [`DecodeStep::step`], and [`Error::Shape`] if `y` is not shaped like `x`.
    pub fn step_into<S: StateElement>(
        &self,
        x: &CudaTensor<T>,
        state: &mut CudaTensor<S>,
        y: &CudaTensor<T>,
    ) -> Result<()> {
        let (stream, batch, heads) = (self.stream(), self.batch(), self.heads());
        let (groups, state_dim) = (self.b.shape()[2], self.b.shape()[3]);
        check_stream("x", x, stream)?;
        let head_dim = match *x.shape() {
            [rows, 1, h, head_dim @ (1..)] if (rows, h) == (batch, heads) => head_dim,
            _ => {
                let expected = format!("(batch, 1, heads, head_dim) = [{batch}, 1, {heads}, at least 1]");
                return Err(Error::shape("x", expected, x.shape()));
            }
        };
        check_stream("y", y, stream)?;
        check_shape("y", "the shape of x", x.shape(), y.shape())?;
        let d_width = self.d.map_or(1, |d| d.shape()[1]);
        if d_width != 1 && d_width != head_dim {
            let expected = format!("(heads, 1 or head_dim) = [{heads}, 1 or {head_dim}]");
            return Err(Error::shape("d", expected, &[heads, d_width]));
        }
        let states = self.slots.map_or(batch, |slots| slots.pool);
        let axes = "(batch or pool, heads, head_dim, state_dim)";
        check_flat("state", axes, state, &[states, heads, head_dim, state_dim], stream)?;

        let (softplus, dt_min, dt_max) = self.steps.rule();
        let arguments = Arguments {
            x: *x.pointer(),
            b: *self.b.pointer(),
            c: *self.c.pointer(),
            dt: *self.steps.raw.pointer(),
            a: *self.a.pointer(),
            bias: self.steps.bias.map_or(0, |bias| *bias.pointer()),
            d: self.d.map_or(0, |d| *d.pointer()),
            state: *state.pointer(),
            slots: self.slots.map_or(0, |slots| *slots.numbers.pointer()),
            y: *y.pointer(),
            x_pitch: x.pitch() as i64,
            b_pitch: self.b.pitch() as i64,
            c_pitch: self.c.pitch() as i64,
            dt_pitch: self.steps.raw.pitch() as i64,
            y_pitch: y.pitch() as i64,
            heads: heads as i32,
            groups: groups as i32,
            d_width: d_width as i32,
            softplus,
            dt_min,
            dt_max,
        };
        // Few states leave multiprocessors idle unless each is shared out among more blocks.
        let parts = Parts::of(batch * heads, stream.device().multiprocessors() as usize);
        let program = program(stored_macro::<T>(), S::KERNEL, Shape { head_dim, state_dim }, parts);
        let kernel = stream.device().kernel(&program, "ssd_decode")?;
        let blocks = head_dim.div_ceil(WARPS * parts.rows(size_of::<S>(), state_dim));
        // The kernel waits for the one before it where the architecture has the instruction for that.
        let waits = stream.device().architecture().number() >= 90;
        let start = if waits { Start::Beside } else { Start::After };
        let grid = Grid { start, ..Grid::new([blocks, heads, batch], (32 * WARPS) as u32) };
        // SAFETY: the argument is that of `ssd_decode`; all tensors were checked to be as long as their shapes say, the
        // slots to be below the number of states and no two alike.
        unsafe { kernel.launch(stream, grid, &[&arguments]) }
    }

    fn stream(&self) -> &'a Stream {
        self.steps.raw.stream()
    }

    fn batch(&self) -> usize {
        self.steps.raw.shape()[0]
    }

    fn heads(&self) -> usize {
        self.steps.raw.shape()[2]
    }
}

/// How finely states are shared out among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// Enough states for every multiprocessor: many rows a thread, all of them on their way at once.
    Coarse,
    /// Few states: few rows a thread, many blocks.
    Fine,
}

impl Parts {
    fn of(states: usize, multiprocessors: usize) -> Self {
        if states >= 8 * multiprocessors { Self::Coarse } else { Self::Fine }
    }

    /// Rows of a thread.
    fn steps(self) -> usize {
        match self {
            Self::Coarse => 8,
            Self::Fine => 2,
        }
    }

    /// Blocks that a multiprocessor has room for: registers for all loads of a thread, and as many loads on their way as that
    /// leaves.
    fn resident(self) -> usize {
        match self {
            Self::Coarse => 4,
            Self::Fine => 8,
        }
    }

    /// Rows of a warp at a time, as the kernel finds it: lanes that share a row each move 16 bytes of it.
    fn rows(self, bytes: usize, state_dim: usize) -> usize {
        let mut width = 16 / bytes;
        while !state_dim.is_multiple_of(width) {
            width /= 2;
        }
        let lanes = state_dim.div_ceil(width).next_power_of_two().min(32);
        self.steps().min(lanes) * (32 / lanes)
    }
}

/// All programs of steps with inputs of one type.
pub(super) fn programs(stored: &'static str, shape: Shape) -> impl Iterator<Item = Program> {
    let states = [f32::KERNEL, half::bf16::KERNEL, half::f16::KERNEL].into_iter();
    states.flat_map(move |state| {
        [Parts::Coarse, Parts::Fine].into_iter().map(move |parts| program(stored, state, shape, parts))
    })
}

fn program(stored: &'static str, state: &'static str, shape: Shape, parts: Parts) -> Program {
    Program::new("ssd/decode.cu")
        .define(stored, 1)
        .define("STATE", state)
        .define("HEAD_DIM", shape.head_dim)
        .define("STATE_DIM", shape.state_dim)
        .define("WARPS", WARPS)
        .define("STEPS", parts.steps())
        .define("RESIDENT", parts.resident())
}
