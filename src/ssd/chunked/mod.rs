//! The block decomposition (paper, section 6): quadratic inside blocks, recurrent between them.
//!
//! Time is cut into chunks. With `a_t = exp(log_a_t)`, `U = diag(dt) X`, and for one chunk the decays from its start
//! `g_t = a_t ⋯ a_start`, to its end `w_t = a_last ⋯ a_{t+1}`, and through it `γ = g_last`:
//!
//! ```math
//! Y = \underbrace{(L \circ C B^\top) U}_{\text{diagonal block}} + \underbrace{\mathrm{diag}(g)\, C H}_{\text{state output}},
//! \qquad H' = \underbrace{\gamma H}_{\text{state passing}} + \underbrace{B^\top \mathrm{diag}(w)\, U}_{\text{chunk state}}
//! ```
//!
//! `H`: (state_dim, head_dim) enters the chunk and `H'` leaves it. Each row of L follows from the one above,
//! `L_i = [a_i L_{i-1}, 1]`, so every decay is a product of the `a_t` themselves: no exponential of a difference that
//! could cancel, no overflow, and a decay that underflows is zero.
//!
//! Scores `C Bᵀ` are shared by the heads of a group. Heads run side by side; if there are fewer than threads,
//! chunks do, around the state passing; both ways take the same steps and give the same bits.

mod stages;

use ndarray::{Array3, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};

use super::door::Plan;
use super::run::{HEAD_BLOCK, Run, RunGrad};
use crate::parallel;
use crate::scalar::{Real, Scalar};
use stages::{Piece, Shared};

/// Chunks that are worked on at a time, at least.
const SEGMENT: usize = 16;

/// `y = M x` for one run; `state`: (heads, head_dim, state_dim), in and out.
pub(super) fn forward<T: Scalar>(
    run: &Run<'_, T>,
    mut state: ArrayViewMut3<'_, T::Acc>,
    mut y: ArrayViewMut3<'_, T>,
    chunk: usize,
    plan: Plan,
) {
    let mut h = transposed(state.view());
    for chunks in segments(run.len(), chunk) {
        let shared = parallel::map(chunks.clone(), |(start, end)| Shared::new(run, start, end));
        if plan.starved(run.heads().div_ceil(HEAD_BLOCK)) {
            for (r, (h, mut y)) in h.outer_iter_mut().zip(y.axis_iter_mut(Axis(1))).enumerate() {
                let entering = pass_side_by_side(run, r, &shared, h);
                let work = shared.iter().zip(entering.outer_iter()).zip(slices(&mut y, &chunks)).collect();
                parallel::for_each(work, |((k, h), y)| {
                    let (mut piece, head) = (Piece::new(run, k.len()), run.head(r, k.start, k.end));
                    piece.load(&head);
                    piece.output(k, &head, h, y);
                });
            }
        } else {
            let blocks = (h.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK))
                .zip(y.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
                .enumerate()
                .collect();
            parallel::for_each(blocks, |(block, (mut h, mut y))| {
                let mut piece = Piece::new(run, chunk.min(run.len()));
                for k in &shared {
                    let mut y = y.slice_mut(s![k.start..k.end, .., ..]);
                    for (i, (mut h, y)) in h.outer_iter_mut().zip(y.axis_iter_mut(Axis(1))).enumerate() {
                        let head = run.head(block * HEAD_BLOCK + i, k.start, k.end);
                        piece.load(&head);
                        piece.output(k, &head, h.view(), y);
                        piece.chunk_state(k);
                        piece.state_passing(h.view_mut());
                    }
                }
            });
        }
    }
    for (mut state, h) in state.outer_iter_mut().zip(h.outer_iter()) {
        state.assign(&h.t());
    }
}

/// The states that enter the chunks, (chunks, state_dim, head_dim), from chunk states computed side by side; `h`
/// moves to the end of the last chunk.
fn pass_side_by_side<T: Scalar>(
    run: &Run<'_, T>,
    r: usize,
    shared: &[Shared<'_, T::Acc>],
    mut h: ArrayViewMut2<'_, T::Acc>,
) -> Array3<T::Acc> {
    let pieces = parallel::map(shared.iter().collect(), |k| {
        let mut piece = Piece::new(run, k.len());
        piece.load(&run.head(r, k.start, k.end));
        piece.chunk_state(k);
        piece
    });
    let mut entering = Array3::zeros((shared.len(), run.state_dim(), run.head_dim()));
    for (piece, mut enters) in pieces.iter().zip(entering.outer_iter_mut()) {
        enters.assign(&h);
        piece.state_passing(h.view_mut());
    }
    entering
}

/// Each matrix of a stack, transposed in memory.
fn transposed<A: Real>(state: ArrayView3<'_, A>) -> Array3<A> {
    state.permuted_axes([0, 2, 1]).as_standard_layout().into_owned()
}

/// The chunks as (start, end), in segments of as many as are worked on at a time.
fn segments(len: usize, chunk: usize) -> Vec<Vec<(usize, usize)>> {
    let chunk = chunk.min(len.max(1));
    let chunks: Vec<_> = (0..len).step_by(chunk).map(|start| (start, len.min(start + chunk))).collect();
    chunks.chunks(SEGMENT.max(2 * parallel::threads())).map(<[_]>::to_vec).collect()
}

/// One mutable view for each chunk of the rows.
fn slices<'a, T>(rows: &'a mut ArrayViewMut2<'_, T>, chunks: &[(usize, usize)]) -> Vec<ArrayViewMut2<'a, T>> {
    let (Some(&(first, _)), Some(&(_, last))) = (chunks.first(), chunks.last()) else { return Vec::new() };
    let mut rest = rows.slice_mut(s![first..last, ..]);
    let mut out = Vec::with_capacity(chunks.len());
    for (start, end) in chunks {
        let (here, after) = rest.split_at(Axis(0), end - start);
        out.push(here);
        rest = after;
    }
    out
}

pub(super) fn vjp<T: Scalar>(
    _run: &Run<'_, T>,
    _h: ArrayView3<'_, T::Acc>,
    _dy: ArrayView3<'_, T>,
    _dh: ArrayViewMut3<'_, T::Acc>,
    _grad: RunGrad<'_, T>,
    _chunk: usize,
    _plan: Plan,
) {
}
