//! Laws of the structured matrices: 1-semiseparable, bidiagonal and the masks.

use std::f64::consts::TAU;

use crate::support::structured::{Case, Number, Numbers, assert_close, check_matrix, product, scale, size};
use ndarray::{Array1, Array2, array, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::mask::{AllOnes, Banded, Causal, Decay, Dense, Fourier, Normalization, Sign, Toeplitz};
use semisep::matrix::{
    Bidiagonal, OneSemiseparable, StructuredMatrix, segment_sums, segment_sums_by_difference,
};
use semisep::{Error, Field};

type C = Complex<f64>;

/// The entry of a 1-semiseparable matrix by definition.
fn range_product<E: Field>(a: &Array1<E>, i: usize, j: usize) -> E {
    if i < j { E::zero() } else { (j + 1..=i).fold(E::one(), |p, t| p * a[t]) }
}

fn no_gradient<E>(_: ()) -> Array1<E> {
    Array1::from_vec(Vec::new())
}

/// Transitions of any sign, some of them exactly zero.
fn transitions<E: Number>(len: usize, seed: u64) -> Array1<E> {
    let mut numbers = Numbers(seed);
    Array1::from_shape_simple_fn(len, || match numbers.real() {
        zero if zero > 0.7 => E::zero(),
        _ => E::of(1.1 * numbers.real(), 0.7 * numbers.real()),
    })
}

fn check_one_semiseparable<E: Number>(len: usize, seed: u64) {
    check_matrix(
        &Case {
            parameters: transitions::<E>(len, seed),
            build: &|a| OneSemiseparable::new(a.clone()).unwrap(),
            entry: &range_product,
            flatten: &|gradient| gradient,
        },
        seed,
    );
}

fn check_decay<E: Number>(len: usize, gamma: E, seed: u64) {
    check_matrix(
        &Case {
            parameters: array![gamma],
            build: &|p| Decay::new(len, p[0]).unwrap(),
            entry: &|p, i, j| range_product(&Array1::from_elem(len, p[0]), i, j),
            flatten: &|d_gamma| array![d_gamma],
        },
        seed,
    );
}

fn check_bidiagonal<E: Number>(len: usize, seed: u64) {
    check_matrix(
        &Case {
            parameters: Numbers(seed).vector::<E>(2 * len),
            build: &|p| {
                Bidiagonal::new(p.slice(s![..len]).to_owned(), p.slice(s![len..]).to_owned()).unwrap()
            },
            entry: &|p, i, j| match i as isize - j as isize {
                0 => p[i],
                1 => p[len + i],
                _ => E::zero(),
            },
            flatten: &|g| g.diagonal().iter().chain(g.lower()).copied().collect(),
        },
        seed,
    );
}

fn check_dense<E: Number>(rows: usize, columns: usize, seed: u64) {
    check_matrix(
        &Case {
            parameters: Numbers(seed).vector::<E>(rows * columns),
            build: &|p| Dense::new(p.clone().into_shape_with_order((rows, columns)).unwrap()),
            entry: &|p, i, j| p[i * columns + j],
            flatten: &|g| g.into_iter().collect(),
        },
        seed,
    );
}

fn check_toeplitz<E: Number + semisep::matrix::mask::Spectral>(rows: usize, columns: usize, seed: u64) {
    let diagonals = if rows * columns == 0 { 0 } else { rows + columns - 1 };
    check_matrix(
        &Case {
            parameters: Numbers(seed).vector::<E>(diagonals),
            build: &|p| Toeplitz::new(rows, columns, p.clone()).unwrap(),
            entry: &|p, i, j| p[columns - 1 + i - j],
            flatten: &|gradient| gradient,
        },
        seed,
    );
}

fn check_parameterless<E: Number, M: StructuredMatrix<E, Gradient = ()> + Clone>(
    m: M,
    seed: u64,
    entry: impl Fn(usize, usize) -> E,
) {
    check_matrix(
        &Case {
            parameters: Array1::zeros(0),
            build: &|_| m.clone(),
            entry: &|_, i, j| entry(i, j),
            flatten: &no_gradient,
        },
        seed,
    );
}

fn indicator<E: Field>(condition: bool) -> E {
    if condition { E::one() } else { E::zero() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_semiseparable_matrices_keep_the_laws(len in 0usize..24, seed: u64) {
        check_one_semiseparable::<f64>(len, seed);
        check_one_semiseparable::<f32>(len, seed);
        check_one_semiseparable::<C>(len, seed);
        check_one_semiseparable::<Complex<f32>>(len, seed);
    }

    #[test]
    fn bidiagonal_and_dense_matrices_keep_the_laws(len in 0usize..12, columns in 0usize..12, seed: u64) {
        check_bidiagonal::<f64>(len, seed);
        check_bidiagonal::<C>(len, seed);
        check_dense::<f64>(len, columns, seed);
        check_dense::<C>(len, columns, seed);
    }

    #[test]
    fn decay_masks_keep_the_laws(len in 0usize..24, gamma in -1.0f64..1.0, seed: u64) {
        check_decay::<f64>(len, gamma, seed);
        check_decay::<f64>(len, 0.0, seed);
        check_decay::<f32>(len, gamma as f32, seed);
        check_decay::<C>(len, C::new(gamma, 0.3), seed);
    }

    #[test]
    fn masks_of_ones_keep_the_laws(
        rows in 0usize..20, columns in 0usize..20, lower in 0usize..24, upper in 0usize..24, seed: u64,
    ) {
        check_parameterless::<f64, _>(AllOnes::new(rows, columns), seed, |_, _| 1.0);
        check_parameterless::<C, _>(AllOnes::new(rows, columns), seed, |_, _| C::new(1.0, 0.0));
        check_parameterless::<f64, _>(Causal::new(rows), seed, |i, j| indicator(i >= j));
        check_parameterless::<C, _>(Causal::new(rows), seed, |i, j| indicator(i >= j));
        let band = |i: usize, j: usize| {
            let offset = i as isize - j as isize;
            -(upper as isize) <= offset && offset <= lower as isize
        };
        check_parameterless::<f64, _>(Banded::new(rows, columns, lower, upper), seed, |i, j| indicator(band(i, j)));
        check_parameterless::<C, _>(Banded::new(rows, columns, lower, upper), seed, |i, j| indicator(band(i, j)));
    }

    #[test]
    fn toeplitz_masks_keep_the_laws(rows in 0usize..20, columns in 0usize..20, seed: u64) {
        check_toeplitz::<f64>(rows, columns, seed);
        check_toeplitz::<f32>(rows, columns, seed);
        check_toeplitz::<C>(rows, columns, seed);
    }

    #[test]
    fn fourier_masks_keep_the_laws(len in 0usize..24, seed: u64) {
        for (sign, turn) in [(Sign::Negative, -TAU), (Sign::Positive, TAU)] {
            let n = len as f64;
            for (normalization, factor) in
                [(Normalization::One, 1.0), (Normalization::Unitary, n.sqrt().recip()), (Normalization::Inverse, n.recip())]
            {
                check_parameterless::<C, _>(Fourier::new(len, sign, normalization), seed, |j, k| {
                    C::from_polar(factor, turn * (j * k) as f64 / n)
                });
            }
        }
    }

    #[test]
    fn one_column_in_the_look_ahead_form_equals_the_recurrence(len in 0usize..3000, seed: u64) {
        let a = transitions::<f64>(len, seed);
        let x = Numbers(!seed).vector::<f64>(len);
        let (mut h, mut bound) = (0.0, 0.0);
        let y = OneSemiseparable::new(a.clone()).unwrap().matvec(x.view()).unwrap();
        for t in 0..len {
            h = a[t] * h + x[t];
            bound = a[t].abs() * bound + x[t].abs();
            prop_assert!((y[t] - h).abs() <= 10.0 * f64::EPSILON * bound, "row {}: {} against {}", t, y[t], h);
        }
    }

    #[test]
    fn other_products_of_a_one_semiseparable_matrix_equal_the_dense_ones(len in 0usize..20, seed: u64) {
        let a = transitions::<C>(len, seed);
        let l = OneSemiseparable::new(a.clone()).unwrap();
        let dense = Array2::from_shape_fn((len, len), |(i, j)| range_product(&a, i, j));
        let x = Numbers(!seed).array::<C>((len, 3));
        let bound = |_| 1e-12 * (1 + len) as f64;
        assert_close("transpose", l.transpose_matmul(x.view()).unwrap().view(), product(dense.t(), x.view()).view(), bound);
        assert_close("left", l.left_matmul(x.t()).unwrap().view(), product(x.t(), dense.view()).view(), bound);
        assert_close("solve", l.solve(product(dense.view(), x.view()).view()).unwrap().view(), x.view(), bound);
        let identity = product(dense.view(), l.inverse().to_dense().view());
        assert_close("inverse", identity.view(), Array2::eye(len).view(), bound);
        for ((i, j), &expected) in dense.indexed_iter() {
            prop_assert!(size(l.entry(i, j).unwrap() - expected) <= 1e-13 * size(expected));
        }
        prop_assert!(l.entry(len, 0).is_err() && l.entry(0, len).is_err());
    }

    #[test]
    fn exponentials_of_both_segment_sums_are_the_matrix(len in 0usize..64, steepness in -3.0f64..4.0, seed: u64) {
        let mut numbers = Numbers(seed);
        let log_a = Array1::from_shape_simple_fn(len, || match numbers.real() {
            cut if cut > 0.95 => f64::NEG_INFINITY,
            r => -10f64.powf(steepness) * r.abs(),
        });
        let a = log_a.mapv(f64::exp);
        let dense = Array2::from_shape_fn((len, len), |(i, j)| range_product(&a, i, j));
        let reach = log_a.iter().filter(|u| **u > -750.0).map(|u| u.abs()).sum::<f64>();
        let stable = segment_sums(log_a.view()).unwrap();
        let quick = segment_sums_by_difference(log_a.view()).unwrap();
        // The logarithm of an entry above 1e-300 is at most 700, so few roundings of it are lost. Below, the
        // entries are denormal, and products of them are not accurate.
        let bound = |at: (usize, usize)| 1e-13 * len as f64 * dense[at] + 1e-300;
        assert_close("stable", stable.mapv(f64::exp).view(), dense.view(), bound);
        let bound = |at: (usize, usize)| len as f64 * f64::EPSILON * (10.0 + 4.0 * reach) * dense[at] + 1e-300;
        assert_close("quick", quick.mapv(f64::exp).view(), dense.view(), bound);
        prop_assert!(quick.iter().chain(&stable).all(|&s| s <= 0.0));
        let l = OneSemiseparable::<f64>::from_log(log_a.view()).unwrap();
        prop_assert_eq!(l.transitions(), &a);
    }
}

#[test]
fn a_steep_step_does_not_swallow_its_neighbours_in_the_quick_segment_sums() {
    let log_a = array![0.0, -1.0, -1e20, -1.0, -2.0];
    let quick = segment_sums_by_difference(log_a.view()).unwrap();
    assert_eq!(quick[[4, 2]], -3.0);
    assert_eq!(quick[[1, 0]], -1.0);
    assert_eq!(quick[[2, 1]], f64::NEG_INFINITY);
    assert_eq!(quick[[4, 1]], f64::NEG_INFINITY);
}

#[test]
fn hostile_transitions_leave_products_and_gradients_finite() {
    let n = 2050;
    for steep in [0.0, -1.0, -745.0, -1e4, f64::NEG_INFINITY] {
        let log_a = Array1::from_shape_fn(n, |t| if t % 3 == 0 { steep } else { 0.0 });
        let l = OneSemiseparable::<f64>::from_log(log_a.view()).unwrap();
        let x = Array2::from_shape_fn((n, 1), |(t, _)| [1e-310, 1e150, -1.0, 5e-324][t % 4]);
        let (gradient, dx) = l.vjp(x.view(), x.mapv(|v| v * 1e-10).view()).unwrap();
        assert!(gradient.iter().chain(&dx).chain(&l.matmul(x.view()).unwrap()).all(|v| v.is_finite()));
    }
}

#[test]
fn products_of_huge_transitions_that_overflow_do_not_reach_a_finite_result() {
    // a_1 .. a_4 overflow as a product, and x is zero until a_5 = 0 clears the state.
    let mut a = Array1::from_elem(9, 1e200);
    a[5] = 0.0;
    let l = OneSemiseparable::new(a).unwrap();
    let x = array![[0.0], [0.0], [0.0], [0.0], [1.0], [1.0], [1e-300], [1e-300], [0.0]];
    let y = l.matmul(x.view()).unwrap();
    assert_eq!(y.slice(s![..6, 0]), array![0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    let late = OneSemiseparable::new(Array1::from_elem(40, 1e200)).unwrap();
    let mut x = Array1::zeros(40);
    x[38] = 1e-200;
    assert_eq!(late.matvec(x.view()).unwrap()[39], 1.0);
    x[38] = 0.0;
    x[1] = 1e-200;
    let from_the_end = late.transpose_matmul(x.view().insert_axis(ndarray::Axis(1))).unwrap();
    assert_eq!(from_the_end[[0, 0]], 1.0);
}

#[test]
fn an_entry_whose_product_overflows_on_the_way_is_exact() {
    let l = OneSemiseparable::new(array![0.0, 1e200, 1e200, 1e-200, 1e-200, 2.0]).unwrap();
    assert!(f64::abs(l.entry(5, 0).unwrap() - 2.0) < 1e-15);
    let l = OneSemiseparable::new(array![0.0, 1e-200, -1e-200, 1e200, 1e200]).unwrap();
    assert!(f64::abs(l.entry(4, 0).unwrap() + 1.0) < 1e-15);
}

#[test]
fn the_gradient_at_a_zero_transition_is_the_one_of_the_limit() {
    let l = OneSemiseparable::new(array![1.0, 0.0, 2.0]).unwrap();
    let x = array![[3.0], [5.0], [7.0]];
    let dy = array![[1.0], [10.0], [100.0]];
    // d a_1 = x_0 (dy_1 + a_2 dy_2), d a_2 = y_1 dy_2
    assert_eq!(l.vjp(x.view(), dy.view()).unwrap().0, array![0.0, 3.0 * 210.0, 500.0]);
}

#[test]
fn toeplitz_masks_by_column_and_row_have_them() {
    let (column, row) = (array![1.0, 2.0, 3.0], array![1.0, 5.0]);
    let t = Toeplitz::from_column_and_row(column.view(), row.view()).unwrap();
    assert_eq!(t.to_dense(), array![[1.0, 5.0], [2.0, 1.0], [3.0, 2.0]]);
    assert_eq!(Toeplitz::causal(column.view()).unwrap().to_dense().row(1), array![2.0, 1.0, 0.0]);
    assert!(matches!(
        Toeplitz::from_column_and_row(column.view(), array![2.0].view()),
        Err(Error::Value { tensor: "row", .. })
    ));
    assert_eq!(Toeplitz::<f64>::causal(Array1::zeros(0).view()).unwrap().shape(), (0, 0));
}

#[test]
fn generators_that_are_not_finite_or_do_not_fit_are_errors() {
    let value = |e: Error, name| matches!(e, Error::Value { tensor, .. } if tensor == name);
    assert!(value(OneSemiseparable::new(array![1.0, f64::NAN]).unwrap_err(), "a"));
    assert!(value(OneSemiseparable::new(array![C::new(0.0, f64::INFINITY)]).unwrap_err(), "a"));
    for log_a in [f64::NAN, f64::INFINITY] {
        assert!(value(OneSemiseparable::<f64>::from_log(array![log_a].view()).unwrap_err(), "log_a"));
        assert!(value(segment_sums(array![log_a].view()).unwrap_err(), "log_a"));
        assert!(value(segment_sums_by_difference(array![log_a].view()).unwrap_err(), "log_a"));
    }
    assert!(value(segment_sums_by_difference(array![0.1].view()).unwrap_err(), "log_a"));
    assert!(value(OneSemiseparable::<f64>::from_log(array![1000.0].view()).unwrap_err(), "a"));
    assert!(value(Decay::new(3, f64::NAN).unwrap_err(), "gamma"));
    assert!(value(Toeplitz::new(1, 1, array![f64::NAN]).unwrap_err(), "coefficients"));
    assert!(matches!(Toeplitz::new(2, 2, array![1.0]), Err(Error::Shape { tensor: "coefficients", .. })));
    assert!(matches!(Bidiagonal::new(array![1.0], array![]), Err(Error::Shape { tensor: "lower", .. })));
    let l = OneSemiseparable::new(array![1.0, 1.0]).unwrap();
    assert!(l.matvec(array![1.0].view()).is_err() && l.solve(array![[1.0]].view()).is_err());
    assert!(
        l.left_matmul(array![[1.0]].view()).is_err() && l.transpose_matmul(array![[1.0]].view()).is_err()
    );
}

#[test]
fn a_strided_destination_is_filled() {
    let l = OneSemiseparable::new(array![1.0, 2.0, 3.0]).unwrap();
    let mut y = Array2::zeros((3, 2));
    l.matvec_into(array![1.0, 1.0, 1.0].view(), y.column_mut(1)).unwrap();
    assert_eq!(y, array![[0.0, 1.0], [0.0, 3.0], [0.0, 10.0]]);
}

#[test]
fn a_dense_mask_is_as_accurate_as_its_entries_allow() {
    let m = Numbers(7).array::<f64>((50, 30));
    let x = Numbers(8).array::<f64>((30, 4));
    let bound = scale(m.view(), x.view());
    let y = Dense::new(m.clone()).matmul(x.view()).unwrap();
    assert_close("product", y.view(), product(m.view(), x.view()).view(), |at| 1e-14 * bound[at]);
}
