//! Checks at the doors of the matrices: each names the tensor, what was expected and what was found.

use ndarray::{ArrayView1, ArrayView2};

use crate::error::{Error, Result, check_shape};
use crate::scalar::Field;

/// An operand with `rows` rows and any number of columns.
pub(crate) fn operand<E>(tensor: &'static str, rows: usize, x: ArrayView2<'_, E>) -> Result<()> {
    if x.nrows() == rows {
        return Ok(());
    }
    Err(Error::shape(tensor, format!("({rows}, any number of columns)"), x.shape()))
}

/// The operands of a vjp: `x` (columns, k) and `dy` (rows, k) for a matrix of shape (rows, columns).
pub(crate) fn vjp_operands<E>(
    (rows, columns): (usize, usize),
    x: ArrayView2<'_, E>,
    dy: ArrayView2<'_, E>,
) -> Result<()> {
    operand("x", columns, x)?;
    check_shape("dy", "(rows, columns of x)", &[rows, x.ncols()], dy.shape())
}

/// The cotangent of a dense form of shape (rows, columns).
pub(crate) fn dense_cotangent<E>((rows, columns): (usize, usize), d_dense: ArrayView2<'_, E>) -> Result<()> {
    check_shape("d_dense", "(rows, columns)", &[rows, columns], d_dense.shape())
}

/// Neither infinity nor NaN, in no component.
pub(crate) fn is_finite<E: Field>(value: E) -> bool {
    (value * E::zero()).is_zero()
}

/// A vector of finite numbers.
pub(crate) fn finite<E: Field>(tensor: &'static str, values: ArrayView1<'_, E>) -> Result<()> {
    match values.iter().position(|&v| !is_finite(v)) {
        None => Ok(()),
        Some(i) => {
            Err(Error::Value { tensor, expected: "finite numbers", found: format!("{} at {i}", values[i]) })
        }
    }
}
