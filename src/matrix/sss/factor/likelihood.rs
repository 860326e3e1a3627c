//! The likelihood of a Gaussian with a semiseparable covariance, and its derivative.

use super::super::HermitianQuasiseparable;
use super::super::recurrent::flat;
use super::ldl::Demand;
use super::{Cholesky, Ldl, uniform};
use crate::error::Result;
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::{Real, real};
use ndarray::{Array2, ArrayView2};

/// What the derivative of a log-likelihood yields.
#[derive(Debug, Clone, PartialEq)]
pub struct LikelihoodVjp<E> {
    /// The log-likelihood itself.
    pub value: E,
    /// Cotangents of the generators of the covariance.
    pub covariance: HermitianQuasiseparable<E>,
    /// Cotangent of the residuals, $`-M^{-1} y`$.
    pub y: Array2<E>,
}

impl<E: Real> Cholesky<E> {
    /// The log-likelihood of residuals y of a Gaussian whose covariance M this is the factor of; columns are
    /// independent draws.
    ///
    /// ```math
    /// \ell = -\tfrac12 \sum_{\text{columns}} \left( y^\top M^{-1} y + \log \det M + n \log 2 \pi \right)
    /// ```
    ///
    /// # Shapes
    /// `y`: (n, draws).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `y` has another number of rows.
    pub fn log_likelihood(&self, y: ArrayView2<'_, E>) -> Result<E> {
        let weighted = self.solve(y)?;
        Ok(self.value(y, weighted.view()))
    }

    fn value(&self, y: ArrayView2<'_, E>, weighted: ArrayView2<'_, E>) -> E {
        let number = |n: usize| E::from_usize(n).unwrap_or_else(E::nan);
        let squares: E = y.iter().zip(weighted).map(|(y, w)| *y * *w).sum();
        let constant = number(y.nrows()) * real::<E>(std::f64::consts::TAU.ln()) + self.log_determinant();
        -(squares + number(y.ncols()) * constant) / number(2)
    }
}

impl<E: Real> HermitianQuasiseparable<E> {
    /// The log-likelihood of [`Cholesky::log_likelihood`] and its derivatives.
    ///
    /// With $`\alpha = M^{-1} y`$, the cotangent of M is $`\tfrac12 (\alpha \alpha^\top - M^{-1})`$, read through the
    /// generators by the vjp of a product and by [`log_determinant_vjp`](Self::log_determinant_vjp). O(len · order)
    /// memory.
    ///
    /// # Shapes
    /// `y`: (rows, draws).
    ///
    /// # Errors
    /// As [`cholesky`](Self::cholesky); [`Error::Shape`](crate::Error::Shape) if `y` has another number of rows.
    pub fn log_likelihood_vjp(&self, y: ArrayView2<'_, E>) -> Result<LikelihoodVjp<E>> {
        if let Some(vjp) = self.log_likelihood_vjp_of_numbers(y)? {
            return Ok(vjp);
        }
        let factor = self.cholesky()?;
        let alpha = factor.solve(y)?;
        let value = factor.value(y, alpha.view());
        drop(factor);
        let half = E::one() / (E::one() + E::one());
        let draws = E::from_usize(y.ncols()).unwrap_or_else(E::nan);
        let mut covariance = self.log_determinant_vjp(-half * draws)?;
        let (quadratic, _) = self.vjp(alpha.view(), alpha.mapv(|v| half * v).view())?;
        covariance.accumulate(&quadratic);
        Ok(LikelihoodVjp { value, covariance, y: alpha.mapv_into(|v| -v) })
    }

    /// The same for one draw of a matrix of numbers, by one elimination forward and one backward.
    fn log_likelihood_vjp_of_numbers(&self, y: ArrayView2<'_, E>) -> Result<Option<LikelihoodVjp<E>>> {
        let l = self.lower();
        if y.ncols() != 1 {
            return Ok(None);
        }
        let Some(kept) = uniform::eliminate_keeping(l, Demand::Positive) else { return Ok(None) };
        let (factor, kept) = kept?;
        let factor = Cholesky::from_ldl(Ldl::from_positive_factor(factor));
        let alpha = factor.solve(y)?;
        let value = factor.value(y, alpha.view());
        let mut gradient = l.zeros_like();
        let half = E::one() / (E::one() + E::one());
        uniform::reverse(l, (&factor.ldl().factor, &kept), -half, Some(flat(&alpha)), &mut gradient);
        let covariance = HermitianQuasiseparable::from_lower(gradient);
        Ok(Some(LikelihoodVjp { value, covariance, y: alpha.mapv_into(|v| -v) }))
    }
}
