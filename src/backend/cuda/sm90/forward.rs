//! The product of the operator: `cuda/ssd/sm90/forward.cu` and `segment.cu`.
#![allow(unsafe_code)]

use super::tables::Pieces;
use super::tensor_map::tensor_map;
use crate::backend::cuda::check::MOST_BLOCKS;
use crate::backend::cuda::generators::Steps;
use crate::backend::cuda::launch::{Grid, Parameters, Start};
use crate::backend::cuda::source::Program;
use crate::backend::cuda::stream::Stream;
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;
use crate::ssd::Sequences;

/// Positions of a chunk; as in `forward_plan.cuh`, like all that follows.
const CHUNK: usize = 64;
const WALKERS: usize = 2;
const OUT_ROWS: u32 = 32;
/// Bytes of a tile: 64 positions of 64 numbers.
const TILE: usize = 8192;
const DECAY_BYTES: usize = 2112;
/// Chunks from which on a segment is long enough that one more of them costs less than idle multiprocessors.
const LONG: usize = 64;
/// Chunks of a row up to which each segment walks back itself over what lies before it, so that nothing is handed over.
const SHORT: usize = 64;

/// Twin of `Forward` in `forward_plan.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Forward {
    dt: u64,
    log_a: u64,
    a: u64,
    bias: u64,
    d: u64,
    initial: u64,
    final_state: u64,
    y: u64,
    pieces: u64,
    handoff: u64,
    flags: u64,
    local: u64,
    local_decay: u64,
    dt_pitch: i64,
    y_pitch: i64,
    dt_min: f32,
    dt_max: f32,
    batch: i32,
    len: i32,
    heads: i32,
    groups: i32,
    dt_is_storage: i32,
    softplus: i32,
    d_per_row: i32,
    segments: i32,
    segment_chunks: i32,
    piece_count: i32,
    steps: i32,
}

impl Parameters for Forward {}

/// The operator, x and y, shapes checked, tensors of one stream.
#[derive(Debug)]
pub(crate) struct Operands<'a, T: Stored> {
    pub steps: &'a Steps<T>,
    pub b: &'a CudaTensor<T>,
    pub c: &'a CudaTensor<T>,
    pub d: Option<&'a CudaTensor<T::Acc>>,
    pub x: &'a CudaTensor<T>,
    pub y: &'a CudaTensor<T>,
    pub pieces: &'a Pieces,
    pub whole_rows: bool, // not cut into segments, whose number depends on the batch
}

/// The sequences as this kernel walks them.
pub(crate) fn pieces(stream: &Stream, sequences: &Sequences) -> Result<Pieces> {
    Pieces::new(stream, sequences, CHUNK)
}

/// Sequences that the vjp's kernels can count in the second axis of a grid.
const MOST_SEQUENCES: usize = MOST_BLOCKS;

/// Whether the kernels, beyond what the tier asks for, can walk these sequences: none is empty, and there are not too many of them
/// or of their chunks.
pub(crate) fn walks<T: Stored>(x: &CudaTensor<T>, b: &CudaTensor<T>, sequences: &Sequences) -> bool {
    let spans = sequences.spans();
    let chunks: usize = spans.iter().map(|span| (span.end - span.start).div_ceil(CHUNK)).sum();
    let steps = chunks.checked_mul(Sizes::of(x, b).head_blocks());
    spans.len() <= MOST_SEQUENCES
        && spans.iter().all(|span| span.start < span.end)
        && steps.is_some_and(|steps| steps <= i32::MAX as usize)
}

const FORWARD: &str = "ssd/sm90/forward.cu";
const SEGMENT: &str = "ssd/sm90/segment.cu";

/// The programs for a shape, of a type of two bytes.
pub(crate) fn programs(stored: &'static str, (head_dim, state_dim): (usize, usize)) -> Vec<Program> {
    if !super::knows(stored, (head_dim, state_dim)) {
        return Vec::new();
    }
    let widths = Widths { head_dim, state_dim };
    [FORWARD, SEGMENT].map(|name| widths.program(name, stored)).into()
}

/// What the kernels are made for, and what follows from it.
#[derive(Debug, Clone, Copy)]
struct Widths {
    head_dim: usize,
    state_dim: usize,
}

impl Widths {
    fn program(self, name: &'static str, stored: &'static str) -> Program {
        Program::new(name)
            .define(stored, 1)
            .define("HEAD_DIM", self.head_dim)
            .define("STATE_DIM", self.state_dim)
            .define("SHARED", if name == SEGMENT { self.segment_shared() } else { self.shared() })
    }

    fn is_wide(self) -> bool {
        self.state_dim == 256
    }

    /// Heads of a block.
    fn block_heads(self) -> usize {
        if self.head_dim == 64 && !self.is_wide() { 2 } else { 1 }
    }

    /// Numbers of the state of one walker.
    fn state_floats(self) -> usize {
        64 * if self.is_wide() { 128 } else { self.state_dim }
    }

    fn tiles(self) -> (usize, usize) {
        (self.state_dim / 64, if self.is_wide() { 1 } else { WALKERS })
    }

    /// Bytes of shared memory; the kernel makes sure that they suffice.
    fn shared(self) -> u32 {
        let (stages, heads, (depth, x)) =
            (if self.is_wide() { 2 } else { 3 }, self.block_heads(), self.tiles());
        let exchange = if self.is_wide() { 2 * WALKERS * 16 * 512 } else { 0 };
        let tiles = stages * (2 * depth + x) + 2 * heads + 2 * x;
        let tables = stages * heads * DECAY_BYTES + 2 * heads * 256;
        (tiles * TILE + exchange + tables + 24 * stages + 32 * heads + 32 + 1024) as u32
    }

    /// The same of the segments' kernel.
    fn segment_shared(self) -> u32 {
        let (ring, heads, (depth, x)) =
            (if self.is_wide() { 3 } else { 4 }, self.block_heads(), self.tiles());
        (ring * ((depth + x) * TILE + heads * DECAY_BYTES + 8 + 24) + 1024) as u32
    }
}

/// Heads and groups, and how wide they are.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: usize,
    groups: usize,
    widths: Widths,
}

impl Sizes {
    fn of<T: Stored>(x: &CudaTensor<T>, b: &CudaTensor<T>) -> Self {
        let widths = Widths { head_dim: x.shape()[3], state_dim: b.shape()[3] };
        Self { heads: x.shape()[2], groups: b.shape()[2], widths }
    }

    /// Blocks that all heads of a row take.
    fn head_blocks(self) -> usize {
        let parts = if self.widths.is_wide() { self.widths.head_dim / 64 } else { 1 };
        self.groups * (self.heads / self.groups * parts).div_ceil(self.widths.block_heads())
    }
}

/// How rows are cut: into segments if there are too few heads and rows to fill the device, else where sequences begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    segments: usize,
    /// Chunks of a segment; the first one has what is left over besides.
    segment_chunks: usize,
    /// How a segment gets the state it begins with, if it is not a row's first.
    entry: Entry,
}

/// Where the state of a segment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Its own block walks back over the row: `forward_back.cuh`.
    WalkedBack,
    /// The states that the segments before add: `segment.cu`.
    Joined,
}

impl Cut {
    /// For rows of one sequence of `chunks` chunks, `units` blocks to walk whole rows.
    fn of(chunks: usize, units: usize, multiprocessors: usize) -> Self {
        let fit = (multiprocessors / units.max(1)).max(1);
        let more = multiprocessors.div_ceil(units.max(1));
        if chunks <= SHORT {
            // Walking back over a chunk takes half as long as walking it: all end together if the others have half of the first.
            let segment_chunks = ((2 * chunks + fit + 1) / (2 * fit + 2)).max(1);
            return Self {
                segments: fit.min(chunks / segment_chunks),
                segment_chunks,
                entry: Entry::WalkedBack,
            };
        }
        let wanted = if fit > 1 && chunks >= LONG * more { more } else { fit }.min(chunks);
        Self { segments: wanted, segment_chunks: chunks / wanted, entry: Entry::Joined }
    }

    /// Segments of a row whose states `segment.cu` computes.
    fn joined(self) -> usize {
        if self.entry == Entry::Joined { self.segments - 1 } else { 0 }
    }
}

/// `y = M x`; the states that enter are read from `initial`, those that leave written to `last`, which may be the same memory.
pub(crate) fn forward<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    last: &CudaTensor<T::Acc>,
) -> Result<()> {
    let (stream, device) = (m.x.stream(), m.x.stream().device());
    let sizes = Sizes::of(m.x, m.b);
    let widths = sizes.widths;
    let (batch, len) = (m.x.shape()[0], m.x.shape()[1]);
    let (blocks, multiprocessors) = (sizes.head_blocks(), device.multiprocessors() as usize);
    let whole = m.pieces.rows.is_none();
    let row_chunks = len.div_ceil(CHUNK);
    let cut = if whole && !m.whole_rows {
        Cut::of(row_chunks, batch * blocks, multiprocessors)
    } else {
        Cut { segments: 1, segment_chunks: row_chunks, entry: Entry::Joined }
    };

    let steps = m.pieces.chunks * blocks;
    let units = if whole { batch * cut.segments * blocks } else { usize::MAX };
    let grid = units.min(multiprocessors).min(steps);

    let room = |shape: &[usize]| CudaTensor::<T::Acc>::room(stream, shape);
    let handing = if grid == units { 0 } else { grid }; // a block for each unit hands nothing over
    let handoff = room(&[handing, WALKERS * widths.state_floats()])?;
    let flags = CudaTensor::<f32>::filled(stream, &[handing, WALKERS], 0.0)?; // zeros of any type
    let (slots, heads) = (batch * cut.joined() * blocks, widths.block_heads());
    let local = room(&[slots, WALKERS * widths.state_floats()])?;
    let local_decay = room(&[slots, heads])?;
    // A row's last segment may be done, and its state written, before another block has read the first one's.
    let aliased = initial.filter(|initial| cut.segments > 1 && initial.pointer() == last.pointer());
    let copy = aliased.map(CudaTensor::duplicate).transpose()?;
    let initial = copy.as_ref().or(initial);

    let address = |tensor: Option<&CudaTensor<T::Acc>>| tensor.map_or(0, |tensor| *tensor.pointer());
    let f = Forward {
        d: address(m.d),
        initial: address(initial),
        final_state: *last.pointer(),
        y: *m.y.pointer(),
        pieces: m.pieces.rows.as_ref().map_or(0, |rows| *rows.pointer()),
        handoff: *handoff.pointer(),
        flags: *flags.pointer(),
        local: if slots > 0 { *local.pointer() } else { 0 },
        local_decay: *local_decay.pointer(),
        y_pitch: m.y.pitch() as i64,
        batch: batch as i32,
        len: len as i32,
        heads: sizes.heads as i32,
        groups: sizes.groups as i32,
        d_per_row: m.d.map_or(0, |d| i32::from(d.shape()[1] > 1)),
        segments: cut.segments as i32,
        segment_chunks: cut.segment_chunks as i32,
        piece_count: m.pieces.count as i32,
        steps: steps as i32,
        ..discretized(m.steps, sizes.heads)
    };
    let [x, b, c] = [m.x, m.b, m.c].map(|tensor| tensor_map(tensor, CHUNK as u32));
    let (x, b, c, y) = (x?, b?, c?, tensor_map(m.y, OUT_ROWS)?);
    let program = |name| widths.program(name, stored_macro::<T>());
    let kernel = |name, entry| device.kernel(&program(name), entry);
    if slots > 0 {
        device.load(&[SEGMENT, FORWARD].map(program))?;
        let grid =
            Grid { shared: widths.segment_shared(), ..Grid::new([slots.min(multiprocessors), 1, 1], 384) };
        // SAFETY: the arguments are those of `ssd_segment_sm90`; `local` and `local_decay` have a place for every segment of
        // a row but the last and every block of heads.
        unsafe { kernel(SEGMENT, "ssd_segment_sm90")?.launch(stream, grid, &[&x, &b, &f]) }?;
    }
    let grid = Grid { shared: widths.shared(), start: Start::Beside, ..Grid::new([grid, 1, 1], 512) };
    // SAFETY: the arguments are those of `ssd_forward_sm90`; `handoff` and `flags` have a place for every block, all of which
    // run at once, the flags are zero, and pieces and states lie inside the tensors.
    unsafe { kernel(FORWARD, "ssd_forward_sm90")?.launch(stream, grid, &[&x, &b, &c, &y, &f]) }
}

/// The arguments about steps and decays; all others are zero.
fn discretized<T: Stored>(steps: &Steps<T>, heads: usize) -> Forward {
    let none = Forward {
        dt: 0,
        log_a: 0,
        a: 0,
        bias: 0,
        d: 0,
        initial: 0,
        final_state: 0,
        y: 0,
        pieces: 0,
        handoff: 0,
        flags: 0,
        local: 0,
        local_decay: 0,
        dt_pitch: heads as i64,
        y_pitch: 0,
        dt_min: f32::NEG_INFINITY,
        dt_max: f32::INFINITY,
        batch: 0,
        len: 0,
        heads: 0,
        groups: 0,
        dt_is_storage: 0,
        softplus: 0,
        d_per_row: 0,
        segments: 0,
        segment_chunks: 0,
        piece_count: 0,
        steps: 0,
    };
    match steps {
        Steps::Given { log_a, dt } => Forward { dt: *dt.pointer(), log_a: *log_a.pointer(), ..none },
        Steps::Raw { dt: raw, a, rule } => {
            let ((dt, stored), (bias, softplus, lower, upper)) = (raw.address(), rule.arguments());
            Forward {
                dt,
                dt_is_storage: i32::from(stored),
                dt_pitch: raw.pitch() as i64,
                a: *a.pointer(),
                bias,
                softplus,
                dt_min: lower as f32,
                dt_max: upper as f32,
                ..none
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, Entry, Sizes, Widths};

    #[test]
    fn rows_are_cut_so_that_the_device_is_full() {
        let cut = |chunks, units| Cut::of(chunks, units, 132).segments;
        assert_eq!(cut(64, 320), 1);
        assert_eq!(cut(512, 40), 4);
        assert_eq!(cut(32, 40), 3);
        assert_eq!(cut(2048, 12), 11);
        assert_eq!(cut(1, 1), 1);
        let cut = |chunks, units| {
            let cut = Cut::of(chunks, units, 132);
            let others = (cut.segments - 1) * cut.segment_chunks;
            (cut.segments, chunks - others, cut.segment_chunks, cut.entry)
        };
        assert_eq!(cut(32, 40), (3, 16, 8, Entry::WalkedBack));
        assert_eq!(cut(10, 30), (4, 4, 2, Entry::WalkedBack));
        assert_eq!(cut(32, 12), (10, 5, 3, Entry::WalkedBack));
        assert_eq!(cut(10, 132), (1, 10, 5, Entry::WalkedBack)); // whole rows
        assert_eq!(cut(513, 40), (4, 129, 128, Entry::Joined));
    }

    #[test]
    fn blocks_hold_two_heads_or_a_half_of_one() {
        let blocks = |heads, groups, head_dim, state_dim| {
            Sizes { heads, groups, widths: Widths { head_dim, state_dim } }.head_blocks()
        };
        assert_eq!(blocks(80, 1, 64, 128), 40);
        assert_eq!(blocks(6, 2, 64, 128), 4);
        assert_eq!(blocks(40, 8, 128, 128), 40);
        assert_eq!(blocks(40, 1, 128, 256), 80);
    }
}
