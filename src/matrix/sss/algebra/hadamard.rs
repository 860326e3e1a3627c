//! Products entry by entry.

use ndarray::{Array2, ArrayView2};

use super::super::{HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use super::sum::{check_blocks, zip};
use crate::error::Result;
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The product entry by entry with a matrix of the same block sizes; orders multiply.
    ///
    /// ```math
    /// A = A_1 \otimes A_2, \quad B = B_1 \odot B_2 \text{ (columns)}, \quad C = C_1 \bullet C_2 \text{ (rows)}, \quad
    /// D = D_1 \circ D_2
    /// ```
    /// with ⊙ and • the Kronecker products of columns and of rows. Scalar and diagonal transitions stay so where the
    /// orders of `other` stay from step to step. With a mask of order 1 this is masked attention.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn hadamard(&self, other: &Self) -> Result<Self> {
        check_blocks("other", &self.d, &other.d)?;
        let mut d = self.d.clone();
        d.flat_mut().iter_mut().zip(other.d.flat()).for_each(|(d, e)| *d *= *e);
        Ok(Self::from_parts(
            self.chain().kronecker(other.chain()),
            zip(&self.b, &other.b, columnwise),
            zip(&self.c, &other.c, |a, b| columnwise(a.reversed_axes(), b.reversed_axes()).reversed_axes()),
            d,
        ))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The product entry by entry with an upper matrix of the same block sizes; orders multiply.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn hadamard(&self, other: &Self) -> Result<Self> {
        Ok(Self(self.0.hadamard(&other.0)?))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The product entry by entry with a matrix of the same block sizes; orders multiply on both sides.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn hadamard(&self, other: &Self) -> Result<Self> {
        Self::new(self.lower().hadamard(other.lower())?, self.upper().hadamard(other.upper())?)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The product entry by entry with a Hermitian matrix of the same block sizes; orders multiply.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn hadamard(&self, other: &Self) -> Result<Self> {
        Ok(Self::from_lower(self.lower().hadamard(other.lower())?))
    }
}

/// The Kronecker product of every pair of columns.
fn columnwise<E: Field>(a: ArrayView2<'_, E>, b: ArrayView2<'_, E>) -> Array2<E> {
    let rows = b.nrows();
    Array2::from_shape_fn((a.nrows() * rows, a.ncols()), |(i, j)| a[[i / rows, j]] * b[[i % rows, j]])
}
