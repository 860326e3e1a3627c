//! Two-sided matrices: a lower part, a diagonal and an upper part.

use ndarray::{Array2, ArrayView2};

use super::recurrent::{self, flat_mut, slice, standard};
use super::{Blocks, Sss, multiply};
use crate::error::{Error, Result, check_shape};
use crate::matrix::{Cotangent, MainDiagonal, StructuredMatrix, check};
use crate::scalar::Field;

/// A block matrix with blocks of low rank on both sides of its diagonal.
///
/// ```math
/// M = L + \mathrm{tril}(V, -1)^H, \qquad
/// M_{ij} = \begin{cases} C_i A_{i-1} \cdots A_{j+1} B_j & i > j \\ D_i & i = j \\
/// G_i E_{i+1} \cdots E_{j-1} F_j & i < j \end{cases}
/// ```
///
/// `lower` is L and carries the whole diagonal; `upper` is the lower matrix V whose strictly lower part is the adjoint of
/// the upper part: $`E_k = A_k^H, F_k = C_k^H, G_k = B_k^H`$ in its generators. Its own diagonal is not used and is kept
/// zero.
///
/// # Example
/// ```
/// use ndarray::{Array1, Array2, array};
/// use semisep::matrix::StructuredMatrix;
/// use semisep::matrix::sss::{Quasiseparable, Sss, Transition};
///
/// let part = |b: f64| {
///     let (b, c) = (Array2::from_elem((3, 1), b), Array2::ones((3, 1)));
///     Sss::uniform(Transition::Identity, b, c, array![7.0, 8.0, 9.0])
/// };
/// let m = Quasiseparable::new(part(1.0)?, part(2.0)?)?;
/// assert_eq!(m.to_dense(), array![[7.0, 2.0, 2.0], [1.0, 8.0, 2.0], [1.0, 1.0, 9.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Quasiseparable<E> {
    lower: Sss<E>,
    upper: Sss<E>,
}

impl<E: Field> Quasiseparable<E> {
    /// The matrix `lower` + the adjoint of the strictly lower part of `upper`; the diagonal of `upper` is dropped.
    ///
    /// # Shapes
    /// Step k of `upper` takes in what step k of `lower` yields, and yields what that takes in.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the step if they do not.
    pub fn new(lower: Sss<E>, mut upper: Sss<E>) -> Result<Self> {
        check_shape("upper", "(steps of lower)", &[lower.len()], &[upper.len()])?;
        for k in 0..lower.len() {
            let (rows, columns) = upper.d.dims(k);
            if (columns, rows) != lower.d.dims(k) {
                let (outputs, inputs) = lower.d.dims(k);
                let expected = format!(
                    "{:?} at step {k}: a diagonal block as in the adjoint of lower",
                    (inputs, outputs)
                );
                return Err(Error::shape("upper", expected, &[rows, columns]));
            }
        }
        upper.d.flat_mut().fill(E::zero());
        Ok(Self { lower, upper })
    }

    /// Lower part and diagonal.
    pub fn lower(&self) -> &Sss<E> {
        &self.lower
    }

    /// The matrix whose strictly lower part is the adjoint of the upper part; its diagonal is zero.
    pub fn upper(&self) -> &Sss<E> {
        &self.upper
    }

    /// The two parts, as [`new`](Self::new) takes them.
    pub fn into_parts(self) -> (Sss<E>, Sss<E>) {
        (self.lower, self.upper)
    }

    /// The diagonal blocks.
    pub fn diagonal_blocks(&self) -> &Blocks<E> {
        self.lower.d_blocks()
    }

    /// Number of steps, which is that of block rows and of block columns.
    pub fn len(&self) -> usize {
        self.lower.len()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.lower.is_empty()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lower.rows()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.lower.columns()
    }
}

impl<E: Field> StructuredMatrix<E> for Quasiseparable<E> {
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.columns())
    }

    fn to_dense(&self) -> Array2<E> {
        self.lower.to_dense() + self.upper.to_dense().t().mapv(E::conj)
    }

    /// One pass forward for the lower part and the diagonal, one backward for the upper part.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.columns(), x)?;
        let x = standard(x);
        let mut y = Array2::zeros((self.rows(), x.ncols()));
        multiply::two_sided(self, (slice(&x), x.ncols()), flat_mut(&mut y));
        Ok(y)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.rows(), y)?;
        let y = standard(y);
        let mut x = Array2::zeros((self.columns(), y.ncols()));
        multiply::two_sided_adjoint(self, (slice(&y), y.ncols()), flat_mut(&mut x));
        Ok(x)
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        let (x, dy) = (standard(x), standard(dy));
        let (x, dy, width) = (slice(&x), slice(&dy), x.ncols());
        let (mut lower, mut upper) = (self.lower.zeros_like(), self.upper.zeros_like());
        let mut dx = Array2::zeros((self.columns(), width));
        recurrent::vjp(&self.lower, MainDiagonal::Included, (x, dy, width), &mut lower, flat_mut(&mut dx));
        // For an adjoint x and dy change places; dx is then the forward product with dy.
        let mut unused = Array2::zeros((self.rows(), width));
        let operands = (dy, x, width);
        recurrent::vjp(&self.upper, MainDiagonal::Excluded, operands, &mut upper, flat_mut(&mut unused));
        recurrent::forward(&self.upper, MainDiagonal::Excluded, dy, width, flat_mut(&mut dx));
        Ok((Self { lower, upper }, dx))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        check::dense_cotangent(self.shape(), d_dense)?;
        let (mut lower, mut upper) = (self.lower.zeros_like(), self.upper.zeros_like());
        recurrent::pull_back(&self.lower, MainDiagonal::Included, d_dense, &mut lower);
        let adjoint = d_dense.t().mapv(E::conj);
        recurrent::pull_back(&self.upper, MainDiagonal::Excluded, adjoint.view(), &mut upper);
        Ok(Self { lower, upper })
    }
}

impl<E: Field> Cotangent for Quasiseparable<E> {
    fn accumulate(&mut self, other: &Self) {
        self.lower.accumulate(&other.lower);
        self.upper.accumulate(&other.upper);
    }
}
