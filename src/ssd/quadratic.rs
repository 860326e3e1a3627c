//! x
use super::run::{Run, RunGrad};
use crate::scalar::Scalar;
use ndarray::{ArrayView3, ArrayViewMut3};
pub(super) fn forward<T: Scalar>(
    _run: &Run<'_, T>,
    _state: ArrayViewMut3<'_, T::Acc>,
    _y: ArrayViewMut3<'_, T>,
) {
}
pub(super) fn vjp<T: Scalar>(
    _run: &Run<'_, T>,
    _h: ArrayView3<'_, T::Acc>,
    _dy: ArrayView3<'_, T>,
    _dh: ArrayViewMut3<'_, T::Acc>,
    _grad: RunGrad<'_, T>,
) {
}
