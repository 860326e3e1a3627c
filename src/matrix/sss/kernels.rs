//! Products of the small blocks that steps are made of, on row-major slices.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::transition::into_flat;
use crate::linalg::{add_matmul, large};
use crate::scalar::Field;

/// Which matrix made of a block is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apply {
    /// `M`
    Plain,
    /// `Mᵀ`
    Transposed,
    /// `Mᴴ`
    Adjoint,
}

impl Apply {
    #[inline(always)]
    pub(super) fn of<E: Field>(self, value: E) -> E {
        if self == Self::Adjoint { value.conj() } else { value }
    }
}

/// `out += M x` with `m` (rows, columns), or with its transpose or adjoint; `x` and `out` have `width` columns.
#[inline(always)]
pub(crate) fn add_product<E: Field>(
    how: Apply,
    (m, (rows, columns)): (&[E], (usize, usize)),
    x: &[E],
    width: usize,
    out: &mut [E],
) {
    if width >= 8 && rows * columns * width >= large::<E>() {
        return dense_product(how, (m, (rows, columns)), x, width, out);
    }
    if columns == 0 || width == 0 {
        return;
    }
    match (how, width) {
        (Apply::Plain, 1) => {
            for (out, m) in out.iter_mut().zip(m.chunks_exact(columns)) {
                *out += m.iter().zip(x).map(|(m, x)| *m * *x).sum();
            }
        }
        (Apply::Plain, _) => {
            for (out, m) in out.chunks_exact_mut(width).zip(m.chunks_exact(columns)) {
                for (m, x) in m.iter().zip(x.chunks_exact(width)) {
                    axpy(out, *m, x);
                }
            }
        }
        (_, 1) => {
            for (x, m) in x.iter().zip(m.chunks_exact(columns)) {
                out.iter_mut().zip(m).for_each(|(out, m)| *out += how.of(*m) * *x);
            }
        }
        _ => {
            for (x, m) in x.chunks_exact(width).zip(m.chunks_exact(columns)) {
                for (out, m) in out.chunks_exact_mut(width).zip(m) {
                    axpy(out, how.of(*m), x);
                }
            }
        }
    }
}

#[inline(never)]
fn dense_product<E: Field>(
    how: Apply,
    (m, (rows, columns)): (&[E], (usize, usize)),
    x: &[E],
    width: usize,
    out: &mut [E],
) {
    let m = view(m, rows, columns);
    match how {
        Apply::Plain => add_matmul(view_mut(out, rows, width), m, view(x, columns, width)),
        Apply::Transposed => {
            add_matmul(view_mut(out, columns, width), m.reversed_axes(), view(x, rows, width));
        }
        Apply::Adjoint => {
            let conjugated = m.mapv(E::conj);
            add_matmul(view_mut(out, columns, width), conjugated.t(), view(x, rows, width));
        }
    }
}

/// `out += u vᴴ`; `u`: (rows, width), `v`: (columns, width), `out`: (rows, columns).
#[inline(always)]
pub(crate) fn add_outer<E: Field>(u: &[E], v: &[E], width: usize, out: &mut [E]) {
    if width == 0 || u.is_empty() || v.is_empty() {
        return;
    }
    let columns = v.len() / width;
    if width == 1 {
        for (out, u) in out.chunks_exact_mut(columns).zip(u) {
            out.iter_mut().zip(v).for_each(|(out, v)| *out += *u * v.conj());
        }
        return;
    }
    for (out, u) in out.chunks_exact_mut(columns).zip(u.chunks_exact(width)) {
        for (out, v) in out.iter_mut().zip(v.chunks_exact(width)) {
            *out += dot_conj(u, v);
        }
    }
}

/// A square block of `size` rows replaced by its Hermitian part, `(A + Aᴴ) / 2`.
#[inline(always)]
pub(super) fn make_hermitian<E: Field>(a: &mut [E], size: usize) {
    let half = E::one() / (E::one() + E::one());
    for i in 0..size {
        for j in 0..=i {
            let mean = half * (a[i * size + j] + a[j * size + i].conj());
            (a[i * size + j], a[j * size + i]) = (mean, mean.conj());
        }
    }
}

/// The Hermitian part of a square block.
pub(super) fn hermitian_part<E: Field>(a: Array2<E>) -> Array2<E> {
    let size = a.nrows();
    let mut values = into_flat(a);
    make_hermitian(&mut values, size);
    Array2::from_shape_vec((size, size), values).expect("the numbers of a square block")
}

/// `values` as (rows, columns).
pub(crate) fn view<E>(values: &[E], rows: usize, columns: usize) -> ArrayView2<'_, E> {
    ArrayView2::from_shape((rows, columns), values).expect("the caller gives rows * columns numbers")
}

/// `values` as (rows, columns).
pub(crate) fn view_mut<E>(values: &mut [E], rows: usize, columns: usize) -> ArrayViewMut2<'_, E> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("the caller gives rows * columns numbers")
}

/// `y += a x`
#[inline(always)]
pub(crate) fn axpy<E: Field>(y: &mut [E], a: E, x: &[E]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * *x;
    }
}

/// `Σ_p u_p conj(v_p)`, in eight sums that do not wait for one another.
#[inline(always)]
pub(crate) fn dot_conj<E: Field>(u: &[E], v: &[E]) -> E {
    const LANES: usize = 8;
    let ((u, u_rest), (v, v_rest)) = (u.as_chunks::<LANES>(), v.as_chunks::<LANES>());
    let mut sums = [E::zero(); LANES];
    for (u, v) in u.iter().zip(v) {
        for l in 0..LANES {
            sums[l] += u[l] * v[l].conj();
        }
    }
    let mut sum = sums.into_iter().sum();
    for (u, v) in u_rest.iter().zip(v_rest) {
        sum += *u * v.conj();
    }
    sum
}
