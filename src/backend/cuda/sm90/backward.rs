//! The vjp of the operator: `cuda/ssd/sm90/backward_steps.cu`, `backward_states.cu`, `backward_chunks.cu`.
#![allow(unsafe_code)]

use super::tables::{CHUNK, Tables};
use super::tensor_map::tensor_map;
use crate::backend::cuda::generators::{Steps, StepsGrad};
use crate::backend::cuda::launch::{Grid, Parameters};
use crate::backend::cuda::operator::CudaGrad;
use crate::backend::cuda::source::Program;
use crate::backend::cuda::stream::Stream;
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;

/// The width of a slice: a wider head is several of them.
const SLICE: usize = 64;
/// The widest band: a wider state is several of them.
const BAND: usize = 128;
/// Bytes of a panel: 128 positions of 64 numbers.
const PANEL: usize = CHUNK * 128;
/// Bytes that the sizes of a chunk, slice and band have; as `Sizes` in `backward.cuh`, for both directions.
const SIZES: usize = 64;
/// Heads that a block of `backward_steps.cu` takes.
const HEADS: usize = 32;

/// Twin of `Shape`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Shape {
    len: i32,
    heads: i32,
    groups: i32,
    chunks: i32,
    x_pitch: i64,
    dy_pitch: i64,
    b_pitch: i64,
    c_pitch: i64,
    slice_bits: i32,
}

/// Twin of `Steps` in `backward_steps.cu`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Discretized {
    raw: u64,
    a: u64,
    bias: u64,
    dt: u64,
    log_a: u64,
    lower: f32,
    upper: f32,
    softplus: i32,
    narrow: i32,
    pitch: i64,
}

/// Twin of `Walk` in `backward_states.cu`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Walk {
    left: u64,
    right: u64,
    from: u64,
    kept: u64,
    sizes: u64,
    to: u64,
}

/// Twin of `Join` in `backward_states.cu`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Join {
    local: u64,
    from: u64,
    entering: u64,
    to: u64,
}

/// Twin of `Pass` in `backward_chunks.cu`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Pass {
    x: u64,
    dy: u64,
    b: u64,
    c: u64,
    d: u64,
    s: u64,
    dt: u64,
    largest: u64,
    h: u64,
    dh: u64,
    sizes: u64,
    dx: u64,
    db: u64,
    dc: u64,
    sums: u64,
    same: u64,
    passed: u64,
    carried: u64,
    positions: i64,
    d_channels: i32,
    splits: i32,
    band: i32,
}

impl Parameters for Shape {}
impl Parameters for Discretized {}
impl Parameters for Walk {}
impl Parameters for Join {}
impl Parameters for Pass {}

/// The operator and x, shapes checked, tensors of one stream.
#[derive(Debug)]
pub(crate) struct Operands<'a, T: Stored> {
    pub steps: &'a Steps<T>,
    pub b: &'a CudaTensor<T>,
    pub c: &'a CudaTensor<T>,
    pub d: Option<&'a CudaTensor<T::Acc>>,
    pub x: &'a CudaTensor<T>,
    pub dy: &'a CudaTensor<T>,
    pub tables: &'a Tables,
}

/// The programs for a shape, of a type of two bytes.
pub(crate) fn programs(stored: &'static str, (head_dim, state_dim): (usize, usize)) -> Vec<Program> {
    if !super::knows(stored, (head_dim, state_dim)) {
        return Vec::new();
    }
    [STEPS, STATES, CHUNKS].map(|name| program(name, stored, state_dim)).into()
}

const STEPS: &str = "ssd/sm90/backward_steps.cu";
const STATES: &str = "ssd/sm90/backward_states.cu";
const CHUNKS: &str = "ssd/sm90/backward_chunks.cu";

fn program(name: &'static str, stored: &'static str, state_dim: usize) -> Program {
    let program = Program::new(name).define(stored, 1).define("STATE_DIM", state_dim);
    match name {
        STATES => program.define("SHARED", states_shared(stored, state_dim)),
        CHUNKS => program.define("SHARED", chunks_shared(state_dim)),
        _ => program,
    }
}

/// Parts that the slices of a group are dealt to, so that a short row has enough blocks.
fn splits(len: usize, slices_per_group: usize) -> usize {
    (32 / len.div_ceil(CHUNK).max(1)).clamp(1, 8).min(slices_per_group)
}

/// Numbers that a number of a state is kept as the sum of; as `TERMS` in `backward.cuh`.
fn terms(stored: &str) -> usize {
    if stored == stored_macro::<half::f16>() { 2 } else { 1 }
}

/// Bands of a state.
fn bands(state_dim: usize) -> usize {
    state_dim.div_ceil(BAND)
}

/// What both walks and the pass over the chunks leave and read.
struct Rooms<T: Stored> {
    s: CudaTensor<T::Acc>,       // (chunks, slices, 128)
    dt: CudaTensor<T::Acc>,      // (chunks, slices, 128)
    largest: CudaTensor<T::Acc>, // (chunks, slices)
    states: [CudaTensor<T>; 2],  // (chunks, slices, bands, terms, 64, columns of a band), f16 whatever T is
    sizes: CudaTensor<T::Acc>,   // (chunks, slices, bands, 16)
}

/// Cotangents of every input, given those of y, which is among the operands, and of the states that leave. The skip's is that
/// of one number a head.
pub(crate) fn vjp<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dlast: &CudaTensor<T::Acc>,
) -> Result<CudaGrad<T>> {
    let (stream, chunks) = (m.x.stream(), m.tables.chunks.count);
    let [rows, slices, groups, state_dim] = m.sizes();
    stream
        .device()
        .load(&[STEPS, STATES, CHUNKS].map(|name| program(name, stored_macro::<T>(), state_dim)))?;
    let (heads, bands) = (m.x.shape()[2], bands(state_dim));
    let splits = splits(m.x.shape()[1], slices / groups);
    let room = |shape: &[usize]| CudaTensor::<T::Acc>::room(stream, shape);
    let narrow = |shape: &[usize]| CudaTensor::<T>::room(stream, shape);
    let states = [chunks, slices, terms(stored_macro::<T>()), SLICE, state_dim];
    let rooms = Rooms::<T> {
        s: room(&[chunks, slices, CHUNK])?,
        dt: room(&[chunks, slices, CHUNK])?,
        largest: room(&[chunks, slices])?,
        states: [narrow(&states)?, narrow(&states)?],
        sizes: room(&[chunks, slices, bands, SIZES / 4])?,
    };
    let shape = m.shape();
    let steps = m.discretized();
    let [b_steps, h_steps] = [chunks, heads.div_ceil(HEADS)];
    // SAFETY: the arguments are those of `ssd_backward_steps`; the rooms have a place for every chunk and head.
    unsafe {
        m.kernel(STEPS, "ssd_backward_steps")?.launch(
            stream,
            Grid::new([b_steps, h_steps, 1], 256),
            &[&shape, &steps, &m.tables.chunks.rows, &rooms.s, &rooms.dt, &rooms.largest],
        )
    }?;
    let d_state = room(dlast.shape())?;
    walk(m, initial, dlast, &rooms, &d_state)?;

    let (sums, same) = (room(&[chunks, slices, bands, 6, CHUNK])?, room(&[chunks, groups, CHUNK])?);
    let passed = room(&[chunks, slices, bands, 8])?;
    let carried = (bands > 1).then(|| room(&[chunks, slices, CHUNK, SLICE])).transpose()?;
    let (db, dc) = (room(&[2 * splits, rows, groups, state_dim])?, room(&[splits, rows, groups, state_dim])?);
    let dx = narrow(m.x.shape())?;
    let pass = Pass {
        x: *m.x.pointer(),
        dy: *m.dy.pointer(),
        b: *m.b.pointer(),
        c: *m.c.pointer(),
        d: m.d.map_or(0, |d| *d.pointer()),
        s: *rooms.s.pointer(),
        dt: *rooms.dt.pointer(),
        largest: *rooms.largest.pointer(),
        h: *rooms.states[0].pointer(),
        dh: *rooms.states[1].pointer(),
        sizes: *rooms.sizes.pointer(),
        dx: *dx.pointer(),
        db: *db.pointer(),
        dc: *dc.pointer(),
        sums: *sums.pointer(),
        same: *same.pointer(),
        passed: *passed.pointer(),
        carried: carried.as_ref().map_or(0, |tensor| *tensor.pointer()),
        positions: rows as i64,
        d_channels: i32::from(m.d.is_some_and(|d| d.shape()[1] > 1)),
        splits: splits as i32,
        band: 0,
    };
    let grid =
        Grid { shared: chunks_shared(state_dim), ..Grid::new([2 * splits * groups * chunks, 1, 1], 512) };
    let kernel = m.kernel(CHUNKS, "ssd_backward_chunks")?;
    let (x_map, dy_map) = (tensor_map(m.x, CHUNK as u32)?, tensor_map(m.dy, CHUNK as u32)?);
    for band in (0..bands as i32).rev() {
        let pass = Pass { band, ..pass };
        // SAFETY: the arguments are those of `ssd_backward_chunks`; chunks lie inside the tensors' rows, the rooms have a place
        // for every chunk, slice and band, and the last band, which leaves what the first one carries on, comes first.
        unsafe { kernel.launch(stream, grid, &[&x_map, &dy_map, &shape, &pass, &m.tables.chunks.rows]) }?;
    }

    let axes = [m.x.shape()[0], m.x.shape()[1], heads];
    let d_steps = room(&axes)?;
    let d_log_a = matches!(m.steps, Steps::Given { .. }).then(|| room(&axes)).transpose()?;
    let parts = room(&[chunks, 3, heads])?;
    // SAFETY: the arguments are those of `ssd_backward_steps_vjp`, and `parts` has a place for every chunk.
    unsafe {
        m.kernel(STEPS, "ssd_backward_steps_vjp")?.launch(
            stream,
            Grid::new([b_steps, h_steps, 1], 256),
            &[
                &shape,
                &steps,
                &m.tables.chunks.rows,
                &rooms.s,
                &rooms.dt,
                &sums,
                &passed,
                &same,
                &d_steps,
                &d_log_a.as_ref(),
                &parts,
            ],
        )
    }?;
    let of_raw = || matches!(m.steps, Steps::Raw { .. }).then(|| room(&[heads])).transpose();
    let (da, dbias) = (of_raw()?, of_raw()?);
    let dd = m.d.map(|_| room(&[heads, 1])).transpose()?;
    // SAFETY: the arguments are those of `ssd_backward_sum`, with a number for every head in what is not left out.
    unsafe {
        m.kernel(STEPS, "ssd_backward_sum")?.launch(
            stream,
            Grid::new([heads, 3, 1], 128),
            &[&shape, &parts, &da.as_ref(), &dbias.as_ref(), &dd.as_ref()],
        )
    }?;
    let (b, c) = (narrow(m.b.shape())?, narrow(m.b.shape())?);
    for (parts, count, out) in [(&db, 2 * splits, &b), (&dc, splits, &c)] {
        let grid = Grid::new([out.len().div_ceil(1024), 1, 1], 256);
        // SAFETY: the arguments are those of `ssd_backward_join`; `parts` are `count` tensors shaped like `out`, whose length
        // is a multiple of 4.
        unsafe {
            m.kernel(STEPS, "ssd_backward_join")?.launch(
                stream,
                grid,
                &[&(out.len() as i64), &(count as i32), parts, out],
            )
        }?;
    }
    let steps = match (d_log_a, da, dbias) {
        (Some(log_a), ..) => StepsGrad::Given { log_a, dt: d_steps },
        (None, Some(a), Some(bias)) => StepsGrad::Raw { dt: d_steps, a, bias },
        _ => unreachable!("steps are given or raw"),
    };
    Ok(CudaGrad { steps, b, c, d: dd, x: dx, state: d_state })
}

/// The states that enter the chunks and the cotangents of those that leave them; that of the initial states into `d_state`.
fn walk<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dlast: &CudaTensor<T::Acc>,
    rooms: &Rooms<T>,
    d_state: &CudaTensor<T::Acc>,
) -> Result<()> {
    let stream = m.x.stream();
    let [_, slices, groups, state_dim] = m.sizes();
    let shape = m.shape();
    let pairs = groups * (slices / groups).div_ceil(2) * bands(state_dim);
    let tables = m.tables;
    let shared = states_shared(stored_macro::<T>(), state_dim);
    let grid = Grid { shared, ..Grid::new([pairs, tables.segments.count, 2], 384) };
    let kernel = m.kernel(STATES, "ssd_backward_states")?;
    let walks = |from: [u64; 2], to: [u64; 2], kept: bool| {
        let [x, dy, b, c] = [m.x, m.dy, m.b, m.c].map(|tensor| *tensor.pointer());
        let kept = |direction: usize| if kept { *rooms.states[direction].pointer() } else { 0 };
        let sizes = *rooms.sizes.pointer();
        [
            Walk { left: x, right: b, from: from[0], kept: kept(0), sizes, to: to[0] },
            Walk { left: dy, right: c, from: from[1], kept: kept(1), sizes, to: to[1] },
        ]
    };
    let map = |tensor: &CudaTensor<T>| tensor_map(tensor, CHUNK as u32);
    let (x, dy, b, c) = (map(m.x)?, map(m.dy)?, map(m.b)?, map(m.c)?);
    let start = |[forth, back]: [Walk; 2], by_segment: i32| {
        // SAFETY: the arguments are those of `ssd_backward_states`; chunks lie inside the tensors' rows, segments are made of
        // chunks of the tables, and the states that they name are inside the tensors of states.
        unsafe {
            kernel.launch(
                stream,
                grid,
                &[
                    &x,
                    &dy,
                    &b,
                    &c,
                    &shape,
                    &tables.chunks.rows,
                    &tables.segments.rows,
                    &rooms.s,
                    &rooms.dt,
                    &forth,
                    &back,
                    &by_segment,
                ],
            )
        }
    };
    let ends = [initial.map_or(0, |h| *h.pointer()), *dlast.pointer()];
    if !tables.cut() {
        return start(walks(ends, [0, *d_state.pointer()], true), 0);
    }
    let room = || CudaTensor::<T::Acc>::room(stream, &[tables.segments.count, slices, SLICE, state_dim]);
    let (local, entering) = ([room()?, room()?], [room()?, room()?]);
    start(walks([0, 0], [*local[0].pointer(), *local[1].pointer()], false), 1)?;
    let join = |direction: usize, to: u64| Join {
        local: *local[direction].pointer(),
        from: ends[direction],
        entering: *entering[direction].pointer(),
        to,
    };
    let pieces = 2 * SLICE * state_dim / 1024;
    // SAFETY: the arguments are those of `ssd_backward_segments`; every segment has a place in the four tensors.
    unsafe {
        m.kernel(STATES, "ssd_backward_segments")?.launch(
            stream,
            Grid::new([slices, tables.sequences.count, pieces], 256),
            &[
                &shape,
                &tables.sequences.rows,
                &tables.segments.rows,
                &rooms.s,
                &join(0, 0),
                &join(1, *d_state.pointer()),
            ],
        )
    }?;
    start(walks([*entering[0].pointer(), *entering[1].pointer()], [0, 0], true), 1)
}

/// Bytes of shared memory of `ssd_backward_states`, which makes sure that they suffice.
fn states_shared(stored: &str, state_dim: usize) -> u32 {
    let panels = state_dim.min(BAND) / 64;
    let stage = (panels + 2) * PANEL + 2048;
    (2 * stage + 2 * terms(stored) * panels * PANEL / 2 + 2048 + 32 + 64 + 32) as u32
}

/// Bytes of shared memory of `ssd_backward_chunks`, which makes sure that they suffice.
fn chunks_shared(state_dim: usize) -> u32 {
    let panels = state_dim.min(BAND) / 64;
    let scores = 3 * PANEL;
    let stages = |states: usize| 2 * (2 * PANEL + states * panels * PANEL / 2);
    let given = 2 * CHUNK * 4 + SIZES + SLICE * 4;
    (panels * PANEL + stages(2) + scores + 2 * given + PANEL + 48 + 64 + 32) as u32
}

impl<T: Stored> Operands<'_, T> {
    /// Positions of all rows, slices, groups, state_dim.
    fn sizes(&self) -> [usize; 4] {
        let slices = self.x.shape()[2] * self.x.shape()[3] / SLICE;
        [self.x.rows(), slices, self.b.shape()[2], self.b.shape()[3]]
    }

    fn shape(&self) -> Shape {
        let [_, slices, groups, _] = self.sizes();
        Shape {
            len: self.x.shape()[1] as i32,
            heads: slices as i32,
            groups: groups as i32,
            chunks: self.tables.chunks.count as i32,
            x_pitch: self.x.pitch() as i64,
            dy_pitch: self.dy.pitch() as i64,
            b_pitch: self.b.pitch() as i64,
            c_pitch: self.c.pitch() as i64,
            slice_bits: (self.x.shape()[3] / SLICE).ilog2() as i32,
        }
    }

    fn discretized(&self) -> Discretized {
        match self.steps {
            Steps::Given { log_a, dt } => {
                Discretized { dt: *dt.pointer(), log_a: *log_a.pointer(), ..Discretized::default() }
            }
            Steps::Raw { dt, a, rule } => {
                let ((raw, narrow), (bias, softplus, lower, upper)) = (dt.address(), rule.arguments());
                Discretized {
                    raw,
                    a: *a.pointer(),
                    bias,
                    lower: lower as f32,
                    upper: upper as f32,
                    softplus,
                    narrow: i32::from(narrow),
                    pitch: dt.pitch() as i64,
                    ..Discretized::default()
                }
            }
        }
    }

    fn kernel(
        &self,
        source: &'static str,
        name: &'static str,
    ) -> Result<crate::backend::cuda::launch::Kernel> {
        let program = program(source, stored_macro::<T>(), self.b.shape()[3]);
        let stream: &Stream = self.x.stream();
        stream.device().kernel(&program, name)
    }
}
