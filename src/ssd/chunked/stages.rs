//! The stages of the block decomposition on one head of one chunk, each followed by its vjp.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, CowArray, Ix2, s};

use crate::linalg::{
    LANES, add_matmul, add_triangular_matmul, dot, flat, flat_mut, set_lower_matmul, set_matmul,
    set_triangular_adjoint_matmul, sum_of, total, vectorize, with_flat_rows,
};
use num_traits::Zero;

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
    scores: Array2<A>,           // (len, len) C Bᵀ, on and below the diagonal
    diagonal: Diagonal,
}

impl<'a, A: Real> Shared<'a, A> {
    pub fn new<T: Scalar<Acc = A>>(run: &Run<'a, T>, start: usize, end: usize, index: usize) -> Self {
        let mut shared = Self::without_scores(run, start, end, index);
        shared.scores = Array2::zeros((end - start, end - start));
        set_lower_matmul(shared.scores.view_mut(), shared.c.view(), shared.b.t());
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
        Self { index, start, end, b, c, scores: Array2::zeros((0, 0)), diagonal: run.diagonal }
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

    /// The same from one place in memory to another.
    pub fn pass_on(&self, h: ArrayView2<'_, A>, mut into: ArrayViewMut2<'_, A>) {
        let through = self.through();
        vectorize(
            #[inline(always)]
            || {
                for ((into, h), left) in into.outer_iter_mut().zip(h.outer_iter()).zip(self.left.outer_iter())
                {
                    for ((into, &h), &left) in flat_mut(into).iter_mut().zip(flat(h)).zip(flat(left)) {
                        *into = through * h + left;
                    }
                }
            },
        );
    }

    /// γ, the decay through the whole chunk.
    fn through(&self) -> A {
        self.a[..self.len].iter().fold(A::one(), |g, &a| g * a)
    }
}

/// Cotangents that the heads of a block share in one chunk.
#[derive(Debug)]
pub(super) struct Share<A> {
    pub b: Array2<A>,      // (len, state_dim)
    pub c: Array2<A>,      // (len, state_dim)
    pub scores: Array2<A>, // (len, len), on and below the diagonal
}

impl<A: Real> Share<A> {
    pub fn new(len: usize, state_dim: usize) -> Self {
        Self {
            b: Array2::zeros((len, state_dim)),
            c: Array2::zeros((len, state_dim)),
            scores: Array2::zeros((len, len)),
        }
    }

    /// Back to zero.
    pub fn clear(&mut self) {
        self.b.fill(A::zero());
        self.c.fill(A::zero());
        self.scores.fill(A::zero());
    }

    /// Adds another block's share.
    pub fn add(&mut self, other: &Self) {
        let rows = [(&mut self.b, &other.b), (&mut self.c, &other.c), (&mut self.scores, &other.scores)];
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
        add_matmul(self.c.view_mut(), self.scores.view(), k.b.view());
        add_matmul(self.b.view_mut(), self.scores.t(), k.c.view());
    }
}

/// Memory to go back through one head of one chunk, and what that yields.
#[derive(Debug)]
pub(super) struct PieceGrad<A: Real> {
    dy: Array2<A>,      // (len, head_dim), scaled by g once the diagonal block is done
    du: Array2<A>,      // (len, head_dim)
    product: Array2<A>, // (len, head_dim) or, for dC, (len, state_dim) values at hand
    dc: Array2<A>,      // (len, state_dim)
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
            dc: Array2::zeros((len, n)),
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
        set_matmul(self.dc.slice_mut(s![..q, ..]), self.dy.slice(s![..q, ..]), h.t());
        vectorize(
            #[inline(always)]
            || {
                let mut later = A::zero();
                for t in (0..q).rev() {
                    let (dc, sum) = (flat(self.dc.row(t)), flat_mut(share.c.row_mut(t)));
                    later += dot_and_add(sum, dc, flat(k.c.row(t)));
                    self.dlog_a[t] += later;
                }
            },
        );
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
        add_matmul(share.b.slice_mut(s![..q, ..]), piece.u.slice(s![..q, ..]), dh.t());
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

/// `h = γ h + left`
fn pass<A: Real>(through: A, mut h: ArrayViewMut2<'_, A>, left: ArrayView2<'_, A>) {
    vectorize(
        #[inline(always)]
        || {
            for (h, left) in h.outer_iter_mut().zip(left.outer_iter()) {
                for (h, &left) in flat_mut(h).iter_mut().zip(flat(left)) {
                    *h = through * *h + left;
                }
            }
        },
    );
}

/// `row = [a row, 1]`: row i of L from row i - 1; zeros follow.
#[inline(always)]
fn next_mask_row<A: Real>(row: &mut [A], i: usize, a: A) {
    let width = whole_vectors(i, row.len());
    for l in &mut row[..width] {
        *l *= a;
    }
    row[i] = A::one();
}

/// Where a row that ends with its diagonal element `i` may stop: after whole vectors, for speed.
#[inline(always)]
fn whole_vectors(i: usize, len: usize) -> usize {
    len.min((i / 16 + 1) * 16)
}

/// `mask value`, and zero where the mask is zero even if the value has overflowed.
#[inline(always)]
fn masked<A: Real>(mask: A, value: A) -> A {
    if mask == A::zero() { A::zero() } else { mask * value }
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

/// `out = narrow(by y + d ∘ x)` for one row.
#[inline(always)]
fn skip_row<T: Scalar>(
    mut out: ArrayViewMut1<'_, T>,
    by: T::Acc,
    y: &[T::Acc],
    d: Option<ArrayView1<'_, T::Acc>>,
    x: ArrayView1<'_, T>,
) {
    match (out.as_slice_mut(), d.map(|d| (d.to_slice(), x.to_slice()))) {
        (Some(out), None) => out.iter_mut().zip(y).for_each(|(out, &y)| *out = T::narrow(by * y)),
        (Some(out), Some((Some(d), Some(x)))) => {
            for ((out, &y), (&d, x)) in out.iter_mut().zip(y).zip(d.iter().zip(x)) {
                *out = T::narrow(by * y + d * x.widen());
            }
        }
        _ => {
            for (p, (out, &y)) in out.iter_mut().zip(y).enumerate() {
                *out = T::narrow(by * y + d.map_or(*T::Acc::ZERO, |d| d[p] * x[p].widen()));
            }
        }
    }
}

/// Returns `⟨x, y⟩` and does `sum += x`.
#[inline(always)]
fn dot_and_add<A: Real>(sum: &mut [A], x: &[A], y: &[A]) -> A {
    let mut dots = [A::zero(); LANES];
    for ((sum, x), y) in sum.chunks_mut(LANES).zip(x.chunks(LANES)).zip(y.chunks(LANES)) {
        for (((dot, sum), &x), &y) in dots.iter_mut().zip(sum).zip(x).zip(y) {
            *dot += x * y;
            *sum += x;
        }
    }
    total(dots)
}

/// `⟨x, y⟩`, widened.
#[inline(always)]
fn dot_wide<T: Scalar>(x: ArrayView1<'_, T>, y: &[T::Acc]) -> T::Acc {
    let Some(x) = x.to_slice() else {
        return x.iter().zip(y).map(|(x, &y)| x.widen() * y).sum();
    };
    let mut sums = [T::Acc::zero(); LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for ((sum, x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x.widen() * y;
        }
    }
    total(sums)
}
