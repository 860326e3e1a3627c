//! Small matrices as numbers row after row, in memory that is used again from step to step.

use crate::linalg::add_flat_product;
use crate::scalar::Field;

/// `out = a b`; `b`: `shape`, out: (rows, columns of b).
pub(super) fn set_product<E: Field>(out: &mut Vec<E>, a: &[E], b: &[E], shape: (usize, usize), rows: usize) {
    refill(out, rows * shape.1);
    add_flat_product(out, a, b, shape);
}

/// `size` zeros in the same memory.
#[inline(always)]
pub(super) fn refill<E: Field>(values: &mut Vec<E>, size: usize) {
    values.clear();
    values.resize(size, E::zero());
}

/// The adjoint of a matrix with so many columns.
pub(super) fn turn<E: Field>(a: &[E], columns: usize, out: &mut Vec<E>) {
    refill(out, a.len());
    let rows = a.len().checked_div(columns).unwrap_or(0);
    for (i, row) in a.chunks_exact(columns.max(1)).enumerate() {
        out[i..].iter_mut().step_by(rows).zip(row).for_each(|(out, a)| *out = a.conj());
    }
}
