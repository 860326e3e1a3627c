//! Rounding, canonical forms and realisation against singular values of dense Hankel blocks.

use crate::support::ragged::{
    Draw, Growth, Sizes, adjoint, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};
use crate::support::{Random, assert_close};
use faer::Mat;
use ndarray::{Array1, Array2, ArrayView2, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::sss::{
    Blocks, Canonical, HermitianQuasiseparable, Quasiseparable, Sss, Tolerance, Transition, Upper,
};
use semisep::matrix::{Partition, StructuredMatrix};
use semisep::{Error, Field};

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

/// A matrix whose part below the diagonal has this rank everywhere.
fn separable(len: usize, rank: usize, seed: u64) -> Array2<f64> {
    let mut random = Random::new(seed);
    let (u, v) = (random.matrix(len, rank), random.matrix(rank, len));
    let full = u.dot(&v);
    Array2::from_shape_fn((len, len), |(i, j)| if i > j { full[[i, j]] } else { 0.0 })
}

#[test]
fn any_partition_gives_the_same_matrix_with_the_ranks_at_its_cuts() {
    let dense = separable(24, 3, 1);
    for partition in [Partition::Equal(1), Partition::Equal(5), Partition::Lengths(vec![1, 9, 2, 12])] {
        let m = Sss::from_dense(dense.view(), &partition, Tolerance::Relative(1e-12)).unwrap().matrix;
        assert_close(&m.to_dense(), &dense, 1e-13);
        let cuts: Vec<_> = m.row_offsets()[1..m.len()].iter().map(|&cut| cut.min(24 - cut).min(3)).collect();
        assert_eq!(inner(&m), cuts);
    }
}

#[test]
fn entries_of_a_function_are_not_kept_and_give_the_same_as_a_dense_matrix() {
    let kernel = |i: usize, j: usize| (-(i as f64 - j as f64).abs() / 7.0).exp() * (1.0 + i as f64);
    let dense = Array2::from_shape_fn((60, 60), |(i, j)| kernel(i, j));
    let lower = Array2::from_shape_fn((60, 60), |(i, j)| if i >= j { kernel(i, j) } else { 0.0 });
    for tolerance in [Tolerance::Absolute(1e-9), Tolerance::Relative(1e-9), Tolerance::Frobenius(1e-9)] {
        let one = Partition::Equal(1);
        let m = Sss::from_entries(60, &one, kernel, tolerance).unwrap();
        assert_eq!(m, Sss::from_dense(lower.view(), &one, tolerance).unwrap());
        assert_eq!(m.matrix.orders().iter().max(), Some(&1));
        let m = Quasiseparable::from_entries(60, &one, kernel, tolerance).unwrap();
        assert_eq!(m, Quasiseparable::from_dense(dense.view(), &one, tolerance).unwrap());
        assert_close(&m.matrix.to_dense(), &dense, 1e-9);
    }
    let covariance = |i: usize, j: usize| (-(i as f64 - j as f64).abs() / 7.0).exp();
    let dense = Array2::from_shape_fn((60, 60), |(i, j)| covariance(i, j));
    for tolerance in [Tolerance::Absolute(1e-9), Tolerance::Relative(1e-9), Tolerance::Frobenius(1e-9)] {
        let four = Partition::Equal(4);
        let m = HermitianQuasiseparable::from_entries(60, &four, covariance, tolerance).unwrap();
        assert_eq!(m, HermitianQuasiseparable::from_dense(dense.view(), &four, tolerance).unwrap());
        assert_close(&m.matrix.to_dense(), &dense, 1e-9);
    }
}

#[test]
fn a_smooth_kernel_is_compressed_to_the_budget_and_not_far_below() {
    let kernel = |i: usize, j: usize| 1.0 / (1.0 + (i as f64 - j as f64).powi(2) / 400.0);
    let dense = Array2::from_shape_fn((200, 200), |(i, j)| kernel(i, j));
    let size = norm(&dense);
    let mut last = usize::MAX;
    for share in [1e-9, 1e-6, 1e-3] {
        let m = HermitianQuasiseparable::from_entries(
            200,
            &Partition::Equal(1),
            kernel,
            Tolerance::Frobenius(share),
        );
        let m = m.unwrap();
        let found = norm(&(m.matrix.to_dense() - &dense));
        assert!((m.error - found).abs() <= 1e-6 * found + 1e-13 * size, "{} {found}", m.error);
        assert!(found <= share * size && found >= share * size / 50.0, "{found} of {}", share * size);
        let orders: usize = m.matrix.lower().orders().iter().sum();
        assert!(orders < last);
        last = orders;
    }
}

#[test]
fn what_cannot_be_realised_or_rounded_is_an_error() {
    let one = Partition::Equal(1);
    let upper = ndarray::array![[1.0, 2.0], [0.0, 1.0]];
    let error = Sss::from_dense(upper.view(), &one, Tolerance::Absolute(0.0)).unwrap_err();
    assert!(error.to_string().contains("zeros above the block diagonal, found 2 at (0, 1)"), "{error}");
    assert!(matches!(
        Sss::from_dense(Array2::<f64>::ones((2, 3)).view(), &one, Tolerance::Absolute(0.0)),
        Err(Error::Shape { .. })
    ));
    let with_nan = Array2::from_elem((2, 2), f64::NAN);
    assert!(Quasiseparable::from_dense(with_nan.view(), &one, Tolerance::Relative(0.1)).is_err());
    assert!(Sss::from_entries(3, &one, |_, _| f64::NAN, Tolerance::Relative(0.1)).is_err());
    assert!(Sss::from_entries(3, &Partition::Equal(0), |_, _| 1.0, Tolerance::Relative(0.1)).is_err());
    assert!(
        Sss::from_toeplitz(Array1::from_elem(4, f64::INFINITY).view(), Tolerance::Relative(0.1)).is_err()
    );
    let m = Sss::<f64>::from_entries(3, &one, |_, _| 1.0, Tolerance::Absolute(0.0)).unwrap().matrix;
    for tolerance in [Tolerance::Absolute(-1.0), Tolerance::Relative(f64::NAN), Tolerance::Frobenius(-0.1)] {
        assert!(matches!(m.rounded(tolerance), Err(Error::Config { field: "tolerance", .. })));
    }
    let (transition, mut b, c, d) = m.into_parts();
    b.block_mut(1)[[0, 0]] = f64::NAN;
    let error = Sss::new(transition, b, c, d).unwrap().rounded(Tolerance::Absolute(0.0)).unwrap_err();
    assert!(error.to_string().contains("`b`: expected finite numbers, found NaN at step 1"), "{error}");
}

#[test]
fn single_precision_is_rounded_at_its_own_level() {
    let dense = separable(40, 2, 3).mapv(|v| v as f32);
    let m = Sss::from_dense(dense.view(), &Partition::Equal(1), Tolerance::Absolute(0.0)).unwrap().matrix;
    let rounded = m.rounded(Tolerance::Relative(1e-5)).unwrap();
    assert!(inner(&rounded.matrix).iter().all(|n| *n <= 2));
    let off = (rounded.matrix.to_dense() - &dense).iter().fold(0.0f32, |most, v| most.max(v.abs()));
    assert!(off < 1e-5, "{off}");
}

#[test]
fn scaling_by_a_power_of_two_changes_no_bit() {
    let dense = separable(20, 3, 4);
    let realise =
        |m: &Array2<f64>| Sss::from_dense(m.view(), &Partition::Equal(2), Tolerance::Relative(1e-9)).unwrap();
    let (m, scaled) = (realise(&dense), realise(&(&dense * 2f64.powi(70))));
    assert_eq!(m.matrix.transition(), scaled.matrix.transition());
    assert_eq!(m.matrix.b_blocks(), scaled.matrix.b_blocks());
    assert_eq!(m.matrix.c_blocks().map(|v| v * 2f64.powi(70)), *scaled.matrix.c_blocks());
}
