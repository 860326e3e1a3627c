//! Norms, distances, condition numbers and eigenvalues against dense matrices and recorded numbers.

use crate::support::dense;
use crate::support::ragged::{Draw, Sizes, adjoint, dense_hermitian, dense_lower, dense_two_sided, sizes};
use faer::Mat;
use ndarray::{Array1, Array2, ArrayView2, array};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::sss::{
    Blocks, Bounds, FilterForm, HermitianQuasiseparable, Quasiseparable, Sss, Tolerance, Transition, Upper,
    norm_two_estimate,
};
use semisep::matrix::{OneSemiseparable, StructuredMatrix};
use serde_json::Value;

/// Recorded by `tests/golden/hankel.py` in 60 digits.
fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/hankel.json")).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(v: &Value) -> Array2<f64> {
    let rows: Vec<_> = v.as_array().unwrap().iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

#[test]
fn hankel_singular_values_are_right_to_twelve_digits_however_small() {
    let golden = golden();
    let len = golden["len"].as_u64().unwrap() as usize;
    for system in golden["hankel"].as_array().unwrap() {
        let (poles, weights) = (numbers(&system["poles"]), numbers(&system["weights"]));
        let a = Transition::diagonal(Array2::from_shape_fn((len, poles.len()), |(_, n)| poles[n]));
        let weights = Array2::from_shape_fn((len, poles.len()), |(_, n)| weights[n]);
        let m = Sss::uniform(a, weights.clone(), weights, Array1::zeros(len)).unwrap();
        let spectrum = m.hankel_spectrum().unwrap();
        for block in system["blocks"].as_array().unwrap() {
            let found = spectrum.values(block["k"].as_u64().unwrap() as usize);
            for (found, expected) in found.iter().zip(numbers(&block["values"])) {
                assert!((found / expected - 1.0).abs() < 1e-12, "{found:e} {expected:e}");
            }
        }
    }
}

#[test]
fn the_distance_of_near_matrices_keeps_its_digits() {
    let golden = golden();
    let matrix = |m: &Value| {
        let (a, b, c) = (numbers(&m["a"]), rows(&m["b"]), rows(&m["c"]));
        let len = b.nrows();
        let a = Transition::diagonal(Array2::from_shape_fn((len, 3), |(_, n)| a[n]));
        Sss::uniform(a, b, c, Array1::zeros(len)).unwrap()
    };
    let m = matrix(&golden["matrix"]);
    for (near, limit) in golden["near"].as_array().unwrap().iter().zip([1e-11, 1e-7, 1e-3]) {
        let (found, expected) =
            (m.distance(&matrix(&near["matrix"])).unwrap(), near["distance"].as_f64().unwrap());
        assert!((found / expected - 1.0).abs() < limit, "{found:e} {expected:e}");
    }
    assert!(m.distance(&m).unwrap() < 1e-14 * m.norm_frobenius().unwrap());
}

trait Dense: Draw {
    fn values(a: ArrayView2<'_, Self>) -> Vec<f64>;
    fn eigenvalues(a: &Array2<Self>) -> Vec<f64>;
}

macro_rules! impl_dense {
    ($($t:ty),*) => {$(
        impl Dense for $t {
            fn values(a: ArrayView2<'_, $t>) -> Vec<f64> {
                Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]).singular_values().unwrap()
            }
            fn eigenvalues(a: &Array2<$t>) -> Vec<f64> {
                let a = Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]);
                a.self_adjoint_eigenvalues(faer::Side::Lower).unwrap()
            }
        }
    )*};
}
impl_dense!(f64, Complex<f64>);

fn norm<E: Field<Real = f64>>(a: &Array2<E>) -> f64 {
    a.iter().map(|v| v.squared_modulus()).sum::<f64>().sqrt()
}

fn norm_one<E: Field<Real = f64>>(a: &Array2<E>) -> f64 {
    a.columns().into_iter().map(|c| c.iter().map(|v| v.modulus()).sum()).fold(0.0, f64::max)
}

/// A bound from below hardly ever fails to be the norm itself; a third of it would be a bad miss.
fn assert_between(bounds: Bounds, expected: f64) {
    let slack = 1e-12 * expected;
    assert!(bounds.lower <= expected + slack && expected <= bounds.upper + slack, "{bounds:?} {expected}");
    assert!(bounds.lower >= expected / 3.0);
}

fn check_norms<E: Dense>(sizes: &Sizes) {
    let (lower, both, hermitian) = (sizes.lower::<E>(), sizes.two_sided::<E>(), sizes.hermitian::<E>());
    let dense = [dense_lower(&lower), dense_two_sided(&both), dense_hermitian(&hermitian)];
    let found = [
        (lower.norm_frobenius().unwrap(), lower.norm_one().unwrap(), lower.norm_inf().unwrap()),
        (both.norm_frobenius().unwrap(), both.norm_one().unwrap(), both.norm_inf().unwrap()),
        (hermitian.norm_frobenius().unwrap(), hermitian.norm_one().unwrap(), hermitian.norm_inf().unwrap()),
    ];
    let two = [
        norm_two_estimate(&lower).unwrap(),
        norm_two_estimate(&both).unwrap(),
        norm_two_estimate(&hermitian).unwrap(),
    ];
    for ((dense, (frobenius, one, inf)), two) in dense.iter().zip(found).zip(two) {
        assert!((frobenius - norm(dense)).abs() <= 1e-13 * norm(dense));
        assert_between(one, norm_one(dense));
        assert_between(inf, norm_one(&adjoint(dense)));
        let expected = if dense.is_empty() { 0.0 } else { E::values(dense.view())[0] };
        assert!(two <= expected * (1.0 + 1e-10) && two >= 0.99 * expected, "{two} {expected}");
    }

    let other = sizes.reordered(sizes.seed ^ 5);
    let (s, t) = (other.lower::<E>(), other.two_sided::<E>());
    let expected = norm(&(&dense[0] - &dense_lower(&s)));
    assert!((lower.distance(&s).unwrap() - expected).abs() <= 1e-12 * (1.0 + norm(&dense[0])));
    let expected = norm(&(&dense[1] - &dense_two_sided(&t)));
    assert!((both.distance(&t).unwrap() - expected).abs() <= 1e-12 * (1.0 + norm(&dense[1])));
    let u = other.hermitian::<E>();
    let expected = norm(&(&dense[2] - &dense_hermitian(&u)));
    assert!((hermitian.distance(&u).unwrap() - expected).abs() <= 1e-12 * (1.0 + norm(&dense[2])));
}

/// Orders cut to one and generators to their absolute values: where sums of absolute values are exact.
fn exact_norms<E: Dense>(sizes: &Sizes) {
    let mut single = sizes.clone();
    single.orders.iter_mut().for_each(|n| *n = (*n).min(1));
    let (transition, b, c, d) = sizes.lower::<E>().into_parts();
    let abs = |v: E| E::from_real(v.modulus());
    let positive = Sss::new(transition.map(abs), b.map(abs), c.map(abs), d).unwrap();
    for m in [single.lower::<E>(), positive] {
        let dense = dense_lower(&m);
        for (bounds, expected) in
            [(m.norm_one().unwrap(), norm_one(&dense)), (m.norm_inf().unwrap(), norm_one(&adjoint(&dense)))]
        {
            assert!((bounds.upper - expected).abs() <= 1e-13 * expected);
            assert_eq!(bounds.lower, bounds.upper);
        }
    }
}

/// x → T_k x for well-conditioned T_k.
fn in_other_states<E: Draw>(m: &Sss<E>, seed: u64) -> Sss<E> {
    let mut random = crate::support::Random::new(seed);
    let turns: Vec<(Array2<E>, Array2<E>)> = m
        .orders()
        .iter()
        .map(|&n| {
            // A unit lower triangle and its inverse, by substitution.
            let t = Array2::from_shape_fn((n, n), |(i, j)| match i.cmp(&j) {
                std::cmp::Ordering::Less => E::zero(),
                std::cmp::Ordering::Equal => E::one() + E::one(),
                std::cmp::Ordering::Greater => E::draw(&mut random),
            });
            let mut inverse = Array2::<E>::eye(n);
            for j in 0..n {
                for i in 0..n {
                    let known: E = (0..i).map(|k| t[[i, k]] * inverse[[k, j]]).sum();
                    inverse[[i, j]] = (inverse[[i, j]] - known) / t[[i, i]];
                }
            }
            (t, inverse)
        })
        .collect();
    let a: Blocks<E> = (0..m.len()).map(|k| turns[k + 1].0.dot(&m.a(k)).dot(&turns[k].1)).collect();
    let b = (0..m.len()).map(|k| turns[k + 1].0.dot(&m.b(k))).collect();
    let c = (0..m.len()).map(|k| m.c(k).dot(&turns[k].1)).collect();
    Sss::new(Transition::Dense(a), b, c, m.d_blocks().clone()).unwrap()
}

fn check_invariance<E: Dense>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let other = in_other_states(&m, sizes.seed);
    let size = m.norm_frobenius().unwrap();
    assert!((other.norm_frobenius().unwrap() - size).abs() <= 1e-11 * size);
    assert!(other.distance(&m).unwrap() <= 1e-11 * size);
    let (mine, theirs) = (m.hankel_spectrum().unwrap(), other.hankel_spectrum().unwrap());
    for k in 1..m.len() {
        for i in 0..mine.values(k).len().max(theirs.values(k).len()) {
            let at = |values: &[f64]| values.get(i).copied().unwrap_or(0.0);
            assert!((at(mine.values(k)) - at(theirs.values(k))).abs() <= 1e-11 * size);
        }
    }
}

fn dense_inverse(a: &Array2<f64>) -> Array2<f64> {
    use faer::linalg::solvers::DenseSolveCore;
    let inverse = Mat::<f64>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]).partial_piv_lu().inverse();
    Array2::from_shape_fn(a.dim(), |(i, j)| inverse[(i, j)])
}

/// Condition numbers by estimates, against those of a dense inverse where that is not too inexact itself.
fn check_conditions(sizes: &Sizes) {
    let sizes = sizes.clone().square();
    let (lower, both, hermitian) = (sizes.lower::<f64>(), sizes.two_sided::<f64>(), sizes.hermitian::<f64>());
    let dense = [dense_lower(&lower), dense_two_sided(&both), dense_hermitian(&hermitian)];
    let found = [
        (lower.condition_one_estimate(), lower.condition_two_estimate()),
        (both.condition_one_estimate(), both.condition_two_estimate()),
        (hermitian.condition_one_estimate(), hermitian.condition_two_estimate()),
    ];
    for (dense, (one, two)) in dense.iter().zip(found) {
        if dense.is_empty() {
            assert_eq!((one.unwrap(), two.unwrap()), (0.0, 0.0));
            continue;
        }
        let values = <f64 as Dense>::values(dense.view());
        let exact = values[0] / values.last().unwrap();
        if exact.is_nan() || exact >= 1e8 {
            continue;
        }
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(two <= exact * (1.0 + 1e-6) && two >= 0.9 * exact, "{two} {exact}");
        let exact = norm_one(dense) * norm_one(&dense_inverse(dense));
        assert!(one <= exact * (1.0 + 1e-6) && one >= 0.2 * exact, "{one} {exact}");
    }
}

fn check_eigenvalues<E: Dense>(sizes: &Sizes) {
    let m = sizes.hermitian::<E>();
    let dense = dense_hermitian(&m);
    let expected = E::eigenvalues(&dense);
    let size = norm(&dense);
    let found = m.eigenvalues(0..expected.len(), 1e-13).unwrap();
    assert_eq!(found.len(), expected.len());
    assert!(found.is_sorted());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-9 * size, "{found} {expected}");
    }
    for (k, pair) in expected.windows(2).enumerate() {
        if pair[1] - pair[0] > 1e-6 * size {
            let middle = (pair[0] + pair[1]) / 2.0;
            assert_eq!(m.eigenvalue_count_below(middle).unwrap(), k + 1);
            assert_eq!(
                m.eigenvalues_within(middle..2.0 * size + 1.0, 1e-6).unwrap().len(),
                expected.len() - k - 1
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn condition_numbers_are_estimated_from_below(sizes in sizes(6)) {
        check_conditions(&sizes);
    }

    #[test]
    fn eigenvalues_are_those_of_the_dense_matrix(sizes in sizes(6)) {
        check_eigenvalues::<f64>(&sizes);
        check_eigenvalues::<Complex<f64>>(&sizes);
    }

    #[test]
    fn norms_and_distances_are_those_of_dense_matrices(sizes in sizes(7)) {
        check_norms::<f64>(&sizes);
        check_norms::<Complex<f64>>(&sizes);
    }

    #[test]
    fn sums_of_absolute_values_are_exact_where_nothing_cancels(sizes in sizes(7)) {
        exact_norms::<f64>(&sizes);
        exact_norms::<Complex<f64>>(&sizes);
    }

    #[test]
    fn other_coordinates_of_the_states_change_no_number(sizes in sizes(7)) {
        check_invariance::<f64>(&sizes);
        check_invariance::<Complex<f64>>(&sizes);
    }
}

#[test]
fn the_largest_singular_value_of_a_large_matrix_is_found_to_five_digits() {
    let len = 20_000;
    let ones = Array2::<f64>::ones((len, 1));
    let a = Transition::Scalar(Array1::from_elem(len, 0.9));
    let m = Sss::uniform(a, ones.clone(), ones, Array1::ones(len)).unwrap();
    // A long Toeplitz matrix has nearly the norm of its symbol, 1 + 1 / (z - 0.9) at z = 1.
    let found = norm_two_estimate(&m).unwrap();
    assert!((found / 11.0 - 1.0).abs() < 1e-5, "{found}");
}

#[test]
fn one_line_says_what_a_matrix_is_and_the_alternate_form_shows_a_corner() {
    let ones = |rows| Array2::<f64>::ones((rows, 1));
    let lower = Sss::uniform(Transition::Identity, ones(9), ones(9), Array1::zeros(9)).unwrap();
    let two = Quasiseparable::new(lower.clone(), lower.clone()).unwrap();
    assert_eq!(
        two.to_string(),
        "Quasiseparable 9 × 9: 9 steps of 1 × 1, lower orders 1 1 1 (least, median, most), identity, upper orders 1 1 1 \
         (least, median, most), identity"
    );
    let hermitian = HermitianQuasiseparable::new(lower.clone()).unwrap();
    let text = format!("{hermitian:#}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "       0  1.0000  1.0000  1.0000  1.0000  1.0000  …");
    assert_eq!((lines.len(), lines[7]), (8, "  ⋮"));
    let ones = Array2::<f64>::ones((9, 1));
    let filter = FilterForm::uniform(Transition::Identity, ones.clone(), ones).unwrap();
    assert_eq!(
        filter.to_string(),
        "FilterForm 9 × 9: 9 steps of 1 × 1, orders 1 1 1 (least, median, most), identity"
    );
    let text = format!("{:#}", Upper(lower.clone()));
    assert_eq!(text, format!("{:#}", lower.adjoint()));
    assert_eq!(text.lines().nth(2), Some("       0       0  1.0000  1.0000  1.0000  1.0000  …"));
    let ragged = Sss::<f64>::new(
        Transition::Dense(Blocks::zeros([(2, 0), (0, 2)])),
        Blocks::zeros([(2, 1), (0, 3)]),
        Blocks::zeros([(1, 0), (2, 2)]),
        Blocks::zeros([(1, 1), (2, 3)]),
    );
    let ragged = ragged.unwrap();
    assert_eq!(
        ragged.to_string(),
        "Sss 3 × 4: 2 steps of up to 2 × 3, orders 2 2 2 (least, median, most), dense"
    );
    let empty =
        Sss::<f64>::new(Transition::Identity, Blocks::zeros([]), Blocks::zeros([]), Blocks::zeros([]))
            .unwrap();
    assert_eq!(
        format!("{empty:#}"),
        "Sss 0 × 0: 0 steps of 0 × 0, orders 0 0 0 (least, median, most), identity"
    );
}

#[test]
fn condition_numbers_of_one_state_are_exact() {
    let mut random = crate::support::Random::new(7);
    let (a, b, c) = (random.vector(50), random.vector(50), random.vector(50));
    let m = OneSemiseparable::new(a.clone()).unwrap();
    let (dense, inverse) = (m.to_dense(), dense_inverse(&m.to_dense()));
    for (found, expected) in [
        (m.norm_one(), norm_one(&dense)),
        (m.norm_inf(), norm_one(&adjoint(&dense))),
        (m.condition_one(), norm_one(&dense) * norm_one(&inverse)),
        (m.condition_inf(), norm_one(&adjoint(&dense)) * norm_one(&adjoint(&inverse))),
    ] {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }
    let empty = OneSemiseparable::<f64>::new(Array1::zeros(0)).unwrap();
    assert_eq!((empty.norm_one(), empty.condition_one()), (0.0, 0.0));

    let column = |v: &Array1<f64>| v.clone().insert_axis(ndarray::Axis(1));
    let d = random.vector(50).mapv(|v| v.signum() * (0.1 + v.abs()));
    let m = Sss::uniform(Transition::Scalar(a.mapv(|v| v / 4.0)), column(&b), column(&c), d).unwrap();
    let (dense, inverse) = (dense_lower(&m), dense_inverse(&dense_lower(&m)));
    let expected = norm_one(&dense) * norm_one(&inverse);
    let found = m.condition_one_estimate().unwrap();
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}

#[test]
fn eigenvalues_where_pivots_vanish_are_found() {
    // Zero diagonal and neighbours of one: eigenvalues 2 cos(πk / (n + 1)), and every second leading minor is singular.
    let len = 41;
    let ones = Array2::<f64>::ones((len, 1));
    let lower =
        Sss::uniform(Transition::Scalar(Array1::zeros(len)), ones.clone(), ones, Array1::zeros(len)).unwrap();
    let m = HermitianQuasiseparable::new(lower).unwrap();
    let found = m.eigenvalues(0..len, 1e-14).unwrap();
    for (k, found) in found.iter().rev().enumerate() {
        let expected = 2.0 * (std::f64::consts::PI * (k + 1) as f64 / (len + 1) as f64).cos();
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }
    assert!(m.eigenvalues(3..99, 1e-9).is_err() && m.eigenvalues(0..1, 0.0).is_err());
    assert!(m.eigenvalue_count_below(f64::NAN).is_err());
    let zero = Sss::<f64>::uniform(
        Transition::Identity,
        Array2::zeros((5, 1)),
        Array2::zeros((5, 1)),
        Array1::zeros(5),
    );
    let zero = HermitianQuasiseparable::new(zero.unwrap()).unwrap();
    let counts = [-0.5, 0.0, 0.5].map(|shift| zero.eigenvalue_count_below(shift).unwrap());
    assert_eq!(counts, [0, 0, 5]);
    let counts = [f64::NEG_INFINITY, f64::INFINITY].map(|shift| m.eigenvalue_count_below(shift).unwrap());
    assert_eq!(counts, [0, len]);
    assert_eq!(m.eigenvalues_within(f64::NEG_INFINITY..f64::INFINITY, 1e-14).unwrap(), found);
    assert!(zero.eigenvalues(0..5, 1e-9).unwrap().iter().all(|v| v.abs() < 1e-300));
}

#[test]
fn eigenvalues_do_not_depend_on_how_large_absolute_generators_are() {
    // An oscillation: A turns by 45 degrees, so that entries stay small and |A|^k grows as 2^(k/2).
    let len = 120;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let turns = (0..len).map(|_| array![[half, -half], [half, half]]).collect();
    let (b, c) =
        (Array2::from_shape_fn((len, 2), |(k, n)| ((3 * k + n) as f64).sin()), Array2::ones((len, 2)));
    let lower = Sss::uniform(Transition::Dense(turns), b, c, Array1::from_elem(len, 0.5)).unwrap();
    let m = HermitianQuasiseparable::new(lower).unwrap();
    let expected = dense::eigenvalues(&m.to_dense());
    let norm = expected[len - 1].abs().max(expected[0].abs());
    let found = m.eigenvalues(len - 5..len, 1e-13).unwrap();
    for (found, expected) in found.iter().zip(&expected[len - 5..]) {
        assert!((found - expected).abs() <= 1e-12 * norm, "{found} {expected}");
    }
    let middle = (expected[59] + expected[60]) / 2.0;
    assert_eq!(m.eigenvalue_count_below(middle).unwrap(), 60);
}

#[test]
fn upper_matrices_have_the_numbers_of_their_dense_forms() {
    let len = 30;
    let random = &mut crate::support::Random::new(9);
    let (b, c) = (random.matrix(len, 2), random.matrix(len, 2));
    let a = Transition::diagonal(Array2::from_elem((len, 2), -0.7));
    let d = random.vector(len).mapv(|v| v.signum() * (2.0 + v.abs()));
    let m = Upper(Sss::uniform(a, b, c, d).unwrap());
    let dense = m.to_dense();
    let (one, inf) = (norm_one(&dense), norm_one(&adjoint(&dense)));
    for (bounds, expected) in [(m.norm_one().unwrap(), one), (m.norm_inf().unwrap(), inf)] {
        assert!(bounds.lower <= expected * (1.0 + 1e-12) && expected <= bounds.upper * (1.0 + 1e-12));
    }
    let inverse = dense_inverse(&dense);
    let (found, expected) = (m.condition_one_estimate().unwrap(), one * norm_one(&inverse));
    assert!(found <= expected * (1.0 + 1e-10) && found >= 0.3 * expected, "{found} {expected}");
    let (found, expected) = (m.condition_two_estimate().unwrap(), dense::condition(&dense));
    assert!(found <= expected * (1.0 + 1e-10) && found >= 0.9 * expected, "{found} {expected}");
    let determinant = m.log_determinant().unwrap();
    let expected = dense::determinant(&dense).re;
    assert!((determinant.phase * determinant.log_modulus.exp() / expected - 1.0).abs() < 1e-12);
    let hankel = dense::singular_values(&dense.slice(ndarray::s![..15, 15..]).to_owned());
    let spectrum = m.hankel_spectrum().unwrap();
    assert!((spectrum.values(15)[0] / hankel[0] - 1.0).abs() < 1e-12);
    assert_eq!(spectrum.norm(), m.norm_hankel().unwrap());
    assert_eq!(m.hankel_ranks(Tolerance::Relative(1e-12)).unwrap()[14], 2);
    let x = random.matrix(len, 3);
    let y = m.solve_adjoint(m.adjoint_matmul(x.view()).unwrap().view()).unwrap();
    assert!((y - x).iter().all(|v| v.abs() < 1e-12));
}
