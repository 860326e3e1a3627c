//! The 1-norm and the ∞-norm of any structured matrix, exact, by all of its columns.

use ndarray::{Array2, s};

use super::estimate::Map;
use crate::error::Result;
use crate::matrix::StructuredMatrix;
use crate::scalar::{Field, larger};

/// Columns that one product finds.
const COLUMNS: usize = 32;

impl<E: Field> Map<'_, E> {
    /// The largest sum of absolute values in a column: products with unit vectors, some columns at a time.
    fn norm_one_exact(&self) -> Result<f64> {
        let n = self.shape.1;
        let mut most = 0.0;
        for start in (0..n).step_by(COLUMNS) {
            let width = COLUMNS.min(n - start);
            let mut unit = Array2::zeros((n, width));
            unit.slice_mut(s![start.., ..]).diag_mut().fill(E::one());
            let columns = (self.times)(unit.view())?;
            most = columns.columns().into_iter().map(super::estimate::absolute_sum).fold(most, larger);
        }
        Ok(most)
    }
}

/// The 1-norm of a matrix, the largest sum of absolute values in a column, exact up to rounding.
///
/// Every entry is computed, a few columns at a time: for a semiseparable matrix of n rows that is O(n² · order) time and O(n)
/// memory. No way is known that takes less for general generators. A column is the output of the states that follow one
/// input; the sum of their absolute values is linear in the state only where no sign changes, so no vector carried from
/// step to step holds it, except where two terms of an entry cannot cancel: orders up to one and nonnegative generators.
/// There, and as bounds elsewhere, `norm_one` of the matrices is linear in n.
///
/// # Errors
/// Those of the products.
///
/// # Example
/// ```
/// use ndarray::array;
/// use semisep::matrix::sss::{Sss, Transition, norm_inf_exact, norm_one_exact};
///
/// let (b, c) = (array![[1.0, 1.0], [1.0, 1.0]], array![[0.0, 0.0], [2.0, -3.0]]);
/// let m = Sss::uniform(Transition::Identity, b, c, array![1.0, 1.0])?; // [[1, 0], [-1, 1]]
/// assert_eq!((norm_one_exact(&m)?, norm_inf_exact(&m)?), (2.0, 2.0));
/// assert!(m.norm_one()?.upper > 2.0); // a bound: the two terms of -1 cancel
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn norm_one_exact<E: Field, M: StructuredMatrix<E>>(m: &M) -> Result<f64> {
    Map::of(m).norm_one_exact()
}

/// The ∞-norm of a matrix, the largest sum of absolute values in a row, exact up to rounding: the 1-norm of the adjoint, see
/// [`norm_one_exact`].
///
/// # Errors
/// Those of the products.
pub fn norm_inf_exact<E: Field, M: StructuredMatrix<E>>(m: &M) -> Result<f64> {
    Map::of(m).adjoint().norm_one_exact()
}
