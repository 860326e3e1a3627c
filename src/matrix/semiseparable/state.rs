//! The state of a recurrence: one row per state dimension, one column per right-hand side.
//!
//! The loops here are inlined into the algorithms, which run under [`vectorize`](crate::linalg::vectorize).

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::scalar::Field;

/// A state h, (order, columns), row after row, with the working memory that steps on it need.
#[derive(Debug, Clone)]
pub struct State<E> {
    pub(super) values: Vec<E>,
    pub(super) scratch: Vec<E>,
    pub(super) order: usize,
    pub(super) columns: usize,
}

impl<E: Field> State<E> {
    pub(super) fn zeros(order: usize, columns: usize) -> Self {
        Self { values: vec![E::zero(); order * columns], scratch: Vec::new(), order, columns }
    }

    #[inline(always)]
    pub(super) fn row(&self, n: usize) -> &[E] {
        &self.values[n * self.columns..(n + 1) * self.columns]
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, n: usize) -> &mut [E] {
        &mut self.values[n * self.columns..(n + 1) * self.columns]
    }

    /// `h += b xᵀ`
    #[inline(always)]
    pub(super) fn add_outer(&mut self, b: impl Iterator<Item = E>, x: &[E]) {
        if let [x] = x {
            self.values.iter_mut().zip(b).for_each(|(h, b)| *h += b * *x);
            return;
        }
        for (n, b) in b.enumerate() {
            axpy(self.row_mut(n), b, x);
        }
    }

    /// `y += cᵀ h`
    #[inline(always)]
    pub(super) fn add_read(&self, c: impl Iterator<Item = E>, y: &mut [E]) {
        if let [y] = y {
            *y += self.values.iter().zip(c).map(|(h, c)| c * *h).sum();
            return;
        }
        for (n, c) in c.enumerate() {
            axpy(y, c, self.row(n));
        }
    }

    pub(super) fn view(&self) -> ArrayView2<'_, E> {
        view(&self.values, self.order, self.columns)
    }

    pub(super) fn view_mut(&mut self) -> ArrayViewMut2<'_, E> {
        view_mut(&mut self.values, self.order, self.columns)
    }
}

/// `values` as (rows, columns).
pub(super) fn view<E>(values: &[E], rows: usize, columns: usize) -> ArrayView2<'_, E> {
    ArrayView2::from_shape((rows, columns), values).expect("a state has order * columns numbers")
}

/// `values` as (rows, columns).
pub(super) fn view_mut<E>(values: &mut [E], rows: usize, columns: usize) -> ArrayViewMut2<'_, E> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("a state has order * columns numbers")
}

/// `y += a x`
#[inline(always)]
pub(super) fn axpy<E: Field>(y: &mut [E], a: E, x: &[E]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * *x;
    }
}

/// `Σ_p u_p conj(v_p)`, in eight sums that do not wait for one another.
#[inline(always)]
pub(super) fn dot_conj<E: Field>(u: &[E], v: &[E]) -> E {
    const LANES: usize = 8;
    let ((u, u_rest), (v, v_rest)) = (u.as_chunks::<LANES>(), v.as_chunks::<LANES>());
    let mut sums = [E::zero(); LANES];
    for (u, v) in u.iter().zip(v) {
        for l in 0..LANES {
            sums[l] += u[l] * v[l].conj();
        }
    }
    let mut sum = sums.into_iter().sum();
    for (u, v) in u_rest.iter().zip(v_rest) {
        sum += *u * v.conj();
    }
    sum
}
