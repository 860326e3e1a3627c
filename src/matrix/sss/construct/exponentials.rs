//! Sums of exponentials, low rank, and 1-semiseparable matrices.

use ndarray::{Array1, Array2, ArrayView2};

use super::super::{HermitianQuasiseparable, Quasiseparable, Sss, Transition, bare};
use crate::error::{Error, Result, check_shape};
use crate::matrix::{OneSemiseparable, check};
use crate::scalar::Field;

/// A term $`w e^{-\lambda t}`$ of a sum of exponentials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exponential<E> {
    /// The weight w.
    pub weight: E,
    /// The rate λ; its real part is at least 0 where nothing should grow.
    pub rate: E,
}

impl<E: Field> Sss<E> {
    /// The causal kernel of a sum of exponentials at given times; the order is the number of terms, exact.
    ///
    /// ```math
    /// M_{ij} = \sum_r w_r\, e^{-\lambda_r (t_i - t_j)} \quad (i \ge j)
    /// ```
    ///
    /// Transitions are diagonal, $`A_k = \mathrm{diag}(e^{-\lambda_r (t_{k+1} - t_k)})`$: only differences of neighbouring
    /// times enter, so nothing overflows however long the range.
    ///
    /// # Shapes
    /// `times`: (len), not falling.
    ///
    /// # Errors
    /// [`Error::Value`] if times fall or a number is not finite.
    pub fn from_exponentials(times: &[E::Real], terms: &[Exponential<E>]) -> Result<Self> {
        let len = times.len();
        check_times::<E>(times)?;
        if let Some(term) = terms.iter().find(|t| !check::is_finite(t.weight) || !check::is_finite(t.rate)) {
            return Err(Error::Value {
                tensor: "terms",
                expected: "finite numbers",
                found: format!("{term:?}"),
            });
        }
        let decay = Array2::from_shape_fn((len, terms.len()), |(k, r)| match times.get(k + 1) {
            Some(next) => (-terms[r].rate * E::from_real(*next - times[k])).exponential(),
            None => E::one(),
        });
        let weights = Array2::from_shape_fn((len, terms.len()), |(_, r)| terms[r].weight);
        let sum = terms.iter().map(|t| t.weight).sum();
        Self::uniform(Transition::diagonal(decay.clone()), decay, weights, Array1::from_elem(len, sum))
    }

    /// The lower triangle of $`U V^H`$, the diagonal included; the order is that of the product, exact.
    ///
    /// # Shapes
    /// `u`, `v`: (len, order).
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in shape, or have no columns and more than 2²⁴ rows.
    pub fn from_low_rank(u: ArrayView2<'_, E>, v: ArrayView2<'_, E>) -> Result<Self> {
        check_shape("v", "shape of u", u.shape(), v.shape())?;
        bare::check_length("u", std::iter::once((u.nrows(), u.ncols() > 0)))?;
        let v = v.mapv(E::conj);
        let d = u.outer_iter().zip(v.outer_iter()).map(|(u, v)| u.dot(&v)).collect();
        Self::uniform(Transition::Identity, v, u.to_owned(), d)
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The matrix $`U V^H`$, both sides of the order of the product, exact.
    ///
    /// # Shapes
    /// `u`, `v`: (len, order).
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in shape, or have no columns and more than 2²⁴ rows.
    pub fn from_low_rank(u: ArrayView2<'_, E>, v: ArrayView2<'_, E>) -> Result<Self> {
        Self::new(Sss::from_low_rank(u, v)?, Sss::from_low_rank(v, u)?)
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The stationary covariance of a sum of exponentials at given times.
    ///
    /// ```math
    /// M_{ij} = \sum_r w_r\, e^{-\lambda_r (t_i - t_j)} \quad (i > j), \qquad M_{ii} = \sum_r w_r
    /// ```
    ///
    /// # Shapes
    /// `times`: (len), not falling.
    ///
    /// # Errors
    /// [`Error::Value`] if times fall, a number is not finite or the weights add up to a number that is not real.
    pub fn from_exponentials(times: &[E::Real], terms: &[Exponential<E>]) -> Result<Self> {
        Self::new(Sss::from_exponentials(times, terms)?)
    }

    /// The same matrix with `values` added to its diagonal.
    ///
    /// # Shapes
    /// `values`: (rows).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are other than `rows` values.
    pub fn with_added_diagonal(&self, values: &[E::Real]) -> Result<Self> {
        check_shape("values", "(rows)", &[self.rows()], &[values.len()])?;
        let mut lower = self.lower().clone();
        let mut values = values.iter();
        for k in 0..lower.len() {
            for (d, v) in lower.d.block_mut(k).diag_mut().iter_mut().zip(&mut values) {
                *d += E::from_real(*v);
            }
        }
        Ok(Self::from_lower(lower))
    }
}

/// Order 1: $`A_k = C_k = a_k`$ and ones elsewhere.
impl<E: Field> From<&OneSemiseparable<E>> for Sss<E> {
    fn from(m: &OneSemiseparable<E>) -> Self {
        let a = m.transitions();
        let len = a.len();
        let (ones, read) = (Array2::ones((len, 1)), Array2::from_shape_fn((len, 1), |(k, _)| a[k]));
        let d = Array1::ones(len);
        Self::uniform(Transition::Scalar(a.clone()), ones, read, d).expect("made of the same length")
    }
}

fn check_times<E: Field>(times: &[E::Real]) -> Result<()> {
    let finite = times.iter().all(|t| num_traits::Float::is_finite(*t));
    if let Some(k) = times.windows(2).position(|t| t[1] < t[0]).filter(|_| finite) {
        let (from, to) = (times[k], times[k + 1]);
        return Err(Error::Value {
            tensor: "times",
            expected: "times that do not fall",
            found: format!("{to} after {from} at {}", k + 1),
        });
    }
    match times.iter().position(|t| !num_traits::Float::is_finite(*t)) {
        None => Ok(()),
        Some(k) => Err(Error::Value {
            tensor: "times",
            expected: "finite numbers",
            found: format!("{} at {k}", times[k]),
        }),
    }
}
