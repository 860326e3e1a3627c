//! The stages of the block decomposition on one head of one chunk; `piece_vjp.rs` has them backwards.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2, s};

use super::rows::{masked, next_mask_row, pass, scale, scale_into, skip_row, whole_vectors};
use crate::linalg::{
    add_triangular_matmul, flat, flat_mut, set_lower_matmul, set_matmul, vectorize, with_flat_rows,
};
use crate::scalar::{Real, Scalar};
use crate::ssd::Diagonal;
use crate::ssd::run::{Head, Run};

/// What the heads of a group share in one chunk.
#[derive(Debug)]
pub(super) struct Shared<'a, A: Real> {
    pub index: usize, // of the chunk in the run
    pub start: usize,
    pub end: usize,
    pub b: CowArray<'a, A, Ix2>, // (len, state_dim)
    pub c: CowArray<'a, A, Ix2>, // (len, state_dim)
    pub c_t: Array2<A>,          // (state_dim, len) Cᵀ in memory, for the vjp
    pub scores: Array2<A>,       // (len, len) C Bᵀ, on and below the diagonal
    diagonal: Diagonal,
}

impl<'a, A: Real> Shared<'a, A> {
    pub fn new<T: Scalar<Acc = A>>(run: &Run<'a, T>, start: usize, end: usize, index: usize) -> Self {
        let mut shared = Self::without_scores(run, start, end, index);
        shared.scores = Array2::zeros((end - start, end - start));
        set_lower_matmul(shared.scores.view_mut(), shared.c.view(), shared.b.t());
        shared
    }

    /// For the vjp.
    pub fn both_ways<T: Scalar<Acc = A>>(run: &Run<'a, T>, start: usize, end: usize, index: usize) -> Self {
        let mut shared = Self::new(run, start, end, index);
        shared.c_t = shared.c.t().as_standard_layout().into_owned();
        shared
    }

    /// For the stages that read no scores.
    pub fn without_scores<T: Scalar<Acc = A>>(
        run: &Run<'a, T>,
        start: usize,
        end: usize,
        index: usize,
    ) -> Self {
        let rows = ndarray::Slice::from(start..end);
        let b = with_flat_rows(T::widen_view(run.b.slice_axis_move(Axis(0), rows)));
        let c = with_flat_rows(T::widen_view(run.c.slice_axis_move(Axis(0), rows)));
        Self {
            index,
            start,
            end,
            b,
            c,
            c_t: Array2::zeros((0, 0)),
            scores: Array2::zeros((0, 0)),
            diagonal: run.diagonal,
        }
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// What multiplies the diagonal of the scores.
    pub fn on_diagonal(&self) -> A {
        match self.diagonal {
            Diagonal::Scores => A::one(),
            Diagonal::Free => A::zero(),
        }
    }
}

/// One head of one chunk: its inputs, widened, and the memory to work on them.
#[derive(Debug)]
pub(super) struct Piece<A: Real> {
    pub len: usize,
    pub a: Vec<A>,          // (len) exp(log a)
    pub u: Array2<A>,       // (len, head_dim) diag(dt) x
    pub weights: Array2<A>, // (len, len) L ∘ C Bᵀ; zero above the diagonal
    pub mask_row: Vec<A>,   // (len) the row of L at hand
    y: Array2<A>,           // (len, head_dim)
    left: Array2<A>,        // (state_dim, head_dim) what the chunk leaves behind
}

impl<A: Real> Piece<A> {
    /// Memory for chunks of up to `len` positions.
    pub fn new<T: Scalar<Acc = A>>(run: &Run<'_, T>, len: usize) -> Self {
        let (p, n) = (run.head_dim(), run.state_dim());
        Self {
            len: 0,
            a: vec![A::zero(); len],
            u: Array2::zeros((len, p)),
            weights: Array2::zeros((len, len)),
            mask_row: vec![A::zero(); len],
            y: Array2::zeros((len, p)),
            left: Array2::zeros((n, p)),
        }
    }

    /// Takes in one head of one chunk: a = exp(log a), U = diag(dt) X.
    pub fn load<T: Scalar<Acc = A>>(&mut self, head: &Head<'_, T>) {
        self.len = head.x.nrows();
        for (a, log_a) in self.a.iter_mut().zip(head.log_a) {
            *a = log_a.exp();
        }
        vectorize(
            #[inline(always)]
            || {
                for ((u, x), &dt) in self.u.outer_iter_mut().zip(head.x.outer_iter()).zip(head.dt) {
                    scale_into(u, dt, x);
                }
            },
        );
    }

    /// `Y = (L ∘ C Bᵀ) U + diag(g) C H + X diag(d)`: diagonal block, state output and skip.
    pub fn output<T: Scalar<Acc = A>>(
        &mut self,
        k: &Shared<'_, A>,
        head: &Head<'_, T>,
        h: ArrayView2<'_, A>,
        mut y_out: ArrayViewMut2<'_, T>,
    ) {
        let q = self.len;
        self.weigh(k);
        let mut y = self.y.slice_mut(s![..q, ..]);
        set_matmul(y.view_mut(), k.c.view(), h);
        vectorize(
            #[inline(always)]
            || {
                let mut g = A::one();
                for (y, &a) in y.outer_iter_mut().zip(&self.a) {
                    g *= a;
                    scale(y, g);
                }
            },
        );
        add_triangular_matmul(y.view_mut(), self.weights.slice(s![..q, ..q]), self.u.slice(s![..q, ..]));
        vectorize(
            #[inline(always)]
            || {
                for ((out, y), x) in y_out.outer_iter_mut().zip(y.outer_iter()).zip(head.x.outer_iter()) {
                    skip_row(out, A::one(), flat(y), head.d, x);
                }
            },
        );
    }

    /// `weights = L ∘ C Bᵀ`, each row of L from the one above it.
    fn weigh(&mut self, k: &Shared<'_, A>) {
        let on_diagonal = k.on_diagonal();
        let (a, mask) = (&self.a, &mut self.mask_row);
        vectorize(
            #[inline(always)]
            || {
                mask.fill(A::zero());
                for (i, (w, scores)) in self.weights.outer_iter_mut().zip(k.scores.outer_iter()).enumerate() {
                    let (w, scores) = (flat_mut(w), flat(scores));
                    next_mask_row(mask, i, a[i]);
                    for ((w, &mask), &score) in
                        w.iter_mut().zip(&mask[..whole_vectors(i, scores.len())]).zip(scores)
                    {
                        *w = masked(mask, score);
                    }
                    w[i] = on_diagonal * scores[i];
                }
            },
        );
    }

    /// `left = Bᵀ diag(w) U`; scales U by w on the way.
    pub fn chunk_state(&mut self, k: &Shared<'_, A>) {
        let q = self.len;
        vectorize(
            #[inline(always)]
            || {
                let mut w = A::one();
                for (u, &a) in
                    self.u.slice_mut(s![..q, ..]).outer_iter_mut().rev().zip(self.a[..q].iter().rev())
                {
                    scale(u, w);
                    w *= a;
                }
            },
        );
        set_matmul(self.left.view_mut(), k.b.t(), self.u.slice(s![..q, ..]));
    }

    /// `H = γ H + left`
    pub fn state_passing(&self, h: ArrayViewMut2<'_, A>) {
        pass(self.through(), h, self.left.view());
    }

    /// γ, the decay through the whole chunk.
    pub fn through(&self) -> A {
        self.a[..self.len].iter().fold(A::one(), |g, &a| g * a)
    }
}
