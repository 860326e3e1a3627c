//! Embedding: a row of a table for each token.

use ndarray::{Array2, ArrayView2, Axis};

use super::Weight;
use crate::error::{Error, Result, check_shape};
use crate::linalg::flat_mut;
use crate::scalar::Real;

/// Row `tokens[t]` of the table at position t: (len, columns).
///
/// # Errors
/// [`Error::Value`] if the table has no such row.
///
/// # Examples
/// ```
/// use ndarray::array;
/// use semisep::nn::{Weight, embedding};
/// let table = Weight::from(array![[1.0, 2.0], [3.0, 4.0]]);
/// assert_eq!(embedding(&table, &[1, 1])?, array![[3.0, 4.0], [3.0, 4.0]]);
/// assert!(embedding(&table, &[2]).is_err());
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn embedding<A: Real>(table: &Weight<A>, tokens: &[u32]) -> Result<Array2<A>> {
    check_tokens(tokens, table.rows())?;
    let mut rows = Array2::zeros((tokens.len(), table.columns()));
    for (&token, row) in tokens.iter().zip(rows.outer_iter_mut()) {
        table.read_row(token as usize, flat_mut(row));
    }
    Ok(rows)
}

/// Adds `dy`, the cotangent of the rows, to the cotangent of the table.
///
/// # Shapes
/// `dy`: (len, columns); `d_table`: as the table.
///
/// # Errors
/// [`Error::Value`] and [`Error::Shape`] as the shapes say.
pub fn embedding_vjp<A: Real>(tokens: &[u32], dy: ArrayView2<'_, A>, d_table: &mut Array2<A>) -> Result<()> {
    check_tokens(tokens, d_table.nrows())?;
    check_shape("dy", "(len, columns)", &[tokens.len(), d_table.ncols()], dy.shape())?;
    for (&token, dy) in tokens.iter().zip(dy.outer_iter()) {
        let mut row = d_table.index_axis_mut(Axis(0), token as usize);
        row += &dy;
    }
    Ok(())
}

/// `Ok` if every token is a row of a table of so many.
pub(crate) fn check_tokens(tokens: &[u32], rows: usize) -> Result<()> {
    match tokens.iter().position(|&token| token as usize >= rows) {
        None => Ok(()),
        Some(t) => Err(Error::Value {
            tensor: "input_ids",
            expected: "tokens of the vocabulary",
            found: format!("{} at position {t}, of a vocabulary of {rows}", tokens[t]),
        }),
    }
}
