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

use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};

use super::door::Plan;
use super::run::{HEAD_BLOCK, Head, Run, RunGrad};
use crate::parallel;
use crate::scalar::{Real, Scalar};
use stages::{HeadGrad, Piece, PieceGrad, Share, Shared};

/// Chunks that are worked on at a time, at least.
const SEGMENT: usize = 8;

/// `y = M x` for one run; `state`: (heads, head_dim, state_dim), in and out.
pub(super) fn forward<T: Scalar>(
    run: &Run<'_, T>,
    mut state: ArrayViewMut3<'_, T::Acc>,
    mut y: ArrayViewMut3<'_, T>,
    chunk: usize,
    plan: Plan,
) {
    let chunk = chunk.min(run.len().max(1));
    let mut h = transposed(state.view());
    let count = run.heads().div_ceil(HEAD_BLOCK);
    let mut pieces: Vec<_> = (0..count).map(|_| Piece::new(run, chunk)).collect();
    for chunks in segments(run.len(), chunk) {
        let shared =
            parallel::map(chunks.clone(), |(start, end)| Shared::new(run, start, end, start / chunk));
        if plan.starved(count) {
            for (r, (h, mut y)) in h.outer_iter_mut().zip(y.axis_iter_mut(Axis(1))).enumerate() {
                let entering = pass_side_by_side(run, r, &shared, h);
                let work = shared.iter().zip(&entering).zip(slices(&mut y, &chunks)).collect();
                parallel::for_each(work, |((k, h), y)| {
                    let (mut piece, head) = (Piece::new(run, k.len()), run.head(r, k.start, k.end));
                    piece.load(&head);
                    piece.output(k, &head, h.view(), y);
                });
            }
        } else {
            let blocks = (h.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK))
                .zip(y.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
                .zip(&mut pieces)
                .enumerate()
                .collect();
            parallel::for_each(blocks, |(block, ((mut h, mut y), piece))| {
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

/// The states that enter the chunks, (state_dim, head_dim) each, from chunk states computed side by side; `h` moves to
/// the end of the last chunk.
fn pass_side_by_side<T: Scalar>(
    run: &Run<'_, T>,
    r: usize,
    shared: &[Shared<'_, T::Acc>],
    mut h: ArrayViewMut2<'_, T::Acc>,
) -> Vec<Array2<T::Acc>> {
    let pass = |piece: &Piece<T::Acc>| {
        let enters = h.to_owned();
        piece.state_passing(h.view_mut());
        enters
    };
    chunk_states(run, r, shared).iter().map(pass).collect()
}

/// What each chunk leaves behind in head `r`, chunks side by side.
fn chunk_states<T: Scalar>(run: &Run<'_, T>, r: usize, shared: &[Shared<'_, T::Acc>]) -> Vec<Piece<T::Acc>> {
    parallel::map(shared.iter().collect(), |k| {
        let mut piece = Piece::new(run, k.len());
        piece.load(&run.head(r, k.start, k.end));
        piece.chunk_state(k);
        piece
    })
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

/// Cotangents of one run; `h`: the initial state, `dh`: the cotangent of the final state in, of the initial one out.
///
/// Goes forwards once for the states that enter the chunks, then backwards through the stages. What it keeps is one
/// state for each chunk.
pub(super) fn vjp<'r, T: Scalar>(
    run: &Run<'r, T>,
    h: ArrayView3<'_, T::Acc>,
    dy: ArrayView3<'r, T>,
    mut dh: ArrayViewMut3<'_, T::Acc>,
    mut grad: RunGrad<'_, T>,
    chunk: usize,
    plan: Plan,
) {
    let chunk = chunk.min(run.len().max(1));
    let states = entering_states(run, h, chunk, plan);
    let mut back = transposed(dh.view());
    let count = run.heads().div_ceil(HEAD_BLOCK);
    let mut memory: Vec<_> = (0..count).map(|_| Memory::new(run, chunk)).collect();
    for chunks in segments(run.len(), chunk).into_iter().rev() {
        let shared =
            parallel::map(chunks.clone(), |(start, end)| Shared::new(run, start, end, start / chunk));
        let blocks: Vec<_> = (back.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK))
            .zip(grad.x.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .zip(grad.dt.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .zip(grad.log_a.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .enumerate()
            .map(|(block, (((dh, x), dt), log_a))| Block {
                run,
                first: block * HEAD_BLOCK,
                dy,
                dh,
                x,
                dt,
                log_a,
            })
            .zip(&mut memory)
            .collect();
        if plan.starved(count) {
            blocks
                .into_iter()
                .for_each(|(block, memory)| block.chunks_side_by_side(&shared, &states, memory));
        } else {
            parallel::for_each(blocks, |(block, memory)| block.chunks_in_turn(&shared, &states, memory));
        }
        let rows =
            shared.iter().zip(slices(&mut grad.b, &chunks)).zip(slices(&mut grad.c, &chunks)).enumerate();
        parallel::for_each(rows.collect(), |(i, ((k, mut db), mut dc))| {
            let mut sum = Share::new(k.len(), run.state_dim());
            memory.iter().for_each(|memory| sum.add(&memory.shares[i]));
            sum.scores_vjp(k);
            db.zip_mut_with(&sum.b, |db, &sum| *db = T::narrow(sum));
            dc.zip_mut_with(&sum.c, |dc, &sum| *dc = T::narrow(sum));
        });
    }
    for (mut dh, back) in dh.outer_iter_mut().zip(back.outer_iter()) {
        dh.assign(&back.t());
    }
}

/// The states that enter the chunks, and the final one: (heads, chunks + 1, state_dim, head_dim).
fn entering_states<T: Scalar>(
    run: &Run<'_, T>,
    h: ArrayView3<'_, T::Acc>,
    chunk: usize,
    plan: Plan,
) -> Array4<T::Acc> {
    let mut states =
        Array4::zeros((run.heads(), run.len().div_ceil(chunk) + 1, run.state_dim(), run.head_dim()));
    states.slice_mut(s![.., 0, .., ..]).assign(&h.permuted_axes([0, 2, 1]));
    let mut pieces: Vec<_> = (0..run.heads()).map(|_| Piece::new(run, chunk)).collect();
    for chunks in segments(run.len(), chunk) {
        let shared =
            parallel::map(chunks, |(start, end)| Shared::without_scores(run, start, end, start / chunk));
        let heads: Vec<_> = states.outer_iter_mut().zip(&mut pieces).enumerate().collect();
        if plan.starved(run.heads().div_ceil(HEAD_BLOCK)) {
            for (r, (mut states, _)) in heads {
                for (k, piece) in shared.iter().zip(chunk_states(run, r, &shared)) {
                    let (entering, leaving) = states.view_mut().split_at(Axis(0), k.index + 1);
                    piece.pass_on(entering.index_axis(Axis(0), k.index), leaving.index_axis_move(Axis(0), 0));
                }
            }
        } else {
            parallel::for_each(heads, |(r, (mut states, piece))| {
                for k in &shared {
                    piece.load(&run.head(r, k.start, k.end));
                    piece.chunk_state(k);
                    let (entering, leaving) = states.view_mut().split_at(Axis(0), k.index + 1);
                    piece.pass_on(entering.index_axis(Axis(0), k.index), leaving.index_axis_move(Axis(0), 0));
                }
            });
        }
    }
    states
}

/// What a block of heads works on, kept from segment to segment.
struct Memory<A: Real> {
    piece: Piece<A>,
    grad: PieceGrad<A>,
    shares: Vec<Share<A>>, // the block's share of dB, dC and dS, for each chunk of a segment
}

impl<A: Real> Memory<A> {
    fn new<T: Scalar<Acc = A>>(run: &Run<'_, T>, chunk: usize) -> Self {
        let chunks = segments(run.len(), chunk).first().map_or(0, Vec::len);
        let shares = (0..chunks).map(|_| Share::new(chunk, run.state_dim())).collect();
        Self { piece: Piece::new(run, chunk), grad: PieceGrad::new(run, chunk), shares }
    }
}

/// A few heads, to be gone back through together, and where their cotangents go.
struct Block<'a, 'r, T: Scalar> {
    run: &'a Run<'r, T>,
    first: usize,                     // first head
    dy: ArrayView3<'r, T>,            // (len, all heads, head_dim)
    dh: ArrayViewMut3<'a, T::Acc>,    // (heads, state_dim, head_dim)
    x: ArrayViewMut3<'a, T>,          // (len, heads, head_dim)
    dt: ArrayViewMut2<'a, T::Acc>,    // (len, heads)
    log_a: ArrayViewMut2<'a, T::Acc>, // (len, heads)
}

impl<'r, T: Scalar> Block<'_, 'r, T> {
    /// Head `r` of chunk `k` and its cotangent of y.
    fn inputs(&self, r: usize, k: &Shared<'_, T::Acc>) -> (Head<'r, T>, ArrayView2<'r, T>) {
        (self.run.head(r, k.start, k.end), self.dy.slice_move(s![k.start..k.end, r, ..]))
    }

    /// One chunk after the other, from the last.
    fn chunks_in_turn(
        mut self,
        shared: &[Shared<'_, T::Acc>],
        states: &Array4<T::Acc>,
        memory: &mut Memory<T::Acc>,
    ) {
        let Memory { piece, grad, shares } = memory;
        for (k, share) in shared.iter().zip(shares).rev() {
            share.clear();
            for i in 0..self.dh.dim().0 {
                let r = self.first + i;
                let inputs = self.inputs(r, k);
                let out = HeadGrad {
                    x: self.x.slice_mut(s![k.start..k.end, i, ..]),
                    dt: self.dt.slice_mut(s![k.start..k.end, i]),
                    log_a: self.log_a.slice_mut(s![k.start..k.end, i]),
                };
                let mut dh = self.dh.index_axis_mut(Axis(0), i);
                piece_vjp(
                    (piece, grad),
                    k,
                    inputs,
                    (states.slice(s![r, k.index, .., ..]), dh.view()),
                    share,
                    out,
                );
                grad.pass_back(piece, dh.view_mut());
            }
        }
    }

    /// The same, chunks side by side around the passing of the state's cotangent; head after head.
    fn chunks_side_by_side(
        mut self,
        shared: &[Shared<'_, T::Acc>],
        states: &Array4<T::Acc>,
        memory: &mut Memory<T::Acc>,
    ) {
        let spans: Vec<_> = shared.iter().map(|k| (k.start, k.end)).collect();
        memory.shares.iter_mut().for_each(Share::clear);
        for i in 0..self.dh.dim().0 {
            let r = self.first + i;
            let rights = parallel::map(shared.iter().collect(), |k| {
                let (mut piece, mut grad) =
                    (Piece::new(self.run, k.len()), PieceGrad::new(self.run, k.len()));
                let (head, dy) = self.inputs(r, k);
                piece.load(&head);
                grad.load(dy);
                grad.right(k, &piece);
                (piece, grad)
            });
            let mut dh = self.dh.index_axis_mut(Axis(0), i);
            let pass_back = |(piece, grad): &(Piece<_>, PieceGrad<_>)| {
                let leaves = dh.to_owned();
                grad.pass_back(piece, dh.view_mut());
                leaves
            };
            let leaving: Vec<_> = rights.iter().rev().map(pass_back).collect();
            let inputs: Vec<_> = shared.iter().map(|k| self.inputs(r, k)).collect();
            let mut dx = self.x.index_axis_mut(Axis(1), i);
            let (mut dt, mut log_a) =
                (self.dt.slice_mut(s![.., i..i + 1]), self.log_a.slice_mut(s![.., i..i + 1]));
            let outs = slices(&mut dx, &spans)
                .into_iter()
                .zip(slices(&mut dt, &spans))
                .zip(slices(&mut log_a, &spans));
            let states = shared
                .iter()
                .map(|k| states.slice(s![r, k.index, .., ..]))
                .zip(leaving.iter().rev().map(|dh| dh.view()));
            let work =
                shared.iter().zip(rights).zip(inputs).zip(states).zip(&mut memory.shares).zip(outs).collect();
            parallel::for_each(
                work,
                |(((((k, (mut piece, mut grad)), inputs), states), share), ((x, dt), log_a))| {
                    let (dt, log_a) = (dt.index_axis_move(Axis(1), 0), log_a.index_axis_move(Axis(1), 0));
                    piece_vjp((&mut piece, &mut grad), k, inputs, states, share, HeadGrad { x, dt, log_a });
                },
            );
        }
    }
}

/// All stages of one head of one chunk, backwards; `h` enters the chunk, `dh` is the cotangent of what leaves it.
fn piece_vjp<T: Scalar>(
    (piece, grad): (&mut Piece<T::Acc>, &mut PieceGrad<T::Acc>),
    k: &Shared<'_, T::Acc>,
    (head, dy): (Head<'_, T>, ArrayView2<'_, T>),
    (h, dh): (ArrayView2<'_, T::Acc>, ArrayView2<'_, T::Acc>),
    share: &mut Share<T::Acc>,
    out: HeadGrad<'_, T>,
) {
    piece.load(&head);
    grad.load(dy);
    grad.diagonal_block_vjp(k, piece, share);
    grad.state_output_vjp(k, piece, h, share);
    grad.chunk_state_vjp(k, piece, dh, share);
    grad.state_passing_vjp(piece, h, dh);
    grad.finish(&head, dy, out);
}
