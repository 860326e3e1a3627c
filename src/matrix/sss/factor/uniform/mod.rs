//! Loops for matrices of numbers, of one order, whose transitions act on each state by itself: the case in which time is
//! spent.
//!
//! Blocks of any size go through the general algorithms of the folder above; these loops compute the same, and say
//! `false` where they do not apply.

mod eliminate;
mod fixed;
mod passes;
mod reverse;
mod small;
mod solve;
mod sweep;
mod tiles;

pub(super) use eliminate::{Kept, eliminate, eliminate_keeping};
pub(super) use reverse::{log_determinant_vjp, reverse};
pub(super) use solve::{divide_by_pivots, solve_lower, solve_reverse};

use std::ops::Range;

use super::super::{Sss, Transition};
use crate::linalg::Simd;
use crate::scalar::Field;

/// What stands on the diagonal of a triangular factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pivots {
    /// Identities; what is stored there is something else.
    Unit,
    /// The blocks that are stored.
    Stored,
}

/// Numbers of a vector of the widest machine.
const LANES: usize = 8;

/// Steps for which scalar transitions are written out at once.
const SEGMENT: usize = 256;

/// The order of m if these loops apply to it.
fn order<E: Field>(m: &Sss<E>) -> Option<usize> {
    let (order, one) = m.b.uniform()?;
    let entries = one == 1 && m.c.uniform() == Some((1, order)) && m.d.uniform() == Some((1, 1));
    let elementwise = match &m.transition {
        Transition::Identity | Transition::Scalar(_) => true,
        Transition::Diagonal(a) => a.uniform() == Some((order, 1)),
        Transition::Dense(_) => false,
    };
    (entries && elementwise && order > 0).then_some(order)
}

/// Whether these loops apply to m.
pub(super) fn apply<E: Field>(m: &Sss<E>) -> bool {
    order(m).is_some()
}

/// The transitions of some steps written out as diagonals, `order` numbers a step; `buffer` holds them where they are
/// not stored so.
#[inline(always)]
fn diagonals<'a, E: Field>(
    m: &'a Sss<E>,
    order: usize,
    steps: Range<usize>,
    buffer: &'a mut Vec<E>,
) -> &'a [E] {
    match &m.transition {
        Transition::Diagonal(a) => &a.flat()[steps.start * order..steps.end * order],
        Transition::Scalar(a) => {
            buffer.clear();
            for k in steps {
                buffer.resize(buffer.len() + order, a[k]);
            }
            buffer
        }
        _ => {
            buffer.resize(steps.len() * order, E::one());
            &buffer[..steps.len() * order]
        }
    }
}

/// The steps of a matrix in segments.
fn segments(len: usize, length: usize) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator {
    (0..len.div_ceil(length)).map(move |s| s * length..((s + 1) * length).min(len))
}

/// `f(0)` to `f(N - 1)`, N at most 8, one after another in the program text: a loop over whole vectors would be
/// vectorised across them, with gathers.
#[inline(always)]
fn unrolled<const N: usize>(mut f: impl FnMut(usize)) {
    const { assert!(N <= 8) };
    if N > 0 {
        f(0);
    }
    if N > 1 {
        f(1);
    }
    if N > 2 {
        f(2);
    }
    if N > 3 {
        f(3);
    }
    if N > 4 {
        f(4);
    }
    if N > 5 {
        f(5);
    }
    if N > 6 {
        f(6);
    }
    if N > 7 {
        f(7);
    }
}

/// The sum of a vector, in pairs.
#[inline(always)]
fn total<E: Field, const L: usize>(mut sums: [E; L]) -> E {
    let mut width = L;
    while width > 1 {
        let half = width / 2;
        for l in 0..half {
            let other = sums[l + width - half];
            sums[l] += other;
        }
        width -= half;
    }
    sums[0]
}

// Vectors are taken and returned by value: all of one is read before any of it is written, so that the compiler can keep
// it in one register without a proof that memory does not overlap.

/// `a s`
#[inline(always)]
fn scaled<E: Field, const L: usize>(mut a: [E; L], s: E) -> [E; L] {
    a.iter_mut().for_each(|a| *a *= s);
    a
}

/// `a ∘ b`
#[inline(always)]
fn times<E: Field, const L: usize>(mut a: [E; L], b: [E; L]) -> [E; L] {
    for l in 0..L {
        a[l] *= b[l];
    }
    a
}

/// `a + b`
#[inline(always)]
fn plus<E: Field, const L: usize>(mut a: [E; L], b: [E; L]) -> [E; L] {
    for l in 0..L {
        a[l] += b[l];
    }
    a
}

/// `a s + c`
#[inline(always)]
fn add_scaled<E: Field, const L: usize>(a: [E; L], s: E, mut c: [E; L]) -> [E; L] {
    for l in 0..L {
        c[l] = a[l].fused(s, c[l]);
    }
    c
}

/// `a ∘ b + c`
#[inline(always)]
fn add_times<E: Field, const L: usize>(a: [E; L], b: [E; L], mut c: [E; L]) -> [E; L] {
    for l in 0..L {
        c[l] = a[l].fused(b[l], c[l]);
    }
    c
}

/// `conj(a)`
#[inline(always)]
fn conjugate<E: Field, const L: usize>(mut a: [E; L]) -> [E; L] {
    a.iter_mut().for_each(|a| *a = a.conj());
    a
}

/// Lane i of a row, zero behind its end.
#[inline(always)]
fn lane<E: Field, S: Simd>(simd: S, row: &[E], i: usize) -> E::Vector<S> {
    let rest = &row[i * LANES..];
    if let Some(lane) = rest.first_chunk() {
        return E::load(simd, lane);
    }
    let mut lane = [E::zero(); LANES];
    lane[..rest.len()].copy_from_slice(rest);
    E::load(simd, &lane)
}

/// Writes lane i of a row as far as the row reaches.
#[inline(always)]
fn put<E: Field, S: Simd>(simd: S, row: &mut [E], i: usize, value: E::Vector<S>) {
    let rest = &mut row[i * LANES..];
    if let Some(lane) = rest.first_chunk_mut() {
        return E::store(simd, value, lane);
    }
    let mut lane = [E::zero(); LANES];
    E::store(simd, value, &mut lane);
    rest.copy_from_slice(&lane[..rest.len()]);
}
