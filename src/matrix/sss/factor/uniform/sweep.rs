//! One segment of the elimination, forward to find every P again and backward for the cotangents.

use super::{LANES, lane, put};
use crate::linalg::{Eight, Simd, WithSimd, dispatch};
use crate::scalar::Field;

/// Generators and factors of the steps of a segment.
pub(super) struct Segment<'a, E> {
    pub(super) a: &'a [E],
    pub(super) b: &'a [E],
    pub(super) c: &'a [E],
    pub(super) gains: &'a [E],
    pub(super) before: &'a [E], // gain of the step before the segment; before the first, any
    pub(super) pivots: &'a [E],
    pub(super) alpha: Option<&'a [E]>,
    pub(super) weight: E,
}

/// Where cotangents of transitions go.
pub(super) enum Cotangents<'a, E> {
    None,
    Sum(&'a mut [E]),
    Each(&'a mut [E]),
}

/// Where cotangents go.
pub(super) struct Out<'a, E> {
    pub(super) a: Cotangents<'a, E>,
    pub(super) b: &'a mut [E],
    pub(super) c: &'a mut [E],
    pub(super) d: &'a mut [E],
}

/// A sweep backward, a segment after another from the last to the first.
pub(super) trait Backward<E> {
    /// Writes the cotangents of a segment, before which P and the state are these.
    fn through(&mut self, p: &[Eight<E>], x: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>);
}

/// What the sweep carries from step to step and keeps of a segment: matrices a lane of every column after another.
pub(super) struct Sweep<E> {
    n: usize,
    p: Vec<Eight<E>>,       // P before each step of the segment
    f: Vec<Eight<E>>,       // P conj(c)
    x: Vec<Eight<E>>,       // states
    pi: Vec<Eight<E>>,      // cotangent of P behind the step
    product: Vec<Eight<E>>, // Π w of the step to come
    lambda: Vec<Eight<E>>,
    df: Vec<E>,
    da: Vec<E>,
}

impl<E: Field> Sweep<E> {
    pub(super) fn zeros(n: usize, length: usize) -> Self {
        let blocks = n.div_ceil(LANES);
        let zeros = |vectors: usize| vec![Eight([E::zero(); LANES]); vectors];
        let many = || zeros(blocks * (length + 1));
        Self {
            n,
            p: zeros(n * blocks * (length + 1)),
            f: many(),
            x: many(),
            pi: zeros(n * blocks),
            product: zeros(blocks),
            lambda: zeros(blocks),
            df: vec![E::zero(); blocks * LANES],
            da: vec![E::zero(); n],
        }
    }
}

impl<E: Field> Backward<E> for Sweep<E> {
    fn through(&mut self, start: &[Eight<E>], state: Option<&[E]>, segment: Segment<'_, E>, out: Out<'_, E>) {
        let Self { n, p, f, x, pi, product, lambda, df, da } = self;
        p[..start.len()].copy_from_slice(start);
        for (lane, x) in x.iter_mut().zip(state.into_iter().flat_map(|x| x.chunks(LANES))) {
            lane.0[..x.len()].copy_from_slice(x);
        }
        let carried = Carried { p, f, x, pi, product, lambda, df, da };
        dispatch(Through { n: *n, carried, segment, out });
    }
}

/// The memory of a sweep, as slices: a vector would be looked up again behind every store.
struct Carried<'a, E> {
    p: &'a mut [Eight<E>],
    f: &'a mut [Eight<E>],
    x: &'a mut [Eight<E>],
    pi: &'a mut [Eight<E>],
    product: &'a mut [Eight<E>],
    lambda: &'a mut [Eight<E>],
    df: &'a mut [E],
    da: &'a mut [E],
}

impl<E: Field> Carried<'_, E> {
    /// f of step k, and P and the state before step k + 1.
    #[inline(always)]
    fn forward<S: Simd>(&mut self, simd: S, (n, blocks): (usize, usize), segment: &Segment<'_, E>, k: usize) {
        let row = k * n..(k + 1) * n;
        let (a, c, w) = (&segment.a[row.clone()], &segment.c[row.clone()], &segment.gains[row.clone()]);
        let pivot = E::splat(simd, segment.pivots[k]);
        let (p, next) = self.p[k * n * blocks..(k + 2) * n * blocks].split_at_mut(n * blocks);
        for i in 0..blocks {
            let (ai, g) = (lane(simd, a, i), E::times(simd, lane(simd, w, i), pivot));
            let mut f = E::splat(simd, E::zero());
            let columns = p[i * n..(i + 1) * n].iter().zip(&mut next[i * n..(i + 1) * n]);
            for ((p, next), ((a, c), w)) in columns.zip(a.iter().zip(c).zip(w)) {
                let p = E::load(simd, &p.0);
                f = E::add_times(simd, p, E::splat(simd, c.conj()), f);
                let moved = E::times(simd, E::times(simd, p, ai), E::splat(simd, a.conj()));
                let value = E::add_times(simd, g, E::splat(simd, w.conj()), moved);
                E::store(simd, value, &mut next.0);
            }
            E::store(simd, f, &mut self.f[k * blocks + i].0);
        }
        if let Some(alpha) = segment.alpha {
            let alpha = E::splat(simd, alpha[k]);
            let (x, next) = self.x[k * blocks..(k + 2) * blocks].split_at_mut(blocks);
            for i in 0..blocks {
                let moved = E::times(simd, lane(simd, a, i), E::load(simd, &x[i].0));
                let value = E::add_times(simd, lane(simd, &segment.b[row.clone()], i), alpha, moved);
                E::store(simd, value, &mut next[i].0);
            }
        }
    }

    /// Cotangents of the generators of step k, that of the transition left in `da`.
    #[inline(always)]
    fn backward<S: Simd>(
        &mut self,
        simd: S,
        (n, blocks): (usize, usize),
        segment: &Segment<'_, E>,
        k: usize,
        out: &mut Out<'_, E>,
    ) {
        let row = k * n..(k + 1) * n;
        let (a, c, w) = (&segment.a[row.clone()], &segment.c[row.clone()], &segment.gains[row.clone()]);
        let before = if k > 0 { &segment.gains[(k - 1) * n..k * n] } else { segment.before };
        let two = E::one() + E::one();
        let half = E::splat(simd, E::one() / two);
        let two = E::splat(simd, two);
        let zero = E::splat(simd, E::zero());
        let mut inner = zero;
        for i in 0..blocks {
            let w = E::conjugate(simd, lane(simd, w, i));
            inner = E::add_times(simd, w, E::load(simd, &self.product[i].0), inner);
        }
        let dd = (segment.weight.over(segment.pivots[k]) - E::total(simd, inner)).real_part();
        let alpha = segment.alpha.map_or(E::zero(), |alpha| alpha[k]);
        out.d[k] = dd + alpha * alpha.conj() / (E::one() + E::one());
        let dd = E::splat(simd, dd);
        let conjugate = |values: &[E], i: usize| E::conjugate(simd, lane(simd, values, i));
        for i in 0..blocks {
            let dg = E::times(simd, two, E::load(simd, &self.product[i].0));
            let df = E::add_times(simd, conjugate(a, i), dg, E::times(simd, conjugate(c, i), dd));
            put(simd, self.df, i, E::less_times(simd, df, E::splat(simd, E::one()), zero));
        }
        let (alpha, conjugate_alpha) = (E::splat(simd, alpha), E::splat(simd, alpha.conj()));
        let p = &self.p[k * n * blocks..(k + 1) * n * blocks];
        for i in 0..blocks {
            let dg = E::times(simd, two, E::load(simd, &self.product[i].0));
            let (ai, ci) = (conjugate(a, i), conjugate(c, i));
            let half_df = E::times(simd, lane(simd, self.df, i), half);
            let half_c = E::times(simd, ci, half);
            let (mut da, mut dc, mut next) = (zero, zero, zero);
            let columns = p[i * n..(i + 1) * n].iter().zip(&mut self.pi[i * n..(i + 1) * n]);
            let scalars = a.iter().zip(c).zip(&*self.df).zip(before);
            for ((p, pi), (((a, c), df), w)) in columns.zip(scalars) {
                let p = E::load(simd, &p.0);
                let moved = E::times(simd, E::load(simd, &pi.0), E::splat(simd, *a));
                da = E::add_times(simd, moved, E::conjugate(simd, p), da);
                dc = E::add_times(simd, p, E::splat(simd, *df), dc);
                let read = E::times(simd, half_df, E::splat(simd, *c));
                let read = E::add_times(simd, half_c, E::splat(simd, df.conj()), read);
                let value = E::add_times(simd, ai, moved, read);
                E::store(simd, value, &mut pi.0);
                next = E::add_times(simd, value, E::splat(simd, *w), next);
            }
            E::store(simd, next, &mut self.product[i].0);
            let f = E::conjugate(simd, E::load(simd, &self.f[k * blocks + i].0));
            let x = E::conjugate(simd, E::load(simd, &self.x[k * blocks + i].0));
            let lambda = E::load(simd, &self.lambda[i].0);
            let da = E::add_times(simd, lambda, x, E::less_times(simd, dg, f, E::times(simd, two, da)));
            let dc = E::less_times(simd, dd, f, E::conjugate(simd, dc));
            put(simd, self.da, i, da);
            put(simd, &mut out.b[row.clone()], i, E::add_times(simd, lambda, conjugate_alpha, dg));
            put(simd, &mut out.c[row.clone()], i, E::add_times(simd, alpha, x, dc));
            let lambda = E::add_times(simd, ai, lambda, E::times(simd, ci, alpha));
            E::store(simd, lambda, &mut self.lambda[i].0);
        }
    }
}

/// A sweep through a segment.
struct Through<'a, E> {
    n: usize,
    carried: Carried<'a, E>,
    segment: Segment<'a, E>,
    out: Out<'a, E>,
}

impl<E: Field> Through<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, sizes: (usize, usize)) {
        let Self { mut carried, segment, mut out, .. } = self;
        let (n, steps) = (sizes.0, segment.pivots.len());
        for k in 0..steps {
            carried.forward(simd, sizes, &segment, k);
        }
        for k in (0..steps).rev() {
            carried.backward(simd, sizes, &segment, k, &mut out);
            let da = &carried.da[..n];
            match &mut out.a {
                Cotangents::None => {}
                Cotangents::Sum(out) => out[k] = da.iter().copied().sum(),
                Cotangents::Each(out) => out[k * n..(k + 1) * n].copy_from_slice(da),
            }
        }
    }
}

impl<E: Field> WithSimd for Through<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.n {
            8 => self.run(simd, (8, 1)),
            16 => self.run(simd, (16, 2)),
            n => self.run(simd, (n, n.div_ceil(LANES))),
        }
    }
}
