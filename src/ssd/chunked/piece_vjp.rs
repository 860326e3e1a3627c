//! The stages on one head of one chunk, backwards: each the vjp of one stage of `piece.rs`.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, s};

use super::piece::{Piece, Shared};
use super::rows::{
    add_and_dot, dot_wide, masked, next_mask_row, pass, scale, scale_into, skip_row, whole_vectors,
};
use crate::linalg::{
    add_matmul, dot, flat, flat_mut, set_lower_matmul, set_matmul, set_triangular_adjoint_matmul, sum_of,
    vectorize,
};
use crate::scalar::{Real, Scalar};
use crate::ssd::run::{Head, Run};

/// Cotangents that the heads of a block share in one chunk.
#[derive(Debug)]
pub(super) struct Share<A> {
    pub b_t: Array2<A>,    // (state_dim, len)
    pub c_t: Array2<A>,    // (state_dim, len)
    pub scores: Array2<A>, // (len, len), on and below the diagonal
}

impl<A: Real> Share<A> {
    pub fn new(len: usize, state_dim: usize) -> Self {
        Self {
            b_t: Array2::zeros((state_dim, len)),
            c_t: Array2::zeros((state_dim, len)),
            scores: Array2::zeros((len, len)),
        }
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        self.b_t.fill(A::zero());
        self.c_t.fill(A::zero());
        self.scores.fill(A::zero());
    }

    /// Adds another block's share.
    pub fn add(&mut self, other: &Self) {
        let rows =
            [(&mut self.b_t, &other.b_t), (&mut self.c_t, &other.c_t), (&mut self.scores, &other.scores)];
        vectorize(
            #[inline(always)]
            || {
                for (sum, other) in
                    rows.into_iter().flat_map(|(sum, other)| sum.outer_iter_mut().zip(other.outer_iter()))
                {
                    flat_mut(sum).iter_mut().zip(flat(other)).for_each(|(sum, &other)| *sum += other);
                }
            },
        );
    }

    /// The vjp of the scores, for a share as long as the chunk: `dC += dS B`, `dB += dSᵀ C`.
    pub fn scores_vjp(&mut self, k: &Shared<'_, A>) {
        add_matmul(self.c_t.view_mut(), k.b.t(), self.scores.t());
        add_matmul(self.b_t.view_mut(), k.c.t(), self.scores.view());
    }
}

/// Memory to go back through one head of one chunk, and what that yields.
#[derive(Debug)]
pub(super) struct PieceGrad<A: Real> {
    dy: Array2<A>,      // (len, head_dim), scaled by g once the diagonal block is done
    du: Array2<A>,      // (len, head_dim)
    product: Array2<A>, // (len, head_dim) B dH
    dc_t: Array2<A>,    // (state_dim, len)
    pairs: Array2<A>,   // (len, len) dY Uᵀ, then M ∘ dY Uᵀ
    sums: Vec<A>,       // (len)
    dlog_a: Vec<A>,     // (len)
    right: Array2<A>,   // (state_dim, head_dim) what the chunk adds to dH
}

impl<A: Real> PieceGrad<A> {
    /// Memory for chunks of up to `len` positions.
    pub fn new<T: Scalar<Acc = A>>(run: &Run<'_, T>, len: usize) -> Self {
        let (p, n) = (run.head_dim(), run.state_dim());
        Self {
            dy: Array2::zeros((len, p)),
            du: Array2::zeros((len, p)),
            product: Array2::zeros((len, p)),
            dc_t: Array2::zeros((n, len)),
            pairs: Array2::zeros((len, len)),
            sums: vec![A::zero(); len],
            dlog_a: vec![A::zero(); len],
            right: Array2::zeros((n, p)),
        }
    }

    /// Takes in the cotangent of y.
    pub fn load<T: Scalar<Acc = A>>(&mut self, dy: ArrayView2<'_, T>) {
        vectorize(
            #[inline(always)]
            || {
                for (wide, dy) in self.dy.outer_iter_mut().zip(dy.outer_iter()) {
                    scale_into(wide, A::one(), dy);
                }
            },
        );
    }

    /// The vjp of the diagonal block, with `P = M ∘ (dY Uᵀ)`:
    ///
    /// ```math
    /// dU = M^\top dY, \qquad dS \mathrel{+}= L \circ (dY\, U^\top), \qquad
    /// d\log a_t = \sum_{i \ge t > j} P_{ij}
    /// ```
    pub fn diagonal_block_vjp(&mut self, k: &Shared<'_, A>, piece: &mut Piece<A>, share: &mut Share<A>) {
        let q = piece.len;
        let (dy, u) = (self.dy.slice(s![..q, ..]), piece.u.slice(s![..q, ..]));
        set_lower_matmul(self.pairs.slice_mut(s![..q, ..q]), dy, u.t());
        let on_diagonal = k.on_diagonal();
        let Piece { a, mask_row: mask, weights, .. } = piece;
        vectorize(
            #[inline(always)]
            || {
                mask.fill(A::zero());
                for (i, w) in weights.outer_iter_mut().take(q).enumerate() {
                    next_mask_row(mask, i, a[i]);
                    let width = whole_vectors(i, q);
                    let (w, pairs) =
                        (&mut flat_mut(w)[..width], &mut flat_mut(self.pairs.row_mut(i))[..width]);
                    let (scores, ds) =
                        (&flat(k.scores.row(i))[..width], &mut flat_mut(share.scores.row_mut(i))[..width]);
                    let own = on_diagonal * pairs[i];
                    mask[i] = A::zero();
                    let rows = w.iter_mut().zip(pairs).zip(ds.iter_mut()).zip(scores).zip(&mask[..width]);
                    for ((((w, pair), ds), &score), &mask) in rows {
                        let (weight, weighted) = (masked(mask, score), masked(mask, *pair));
                        *ds += weighted;
                        *pair = masked(weight, *pair);
                        *w = weight;
                    }
                    mask[i] = A::one();
                    w[i] = on_diagonal * scores[i];
                    ds[i] += own;
                }
                self.sums.fill(A::zero());
                for t in (0..q).rev() {
                    let width = whole_vectors(t, q);
                    for (sum, &pair) in self.sums[..width].iter_mut().zip(flat(self.pairs.row(t))) {
                        *sum += pair;
                    }
                    self.sums[t] = A::zero();
                    self.dlog_a[t] = sum_of(&self.sums[..width]);
                }
            },
        );
        set_triangular_adjoint_matmul(self.du.slice_mut(s![..q, ..]), weights.slice(s![..q, ..q]), dy);
    }

    /// The vjp of the state output:
    ///
    /// ```math
    /// dC \mathrel{+}= \mathrm{diag}(g)\, dY H^\top, \qquad \text{right} = C^\top \mathrm{diag}(g)\, dY, \qquad
    /// d\log a_t \mathrel{+}= \sum_{i \ge t} \langle dY_i, g_i C_i H \rangle
    /// ```
    pub fn state_output_vjp(
        &mut self,
        k: &Shared<'_, A>,
        piece: &Piece<A>,
        h: ArrayView2<'_, A>,
        share: &mut Share<A>,
    ) {
        let q = piece.len;
        self.right(k, piece);
        set_matmul(self.dc_t.slice_mut(s![.., ..q]), h, self.dy.slice(s![..q, ..]).t());
        vectorize(
            #[inline(always)]
            || {
                self.sums.fill(A::zero());
                let rows = self.dc_t.outer_iter().zip(share.c_t.outer_iter_mut()).zip(k.c_t.outer_iter());
                for ((dc, sum), c) in rows {
                    add_and_dot(&mut flat_mut(sum)[..q], &mut self.sums[..q], &flat(dc)[..q], &flat(c)[..q]);
                }
            },
        );
        let mut later = A::zero();
        for (dlog_a, &sum) in self.dlog_a[..q].iter_mut().zip(&self.sums[..q]).rev() {
            later += sum;
            *dlog_a += later;
        }
    }

    /// `right = Cᵀ diag(g) dY`, what the chunk adds to the cotangent of the state that enters it; scales dY by g.
    pub fn right(&mut self, k: &Shared<'_, A>, piece: &Piece<A>) {
        let q = piece.len;
        vectorize(
            #[inline(always)]
            || {
                let mut g = A::one();
                for (dy, &a) in self.dy.outer_iter_mut().zip(&piece.a[..q]) {
                    g *= a;
                    scale(dy, g);
                }
            },
        );
        set_matmul(self.right.view_mut(), k.c.t(), self.dy.slice(s![..q, ..]));
    }

    /// The vjp of the chunk state, `dh` being the cotangent of the state that leaves:
    ///
    /// ```math
    /// dU \mathrel{+}= \mathrm{diag}(w)\, B\, dH, \qquad dB \mathrel{+}= \mathrm{diag}(w)\, U\, dH^\top, \qquad
    /// d\log a_t \mathrel{+}= \sum_{j < t} w_j \langle U_j, B_j\, dH \rangle
    /// ```
    pub fn chunk_state_vjp(
        &mut self,
        k: &Shared<'_, A>,
        piece: &mut Piece<A>,
        dh: ArrayView2<'_, A>,
        share: &mut Share<A>,
    ) {
        let q = piece.len;
        set_matmul(self.product.slice_mut(s![..q, ..]), k.b.view(), dh);
        vectorize(
            #[inline(always)]
            || {
                let mut w = A::one();
                for t in (0..q).rev() {
                    let (u, du) = (flat_mut(piece.u.row_mut(t)), flat_mut(self.du.row_mut(t)));
                    let product = flat(self.product.row(t));
                    self.sums[t] = w * dot(u, product);
                    for ((u, du), &product) in u.iter_mut().zip(du).zip(product) {
                        *du += w * product;
                        *u *= w;
                    }
                    w *= piece.a[t];
                }
            },
        );
        let mut earlier = A::zero();
        for (dlog_a, &sum) in self.dlog_a[..q].iter_mut().zip(&self.sums) {
            *dlog_a += earlier;
            earlier += sum;
        }
        add_matmul(share.b_t.slice_mut(s![.., ..q]), dh, piece.u.slice(s![..q, ..]).t());
    }

    /// The vjp of the state passing: `d log a_t += γ ⟨dH, H⟩`, for the cotangent `dh` of the state that leaves.
    pub fn state_passing_vjp(&mut self, piece: &Piece<A>, h: ArrayView2<'_, A>, dh: ArrayView2<'_, A>) {
        let sum = vectorize(
            #[inline(always)]
            || {
                h.outer_iter()
                    .zip(dh.outer_iter())
                    .fold(A::zero(), |sum, (h, dh)| sum + dot(flat(h), flat(dh)))
            },
        );
        let through = piece.through() * sum;
        for dlog_a in &mut self.dlog_a[..piece.len] {
            *dlog_a += through;
        }
    }

    /// `dH = γ dH + right`: the cotangent of the state that enters from that of the state that leaves.
    pub fn pass_back(&self, piece: &Piece<A>, dh: ArrayViewMut2<'_, A>) {
        pass(piece.through(), dh, self.right.view());
    }

    /// What follows from dU: `dx = dt dU + d ∘ dy`, `ddt = ⟨x, dU⟩`; and d log a.
    pub fn finish<T: Scalar<Acc = A>>(
        &self,
        head: &Head<'_, T>,
        dy: ArrayView2<'_, T>,
        out: HeadGrad<'_, T>,
    ) {
        let HeadGrad { x: mut dx, dt: mut ddt, mut log_a } = out;
        vectorize(
            #[inline(always)]
            || {
                for (t, dx) in dx.outer_iter_mut().enumerate() {
                    let du = flat(self.du.row(t));
                    skip_row(dx, head.dt[t], du, head.d, dy.row(t));
                    ddt[t] = dot_wide(head.x.row(t), du);
                    log_a[t] = self.dlog_a[t];
                }
            },
        );
    }
}

/// Where the cotangents of one head of one chunk go.
#[derive(Debug)]
pub(super) struct HeadGrad<'a, T: Scalar> {
    pub x: ArrayViewMut2<'a, T>,
    pub dt: ArrayViewMut1<'a, T::Acc>,
    pub log_a: ArrayViewMut1<'a, T::Acc>,
}
