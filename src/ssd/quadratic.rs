//! The attention form, from the definition: the matrix of each head is formed and multiplied by.
//!
//! ```math
//! M = L \circ C B^\top, \qquad Y = M\, \mathrm{diag}(\mathrm{dt}) X + \mathrm{diag}(g)\, C H^\top + X \mathrm{diag}(d)
//! ```
//!
//! with `L = 1SS(a)`, `H`: (head_dim, state_dim) the initial state and `g_t = a_t ⋯ a_0`. The final state is
//! `γ H + Uᵀ diag(w) B` with `w` the last row of L and `γ = g_last`. Time and memory O(len²) for each head at work: this
//! is the definition, and the judge of the other two, with which it shares no code.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut3, Axis, Zip, s};

use super::Diagonal;
use super::run::{BlockGrad, Run, RunGrad};
use crate::linalg::matmul;
use crate::matrix::{OneSemiseparable, StructuredMatrix};
use crate::parallel;
use crate::scalar::{Real, Scalar};

/// `y = M x` for one run; `state`: (heads, head_dim, state_dim), in and out.
pub(super) fn forward<T: Scalar>(
    run: &Run<'_, T>,
    mut state: ArrayViewMut3<'_, T::Acc>,
    mut y: ArrayViewMut3<'_, T>,
) {
    if run.len() == 0 {
        return;
    }
    let (b, c) = (T::widen_view(run.b), T::widen_view(run.c));
    let scores = matmul(c.view(), b.t());
    let heads = state.outer_iter_mut().zip(y.axis_iter_mut(Axis(1))).enumerate().collect();
    parallel::for_each(heads, |(r, (mut h, mut out))| {
        let dense = Dense::new(run, r, &scores);
        let mut y = matmul(dense.m.view(), dense.u.view());
        if let Some(d) = run.d {
            y += &(&dense.x * &d.row(r));
        }
        y += &(matmul(c.view(), h.t()) * dense.decay_since_start());
        let last = &h * dense.through() + matmul((&dense.u * &dense.decay_to_end()).t(), b.view());
        h.assign(&last);
        Zip::from(&mut out).and(&y).for_each(|out, &y| *out = T::narrow(y));
    });
}

/// Cotangents of one run; `h`: the initial state, `dh`: the cotangent of the final state in, of the initial one out.
///
/// With `S = dY Uᵀ` (paper notes, section 3.5):
///
/// ```math
/// dU = M^\top dY, \quad dC = (L \circ S) B, \quad dB = (L \circ S)^\top C, \quad
/// d\log a_t = \sum_{i \ge t > j} M_{ij} S_{ij}
/// ```
///
/// and the terms of the initial and the final state, whose decays `g_i` hold `a_t` for `i ≥ t` and `w_j` for `j < t`.
pub(super) fn vjp<T: Scalar>(
    run: &Run<'_, T>,
    h: ArrayView3<'_, T::Acc>,
    dy: ArrayView3<'_, T>,
    mut dh: ArrayViewMut3<'_, T::Acc>,
    mut grad: RunGrad<'_, T>,
) {
    if run.len() == 0 {
        return;
    }
    let (b, c) = (T::widen_view(run.b), T::widen_view(run.c));
    let scores = matmul(c.view(), b.t());
    let shares =
        parallel::map(grad.blocks(&mut dh), |BlockGrad { first, mut dh, mut x, mut dt, mut log_a }| {
            let mut db = Array2::zeros(b.raw_dim());
            let mut dc = Array2::zeros(b.raw_dim());
            for (k, mut dh) in dh.outer_iter_mut().enumerate() {
                let r = first + k;
                let (h, dy) = (h.index_axis(Axis(0), r), T::widen_view(dy.index_axis(Axis(1), r)));
                let dy = dy.view();
                let dense = Dense::new(run, r, &scores);
                let (g, w, through) = (dense.decay_since_start(), dense.decay_to_end(), dense.through());

                let pairs = matmul(dy, dense.u.t());
                let ds = masked(&dense.mask, &pairs);
                let b_dh = matmul(b.view(), dh.t()) * &w;
                let du = matmul(dense.m.t(), dy) + &b_dh;
                let h_dy = matmul(dy, h) * &g;

                db += &(matmul(ds.t(), c.view()) + matmul((&dense.u * &w).view(), dh.view()));
                dc += &(matmul(ds.view(), b.view()) + &h_dy);
                let own = straddling(&masked(&dense.m, &pairs));
                let read = row_dots(h_dy.view(), c.view());
                let written = row_dots(b_dh.view(), dense.u.view());
                let kept = through * (&dh * &h).sum();
                for t in 0..run.len() {
                    log_a[[t, k]] = own[t] + read.slice(s![t..]).sum() + written.slice(s![..t]).sum() + kept;
                }
                dt.column_mut(k).assign(&row_dots(dense.x.view(), du.view()));
                let mut from_dt = &du * &dense.dt.view().insert_axis(Axis(1));
                if let Some(d) = run.d {
                    from_dt += &(&dy * &d.row(r));
                }
                Zip::from(x.index_axis_mut(Axis(1), k)).and(&from_dt).for_each(|dx, &v| *dx = T::narrow(v));
                let entering = &dh * through + matmul((&dy * &g).t(), c.view());
                dh.assign(&entering);
            }
            [db, dc]
        });
    grad.set_generators(&shares);
}

/// One head with its matrix formed.
struct Dense<A> {
    mask: Array2<A>,  // (len, len) L, its diagonal zero if the diagonal is free
    m: Array2<A>,     // (len, len) L ∘ C Bᵀ
    log_a: Array1<A>, // (len)
    dt: Array1<A>,    // (len)
    x: Array2<A>,     // (len, head_dim)
    u: Array2<A>,     // (len, head_dim) diag(dt) X
}

impl<A: Real> Dense<A> {
    fn new<T: Scalar<Acc = A>>(run: &Run<'_, T>, r: usize, scores: &Array2<A>) -> Self {
        let head = run.head(r, 0, run.len());
        let mut mask = decay(head.log_a);
        if run.diagonal == Diagonal::Free {
            mask.diag_mut().fill(A::zero());
        }
        let x = T::widen_view(head.x).into_owned();
        let u = &x * &head.dt.insert_axis(Axis(1));
        Self { m: masked(&mask, scores), mask, log_a: head.log_a.to_owned(), dt: head.dt.to_owned(), x, u }
    }

    /// g as a column: g_t = exp(log a_0 + … + log a_t).
    fn decay_since_start(&self) -> Array2<A> {
        let mut sum = A::zero();
        let g = self.log_a.mapv(|log_a| {
            sum += log_a;
            sum.exp()
        });
        g.insert_axis(Axis(1))
    }

    /// w as a column: w_t = exp(log a_{t+1} + … + log a_last).
    fn decay_to_end(&self) -> Array2<A> {
        let mut w = Array1::ones(self.log_a.len());
        let mut sum = A::zero();
        for t in (1..w.len()).rev() {
            sum += self.log_a[t];
            w[t - 1] = sum.exp();
        }
        w.insert_axis(Axis(1))
    }

    /// γ, the decay through the whole sequence.
    fn through(&self) -> A {
        self.log_a.sum().exp()
    }
}

/// L = 1SS(a), dense.
fn decay<A: Real>(log_a: ArrayView1<'_, A>) -> Array2<A> {
    match OneSemiseparable::from_log(log_a) {
        Ok(mask) => mask.to_dense(),
        Err(_) => unreachable!("`Ssd::new` has checked that the decays are finite"),
    }
}

/// `mask ∘ m` on and below the diagonal, zero above it whatever `m` holds there.
fn masked<A: Real>(mask: &Array2<A>, m: &Array2<A>) -> Array2<A> {
    Array2::from_shape_fn(m.raw_dim(), |(i, j)| if j <= i { mask[[i, j]] * m[[i, j]] } else { A::zero() })
}

/// `r_t = Σ_{i ≥ t > j} p_ij`
fn straddling<A: Real>(p: &Array2<A>) -> Array1<A> {
    let mut below = Array1::zeros(p.ncols());
    let mut r = Array1::zeros(p.nrows());
    for t in (0..p.nrows()).rev() {
        below += &p.row(t);
        r[t] = below.slice(s![..t]).sum();
    }
    r
}

/// ⟨x_t, y_t⟩ for every row.
fn row_dots<A: Real>(x: ArrayView2<'_, A>, y: ArrayView2<'_, A>) -> Array1<A> {
    (&x * &y).sum_axis(Axis(1))
}
