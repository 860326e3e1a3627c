//! The vjp: `cuda/ssd/portable/states.cu`, `features.cu`, `inputs.cu` and `decays.cu`.
//!
//! As in the exact tier: what each chunk adds to the state and to its cotangent, both passed from chunk to chunk, and then
//! every chunk by itself, from the state that enters it and the cotangent of the one that leaves it.
#![allow(unsafe_code)]

use super::{GAP, masked, padded, program};
use crate::backend::cuda::exact::blocks::{Way, pass};
use crate::backend::cuda::exact::{Cotangents, Operands, sums};
use crate::backend::cuda::launch::{Argument, Grid};
use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::error::Result;

/// Positions of a chunk; `Q` of `backward.cuh`.
pub(crate) const CHUNK: usize = 64;
/// Most heads of a block; `HEADS` there.
const HEADS: usize = 8;
/// Threads of a block, where a warp has 16 positions.
const THREADS: u32 = 128;
/// Channels of a block of `states.cu`.
const CHANNELS: usize = 64;

const STATES: &str = "ssd/portable/states.cu";
const FEATURES: &str = "ssd/portable/features.cu";
const INPUTS: &str = "ssd/portable/inputs.cu";
const DECAYS: &str = "ssd/portable/decays.cu";

/// The files to which it matters what stands on the diagonal, and those to which it does not.
pub(super) const MASKED: [&str; 2] = [FEATURES, INPUTS];
pub(super) const PLAIN: [&str; 2] = [STATES, DECAYS];

/// Cotangents, given those of y and of the states that leave; the chunks of `m.spans` have [`CHUNK`] positions.
pub(crate) fn vjp<T: Stored>(
    m: &Operands<'_, T>,
    initial: Option<&CudaTensor<T::Acc>>,
    dy: &CudaTensor<T>,
    dlast: &CudaTensor<T::Acc>,
) -> Result<Cotangents<T>> {
    let grad = m.cotangents(dlast.shape(), dy)?;
    let chunks = &m.spans.chunks.rows;
    let dims = m.dims(dy, Some(&grad.x));
    let (entering, leaving) = (m.states(m.spans.chunks.count)?, m.states(m.spans.chunks.count)?);
    let (gamma, gamma_back) = (m.gammas()?, m.gammas()?);

    let start =
        |file, name, arguments: &[&dyn Argument]| start(m, file, name, over_heads(m, file), arguments);
    start(STATES, "portable_states", &[chunks, &dims, m.log_a, m.dt, m.x, m.b, &entering, &gamma])?;
    pass(m, Way::Onwards, initial, &gamma, &entering, None)?;
    start(STATES, "portable_cotangents", &[chunks, &dims, m.log_a, m.dt, dy, m.c, &leaving, &gamma_back])?;
    pass(m, Way::Back, Some(dlast), &gamma_back, &leaving, Some(&grad.state))?;

    let share = m.shares(blocks_of_heads(m))?;
    let (rows, read, columns, written) = (m.scalars()?, m.scalars()?, m.scalars()?, m.scalars()?);
    start(
        FEATURES,
        "portable_dc",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, dy, &entering, &share, &rows, &read],
    )?;
    sums::heads(m, &share, blocks_of_heads(m), &grad.c)?;
    start(
        FEATURES,
        "portable_db",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, dy, &leaving, &share, &columns, &written],
    )?;
    sums::heads(m, &share, blocks_of_heads(m), &grad.b)?;
    start(
        INPUTS,
        "portable_dx",
        &[chunks, &dims, m.log_a, m.dt, m.x, m.b, m.c, &m.d, dy, &leaving, &grad.x, &grad.dt],
    )?;
    start(
        DECAYS,
        "portable_decays",
        &[chunks, &dims, &rows, &read, &columns, &written, &entering, &leaving, &gamma, &grad.log_a],
    )?;
    Ok(grad)
}

/// Starts a kernel of a file over the chunks.
fn start<T: Stored>(
    m: &Operands<'_, T>,
    file: &'static str,
    name: &'static str,
    grid: Grid,
    arguments: &[&dyn Argument],
) -> Result<()> {
    let size = (m.head_dim(), m.state_dim());
    let program = match MASKED.contains(&file) {
        true => masked(file, stored_macro::<T>(), size, m.diagonal),
        false => program(file, stored_macro::<T>(), size),
    };
    let kernel = m.stream().device().kernel(&program, name)?;
    // SAFETY: `vjp` hands over the arguments of the kernel's declaration; chunks lie inside the tensors' rows, and every chunk,
    // row and block of heads has its place in what is written.
    unsafe { kernel.launch(m.stream(), grid, arguments) }
}

/// Blocks of at most [`HEADS`] heads of one group.
fn blocks_of_heads<T: Stored>(m: &Operands<'_, T>) -> usize {
    m.groups() * (m.heads() / m.groups()).div_ceil(HEADS)
}

/// A block for every chunk and block of heads, or for every head where heads share nothing.
fn over_heads<T: Stored>(m: &Operands<'_, T>, file: &str) -> Grid {
    let heads = if file == DECAYS { m.heads() } else { blocks_of_heads(m) };
    let bands = if file == FEATURES { bands(m.state_dim()) } else { 1 };
    let grid = Grid::new([m.spans.chunks.count, heads, 1], THREADS * bands as u32);
    Grid { shared: shared(file, (m.head_dim(), m.state_dim())), ..grid }
}

/// Parts that the columns of the result are shared out in, in `features.cu`.
fn bands(state_dim: usize) -> usize {
    if padded(state_dim) > 128 { 2 } else { 1 }
}

/// Bytes of `Shared` of a file.
fn shared(file: &str, (head_dim, state_dim): (usize, usize)) -> u32 {
    let wide = padded(state_dim) + GAP;
    let steps = 3 * 4 * CHUNK;
    let bytes = match file {
        STATES => 2 * CHUNK * (wide + CHANNELS + GAP) + steps + 4 * CHUNK,
        DECAYS => 0,
        _ => {
            let tile = padded(head_dim).min(if padded(state_dim) > 128 { 16 } else { 64 });
            let numbers = 2 * CHUNK * (wide + tile + GAP) + 2 * tile * wide;
            let passed = if file == FEATURES { 4 * CHUNK * bands(state_dim) } else { 0 };
            2 * numbers + 4 * 8 + steps + passed
        }
    };
    bytes as u32
}
