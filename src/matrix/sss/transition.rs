//! The transition A of a semiseparable matrix: identity, scalar, diagonal or dense.

use std::ops::Range;

use ndarray::{Array, Array1, Array2, ArrayViewMut1, Dimension, s};

use super::blocks::{Blocks, BlocksMut};
use super::kernels::{Apply, add_outer, add_product, dot_conj};
use crate::error::{Error, Result};
use crate::scalar::Field;

/// The transitions A_0 .. A_{n-1} of a recurrence, $`A_k`$ of size $`(N_{k+1}, N_k)`$, by the numbers that determine them.
///
/// Where $`N_{k+1}`$ and $`N_k`$ differ, all but `Dense` act on the leading min($`N_k, N_{k+1}`$) states: the others are
/// cut off, or start at zero.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition<E> {
    /// $`A_k = I`$.
    Identity,
    /// $`A_k = a_k I`$; (n).
    Scalar(Array1<E>),
    /// $`A_k = \mathrm{diag}(a_k)`$; matrix k has size (min($`N_k, N_{k+1}`$), 1).
    Diagonal(Blocks<E>),
    /// $`A_k`$ itself.
    Dense(Blocks<E>),
}

/// Transitions to be changed one after another.
#[derive(Debug)]
pub(super) enum TransitionMut<'a, E> {
    Identity,
    Scalar(ArrayViewMut1<'a, E>),
    Diagonal(BlocksMut<'a, E>),
    Dense(BlocksMut<'a, E>),
}

impl<E: Field> TransitionMut<'_, E> {
    /// `self_k += λ hᴴ`, kept to the numbers that the transition has. `lambda`: (after, width), `h`: (before, width).
    #[inline(always)]
    pub(super) fn add_cotangent(&mut self, k: usize, lambda: &[E], h: &[E], width: usize) {
        match self {
            Self::Identity => {}
            Self::Scalar(a) => {
                let shared = lambda.len().min(h.len());
                a[k] += dot_conj(&lambda[..shared], &h[..shared]);
            }
            Self::Diagonal(a) if width == 1 => {
                let numbers = a.values(k).iter_mut().zip(lambda.iter().zip(h));
                numbers.for_each(|(a, (l, h))| *a += *l * h.conj());
            }
            Self::Diagonal(a) => {
                if width > 0 {
                    let rows = lambda.chunks_exact(width).zip(h.chunks_exact(width));
                    a.values(k).iter_mut().zip(rows).for_each(|(a, (l, h))| *a += dot_conj(l, h));
                }
            }
            Self::Dense(a) => add_outer(lambda, h, width, a.values(k)),
        }
    }
}

impl<E: Field> Transition<E> {
    /// If these are the same numbers: at once where they are shared.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Diagonal(a), Self::Diagonal(b)) | (Self::Dense(a), Self::Dense(b)) => a.same(b),
            _ => self == other,
        }
    }

    /// Diagonal transitions of one order, from their numbers, (len, order).
    pub fn diagonal(a: Array2<E>) -> Self {
        let (len, order) = a.dim();
        Self::Diagonal(Blocks::from_uniform(len, (order, 1), into_flat(a)))
    }

    /// The kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Scalar(_) => "scalar",
            Self::Diagonal(_) => "diagonal",
            Self::Dense(_) => "dense",
        }
    }

    /// `Ok` if there is a transition of the right size between any two of `orders`.
    pub(super) fn check(&self, orders: &[usize]) -> Result<()> {
        let len = orders.len() - 1;
        let length = |found: usize| {
            if found == len {
                return Ok(());
            }
            Err(Error::shape("a", format!("{len} steps"), &[found]))
        };
        let step = |k: usize, expected: (usize, usize), found: (usize, usize)| {
            if expected == found {
                return Ok(());
            }
            Err(Error::shape("a", format!("{expected:?} at step {k}"), &[found.0, found.1]))
        };
        match self {
            Self::Identity => Ok(()),
            Self::Scalar(a) => length(a.len()),
            Self::Diagonal(a) => {
                length(a.len())?;
                (0..len).try_for_each(|k| step(k, (orders[k].min(orders[k + 1]), 1), a.dims(k)))
            }
            Self::Dense(a) => {
                length(a.len())?;
                (0..len).try_for_each(|k| step(k, (orders[k + 1], orders[k]), a.dims(k)))
            }
        }
    }

    /// Transitions of the same kind and sizes that hold zeros; the start of a sum of cotangents.
    pub(super) fn zeros_like(&self) -> Self {
        match self {
            Self::Identity => Self::Identity,
            Self::Scalar(a) => Self::Scalar(Array1::zeros(a.len())),
            Self::Diagonal(a) => Self::Diagonal(a.map(|_| E::zero())),
            Self::Dense(a) => Self::Dense(a.map(|_| E::zero())),
        }
    }

    /// $`A_k`$ as a dense matrix, (after, before).
    ///
    /// # Panics
    /// As an index of a slice, if there is no such step or these are not the orders around it.
    pub fn step(&self, k: usize, after: usize, before: usize) -> Array2<E> {
        let mut dense = vec![E::zero(); after * before];
        self.write(k, (after, before), &mut dense, before);
        Array2::from_shape_vec((after, before), dense).expect("after * before numbers")
    }

    /// Writes $`A_k`$, (after, before), over zeros, rows beginning `stride` numbers apart.
    #[inline(always)]
    pub(super) fn write(&self, k: usize, (after, before): (usize, usize), zeros: &mut [E], stride: usize) {
        let diagonal = zeros.iter_mut().step_by(stride + 1).take(after.min(before));
        match self {
            Self::Identity => diagonal.for_each(|to| *to = E::one()),
            Self::Scalar(a) => diagonal.for_each(|to| *to = a[k]),
            Self::Diagonal(a) => diagonal.zip(a.values(k)).for_each(|(to, a)| *to = *a),
            Self::Dense(a) => {
                let rows = a.values(k).chunks_exact(before.max(1));
                zeros.chunks_mut(stride.max(1)).zip(rows).for_each(|(to, a)| to[..before].copy_from_slice(a));
            }
        }
    }

    /// `out = A_k h`, or with the transposed or adjoint `A_k`; `out` is resized to its (states, width) numbers.
    #[inline(always)]
    pub(super) fn apply(&self, how: Apply, k: usize, h: &[E], width: usize, states: usize, out: &mut Vec<E>) {
        out.clear();
        out.reserve(states * width);
        match self {
            Self::Identity => out.extend(h.iter().take(states * width)),
            Self::Scalar(a) => {
                let a = how.of(a[k]);
                out.extend(h.iter().take(states * width).map(|h| a * *h));
            }
            Self::Diagonal(a) => {
                let a = a.values(k);
                if width == 1 {
                    out.extend(a.iter().zip(h).map(|(a, h)| how.of(*a) * *h));
                } else if width > 1 {
                    for (a, h) in a.iter().zip(h.chunks_exact(width)) {
                        let a = how.of(*a);
                        out.extend(h.iter().map(|h| a * *h));
                    }
                }
            }
            Self::Dense(a) => {
                out.resize(states * width, E::zero());
                add_product(how, (a.values(k), a.dims(k)), h, width, out);
            }
        }
        out.resize(states * width, E::zero());
    }

    /// The transitions, to be changed.
    pub(super) fn unshared(&mut self) -> TransitionMut<'_, E> {
        match self {
            Self::Identity => TransitionMut::Identity,
            Self::Scalar(a) => TransitionMut::Scalar(a.view_mut()),
            Self::Diagonal(a) => TransitionMut::Diagonal(a.unshared()),
            Self::Dense(a) => TransitionMut::Dense(a.unshared()),
        }
    }

    /// The transitions of some steps.
    pub(super) fn of_steps(&self, steps: Range<usize>) -> Self {
        let some = |blocks: &Blocks<E>| steps.clone().map(|k| blocks.block(k).to_owned()).collect();
        match self {
            Self::Identity => Self::Identity,
            Self::Scalar(a) => Self::Scalar(a.slice(s![steps]).to_owned()),
            Self::Diagonal(a) => Self::Diagonal(some(a)),
            Self::Dense(a) => Self::Dense(some(a)),
        }
    }

    /// `f` of every number; the identity has none.
    pub fn map(&self, f: impl Fn(E) -> E) -> Self {
        match self {
            Self::Identity => Self::Identity,
            Self::Scalar(a) => Self::Scalar(a.mapv(f)),
            Self::Diagonal(a) => Self::Diagonal(a.map(f)),
            Self::Dense(a) => Self::Dense(a.map(f)),
        }
    }

    /// `self += other` for two of one kind.
    pub(super) fn accumulate(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a += b,
            (Self::Diagonal(a), Self::Diagonal(b)) | (Self::Dense(a), Self::Dense(b)) => {
                a.flat_mut().iter_mut().zip(b.flat()).for_each(|(a, b)| *a += *b);
            }
            _ => {}
        }
    }
}

/// The numbers of an array, row after row. Its memory may hold others before and behind them.
pub(super) fn into_flat<E: Field, D: Dimension>(a: Array<E, D>) -> Vec<E> {
    let size = a.len();
    if a.is_standard_layout() {
        let (mut data, offset) = a.into_raw_vec_and_offset();
        let offset = offset.unwrap_or(0);
        data.truncate(offset + size);
        return if offset == 0 { data } else { data.split_off(offset) };
    }
    a.iter().copied().collect()
}
