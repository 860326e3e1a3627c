//! Products and other operations of small dense blocks, by plain loops.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, ShapeBuilder};

use crate::scalar::Field;

/// `Aᴴ`
pub(crate) fn adjoint<E: Field>(a: ArrayView2<'_, E>) -> Array2<E> {
    a.t().mapv(E::conj)
}

/// Columns of a product that are summed side by side.
const SIDE: usize = 8;
/// Multiplications from which a product is left to the library, whose call costs as much as some hundred of them; measured
/// in `docs/benchmarks.md`. Loops over complex numbers find no vectors, so theirs are few.
#[inline(always)]
pub(crate) const fn large<E: Field>() -> usize {
    if size_of::<E>() == size_of::<E::Real>() { 1024 } else { 128 }
}

/// `a b` for small matrices: plain loops below the size from which the library is called.
pub(crate) fn product<E: Field>(a: ArrayView2<'_, E>, b: ArrayView2<'_, E>) -> Array2<E> {
    assert_eq!(a.ncols(), b.nrows(), "columns of a, rows of b");
    let shape = (a.nrows(), b.ncols());
    let mut dst = vec![E::zero(); shape.0 * shape.1];
    add_flat_product(&mut dst, &flat_rows(a), &flat_rows(b), b.dim());
    Array2::from_shape_vec(shape, dst).expect("rows * columns numbers")
}

/// `dst += a b` with the numbers of each row after row; `b`: (inner, columns).
pub(crate) fn add_flat_product<E: Field>(dst: &mut [E], a: &[E], b: &[E], (inner, columns): (usize, usize)) {
    add_product_to_part(dst, columns, a, b, (inner, columns));
}

/// `dst += a b` where the rows of `dst`, each at the start of the last, begin `stride` numbers apart.
pub(crate) fn add_product_to_part<E: Field>(
    dst: &mut [E],
    stride: usize,
    a: &[E],
    b: &[E],
    (inner, columns): (usize, usize),
) {
    if dst.is_empty() || inner == 0 || columns == 0 {
        return;
    }
    if a.len() * columns >= large::<E>() {
        return add_library_product(dst, stride, a, b, (inner, columns));
    }
    super::vectorize(
        #[inline(always)]
        || add_rows(dst, stride, b, columns, each_row(a, inner)),
    );
}

/// [`add_product_to_part`] by the library.
#[inline(never)]
fn add_library_product<E: Field>(
    dst: &mut [E],
    stride: usize,
    a: &[E],
    b: &[E],
    (inner, columns): (usize, usize),
) {
    let (a_shape, dst_shape) = ((a.len() / inner, inner), (a.len() / inner, columns));
    let dst = ArrayViewMut2::from_shape(dst_shape.strides((stride, 1)), dst).expect("rows of a matrix");
    let matrix = |values, shape| ArrayView2::from_shape(shape, values).expect("numbers of a matrix");
    super::add_matmul(dst, matrix(a, a_shape), matrix(b, (inner, columns)));
}

/// [`add_flat_product`] to be inlined into loops over small matrices that are compiled for wide vectors as a whole.
#[inline(always)]
pub(crate) fn add_small_product<E: Field>(dst: &mut [E], a: &[E], b: &[E], (inner, columns): (usize, usize)) {
    if a.len() * columns >= large::<E>() {
        return add_flat_product(dst, a, b, (inner, columns));
    }
    add_rows(dst, columns, b, columns, each_row(a, inner));
}

/// `dst += aᴴ b`, likewise; `a`: (inner, rows), `b`: (inner, columns).
#[inline(always)]
pub(crate) fn add_adjoint_product<E: Field>(
    dst: &mut [E],
    a: &[E],
    b: &[E],
    (inner, columns): (usize, usize),
) {
    let rows = a.len() / inner.max(1);
    if a.len() * columns >= large::<E>() {
        let matrix = |values, shape| ArrayView2::from_shape(shape, values).expect("numbers of a matrix");
        let conjugated = matrix(a, (inner, rows)).mapv(E::conj);
        let dst = ArrayViewMut2::from_shape((rows, columns), dst).expect("numbers of a matrix");
        return super::add_matmul(dst, conjugated.t(), matrix(b, (inner, columns)));
    }
    let row = |i: usize| (0..inner).map(move |l| a[l * rows + i].conj());
    add_rows(dst, columns, b, columns, (0..rows).map(row));
}

/// The rows of a matrix with numbers row after row.
#[inline(always)]
fn each_row<E: Field>(a: &[E], inner: usize) -> impl Iterator<Item: Iterator<Item = E> + Clone> {
    a.chunks_exact(inner.max(1)).map(|row| row.iter().copied())
}

/// `dst += a b` with `a` by its rows, by plain loops.
#[inline(always)]
fn add_rows<E: Field>(
    dst: &mut [E],
    stride: usize,
    b: &[E],
    columns: usize,
    a: impl Iterator<Item: Iterator<Item = E> + Clone>,
) {
    if columns == 1 {
        let rows = dst.iter_mut().step_by(stride).zip(a);
        return rows.for_each(|(dst, a)| a.zip(b).for_each(|(a, &b)| *dst += a * b));
    }
    if columns == 0 {
        return;
    }
    for (dst, a) in dst.chunks_mut(stride).zip(a) {
        let (whole, rest) = dst[..columns].as_chunks_mut::<SIDE>();
        for (j, dst) in whole.iter_mut().enumerate() {
            let mut sums = *dst;
            for (a, b) in a.clone().zip(b.chunks_exact(columns)) {
                let b = &b[j * SIDE..][..SIDE];
                (0..SIDE).for_each(|n| sums[n] += a * b[n]);
            }
            *dst = sums;
        }
        let done = columns - rest.len();
        if done < columns {
            for (a, b) in a.zip(b.chunks_exact(columns)) {
                rest.iter_mut().zip(&b[done..]).for_each(|(dst, &b)| *dst += a * b);
            }
        }
    }
}

/// The numbers of a matrix, row after row.
pub(crate) fn flat_rows<E: Field>(a: ArrayView2<'_, E>) -> Cow<'_, [E]> {
    match a.to_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(a.rows().into_iter().fold(Vec::with_capacity(a.len()), |mut values, row| {
            values.extend(row);
            values
        })),
    }
}

/// Two blocks, one above the other.
pub(crate) fn above<E: Field>(top: ArrayView2<'_, E>, bottom: ArrayView2<'_, E>) -> Array2<E> {
    let shape = (top.nrows() + bottom.nrows(), top.ncols());
    let both = [flat_rows(top), flat_rows(bottom)].concat();
    Array2::from_shape_vec(shape, both).expect("as many columns")
}

/// Two blocks, side by side.
pub(crate) fn beside<E: Field>(left: ArrayView2<'_, E>, right: ArrayView2<'_, E>) -> Array2<E> {
    let mut both = Vec::with_capacity(left.len() + right.len());
    for (left, right) in left.rows().into_iter().zip(right.rows()) {
        both.extend(left);
        both.extend(right);
    }
    Array2::from_shape_vec((left.nrows(), left.ncols() + right.ncols()), both).expect("as many rows")
}

/// The numbers of a matrix, row after row, to be changed.
pub(super) fn rows_of<E: Field>(a: &mut Array2<E>) -> &mut [E] {
    if !a.is_standard_layout() {
        *a = a.as_standard_layout().into_owned();
    }
    a.as_slice_mut().expect("standard layout")
}

#[cfg(test)]
mod tests {
    use num_complex::Complex;

    use super::{add_adjoint_product, add_flat_product, add_product_to_part, add_small_product};

    #[test]
    fn products_are_added_at_every_size() {
        let sizes = [
            (0, 3, 2),
            (2, 0, 3),
            (2, 3, 0),
            (3, 5, 7),
            (3, 5, 8),
            (3, 5, 19),
            (5, 3, 1),
            (40, 40, 1),
            (16, 8, 8),
            (32, 32, 32),
            (33, 40, 35),
        ];
        for (rows, inner, columns) in sizes {
            let number = |i: usize| Complex::new((i % 7) as f64 - 3.0, (i % 3) as f64);
            let a: Vec<_> = (0..rows * inner).map(number).collect();
            let b: Vec<_> = (0..inner * columns).map(|i| number(i * i + 2)).collect();
            let turned: Vec<_> = (0..inner * rows).map(|l| a[l % rows * inner + l / rows].conj()).collect();
            let sum = |i: usize, j: usize| -> Complex<f64> {
                1.0 + (0..inner).map(|l| a[i * inner + l] * b[l * columns + j]).sum::<Complex<f64>>()
            };
            let (start, shape) = (vec![Complex::from(1.0); rows * columns], (inner, columns));
            let [mut plain, mut small, mut adjoint] = [start.clone(), start.clone(), start];
            add_flat_product(&mut plain, &a, &b, shape);
            add_small_product(&mut small, &a, &b, shape);
            add_adjoint_product(&mut adjoint, &turned, &b, shape);
            let stride = columns + 3;
            let mut part = vec![Complex::from(1.0); rows * stride];
            if let Some(part) = part.get_mut(3..) {
                add_product_to_part(part, stride, &a, &b, shape);
            }
            for (i, row) in part.chunks(stride).enumerate() {
                assert!(row[..3].iter().all(|v| *v == Complex::from(1.0)));
                for j in 0..columns {
                    let found = [row[3 + j], plain[i * columns + j], small[i * columns + j]];
                    assert_eq!(found, [sum(i, j); 3], "{rows} {inner} {columns}: {i} {j}");
                    assert_eq!(adjoint[i * columns + j], sum(i, j), "{rows} {inner} {columns}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn products_of_real_numbers_are_added_at_every_size() {
        for (rows, inner, columns) in [(3, 5, 7), (8, 8, 8), (3, 5, 19), (32, 32, 32), (33, 40, 35)] {
            let a: Vec<f64> = (0..rows * inner).map(|i| (i % 7) as f64 - 3.0).collect();
            let b: Vec<f64> = (0..inner * columns).map(|i| (i % 5) as f64 - 2.0).collect();
            let mut dst = vec![1.0; rows * columns];
            add_flat_product(&mut dst, &a, &b, (inner, columns));
            for (at, found) in dst.iter().enumerate() {
                let (i, j) = (at / columns, at % columns);
                let sum: f64 = (0..inner).map(|k| a[i * inner + k] * b[k * columns + j]).sum();
                assert_eq!(*found, 1.0 + sum, "{rows} {inner} {columns}: {i} {j}");
            }
        }
    }
}
