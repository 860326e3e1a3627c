//! Condition numbers: exact where the inverse has one state, estimates by solutions elsewhere.

use num_traits::{Float, One, Zero};

use super::estimate::Map;
use crate::error::{Error, Result};
use crate::matrix::OneSemiseparable;
use crate::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::scalar::Field;

impl<E: Field> OneSemiseparable<E> {
    /// The 1-norm, exact: the largest sum of absolute values in a column, by the recurrence from the end.
    pub fn norm_one(&self) -> E::Real {
        let a = self.transitions();
        let mut sum = E::Real::zero();
        (0..a.len()).rev().fold(E::Real::zero(), |most, j| {
            sum = match a.get(j + 1) {
                Some(a) => E::Real::one() + a.modulus() * sum,
                None => E::Real::one(),
            };
            most.max(sum)
        })
    }

    /// The ∞-norm, exact: the largest sum of absolute values in a row, by the recurrence from the start.
    pub fn norm_inf(&self) -> E::Real {
        let mut sum = E::Real::zero();
        self.transitions().iter().enumerate().fold(E::Real::zero(), |most, (i, a)| {
            sum = if i == 0 { E::Real::one() } else { E::Real::one() + a.modulus() * sum };
            most.max(sum)
        })
    }

    /// The condition number $`\lVert M \rVert_1 \lVert M^{-1} \rVert_1`$, exact in O(len): the inverse has two diagonals,
    /// ones and $`-a_{j+1}`$ below them.
    pub fn condition_one(&self) -> E::Real {
        self.norm_one() * self.inverse_norm()
    }

    /// The condition number in the ∞-norm, likewise.
    pub fn condition_inf(&self) -> E::Real {
        self.norm_inf() * self.inverse_norm()
    }

    /// Row i of the inverse has 1 and `a_i`, column i - 1 as well: both norms are the same.
    fn inverse_norm(&self) -> E::Real {
        let least = if self.transitions().is_empty() { E::Real::zero() } else { E::Real::one() };
        self.transitions().iter().skip(1).fold(least, |most, a| most.max(E::Real::one() + a.modulus()))
    }
}

/// Products of norms of a map and of its inverse.
fn square<E>((rows, columns): (usize, usize), m: &Sss<E>) -> Result<()>
where
    E: Field,
{
    if rows == columns && (0..m.len()).all(|k| m.inputs(k) == m.outputs(k)) {
        return Ok(());
    }
    Err(Error::shape("d", "square blocks, as an inverse needs", &[rows, columns]))
}

impl<E: Field> Sss<E> {
    /// The condition number $`\lVert M \rVert_1 \lVert M^{-1} \rVert_1`$ from below, nearly always itself; exact up to
    /// rounding for numbers as blocks and orders of at most one, where no two terms of an entry can cancel.
    ///
    /// # Errors
    /// [`Error::Shape`] if a diagonal block is not square, [`Error::Singular`] if one is singular,
    /// [`Error::Value`] if a generator is not finite.
    pub fn condition_one_estimate(&self) -> Result<f64> {
        square((self.rows(), self.columns()), self)?;
        let norm = self.norm_one()?.lower;
        let single = self.orders().iter().all(|n| *n <= 1) && (0..self.len()).all(|k| self.inputs(k) <= 1);
        if single {
            return Ok(norm * self.inverse()?.norm_one()?.lower);
        }
        Ok(norm * self.solution().norm_one_estimate()?)
    }

    /// The condition number in the 2-norm from below, usually to some digits, by products and solutions.
    ///
    /// # Errors
    /// As [`condition_one_estimate`](Self::condition_one_estimate).
    pub fn condition_two_estimate(&self) -> Result<f64> {
        square((self.rows(), self.columns()), self)?;
        Ok(Map::of(self).norm_two_estimate()? * self.solution().norm_two_estimate()?)
    }

    fn solution(&self) -> Map<'_, E> {
        Map::new((self.columns(), self.rows()), |y| self.solve(y), |y| self.solve_adjoint(y))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// As [`Sss::condition_one_estimate`].
    ///
    /// # Errors
    /// As there.
    pub fn condition_one_estimate(&self) -> Result<f64> {
        let lower = &self.0;
        square((lower.rows(), lower.columns()), lower)?;
        Ok(lower.norm_inf()?.lower * lower.solution().adjoint().norm_one_estimate()?)
    }

    /// As [`Sss::condition_two_estimate`]: that of the lower matrix.
    ///
    /// # Errors
    /// As there.
    pub fn condition_two_estimate(&self) -> Result<f64> {
        self.0.condition_two_estimate()
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The condition number $`\lVert M \rVert_1 \lVert M^{-1} \rVert_1`$ from below, nearly always itself.
    ///
    /// Solutions come from the orthogonal factorisation, which is stable for every matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] if the matrix is not square, [`Error::Value`] if a generator is not finite, [`Error::Singular`] if a
    /// pivot vanishes. A matrix that is singular but for rounding has a condition number of the inverse of that.
    pub fn condition_one_estimate(&self) -> Result<f64> {
        let norm = self.norm_one()?.lower;
        Ok(norm * self.with_solution(|inverse| inverse.norm_one_estimate())?)
    }

    /// The condition number in the 2-norm from below, usually to some digits.
    ///
    /// # Errors
    /// As [`condition_one_estimate`](Self::condition_one_estimate).
    pub fn condition_two_estimate(&self) -> Result<f64> {
        let norm = Map::of(self).norm_two_estimate()?;
        Ok(norm * self.with_solution(|inverse| inverse.norm_two_estimate())?)
    }

    fn with_solution<R>(&self, f: impl FnOnce(Map<'_, E>) -> Result<R>) -> Result<R> {
        let qr = self.qr()?;
        let map = Map::new((self.columns(), self.rows()), |y| qr.solve(y), |y| qr.solve_adjoint(y));
        f(map)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// As [`Quasiseparable::condition_one_estimate`].
    ///
    /// # Errors
    /// As there.
    pub fn condition_one_estimate(&self) -> Result<f64> {
        self.to_quasiseparable().condition_one_estimate()
    }

    /// As [`Quasiseparable::condition_two_estimate`].
    ///
    /// # Errors
    /// As there.
    pub fn condition_two_estimate(&self) -> Result<f64> {
        self.to_quasiseparable().condition_two_estimate()
    }
}
