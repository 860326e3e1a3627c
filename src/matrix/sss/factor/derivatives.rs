//! Derivatives of solutions.

use ndarray::{Array2, ArrayView2};

use super::super::{HermitianQuasiseparable, Quasiseparable, Sss};
use super::{Cholesky, Ldl, TwoSidedQr};
use crate::error::Result;
use crate::linalg::{adjoint, inverse};
use crate::matrix::{StructuredMatrix, check};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// Cotangents of the generators and of y, given the cotangent `dx` of the solution x of `M x = y`.
    ///
    /// ```math
    /// g = M^{-H} \mathrm{d}x, \qquad \mathrm{d}y = g, \qquad \mathrm{d}M = -g\, x^H
    /// ```
    ///
    /// and dM is read through the generators as in the vjp of a product with the input x and the cotangent -g.
    ///
    /// # Shapes
    /// `y`: (rows, width); `dx`: (columns, width).
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn solve_vjp(&self, y: ArrayView2<'_, E>, dx: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), dx, y)?;
        let x = self.solve(y)?;
        through(self, x, self.solve_adjoint(dx)?)
    }

    /// Cotangents of the generators, given the cotangent of the logarithm of the modulus of the determinant:
    /// $`\mathrm{d}D_k = w D_k^{-H}`$, and zero for the others.
    ///
    /// # Errors
    /// As [`log_determinant`](Self::log_determinant).
    pub fn log_determinant_vjp(&self, weight: E::Real) -> Result<Self> {
        super::check_square(self)?;
        let mut grad = self.zeros_like();
        for (k, d) in self.d.iter().enumerate() {
            let inverse = inverse(d).ok_or_else(|| super::singular(d, k))?;
            let weighted = adjoint(inverse.view()).mapv(|v| v * E::from_real(weight));
            grad.d.block_mut(k).assign(&weighted);
        }
        Ok(grad)
    }
}

impl<E: Field> Quasiseparable<E> {
    /// Cotangents of the generators and of b, given the cotangent `dx` of the solution x of `M x = b`:
    /// with $`g = M^{-H} \mathrm{d}x`$, `db = g` and `dM = -g xᴴ` read through the generators.
    ///
    /// # Shapes
    /// `b`, `dx`: (rows, width). `factor`: that of this matrix, from [`qr`](Self::qr).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if shapes disagree or the matrix is not square.
    pub fn solve_vjp(
        &self,
        factor: &TwoSidedQr<E>,
        b: ArrayView2<'_, E>,
        dx: ArrayView2<'_, E>,
    ) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), dx, b)?;
        through(self, factor.solve(b)?, factor.solve_adjoint(dx)?)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// Cotangents of the generators and of b, given the cotangent `dx` of the solution x of `M x = b`:
    /// with $`g = M^{-1} \mathrm{d}x`$, `db = g` and `dM = -g xᴴ` read through the generators.
    ///
    /// # Shapes
    /// `b`, `dx`: (rows, width). `factor`: that of this matrix, from [`ldl`](Self::ldl) or [`Cholesky::ldl`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if shapes disagree.
    pub fn solve_vjp(
        &self,
        factor: &Ldl<E>,
        b: ArrayView2<'_, E>,
        dx: ArrayView2<'_, E>,
    ) -> Result<(Self, Array2<E>)> {
        check::vjp_operands(self.shape(), dx, b)?;
        through(self, factor.solve(b)?, factor.solve(dx)?)
    }
}

impl<E: Field> Cholesky<E> {
    /// Number of rows, and of columns, of the matrix.
    pub fn rows(&self) -> usize {
        self.ldl().rows()
    }
}

/// `-g xᴴ` through the generators of m, and g.
fn through<E: Field, M: StructuredMatrix<E>>(
    m: &M,
    x: Array2<E>,
    g: Array2<E>,
) -> Result<(M::Gradient, Array2<E>)> {
    let (gradient, _) = m.vjp(x.view(), g.mapv(|g| -g).view())?;
    Ok((gradient, g))
}
