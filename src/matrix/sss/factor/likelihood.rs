//! The likelihood of a Gaussian with a semiseparable covariance, and its derivative.

use super::super::recurrent::{flat, flat_mut};
use super::super::{HermitianQuasiseparable, Sss};
use super::ldl::Demand;
use super::{Cholesky, log_of_product, uniform};
use crate::error::Result;
use crate::linalg::vectorize;
use crate::matrix::{Cotangent, StructuredMatrix, check};
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
        Ok(log_likelihood(inner(y, weighted.view()), y.dim(), self.log_determinant()))
    }
}

/// The log-likelihood of draws y, given $`\sum y^\top M^{-1} y`$ and the logarithm of the determinant of M.
fn log_likelihood<E: Real>(squares: E, (len, draws): (usize, usize), log_determinant: E) -> E {
    let number = |n: usize| E::from_usize(n).unwrap_or_else(E::nan);
    let constant = number(len) * real::<E>(std::f64::consts::TAU.ln()) + log_determinant;
    -(squares + number(draws) * constant) / number(2)
}

/// `Σ x y`
fn inner<E: Real>(x: ArrayView2<'_, E>, y: ArrayView2<'_, E>) -> E {
    x.iter().zip(y).map(|(x, y)| *x * *y).sum()
}

/// $`\sum_k z_k^2 / d_k`$, in sums that do not wait for one another.
fn squares_over<E: Real>(z: &[E], d: &[E]) -> E {
    const LANES: usize = 8;
    let ((z, z_rest), (d, d_rest)) = (z.as_chunks::<LANES>(), d.as_chunks::<LANES>());
    let mut sums = [E::zero(); LANES];
    vectorize(
        #[inline(always)]
        || {
            for (z, d) in z.iter().zip(d) {
                for l in 0..LANES {
                    sums[l] += z[l] * z[l] / d[l];
                }
            }
        },
    );
    let rest: E = z_rest.iter().zip(d_rest).map(|(z, d)| *z * *z / *d).sum();
    sums.into_iter().sum::<E>() + rest
}

/// Memory for likelihoods and their derivatives of matrices of one shape, one after another, as in an optimisation.
///
/// New memory costs about as much as the derivative itself: it comes from the operating system page by page.
#[derive(Debug, Clone)]
pub struct LikelihoodMemory<E> {
    found: Option<LikelihoodVjp<E>>,
    kept: uniform::Kept<E>,
}

impl<E: Real> LikelihoodMemory<E> {
    /// None yet: the first derivative takes what it needs.
    pub fn new() -> Self {
        Self { found: None, kept: uniform::Kept::default() }
    }

    /// Cotangents like the generators `l` and one column of residuals, with any numbers.
    fn cotangents(&mut self, l: &Sss<E>) -> (Sss<E>, Array2<E>) {
        match self.found.take() {
            Some(found) if found.covariance.lower().like(l) && found.y.dim() == (l.len(), 1) => {
                (found.covariance.into_lower(), found.y)
            }
            _ => (l.zeros_like(), Array2::zeros((l.len(), 1))),
        }
    }
}

impl<E: Real> Default for LikelihoodMemory<E> {
    fn default() -> Self {
        Self::new()
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
        self.in_memory(y, &mut LikelihoodMemory::new())
    }

    /// [`log_likelihood_vjp`](Self::log_likelihood_vjp) in memory that is already there, if the last derivative in it was
    /// of the same shapes.
    ///
    /// # Shapes
    /// `y`: (rows, draws).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::sss::{HermitianQuasiseparable, LikelihoodMemory, Sss, Transition};
    ///
    /// let (ones, y) = (Array2::<f64>::ones((3, 1)), array![[1.0], [2.0], [3.0]]);
    /// let mut memory = LikelihoodMemory::new();
    /// for noise in [1.0, 2.0] {
    ///     let lower = Sss::uniform(Transition::Identity, ones.clone(), ones.clone(), array![noise, noise, noise] + 1.0)?;
    ///     let found = HermitianQuasiseparable::new(lower)?.log_likelihood_vjp_in(y.view(), &mut memory)?;
    ///     assert!(found.value < 0.0);
    /// }
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn log_likelihood_vjp_in<'m>(
        &self,
        y: ArrayView2<'_, E>,
        memory: &'m mut LikelihoodMemory<E>,
    ) -> Result<&'m LikelihoodVjp<E>> {
        let found = self.in_memory(y, memory)?;
        Ok(memory.found.insert(found))
    }

    fn in_memory(&self, y: ArrayView2<'_, E>, memory: &mut LikelihoodMemory<E>) -> Result<LikelihoodVjp<E>> {
        check::operand("y", self.rows(), y)?;
        if let Some(vjp) = self.log_likelihood_vjp_of_numbers(y, memory)? {
            return Ok(vjp);
        }
        let factor = self.cholesky()?;
        let alpha = factor.solve(y)?;
        let value = log_likelihood(inner(y, alpha.view()), y.dim(), factor.log_determinant());
        drop(factor);
        let half = E::one() / (E::one() + E::one());
        let draws = E::from_usize(y.ncols()).unwrap_or_else(E::nan);
        let mut covariance = self.log_determinant_vjp(-half * draws)?;
        let (quadratic, _) = self.vjp(alpha.view(), alpha.mapv(|v| half * v).view())?;
        covariance.accumulate(&quadratic);
        Ok(LikelihoodVjp { value, covariance, y: alpha.mapv_into(|v| -v) })
    }

    /// The same for one draw of a matrix of numbers, by one elimination forward and one backward.
    fn log_likelihood_vjp_of_numbers(
        &self,
        y: ArrayView2<'_, E>,
        memory: &mut LikelihoodMemory<E>,
    ) -> Result<Option<LikelihoodVjp<E>>> {
        let l = self.lower();
        if y.ncols() != 1 || !uniform::apply(l) {
            return Ok(None);
        }
        let (mut gradient, mut column) = memory.cotangents(l);
        let kept = &mut memory.kept;
        column.assign(&y);
        uniform::eliminate_keeping(l, Demand::Positive, Some(flat_mut(&mut column)), kept)?;
        let squares = squares_over(flat(&column), &kept.pivots);
        let value = log_likelihood(squares, y.dim(), log_of_product(&kept.pivots));
        let half = E::one() / (E::one() + E::one());
        uniform::reverse(l, kept, -half, Some(flat_mut(&mut column)), &mut gradient);
        let covariance = HermitianQuasiseparable::from_lower(gradient);
        Ok(Some(LikelihoodVjp { value, covariance, y: column.mapv_into(|v| -v) }))
    }
}
