//! Frobenius and Hankel norms, and the distance of two matrices.

use crate::error::{Result, check_shape};
use crate::matrix::sss::compress::steps::Steps;
use crate::matrix::sss::compress::sweeps::{check_finite, normal_squares, output_normal, squares};
use crate::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::scalar::Field;

/// `‖M‖²` in the Frobenius norm: with orthogonal states the sum of all squares in B and D.
fn squares_of<E: Field>(mut steps: Steps<E>) -> f64 {
    output_normal(&mut steps);
    normal_squares(&steps)
}

/// `‖S - T‖²` in the Frobenius norm, whose states are those of both.
///
/// The sweep subtracts no squares: the relative error is that of the generators of the difference, where a recursion
/// for Gramians has that of the square, and a difference of inner products loses all digits of near matrices.
fn distance<E: Field>(s: Steps<E>, t: Steps<E>) -> f64 {
    squares_of(s.minus(t))
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

/// The square sum of the diagonal blocks.
fn diagonal_squares<E: Field>(m: &Sss<E>) -> f64 {
    squares(m.d_blocks().flat())
}

impl<E: Field> Sss<E> {
    /// The Frobenius norm, in O(len · order³).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    pub fn norm_frobenius(&self) -> Result<f64> {
        check_finite(self)?;
        Ok(squares_of(Steps::new(self)).sqrt())
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
        Ok(distance(Steps::new(self), Steps::new(other)).sqrt())
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
        Ok((2.0 * squares_of(Steps::strict(self.lower())) + diagonal_squares(self.lower())).sqrt())
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
        let triangle = distance(Steps::strict(self.lower()), Steps::strict(other.lower()));
        let (d, e) = (self.diagonal_blocks().flat(), other.diagonal_blocks().flat());
        let diagonal: Vec<E> = d.iter().zip(e).map(|(d, e)| *d - *e).collect();
        Ok((2.0 * triangle + squares(&diagonal)).sqrt())
    }
}
