//! Frobenius and Hankel norms, and the distance of two matrices.

use std::f64::consts::SQRT_2;

use crate::error::{Result, check_shape};
use crate::matrix::sss::compress::steps::Steps;
use crate::matrix::sss::compress::sweeps::{normal_norms, output_normal};
use crate::matrix::sss::finite::check_finite;
use crate::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::scalar::Field;

/// The Frobenius norms of the part below the diagonal and of the diagonal: with orthogonal states those of all B and D.
fn norms_of<E: Field>(mut steps: Steps<E>) -> (f64, f64) {
    output_normal(&mut steps);
    normal_norms(&steps)
}

/// The same of `S - T`, whose states are those of both.
///
/// The sweep subtracts no squares: the relative error is that of the generators of the difference, where a recursion
/// for Gramians has that of the square, and a difference of inner products loses all digits of near matrices.
fn distances<E: Field>(s: Steps<E>, t: Steps<E>) -> (f64, f64) {
    norms_of(s.minus(t))
}

fn check_same<E: Field>(s: &Sss<E>, t: &Sss<E>) -> Result<()> {
    check_finite(s)?;
    check_finite(t)?;
    check_shape("other", "(steps)", &[s.len()], &[t.len()])?;
    for k in 0..s.len() {
        check_shape("other", &format!("(outputs, inputs) of step {k}"), s.d(k).shape(), t.d(k).shape())?;
    }
    Ok(())
}

impl<E: Field> Sss<E> {
    /// The Frobenius norm, in O(len · order³).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    pub fn norm_frobenius(&self) -> Result<f64> {
        check_finite(self)?;
        let (strict, diagonal) = norms_of(Steps::new(self));
        Ok(strict.hypot(diagonal))
    }

    /// The Hankel norm: the largest singular value of any block `M[k.., ..k]`.
    ///
    /// # Errors
    /// As [`norm_frobenius`](Self::norm_frobenius).
    pub fn norm_hankel(&self) -> Result<f64> {
        Ok(self.hankel_spectrum()?.norm())
    }

    /// `‖M - other‖` in the Frobenius norm, accurate also for near matrices; the orders may differ.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if steps or block sizes differ, [`Error::Value`](crate::Error::Value) if a
    /// generator is not finite.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        check_same(self, other)?;
        let (strict, diagonal) = distances(Steps::new(self), Steps::new(other));
        Ok(strict.hypot(diagonal))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// As [`Sss::norm_frobenius`].
    ///
    /// # Errors
    /// As there.
    pub fn norm_frobenius(&self) -> Result<f64> {
        self.0.norm_frobenius()
    }

    /// The Hankel norm: the largest singular value of any block `M[..k, k..]`.
    ///
    /// # Errors
    /// As there.
    pub fn norm_hankel(&self) -> Result<f64> {
        self.0.norm_hankel()
    }

    /// As [`Sss::distance`].
    ///
    /// # Errors
    /// As there.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        self.0.distance(&other.0)
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The Frobenius norm, in O(len · order³).
    ///
    /// # Errors
    /// As [`Sss::norm_frobenius`].
    pub fn norm_frobenius(&self) -> Result<f64> {
        Ok(self.lower().norm_frobenius()?.hypot(self.upper().norm_frobenius()?))
    }

    /// The larger of the Hankel norms of the part below the diagonal and of that above it.
    ///
    /// # Errors
    /// As [`Sss::norm_frobenius`].
    pub fn norm_hankel(&self) -> Result<f64> {
        Ok(self.lower().norm_hankel()?.max(self.upper().norm_hankel()?))
    }

    /// `‖M - other‖` in the Frobenius norm; see [`Sss::distance`].
    ///
    /// # Errors
    /// As there.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        Ok(self.lower().distance(other.lower())?.hypot(self.upper().distance(other.upper())?))
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The Frobenius norm, in O(len · order³).
    ///
    /// # Errors
    /// As [`Sss::norm_frobenius`].
    pub fn norm_frobenius(&self) -> Result<f64> {
        check_finite(self.lower())?;
        let (strict, diagonal) = norms_of(Steps::new(self.lower()));
        Ok((strict * SQRT_2).hypot(diagonal))
    }

    /// The Hankel norm of either triangle.
    ///
    /// # Errors
    /// As [`Sss::norm_frobenius`].
    pub fn norm_hankel(&self) -> Result<f64> {
        self.lower().norm_hankel()
    }

    /// `‖M - other‖` in the Frobenius norm; see [`Sss::distance`].
    ///
    /// # Errors
    /// As there.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        check_same(self.lower(), other.lower())?;
        let (strict, diagonal) = distances(Steps::new(self.lower()), Steps::new(other.lower()));
        Ok((strict * SQRT_2).hypot(diagonal))
    }
}
