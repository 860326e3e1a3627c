//! The unit of work of every algorithm: one sequence and one group of heads.

use ndarray::{
    Array2, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut, ArrayViewMut2, ArrayViewMut3,
    ArrayViewMut4, Axis, RemoveAxis,
};

use super::sequences::Span;
use super::{Diagonal, Ssd};
use crate::scalar::{Real, Scalar};

/// Heads whose shares of dB and dC are added up together, in order: fixed, so that sums do not depend on threads.
pub(crate) const HEAD_BLOCK: usize = 6;

/// One sequence and one group of heads: batch and group axes are gone.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a, T: Scalar> {
    pub log_a: ArrayView2<'a, T::Acc>,     // (len, heads)
    pub dt: ArrayView2<'a, T::Acc>,        // (len, heads)
    pub b: ArrayView2<'a, T>,              // (len, state_dim)
    pub c: ArrayView2<'a, T>,              // (len, state_dim)
    pub d: Option<ArrayView2<'a, T::Acc>>, // (heads, head_dim)
    pub x: ArrayView3<'a, T>,              // (len, heads, head_dim)
    pub diagonal: Diagonal,
}

/// Where a vjp writes: cotangents of the fields of a [`Run`] of the same shapes, each written once.
#[derive(Debug)]
pub(crate) struct RunGrad<'a, T: Scalar> {
    pub log_a: ArrayViewMut2<'a, T::Acc>,
    pub dt: ArrayViewMut2<'a, T::Acc>,
    pub b: ArrayViewMut2<'a, T>,
    pub c: ArrayViewMut2<'a, T>,
    pub x: ArrayViewMut3<'a, T>,
}

/// The part of a [`RunGrad`] and of the state's cotangent that belongs to a block of heads.
#[derive(Debug)]
pub(crate) struct BlockGrad<'a, T: Scalar> {
    pub first: usize,                     // first head
    pub dh: ArrayViewMut3<'a, T::Acc>,    // (heads, ., .)
    pub x: ArrayViewMut3<'a, T>,          // (len, heads, head_dim)
    pub dt: ArrayViewMut2<'a, T::Acc>,    // (len, heads)
    pub log_a: ArrayViewMut2<'a, T::Acc>, // (len, heads)
}

impl<T: Scalar> RunGrad<'_, T> {
    /// What belongs to each block of heads; `dh`: (heads, ., .).
    pub fn blocks<'g>(&'g mut self, dh: &'g mut ArrayViewMut3<'_, T::Acc>) -> Vec<BlockGrad<'g, T>> {
        (dh.axis_chunks_iter_mut(Axis(0), HEAD_BLOCK))
            .zip(self.x.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .zip(self.dt.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .zip(self.log_a.axis_chunks_iter_mut(Axis(1), HEAD_BLOCK))
            .enumerate()
            .map(|(k, (((dh, x), dt), log_a))| BlockGrad { first: k * HEAD_BLOCK, dh, x, dt, log_a })
            .collect()
    }

    /// Writes dB and dC from the shares of the blocks, added up in order.
    pub fn set_generators(&mut self, shares: &[[Array2<T::Acc>; 2]]) {
        let (mut db, mut dc) = (Array2::zeros(self.b.raw_dim()), Array2::zeros(self.c.raw_dim()));
        for [share_b, share_c] in shares {
            db += share_b;
            dc += share_c;
        }
        self.b.zip_mut_with(&db, |out, &v| *out = T::narrow(v));
        self.c.zip_mut_with(&dc, |out, &v| *out = T::narrow(v));
    }
}

impl<'a, T: Scalar> Run<'a, T> {
    /// The part of `m` and `x` that belongs to one span and group; `d`: (heads, head_dim) of the whole matrix.
    pub fn new(
        m: &'a Ssd<'_, T>,
        d: Option<ArrayView2<'a, T::Acc>>,
        x: ArrayView3<'a, T>,
        span: Span,
        group: usize,
    ) -> Self {
        let per = m.heads() / m.groups();
        let heads = (group * per..(group + 1) * per).into();
        let time = (span.start..span.end).into();
        let steps = |v: ArrayView3<'a, T::Acc>| {
            v.index_axis_move(Axis(0), span.row)
                .slice_axis_move(Axis(0), time)
                .slice_axis_move(Axis(1), heads)
        };
        let generator = |v: ndarray::ArrayView4<'a, T>| {
            v.index_axis_move(Axis(0), span.row)
                .slice_axis_move(Axis(0), time)
                .index_axis_move(Axis(1), group)
        };
        Run {
            log_a: steps(m.log_a.view()),
            dt: steps(m.dt.view()),
            b: generator(m.b.view()),
            c: generator(m.c.view()),
            d: d.map(|d| d.slice_axis_move(Axis(0), heads)),
            x: x.slice_axis_move(Axis(0), time).slice_axis_move(Axis(1), heads),
            diagonal: m.diagonal,
        }
    }

    pub fn len(&self) -> usize {
        self.x.dim().0
    }

    pub fn heads(&self) -> usize {
        self.x.dim().1
    }

    pub fn head_dim(&self) -> usize {
        self.x.dim().2
    }

    pub fn state_dim(&self) -> usize {
        self.b.ncols()
    }

    /// Head `r` at positions `start..end`: log a, dt, d, x.
    pub fn head(&self, r: usize, start: usize, end: usize) -> Head<'a, T> {
        let time = ndarray::Slice::from(start..end);
        Head {
            log_a: self.log_a.index_axis_move(Axis(1), r).slice_axis_move(Axis(0), time),
            dt: self.dt.index_axis_move(Axis(1), r).slice_axis_move(Axis(0), time),
            d: self.d.map(|d| d.index_axis_move(Axis(0), r)),
            x: self.x.index_axis_move(Axis(1), r).slice_axis_move(Axis(0), time),
        }
    }
}

/// What belongs to one head alone.
#[derive(Debug, Clone)]
pub(crate) struct Head<'a, T: Scalar> {
    pub log_a: ArrayView1<'a, T::Acc>,     // (len)
    pub dt: ArrayView1<'a, T::Acc>,        // (len)
    pub d: Option<ArrayView1<'a, T::Acc>>, // (head_dim)
    pub x: ArrayView2<'a, T>,              // (len, head_dim)
}

impl<T: Scalar> Head<'_, T> {
    /// The skip of channel `p`.
    pub fn skip(&self, p: usize) -> T::Acc {
        self.d.map_or(*T::Acc::ZERO, |d| d[p])
    }
}

/// The state of a run, in and out.
#[derive(Debug)]
pub(crate) enum Slot<'a, A> {
    /// Comes in and goes out through the caller's memory.
    Given(ArrayViewMut3<'a, A>),
    /// Comes in from the caller, what goes out is dropped.
    Entering(ArrayView3<'a, A>),
    /// Starts from zero, what goes out is dropped.
    Fresh,
}

impl<A: Real> Slot<'_, A> {
    /// Calls `f` with the state, (heads, head_dim, state_dim).
    pub fn with<R>(self, shape: (usize, usize, usize), f: impl FnOnce(ArrayViewMut3<'_, A>) -> R) -> R {
        match self {
            Slot::Given(state) => f(state),
            Slot::Entering(state) => f(state.as_standard_layout().into_owned().view_mut()),
            Slot::Fresh => f(Array3::zeros(shape).view_mut()),
        }
    }
}

/// One slot for each span and group, spans first. `inward` and `outward` tell which state comes into a span
/// and which goes out of it; `entering` holds the states as they were, `states` is overwritten.
pub(crate) fn slots<'a, A: Real>(
    spans: &[Span],
    groups: usize,
    entering: &'a ndarray::Array4<A>,
    states: ArrayViewMut4<'a, A>,
    ends: impl Fn(&Span) -> (Option<usize>, Option<usize>),
) -> Vec<Slot<'a, A>> {
    let per = states.dim().1 / groups;
    let count = states.dim().0;
    let mut free: Vec<_> = split(states, Axis(0), count).into_iter().map(Some).collect();
    let mut slots = Vec::with_capacity(spans.len() * groups);
    for span in spans {
        let (inward, outward) = ends(span);
        match (inward, outward.and_then(|k| free[k].take())) {
            (inward, Some(state)) => {
                let mut state = state.index_axis_move(Axis(0), 0);
                if inward.is_none() {
                    state.fill(A::zero());
                }
                slots.extend(split(state, Axis(0), groups).into_iter().map(Slot::Given));
            }
            (Some(k), None) => {
                let heads = |g: usize| ndarray::Slice::from(g * per..(g + 1) * per);
                let part = |g| entering.index_axis(Axis(0), k).slice_axis_move(Axis(0), heads(g));
                slots.extend((0..groups).map(part).map(Slot::Entering));
            }
            (None, None) => slots.extend((0..groups).map(|_| Slot::Fresh)),
        }
    }
    slots
}

/// Equal parts along an axis.
fn split<A, D: ndarray::Dimension>(
    mut array: ArrayViewMut<'_, A, D>,
    axis: Axis,
    parts: usize,
) -> Vec<ArrayViewMut<'_, A, D>> {
    let Some(per) = array.len_of(axis).checked_div(parts) else { return Vec::new() };
    let mut out = Vec::with_capacity(parts);
    for _ in 1..parts {
        let (here, rest) = array.split_at(axis, per);
        out.push(here);
        array = rest;
    }
    out.push(array);
    out
}

/// Cuts a (batch, len, heads or groups, ...) tensor into one view for each span and group, spans first.
pub(crate) fn cut<'a, A, D>(
    array: ArrayViewMut<'a, A, D>,
    spans: &[Span],
    groups: usize,
) -> Vec<ArrayViewMut<'a, A, D::Smaller>>
where
    D: RemoveAxis,
    D::Smaller: RemoveAxis,
{
    let batch = array.len_of(Axis(0));
    let rows = split(array, Axis(0), batch).into_iter().map(|row| row.index_axis_move(Axis(0), 0));
    let mut out = Vec::with_capacity(spans.len() * groups);
    for (k, mut rest) in rows.enumerate() {
        for span in spans.iter().filter(|span| span.row == k) {
            let (here, after) = rest.split_at(Axis(0), span.end - span.start);
            out.extend(split(here, Axis(1), groups));
            rest = after;
        }
    }
    out
}
