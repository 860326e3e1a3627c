//! Adjoints, transposes and conjugates: generators change places, orders stay.

use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// The adjoint, without a copy.
    pub fn adjoint(&self) -> Upper<&Self> {
        Upper(self)
    }

    /// The transpose, an upper matrix.
    pub fn transpose(&self) -> Upper<Self> {
        Upper(self.conjugate())
    }

    /// The matrix of the conjugated entries.
    pub fn conjugate(&self) -> Self {
        Self {
            orders: self.orders.clone(),
            transition: self.transition.map(E::conj),
            b: self.b.map(E::conj),
            c: self.c.map(E::conj),
            d: self.d.map(E::conj),
        }
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The adjoint, a lower matrix.
    pub fn adjoint(self) -> Sss<E> {
        self.0
    }

    /// The transpose, a lower matrix.
    pub fn transpose(self) -> Sss<E> {
        self.0.conjugate()
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The adjoint: lower and upper part change places.
    pub fn adjoint(&self) -> Self {
        let mut lower = self.upper().clone();
        lower.d = adjoint_blocks(&self.lower().d);
        Self::new(lower, self.lower().clone()).expect("sizes are those of this matrix, swapped")
    }

    /// The transpose: lower and upper part change places, conjugated.
    pub fn transpose(&self) -> Self {
        self.adjoint().conjugate()
    }

    /// The matrix of the conjugated entries.
    pub fn conjugate(&self) -> Self {
        let (lower, upper) = (self.lower().conjugate(), self.upper().conjugate());
        Self::new(lower, upper).expect("sizes are those of this matrix")
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The transpose, which is the matrix of the conjugated entries.
    pub fn transpose(&self) -> Self {
        Self::from_lower(self.lower().conjugate())
    }
}

/// The adjoint of every block.
pub(in crate::matrix::sss) fn adjoint_blocks<E: Field>(blocks: &Blocks<E>) -> Blocks<E> {
    blocks.transposed().map(E::conj)
}
