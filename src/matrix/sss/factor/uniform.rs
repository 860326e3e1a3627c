//! placeholder
use super::super::kernels::Apply;
use super::super::{Blocks, Sss};
use super::ldl::Demand;
use crate::error::Result;
use crate::scalar::Field;
use ndarray::Array2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pivots {
    Unit,
    Stored,
}
pub(super) fn solve_lower<E: Field>(_m: &Sss<E>, _p: Pivots, _x: &mut Array2<E>) -> Result<bool> {
    Ok(false)
}
pub(super) fn solve_reverse<E: Field>(
    _m: &Sss<E>,
    _h: Apply,
    _p: Pivots,
    _x: &mut Array2<E>,
) -> Result<bool> {
    Ok(false)
}
pub(super) fn eliminate<E: Field>(_l: &Sss<E>, _d: &Blocks<E>, _w: Demand, _f: &mut Sss<E>) -> Result<bool> {
    Ok(false)
}
pub(super) fn divide_by_pivots<E: Field>(_f: &Sss<E>, _x: &mut Array2<E>) -> bool {
    false
}
pub(super) fn log_determinant_vjp<E: Field>(_l: &Sss<E>, _w: E::Real, _g: &mut Sss<E>) -> Result<bool> {
    Ok(false)
}
