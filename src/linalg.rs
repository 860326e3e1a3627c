//! Dense products of `ndarray` views, through `faer`: the only file that names it.

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use num_complex::Complex;

use crate::scalar::Field;

/// Whether a product replaces its destination or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// `dst = a b`
    Replace,
    /// `dst = dst + a b`
    Add,
}

/// The dense product of a scalar type; sealed, since this module is private.
pub trait Gemm: Sized {
    /// `dst = a b` or `dst += a b`, on the calling thread.
    fn gemm(dst: ArrayViewMut2<'_, Self>, into: Into, a: ArrayView2<'_, Self>, b: ArrayView2<'_, Self>);
}

macro_rules! impl_gemm {
    ($($t:ty),*) => {$(
        impl Gemm for $t {
            #[allow(unsafe_code)]
            fn gemm(
                mut dst: ArrayViewMut2<'_, $t>,
                into: Into,
                a: ArrayView2<'_, $t>,
                b: ArrayView2<'_, $t>,
            ) {
                let accum = match into { Into::Replace => Accum::Replace, Into::Add => Accum::Add };
                assert!(a.ncols() == b.nrows() && dst.dim() == (a.nrows(), b.ncols()));
                let (dr, dc) = (dst.strides()[0], dst.strides()[1]);
                // SAFETY: an ndarray view is valid for reads at every (i, j) within its shape at
                // pointer + i * stride 0 + j * stride 1, which is the contract of `MatRef`; both
                // borrows last for this call.
                let (a, b) = unsafe {
                    (
                        MatRef::from_raw_parts(a.as_ptr(), a.nrows(), a.ncols(), a.strides()[0], a.strides()[1]),
                        MatRef::from_raw_parts(b.as_ptr(), b.nrows(), b.ncols(), b.strides()[0], b.strides()[1]),
                    )
                };
                // SAFETY: as above, and a mutable ndarray view has exclusive access to its elements,
                // no two of which overlap.
                let dst = unsafe {
                    MatMut::from_raw_parts_mut(dst.as_mut_ptr(), dst.nrows(), dst.ncols(), dr, dc)
                };
                faer_matmul(dst, accum, a, b, <$t as num_traits::One>::one(), Par::Seq);
            }
        }
    )*};
}
impl_gemm!(f32, f64, Complex<f32>, Complex<f64>);

/// `a b`
pub(crate) fn matmul<E: Field>(a: ArrayView2<'_, E>, b: ArrayView2<'_, E>) -> Array2<E> {
    let mut dst = Array2::zeros((a.nrows(), b.ncols()));
    E::gemm(dst.view_mut(), Into::Replace, a, b);
    dst
}

/// `dst = a b`
pub(crate) fn set_matmul<E: Field>(dst: ArrayViewMut2<'_, E>, a: ArrayView2<'_, E>, b: ArrayView2<'_, E>) {
    E::gemm(dst, Into::Replace, a, b);
}

/// `dst += a b`
pub(crate) fn add_matmul<E: Field>(dst: ArrayViewMut2<'_, E>, a: ArrayView2<'_, E>, b: ArrayView2<'_, E>) {
    E::gemm(dst, Into::Add, a, b);
}

/// Runs a loop over slices compiled for the widest vectors that this machine has.
pub(crate) fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}
