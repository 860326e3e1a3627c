//! Inverses of triangular matrices, in the same orders.

use ndarray::Array2;

use super::super::{Blocks, Sss, Transition, Upper};
use crate::error::{Error, Result};
use crate::linalg::{inverse, product};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The inverse of a matrix with square and regular diagonal blocks, of the same orders.
    ///
    /// ```math
    /// A - B D^{-1} C, \quad B D^{-1}, \quad -D^{-1} C, \quad D^{-1}
    /// ```
    ///
    /// Transitions become dense. States that a matrix has beyond its Hankel ranks may grow in the inverse: compress
    /// before inverting.
    ///
    /// # Errors
    /// [`Error::Shape`] if a diagonal block is not square, [`Error::Singular`] if one has no inverse; both name the step.
    pub fn inverse(&self) -> Result<Self> {
        let len = self.len();
        let inverses = (0..len).map(|k| invert(self, k)).collect::<Result<Vec<_>>>()?;
        let mut c = Vec::with_capacity(len);
        let transition = Blocks::from_arrays((0..len).map(|k| {
            let read = product(inverses[k].view(), self.c(k));
            let a = self.a(k) - product(self.b(k), read.view());
            c.push(-read);
            a
        }));
        let b = (0..len).map(|k| product(self.b(k), inverses[k].view())).collect();
        Ok(Self::from_parts(
            Transition::Dense(transition),
            b,
            c.into_iter().collect(),
            inverses.into_iter().collect(),
        ))
    }
}

fn invert<E: Field>(m: &Sss<E>, k: usize) -> Result<Array2<E>> {
    let d = m.d(k);
    if !d.is_square() {
        return Err(Error::shape("d", format!("a square block at step {k}"), d.shape()));
    }
    inverse(d).ok_or_else(|| Error::Singular { step: k, found: format!("diagonal block {d}") })
}

impl<E: Field> Upper<Sss<E>> {
    /// The inverse of a matrix with square and regular diagonal blocks, of the same orders.
    ///
    /// # Errors
    /// As [`Sss::inverse`].
    pub fn inverse(&self) -> Result<Self> {
        Ok(Self(self.0.inverse()?))
    }
}
