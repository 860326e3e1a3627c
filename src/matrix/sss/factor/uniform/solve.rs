//! Triangular systems with one right-hand side.

use ndarray::Array2;

use super::super::super::Sss;
use super::super::super::kernels::Apply;
use super::super::{divides, singular};
use super::eliminate::Column;
use super::{
    LANES, Pivots, SEGMENT, add_scaled, add_times, conjugate, diagonals, order, segments, times, total,
};
use crate::error::Result;
use crate::linalg::vectorize;
use crate::scalar::Field;

/// `x ← M⁻¹ x`; `false` if these loops do not apply.
pub(in super::super) fn solve_lower<E: Field>(m: &Sss<E>, pivots: Pivots, x: &mut Array2<E>) -> Result<bool> {
    let Some(n) = order(m).filter(|_| x.ncols() == 1) else { return Ok(false) };
    check_pivots(m, pivots)?;
    let x = x.as_slice_mut().expect("the caller gives standard layout");
    let (b, c, d) = (m.b.flat(), m.c.flat(), m.d.flat());
    let (mut h, mut buffer) = (vec![E::zero(); n], Vec::new());
    for segment in segments(m.len(), SEGMENT) {
        let rows = segment.start * n..segment.end * n;
        let a = diagonals(m, n, segment.clone(), &mut buffer);
        let steps = Steps { a, read: &c[rows.clone()], write: &b[rows], d: &d[segment.clone()], pivots };
        steps.run(Direction::Forward, Apply::Plain, &mut h, &mut x[segment]);
    }
    Ok(true)
}

/// `x ← M⁻ᴴ x` or `M⁻ᵀ x`; `false` if these loops do not apply.
pub(in super::super) fn solve_reverse<E: Field>(
    m: &Sss<E>,
    how: Apply,
    pivots: Pivots,
    x: &mut Array2<E>,
) -> Result<bool> {
    let Some(n) = order(m).filter(|_| x.ncols() == 1) else { return Ok(false) };
    check_pivots(m, pivots)?;
    let x = x.as_slice_mut().expect("the caller gives standard layout");
    let (b, c, d) = (m.b.flat(), m.c.flat(), m.d.flat());
    let (mut h, mut buffer) = (vec![E::zero(); n], Vec::new());
    for segment in segments(m.len(), SEGMENT).rev() {
        let rows = segment.start * n..segment.end * n;
        let a = diagonals(m, n, segment.clone(), &mut buffer);
        let steps = Steps { a, read: &b[rows.clone()], write: &c[rows], d: &d[segment.clone()], pivots };
        steps.run(Direction::Backward, how, &mut h, &mut x[segment]);
    }
    Ok(true)
}

/// Some steps of forward substitution, by the factors `gains` found from `a` and `c`.
pub(super) fn substitute<E: Field>(a: &[E], c: &[E], gains: &[E], column: Column<'_, E>) {
    let steps = Steps { a, read: c, write: gains, d: &[], pivots: Pivots::Unit };
    steps.run(Direction::Forward, Apply::Plain, column.state, column.x);
}

/// Every column of `x` divided by the pivots on the diagonal of the factor; `false` if they are not numbers.
pub(in super::super) fn divide_by_pivots<E: Field>(factor: &Sss<E>, x: &mut Array2<E>) -> bool {
    if factor.d.uniform() != Some((1, 1)) {
        return false;
    }
    let (width, d) = (x.ncols(), factor.d.flat());
    let x = x.as_slice_mut().expect("the caller gives standard layout");
    if width == 1 {
        x.iter_mut().zip(d).for_each(|(x, d)| *x = x.over(*d));
    } else if width > 1 {
        x.chunks_exact_mut(width).zip(d).for_each(|(x, d)| x.iter_mut().for_each(|x| *x = x.over(*d)));
    }
    true
}

fn check_pivots<E: Field>(m: &Sss<E>, pivots: Pivots) -> Result<()> {
    let zero = || m.d.flat().iter().position(|d| !divides(*d));
    match (pivots == Pivots::Stored).then(zero).flatten() {
        Some(k) => Err(singular(m.d.block(k), k)),
        None => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Generators of some consecutive steps: what reads the state and what writes to it.
#[derive(Clone, Copy)]
struct Steps<'a, E> {
    a: &'a [E],
    read: &'a [E],
    write: &'a [E],
    d: &'a [E],
    pivots: Pivots,
}

impl<E: Field> Steps<'_, E> {
    fn run(self, direction: Direction, how: Apply, h: &mut [E], x: &mut [E]) {
        vectorize(
            #[inline(always)]
            || match (h.len(), direction) {
                (1, Direction::Forward) => self.fixed::<1, 1>(0..x.len(), how, h, x),
                (2, Direction::Forward) => self.fixed::<2, 2>(0..x.len(), how, h, x),
                (4, Direction::Forward) => self.fixed::<4, 4>(0..x.len(), how, h, x),
                (8, Direction::Forward) => self.fixed::<8, 8>(0..x.len(), how, h, x),
                (16, Direction::Forward) => self.fixed::<16, 8>(0..x.len(), how, h, x),
                (_, Direction::Forward) => self.any_order(0..x.len(), how, h, x),
                (1, Direction::Backward) => self.fixed::<1, 1>((0..x.len()).rev(), how, h, x),
                (2, Direction::Backward) => self.fixed::<2, 2>((0..x.len()).rev(), how, h, x),
                (4, Direction::Backward) => self.fixed::<4, 4>((0..x.len()).rev(), how, h, x),
                (8, Direction::Backward) => self.fixed::<8, 8>((0..x.len()).rev(), how, h, x),
                (16, Direction::Backward) => self.fixed::<16, 8>((0..x.len()).rev(), how, h, x),
                (_, Direction::Backward) => self.any_order((0..x.len()).rev(), how, h, x),
            },
        );
    }

    #[inline(always)]
    fn divide(self, how: Apply, k: usize, x: E) -> E {
        match self.pivots {
            Pivots::Unit => x,
            Pivots::Stored => x.over(how.of(self.d[k])),
        }
    }

    /// `x_k ← (x_k - r·h) / d_k`, then `h ← a h + w x_k`; order `N`, `L` partial sums. The state is in registers.
    #[inline(always)]
    fn fixed<const N: usize, const L: usize>(
        self,
        steps: impl Iterator<Item = usize>,
        how: Apply,
        state: &mut [E],
        x: &mut [E],
    ) {
        let rows = |values| <[E]>::as_chunks::<N>(values).0;
        let (a, read, write) = (rows(self.a), rows(self.read), rows(self.write));
        let Some(state) = state.first_chunk_mut::<N>() else { return };
        let mut h = *state;
        for k in steps {
            let (a, read, write) = (row(how, a[k]), row(how, read[k]), row(how, write[k]));
            let mut rest = x[k];
            if N <= 2 {
                // A chain of two is shorter than a sum and a difference.
                for n in 0..N {
                    rest = (-read[n]).fused(h[n], rest);
                }
            } else {
                let mut sums = [E::zero(); L];
                for n in 0..N {
                    sums[n % L] = read[n].fused(h[n], sums[n % L]);
                }
                rest -= total(sums);
            }
            let u = self.divide(how, k, rest);
            x[k] = u;
            h = add_scaled(write, u, times(a, h));
        }
        *state = h;
    }

    /// The same for any order, with the state in memory.
    #[inline(always)]
    fn any_order(self, steps: impl Iterator<Item = usize>, how: Apply, h: &mut [E], x: &mut [E]) {
        let n = h.len();
        let step = |values, k: usize| <[E]>::as_chunks::<LANES>(&<[E]>::split_at(values, k * n).1[..n]);
        let (h, h_rest) = h.as_chunks_mut::<LANES>();
        for k in steps {
            let (read, read_rest) = step(self.read, k);
            let mut sums = [E::zero(); LANES];
            for (h, read) in h.iter().zip(read) {
                sums = add_times(row(how, *read), *h, sums);
            }
            let rest: E = h_rest.iter().zip(read_rest).map(|(h, r)| how.of(*r) * *h).sum();
            let u = self.divide(how, k, x[k] - total(sums) - rest);
            x[k] = u;
            let ((a, a_rest), (write, write_rest)) = (step(self.a, k), step(self.write, k));
            for ((h, a), write) in h.iter_mut().zip(a).zip(write) {
                *h = add_scaled(row(how, *write), u, times(row(how, *a), *h));
            }
            for ((h, a), write) in h_rest.iter_mut().zip(a_rest).zip(write_rest) {
                *h = how.of(*write).fused(u, how.of(*a) * *h);
            }
        }
    }
}

/// A row of generators, conjugated for an adjoint.
#[inline(always)]
fn row<E: Field, const N: usize>(how: Apply, values: [E; N]) -> [E; N] {
    if how == Apply::Adjoint { conjugate(values) } else { values }
}
