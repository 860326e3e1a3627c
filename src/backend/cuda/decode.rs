//! One decoding step of a batch: every sequence's state advances by one position, in place.
#![allow(unsafe_code)]

use std::collections::HashMap;

use super::check::{self, MOST_BLOCKS};
use super::exact::WIDEST;
use super::extent::{Extent, apart};
use super::kernels::Shape;
use super::launch::{Grid, Parameters, Start};
use super::source::Program;
use super::steps::StepRule;
use super::stream::Stream;
use super::tensor::{CudaTensor, Element, Stored, stored_macro};
use crate::error::{Error, Result, check_shape};

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
        let narrow = narrowed(numbers, pool)?;
        let numbers = CudaTensor::upload(stream, ndarray::ArrayView1::from(&narrow))?;
        Ok(Self { numbers, pool })
    }

    /// Gives the sequences other states of the same pool, in the same memory, so that a recorded step finds them.
    ///
    /// # Errors
    /// As [`Slots::new`], and [`Error::Shape`] if there are more or fewer sequences than before.
    pub fn assign(&mut self, numbers: &[usize]) -> Result<()> {
        let narrow = narrowed(numbers, self.pool)?;
        check_shape("slots", "(batch)", self.numbers.shape(), &[numbers.len()])?;
        let stream = self.numbers.stream();
        self.numbers.copy_from(&CudaTensor::upload(stream, ndarray::ArrayView1::from(&narrow))?)
    }
}

/// The numbers as a kernel takes them, all of them below `pool` and no two alike.
fn narrowed(numbers: &[usize], pool: usize) -> Result<Vec<i32>> {
    let wrong = |expected, found| Err(Error::Value { tensor: "slots", expected, found });
    let mut owner = HashMap::with_capacity(numbers.len());
    let mut narrow = Vec::with_capacity(numbers.len());
    for (k, &slot) in numbers.iter().enumerate() {
        match i32::try_from(slot) {
            Ok(number) if slot < pool => narrow.push(number),
            _ => return wrong("slots of the pool", format!("{slot} at {k} of a pool of {pool}")),
        }
        if let Some(first) = owner.insert(slot, k) {
            return wrong("a slot of its own for each sequence", format!("{slot} at {first} and {k}"));
        }
    }
    Ok(narrow)
}

/// The generators of one position of every sequence of a batch, on a device.
///
/// ```math
/// h = e^{A\, \mathrm{dt}}\, h + \mathrm{dt}\, x\, b^\top, \qquad y = h\, c + d \circ x
/// ```
///
/// All tensors are those of [`Ssd`](crate::ssd::Ssd) with `len` = 1. A sequence's result does not depend on the others, bit
/// for bit.
///
/// # Examples
/// Two sequences of a pool of eight, recorded once and replayed:
/// ```no_run
/// use half::bf16;
/// use semisep::backend::cuda::{CudaTensor, DecodeStep, Device, Slots, StepRule, Stream};
/// use semisep::ssd::Squash;
///
/// let stream = Stream::new(&Device::new(0)?)?;
/// let noise = |shape: [usize; 4]| CudaTensor::<bf16>::noise(&stream, &shape, 0, -1.0, 1.0);
/// let (x, y, b, c) =
///     (noise([2, 1, 24, 64])?, noise([2, 1, 24, 64])?, noise([2, 1, 1, 128])?, noise([2, 1, 1, 128])?);
/// let (dt, a) = (CudaTensor::filled(&stream, &[2, 1, 24], 0.1)?, CudaTensor::filled(&stream, &[24], -1.0)?);
/// let mut pool = CudaTensor::<f32>::filled(&stream, &[8, 24, 64, 128], 0.0)?;
/// let mut slots = Slots::new(&stream, &[5, 0], 8)?;
/// let graph = {
///     let step = DecodeStep::new(&dt, &a, &b, &c)?.with_slots(&slots)?;
///     let step = step.with_rule(StepRule::default().squash(Squash::Softplus))?;
///     step.step_into(&x, &mut pool, &y)?; // loads its kernel
///     stream.record(|| step.step_into(&x, &mut pool, &y))?
/// };
/// slots.assign(&[3, 0])?; // the first sequence is another one now
/// // SAFETY: all tensors are still here.
/// unsafe { graph.launch() }?;
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DecodeStep<'a, T> {
    dt: &'a CudaTensor<f32>,        // (batch, 1, heads)
    a: &'a CudaTensor<f32>,         // (heads)
    b: &'a CudaTensor<T>,           // (batch, 1, groups, state_dim)
    c: &'a CudaTensor<T>,           // (batch, 1, groups, state_dim)
    d: Option<&'a CudaTensor<f32>>, // (heads, 1 or head_dim)
    rule: StepRule<f32>,
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
    /// The step with these generators, the raw steps `dt` taken as steps, without a skip; sequence k owns state k.
    ///
    /// # Shapes
    /// `dt`: (batch, 1, heads); `a`: (heads); `b`, `c`: (batch, 1, groups, state_dim), state_dim at most 256.
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree or heads is not a multiple of groups; [`Error::Config`] for f64, which has no
    /// kernel; [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if they are not on one stream.
    pub fn new(
        dt: &'a CudaTensor<f32>,
        a: &'a CudaTensor<f32>,
        b: &'a CudaTensor<T>,
        c: &'a CudaTensor<T>,
    ) -> Result<Self> {
        check::single::<T>("the decoding step")?;
        let [batch @ ..=MOST_BLOCKS, 1, heads @ 1..=MOST_BLOCKS] = *dt.shape() else {
            let expected = format!("(batch, 1, heads) = [at most {MOST_BLOCKS}, 1, 1 to {MOST_BLOCKS}]");
            return Err(Error::shape("dt", expected, dt.shape()));
        };
        check::flat("A", "(heads)", a, &[heads], dt.stream())?;
        check::generators(b, c, [batch, 1, heads], 1..=WIDEST, dt.stream())?;
        Ok(Self { dt, a, b, c, d: None, rule: StepRule::default(), slots: None })
    }

    /// Makes the steps from the raw ones by `rule`.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if its bias does not fit.
    pub fn with_rule(self, rule: StepRule<f32>) -> Result<Self> {
        rule.check(self.heads(), self.stream())?;
        Ok(Self { rule, ..self })
    }

    /// Adds `d`: (heads, 1) for one number a head, (heads, head_dim) for one a channel.
    ///
    /// # Errors
    /// [`Error::Shape`] if it has another number of rows or none of the two widths, the latter when a step is done;
    /// [`Error::Value`] if it does not begin at a multiple of 16 bytes.
    pub fn with_skip(self, d: &'a CudaTensor<f32>) -> Result<Self> {
        check::skip(d, self.heads(), self.stream())?;
        Ok(Self { d: Some(d), ..self })
    }

    /// Lets the sequences own states of a larger pool.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one slot a sequence.
    pub fn with_slots(self, slots: &'a Slots) -> Result<Self> {
        check::flat("slots", "(batch)", &slots.numbers, &[self.batch()], self.stream())?;
        Ok(Self { slots: Some(slots), ..self })
    }

    /// `y`, and `state` after the step in the place of what it was.
    ///
    /// # Shapes
    /// `x`, `y`: (batch, 1, heads, head_dim), head_dim at most 256; `state`: (batch or the pool, heads, head_dim, state_dim),
    /// without gaps, at a multiple of 16 bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Value`] if they do not fit the generators, and those of compiling and starting a kernel.
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
    /// As [`DecodeStep::step`], [`Error::Shape`] if `y` is not shaped like `x`, and [`Error::Value`] if `y` or `state` shares
    /// memory with what is read or with one another.
    pub fn step_into<S: StateElement>(
        &self,
        x: &CudaTensor<T>,
        state: &mut CudaTensor<S>,
        y: &CudaTensor<T>,
    ) -> Result<()> {
        let (stream, batch, heads) = (self.stream(), self.batch(), self.heads());
        let (groups, state_dim) = (self.b.shape()[2], self.b.shape()[3]);
        let head_dim = check::input(x, [batch, 1, heads], stream)?;
        check::skip_columns(self.d, head_dim)?;
        check::shaped("y", "(batch, 1, heads, head_dim)", y, x.shape(), stream)?;
        let states = self.slots.map_or(batch, |slots| slots.pool);
        let axes = "(batch or pool, heads, head_dim, state_dim)";
        check::aligned("state", axes, state, &[states, heads, head_dim, state_dim], stream)?;
        self.check_apart(x, Extent::of(state), y)?;

        let (bias, softplus, dt_min, dt_max) = self.rule.arguments();
        let arguments = Arguments {
            x: *x.pointer(),
            b: *self.b.pointer(),
            c: *self.c.pointer(),
            dt: *self.dt.pointer(),
            a: *self.a.pointer(),
            bias,
            d: self.d.map_or(0, |d| *d.pointer()),
            state: *state.pointer(),
            slots: self.slots.map_or(0, |slots| *slots.numbers.pointer()),
            y: *y.pointer(),
            x_pitch: x.pitch() as i64,
            b_pitch: self.b.pitch() as i64,
            c_pitch: self.c.pitch() as i64,
            dt_pitch: self.dt.pitch() as i64,
            y_pitch: y.pitch() as i64,
            heads: heads as i32,
            groups: groups as i32,
            d_width: self.d.map_or(1, |d| d.shape()[1]) as i32,
            softplus,
            dt_min: dt_min as f32,
            dt_max: dt_max as f32,
        };
        let parts = Parts::of::<S>(batch * heads, stream.device().multiprocessors() as usize);
        let program = program::<S>(stored_macro::<T>(), Shape { head_dim, state_dim }, parts);
        let kernel = stream.device().kernel(&program, "ssd_decode")?;
        let blocks = head_dim.div_ceil(parts.warps * parts.rows::<S>(state_dim));
        let start =
            if stream.device().architecture().has_dependent_starts() { Start::Beside } else { Start::After };
        let grid = Grid { start, ..Grid::new([blocks, heads, batch], (32 * parts.warps) as u32) };
        // SAFETY: the argument is that of `ssd_decode`; all tensors were checked to be as long as their shapes say, the
        // slots to be below the number of states and no two alike.
        unsafe { kernel.launch(stream, grid, &[&arguments]) }
    }

    /// What is written is nothing that is read: the blocks of a sequence all read b and c whole, and no order is kept between x and y.
    fn check_apart(&self, x: &CudaTensor<T>, state: Extent, y: &CudaTensor<T>) -> Result<()> {
        let read = [
            Some(("x", Extent::of(x))),
            Some(("b", Extent::of(self.b))),
            Some(("c", Extent::of(self.c))),
            Some(("dt", Extent::of(self.dt))),
            Some(("A", Extent::of(self.a))),
            self.d.map(|d| ("d", Extent::of(d))),
            self.rule.bias.as_ref().map(|bias| ("dt_bias", Extent::of(bias))),
            self.slots.map(|slots| ("slots", Extent::of(&slots.numbers))),
        ];
        apart("state", state, read.into_iter().flatten())?;
        apart("y", Extent::of(y), read.into_iter().chain([Some(("state", state))]).flatten())
    }

    fn stream(&self) -> &'a Stream {
        self.dt.stream()
    }

    fn batch(&self) -> usize {
        self.dt.shape()[0]
    }

    fn heads(&self) -> usize {
        self.dt.shape()[2]
    }
}

/// How states are shared out among threads, as measured (`docs/kernels.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    /// Warps of a block.
    warps: usize,
    /// Accesses of 16 bytes that a thread has on their way at once.
    accesses: usize,
}

impl Parts {
    /// States in f32.
    const WIDE: Self = Self { warps: 8, accesses: 4 };
    /// States in 16 bits, enough of them for every multiprocessor.
    const MANY: Self = Self { warps: 4, accesses: 4 };
    /// States in 16 bits, few of them.
    const FEW: Self = Self { warps: 8, accesses: 2 };

    fn of<S: StateElement>(states: usize, multiprocessors: usize) -> Self {
        match size_of::<S>() {
            4 => Self::WIDE,
            _ if states >= 2 * multiprocessors => Self::MANY,
            _ => Self::FEW,
        }
    }

    fn all<S: StateElement>() -> &'static [Self] {
        if size_of::<S>() == 4 { &[Self::WIDE] } else { &[Self::MANY, Self::FEW] }
    }

    /// Rows of a thread at a time, and the lanes that share one of them, each with a 16-byte access to it or with several.
    fn steps<S: StateElement>(self, state_dim: usize) -> (usize, usize) {
        let mut width = 16 / size_of::<S>();
        while !state_dim.is_multiple_of(width) {
            width /= 2;
        }
        let lanes = state_dim.div_ceil(width).next_power_of_two().min(32);
        let own = state_dim.div_ceil(lanes * width); // accesses to one row
        ((self.accesses / own).max(1), lanes)
    }

    /// Rows of a warp at a time, as the kernel finds it.
    fn rows<S: StateElement>(self, state_dim: usize) -> usize {
        let (steps, lanes) = self.steps::<S>(state_dim);
        steps.min(lanes) * (32 / lanes)
    }
}

/// All programs of steps with inputs of one type.
pub(super) fn programs(stored: &'static str, shape: Shape) -> impl Iterator<Item = Program> {
    fn of<S: StateElement>(stored: &'static str, shape: Shape) -> impl Iterator<Item = Program> {
        Parts::all::<S>().iter().map(move |&parts| program::<S>(stored, shape, parts))
    }
    of::<f32>(stored, shape).chain(of::<half::bf16>(stored, shape)).chain(of::<half::f16>(stored, shape))
}

fn program<S: StateElement>(stored: &'static str, shape: Shape, parts: Parts) -> Program {
    Program::new("ssd/decode.cu")
        .define(stored, 1)
        .define("STATE", S::KERNEL)
        .define("HEAD_DIM", shape.head_dim)
        .define("STATE_DIM", shape.state_dim)
        .define("WARPS", parts.warps)
        .define("STEPS", parts.steps::<S>(shape.state_dim).0)
}

#[cfg(test)]
mod tests {
    use super::narrowed;
    use crate::error::Error;

    #[test]
    fn slots_are_of_the_pool_and_given_once_whatever_its_size() {
        assert_eq!(narrowed(&[5, 0, 2], 6).unwrap(), [5, 0, 2]);
        assert_eq!(narrowed(&[7], usize::MAX).unwrap(), [7]);
        assert!(narrowed(&[], 0).unwrap().is_empty());
        for (slots, pool) in [(&[6usize][..], 6), (&[1, 2, 1], 6), (&[1 << 31], usize::MAX), (&[0], 0)] {
            let wrong = narrowed(slots, pool);
            assert!(matches!(wrong, Err(Error::Value { tensor: "slots", .. })), "{slots:?}: {wrong:?}");
        }
    }
}
