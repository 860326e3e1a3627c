//! Products: the ways to multiply, and which loop takes which matrix.

mod column;
mod columns;
mod partition;
pub(super) mod regroup;
mod two_pass;
mod uniform;

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::kernels::Apply;
use super::recurrent::{flat_mut, slice, standard};
use super::{HermitianQuasiseparable, Quasiseparable, Sss, Upper, recurrent};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{Into, matmul};
use crate::matrix::{MainDiagonal, StructuredMatrix, check};
use crate::scalar::Field;
use uniform::Uniform;

pub use partition::Partition;

/// How to multiply by a semiseparable matrix; never changes the answer beyond rounding, unless products of the transitions
/// of a block or a piece overflow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Multiply {
    /// [`Recurrent`](Self::Recurrent), in registers where entries are numbers, transitions elementwise and columns one or
    /// many.
    #[default]
    Automatic,
    /// Forms the matrix: memory for all entries, for tests and short sequences.
    Dense,
    /// Step by step, paper equation (2).
    Recurrent,
    /// By block decomposition, paper section 6: the steps of each block are merged into one
    /// ([`Sss::regroup`]), one block at a time.
    Blocks(Partition),
    /// In this many pieces of the time axis that run side by side, in two passes: about twice the work, divided by the
    /// threads. For a fixed number of pieces the result does not depend on the number of threads.
    TwoPass {
        /// Number of pieces, at least one.
        pieces: usize,
    },
}

/// From this many columns on they fill enough of a vector.
const MANY_COLUMNS: usize = 4;

/// `y = M x` or `y += M x`, or with the transposed or adjoint M, by the fastest recurrence.
pub(super) fn run<E: Field>(
    m: &Sss<E>,
    how: Apply,
    diagonal: MainDiagonal,
    (x, width): (&[E], usize),
    into: Into,
    y: &mut [E],
) {
    match Uniform::of(m, how, diagonal) {
        Some(u) if width == 1 => return column::multiply(u, into, x, y),
        Some(u) if width >= MANY_COLUMNS => return columns::multiply(u, into, (x, width), y),
        _ => {}
    }
    if into == Into::Replace {
        y.fill(E::zero());
    }
    match how {
        Apply::Plain => recurrent::forward(m, diagonal, x, width, y),
        _ => recurrent::reverse(m, how, diagonal, (x, width), y),
    }
}

impl<E: Field> Sss<E> {
    /// `M x` in the given way. `x`: (columns, k); result: (rows, k).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another number of rows; [`Error::Config`] if a partition does not fit or there are no
    /// pieces.
    pub fn multiply(&self, x: ArrayView2<'_, E>, how: &Multiply) -> Result<Array2<E>> {
        check::operand("x", self.columns(), x)?;
        let x = standard(x);
        let (mut y, width) = (Array2::zeros((self.rows(), x.ncols())), x.ncols());
        let operand = (slice(&x), width);
        let out = flat_mut(&mut y);
        match how {
            Multiply::Automatic => {
                run(self, Apply::Plain, MainDiagonal::Included, operand, Into::Replace, out)
            }
            Multiply::Dense => return Ok(matmul(self.to_dense().view(), x.view())),
            Multiply::Recurrent => recurrent::forward(self, MainDiagonal::Included, operand.0, width, out),
            Multiply::Blocks(partition) => {
                regroup::multiply(self, &partition.ranges(self.len())?, operand, out);
            }
            Multiply::TwoPass { pieces: 0 } => {
                return Err(Error::Config { field: "pieces", reason: "there is at least one piece".into() });
            }
            Multiply::TwoPass { pieces } => two_pass::multiply(self, *pieces, operand, out),
        }
        Ok(y)
    }

    /// `Mᵀ y`, the transpose and not the adjoint. `y`: (rows, k); result: (columns, k).
    ///
    /// # Errors
    /// [`Error::Shape`] if `y` has another number of rows.
    pub fn transpose_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.rows(), y)?;
        let y = standard(y);
        let mut x = Array2::zeros((self.columns(), y.ncols()));
        let operand = (slice(&y), y.ncols());
        run(self, Apply::Transposed, MainDiagonal::Included, operand, Into::Replace, flat_mut(&mut x));
        Ok(x)
    }
}

/// The products of one type: into memory that is already there, and from the left.
macro_rules! impl_products {
    ($($matrix:ty, $apply:expr, $transposed:expr;)*) => {$(
        impl<E: Field> $matrix {
            /// `y = M x` into memory that is already there. `x`: (columns, k); `y`: (rows, k), rows contiguous and one
            /// behind another, or else a copy is made.
            ///
            /// # Errors
            /// [`Error::Shape`] if `x` or `y` has another shape.
            pub fn matmul_into(&self, x: ArrayView2<'_, E>, mut y: ArrayViewMut2<'_, E>) -> Result<()> {
                let (rows, columns) = self.shape();
                check::operand("x", columns, x)?;
                check_shape("y", "(rows, columns of x)", &[rows, x.ncols()], y.shape())?;
                let x = standard(x);
                match y.as_slice_mut() {
                    Some(y) => $apply(self, (slice(&x), x.ncols()), y),
                    None => y.assign(&self.matmul(x.view())?),
                }
                Ok(())
            }

            /// `z M`, the product from the left. `z`: (k, rows); result: (k, columns).
            ///
            /// # Errors
            /// [`Error::Shape`] if `z` has another number of columns.
            pub fn left_matmul(&self, z: ArrayView2<'_, E>) -> Result<Array2<E>> {
                let rows = self.shape().0;
                if z.ncols() != rows {
                    return Err(Error::shape("z", format!("(any number of rows, {rows})"), z.shape()));
                }
                Ok($transposed(self, z.reversed_axes())?.reversed_axes())
            }
        }
    )*};
}

/// Rows of numbers and how many there are in each.
type Operand<'a, E> = (&'a [E], usize);

fn lower<E: Field>(m: &Sss<E>, x: Operand<'_, E>, y: &mut [E]) {
    run(m, Apply::Plain, MainDiagonal::Included, x, Into::Replace, y);
}

fn upper<E: Field>(m: &Upper<Sss<E>>, x: Operand<'_, E>, y: &mut [E]) {
    run(&m.0, Apply::Adjoint, MainDiagonal::Included, x, Into::Replace, y);
}

/// One pass forward for the lower part and the diagonal, one backward for the upper part.
pub(super) fn two_sided<E: Field>(m: &Quasiseparable<E>, x: Operand<'_, E>, y: &mut [E]) {
    run(m.lower(), Apply::Plain, MainDiagonal::Included, x, Into::Replace, y);
    run(m.upper(), Apply::Adjoint, MainDiagonal::Excluded, x, Into::Add, y);
}

/// The two passes of the adjoint.
pub(super) fn two_sided_adjoint<E: Field>(m: &Quasiseparable<E>, x: Operand<'_, E>, y: &mut [E]) {
    run(m.lower(), Apply::Adjoint, MainDiagonal::Included, x, Into::Replace, y);
    run(m.upper(), Apply::Plain, MainDiagonal::Excluded, x, Into::Add, y);
}

/// One pass forward for the lower part and the diagonal, one backward for the upper part.
pub(super) fn hermitian<E: Field>(m: &HermitianQuasiseparable<E>, x: Operand<'_, E>, y: &mut [E]) {
    run(m.lower(), Apply::Plain, MainDiagonal::Included, x, Into::Replace, y);
    run(m.lower(), Apply::Adjoint, MainDiagonal::Excluded, x, Into::Add, y);
}

/// `Mᵀ y = conj(Mᴴ conj(y))`
fn transposed<E: Field, M: StructuredMatrix<E>>(m: &M, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
    Ok(m.adjoint_matmul(y.mapv(E::conj).view())?.mapv_into(E::conj))
}

impl_products!(
    Sss<E>, lower, Sss::transpose_matmul;
    Upper<Sss<E>>, upper, transposed;
    Quasiseparable<E>, two_sided, transposed;
    HermitianQuasiseparable<E>, hermitian, transposed;
);
