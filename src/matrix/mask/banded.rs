//! The banded mask: ones near the diagonal.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use crate::error::Result;
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

/// The mask of windowed attention, a band of ones.
///
/// ```math
/// L_{ij} = 1 \quad (-\mathrm{upper} \le i - j \le \mathrm{lower}), \qquad L_{ij} = 0 \text{ elsewhere}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banded {
    shape: (usize, usize),
    lower: usize,
    upper: usize,
}

impl Banded {
    /// The mask with `lower` diagonals of ones below the main one and `upper` above it.
    pub fn new(rows: usize, columns: usize, lower: usize, upper: usize) -> Self {
        // Bandwidths beyond the matrix mean the same as those that reach its corners.
        let (lower, upper) = (lower.min(rows), upper.min(columns));
        Self { shape: (rows, columns), lower, upper }
    }

    fn transposed(self) -> Self {
        Self { shape: (self.shape.1, self.shape.0), lower: self.upper, upper: self.lower }
    }

    /// Sums over windows of one width, without the differences of a cumulative sum, which cancel: blocks of
    /// that width are summed from either end, and a window is the end of one block and the beginning of the
    /// next (van Herk 1992).
    fn window_sums<E: Field>(self, x: ArrayView2<'_, E>) -> Array2<E> {
        let ((rows, columns), k) = (self.shape, x.ncols());
        let width = self.lower + 1 + self.upper;
        // Row i sees rows i .. i + width of x with `lower` rows of zeros before it, and as many behind it as
        // it takes.
        let mut from_front = Array2::zeros((rows + width - 1, k));
        let inside = columns.min(rows + self.upper);
        let at = self.lower..self.lower + inside;
        from_front.slice_mut(s![at, ..]).assign(&x.slice(s![..inside, ..]));
        let mut from_back = from_front.clone();
        for block in from_front.axis_chunks_iter_mut(Axis(0), width) {
            accumulate(block);
        }
        for mut block in from_back.axis_chunks_iter_mut(Axis(0), width) {
            block.invert_axis(Axis(0));
            accumulate(block);
        }
        let mut y = from_back.slice_move(s![..rows, ..]);
        for (i, mut row) in y.outer_iter_mut().enumerate() {
            if i % width != 0 {
                row += &from_front.row(i + width - 1);
            }
        }
        y
    }
}

fn accumulate<E: Field>(mut block: ArrayViewMut2<'_, E>) {
    block.accumulate_axis_inplace(Axis(0), |&before, row| *row += before);
}

impl<E: Field> StructuredMatrix<E> for Banded {
    type Gradient = ();

    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::from_shape_fn(self.shape, |(i, j)| {
            if i <= j + self.lower && j <= i + self.upper { E::one() } else { E::zero() }
        })
    }

    /// Sums over windows; O(rows + columns) a column, whatever the bandwidth.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.shape.1, x)?;
        Ok(self.window_sums(x))
    }

    /// Sums over windows; O(rows + columns) a column, whatever the bandwidth.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.shape.0, y)?;
        Ok(self.transposed().window_sums(y))
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<((), Array2<E>)> {
        check::vjp_operands(self.shape, x, dy)?;
        Ok(((), self.adjoint_matmul(dy)?))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<()> {
        check::dense_cotangent(self.shape, d_dense)
    }
}
