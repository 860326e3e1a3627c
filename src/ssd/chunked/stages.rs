//! The stages of the block decomposition on one head of one chunk, each followed by its vjp.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, CowArray, Ix2, s};

use crate::linalg::{
    add_matmul, add_triangular_matmul, dot, flat, flat_mut, set_lower_matmul, set_matmul,
    set_triangular_adjoint_matmul, vectorize, with_flat_rows,
};
use crate::scalar::{Real, Scalar};
use crate::ssd::Diagonal;
use crate::ssd::run::{Head, Run};

/// What the heads of a group share in one chunk.
#[derive(Debug)]
pub(super) struct Shared<'a, A: Real> {
    pub start: usize,
    pub end: usize,
    pub b: CowArray<'a, A, Ix2>, // (len, state_dim)
    pub c: CowArray<'a, A, Ix2>, // (len, state_dim)
    scores: Array2<A>,           // (len, len) C Bᵀ, on and below the diagonal
    diagonal: Diagonal,
}

impl<'a, A: Real> Shared<'a, A> {
    pub fn new<T: Scalar<Acc = A>>(run: &Run<'a, T>, start: usize, end: usize) -> Self {
        let rows = ndarray::Slice::from(start..end);
        let b = with_flat_rows(T::widen_view(run.b.slice_axis_move(Axis(0), rows)));
        let c = with_flat_rows(T::widen_view(run.c.slice_axis_move(Axis(0), rows)));
        let mut scores = Array2::zeros((end - start, end - start));
        set_lower_matmul(scores.view_mut(), c.view(), b.t());
        Self { start, end, b, c, scores, diagonal: run.diagonal }
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// What multiplies the diagonal of the scores.
    fn on_diagonal(&self) -> A {
        match self.diagonal {
            Diagonal::Scores => A::one(),
            Diagonal::Free => A::zero(),
        }
    }
}

/// One head of one chunk: its inputs, widened, and the memory to work on them.
#[derive(Debug)]
pub(super) struct Piece<A: Real> {
    len: usize,
    a: Vec<A>,          // (len) exp(log a)
    u: Array2<A>,       // (len, head_dim) diag(dt) x
    weights: Array2<A>, // (len, len) L ∘ C Bᵀ; zero above the diagonal
    mask_row: Vec<A>,   // (len) the row of L at hand
    y: Array2<A>,       // (len, head_dim)
    left: Array2<A>,    // (state_dim, head_dim) what the chunk leaves behind
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
        vectorize(|| {
            for ((u, x), &dt) in self.u.outer_iter_mut().zip(head.x.outer_iter()).zip(head.dt) {
                scale_into(u, dt, x);
            }
        });
    }

    /// `Y = (L ∘ C Bᵀ) U + diag(g) C H + X diag(d)`: diagonal block, state output and skip.
    pub fn output<T: Scalar<Acc = A>>(
        &mut self,
        k: &Shared<'_, A>,
        head: &Head<'_, T>,
        h: ArrayView2<'_, A>,
        y_out: ArrayViewMut2<'_, T>,
    ) {
        let q = self.len;
        self.weigh(k);
        let mut y = self.y.slice_mut(s![..q, ..]);
        set_matmul(y.view_mut(), k.c.view(), h);
        vectorize(|| {
            let mut g = A::one();
            for (y, &a) in y.outer_iter_mut().zip(&self.a) {
                g *= a;
                scale(y, g);
            }
        });
        add_triangular_matmul(y.view_mut(), self.weights.slice(s![..q, ..q]), self.u.slice(s![..q, ..]));
        vectorize(|| skip_into(y_out, y.view(), head));
    }

    /// `weights = L ∘ C Bᵀ`, each row of L from the one above it.
    fn weigh(&mut self, k: &Shared<'_, A>) {
        let on_diagonal = k.on_diagonal();
        let (a, mask) = (&self.a, &mut self.mask_row);
        vectorize(|| {
            for (i, (w, scores)) in self.weights.outer_iter_mut().zip(k.scores.outer_iter()).enumerate() {
                let (w, scores) = (flat_mut(w), flat(scores));
                next_mask_row(mask, i, a[i]);
                for j in 0..i {
                    w[j] = mask[j] * scores[j];
                }
                w[i] = on_diagonal * scores[i];
            }
        });
    }

    /// `left = Bᵀ diag(w) U`; scales U by w on the way.
    pub fn chunk_state(&mut self, k: &Shared<'_, A>) {
        let q = self.len;
        vectorize(|| {
            let mut w = A::one();
            for (u, &a) in self.u.slice_mut(s![..q, ..]).outer_iter_mut().rev().zip(self.a[..q].iter().rev())
            {
                scale(u, w);
                w *= a;
            }
        });
        set_matmul(self.left.view_mut(), k.b.t(), self.u.slice(s![..q, ..]));
    }

    /// `H = γ H + left`
    pub fn state_passing(&self, mut h: ArrayViewMut2<'_, A>) {
        let through = self.through();
        vectorize(|| {
            for (h, left) in h.outer_iter_mut().zip(self.left.outer_iter()) {
                for (h, &left) in flat_mut(h).iter_mut().zip(flat(left)) {
                    *h = through * *h + left;
                }
            }
        });
    }

    /// γ, the decay through the whole chunk.
    fn through(&self) -> A {
        self.a[..self.len].iter().fold(A::one(), |g, &a| g * a)
    }
}

/// `row = [a row, 1]`: row i of L from row i - 1.
#[inline(always)]
fn next_mask_row<A: Real>(row: &mut [A], i: usize, a: A) {
    for l in &mut row[..i] {
        *l *= a;
    }
    row[i] = A::one();
}

/// `row *= by`
#[inline(always)]
fn scale<A: Real>(row: ArrayViewMut1<'_, A>, by: A) {
    for v in flat_mut(row) {
        *v *= by;
    }
}

/// `dst = by src`, widened.
#[inline(always)]
fn scale_into<T: Scalar>(dst: ArrayViewMut1<'_, T::Acc>, by: T::Acc, src: ArrayView1<'_, T>) {
    let dst = flat_mut(dst);
    match src.to_slice() {
        Some(src) => dst.iter_mut().zip(src).for_each(|(d, s)| *d = by * s.widen()),
        None => dst.iter_mut().zip(src).for_each(|(d, s)| *d = by * s.widen()),
    }
}

/// `out = narrow(y + d ∘ x)`
#[inline(always)]
fn skip_into<T: Scalar>(mut out: ArrayViewMut2<'_, T>, y: ArrayView2<'_, T::Acc>, head: &Head<'_, T>) {
    for ((mut out, y), x) in out.outer_iter_mut().zip(y.outer_iter()).zip(head.x.outer_iter()) {
        let y = flat(y);
        match (out.as_slice_mut(), x.to_slice(), head.d.to_slice()) {
            (Some(out), Some(x), Some(d)) => {
                for (((out, &y), x), &d) in out.iter_mut().zip(y).zip(x).zip(d) {
                    *out = T::narrow(y + d * x.widen());
                }
            }
            _ => {
                for (((out, &y), x), &d) in out.iter_mut().zip(y).zip(x).zip(head.d) {
                    *out = T::narrow(y + d * x.widen());
                }
            }
        }
    }
}
