//! Numerical ranks of the maximal blocks of a dense matrix.

use ndarray::{ArrayView2, s};

use crate::error::{Error, Result, check_shape};
use crate::linalg::singular_values;
use crate::scalar::Field;

/// Whether the main diagonal belongs to what is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainDiagonal {
    /// Blocks `M[k:, :k+1]`: the paper's N-semiseparable matrices (Definition 3.1).
    Included,
    /// Blocks `M[k:, :k]`, the Hankel blocks: matrices with a free diagonal.
    Excluded,
}

/// Numerical ranks of the maximal blocks below the diagonal of any square matrix.
///
/// A singular value counts if it exceeds `tolerance` times the largest one of its block. With
/// [`MainDiagonal::Included`] there is one block for each row k, with [`MainDiagonal::Excluded`] one for each k ≥ 1.
/// O(len⁴) time.
///
/// # Errors
/// [`Error::Shape`] if `m` is not square, [`Error::Value`] if it holds a number that is not finite, [`Error::Config`] if
/// `tolerance` is negative or no number.
pub fn maximal_block_ranks<E: Field>(
    m: ArrayView2<'_, E>,
    diagonal: MainDiagonal,
    tolerance: f64,
) -> Result<Vec<usize>> {
    let (len, extra) = (m.nrows(), usize::from(diagonal == MainDiagonal::Included));
    check_shape("m", "(len, len)", &[len, len], m.shape())?;
    if tolerance.is_nan() || tolerance < 0.0 {
        let reason = format!("expected a number of at least 0, found {tolerance}");
        return Err(Error::Config { field: "tolerance", reason });
    }
    (1 - extra..len)
        .map(|k| {
            let values = singular_values(m.slice(s![k.., ..k + extra])).ok_or_else(|| Error::Value {
                tensor: "m",
                expected: "finite numbers",
                found: format!("a number that is not, in block {k}"),
            })?;
            let largest = values.first().copied().unwrap_or(0.0);
            Ok(values.iter().filter(|v| **v > tolerance * largest).count())
        })
        .collect()
}
