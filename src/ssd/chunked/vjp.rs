//! The block decomposition backwards: the stages in reverse, chunk after chunk from the last.

use ndarray::{Array4, ArrayView2, ArrayView3, ArrayViewMut3, Axis, s};

use super::piece::{Piece, Shared};
use super::piece_vjp::{HeadGrad, PieceGrad, Share};
use super::{entering_states, give_back, segments, slices, transposed};
use crate::parallel;
use crate::scalar::{Real, Scalar};
use crate::ssd::door::Plan;
use crate::ssd::run::{BlockGrad, HEAD_BLOCK, Head, Run, RunGrad};

/// Where the states that enter the chunks come from.
pub(in crate::ssd) enum Entering<'a, A> {
    /// From the initial state, (heads, head_dim, state_dim), by going through the run.
    First(ArrayView3<'a, A>),
    /// Kept by [`super::forward`], (heads, chunks, state_dim, head_dim).
    Kept(&'a Array4<A>),
}

/// Cotangents of one run; `dh`: the cotangent of the final state in, of the initial one out.
///
/// Goes forwards once for the states that enter the chunks, unless they were kept, then backwards through the stages.
/// What it holds is one state for each chunk.
pub(in crate::ssd) fn vjp<'r, T: Scalar>(
    run: &Run<'r, T>,
    entering: Entering<'_, T::Acc>,
    dy: ArrayView3<'r, T>,
    dh: ArrayViewMut3<'_, T::Acc>,
    mut grad: RunGrad<'_, T>,
    (chunk, plan): (usize, Plan),
) {
    let chunk = chunk.min(run.len().max(1));
    let found;
    let states = match entering {
        Entering::Kept(states) => states,
        Entering::First(h) => {
            found = entering_states(run, h, chunk, plan);
            &found
        }
    };
    let mut back = transposed(dh.view());
    let count = run.heads().div_ceil(HEAD_BLOCK);
    let mut memory: Vec<_> = (0..count).map(|_| Memory::new(run, chunk)).collect();
    for chunks in segments(run.len(), chunk).into_iter().rev() {
        let shared = parallel::map(chunks, |(start, end)| Shared::both_ways(run, start, end, start / chunk));
        let mut back = back.view_mut();
        let blocks: Vec<_> = (grad.blocks(&mut back).into_iter())
            .map(|grad| Block { run, dy, grad })
            .zip(&mut memory)
            .collect();
        if plan.starved(count) {
            blocks.into_iter().for_each(|(block, memory)| block.chunks_side_by_side(&shared, states, memory));
        } else {
            parallel::for_each(blocks, |(block, memory)| block.chunks_in_turn(&shared, states, memory));
        }
        let rows =
            shared.iter().zip(slices(&mut grad.b, &shared)).zip(slices(&mut grad.c, &shared)).enumerate();
        parallel::for_each(rows.collect(), |(i, ((k, mut db), mut dc))| {
            let mut sum = Share::new(k.len(), run.state_dim());
            memory.iter().for_each(|memory| sum.add(&memory.shares[i]));
            sum.scores_vjp(k);
            db.zip_mut_with(&sum.b_t.t(), |db, &sum| *db = T::narrow(sum));
            dc.zip_mut_with(&sum.c_t.t(), |dc, &sum| *dc = T::narrow(sum));
        });
    }
    give_back(&back, dh);
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
    dy: ArrayView3<'r, T>, // (len, all heads, head_dim)
    grad: BlockGrad<'a, T>,
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
            for i in 0..self.grad.dh.dim().0 {
                let r = self.grad.first + i;
                let inputs = self.inputs(r, k);
                let out = HeadGrad {
                    x: self.grad.x.slice_mut(s![k.start..k.end, i, ..]),
                    dt: self.grad.dt.slice_mut(s![k.start..k.end, i]),
                    log_a: self.grad.log_a.slice_mut(s![k.start..k.end, i]),
                };
                let mut dh = self.grad.dh.index_axis_mut(Axis(0), i);
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
        memory.shares.iter_mut().for_each(Share::clear);
        for i in 0..self.grad.dh.dim().0 {
            let r = self.grad.first + i;
            let rights = parallel::map(shared.iter().collect(), |k| {
                let (mut piece, mut grad) =
                    (Piece::new(self.run, k.len()), PieceGrad::new(self.run, k.len()));
                let (head, dy) = self.inputs(r, k);
                piece.load(&head);
                grad.load(dy);
                grad.right(k, &piece);
                (piece, grad)
            });
            let mut dh = self.grad.dh.index_axis_mut(Axis(0), i);
            let pass_back = |(piece, grad): &(Piece<_>, PieceGrad<_>)| {
                let leaves = dh.to_owned();
                grad.pass_back(piece, dh.view_mut());
                leaves
            };
            let leaving: Vec<_> = rights.iter().rev().map(pass_back).collect();
            let inputs: Vec<_> = shared.iter().map(|k| self.inputs(r, k)).collect();
            let mut dx = self.grad.x.index_axis_mut(Axis(1), i);
            let (mut dt, mut log_a) =
                (self.grad.dt.slice_mut(s![.., i..i + 1]), self.grad.log_a.slice_mut(s![.., i..i + 1]));
            let outs = slices(&mut dx, shared)
                .into_iter()
                .zip(slices(&mut dt, shared))
                .zip(slices(&mut log_a, shared));
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
