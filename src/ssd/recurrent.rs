//! The state space form (paper, sections 1 and 5): one step after the other, one state of memory.
//!
//! ```math
//! h_t = a_t h_{t-1} + \mathrm{dt}_t\, x_t b_t^\top, \qquad y_t = h_t c_t + d \circ x_t
//! ```
//!
//! Each row of the state, (state_dim) for one channel, is read and updated in one pass, so that a single token moves
//! every byte of the state once in each direction. With a free diagonal `y_t` reads `a_t h_{t-1}` instead of `h_t`.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};
use num_traits::Float;

use super::Diagonal;
use super::run::{BlockGrad, Head, Run, RunGrad};
use crate::linalg::{Inputs, Reads, Recurrence, dot, flat, flat_mut, vectorize, with_flat_rows};
use crate::parallel;
use crate::scalar::{Real, Scalar};

/// Steps that a row of the state takes at a time: it stays in registers, and what the steps read in cache.
const PASS: usize = 16;

/// Tasks for each thread, of some heads each.
const TASKS: usize = 4;

/// Steps between states that the vjp keeps; the states between are computed again.
const CHECKPOINT: usize = 64;

/// `y = M x` for one run; `state`: (heads, head_dim, state_dim), in and out.
pub(super) fn forward<T: Scalar>(
    run: &Run<'_, T>,
    mut state: ArrayViewMut3<'_, T::Acc>,
    mut y: ArrayViewMut3<'_, T>,
) {
    let (b, c) = (with_flat_rows(T::widen_view(run.b)), with_flat_rows(T::widen_view(run.c)));
    let reads = match run.diagonal {
        Diagonal::Scores => Reads::After,
        Diagonal::Free => Reads::Before,
    };
    let per = run.heads().div_ceil(TASKS * parallel::threads());
    let (states, outputs) = (state.axis_chunks_iter_mut(Axis(0), per), y.axis_chunks_iter_mut(Axis(1), per));
    parallel::for_each(states.zip(outputs).enumerate().collect(), |(task, (mut h, mut y))| {
        let mut memory = [(); 2].map(|()| Array2::zeros((PASS.min(run.len()), run.head_dim())));
        for (k, (mut h, mut y)) in h.outer_iter_mut().zip(y.axis_iter_mut(Axis(1))).enumerate() {
            let head = run.head(task * per + k, 0, run.len());
            for start in (0..run.len()).step_by(PASS) {
                let steps = start..run.len().min(start + PASS);
                let mut decays = [*T::Acc::ZERO; PASS];
                decays.iter_mut().zip(steps.clone()).for_each(|(a, t)| *a = head.log_a[t].exp());
                let [mut u, mut read] = memory.each_mut().map(|of| of.slice_mut(s![..steps.len(), ..]));
                for ((u, read), t) in u.outer_iter_mut().zip(read.outer_iter_mut()).zip(steps.clone()) {
                    let channels = flat_mut(u).iter_mut().zip(flat_mut(read)).zip(head.x.row(t));
                    for (p, ((u, read), x)) in channels.enumerate() {
                        let x = x.widen();
                        (*u, *read) = (head.dt[t] * x, head.skip(p) * x);
                    }
                }
                let rows = s![steps.clone(), ..];
                let inputs =
                    Inputs { a: &decays[..steps.len()], u: u.view(), b: b.slice(rows), c: c.slice(rows) };
                T::Acc::recur(h.view_mut(), inputs, reads, read.view_mut());
                y.slice_mut(rows).zip_mut_with(&read, |y, &read| *y = T::narrow(read));
            }
        }
    });
}

/// Cotangents of one run, by the recurrence run backwards; `dh`: the cotangent of the final state in, of the initial
/// state out. States are kept every few steps and computed again between.
pub(super) fn vjp<T: Scalar>(
    run: &Run<'_, T>,
    h: ArrayView3<'_, T::Acc>,
    dy: ArrayView3<'_, T>,
    mut dh: ArrayViewMut3<'_, T::Acc>,
    mut grad: RunGrad<'_, T>,
) {
    let (b, c) = (with_flat_rows(T::widen_view(run.b)), with_flat_rows(T::widen_view(run.c)));
    let shares =
        parallel::map(grad.blocks(&mut dh), |BlockGrad { first, mut dh, mut x, mut dt, mut log_a }| {
            let mut db = Array2::zeros(b.raw_dim());
            let mut dc = Array2::zeros(b.raw_dim());
            for (k, mut dh) in dh.outer_iter_mut().enumerate() {
                let r = first + k;
                let head = run.head(r, 0, run.len());
                for (start, states) in (Sweep { head: &head, b: b.view() }).segments(h.index_axis(Axis(0), r))
                {
                    for (t, before) in states.outer_iter().enumerate().rev().map(|(k, h)| (start + k, h)) {
                        let at = Step {
                            a: head.log_a[t].exp(),
                            dt: head.dt[t],
                            diagonal: run.diagonal,
                            b: flat(b.row(t)),
                            c: flat(c.row(t)),
                            before,
                        };
                        let (db, dc) = (flat_mut(db.row_mut(t)), flat_mut(dc.row_mut(t)));
                        let dy = dy.slice(s![t, r, ..]);
                        let mut out = StepGrad { dh: dh.view_mut(), db, dc };
                        vectorize(
                            #[inline(always)]
                            || {
                                for (p, dx) in x.slice_mut(s![t, k, ..]).iter_mut().enumerate() {
                                    let (x, dy) = (head.x[[t, p]].widen(), dy[p].widen());
                                    let (du, da) = at.back(p, at.dt * x, dy, &mut out);
                                    *dx = T::narrow(at.dt * du + head.skip(p) * dy);
                                    dt[[t, k]] += x * du;
                                    log_a[[t, k]] += at.a * da;
                                }
                            },
                        );
                    }
                }
            }
            [db, dc]
        });
    grad.set_generators(&shares);
}

/// One step of one head, for going back through it.
struct Step<'a, A> {
    a: A,
    dt: A,
    diagonal: Diagonal,
    b: &'a [A],
    c: &'a [A],
    before: ArrayView2<'a, A>, // (head_dim, state_dim) the state that enters the step
}

/// What a step adds to while it is gone back through.
struct StepGrad<'a, A> {
    dh: ArrayViewMut2<'a, A>, // (head_dim, state_dim)
    db: &'a mut [A],
    dc: &'a mut [A],
}

impl<A: Real> Step<'_, A> {
    /// Channel `p` of one step; returns the cotangents of `u = dt x` and (its share) of a:
    ///
    /// ```math
    /// dh \mathrel{+}= dy\, c^\top, \quad dc \mathrel{+}= h_t^\top dy, \quad db \mathrel{+}= u^\top dh, \quad
    /// du = dh\, b, \quad da = \langle dh, h_{t-1} \rangle, \quad dh_{t-1} = a\, dh
    /// ```
    #[inline(always)]
    fn back(&self, p: usize, u: A, dy: A, out: &mut StepGrad<'_, A>) -> (A, A) {
        let before = flat(self.before.row(p));
        let dh = flat_mut(out.dh.row_mut(p));
        let (early, late, seen) = match self.diagonal {
            Diagonal::Scores => (dy, A::zero(), u),
            Diagonal::Free => (A::zero(), dy, A::zero()),
        };
        let generators = self.b.iter().zip(self.c).zip(before);
        let cotangents = dh.iter_mut().zip(out.db.iter_mut()).zip(out.dc.iter_mut());
        for (((dh, db), dc), ((&b, &c), &before)) in cotangents.zip(generators) {
            *dc += dy * (self.a * before + seen * b);
            *dh += early * c;
            *db += u * *dh;
        }
        let du = dot(dh, self.b);
        for (dh, &c) in dh.iter_mut().zip(self.c) {
            *dh += late * c;
        }
        let da = dot(dh, before);
        for dh in dh.iter_mut() {
            *dh *= self.a;
        }
        (du, da)
    }
}

/// One head, to be gone through forwards for its states.
struct Sweep<'a, 'r, T: Scalar> {
    head: &'a Head<'r, T>,
    b: ArrayView2<'a, T::Acc>,
}

impl<T: Scalar> Sweep<'_, '_, T> {
    /// From the last segment to the first: its start and the states that enter each of its steps.
    fn segments(self, h: ArrayView2<'_, T::Acc>) -> impl Iterator<Item = (usize, Array3<T::Acc>)> {
        let len = self.head.x.nrows();
        let mut h = h.as_standard_layout().into_owned();
        let mut kept = Vec::with_capacity(len.div_ceil(CHECKPOINT));
        for t in 0..len {
            if t % CHECKPOINT == 0 {
                kept.push(h.clone());
            }
            self.advance(t, &mut h);
        }
        kept.into_iter().enumerate().rev().map(move |(k, mut h)| {
            let steps = k * CHECKPOINT..len.min((k + 1) * CHECKPOINT);
            let mut states = Array3::zeros((steps.len(), h.nrows(), h.ncols()));
            for (mut state, t) in states.outer_iter_mut().zip(steps.clone()) {
                state.assign(&h);
                self.advance(t, &mut h);
            }
            (steps.start, states)
        })
    }

    /// `h = a h + u bᵀ`
    fn advance(&self, t: usize, h: &mut Array2<T::Acc>) {
        let (a, dt, b) = (self.head.log_a[t].exp(), self.head.dt[t], flat(self.b.row(t)));
        vectorize(
            #[inline(always)]
            || {
                for (mut h, x) in h.outer_iter_mut().zip(self.head.x.row(t)) {
                    let u = dt * x.widen();
                    flat_mut(h.view_mut()).iter_mut().zip(b).for_each(|(h, &b)| *h = a * *h + u * b);
                }
            },
        );
    }
}
