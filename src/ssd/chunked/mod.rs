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

mod piece;
mod piece_vjp;
mod rows;
mod vjp;

use ndarray::{Array2, Array3, Array4, ArrayView3, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s};

use super::door::Plan;
use super::run::{HEAD_BLOCK, Run};
use crate::parallel;
use crate::scalar::{Real, Scalar};
use piece::{Piece, Shared};
pub(super) use vjp::{Entering, vjp};

/// Chunks that are worked on at a time, at least.
const SEGMENT: usize = 8;

/// `y = M x` for one run; `state`: (heads, head_dim, state_dim), in and out; `keep`: memory for the states that enter
/// the chunks, for [`vjp`].
pub(super) fn forward<T: Scalar>(
    run: &Run<'_, T>,
    state: ArrayViewMut3<'_, T::Acc>,
    y: ArrayViewMut3<'_, T>,
    (chunk, plan): (usize, Plan),
    keep: Option<&mut Array4<T::Acc>>,
) {
    let entering = keep.map(|keep| {
        if keep.shape() != states_shape(run, chunk) {
            *keep = Array4::zeros(states_shape(run, chunk));
        }
        keep.view_mut()
    });
    let mut h = transposed(state.view());
    walk(run, h.view_mut(), Wanted { y: Some(y), entering }, chunk, plan);
    give_back(&h, state);
}

/// The states that enter the chunks alone; see [`states_shape`].
fn entering_states<T: Scalar>(
    run: &Run<'_, T>,
    h: ArrayView3<'_, T::Acc>,
    chunk: usize,
    plan: Plan,
) -> Array4<T::Acc> {
    let mut entering = Array4::zeros(states_shape(run, chunk));
    walk(run, transposed(h).view_mut(), Wanted { y: None, entering: Some(entering.view_mut()) }, chunk, plan);
    entering
}

/// The shape of all states that enter the chunks: (heads, chunks, state_dim, head_dim).
pub(super) fn states_shape<T: Scalar>(run: &Run<'_, T>, chunk: usize) -> [usize; 4] {
    [run.heads(), run.len().div_ceil(chunk), run.state_dim(), run.head_dim()]
}

/// What a walk through the chunks is to write down.
struct Wanted<'a, T: Scalar> {
    y: Option<ArrayViewMut3<'a, T>>,             // (len, heads, head_dim)
    entering: Option<ArrayViewMut4<'a, T::Acc>>, // (heads, chunks, state_dim, head_dim)
}

/// Goes through the chunks of a run; `h`: (heads, state_dim, head_dim), in and out.
fn walk<T: Scalar>(
    run: &Run<'_, T>,
    mut h: ArrayViewMut3<'_, T::Acc>,
    mut wanted: Wanted<'_, T>,
    chunk: usize,
    plan: Plan,
) {
    let chunk = chunk.min(run.len().max(1));
    let count = run.heads().div_ceil(HEAD_BLOCK);
    let mut pieces: Vec<_> = (0..count).map(|_| Piece::new(run, chunk)).collect();
    for chunks in segments(run.len(), chunk) {
        let shared = parallel::map(chunks, |(start, end)| match wanted.y {
            Some(_) => Shared::new(run, start, end, start / chunk),
            None => Shared::without_scores(run, start, end, start / chunk),
        });
        let mut ys = wanted.y.iter_mut().flat_map(|y| y.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK));
        let mut entering =
            wanted.entering.iter_mut().flat_map(|e| e.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK));
        let blocks: Vec<_> = (h.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK).enumerate())
            .map(|(block, h)| Block {
                run,
                first: block * HEAD_BLOCK,
                h,
                y: ys.next(),
                entering: entering.next(),
            })
            .zip(&mut pieces)
            .collect();
        if plan.starved(count) {
            blocks.into_iter().for_each(|(block, _)| block.chunks_side_by_side(&shared));
        } else {
            parallel::for_each(blocks, |(block, piece)| block.chunks_in_turn(&shared, piece));
        }
    }
}

/// A few heads that go through a segment of chunks together.
struct Block<'a, 'r, T: Scalar> {
    run: &'a Run<'r, T>,
    first: usize,                                // first head
    h: ArrayViewMut3<'a, T::Acc>,                // (heads, state_dim, head_dim)
    y: Option<ArrayViewMut3<'a, T>>,             // (len, heads, head_dim)
    entering: Option<ArrayViewMut4<'a, T::Acc>>, // (heads, chunks, state_dim, head_dim)
}

impl<T: Scalar> Block<'_, '_, T> {
    /// One chunk after the other: output, chunk state, state passing.
    fn chunks_in_turn(mut self, shared: &[Shared<'_, T::Acc>], piece: &mut Piece<T::Acc>) {
        for k in shared {
            for (i, mut h) in self.h.outer_iter_mut().enumerate() {
                let head = self.run.head(self.first + i, k.start, k.end);
                piece.load(&head);
                if let Some(y) = &mut self.y {
                    piece.output(k, &head, h.view(), y.slice_mut(s![k.start..k.end, i, ..]));
                }
                if let Some(entering) = &mut self.entering {
                    entering.slice_mut(s![i, k.index, .., ..]).assign(&h);
                }
                piece.chunk_state(k);
                piece.state_passing(h.view_mut());
            }
        }
    }

    /// Head after head: chunk states side by side, the passing of the state, outputs side by side.
    fn chunks_side_by_side(mut self, shared: &[Shared<'_, T::Acc>]) {
        for (i, mut h) in self.h.outer_iter_mut().enumerate() {
            let head = |k: &Shared<'_, T::Acc>| self.run.head(self.first + i, k.start, k.end);
            let left = parallel::map(shared.iter().collect(), |k| {
                let mut piece = Piece::new(self.run, k.len());
                piece.load(&head(k));
                piece.chunk_state(k);
                piece
            });
            let pass = |piece: &Piece<T::Acc>| {
                let entering = h.to_owned();
                piece.state_passing(h.view_mut());
                entering
            };
            let states: Vec<Array2<_>> = left.iter().map(pass).collect();
            if let Some(entering) = &mut self.entering {
                for (k, state) in shared.iter().zip(&states) {
                    entering.slice_mut(s![i, k.index, .., ..]).assign(state);
                }
            }
            if let Some(y) = &mut self.y {
                let mut y = y.index_axis_mut(Axis(1), i);
                let work = shared.iter().zip(left).zip(&states).zip(slices(&mut y, shared)).collect();
                parallel::for_each(work, |(((k, mut piece), h), y)| {
                    piece.load(&head(k));
                    piece.output(k, &head(k), h.view(), y);
                });
            }
        }
    }
}

/// `state = hᵀ` for every head.
fn give_back<A: Real>(h: &Array3<A>, mut state: ArrayViewMut3<'_, A>) {
    state.assign(&h.view().permuted_axes([0, 2, 1]));
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
fn slices<'a, T, A: Real>(
    rows: &'a mut ArrayViewMut2<'_, T>,
    chunks: &[Shared<'_, A>],
) -> Vec<ArrayViewMut2<'a, T>> {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Vec::new() };
    let mut rest = rows.slice_mut(s![first.start..last.end, ..]);
    let mut out = Vec::with_capacity(chunks.len());
    for k in chunks {
        let (here, after) = rest.split_at(Axis(0), k.len());
        out.push(here);
        rest = after;
    }
    out
}
