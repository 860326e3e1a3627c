//! The state of a recurrence: one row per state dimension, one column per right-hand side.

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

    pub(super) fn row(&self, n: usize) -> &[E] {
        &self.values[n * self.columns..(n + 1) * self.columns]
    }

    pub(super) fn row_mut(&mut self, n: usize) -> &mut [E] {
        &mut self.values[n * self.columns..(n + 1) * self.columns]
    }

    /// `h += b xᵀ`
    pub(super) fn add_outer(&mut self, b: impl Iterator<Item = E>, x: &[E]) {
        for (n, b) in b.enumerate() {
            axpy(self.row_mut(n), b, x);
        }
    }

    /// `y += cᵀ h`
    pub(super) fn add_read(&self, c: impl Iterator<Item = E>, y: &mut [E]) {
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
pub(super) fn axpy<E: Field>(y: &mut [E], a: E, x: &[E]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * *x;
    }
}

/// `Σ_p u_p conj(v_p)`
pub(super) fn dot_conj<E: Field>(u: &[E], v: &[E]) -> E {
    u.iter().zip(v).map(|(u, v)| *u * v.conj()).sum()
}
