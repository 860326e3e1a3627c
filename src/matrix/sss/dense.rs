//! All entries, from the definition.

use ndarray::{Array2, s};

use super::Sss;
use crate::linalg::matmul;
use crate::scalar::Field;

/// Block column after block column: D_j, then C_i W with W = B_j, A_{j+1} B_j, A_{j+2} A_{j+1} B_j, ..
pub(super) fn dense<E: Field>(m: &Sss<E>) -> Array2<E> {
    let (rows, columns) = (m.row_offsets(), m.column_offsets());
    let mut dense = Array2::zeros((m.rows(), m.columns()));
    for j in 0..m.len() {
        let mut strip = dense.slice_mut(s![.., columns[j]..columns[j + 1]]);
        strip.slice_mut(s![rows[j]..rows[j + 1], ..]).assign(&m.d(j));
        let mut w = m.b(j).to_owned();
        for i in j + 1..m.len() {
            strip.slice_mut(s![rows[i]..rows[i + 1], ..]).assign(&matmul(m.c(i), w.view()));
            w = m.apply_a(i, w.view());
        }
    }
    dense
}
