//! The 1-norm and the ∞-norm: largest sums of absolute values in a column and in a row.

use ndarray::{Array1, Array2};

use super::estimate::Map;
use crate::error::Result;
use crate::matrix::sss::compress::sweeps::to_f64;
use crate::matrix::sss::finite::check_finite;
use crate::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Sss, Transition, Upper};
use crate::scalar::Field;

/// A number by what it lies between.
///
/// Sums of absolute values need all entries; what is linear in their number is a bound from above, by the absolute
/// values of generators, and the norm of a well chosen column from below. Where all orders are at most one, or all
/// generators nonnegative, both are the norm up to rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// At least this.
    pub lower: f64,
    /// At most this.
    pub upper: f64,
}

/// Sums over absolute values along columns and along rows, bounds from above.
struct Sums {
    columns: Vec<f64>,
    rows: Vec<f64>,
}

impl Sums {
    /// With `|A|`, `|B|`, `|C|`, `|D|`: one recurrence backwards for the columns, one forwards for the rows.
    ///
    /// ```math
    /// \lambda_k = \mathbf 1^\top |C_k| + \lambda_{k+1} |A_k|, \qquad \mu_{k+1} = |A_k| \mu_k + |B_k| \mathbf 1
    /// ```
    fn new<E: Field>(m: &Sss<E>) -> Self {
        let abs = |v: &E| to_f64(v.modulus());
        let (mut columns, mut rows) = (vec![0.0; m.columns()], Vec::with_capacity(m.rows()));
        let mut lambda = Array1::<f64>::zeros(m.orders().last().copied().unwrap_or(0));
        let offsets = m.column_offsets();
        for k in (0..m.len()).rev() {
            let own = m.d(k).map(abs).sum_axis(ndarray::Axis(0)) + lambda.dot(&m.b(k).map(abs));
            columns[offsets[k]..offsets[k + 1]].copy_from_slice(&own.to_vec());
            lambda = m.c(k).map(abs).sum_axis(ndarray::Axis(0)) + abs_a(m, k, lambda, Side::Left);
        }
        let mut mu = Array1::<f64>::zeros(m.orders()[0]);
        for k in 0..m.len() {
            rows.extend(m.d(k).map(abs).sum_axis(ndarray::Axis(1)) + m.c(k).map(abs).dot(&mu));
            mu = abs_a(m, k, mu, Side::Right) + m.b(k).map(abs).sum_axis(ndarray::Axis(1));
        }
        Self { columns, rows }
    }

    /// Those of the sum with an adjoint.
    fn plus_adjoint(mut self, upper: Self) -> Self {
        self.columns.iter_mut().zip(upper.rows).for_each(|(s, t)| *s += t);
        self.rows.iter_mut().zip(upper.columns).for_each(|(s, t)| *s += t);
        self
    }
}

/// From which side a vector multiplies a transition.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// `|A_k|` times a vector from one side; what does not act densely is not made dense.
fn abs_a<E: Field>(m: &Sss<E>, k: usize, v: Array1<f64>, side: Side) -> Array1<f64> {
    let (after, before) = (m.order_at(k + 1), m.order_at(k));
    let len = match side {
        Side::Left => before,
        Side::Right => after,
    };
    let mut out = Array1::zeros(len);
    match m.transition() {
        Transition::Identity => out.iter_mut().zip(&v).for_each(|(out, v)| *out = *v),
        Transition::Scalar(a) => {
            out.iter_mut().zip(&v).for_each(|(out, v)| *out = to_f64(a[k].modulus()) * v)
        }
        Transition::Diagonal(a) => {
            let a = a.block(k);
            out.iter_mut().zip(&v).zip(a).for_each(|((out, v), a)| *out = to_f64(a.modulus()) * v);
        }
        Transition::Dense(a) => {
            let a: Array2<f64> = a.block(k).map(|a| to_f64(a.modulus()));
            out = match side {
                Side::Left => v.dot(&a),
                Side::Right => a.dot(&v),
            };
        }
    }
    out
}

/// Where a sum is largest, and the sum.
fn largest(sums: &[f64]) -> (usize, f64) {
    sums.iter().enumerate().fold((0, 0.0), |best, (j, s)| if *s > best.1 { (j, *s) } else { best })
}

/// Whether the bound from above is the norm: no two terms of an entry can cancel.
fn exact<E: Field>(m: &Sss<E>) -> bool {
    let single = m.orders().iter().all(|n| *n <= 1);
    let positive = |v: &[E]| v.iter().all(|v| *v == E::from_real(v.modulus()));
    let transition = || match m.transition() {
        Transition::Identity => true,
        Transition::Scalar(a) => a.iter().all(|v| *v == E::from_real(v.modulus())),
        Transition::Diagonal(a) | Transition::Dense(a) => positive(a.flat()),
    };
    single || (positive(m.b_blocks().flat()) && positive(m.c_blocks().flat()) && transition())
}

impl Bounds {
    fn new<E: Field>(m: Map<'_, E>, sums: &[f64], exact: bool) -> Result<Self> {
        let (column, upper) = largest(sums);
        if exact || sums.is_empty() {
            return Ok(Self { lower: upper, upper });
        }
        let lower = m.norm_one_estimate()?.max(m.column_norm(column)?);
        Ok(Self { lower: lower.min(upper), upper })
    }
}

impl<E: Field> Sss<E> {
    /// The 1-norm, the largest sum of absolute values in a column, in O(len · order²).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    pub fn norm_one(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self), &sums.columns, exact(self))
    }

    /// The ∞-norm, the largest sum of absolute values in a row, in O(len · order²).
    ///
    /// # Errors
    /// As [`norm_one`](Self::norm_one).
    pub fn norm_inf(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self).adjoint(), &sums.rows, exact(self))
    }

    fn sums(&self) -> Result<Sums> {
        check_finite(self)?;
        Ok(Sums::new(self))
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The 1-norm: the ∞-norm of the lower matrix.
    ///
    /// # Errors
    /// As [`Sss::norm_one`].
    pub fn norm_one(&self) -> Result<Bounds> {
        self.0.norm_inf()
    }

    /// The ∞-norm: the 1-norm of the lower matrix.
    ///
    /// # Errors
    /// As [`Sss::norm_one`].
    pub fn norm_inf(&self) -> Result<Bounds> {
        self.0.norm_one()
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The 1-norm, the largest sum of absolute values in a column, in O(len · order²).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    pub fn norm_one(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self), &sums.columns, exact(self.lower()) && exact(self.upper()))
    }

    /// The ∞-norm, the largest sum of absolute values in a row, in O(len · order²).
    ///
    /// # Errors
    /// As [`norm_one`](Self::norm_one).
    pub fn norm_inf(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self).adjoint(), &sums.rows, exact(self.lower()) && exact(self.upper()))
    }

    fn sums(&self) -> Result<Sums> {
        check_finite(self.lower())?;
        check_finite(self.upper())?;
        Ok(Sums::new(self.lower()).plus_adjoint(Sums::new(self.upper())))
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The 1-norm, the largest sum of absolute values in a column, in O(len · order²).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    pub fn norm_one(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self), &sums.columns, exact(self.lower()))
    }

    /// The ∞-norm, the largest sum of absolute values in a row, in O(len · order²).
    ///
    /// # Errors
    /// As [`norm_one`](Self::norm_one).
    pub fn norm_inf(&self) -> Result<Bounds> {
        let sums = self.sums()?;
        Bounds::new(Map::of(self).adjoint(), &sums.rows, exact(self.lower()))
    }

    /// The bound from above of the ∞-norm alone.
    pub(super) fn norm_inf_bound(&self) -> Result<f64> {
        Ok(largest(&self.sums()?.rows).1)
    }

    fn sums(&self) -> Result<Sums> {
        check_finite(self.lower())?;
        let (transition, b, c, d) = self.lower().clone().into_parts();
        let strict = Sss::from_parts(transition, b, c, d.map(|_| E::zero()));
        Ok(Sums::new(self.lower()).plus_adjoint(Sums::new(&strict)))
    }
}
