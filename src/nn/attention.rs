//! Causal softmax attention with grouped heads of keys and values.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use crate::error::{Error, Result, check_shape};
use crate::linalg::{add_matmul, flat, flat_mut, matmul, set_matmul, vectorize, with_flat_rows};
use crate::parallel;
use crate::scalar::{Real, real};

/// The heads of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Heads of queries.
    pub queries: usize,
    /// Heads of keys and values, a divisor of `queries`; head h of the queries uses head `h / (queries / keys)`.
    pub keys: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Cotangents of the queries, keys and values that belong to one head of keys.
type OneHead<'a, A> = ((ArrayViewMut2<'a, A>, ArrayViewMut2<'a, A>), ArrayViewMut2<'a, A>);

/// Queries that are worked on at a time.
const BLOCK: usize = 128;

/// Values that are added up before they join a longer sum.
const PAGE: usize = 64;

impl Heads {
    fn check<A>(&self, q: &ArrayView2<'_, A>, keys: &[usize], values: &[usize]) -> Result<()> {
        if self.keys == 0 || self.head_dim == 0 || !self.queries.is_multiple_of(self.keys) {
            let expected = "heads of queries, a multiple of heads of keys, and a width";
            return Err(Error::shape("heads", expected, &[self.queries, self.keys, self.head_dim]));
        }
        check_shape("q", "(len, heads · head_dim)", &[q.nrows(), self.queries * self.head_dim], q.shape())?;
        let past = keys[0].max(q.nrows());
        check_shape("keys", "(positions, kv_heads · head_dim)", &[past, self.keys * self.head_dim], keys)?;
        check_shape("values", "(positions, kv_heads · head_dim)", keys, values)
    }

    fn scale<A: Real>(&self) -> A {
        real(1.0 / (self.head_dim as f64).sqrt())
    }

    /// Columns of head `h`.
    fn of(&self, h: usize) -> ndarray::Slice {
        (h * self.head_dim..(h + 1) * self.head_dim).into()
    }

    /// Which head of keys a head of queries uses.
    fn keys_of(&self, h: usize) -> usize {
        h / (self.queries / self.keys)
    }
}

/// Attention of one sequence: for each head, with query t at position `positions − len + t`,
///
/// ```math
/// y_t = \sum_{s \le t} P_{ts} v_s, \qquad P_t = \mathrm{softmax}_s \bigl( q_t^\top k_s / \sqrt{\mathrm{head\_dim}} \bigr)
/// ```
///
/// # Shapes
/// `q`, `y`: (len, heads · head_dim); `keys`, `values`: (positions, kv_heads · head_dim), the queries' own the last of them.
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
///
/// # Examples
/// ```
/// use ndarray::{Array2, array};
/// use semisep::nn::{Heads, attention};
/// let (keys, values) = (Array2::zeros((2, 1)), array![[1.0], [3.0]]);
/// let heads = Heads { queries: 1, keys: 1, head_dim: 1 };
/// let mut y = Array2::zeros((2, 1));
/// attention(array![[5.0], [5.0]].view(), keys.view(), values.view(), heads, y.view_mut())?;
/// assert_eq!(y, array![[1.0], [2.0]]); // equal scores: means of what has been seen
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn attention<A: Real>(
    q: ArrayView2<'_, A>,
    keys: ArrayView2<'_, A>,
    values: ArrayView2<'_, A>,
    heads: Heads,
    mut y: ArrayViewMut2<'_, A>,
) -> Result<()> {
    heads.check(&q, keys.shape(), values.shape())?;
    check_shape("y", "(len, heads · head_dim)", q.shape(), y.shape())?;
    let past = keys.nrows() - q.nrows();
    let work = y.axis_chunks_iter_mut(Axis(1), heads.head_dim).enumerate().collect();
    parallel::for_each(work, |(h, mut y): (usize, ArrayViewMut2<'_, A>)| {
        let shared = heads.of(heads.keys_of(h));
        let [keys, values] = [keys, values].map(|of| of.slice_axis_move(Axis(1), shared));
        let q = q.slice_axis(Axis(1), heads.of(h));
        for start in (0..q.nrows()).step_by(BLOCK) {
            let block = start..q.nrows().min(start + BLOCK);
            let seen = past + block.end;
            let p = probabilities(
                q.slice(s![block.clone(), ..]),
                keys.slice(s![..seen, ..]),
                past + start,
                heads.scale(),
            );
            let mut y = y.slice_mut(s![block, ..]);
            y.fill(A::zero());
            add_seen(y, p.view(), values.slice(s![..seen, ..]), past + start);
        }
    });
    Ok(())
}

/// `y += P V`: row t adds up the values of the positions up to `first + t`, page by page, whatever rows there are beside it, so that
/// no cut of a sequence changes a bit.
fn add_seen<A: Real>(
    mut y: ArrayViewMut2<'_, A>,
    p: ArrayView2<'_, A>,
    values: ArrayView2<'_, A>,
    first: usize,
) {
    let values = with_flat_rows(values.into());
    let mut sum = vec![A::zero(); y.ncols()];
    for (page, values) in values.axis_chunks_iter(Axis(0), PAGE).enumerate() {
        for (t, (mut y, p)) in y.outer_iter_mut().zip(p.outer_iter()).enumerate() {
            let p = &flat(p)[page * PAGE..];
            let seen = (first + t + 1).saturating_sub(page * PAGE).min(values.nrows());
            vectorize(
                #[inline(always)]
                || {
                    sum.fill(A::zero());
                    for (&p, values) in p[..seen].iter().zip(values.outer_iter()) {
                        sum.iter_mut().zip(flat(values)).for_each(|(sum, &v)| *sum += p * v);
                    }
                },
            );
            y.iter_mut().zip(&sum).for_each(|(y, &sum)| *y += sum);
        }
    }
}

/// Cotangents of `q`, `keys` and `values`, given that of `y`; the probabilities P are computed again:
///
/// ```math
/// dP = dy\, V^\top, \quad dS_{ts} = P_{ts} \bigl(dP_{ts} - \textstyle\sum_r P_{tr}\, dP_{tr}\bigr), \quad
/// dQ = \tfrac{dS\, K}{\sqrt{\mathrm{head\_dim}}}, \quad dK = \tfrac{dS^\top Q}{\sqrt{\mathrm{head\_dim}}}, \quad dV = P^\top dy
/// ```
///
/// # Shapes
/// As [`attention`]; `dy`: like `y`.
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
pub fn attention_vjp<A: Real>(
    q: ArrayView2<'_, A>,
    keys: ArrayView2<'_, A>,
    values: ArrayView2<'_, A>,
    heads: Heads,
    dy: ArrayView2<'_, A>,
) -> Result<[Array2<A>; 3]> {
    heads.check(&q, keys.shape(), values.shape())?;
    check_shape("dy", "(len, heads · head_dim)", q.shape(), dy.shape())?;
    let past = keys.nrows() - q.nrows();
    let per = heads.queries / heads.keys;
    let [mut dq, mut d_keys, mut d_values] = [q, keys, values].map(|of| Array2::zeros(of.raw_dim()));
    let work: Vec<(usize, OneHead<'_, A>)> = (dq.axis_chunks_iter_mut(Axis(1), per * heads.head_dim))
        .zip(d_keys.axis_chunks_iter_mut(Axis(1), heads.head_dim))
        .zip(d_values.axis_chunks_iter_mut(Axis(1), heads.head_dim))
        .enumerate()
        .collect();
    parallel::for_each(work, |(g, ((mut dq, mut d_keys), mut d_values))| {
        let [keys, values] = [keys, values].map(|of| of.slice_axis_move(Axis(1), heads.of(g)));
        for k in 0..per {
            let [q, dy] = [q, dy].map(|of| of.slice_axis_move(Axis(1), heads.of(g * per + k)));
            let mut dq = dq.slice_axis_mut(Axis(1), heads.of(k));
            for start in (0..q.nrows()).step_by(BLOCK) {
                let block = start..q.nrows().min(start + BLOCK);
                let seen = past + block.end;
                let [q, dy] = [q, dy].map(|of| of.slice_move(s![block.clone(), ..]));
                let [keys, values] = [keys, values].map(|of| of.slice_move(s![..seen, ..]));
                let p = probabilities(q, keys, past + start, heads.scale());
                add_matmul(d_values.slice_mut(s![..seen, ..]), p.t(), dy);
                let mut ds = matmul(dy, values.t());
                for (mut ds, p) in ds.outer_iter_mut().zip(p.outer_iter()) {
                    let mean = ds.dot(&p);
                    ds.zip_mut_with(&p, |ds, &p| *ds = heads.scale::<A>() * p * (*ds - mean));
                }
                set_matmul(dq.slice_mut(s![block, ..]), ds.view(), keys);
                add_matmul(d_keys.slice_mut(s![..seen, ..]), ds.t(), q);
            }
        }
    });
    Ok([dq, d_keys, d_values])
}

/// Rows of P; row t sees the keys up to position `first + t`.
fn probabilities<A: Real>(
    q: ArrayView2<'_, A>,
    keys: ArrayView2<'_, A>,
    first: usize,
    scale: A,
) -> Array2<A> {
    let mut p = Array2::zeros((q.nrows(), keys.nrows()));
    let (q, keys) = (with_flat_rows(q.into()), with_flat_rows(keys.into()));
    A::add_dots(p.view_mut(), q.view(), keys.view());
    for (t, row) in p.outer_iter_mut().enumerate() {
        let (seen, unseen) = flat_mut(row).split_at_mut(first + t + 1);
        let top = seen.iter().copied().fold(A::neg_infinity(), A::max);
        vectorize(
            #[inline(always)]
            || {
                seen.iter_mut().for_each(|v| *v = (scale * (*v - top)).quick_exp());
                let sum = crate::linalg::sum_of(seen);
                seen.iter_mut().for_each(|v| *v /= sum);
            },
        );
        unseen.fill(A::zero());
    }
    p
}
