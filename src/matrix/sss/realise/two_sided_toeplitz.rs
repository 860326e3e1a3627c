//! Time-invariant generators of Toeplitz matrices with entries on both sides of the diagonal.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use ndarray::ArrayView1;

use super::toeplitz::{Goal, Response};
use crate::error::{Error, Result, check_shape};
use crate::linalg::scale_of;
use crate::matrix::check::finite;
use crate::matrix::mask::{Spectral, check_corner};
use crate::matrix::sss::compress::rounded::check_tolerance;
use crate::matrix::sss::compress::sweeps::{rest, to_f64};
use crate::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Rounded, Tolerance, TwoSided};
use crate::scalar::real;

/// Singular values of the Hankel matrix of each side.
type Spectra = TwoSided<Vec<f64>>;

impl<E: Spectral> Quasiseparable<E> {
    /// The Toeplitz matrix with this first column and this first row by generators that are the same at every step of
    /// each side: a convolution with what is behind and with what is ahead.
    ///
    /// ```math
    /// M_{ij} = \text{column}_{i-j} \ (i \ge j), \qquad M_{ij} = \text{row}_{j-i} \ (i \le j)
    /// ```
    ///
    /// Each side is realised as by [`Sss::from_toeplitz`](crate::matrix::sss::Sss::from_toeplitz), which says what of a
    /// tolerance can be reached. A relative one is one of the larger of the two Hankel norms; a Frobenius budget is one for
    /// the whole matrix, and what the lower side does not use goes to the upper.
    ///
    /// # Shapes
    /// `column`, `row`: (len), both beginning with the number on the diagonal.
    ///
    /// # Errors
    /// [`Error::Shape`] if the two differ in length, [`Error::Value`] if a number is not finite or they do not begin with
    /// the same one, [`Error::Config`] if the tolerance cannot be.
    ///
    /// # Example
    /// ```
    /// use ndarray::Array1;
    /// use semisep::matrix::sss::{Quasiseparable, Tolerance};
    ///
    /// let powers = |a: f64| Array1::from_shape_fn(1000, |t| a.powi(t as i32));
    /// let m = Quasiseparable::from_toeplitz(powers(0.9).view(), powers(-0.5).view(), Tolerance::Relative(1e-10))?;
    /// assert_eq!((m.matrix.lower().order_at(1), m.matrix.upper().order_at(1)), (1, 1));
    /// assert!(m.error < 1e-10);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn from_toeplitz(
        column: ArrayView1<'_, E>,
        row: ArrayView1<'_, E>,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self, Spectra>> {
        check_shape("row", "(len of column)", &[column.len()], &[row.len()])?;
        finite("column", column)?;
        finite("row", row)?;
        check_corner(column, row)?;
        check_tolerance(tolerance)?;
        let mut ahead = row.mapv(E::conj);
        ahead.iter_mut().take(1).for_each(|diagonal| *diagonal = E::zero());
        let (lower, upper) = (Response::new(column), Response::new(ahead.view()));
        // Both sides in one unit, which each has a share in.
        let unit = to_f64(scale_of(column.iter().chain(row)));
        let (low, up) = (lower.unit() / unit, upper.unit() / unit);
        let (first, second) = match tolerance {
            Tolerance::Absolute(limit) => {
                let above = |part: &Response<E>| part.realise(Goal::Above(limit / part.unit()));
                (above(&lower)?, above(&upper)?)
            }
            Tolerance::Relative(share) => {
                let (first, second) =
                    (lower.realise(Goal::Share(share))?, upper.realise(Goal::Share(share))?);
                let norm = |spectrum: &[f64]| spectrum.first().copied().unwrap_or(0.0);
                let (a, b) = (low * norm(&first.spectrum), up * norm(&second.spectrum));
                // The side of the smaller norm may drop more.
                if a < b {
                    (lower.realise(Goal::Above(share * b / low))?, second)
                } else if b < a {
                    (first, upper.realise(Goal::Above(share * a / up))?)
                } else {
                    (first, second)
                }
            }
            Tolerance::Frobenius(share) => {
                let budget = share * (low * lower.norm()).hypot(up * upper.norm());
                let part = if upper.norm() > 0.0 { FRAC_1_SQRT_2 } else { 1.0 };
                let first = lower.realise(Goal::Error(budget * part / low))?;
                let second = upper.realise(Goal::Error(rest(budget, low * first.error) / up))?;
                (first, second)
            }
        };
        let (lower, upper) = (lower.restored(first), upper.restored(second));
        Ok(Rounded {
            matrix: Self::new(lower.matrix, upper.matrix)?,
            error: lower.error.hypot(upper.error),
            spectrum: TwoSided { lower: lower.spectrum, upper: upper.spectrum },
        })
    }
}

impl<E: Spectral> HermitianQuasiseparable<E> {
    /// The Hermitian Toeplitz matrix with this first column by generators that are the same at every step, such as the
    /// covariance of a stationary sequence.
    ///
    /// ```math
    /// M_{ij} = \text{column}_{i-j} \ (i \ge j), \qquad M_{ij} = \overline{\text{column}_{j-i}} \ (i \le j)
    /// ```
    ///
    /// Realised as by [`Sss::from_toeplitz`](crate::matrix::sss::Sss::from_toeplitz), which says what of a tolerance can be
    /// reached; a Frobenius budget is one for the whole matrix. A matrix that is only just definite may lose that by the
    /// error.
    ///
    /// # Shapes
    /// `column`: (len), a real number first.
    ///
    /// # Errors
    /// [`Error::Value`] if a number is not finite or the first one not real, [`Error::Config`] if the tolerance cannot be.
    ///
    /// # Example
    /// ```
    /// use ndarray::Array1;
    /// use semisep::matrix::sss::{HermitianQuasiseparable, Tolerance};
    ///
    /// let covariance = Array1::from_shape_fn(1000, |t| 0.9f64.powi(t as i32));
    /// let m = HermitianQuasiseparable::from_toeplitz(covariance.view(), Tolerance::Relative(1e-10))?;
    /// assert_eq!(m.matrix.lower().order_at(1), 1);
    /// assert!(m.error < 1e-10);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn from_toeplitz(column: ArrayView1<'_, E>, tolerance: Tolerance) -> Result<Rounded<Self, Vec<f64>>> {
        finite("column", column)?;
        if let Some(diagonal) = column.first().filter(|d| d.conj() != **d) {
            let expected = "a real number on the diagonal, at 0";
            return Err(Error::Value { tensor: "column", expected, found: diagonal.to_string() });
        }
        check_tolerance(tolerance)?;
        let part = Response::new(column);
        let goal = match tolerance {
            Tolerance::Absolute(limit) => Goal::Above(limit / part.unit()),
            Tolerance::Relative(share) => Goal::Share(share),
            // The lower part is half of the off-diagonal part of the matrix, so half of the squares are allowed there.
            Tolerance::Frobenius(share) => {
                let mut half = column.to_owned();
                half.iter_mut().take(1).for_each(|d| *d *= E::from_real(real(FRAC_1_SQRT_2)));
                let half = Response::new(half.view());
                Goal::Error(share * half.norm() * (half.unit() / part.unit()))
            }
        };
        let lower = part.restored(part.realise(goal)?);
        let matrix = Self::from_lower(lower.matrix);
        Ok(Rounded { matrix, error: lower.error * SQRT_2, spectrum: lower.spectrum })
    }
}
