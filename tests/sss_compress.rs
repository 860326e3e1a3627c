//! Rounding, canonical forms and realisation against singular values of dense Hankel blocks.

mod support_sss;

use faer::Mat;
use ndarray::{Array1, Array2, ArrayView2, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::sss::{
    Blocks, Canonical, HermitianQuasiseparable, Quasiseparable, Sss, Tolerance, Transition, Upper,
};
use semisep::matrix::{Partition, StructuredMatrix};
use semisep::{Error, Field};
use support_sss::ragged::{
    Draw, Growth, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
    strictly_lower,
};
use support_sss::{Random, assert_close};

/// A number whose singular values faer can find.
trait Dense: Draw {
    fn values(a: ArrayView2<'_, Self>) -> Vec<f64>;
}

macro_rules! impl_dense {
    ($($t:ty),*) => {$(
        impl Dense for $t {
            fn values(a: ArrayView2<'_, $t>) -> Vec<f64> {
                Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]).singular_values().unwrap()
            }
        }
    )*};
}
impl_dense!(f64, Complex<f64>);

fn norm<E: Field<Real = f64>>(a: &Array2<E>) -> f64 {
    a.iter().map(|v| v.squared_modulus()).sum::<f64>().sqrt()
}

/// Singular values of the dense Hankel blocks k = 1 .. len - 1 of a matrix cut like `m`.
fn hankel_values<E: Dense>(dense: &Array2<E>, m: &Sss<E>) -> Vec<Vec<f64>> {
    let (rows, columns) = (m.row_offsets(), m.column_offsets());
    (1..m.len()).map(|k| E::values(dense.slice(s![rows[k].., ..columns[k]]))).collect()
}

/// Ranks at a level between rounding errors and the singular values of a well-conditioned random matrix.
fn ranks(values: &[Vec<f64>], limit: f64) -> Vec<usize> {
    values.iter().map(|v| v.iter().filter(|v| **v > limit).count()).collect()
}

/// Inner orders of a matrix.
fn inner<E: Field>(m: &Sss<E>) -> &[usize] {
    let orders = m.orders();
    if orders.len() < 2 { &[] } else { &orders[1..orders.len() - 1] }
}

/// Another set of generators of the same matrix with twice the states: the states of `m` and of `-m + m`, mixed.
fn doubled<E: Draw>(m: &Sss<E>) -> Sss<E> {
    let (transition, b, c, d) = m.clone().into_parts();
    let dense: Vec<_> = (0..m.len())
        .map(|k| transition.step(k, m.order_at(k + 1), m.order_at(k)))
        .map(|a| {
            let (rows, columns) = a.dim();
            let mut both = Array2::zeros((2 * rows, 2 * columns));
            both.slice_mut(s![..rows, ..columns]).assign(&a);
            both.slice_mut(s![rows.., columns..]).assign(&a);
            both
        })
        .collect();
    let half = E::one() / (E::one() + E::one());
    let b = b.iter().map(|b| ndarray::concatenate![ndarray::Axis(0), b, b]).collect();
    let c = c.iter().map(|c| ndarray::concatenate![ndarray::Axis(1), c, c].mapv(|v| half * v)).collect();
    Sss::new(Transition::Dense(Blocks::from_arrays(dense)), b, c, d).unwrap()
}

fn check_rounding<E: Dense>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let dense = dense_lower(&m);
    let (size, values) = (norm(&dense), hankel_values(&dense, &m));
    let spectrum = m.hankel_spectrum().unwrap();
    assert_eq!(spectrum.len(), values.len());
    assert!((spectrum.frobenius() - size).abs() <= 1e-13 * size);
    assert!((m.norm_frobenius().unwrap() - size).abs() <= 1e-13 * size);
    for (k, expected) in values.iter().enumerate() {
        let found = spectrum.values(k + 1);
        for (i, expected) in expected.iter().enumerate() {
            assert!((found.get(i).copied().unwrap_or(0.0) - expected).abs() <= 1e-13 * size);
        }
        assert!(found.iter().skip(expected.len()).all(|v| *v <= 1e-13 * size));
    }

    let minimal = ranks(&values, 1e-12 * size);
    for m in [m.clone(), doubled(&m)] {
        let rounded = m.rounded(Tolerance::Absolute(0.0)).unwrap();
        assert_close(&dense_lower(&rounded.matrix), &dense, 1e-12 * size.max(1.0));
        assert!(rounded.error <= 1e-13 * size);
        let again = rounded.matrix.rounded(Tolerance::Absolute(0.0)).unwrap().matrix;
        assert_eq!(again.orders(), rounded.matrix.orders());
        assert_close(&dense_lower(&again), &dense, 1e-12 * size.max(1.0));
        // Between rounding errors and 1e-12 nothing is decided by a tolerance of zero.
        let orders = inner(&rounded.matrix);
        assert!(orders.iter().zip(&minimal).all(|(n, least)| n >= least), "{orders:?} below {minimal:?}");
        let by_share = m.rounded(Tolerance::Absolute(1e-12 * size)).unwrap();
        assert_eq!(inner(&by_share.matrix), minimal);
    }

    let largest = values.iter().flatten().copied().fold(0.0, f64::max);
    for share in [1e-3, 0.1, 0.3, 0.9] {
        let rounded = m.rounded(Tolerance::Relative(share)).unwrap();
        let found = norm(&(dense_lower(&rounded.matrix) - &dense));
        assert!((rounded.error - found).abs() <= 1e-10 * found + 1e-13 * size, "{} {found}", rounded.error);
        let above = ranks(&values, share * largest * (1.0 + 1e-12));
        assert!(inner(&rounded.matrix).iter().zip(&above).all(|(n, most)| n <= most));

        let rounded = m.rounded(Tolerance::Frobenius(share)).unwrap();
        let found = norm(&(dense_lower(&rounded.matrix) - &dense));
        assert!((rounded.error - found).abs() <= 1e-10 * found + 1e-13 * size);
        assert!(found <= share * size * (1.0 + 1e-12));
        // Some Hankel block must be off by the tail that its new order leaves, so nothing could be closer than that.
        let least = values
            .iter()
            .zip(inner(&rounded.matrix))
            .map(|(v, n)| v.iter().skip(*n).map(|v| v * v).sum::<f64>())
            .fold(0.0, f64::max)
            .sqrt();
        let steps = m.len().saturating_sub(1) as f64;
        assert!(found <= steps.sqrt() * least * (1.0 + 1e-10) + 1e-13 * size);
    }
}

fn check_canonical<E: Dense>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let dense = dense_lower(&m);
    let scale = norm(&dense).max(1.0);
    for form in [Canonical::InputNormal, Canonical::OutputNormal, Canonical::Balanced] {
        let canonical = m.canonical(form).unwrap();
        assert_close(&dense_lower(&canonical), &dense, 1e-11 * scale);
        let spectrum = canonical.hankel_spectrum().unwrap();
        let mut reach = Array2::<E>::zeros((0, 0));
        for k in 0..canonical.len().saturating_sub(1) {
            let (a, b) = (canonical.a(k), canonical.b(k).to_owned());
            reach = product(&product(&a, &reach), &adjoint(&a)) + product(&b, &adjoint(&b));
            let expected = |k: usize| match form {
                Canonical::InputNormal => vec![1.0; canonical.order_at(k)],
                Canonical::OutputNormal => spectrum.values(k).iter().map(|v| v * v).collect(),
                Canonical::Balanced => spectrum.values(k).to_vec(),
            };
            let expected = expected(k + 1).into_iter().take(reach.nrows()).map(E::from_real).collect();
            let size = scale * scale;
            assert_close(&reach, &Array2::from_diag(&Array1::from_vec(expected)), 1e-9 * size);
        }
        let mut watch = Array2::<E>::zeros((0, 0));
        for k in (1..canonical.len()).rev() {
            let (a, c) = (canonical.a(k), canonical.c(k).to_owned());
            watch = product(&product(&adjoint(&a), &watch), &a) + product(&adjoint(&c), &c);
            let expected: Vec<f64> = match form {
                Canonical::InputNormal => spectrum.values(k).iter().map(|v| v * v).collect(),
                Canonical::OutputNormal => vec![1.0; canonical.order_at(k)],
                Canonical::Balanced => spectrum.values(k).to_vec(),
            };
            let expected = expected.into_iter().take(watch.nrows()).map(E::from_real).collect();
            let size = scale * scale;
            assert_close(&watch, &Array2::from_diag(&Array1::from_vec(expected)), 1e-9 * size);
        }
    }
}

fn check_two_sided<E: Dense>(sizes: &Sizes) {
    let m = sizes.two_sided::<E>();
    let dense = dense_two_sided(&m);
    let size = norm(&dense);
    for tolerance in [
        Tolerance::Absolute(0.0),
        Tolerance::Relative(0.2),
        Tolerance::Frobenius(0.3),
        Tolerance::Absolute(0.5),
    ] {
        let rounded = m.rounded(tolerance).unwrap();
        let found = norm(&(dense_two_sided(&rounded.matrix) - &dense));
        assert!((rounded.error - found).abs() <= 1e-10 * found + 1e-12 * size);
        if let Tolerance::Frobenius(share) = tolerance {
            assert!(found <= share * size * (1.0 + 1e-12));
        }
    }
    let m = sizes.hermitian::<E>();
    let dense = dense_hermitian(&m);
    let size = norm(&dense);
    for tolerance in [Tolerance::Absolute(0.0), Tolerance::Relative(0.2), Tolerance::Frobenius(0.3)] {
        let rounded = m.rounded(tolerance).unwrap();
        let found = norm(&(dense_hermitian(&rounded.matrix) - &dense));
        assert!((rounded.error - found).abs() <= 1e-10 * found + 1e-12 * size);
        if let Tolerance::Frobenius(share) = tolerance {
            assert!(found <= share * size * (1.0 + 1e-12));
        }
    }
    let upper = Upper(m.into_lower());
    let rounded = upper.rounded(Tolerance::Relative(0.2)).unwrap();
    let found = norm(&(rounded.matrix.to_dense() - upper.to_dense()));
    assert!((rounded.error - found).abs() <= 1e-10 * found + 1e-12 * size);
}

fn check_realisation<E: Dense>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let dense = dense_lower(&m);
    let (size, values) = (norm(&dense), hankel_values(&dense, &m));
    for tolerance in [1e-12, 0.1, 0.4] {
        for tolerance in [
            Tolerance::Absolute(tolerance * size),
            Tolerance::Relative(tolerance),
            Tolerance::Frobenius(tolerance),
        ] {
            let found =
                Sss::from_dense_blocks(dense.view(), &sizes.outputs, &sizes.inputs, tolerance).unwrap();
            let error = norm(&(dense_lower(&found.matrix) - &dense));
            assert!((found.error - error).abs() <= 1e-10 * error + 1e-12 * size, "{} {error}", found.error);
            if let Tolerance::Frobenius(share) = tolerance {
                assert!(error <= share * size * (1.0 + 1e-10));
            }
            if let Tolerance::Absolute(limit) = tolerance {
                let most = ranks(&values, limit * (1.0 - 1e-9) - 1e-13 * size);
                assert!(inner(&found.matrix).iter().zip(&most).all(|(n, most)| n <= most));
                if limit < 1e-11 * size {
                    assert_eq!(inner(&found.matrix), ranks(&values, limit));
                }
            }
        }
    }
    let m = sizes.two_sided::<E>();
    let dense = dense_two_sided(&m);
    let size = norm(&dense);
    for tolerance in [Tolerance::Absolute(0.0), Tolerance::Relative(0.2), Tolerance::Frobenius(0.3)] {
        let found = Quasiseparable::from_dense_blocks(dense.view(), &sizes.outputs, &sizes.inputs, tolerance)
            .unwrap();
        let error = norm(&(dense_two_sided(&found.matrix) - &dense));
        assert!((found.error - error).abs() <= 1e-10 * error + 1e-12 * size, "{} {error}", found.error);
        if let Tolerance::Frobenius(share) = tolerance {
            assert!(error <= share * size * (1.0 + 1e-10));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn rounding_gives_hankel_ranks_and_the_exact_error(sizes in sizes(7)) {
        check_rounding::<f64>(&sizes);
        check_rounding::<Complex<f64>>(&sizes);
    }

    #[test]
    fn canonical_forms_have_their_gramians(sizes in sizes(6)) {
        let sizes = Sizes { growth: Growth::Plain, ..sizes };
        check_canonical::<f64>(&sizes);
        check_canonical::<Complex<f64>>(&sizes);
    }

    #[test]
    fn both_triangles_are_rounded_with_one_error(sizes in sizes(6)) {
        check_two_sided::<f64>(&sizes);
        check_two_sided::<Complex<f64>>(&sizes);
    }

    #[test]
    fn realisation_from_entries_is_minimal_and_knows_its_error(sizes in sizes(7)) {
        check_realisation::<f64>(&sizes);
        check_realisation::<Complex<f64>>(&sizes);
    }
}
