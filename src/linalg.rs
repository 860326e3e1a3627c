//! Dense products and decompositions of `ndarray` views, through `faer`, and transforms, through `rustfft`: the only module
//! that names them.

mod decompose;
mod dots;
mod eights;
mod fft;
mod halves;
mod lookahead;
mod operator;
mod recurrence;
mod small;
mod sweep;

pub(crate) use decompose::*;
pub use dots::Dots;
pub(crate) use eights::{Eight, Eights, Simd, WithSimd, dispatch};
pub use fft::{Fft, Sign};
pub use halves::Widening;
pub use lookahead::Lookahead;
pub use operator::Operator;
pub use recurrence::{Inputs, Reads, Recurrence};
pub(crate) use small::*;
pub(crate) use sweep::{Direction, Generators, Sweep, Sweeps};

mod jacobi;
mod reflect;

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, CowArray, Ix2, s};
use num_complex::Complex;
use num_traits::Float;

use crate::scalar::Field;

pub(crate) use jacobi::{RightSvd, right_svd, scale_of};
pub(crate) use reflect::{root_of_squares, thin_qr};

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
    /// Singular values, largest first; `None` if the iteration does not converge.
    fn singular_values(a: ArrayView2<'_, Self>) -> Option<Vec<f64>>;
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
                let (ar, ac) = strides(a.shape(), a.strides());
                let (br, bc) = strides(b.shape(), b.strides());
                let (dr, dc) = strides(dst.shape(), dst.strides());
                // SAFETY: an ndarray view is valid for reads at every (i, j) within its shape at
                // pointer + i * stride 0 + j * stride 1 (an axis of one element has i = 0 only, whatever its
                // stride), which is the contract of `MatRef`; both
                // borrows last for this call.
                let (a, b) = unsafe {
                    (
                        MatRef::from_raw_parts(a.as_ptr(), a.nrows(), a.ncols(), ar, ac),
                        MatRef::from_raw_parts(b.as_ptr(), b.nrows(), b.ncols(), br, bc),
                    )
                };
                // SAFETY: as above, and a mutable ndarray view has exclusive access to its elements,
                // no two of which overlap.
                let dst = unsafe {
                    MatMut::from_raw_parts_mut(dst.as_mut_ptr(), dst.nrows(), dst.ncols(), dr, dc)
                };
                faer_matmul(dst, accum, a, b, <$t as num_traits::One>::one(), Par::Seq);
            }
            fn singular_values(a: ArrayView2<'_, $t>) -> Option<Vec<f64>> {
                let a = Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]);
                let values = a.singular_values().ok()?;
                Some(values.into_iter().map(f64::from).collect())
            }
        }
    )*};
}
impl_gemm!(f32, f64, Complex<f32>, Complex<f64>);

/// The strides of a matrix, with one rule for axes of a single element: there any stride names the same elements, and
/// the product must not round differently for it.
fn strides(shape: &[usize], strides: &[isize]) -> (isize, isize) {
    match (shape[0] <= 1, shape[1] <= 1) {
        (true, true) => (1, 1),
        (true, false) => (if strides[1] == 1 { shape[1] as isize } else { 1 }, strides[1]),
        (false, true) => (strides[0], if strides[0] == 1 { shape[0] as isize } else { 1 }),
        (false, false) => (strides[0], strides[1]),
    }
}

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

/// Singular values of `a`, largest first; `None` if `a` holds a number that is not finite.
pub(crate) fn singular_values<E: Field>(a: ArrayView2<'_, E>) -> Option<Vec<f64>> {
    if a.iter().any(|v| !v.modulus().is_finite()) {
        return None;
    }
    E::singular_values(a)
}

/// Runs a loop over slices compiled for the widest vectors that this machine has. The closure needs
/// `#[inline(always)]`, as do the functions that it calls: what is not inlined keeps the baseline's narrow vectors.
pub(crate) fn vectorize<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Asks the machine to bring the lines at every 64 bytes of `count` numbers from `from` on into its first cache; there may
/// be nothing.
#[inline(always)]
pub(crate) fn prefetch<E>(from: *const E, count: usize) {
    for line in (0..count * size_of::<E>()).step_by(LINE) {
        prefetch_behind(from, line);
    }
}

/// Bytes that a machine brings at once.
pub(crate) const LINE: usize = 64;

/// Asks the machine to bring the line that stands `bytes` behind `from` into its first cache; there may be nothing.
#[inline(always)]
pub(crate) fn prefetch_behind<E>(from: *const E, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = from.cast::<i8>().wrapping_add(bytes);
        // SAFETY: a hint, which faults at no address; nothing is read or written.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// Partial sums that a dot product keeps, so that additions do not wait for one another.
pub(crate) const LANES: usize = 32;

/// `Σ a b` of two slices of one length.
#[inline(always)]
pub(crate) fn dot<A: Field>(a: &[A], b: &[A]) -> A {
    let mut sums = [A::zero(); LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for k in 0..LANES {
            sums[k] += a[k] * b[k];
        }
    }
    let tail: A = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| a * b).sum();
    total(sums) + tail
}

/// The sum of a slice.
#[inline(always)]
pub(crate) fn sum_of<A: Field>(values: &[A]) -> A {
    let mut sums = [A::zero(); LANES];
    let mut values = values.chunks_exact(LANES);
    for values in &mut values {
        for k in 0..LANES {
            sums[k] += values[k];
        }
    }
    let tail: A = values.remainder().iter().copied().sum();
    total(sums) + tail
}

/// The sum of partial sums, pairwise.
#[inline(always)]
pub(crate) fn total<A: Field>(mut sums: [A; LANES]) -> A {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            let other = sums[k + width];
            sums[k] += other;
        }
    }
    sums[0]
}

/// Rows of a tile: triangular products skip what lies above the diagonal in steps of this many rows.
const TILE: usize = 32;

/// The tiles on and below the diagonal of `dst = a b`; those above are left as they are.
/// `a`: (n, k), `b`: (k, n).
pub(crate) fn set_lower_matmul<E: Field>(
    mut dst: ArrayViewMut2<'_, E>,
    a: ArrayView2<'_, E>,
    b: ArrayView2<'_, E>,
) {
    let n = a.nrows();
    for start in (0..n).step_by(TILE) {
        let end = n.min(start + TILE);
        set_matmul(dst.slice_mut(s![start..end, ..end]), a.slice(s![start..end, ..]), b.slice(s![.., ..end]));
    }
}

/// `dst += w x` with `w` lower triangular, zeros stored above the diagonal in its diagonal tiles.
/// `w`: (n, n), `x`: (n, k).
pub(crate) fn add_triangular_matmul<E: Field>(
    mut dst: ArrayViewMut2<'_, E>,
    w: ArrayView2<'_, E>,
    x: ArrayView2<'_, E>,
) {
    let n = w.nrows();
    for start in (0..n).step_by(TILE) {
        let end = n.min(start + TILE);
        add_matmul(dst.slice_mut(s![start..end, ..]), w.slice(s![start..end, ..end]), x.slice(s![..end, ..]));
    }
}

/// `dst = wᵀ y` with `w` as in [`add_triangular_matmul`].
pub(crate) fn set_triangular_adjoint_matmul<E: Field>(
    mut dst: ArrayViewMut2<'_, E>,
    w: ArrayView2<'_, E>,
    y: ArrayView2<'_, E>,
) {
    let n = w.nrows();
    for start in (0..n).step_by(TILE) {
        let end = n.min(start + TILE);
        set_matmul(
            dst.slice_mut(s![start..end, ..]),
            w.slice(s![start.., start..end]).t(),
            y.slice(s![start.., ..]),
        );
    }
}

/// The same matrix with every row contiguous: itself, or a copy.
pub(crate) fn with_flat_rows<A: Clone>(m: CowArray<'_, A, Ix2>) -> CowArray<'_, A, Ix2> {
    if m.ncols() <= 1 || m.strides()[1] == 1 { m } else { m.as_standard_layout().into_owned().into() }
}

/// The elements of a row that is known to be contiguous.
#[inline(always)]
pub(crate) fn flat<A>(row: ArrayView1<'_, A>) -> &[A] {
    match row.to_slice() {
        Some(row) => row,
        None => unreachable!("rows of scratch memory are contiguous"),
    }
}

/// The elements of a row that is known to be contiguous.
#[inline(always)]
pub(crate) fn flat_mut<A>(row: ArrayViewMut1<'_, A>) -> &mut [A] {
    match row.into_slice() {
        Some(row) => row,
        None => unreachable!("rows of scratch memory are contiguous"),
    }
}
