//! The operators `+`, `-` and `*` on references.
//!
//! Sizes may not fit, so `&s + &t` is a [`Result`]: `(&s + &t)?`. Only a multiple and a negative always exist.

use std::ops::{Add, Mul, Neg, Sub};

use num_traits::One;

use super::super::{HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use crate::error::Result;
use crate::scalar::Field;

macro_rules! impl_operator {
    ($operator:ident, $name:ident, $($left:ty, $right:ty => $output:ty, $method:ident;)*) => {$(
        impl<E: Field> $operator<&$right> for &$left {
            type Output = Result<$output>;
            fn $name(self, other: &$right) -> Result<$output> { self.$method(other) }
        }
    )*};
}
impl_operator!(Add, add,
    Sss<E>, Sss<E> => Sss<E>, add;
    Upper<Sss<E>>, Upper<Sss<E>> => Upper<Sss<E>>, add;
    Quasiseparable<E>, Quasiseparable<E> => Quasiseparable<E>, add;
    HermitianQuasiseparable<E>, HermitianQuasiseparable<E> => HermitianQuasiseparable<E>, add;
);
impl_operator!(Sub, sub,
    Sss<E>, Sss<E> => Sss<E>, subtract;
    Upper<Sss<E>>, Upper<Sss<E>> => Upper<Sss<E>>, subtract;
    Quasiseparable<E>, Quasiseparable<E> => Quasiseparable<E>, subtract;
    HermitianQuasiseparable<E>, HermitianQuasiseparable<E> => HermitianQuasiseparable<E>, subtract;
);
impl_operator!(Mul, mul,
    Sss<E>, Sss<E> => Sss<E>, multiply_lower;
    Sss<E>, Upper<Sss<E>> => Quasiseparable<E>, multiply_upper;
    Upper<Sss<E>>, Sss<E> => Quasiseparable<E>, multiply_lower;
    Upper<Sss<E>>, Upper<Sss<E>> => Upper<Sss<E>>, multiply_upper;
    Quasiseparable<E>, Quasiseparable<E> => Quasiseparable<E>, multiply;
);

macro_rules! impl_multiple {
    ($($matrix:ty),*) => {$(
        impl<E: Field> Mul<E> for &$matrix {
            type Output = $matrix;
            fn mul(self, factor: E) -> $matrix { self.scaled(factor) }
        }
        impl<E: Field> Neg for &$matrix {
            type Output = $matrix;
            fn neg(self) -> $matrix { self.scaled(-E::one()) }
        }
    )*};
}
impl_multiple!(Sss<E>, Upper<Sss<E>>, Quasiseparable<E>);

impl<E: Field> Mul<E::Real> for &HermitianQuasiseparable<E> {
    type Output = HermitianQuasiseparable<E>;
    fn mul(self, factor: E::Real) -> HermitianQuasiseparable<E> {
        self.scaled(factor)
    }
}

impl<E: Field> Neg for &HermitianQuasiseparable<E> {
    type Output = HermitianQuasiseparable<E>;
    fn neg(self) -> HermitianQuasiseparable<E> {
        self.scaled(-E::Real::one())
    }
}

/// `m.adjoint() * &t`: the numbers of the lower matrix are shared and not copied.
impl<E: Field> Mul<&Sss<E>> for Upper<&Sss<E>> {
    type Output = Result<Quasiseparable<E>>;
    fn mul(self, other: &Sss<E>) -> Result<Quasiseparable<E>> {
        Upper(self.0.clone()).multiply_lower(other)
    }
}

/// `&m * t.adjoint()`: the numbers of the lower matrix are shared and not copied.
impl<E: Field> Mul<Upper<&Sss<E>>> for &Sss<E> {
    type Output = Result<Quasiseparable<E>>;
    fn mul(self, other: Upper<&Sss<E>>) -> Result<Quasiseparable<E>> {
        self.multiply_upper(&Upper(other.0.clone()))
    }
}
