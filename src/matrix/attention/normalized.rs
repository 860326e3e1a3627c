//! Attention with normalised rows (paper section 7.3).

use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use num_traits::Float;

use super::{AttentionVjp, MaskedAttention, Order};
use crate::error::{Error, Result, check_shape};
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::Field;

impl<E: Field, L: StructuredMatrix<E>> MaskedAttention<'_, E, L> {
    /// Attention whose rows are divided by their sums, by one product with `[V, 1]`.
    ///
    /// ```math
    /// Y_t = \frac{(M V)_t}{(M 1)_t}
    /// ```
    /// `v`: (S, P); result: (T, P). Features should be positive, so that no sum vanishes.
    ///
    /// # Errors
    /// [`Error::Value`] naming `denominator` if a row of M sums to zero or to a number that is not finite, and
    /// naming `y` if the quotient is not finite; else as [`multiply`](Self::multiply).
    pub fn multiply_normalized(&self, v: ArrayView2<'_, E>, order: Order) -> Result<Array2<E>> {
        self.check_v(v)?;
        Ok(self.quotient(with_ones(v).view(), order)?.0)
    }

    /// Cotangents of queries, keys, mask and of `v`, given the cotangent `dy` of
    /// [`multiply_normalized`](Self::multiply_normalized).
    ///
    /// With numerator n and denominator r: `dn = dy / conj(r)`, `dr = -Σ_p conj(y) dy / conj(r)`.
    ///
    /// # Errors
    /// As the two functions that it joins.
    pub fn multiply_normalized_vjp(
        &self,
        v: ArrayView2<'_, E>,
        dy: ArrayView2<'_, E>,
        order: Order,
    ) -> Result<AttentionVjp<E, L>>
    where
        L::Gradient: Cotangent,
    {
        self.check_v(v)?;
        check_shape("dy", "(T, P)", &[self.q.nrows(), v.ncols()], dy.shape())?;
        let extended = with_ones(v);
        let (y, sums) = self.quotient(extended.view(), order)?;
        let mut d_extended = Array2::zeros((dy.nrows(), dy.ncols() + 1));
        for (t, mut d) in d_extended.outer_iter_mut().enumerate() {
            let mut d_sum = E::zero();
            for p in 0..dy.ncols() {
                d[p] = dy[[t, p]] / sums[t].conj();
                d_sum -= y[[t, p]].conj() * d[p];
            }
            d[dy.ncols()] = d_sum;
        }
        let (grad, dv) = self.multiply_vjp(extended.view(), d_extended.view(), order)?;
        Ok((grad, dv.slice_move(s![.., ..v.ncols()])))
    }

    /// Quotients, (T, P), and row sums, (T,).
    fn quotient(&self, extended: ArrayView2<'_, E>, order: Order) -> Result<(Array2<E>, Vec<E>)> {
        let y = self.multiply(extended, order)?;
        let (mut y, sums) = (y.slice(s![.., ..-1]).to_owned(), y.slice(s![.., -1]).to_vec());
        for (t, (mut y, sum)) in y.outer_iter_mut().zip(&sums).enumerate() {
            if sum.is_zero() || !sum.modulus().is_finite() {
                return Err(Error::Value {
                    tensor: "denominator",
                    expected: "a finite row sum other than zero",
                    found: format!("{sum} in row {t}"),
                });
            }
            y.iter_mut().for_each(|y| *y /= *sum);
            if let Some(wrong) = y.iter().find(|y| !y.modulus().is_finite()) {
                return Err(Error::Value {
                    tensor: "y",
                    expected: "finite quotients",
                    found: format!("{wrong} in row {t}"),
                });
            }
        }
        Ok((y, sums))
    }
}

/// `[V, 1]`
fn with_ones<E: Field>(v: ArrayView2<'_, E>) -> Array2<E> {
    let ones = Array2::ones((v.nrows(), 1));
    concatenate(Axis(1), &[v, ones.view()]).expect("rows agree")
}
