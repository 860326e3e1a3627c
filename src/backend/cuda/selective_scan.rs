//! The selective scan of Mamba-1 on a device, and its vjp.
#![allow(unsafe_code)]

use super::check::{self, MOST_BLOCKS};
use super::exact::WIDEST;
use super::launch::{Grid, Parameters};
use super::source::Program;
use super::steps::StepRule;
use super::stream::Stream;
use super::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::{Error, Result};

/// The matrices of a selective scan by generators on a device; the twin of [`crate::ssd::SelectiveScan`].
#[derive(Debug, Clone)]
pub struct SelectiveScan<'a, T> {
    dt: &'a CudaTensor<f32>,        // (batch, len, channels)
    a: &'a CudaTensor<f32>,         // (channels, state_dim)
    b: &'a CudaTensor<T>,           // (batch, len, groups, state_dim)
    c: &'a CudaTensor<T>,           // (batch, len, groups, state_dim)
    d: Option<&'a CudaTensor<f32>>, // (channels)
    rule: StepRule<f32>,
}

/// What a selective scan yields, and the cotangent of it.
#[derive(Debug, Clone)]
pub struct ScanOutput<T> {
    /// (batch, len, channels)
    pub y: CudaTensor<T>,
    /// Final states, (batch, channels, state_dim).
    pub state: CudaTensor<f32>,
}

/// Cotangents of every input of a selective scan.
#[derive(Debug, Clone)]
pub struct ScanGrad<T> {
    /// Of the raw steps, (batch, len, channels).
    pub raw_dt: CudaTensor<f32>,
    /// Of the bias of the steps, (channels); also meaningful when there was none.
    pub dt_bias: CudaTensor<f32>,
    /// (channels, state_dim)
    pub a: CudaTensor<f32>,
    /// (batch, len, groups, state_dim)
    pub b: CudaTensor<T>,
    /// (batch, len, groups, state_dim)
    pub c: CudaTensor<T>,
    /// (channels); also meaningful when there was no skip
    pub d: CudaTensor<f32>,
    /// (batch, len, channels)
    pub x: CudaTensor<T>,
    /// Of the initial states, (batch, channels, state_dim).
    pub state: CudaTensor<f32>,
}

const FORWARD: &str = "ssd/selective_scan.cu";
const VJP: &str = "ssd/selective_scan_vjp.cu";

/// Twin of `scan::Arguments` in `cuda/ssd/selective_scan.cuh`.
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
    initial: u64,
    x_pitch: i64,
    dt_pitch: i64,
    b_pitch: i64,
    c_pitch: i64,
    len: i64,
    channels: i32,
    groups: i32,
    softplus: i32,
    dt_min: f32,
    dt_max: f32,
}

impl Parameters for Arguments {}

impl<'a, T: Stored> SelectiveScan<'a, T> {
    /// The scan with these generators, the raw steps `dt` taken as steps, without a skip.
    ///
    /// # Shapes
    /// `dt`: (batch, len, channels), batch at most 65535; `a`: (channels, state_dim), state_dim at most 256; `b`, `c`: (batch,
    /// len, groups, state_dim).
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree, are larger than the kernels are made for, or channels is not a multiple of groups; [`Error::Config`] for f64, which has no
    /// kernel; [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if they are not on one stream.
    pub fn new(
        dt: &'a CudaTensor<f32>,
        a: &'a CudaTensor<f32>,
        b: &'a CudaTensor<T>,
        c: &'a CudaTensor<T>,
    ) -> Result<Self> {
        check::single::<T>("the selective scan")?;
        let [batch @ ..=MOST_BLOCKS, len, channels @ (1..)] = *dt.shape() else {
            let expected =
                format!("(batch, len, channels), batch at most {MOST_BLOCKS}, at least one channel");
            return Err(Error::shape("dt", expected, dt.shape()));
        };
        let [_, state_dim @ 1..=WIDEST] = *a.shape() else {
            let expected = format!("(channels, state_dim) = [{channels}, 1 to {WIDEST}]");
            return Err(Error::shape("A", expected, a.shape()));
        };
        check::flat("A", "(channels, state_dim)", a, &[channels, state_dim], dt.stream())?;
        check::generators(b, c, [batch, len, channels], state_dim..=state_dim, dt.stream())?;
        if len > i32::MAX as usize || channels * state_dim.max(16) > i32::MAX as usize {
            let expected = "fewer than 2³¹ positions, states of a row and channels of 16 positions";
            return Err(Error::shape("dt", expected, dt.shape()));
        }
        for (name, pitch) in [("dt", dt.pitch()), ("b", b.pitch()), ("c", c.pitch())] {
            check::near_rows(name, pitch)?;
        }
        Ok(Self { dt, a, b, c, d: None, rule: StepRule::default() })
    }

    /// Makes the steps from the raw ones by `rule`.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if its bias does not fit.
    pub fn with_rule(self, rule: StepRule<f32>) -> Result<Self> {
        rule.check(self.channels(), self.stream())?;
        Ok(Self { rule, ..self })
    }

    /// Adds `d`: (channels) to the diagonal.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not have one number a channel.
    pub fn with_skip(self, d: &'a CudaTensor<f32>) -> Result<Self> {
        check::flat("d", "(channels)", d, &[self.channels()], self.stream())?;
        Ok(Self { d: Some(d), ..self })
    }

    /// Outputs and final states, from the given initial states or from zero.
    ///
    /// # Shapes
    /// `x`: (batch, len, channels); `initial`: (batch, channels, state_dim).
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit, and those of memory, compiling and starting a kernel.
    pub fn matmul(&self, x: &CudaTensor<T>, initial: Option<&CudaTensor<f32>>) -> Result<ScanOutput<T>> {
        self.check(x, initial)?;
        self.forward(x, initial, &Cut::forward(self), None)
    }

    /// Cotangents of every input of [`SelectiveScan::matmul`], given the cotangent of its output. The same call gives the same
    /// bits: sums over channels and batch rows have a fixed order.
    ///
    /// # Errors
    /// As [`SelectiveScan::matmul`], and [`Error::Shape`] if the cotangents do not have the shapes of the output.
    pub fn vjp(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<f32>>,
        cotangent: &ScanOutput<T>,
    ) -> Result<ScanGrad<T>> {
        self.check(x, initial)?;
        let stream = self.stream();
        let (batch, len, channels, state_dim) = (self.batch(), self.len(), self.channels(), self.state_dim());
        check::shaped("dy", "(batch, len, channels)", &cotangent.y, x.shape(), stream)?;
        check::near_rows("dy", cotangent.y.pitch())?;
        let states = [batch, channels, state_dim];
        check::flat("dfinal_state", "(batch, channels, state_dim)", &cotangent.state, &states, stream)?;

        let cut = Cut::vjp(self.state_dim());
        let kept = CudaTensor::room(stream, &[batch, len.div_ceil(cut.tile), state_dim, channels])?;
        self.forward(x, initial, &cut, Some(&kept))?;
        let blocks = cut.blocks(self);
        let padded = cut.own(state_dim) * cut.lanes;
        let per_row = CudaTensor::<f32>::room(stream, &[batch, state_dim + 2, channels])?;
        let shares = CudaTensor::<f32>::room(stream, &[batch, blocks, len, 2 * padded])?;
        let grad = ScanGrad {
            raw_dt: CudaTensor::room(stream, x.shape())?,
            dt_bias: CudaTensor::room(stream, &[channels])?,
            a: CudaTensor::room(stream, self.a.shape())?,
            b: CudaTensor::room(stream, self.b.shape())?,
            c: CudaTensor::room(stream, self.c.shape())?,
            d: CudaTensor::room(stream, &[channels])?,
            x: CudaTensor::room(stream, x.shape())?,
            state: CudaTensor::room(stream, &states)?,
        };
        let program = cut.program(VJP, stored_macro::<T>(), state_dim);
        let kernel = |name| stream.device().kernel(&program, name);
        let arguments = self.arguments(x, initial);
        let grid =
            Grid { shared: cut.shared_of_vjp(state_dim), ..Grid::new([blocks, batch, 1], cut.threads()) };
        let (dy_pitch, dx_pitch) = (cotangent.y.pitch() as i64, grad.x.pitch() as i64);
        // SAFETY: the arguments are those of `selective_scan_vjp`; every tensor was made or checked to have the shape
        // that the kernel's header gives for these sizes.
        unsafe {
            kernel("selective_scan_vjp")?.launch(
                stream,
                grid,
                &[
                    &arguments,
                    &cotangent.y,
                    &dy_pitch,
                    &cotangent.state,
                    &kept,
                    &grad.x,
                    &dx_pitch,
                    &grad.raw_dt,
                    &grad.state,
                    &per_row,
                    &shares,
                ],
            )?;
        }
        let groups = self.groups();
        // Grids are limited along batch only: a row has at most 2³¹ positions.
        let grid = Grid::new([len, batch, 1], 128);
        // SAFETY: as above, for `selective_scan_sum_blocks`.
        unsafe {
            kernel("selective_scan_sum_blocks")?.launch(
                stream,
                grid,
                &[&shares, &grad.b, &grad.c, &(len as i64), &(groups as i32), &(blocks as i32)],
            )?;
        }
        let grid = Grid::new([channels.div_ceil(128), state_dim + 2, 1], 128);
        // SAFETY: as above, for `selective_scan_sum_rows`.
        unsafe {
            kernel("selective_scan_sum_rows")?.launch(
                stream,
                grid,
                &[&per_row, &grad.a, &grad.d, &grad.dt_bias, &(batch as i32), &(channels as i32)],
            )?;
        }
        Ok(grad)
    }

    /// The product, which writes the state before each tile to `kept` if that is given.
    fn forward(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<f32>>,
        cut: &Cut,
        kept: Option<&CudaTensor<f32>>,
    ) -> Result<ScanOutput<T>> {
        let stream = self.stream();
        let y = CudaTensor::room(stream, x.shape())?;
        let state = CudaTensor::room(stream, &[self.batch(), self.channels(), self.state_dim()])?;
        let program = cut.program(FORWARD, stored_macro::<T>(), self.state_dim());
        let kernel = stream.device().kernel(&program, "selective_scan")?;
        let grid = Grid::new([cut.blocks(self), self.batch(), 1], cut.threads());
        let (arguments, y_pitch) = (self.arguments(x, initial), y.pitch() as i64);
        // SAFETY: the arguments are those of `selective_scan`; every tensor was made or checked to have the shape that the
        // kernel's header gives for these sizes.
        unsafe { kernel.launch(stream, grid, &[&arguments, &y, &y_pitch, &state, &kept]) }?;
        Ok(ScanOutput { y, state })
    }

    fn arguments(&self, x: &CudaTensor<T>, initial: Option<&CudaTensor<f32>>) -> Arguments {
        let (bias, softplus, dt_min, dt_max) = self.rule.arguments();
        Arguments {
            x: *x.pointer(),
            b: *self.b.pointer(),
            c: *self.c.pointer(),
            dt: *self.dt.pointer(),
            a: *self.a.pointer(),
            bias,
            d: self.d.map_or(0, |d| *d.pointer()),
            initial: initial.map_or(0, |initial| *initial.pointer()),
            x_pitch: x.pitch() as i64,
            dt_pitch: self.dt.pitch() as i64,
            b_pitch: self.b.pitch() as i64,
            c_pitch: self.c.pitch() as i64,
            len: self.len() as i64,
            channels: self.channels() as i32,
            groups: self.groups() as i32,
            softplus,
            dt_min: dt_min as f32,
            dt_max: dt_max as f32,
        }
    }

    fn check(&self, x: &CudaTensor<T>, initial: Option<&CudaTensor<f32>>) -> Result<()> {
        let stream = self.stream();
        check::shaped("x", "(batch, len, channels)", x, self.dt.shape(), stream)?;
        check::near_rows("x", x.pitch())?;
        let states = [self.batch(), self.channels(), self.state_dim()];
        match initial {
            Some(h) => check::flat("initial_state", "(batch, channels, state_dim)", h, &states, stream),
            None => Ok(()),
        }
    }

    fn stream(&self) -> &'a Stream {
        self.dt.stream()
    }

    fn batch(&self) -> usize {
        self.dt.shape()[0]
    }

    fn len(&self) -> usize {
        self.dt.shape()[1]
    }

    fn channels(&self) -> usize {
        self.dt.shape()[2]
    }

    fn groups(&self) -> usize {
        self.b.shape()[2]
    }

    fn state_dim(&self) -> usize {
        self.a.shape()[1]
    }
}

/// How the channels are cut into blocks, the state of a channel among threads, and time into tiles.
#[derive(Debug, Clone, Copy)]
struct Cut {
    channels: usize, // of a block
    lanes: usize,    // threads that share a state
    side: usize,     // channels of a thread
    tile: usize,     // positions
    resident: usize, // blocks of a multiprocessor, so that registers suffice for them
}

impl Cut {
    /// As measured (`docs/kernels.md`): where there are channels enough to fill the device, eight numbers of a state a thread,
    /// or of wide states eight of two channels, which share what is read of b and c; else four, in longer tiles.
    fn forward<T: Stored>(scan: &SelectiveScan<'_, T>) -> Self {
        let state_dim = scan.state_dim();
        let side = if state_dim > 32 { 2 } else { 1 };
        let threads = scan.batch() * scan.channels() * lanes(state_dim, 8) / side;
        if threads >= 256 * scan.stream().device().multiprocessors() as usize {
            Self::new(lanes(state_dim, 8), side, 8, if side > 1 { 3 } else { 5 })
        } else if state_dim > 64 {
            Self::new(lanes(state_dim, 4), 1, 8, 4)
        } else {
            Self::new(lanes(state_dim, 4), 1, 16, 4)
        }
    }

    /// Four numbers of a state a thread, so that a tile of states fits its registers; as many blocks as was fastest, or one
    /// less where that costs nothing and keeps registers out of memory.
    fn vjp(state_dim: usize) -> Self {
        let resident = match state_dim {
            ..=16 | 65..=128 => 3,
            17..=64 => 4,
            _ => 2,
        };
        Self::new(lanes(state_dim, 4), 1, 8, resident)
    }

    fn new(lanes: usize, side: usize, tile: usize, resident: usize) -> Self {
        Self { channels: 128 / lanes * side, lanes, side, tile, resident }
    }

    fn threads(&self) -> u32 {
        (self.channels / self.side * self.lanes) as u32
    }

    /// Entries of a state in one thread.
    fn own(&self, state_dim: usize) -> usize {
        state_dim.div_ceil(self.lanes).next_power_of_two()
    }

    /// Blocks of a batch row; none has channels of two groups.
    fn blocks<T: Stored>(&self, scan: &SelectiveScan<'_, T>) -> usize {
        scan.groups() * (scan.channels() / scan.groups()).div_ceil(self.channels)
    }

    /// Bytes of shared memory of the vjp, whose kernel makes sure that they suffice.
    fn shared_of_vjp(&self, state_dim: usize) -> u32 {
        let padded = self.own(state_dim) * self.lanes;
        let warps = self.threads() as usize / 32;
        (4 * self.tile * (4 * self.channels + 2 * padded + warps * 2 * padded)) as u32
    }

    fn program(&self, file: &'static str, stored: &'static str, state_dim: usize) -> Program {
        let program = Program::new(file)
            .define(stored, 1)
            .define("STATE_DIM", state_dim)
            .define("CHANNELS", self.channels)
            .define("LANES", self.lanes)
            .define("SIDE", self.side)
            .define("TILE", self.tile)
            .define("RESIDENT", self.resident);
        match file {
            VJP => program.define("SHARED", self.shared_of_vjp(state_dim)),
            _ => program,
        }
    }
}

/// The programs of scans of the usual state of 16, with inputs of one type.
pub(super) fn programs(stored: &'static str) -> impl Iterator<Item = Program> {
    let state_dim = 16;
    let cuts = [Cut::new(2, 1, 8, 5), Cut::new(4, 1, 16, 4), Cut::vjp(state_dim)];
    let forward = cuts.into_iter().map(move |cut| cut.program(FORWARD, stored, state_dim));
    forward.chain([cuts[2].program(VJP, stored, state_dim)])
}

/// Threads that share a state, `own` numbers each.
fn lanes(state_dim: usize, own: usize) -> usize {
    state_dim.div_ceil(own).next_power_of_two().min(32)
}
