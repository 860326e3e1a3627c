//! Numbers at the ends of their range, numbers that are none, empty sizes: a right answer or an error that says what.

use crate::support::dense::Dense;
use crate::support::ragged::{Growth, Kind, Sizes, array as draw};
use ndarray::{Array1, Array2, Array3, array, s};
use num_complex::Complex;
use semisep::Error;
use semisep::matrix::mask::Toeplitz;
use semisep::matrix::sss::{
    Blocks, Canonical, FilterForm, HermitianQuasiseparable, Quasiseparable, Sss, StateSpace, StateSpaceRoots,
    Tolerance, Transition, norm_inf_exact, norm_one_exact, norm_two_estimate,
};
use semisep::matrix::{Partition, StructuredMatrix};

/// A matrix of blocks of unequal sizes, or of numbers of order 2.
fn sizes(uniform: bool) -> Sizes {
    let (inputs, orders) = (vec![2, 1, 0, 2, 1], vec![1, 2, 3, 2, 1, 2]);
    let kind = if uniform { Kind::Diagonal } else { Kind::Dense };
    let sizes = Sizes { outputs: inputs.clone(), inputs, orders, kind, growth: Growth::Plain, seed: 5 };
    if uniform { sizes.uniform() } else { sizes }
}

/// The matrix times a number, by B and D.
fn times<E: Dense>(m: &Sss<E>, factor: f64) -> Sss<E> {
    let (a, b, c, d) = m.clone().into_parts();
    Sss::new(a, b.map(|v| v * E::from_real(factor)), c, d.map(|v| v * E::from_real(factor))).unwrap()
}

fn hermitian<E: Dense>(m: &Sss<E>, shift: f64) -> HermitianQuasiseparable<E> {
    let (a, b, c, d) = m.clone().into_parts();
    let d = d.iter().map(|d| &d + &d.t().mapv(E::conj) + Array2::<E>::eye(d.nrows()) * E::from_real(shift));
    HermitianQuasiseparable::new(Sss::new(a, b, c, d.collect()).unwrap()).unwrap()
}

fn two_sided<E: Dense>(m: &Sss<E>) -> Quasiseparable<E> {
    Quasiseparable::new(m.clone(), m.clone()).unwrap()
}

fn parts<'a, E: Dense>(entries: impl IntoIterator<Item = &'a E>) -> Vec<f64> {
    entries.into_iter().flat_map(|v| [v.to_complex().re, v.to_complex().im]).collect()
}

/// Numbers that are multiplied with the matrix; `shift` too is one.
fn proportional<E: Dense>(m: &Sss<E>, shift: f64) -> Vec<f64> {
    let (h, q) = (hermitian(m, shift), two_sided(m));
    let bounds = m.norm_one().unwrap();
    let mut numbers = vec![
        m.norm_frobenius().unwrap(),
        m.norm_hankel().unwrap(),
        q.norm_frobenius().unwrap(),
        h.norm_frobenius().unwrap(),
        m.distance(&m.scaled(E::one() + E::one())).unwrap(),
        bounds.lower,
        bounds.upper,
        norm_one_exact(m).unwrap(),
        norm_inf_exact(&q).unwrap(),
        norm_two_estimate(m).unwrap(),
        h.eigenvalues(0..1, 1e-6).unwrap()[0],
    ];
    let widths: Vec<usize> = m.d_blocks().iter().map(|d| d.nrows()).collect();
    for tolerance in [Tolerance::Relative(0.3), Tolerance::Frobenius(0.3)] {
        let (lower, both) = (m.rounded(tolerance).unwrap(), q.rounded(tolerance).unwrap());
        let dense = Sss::from_dense_blocks(m.to_dense().view(), &widths, &widths, tolerance).unwrap();
        numbers.extend([lower.error, lower.spectrum.frobenius(), both.error, dense.error]);
        numbers.push(h.rounded(tolerance).unwrap().error);
        numbers.extend(parts(&lower.matrix.to_dense()));
        numbers.extend(parts(&both.matrix.to_dense()));
    }
    numbers.extend(parts(&m.canonical(Canonical::Balanced).unwrap().to_dense()));
    numbers.extend(parts(&m.qr().unwrap().r().to_dense()));
    numbers
}

/// Solutions, which are divided by it.
fn inverse<E: Dense>(m: &Sss<E>, shift: f64) -> Vec<f64> {
    let b = draw::<E>(m.rows(), 2, &mut crate::support::Random::new(3));
    let (h, q) = (hermitian(m, shift), two_sided(m));
    let factor = h.cholesky().unwrap();
    [
        m.solve(b.view()),
        m.solve_adjoint(b.view()),
        m.qr().unwrap().least_squares(b.view()).map(|found| found.x),
        q.qr().unwrap().solve(b.view()),
        q.lu().unwrap().solve(b.view()),
        h.ldl().unwrap().solve(b.view()),
        factor.solve(b.view()),
        m.inverse().map(|m| m.to_dense()),
        factor.inverse().map(|m| m.to_dense()),
    ]
    .into_iter()
    .flat_map(|x| parts(&x.unwrap()))
    .collect()
}

fn check_scaling<E: Dense>(uniform: bool) {
    let m = sizes(uniform).lower::<E>();
    let (numbers, solutions) = (proportional(&m, 40.0), inverse(&m, 40.0));
    for exponent in [900, -900] {
        let factor = 2f64.powi(exponent);
        let large = times(&m, factor);
        let scaled = proportional(&large, 40.0 * factor).into_iter().map(|v| v / factor);
        let solved = inverse(&large, 40.0 * factor).into_iter().map(|v| v * factor);
        for (found, expected) in scaled.zip(&numbers).chain(solved.zip(&solutions)) {
            let error = (found - expected).abs();
            assert!(error <= 1e-11 * expected.abs().max(1.0), "{found} for {expected} at 2^{exponent}");
        }
        let phase = large.log_determinant().unwrap().phase - m.log_determinant().unwrap().phase;
        assert!(phase.modulus() < 1e-13);
    }
}

#[test]
fn numbers_whose_squares_over_or_underflow_give_the_same_digits() {
    for uniform in [false, true] {
        check_scaling::<f64>(uniform);
        check_scaling::<Complex<f64>>(uniform);
    }
    let response = Array1::from_shape_fn(40, |t| 0.9f64.powi(t as i32));
    for factor in [1e-300, 1e300] {
        let found = Sss::from_toeplitz((&response * factor).view(), Tolerance::Frobenius(1e-9)).unwrap();
        assert_eq!(found.matrix.order_at(1), 1);
        assert!(found.error <= 1e-9 * factor * 40.0);
    }
}

/// The matrix with a number in place of one of its generators.
fn with<E: Dense>(m: &Sss<E>, place: usize, value: E) -> Sss<E> {
    let (mut a, mut b, mut c, mut d) = m.clone().into_parts();
    match (place, &mut a) {
        (0, Transition::Diagonal(a) | Transition::Dense(a)) => a.block_mut(1)[[1, 0]] = value,
        (1, _) => b.block_mut(0)[[0, 0]] = value,
        (2, _) => c.block_mut(3)[[0, 0]] = value,
        _ => d.block_mut(1)[[0, 0]] = value,
    }
    Sss::new(a, b, c, d).unwrap()
}

fn check_poison<E: Dense>(uniform: bool, value: f64) {
    let b = draw::<E>(sizes(uniform).lower::<E>().rows(), 5, &mut crate::support::Random::new(3));
    for place in 0..4 {
        let m = with(&sizes(uniform).lower::<E>(), place, E::from_real(value));
        let q = two_sided(&m);
        let h = m.clone().into_parts();
        let h =
            HermitianQuasiseparable::new(Sss::new(h.0, h.1, h.2, h.3.map(|_| E::zero())).unwrap()).unwrap();
        let of = |m: &Sss<E>| parts(&m.to_dense());
        let all = [
            ("product", m.matmul(b.view()).map(|y| parts(&y))),
            ("adjoint product", m.adjoint_matmul(b.view()).map(|y| parts(&y))),
            ("two-sided product", q.matmul(b.view()).map(|y| parts(&y))),
            ("solution", m.solve(b.view()).map(|y| parts(&y))),
            ("inverse", m.inverse().map(|m| of(&m))),
            ("QR", m.qr().map(|qr| of(qr.r()))),
            ("two-sided QR", q.qr().and_then(|qr| qr.solve(b.view())).map(|y| parts(&y))),
            ("LU", q.lu().and_then(|lu| lu.solve(b.view())).map(|y| parts(&y))),
            ("Frobenius norm", m.norm_frobenius().map(|v| vec![v])),
            ("1-norm", norm_one_exact(&m).map(|v| vec![v])),
            ("∞-norm", norm_inf_exact(&q).map(|v| vec![v])),
            ("2-norm", norm_two_estimate(&m).map(|v| vec![v])),
            ("bounds", m.norm_inf().map(|v| vec![v.lower, v.upper])),
            ("rounded", m.rounded(Tolerance::Relative(0.1)).map(|r| of(&r.matrix))),
            ("canonical", m.canonical(Canonical::OutputNormal).map(|m| of(&m))),
            ("condition", q.condition_one_estimate().map(|v| vec![v])),
            ("eigenvalues", if place < 3 { h.eigenvalues(0..1, 1e-3) } else { Ok(vec![f64::NAN]) }),
        ];
        for (name, found) in all {
            let finite = found.is_ok_and(|numbers| numbers.iter().all(|v| v.is_finite()));
            assert!(!finite, "{name}: {value} in place {place} is lost");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_or_shown() {
    for value in [f64::NAN, f64::INFINITY] {
        for uniform in [false, true] {
            check_poison::<f64>(uniform, value);
            check_poison::<Complex<f64>>(uniform, value);
        }
    }
}

#[test]
fn a_factor_is_renewed_only_for_its_own_transition_and_outputs() {
    let m = hermitian(&sizes(true).lower::<f64>(), 40.0);
    let (a, b, c, d) = m.lower().clone().into_parts();
    let with = |a, c| HermitianQuasiseparable::new(Sss::new(a, b.clone(), c, d.clone()).unwrap()).unwrap();
    let (half, twice) = (with(a.map(|v| v / 2.0), c.clone()), with(a.clone(), c.map(|v| v * 2.0)));
    for (other, name) in [(half, "a"), (twice, "c")] {
        let error = m.ldl().unwrap().refactor(&other, &d).unwrap_err();
        assert!(matches!(error, Error::Value { tensor, .. } if tensor == name), "{error}");
        assert!(m.cholesky().unwrap().refactor(&other, &d).is_err());
        let two = |h: &HermitianQuasiseparable<f64>| h.to_quasiseparable();
        let error = two(&m).lu().unwrap().refactor(&two(&other), &d).unwrap_err();
        assert!(matches!(error, Error::Value { tensor, .. } if tensor == name), "{error}");
        let mixed = Quasiseparable::new(m.lower().clone(), other.into_lower()).unwrap();
        let error = two(&m).lu().unwrap().refactor(&mixed, &d).unwrap_err();
        let name = if name == "a" { "e" } else { "f" };
        assert!(matches!(error, Error::Value { tensor, .. } if tensor == name), "{error}");
    }
    let lu = || m.to_quasiseparable().lu().unwrap();
    let renew = |m: &HermitianQuasiseparable<f64>, d: &Blocks<f64>| {
        lu().refactor(&m.to_quasiseparable(), d).unwrap_err()
    };
    let shorter = d.iter().skip(1).map(|d| d.to_owned()).collect();
    assert!(matches!(renew(&m, &shorter), Error::Shape { tensor: "diagonal", .. }));
    assert!(matches!(
        renew(&m, &Blocks::zeros(vec![(1, 2); d.len()])),
        Error::Shape { tensor: "diagonal", .. }
    ));
    let ragged = hermitian(&sizes(false).lower::<f64>(), 40.0);
    assert!(matches!(renew(&ragged, &d), Error::Shape { tensor: "m", .. }));
    assert!(matches!(renew(&m, &d.map(|_| f64::NAN)), Error::Singular { step: 0, .. }));
    assert_eq!(lu().refactor(&m.to_quasiseparable(), &d).unwrap(), lu());
}

/// Two outputs a step of a state that does not move, with this root of their noise.
fn outputs(noise: Array2<f64>) -> StateSpaceRoots<f64> {
    StateSpaceRoots {
        transition: Transition::Identity,
        noise: Blocks::zeros([(1, 1); 3]),
        output: Blocks::zeros([(2, 1); 3]),
        output_noise: (0..3).map(|_| noise.clone()).collect(),
        initial: Array2::ones((1, 1)),
    }
}

#[test]
fn roots_whose_squares_are_not_definite_are_refused() {
    let lower = outputs(array![[1.0, 0.0], [1.0, 1e-3]]).cholesky().unwrap().lower();
    assert!((lower.d(2)[[1, 1]] - 1e-3).abs() < 1e-12);
    for noise in [array![[1.0, 0.0], [1.0, 1e-12]], array![[1e-200, 0.0], [0.0, 1e-200]]] {
        let error = outputs(noise).cholesky().unwrap_err();
        assert!(matches!(error, Error::NotPositiveDefinite { step: 0, .. }), "{error}");
    }
    let error = outputs(array![[1.0, f64::NAN], [0.0, 1.0]]).cholesky().unwrap_err();
    assert!(matches!(error, Error::Value { tensor: "output_noise", .. }), "{error}");
}

#[test]
fn bisection_ends_where_an_interval_has_no_middle() {
    let least = f64::from_bits(1);
    let (b, c) = (Array2::zeros((2, 1)), Array2::ones((2, 1)));
    let lower = Sss::uniform(Transition::Identity, b, c, array![least, 3.0 * least]).unwrap();
    // An elimination at an eigenvalue itself breaks down, which may be said instead.
    let found = HermitianQuasiseparable::new(lower).unwrap().eigenvalues(0..2, 1e-3);
    assert!(found.map_or(true, |values| values.iter().all(|v| v.abs() <= 4.0 * least)));
}

#[test]
fn sizes_that_are_empty_or_overflow_are_answered() {
    let empty: Sss<f64> =
        Sss::new(Transition::Identity, Blocks::zeros([]), Blocks::zeros([]), Blocks::zeros([])).unwrap();
    assert_eq!(empty.norm_frobenius().unwrap() + empty.norm_one().unwrap().upper, 0.0);
    assert_eq!(empty.inverse().unwrap().qr().unwrap().r().shape(), (0, 0));
    let none = Array2::<f64>::zeros((0, 0));
    let huge = Sss::from_dense_blocks(none.view(), &[usize::MAX, 2], &[0, 0], Tolerance::Absolute(0.0));
    assert!(matches!(huge, Err(Error::Shape { tensor: "m", .. })));
    let endless = || Blocks::<f64>::from(Array3::zeros((usize::MAX >> 2, 0, 0)));
    assert!(matches!(
        Sss::new(Transition::Identity, endless(), endless(), endless()),
        Err(Error::Shape { .. })
    ));
    // Many steps without an output have no corner to print, and it takes no longer than they do.
    let steps = 20_000;
    let (b, c) = (Blocks::zeros(vec![(1, 1); steps]), Blocks::zeros(vec![(0, 1); steps]));
    let silent: Sss<f64> = Sss::new(Transition::Identity, b, c, Blocks::zeros(vec![(0, 1); steps])).unwrap();
    assert!(format!("{silent:#}").starts_with("Sss 0 × 20000"));
}

/// Asserts that what very large sizes make is an error of this tensor.
#[track_caller]
fn too_many<T>(found: semisep::Result<T>, name: &str) {
    match found {
        Err(Error::Shape { tensor, .. }) if tensor == name => {}
        Err(other) => panic!("{other} instead of a shape error of {name}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn sizes_that_empty_blocks_alone_speak_of_are_limited() {
    const HUGE: usize = 1 << 40;
    let blocks = |dims: &[(usize, usize)]| Blocks::<f64>::zeros(dims.iter().copied());
    let half = || Transition::Scalar(array![0.5, 0.5]);
    let lower = |a, b: &[_], c: &[_], d: &[_]| Sss::new(a, blocks(b), blocks(c), blocks(d));
    let none = [(0, 0), (0, 0)];
    for a in [Transition::Identity, half(), Transition::Diagonal(blocks(&[(1, 1), (1, 1)]))] {
        too_many(lower(a, &[(HUGE, 0), (1, 1)], &[(1, 1), (0, HUGE)], &[(1, 0), (0, 1)]), "orders");
    }
    too_many(lower(half(), &[(2, 1), (HUGE, 0)], &[(1, 2), (1, 2)], &[(1, 1), (1, 0)]), "orders");
    too_many(lower(half(), &[(2, 1), (2, 1)], &[(0, HUGE), (1, 2)], &[(0, 1), (1, 1)]), "orders");
    let dense = Transition::Dense(blocks(&[(0, HUGE), (1, 0)]));
    too_many(lower(dense, &[(0, 1), (1, 1)], &[(0, HUGE), (1, 0)], &[(0, 1), (1, 1)]), "orders");
    too_many(lower(half(), &[(0, 1), (0, 0)], &[(1, 0), (HUGE, 0)], &[(1, 1), (HUGE, 0)]), "c");
    too_many(lower(half(), &[(0, usize::MAX), (0, 2)], &[(0, 0), (0, 0)], &[(0, usize::MAX), (0, 2)]), "b");
    too_many(lower(half(), &[(0, usize::MAX), (1, 1)], &[(0, 1), (1, 0)], &[(0, usize::MAX), (1, 1)]), "b");
    let steps = || Blocks::<f64>::from(Array3::zeros((HUGE, 0, 0)));
    too_many(Sss::new(Transition::Identity, steps(), steps(), steps()), "b");
    // Where numbers belong to as many states elsewhere, or there are not so many, all is well.
    let m = lower(half(), &[(5000, 0), (5000, 0)], &[(1, 5000), (0, 5000)], &[(1, 0), (0, 0)]).unwrap();
    assert_eq!(
        (m.order_at(1), m.matmul(Array2::zeros((0, 1)).view()).unwrap()),
        (5000, Array2::zeros((1, 1)))
    );
    let m = lower(half(), &[(4000, 0), (4000, 0)], &[(0, 4000), (0, 4000)], &none).unwrap();
    assert_eq!(m.matmul(Array2::zeros((0, 3)).view()).unwrap().dim(), (0, 3));

    let filter = |first, b: &[_], c: &[_]| FilterForm::new(first, half(), blocks(b), blocks(c));
    too_many(filter(HUGE, &[(1, 1), (1, 1)], &[(1, 1), (1, 1)]), "orders");
    too_many(filter(1, &[(HUGE, 0), (1, 1)], &[(0, HUGE), (1, 1)]), "orders");
    too_many(filter(1, &[(0, HUGE), (1, 1)], &[(1, 0), (1, 1)]), "b");
    let none = || Array2::<f64>::zeros((HUGE, 0));
    too_many(FilterForm::uniform(Transition::Identity, none(), none()), "b");
    let roots = |noise: &[_], output: &[_], initial| StateSpaceRoots {
        transition: half(),
        noise: blocks(noise),
        output: blocks(output),
        output_noise: blocks(&[(1, 1), (1, 1)]),
        initial: Array2::zeros((initial, 0)),
    };
    too_many(roots(&[(1, 1), (HUGE, 0)], &[(1, 1), (1, 1)], 1).cholesky(), "orders");
    let mut silent = roots(&[(1, 1), (1, 1)], &[(0, HUGE), (1, 1)], HUGE);
    silent.output_noise = blocks(&[(0, 1), (1, 1)]);
    too_many(silent.cholesky(), "orders");

    let none = none();
    too_many(Sss::from_low_rank(none.view(), none.view()), "u");
    too_many(Quasiseparable::from_banded(none.view(), none.view()), "bands");
    let (half, round) = ([HUGE / 2; 2], Tolerance::Absolute(0.0));
    too_many(Sss::from_dense_blocks(none.view(), &half, &[0, 0], round), "m");
    too_many(Quasiseparable::from_dense_blocks(none.t(), &[0, 0], &half, round), "m");

    let entries = |len, partition| {
        Sss::from_entries(len, &partition, |_, _| 1.0, Tolerance::Absolute(0.0)).map(|_| ()).unwrap_err()
    };
    assert!(matches!(entries(HUGE, Partition::Equal(HUGE)), Error::Config { field: "len", .. }));
    assert!(matches!(entries(1 << 50, Partition::Equal(1)), Error::Config { field: "partition", .. }));
    assert!(Partition::Equal(1).ranges(usize::MAX).is_err());
    assert!(Toeplitz::new(usize::MAX, 2, array![1.0]).is_err());
}

#[test]
fn products_of_many_columns_survive_transitions_whose_products_overflow() {
    let (len, columns) = (9, 20);
    for order in [1, 8] {
        let ones = Array2::<f64>::ones((len, order));
        let a = Transition::diagonal(ones.mapv(|v| v * 1e200));
        let m = Sss::uniform(a, ones.clone(), ones, Array1::zeros(len)).unwrap();
        let (mut x, mut expected) = (Array2::zeros((len, columns)), Array2::zeros((len, columns)));
        x.row_mut(len - 2).fill(1e-200);
        expected.row_mut(len - 1).fill(order as f64 * 1e-200);
        assert_eq!(m.matmul(x.view()).unwrap(), expected);
    }
}

#[test]
fn an_infinite_input_makes_no_output_a_nan_that_it_reaches_by_one_term_alone() {
    let len = 7;
    for order in [1, 2, 3, 8, 11] {
        let ones = Array2::<f64>::ones((len, order));
        let a = Transition::diagonal(ones.mapv(|v| v * 0.5));
        let lower = Sss::uniform(a, ones.clone(), ones, Array1::ones(len)).unwrap();
        let m = HermitianQuasiseparable::new(lower).unwrap();
        for columns in [1, 2, 3, 4, 8, 20] {
            let mut x = Array2::zeros((len, columns));
            x.row_mut(3).fill(f64::INFINITY);
            let y = m.matmul(x.view()).unwrap();
            assert!(y.iter().all(|v| *v == f64::INFINITY), "order {order}, {columns} columns: {y}");
        }
    }
}

#[test]
fn arrays_within_others_and_responses_without_a_shift_are_read_right() {
    let numbers = Array3::from_shape_fn((4, 1, 2), |(k, _, n)| (2 * k + n) as f64);
    let inner = Blocks::from(numbers.slice_move(s![1..3, .., ..]));
    assert_eq!(inner.flat(), [2.0, 3.0, 4.0, 5.0]);
    let diagonal = Transition::diagonal(array![[1.0, 2.0], [3.0, 4.0]].slice_move(s![1.., ..]));
    assert!(matches!(diagonal, Transition::Diagonal(a) if a.flat() == [3.0, 4.0]));
    // One late number: the leading mode has no shift within the rows that are left.
    let found = Sss::from_toeplitz(array![0.0, 0.0, 0.0, 1.0].view(), Tolerance::Relative(1e-10)).unwrap();
    assert!(found.error <= 1.0 + 1e-15 && found.matrix.to_dense().iter().all(|v: &f64| v.is_finite()));
}

#[test]
fn models_that_do_not_fit_are_refused_by_the_names_of_their_fields() {
    let blocks = |sizes: [(usize, usize); 2]| Blocks::<f64>::zeros(sizes);
    let roots = |noise| StateSpaceRoots {
        transition: Transition::Identity,
        noise: blocks(noise),
        output: blocks([(1, 1), (1, 1)]),
        output_noise: blocks([(1, 1), (1, 1)]),
        initial: Array2::ones((1, 1)),
    };
    let error = roots([(2, 1), (1, 1)]).cholesky().unwrap_err();
    assert!(
        matches!(&error, Error::Shape { tensor: "noise", expected, .. } if expected.contains("step 0")),
        "{error}"
    );
    let StateSpaceRoots { transition, noise, output, output_noise, .. } = roots([(1, 1), (1, 1)]);
    let model = StateSpace { transition, noise, output, output_noise, initial: array![[f64::NAN]] };
    let error = model.covariance().unwrap_err();
    assert!(matches!(error, Error::Value { tensor: "initial", .. }), "{error}");
}

#[test]
fn subnormal_responses_are_realised_and_late_modes_do_no_harm() {
    let response = Array1::from_shape_fn(40, |t| 1e-310 * 0.5f64.powi(t as i32));
    let found = Sss::from_toeplitz(response.view(), Tolerance::Relative(1e-6)).unwrap();
    assert_eq!(found.matrix.order_at(1), 1);
    let response = Array1::from_shape_fn(200, |t| 1.0 / (1.0 + t as f64));
    let found = Sss::from_toeplitz(response.view(), Tolerance::Absolute(0.0)).unwrap();
    assert!(found.error < 1e-8, "{}", found.error);
    let empty = Sss::<f64>::from_toeplitz(array![].view(), Tolerance::Absolute(0.0)).unwrap();
    assert!(empty.error.is_sign_positive());
}
