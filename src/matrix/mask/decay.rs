//! The decay mask: one factor per step.

use ndarray::{Array1, Array2, ArrayView2};

use crate::error::Result;
use crate::matrix::{OneSemiseparable, StructuredMatrix, check};
use crate::scalar::Field;

/// The mask of RetNet (paper, section 4.3): the 1-semiseparable matrix of a constant transition.
///
/// ```math
/// L_{ij} = \gamma^{i-j} \quad (i \ge j), \qquad L_{ij} = 0 \quad (i < j)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay<E> {
    len: usize,
    gamma: E,
}

impl<E: Field> Decay<E> {
    /// The mask of this length and this factor, between 0 and 1 where it is to decay.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if `gamma` is not finite.
    pub fn new(len: usize, gamma: E) -> Result<Self> {
        check::finite("gamma", ndarray::aview1(&[gamma]))?;
        Ok(Self { len, gamma })
    }

    /// The factor per step.
    pub fn gamma(&self) -> E {
        self.gamma
    }

    fn one_semiseparable(&self) -> Result<OneSemiseparable<E>> {
        OneSemiseparable::new(Array1::from_elem(self.len, self.gamma))
    }
}

impl<E: Field> StructuredMatrix<E> for Decay<E> {
    /// The cotangent of γ.
    type Gradient = E;

    fn shape(&self) -> (usize, usize) {
        (self.len, self.len)
    }

    fn to_dense(&self) -> Array2<E> {
        Array2::from_shape_fn((self.len, self.len), |(i, j)| match i.checked_sub(j) {
            Some(distance) => num_traits::pow(self.gamma, distance),
            None => E::zero(),
        })
    }

    /// The recurrence $`y_t = \gamma y_{t-1} + x_t`$; O(len) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.one_semiseparable()?.matmul(x)
    }

    /// The recurrence backwards, with $`\bar\gamma`$; O(len) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.one_semiseparable()?.adjoint_matmul(y)
    }

    /// $`\mathrm{d}\gamma = \sum_t \mathrm{d}a_t`$ of the 1-semiseparable matrix; O(len) a column.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(E, Array2<E>)> {
        let (d_a, dx) = self.one_semiseparable()?.vjp(x, dy)?;
        Ok((d_a.sum(), dx))
    }

    /// $`\mathrm{d}\gamma = \sum_{n \ge 1} n\, \bar\gamma^{n-1} \sum_j D_{j+n,j}`$; O(len²).
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<E> {
        check::dense_cotangent((self.len, self.len), d_dense)?;
        let mut d_gamma = E::zero();
        let (mut n, mut power) = (E::zero(), E::one());
        for distance in 1..self.len {
            n += E::one();
            let diagonal = (distance..self.len).map(|i| d_dense[[i, i - distance]]).sum::<E>();
            d_gamma += n * power.conj() * diagonal;
            power *= self.gamma;
        }
        Ok(d_gamma)
    }
}
