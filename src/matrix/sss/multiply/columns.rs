//! The recurrence for many columns: numbers as entries, one order, elementwise transitions.

use super::super::kernels::Apply;
use super::uniform::{Numbers, Uniform};
use crate::linalg::{Direction, Generators, Into, Sweep};
use crate::matrix::MainDiagonal;
use crate::scalar::Field;

/// `y = M x` or `y += M x`; `x`, `y`: (len, width).
pub(super) fn multiply<E: Field>(u: Uniform<'_, E>, into: Into, (x, width): (&[E], usize), y: &mut [E]) {
    let one = [E::one()];
    let (a, apart) = match u.a {
        Numbers::One => (&one[..], 0),
        Numbers::Shared(a) => (a, 1),
        Numbers::Own(a) => (a, u.order),
    };
    let d = (u.diagonal == MainDiagonal::Included).then_some(u.d);
    let generators =
        Generators { a, apart, b: u.b, c: u.c, d, order: u.order, conjugate: u.how == Apply::Adjoint };
    let direction = if u.how == Apply::Plain { Direction::Forward } else { Direction::Backward };
    E::sweep(Sweep { generators, x, y, width, into, direction });
}
