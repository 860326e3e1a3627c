//! Checks before a factor is renewed for another diagonal: what it keeps of its matrix must be there again.

use super::super::{Blocks, Sss};
use crate::error::{Error, Result, check_shape};
use crate::scalar::Field;

/// That m, a part of a matrix, has the shapes, transition and C of `factor`; these are called by the two names.
pub(super) fn check_kept<E: Field>(
    m: &Sss<E>,
    factor: &Sss<E>,
    (transition, c): (&'static str, &'static str),
) -> Result<()> {
    check_sizes("m", &m.d, factor)?;
    if m.orders() != factor.orders() {
        return Err(Error::shape("m", "the orders of the factored matrix", m.orders()));
    }
    let same = [(transition, m.transition.same(&factor.transition)), (c, m.c.same(&factor.c))];
    match same.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((tensor, _)) => {
            Err(Error::Value { tensor, expected: "those of the factored matrix", found: "others".into() })
        }
    }
}

/// That blocks have the sizes of those on the diagonal of `factor`.
pub(super) fn check_sizes<E: Field>(tensor: &'static str, blocks: &Blocks<E>, factor: &Sss<E>) -> Result<()> {
    check_shape(tensor, "(steps of the factor)", &[factor.len()], &[blocks.len()])?;
    if blocks.same_sizes(&factor.d) {
        return Ok(());
    }
    for k in 0..blocks.len() {
        let ((rows, columns), found) = (factor.d.dims(k), blocks.dims(k));
        if found != (rows, columns) {
            let expected = format!("a block of size {rows} x {columns} at step {k}");
            return Err(Error::shape(tensor, expected, &[found.0, found.1]));
        }
    }
    Ok(())
}
