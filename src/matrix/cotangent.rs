//! Adding cotangents.

use ndarray::{Array, Dimension};

use crate::matrix::Bidiagonal;
use crate::scalar::Field;

/// A cotangent that can be added to another of the same shape.
///
/// A generator that enters a result along several ways receives the sum of their cotangents: a mask shared
/// by several heads, or one multiplied with a few columns at a time. `()` is the cotangent of a matrix
/// without parameters.
pub trait Cotangent {
    /// `self += other`
    fn accumulate(&mut self, other: &Self);
}

impl Cotangent for () {
    fn accumulate(&mut self, _: &Self) {}
}

/// The cotangent of a single number.
impl<E: Field> Cotangent for E {
    fn accumulate(&mut self, other: &Self) {
        *self += *other;
    }
}

impl<E: Field, D: Dimension> Cotangent for Array<E, D> {
    fn accumulate(&mut self, other: &Self) {
        *self += other;
    }
}

impl<E: Field> Cotangent for Bidiagonal<E> {
    fn accumulate(&mut self, other: &Self) {
        let (diagonal, lower) = (self.diagonal() + other.diagonal(), self.lower() + other.lower());
        *self = Self::new(diagonal, lower).expect("both diagonals have one length");
    }
}
