//! Triangular systems by substitution.

use ndarray::{Array2, ArrayView2, s};

use super::super::kernels::{Apply, add_product};
use super::super::recurrent::{State, standard};
use super::super::{Sss, Upper};
use super::uniform::{self, Pivots};
use super::{LogDeterminant, check_square, divides, pivot, singular};
use crate::error::Result;
use crate::linalg::vectorize;
use crate::matrix::check;
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The solution of `M x = y` by substitution.
    ///
    /// ```math
    /// u_k = D_k^{-1} (y_k - C_k x_k), \qquad x_{k+1} = A_k x_k + B_k u_k
    /// ```
    ///
    /// The cost is that of a product and, for blocks, of a small elimination with pivoting a step.
    ///
    /// # Shapes
    /// `y`: (rows, width); result: (columns, width).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `y` has another number of rows or a diagonal block is not square,
    /// [`Error::Singular`](crate::Error::Singular) naming the step of a singular block.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let m = Sss::uniform(Transition::Identity, ones.clone(), ones, array![2.0, 2.0, 4.0])?;
    /// let x = array![[1.0], [-1.0], [3.0]];
    /// assert_eq!(m.solve(m.matmul(x.view())?.view())?, x);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn solve(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.rows(), y)?;
        check_square(self)?;
        let mut x = standard(y).into_owned();
        solve_lower(self, Pivots::Stored, &mut x)?;
        Ok(x)
    }

    /// The solution of `Mᴴ x = y`, by substitution from the end.
    ///
    /// # Shapes
    /// `y`: (columns, width); result: (rows, width).
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn solve_adjoint(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.reverse(Apply::Adjoint, y)
    }

    /// The solution of `Mᵀ x = y`, by substitution from the end.
    ///
    /// # Shapes
    /// `y`: (columns, width); result: (rows, width).
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn solve_transposed(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.reverse(Apply::Transposed, y)
    }

    /// The determinant, the product of those of the diagonal blocks.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a diagonal block is not square,
    /// [`Error::Singular`](crate::Error::Singular) if one is singular.
    pub fn log_determinant(&self) -> Result<LogDeterminant<E>> {
        check_square(self)?;
        LogDeterminant::of_blocks(&self.d)
    }

    fn reverse(&self, how: Apply, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.columns(), y)?;
        check_square(self)?;
        let mut x = standard(y).into_owned();
        solve_reverse(self, how, Pivots::Stored, &mut x)?;
        Ok(x)
    }
}

impl<S> Upper<S> {
    /// The solution of `U x = y`, by substitution from the end.
    ///
    /// # Shapes
    /// `y`: (rows, width); result: (columns, width).
    ///
    /// # Errors
    /// As [`Sss::solve`].
    pub fn solve<E: Field>(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>>
    where
        S: std::borrow::Borrow<Sss<E>>,
    {
        self.lower().solve_adjoint(y)
    }

    /// The solution of `Uᴴ x = y`, by substitution from the start.
    ///
    /// # Shapes
    /// `y`: (columns, width); result: (rows, width).
    ///
    /// # Errors
    /// As [`Sss::solve`].
    pub fn solve_adjoint<E: Field>(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>>
    where
        S: std::borrow::Borrow<Sss<E>>,
    {
        self.lower().solve(y)
    }

    /// The determinant, the product of those of the diagonal blocks.
    ///
    /// # Errors
    /// As [`Sss::log_determinant`].
    pub fn log_determinant<E: Field>(&self) -> Result<LogDeterminant<E>>
    where
        S: std::borrow::Borrow<Sss<E>>,
    {
        let LogDeterminant { phase, log_modulus } = self.lower().log_determinant()?;
        Ok(LogDeterminant { phase: phase.conj(), log_modulus })
    }
}

/// `x ← M⁻¹ x`; with unit pivots the stored diagonal is taken for the identity.
pub(super) fn solve_lower<E: Field>(m: &Sss<E>, pivots: Pivots, x: &mut Array2<E>) -> Result<()> {
    if uniform::solve_lower(m, pivots, x)? {
        return Ok(());
    }
    let width = x.ncols();
    let mut state = State::zeros(m.orders[0], width);
    let mut start = 0;
    for k in 0..m.len() {
        let end = start + m.outputs(k);
        let mut block = x.slice_mut(s![start..end, ..]);
        let (out, c) = (block.as_slice_mut().expect("rows of an array in standard layout"), m.c.values(k));
        vectorize(
            #[inline(always)]
            || {
                out.iter_mut().for_each(|y| *y = -*y);
                add_product(Apply::Plain, (c, m.c.dims(k)), &state.now, width, out);
                out.iter_mut().for_each(|y| *y = -*y);
            },
        );
        if pivots == Pivots::Stored {
            divide(m, Apply::Plain, k, &mut block)?;
        }
        let u = block.as_slice().expect("rows of an array in standard layout");
        vectorize(
            #[inline(always)]
            || state.advance(m, k, u),
        );
        start = end;
    }
    Ok(())
}

/// `x ← M⁻ᴴ x` or `M⁻ᵀ x`, likewise.
pub(super) fn solve_reverse<E: Field>(
    m: &Sss<E>,
    how: Apply,
    pivots: Pivots,
    x: &mut Array2<E>,
) -> Result<()> {
    if uniform::solve_reverse(m, how, pivots, x)? {
        return Ok(());
    }
    let width = x.ncols();
    let mut state = State::zeros(m.orders[m.len()], width);
    let mut end = x.nrows();
    for k in (0..m.len()).rev() {
        let start = end - m.inputs(k);
        let mut block = x.slice_mut(s![start..end, ..]);
        let (out, b) = (block.as_slice_mut().expect("rows of an array in standard layout"), m.b.values(k));
        vectorize(
            #[inline(always)]
            || {
                out.iter_mut().for_each(|y| *y = -*y);
                add_product(how, (b, m.b.dims(k)), &state.now, width, out);
                out.iter_mut().for_each(|y| *y = -*y);
            },
        );
        if pivots == Pivots::Stored {
            divide(m, how, k, &mut block)?;
        }
        let v = block.as_slice().expect("rows of an array in standard layout");
        vectorize(
            #[inline(always)]
            || state.retreat(how, m, k, v),
        );
        end = start;
    }
    Ok(())
}

/// `x ← D_k⁻¹ x`, or with the transposed or adjoint block.
pub(super) fn divide<E: Field>(
    m: &Sss<E>,
    how: Apply,
    k: usize,
    x: &mut ndarray::ArrayViewMut2<'_, E>,
) -> Result<()> {
    let d = m.d.block(k);
    if d.dim() == (1, 1) {
        let d = how.of(d[[0, 0]]);
        if !divides(d) {
            return Err(singular(m.d.block(k), k));
        }
        x.mapv_inplace(|x| x.over(d));
        return Ok(());
    }
    let solution = match how {
        Apply::Plain => pivot(d, k)?.solve(x.view()),
        Apply::Transposed => pivot(d.t(), k)?.solve(x.view()),
        Apply::Adjoint => pivot(d.t().mapv(E::conj).view(), k)?.solve(x.view()),
    };
    x.assign(&solution);
    Ok(())
}
