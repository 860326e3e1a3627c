//! Products on several threads: two passes over pieces of the time axis.

use std::ops::Range;

use super::super::recurrent::{State, steps};
use super::super::{Sss, kernels};
use crate::linalg::add_matmul;
use crate::matrix::MainDiagonal;
use crate::parallel;
use crate::scalar::Field;

/// `y += M x` in `pieces` pieces that run side by side; `x`: (columns, width), `y`: (rows, width).
///
/// First every piece finds the state that it leaves behind when it starts from zero, and the product of its transitions;
/// then the states at the starts of pieces follow one from another; then every piece runs from its state. For a fixed
/// number of pieces the result does not depend on the number of threads. About twice the work of one pass.
pub(super) fn multiply<E: Field>(m: &Sss<E>, pieces: usize, (x, width): (&[E], usize), y: &mut [E]) {
    let pieces = cut(m, pieces, (x, width), y);
    let last = pieces.len().saturating_sub(1);
    let inputs = pieces.iter().map(|p| (p.range.clone(), p.x)).collect::<Vec<_>>();
    let left_behind = parallel::map(inputs[..last].to_vec(), |(range, x)| {
        let mut state = State::zeros(m.orders[range.start], width);
        end_state(m, range.clone(), x, width, &mut state);
        // The first piece starts from zero: no state passes through it.
        let passage = (range.start > 0).then(|| m.chain().passage(range));
        (state.now, passage)
    });
    let mut starts = vec![State::zeros(m.orders[0], width)];
    for ((end, passage), (range, _)) in left_behind.into_iter().zip(&inputs) {
        let mut next = State::zeros(m.orders[range.end], width);
        next.now.copy_from_slice(&end);
        if let (Some(passage), Some(before)) = (passage, starts.last()) {
            let out = kernels::view_mut(&mut next.now, m.orders[range.end], width);
            let before = kernels::view(&before.now, m.orders[range.start], width);
            add_matmul(out, passage.view(), before);
        }
        starts.push(next);
    }
    let work: Vec<_> = pieces.into_iter().zip(starts).collect();
    parallel::for_each(work, |(piece, mut state)| {
        steps(m, MainDiagonal::Included, piece.range, (piece.x, width), piece.y, &mut state);
    });
}

/// Some steps with their inputs and outputs.
struct Piece<'a, E> {
    range: Range<usize>,
    x: &'a [E],
    y: &'a mut [E],
}

/// Pieces of as equal numbers of steps as can be.
fn cut<'a, E: Field>(
    m: &Sss<E>,
    pieces: usize,
    (mut x, width): (&'a [E], usize),
    mut y: &'a mut [E],
) -> Vec<Piece<'a, E>> {
    let pieces = pieces.min(m.len());
    (0..pieces)
        .map(|piece| {
            let range = piece * m.len() / pieces..(piece + 1) * m.len() / pieces;
            let size = |f: fn((usize, usize)) -> usize| range.clone().map(|k| f(m.d.dims(k))).sum::<usize>();
            let (u, rest) = x.split_at(size(|d| d.1) * width);
            let (out, rest_out) = std::mem::take(&mut y).split_at_mut(size(|d| d.0) * width);
            (x, y) = (rest, rest_out);
            Piece { range, x: u, y: out }
        })
        .collect()
}

/// The state after some steps, their outputs not asked for.
fn end_state<E: Field>(m: &Sss<E>, range: Range<usize>, mut x: &[E], width: usize, state: &mut State<E>) {
    for k in range {
        let (u, rest) = x.split_at(m.d.dims(k).1 * width);
        x = rest;
        state.advance(m, k, u);
    }
}
