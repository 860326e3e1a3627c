//! Kronecker products with a dense block.

use ndarray::{Array2, ArrayView2};

use super::super::hermitian::other_than_hermitian;
use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use super::compose::kronecker;
use crate::error::{Error, Result};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The Kronecker product $`M \otimes X`$ with a dense block of any size; the orders become s times as large, s being the
    /// smaller size of X.
    ///
    /// With $`X = U V^\top`$, where one of U and V is X and the other the identity:
    ///
    /// ```math
    /// A \otimes I_s, \quad B \otimes V^\top, \quad C \otimes U, \quad D \otimes X
    /// ```
    ///
    /// # Shapes
    /// `x`: any; a block of the result has as many rows and columns as the two blocks multiplied together.
    pub fn kronecker(&self, x: ArrayView2<'_, E>) -> Self {
        let x = x.to_owned();
        let (u, v) = if x.nrows() < x.ncols() {
            (Array2::eye(x.nrows()), x.clone())
        } else {
            (x.clone(), Array2::eye(x.ncols()))
        };
        let each = |blocks: &Blocks<E>, factor: &Array2<E>| {
            blocks.iter().map(|m| kronecker(&m.to_owned(), factor)).collect::<Blocks<E>>()
        };
        let transition = self.chain().kronecker_identity(u.ncols());
        Self::from_parts(transition, each(&self.b, &v), each(&self.c, &u), each(&self.d, &x))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The Kronecker product $`M \otimes X`$ with a dense block, see [`Sss::kronecker`].
    ///
    /// # Shapes
    /// `x`: any.
    pub fn kronecker(&self, x: ArrayView2<'_, E>) -> Self {
        Self(self.0.kronecker(x.t().mapv(E::conj).view()))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The Kronecker product $`M \otimes X`$ with a dense block, see [`Sss::kronecker`].
    ///
    /// # Shapes
    /// `x`: any.
    pub fn kronecker(&self, x: ArrayView2<'_, E>) -> Self {
        let upper = self.upper().kronecker(x.t().mapv(E::conj).view());
        Self::new(self.lower().kronecker(x), upper).expect("the blocks of both parts grow alike")
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The Kronecker product $`M \otimes X`$ with a dense Hermitian block, see [`Sss::kronecker`].
    ///
    /// # Shapes
    /// `x`: (size, size).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not square, [`Error::Value`] if it is not Hermitian:
    /// [`to_quasiseparable`](Self::to_quasiseparable) has a product with any block.
    pub fn kronecker(&self, x: ArrayView2<'_, E>) -> Result<Self> {
        if !x.is_square() {
            return Err(Error::shape("x", "a square block", x.shape()));
        }
        if let Some(found) = other_than_hermitian(x) {
            return Err(Error::Value { tensor: "x", expected: "a Hermitian block", found });
        }
        Ok(Self::from_lower(self.lower().kronecker(x)))
    }
}
