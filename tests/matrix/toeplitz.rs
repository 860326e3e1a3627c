//! Generators of Toeplitz matrices against dense matrices and their Hankel blocks.

use crate::support::dense::{Dense, norm, singular_values};
use crate::support::ragged::{Draw, dense_hermitian, dense_two_sided};
use crate::support::{Random, assert_close};
use faer::Mat;
use ndarray::{Array1, Array2, array};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::mask::Spectral;
use semisep::matrix::sss::{HermitianQuasiseparable, Quasiseparable, Sss, Tolerance};
use semisep::{Error, Field};

#[test]
fn a_response_of_few_poles_is_found_and_its_poles_are_recovered() {
    let poles = [0.97, 0.6, -0.8];
    for len in [40, 1000] {
        let h = Array1::from_shape_fn(len, |t| poles.iter().map(|p: &f64| p.powi(t as i32)).sum::<f64>());
        for tolerance in [Tolerance::Relative(1e-9), Tolerance::Absolute(1e-9), Tolerance::Frobenius(1e-9)] {
            let found = Sss::from_toeplitz(h.view(), tolerance).unwrap();
            assert!(found.matrix.orders().iter().all(|n| *n == 3));
            assert!(found.error < 1e-8);
            let a = found.matrix.a(1);
            let a = Mat::<f64>::from_fn(3, 3, |i, j| a[[i, j]]);
            let mut values: Vec<_> = a.eigenvalues().unwrap().iter().map(|v| v.re).collect();
            values.sort_by(f64::total_cmp);
            assert_close(&values, &[-0.8, 0.6, 0.97], 1e-9);
        }
    }
    let h: Array1<f64> =
        Array1::from_shape_fn(30, |t| poles.iter().map(|p: &f64| p.powi(t as i32)).sum::<f64>());
    let m = Sss::from_toeplitz(h.view(), Tolerance::Relative(1e-9)).unwrap().matrix;
    let dense = Array2::from_shape_fn((30, 30), |(i, j)| if i < j { 0.0 } else { h[i - j] });
    assert_close(&m.to_dense(), &dense, 1e-10);
}

#[test]
fn a_response_without_poles_is_approximated_with_the_error_that_is_told() {
    let h = Array1::from_shape_fn(120, |t| 1.0 / (1.0 + t as f64));
    let dense = Array2::from_shape_fn((120, 120), |(i, j)| if i < j { 0.0 } else { h[i - j] });
    for share in [1e-1, 1e-4, 1e-8] {
        let found = Sss::from_toeplitz(h.view(), Tolerance::Frobenius(share)).unwrap();
        let error = norm(&(found.matrix.to_dense() - &dense));
        assert!((found.error - error).abs() <= 1e-6 * error);
        assert!(error <= share * norm(&dense));
        assert!(found.matrix.order_at(1) < 20);
    }
    for len in 0..4 {
        let h = Array1::from_shape_fn(len, |t| 1.0 + t as f64);
        let found = Sss::from_toeplitz(h.view(), Tolerance::Relative(1e-12)).unwrap();
        assert_eq!(found.matrix.len(), len);
        let dense = Array2::from_shape_fn((len, len), |(i, j)| if i < j { 0.0 } else { h[i - j] });
        assert!((found.error - norm(&(found.matrix.to_dense() - &dense))).abs() < 1e-12);
    }
}

/// `h_t = Σ w pᵗ` of some poles within the unit circle.
fn response<E: Draw>(len: usize, poles: usize, random: &mut Random) -> Array1<E> {
    let mut h = Array1::zeros(len);
    for _ in 0..poles {
        let (pole, mut power) = (E::draw(random) * E::from_real(0.69), E::draw(random));
        for h in &mut h {
            *h += power;
            power *= pole;
        }
    }
    h
}

/// The Toeplitz matrix with this column and this row.
fn dense_toeplitz<E: Field>(column: &Array1<E>, row: &Array1<E>) -> Array2<E> {
    let shape = (column.len(), row.len());
    Array2::from_shape_fn(shape, |(i, j)| if i < j { row[j - i] } else { column[i - j] })
}

fn check_two_sided_toeplitz<E: Dense + Spectral>(len: usize, share: f64, seed: u64) {
    let mut random = Random::new(seed);
    let (mut column, mut row) = (response::<E>(len, 2, &mut random), response::<E>(len, 3, &mut random));
    row.mapv_inplace(|v| v * E::from_real(share));
    if len > 0 {
        row[0] = column[0];
    }
    let dense = dense_toeplitz(&column, &row);
    let size = norm(&dense);
    for tolerance in [Tolerance::Absolute(1e-4), Tolerance::Relative(1e-4), Tolerance::Frobenius(1e-3)] {
        let found = Quasiseparable::from_toeplitz(column.view(), row.view(), tolerance).unwrap();
        let error = norm(&(dense_two_sided(&found.matrix) - &dense));
        assert!((found.error - error).abs() <= 1e-6 * error + 1e-13 * size, "{} {error}", found.error);
        for (part, values, h) in [
            (found.matrix.lower(), &found.spectrum.lower, &column),
            (found.matrix.upper(), &found.spectrum.upper, &row.mapv(E::conj)),
        ] {
            let hankel = Array2::from_shape_fn((len / 2, len - len / 2), |(i, j)| h[1 + i + j]);
            let largest = singular_values(&hankel).first().copied().unwrap_or(0.0);
            assert!((values.first().copied().unwrap_or(0.0) - largest).abs() <= 1e-10 * largest);
            assert!(part.orders().iter().all(|n| *n <= 3), "{:?}", part.orders());
            if let (Tolerance::Absolute(limit), true) = (tolerance, len > 10) {
                let order = part.order_at(1);
                assert!(singular_values(&hankel).iter().skip(order).all(|v| *v <= limit + 1e-10 * largest));
            }
        }
        if let (Tolerance::Frobenius(share), true) = (tolerance, len > 10) {
            assert!(error <= share * size * (1.0 + 1e-9), "{error} of {size}");
        }
    }
    if let Some(first) = column.first_mut() {
        *first += first.conj();
    }
    let dense = dense_toeplitz(&column, &column.mapv(E::conj));
    for tolerance in [Tolerance::Absolute(1e-4), Tolerance::Relative(1e-4), Tolerance::Frobenius(1e-3)] {
        let found = HermitianQuasiseparable::from_toeplitz(column.view(), tolerance).unwrap();
        let error = norm(&(dense_hermitian(&found.matrix) - &dense));
        assert!(
            (found.error - error).abs() <= 1e-6 * error + 1e-13 * norm(&dense),
            "{} {error}",
            found.error
        );
        if let (Tolerance::Frobenius(share), true) = (tolerance, len > 10) {
            assert!(error <= share * norm(&dense) * (1.0 + 1e-9));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn responses_on_both_sides_are_realised(len in 0usize..40, share in 0.0..2.0, seed in any::<u64>()) {
        check_two_sided_toeplitz::<f64>(len, share, seed);
        check_two_sided_toeplitz::<Complex<f64>>(len, share, seed);
    }
}

#[test]
fn the_fainter_side_of_a_toeplitz_matrix_is_measured_by_the_other() {
    let powers = |a: f64, scale: f64| Array1::from_shape_fn(60, |t| scale * a.powi(t as i32));
    for scale in [1.0, 1e-280, 1e280] {
        let (column, mut row) = (powers(0.9, scale), powers(-0.7, 1e-9 * scale));
        row[0] = column[0];
        let orders = |column: &Array1<f64>, row: &Array1<f64>, tolerance| {
            let found = Quasiseparable::from_toeplitz(column.view(), row.view(), tolerance).unwrap().matrix;
            (found.lower().order_at(1), found.upper().order_at(1))
        };
        assert_eq!(orders(&column, &row, Tolerance::Relative(1e-6)), (1, 0));
        assert_eq!(orders(&row, &column, Tolerance::Relative(1e-6)), (0, 1));
        assert_eq!(orders(&column, &row, Tolerance::Relative(1e-12)), (1, 1));
        assert_eq!(orders(&column, &row, Tolerance::Frobenius(1e-6)), (1, 0));
        assert_eq!(orders(&column, &row, Tolerance::Frobenius(1e-13)), (1, 1));
    }
    let single = powers(0.5, 1.0).mapv(|v| v as f32);
    let found = HermitianQuasiseparable::from_toeplitz(single.view(), Tolerance::Relative(1e-5)).unwrap();
    assert_eq!(found.matrix.lower().order_at(1), 1);
    assert!(found.error < 1e-5, "{}", found.error);
}

#[test]
fn powers_are_found_at_every_length() {
    for len in 0..20 {
        let powers = |a: f64| Array1::from_shape_fn(len, |t| a.powi(t as i32));
        let (column, row) = (powers(0.8), powers(-0.6));
        for tolerance in [Tolerance::Relative(1e-12), Tolerance::Frobenius(1e-12)] {
            let found = Quasiseparable::from_toeplitz(column.view(), row.view(), tolerance).unwrap();
            assert!(found.error < 1e-13, "{len}: {}", found.error);
            let found = HermitianQuasiseparable::from_toeplitz(row.view(), tolerance).unwrap();
            assert!(found.error < 1e-13, "{len}: {}", found.error);
        }
    }
}

#[test]
fn columns_and_rows_that_make_no_toeplitz_matrix_are_errors() {
    let round = Tolerance::Relative(0.1);
    let two_sided = |column: Array1<f64>, row: Array1<f64>| {
        Quasiseparable::from_toeplitz(column.view(), row.view(), round).unwrap_err().to_string()
    };
    let one = || array![1.0, 2.0];
    assert!(two_sided(one(), array![1.0]).contains("`row`: expected shape (len of column) = [2], found [1]"));
    assert!(two_sided(one(), array![2.0, 2.0]).contains("`row`: expected the first number of the column"));
    assert!(
        two_sided(one(), array![1.0, f64::NAN]).contains("`row`: expected finite numbers, found NaN at 1")
    );
    assert!(two_sided(array![f64::INFINITY, 1.0], one()).contains("`column`: expected finite numbers"));
    let hermitian = |column: Array1<Complex<f64>>, tolerance| {
        HermitianQuasiseparable::from_toeplitz(column.view(), tolerance).unwrap_err()
    };
    let error = hermitian(array![Complex::new(1.0, 0.5)], round);
    assert!(matches!(error, Error::Value { tensor: "column", .. }), "{error}");
    let error = hermitian(array![Complex::new(1.0, 0.0)], Tolerance::Absolute(f64::NAN));
    assert!(matches!(error, Error::Config { field: "tolerance", .. }), "{error}");
}
