//! Rounding: the smallest orders within a tolerance, and the exact error.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::steps::Steps;
use super::sweeps::{Cut, Truncation, normal_norms, output_normal, rest, truncate};
use crate::error::{Error, Result};
use crate::matrix::sss::finite::check_finite;
use crate::matrix::sss::{HankelSpectrum, HermitianQuasiseparable, Quasiseparable, Sss, Tolerance, Upper};
use crate::scalar::Field;

/// A matrix of smaller orders, and how far it is from the one it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded<M, S = HankelSpectrum> {
    /// The matrix.
    pub matrix: M,
    /// Frobenius norm of the difference: exact up to rounding, not a bound.
    pub error: f64,
    /// Singular values of the Hankel blocks as they stood when each was cut; those of the matrix itself where nothing
    /// was cut before.
    pub spectrum: S,
}

/// The same thing of the part below the diagonal and of the adjoint of the part above it.
#[derive(Debug, Clone, PartialEq)]
pub struct TwoSided<S> {
    /// Below the diagonal.
    pub lower: S,
    /// Above the diagonal.
    pub upper: S,
}

/// A lower matrix on its way: states orthogonal, nothing dropped yet.
struct Normal<E> {
    steps: Steps<E>,
    sizes: Vec<f64>,
    strict: f64,   // Frobenius norm of the part below the diagonal
    diagonal: f64, // and of the diagonal
}

impl<E: Field> Normal<E> {
    fn new(mut steps: Steps<E>) -> Self {
        let sizes = output_normal(&mut steps);
        let (strict, diagonal) = normal_norms(&steps);
        Self { steps, sizes, strict, diagonal }
    }

    fn norm(&self) -> f64 {
        self.strict.hypot(self.diagonal)
    }

    fn spectrum(&self) -> HankelSpectrum {
        let found = truncate(&mut self.steps.clone(), &self.sizes, Cut::Nothing);
        HankelSpectrum::new(found.values, self.norm())
    }

    fn cut(mut self, cut: Cut) -> (Sss<E>, Truncation) {
        let found = truncate(&mut self.steps, &self.sizes, cut);
        (self.steps.into_matrix(), found)
    }
}

/// What to drop for a tolerance, of a matrix with these Frobenius and Hankel norms, the latter found when needed.
pub(in crate::matrix::sss) fn cut(tolerance: Tolerance, frobenius: f64, hankel: impl FnOnce() -> f64) -> Cut {
    match tolerance {
        Tolerance::Absolute(limit) => Cut::Below(limit),
        Tolerance::Relative(share) => Cut::Below(share * hankel()),
        Tolerance::Frobenius(share) => Cut::Budget(share * frobenius),
    }
}

/// A tolerance is a number that is not negative.
pub(in crate::matrix::sss) fn check_tolerance(tolerance: Tolerance) -> Result<()> {
    let (Tolerance::Absolute(v) | Tolerance::Relative(v) | Tolerance::Frobenius(v)) = tolerance;
    if v >= 0.0 {
        return Ok(());
    }
    Err(Error::Config { field: "tolerance", reason: format!("expected a number of at least 0, found {v}") })
}

impl<E: Field> Sss<E> {
    /// The matrix with the smallest orders that the tolerance allows, in input normal form.
    ///
    /// Two sweeps: orthogonal states backwards, truncated singular value decompositions forwards. What is dropped at
    /// different steps is orthogonal, so the error is known exactly:
    ///
    /// ```math
    /// \lVert M - \tilde M \rVert_F^2 = \sum_k \sum_{i > r_k} \sigma_i(H_k)^2
    /// ```
    ///
    /// and at most $`\sqrt{n - 1}`$ times the least possible with these orders. A tolerance of zero drops what rounding
    /// alone can have made. Sums and products of matrices have orders that add up: round them.
    ///
    /// # Errors
    /// [`Error::Value`] if a generator is not finite, [`Error::Config`] if the tolerance is negative or no number.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array1, Array2};
    /// use semisep::matrix::sss::{Sss, Tolerance, Transition};
    ///
    /// // Two modes, one of them faint.
    /// let c = Array2::from_shape_fn((50, 2), |(_, n)| [1.0, 1e-6][n]);
    /// let a = Transition::diagonal(Array2::from_shape_fn((50, 2), |(_, n)| [0.9, 0.5][n]));
    /// let m = Sss::uniform(a, Array2::ones((50, 2)), c, Array1::zeros(50))?;
    /// let rounded = m.rounded(Tolerance::Relative(1e-4))?;
    /// assert!(rounded.matrix.orders().iter().all(|n| *n <= 1));
    /// assert!((rounded.error / m.distance(&rounded.matrix)? - 1.0).abs() < 1e-9);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn rounded(&self, tolerance: Tolerance) -> Result<Rounded<Self>> {
        check_finite(self)?;
        check_tolerance(tolerance)?;
        let normal = Normal::new(Steps::new(self));
        let frobenius = normal.norm();
        let cut = cut(tolerance, frobenius, || normal.spectrum().norm());
        let (matrix, found) = normal.cut(cut);
        let spectrum = HankelSpectrum::new(found.values, frobenius);
        Ok(Rounded { matrix, error: found.dropped, spectrum })
    }

    /// The singular values of all Hankel blocks `M[k.., ..k]`, k = 1 .. len - 1, in O(len · order³).
    ///
    /// They come from orthogonal sweeps, never from products of Gramians, which would lose half of the digits.
    ///
    /// # Errors
    /// [`Error::Value`] if a generator is not finite.
    pub fn hankel_spectrum(&self) -> Result<HankelSpectrum> {
        check_finite(self)?;
        Ok(Normal::new(Steps::new(self)).spectrum())
    }

    /// Numerical ranks of all Hankel blocks, k = 1 .. len - 1: the smallest orders there are.
    ///
    /// # Errors
    /// As [`rounded`](Self::rounded).
    pub fn hankel_ranks(&self, tolerance: Tolerance) -> Result<Vec<usize>> {
        check_tolerance(tolerance)?;
        Ok(self.hankel_spectrum()?.ranks(tolerance))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// As [`Sss::rounded`]: the same values and the same error.
    ///
    /// # Errors
    /// As there.
    pub fn rounded(&self, tolerance: Tolerance) -> Result<Rounded<Self>> {
        let Rounded { matrix, error, spectrum } = self.0.rounded(tolerance)?;
        Ok(Rounded { matrix: Upper(matrix), error, spectrum })
    }

    /// The singular values of all blocks `M[..k, k..]`; see [`Sss::hankel_spectrum`].
    ///
    /// # Errors
    /// As there.
    pub fn hankel_spectrum(&self) -> Result<HankelSpectrum> {
        self.0.hankel_spectrum()
    }

    /// Their numerical ranks; see [`Sss::hankel_ranks`].
    ///
    /// # Errors
    /// As there.
    pub fn hankel_ranks(&self, tolerance: Tolerance) -> Result<Vec<usize>> {
        self.0.hankel_ranks(tolerance)
    }
}

impl<E: Field> Quasiseparable<E> {
    /// Both parts with the smallest orders that the tolerance allows; see [`Sss::rounded`].
    ///
    /// The parts share no entry, so the squares of their errors add up. A relative tolerance is one of the larger of the
    /// two Hankel norms; a Frobenius budget is one for the whole matrix, and what one part does not use goes to the
    /// other.
    ///
    /// # Errors
    /// As there.
    pub fn rounded(&self, tolerance: Tolerance) -> Result<Rounded<Self, TwoSided<HankelSpectrum>>> {
        check_finite(self.lower())?;
        check_finite(self.upper())?;
        check_tolerance(tolerance)?;
        let (lower, upper) =
            (Normal::new(Steps::new(self.lower())), Normal::new(Steps::strict(self.upper())));
        let (low_norm, up_norm) = (lower.norm(), upper.norm());
        let hankel = || lower.spectrum().norm().max(upper.spectrum().norm());
        let whole = cut(tolerance, low_norm.hypot(up_norm), hankel);
        let (lower, low) = lower.cut(whole.part(|budget| budget * FRAC_1_SQRT_2));
        let (upper, up) = upper.cut(whole.part(|budget| rest(budget, low.dropped)));
        Ok(Rounded {
            matrix: Self::new(lower, upper)?,
            error: low.dropped.hypot(up.dropped),
            spectrum: TwoSided {
                lower: HankelSpectrum::new(low.values, low_norm),
                upper: HankelSpectrum::new(up.values, up_norm),
            },
        })
    }

    /// The singular values of all Hankel blocks of the part below the diagonal and of that above it.
    ///
    /// # Errors
    /// As [`Sss::hankel_spectrum`].
    pub fn hankel_spectrum(&self) -> Result<TwoSided<HankelSpectrum>> {
        Ok(TwoSided { lower: self.lower().hankel_spectrum()?, upper: self.upper().hankel_spectrum()? })
    }

    /// Numerical ranks of all Hankel blocks on both sides: the smallest orders there are. Each part is measured by its own
    /// norm; see [`Sss::hankel_ranks`].
    ///
    /// # Errors
    /// As there.
    pub fn hankel_ranks(&self, tolerance: Tolerance) -> Result<TwoSided<Vec<usize>>> {
        Ok(TwoSided {
            lower: self.lower().hankel_ranks(tolerance)?,
            upper: self.upper().hankel_ranks(tolerance)?,
        })
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The matrix with the smallest orders that the tolerance allows, Hermitian again; see [`Sss::rounded`].
    ///
    /// The part above the diagonal doubles the square of the error.
    ///
    /// # Errors
    /// As there.
    pub fn rounded(&self, tolerance: Tolerance) -> Result<Rounded<Self>> {
        check_finite(self.lower())?;
        check_tolerance(tolerance)?;
        let normal = Normal::new(Steps::new(self.lower()));
        let frobenius = (normal.strict * SQRT_2).hypot(normal.diagonal);
        let whole = cut(tolerance, frobenius, || normal.spectrum().norm());
        let (matrix, found) = normal.cut(whole.part(|budget| budget * FRAC_1_SQRT_2));
        let spectrum = HankelSpectrum::new(found.values, frobenius);
        Ok(Rounded { matrix: Self::new(matrix)?, error: found.dropped * SQRT_2, spectrum })
    }

    /// The singular values of all Hankel blocks of the part below the diagonal.
    ///
    /// # Errors
    /// As [`Sss::hankel_spectrum`].
    pub fn hankel_spectrum(&self) -> Result<HankelSpectrum> {
        self.lower().hankel_spectrum()
    }

    /// Numerical ranks of all Hankel blocks of the part below the diagonal; see [`Sss::hankel_ranks`].
    ///
    /// # Errors
    /// As there.
    pub fn hankel_ranks(&self, tolerance: Tolerance) -> Result<Vec<usize>> {
        self.lower().hankel_ranks(tolerance)
    }
}
