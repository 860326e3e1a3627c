//! Factorisations, solutions, determinants and inverses against dense linear algebra.

use crate::support::dense::{
    Dense, backward_error, condition, determinant, eigenvalues, norm, singular_values, solve,
};
use crate::support::ragged::{
    Growth, Kind, Sizes, adjoint, array as random_array, dense_hermitian, dense_lower, dense_two_sided,
    product, sizes,
};
use crate::support::{Random, assert_close};
use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{
    HermitianQuasiseparable, Inertia, LogDeterminant, Quasiseparable, Sss, Tolerance, Transition, Upper,
};
use semisep::{Error, Field};

/// Backward errors of algorithms that are stable stay below this.
const STABLE: f64 = 1e-14;

/// The lower matrix of these sizes with `shift` added to its square diagonal blocks.
fn shifted<E: Dense>(sizes: &Sizes, shift: f64) -> Sss<E> {
    let (a, b, c, d) = sizes.clone().square().lower::<E>().into_parts();
    let d = d.iter().map(|d| {
        let mut d = d.to_owned();
        d.diag_mut().mapv_inplace(|v| v + E::from_real(shift));
        d
    });
    Sss::new(a, b, c, d.collect()).unwrap()
}

fn check_determinant<E: Dense>(log: LogDeterminant<E>, dense: &Array2<E>, tolerance: f64) {
    let expected = determinant(dense);
    let found = log.phase.to_complex() * log.log_modulus.exp();
    assert!((found - expected).norm() <= tolerance * expected.norm(), "{found} against {expected}");
}

fn check_substitution<E: Dense>(sizes: &Sizes, width: usize) {
    let m = shifted::<E>(sizes, 2.0);
    let dense = dense_lower(&m);
    let mut random = sizes.random();
    let b = random_array::<E>(dense.nrows(), width, &mut random);
    let adjoint = adjoint(&dense);
    assert!(backward_error(&dense, &m.solve(b.view()).unwrap(), &b) < STABLE);
    assert!(backward_error(&adjoint, &m.solve_adjoint(b.view()).unwrap(), &b) < STABLE);
    let transposed = dense.t().to_owned();
    assert!(backward_error(&transposed, &m.solve_transposed(b.view()).unwrap(), &b) < STABLE);
    assert_eq!(Upper(&m).solve(b.view()).unwrap(), m.solve_adjoint(b.view()).unwrap());
    check_determinant(m.log_determinant().unwrap(), &dense, 1e-11);
}

fn check_lu<E: Dense>(sizes: &Sizes, width: usize) {
    let m = sizes.clone().square().two_sided::<E>();
    let m = Quasiseparable::new(shifted(sizes, 3.0), m.upper().clone()).unwrap();
    let dense = dense_two_sided(&m);
    let Ok(lu) = m.lu() else { return assert!(condition(&dense) > 1e6, "a regular matrix is refused") };
    let tolerance = STABLE * lu.growth();
    let (lower, upper) = (dense_lower(lu.lower()), lu.upper().to_dense());
    let scale = norm(&lower) * norm(&upper);
    assert!(norm(&(product(&lower, &upper) - &dense)) <= STABLE * scale.max(1e-300));
    assert_eq!(lu.lower().orders(), m.lower().orders());
    let b = random_array::<E>(dense.nrows(), width, &mut sizes.random());
    // The factors are multiplied back exactly but for their own size, so that is what the solution is held against.
    let enlarged = |error: f64, x: &Array2<E>| {
        error * norm(&dense) * norm(x) <= tolerance.max(STABLE) * (scale * norm(x) + norm(&b))
    };
    let x = lu.solve(b.view()).unwrap();
    assert!(enlarged(backward_error(&dense, &x, &b), &x));
    let x = lu.solve_adjoint(b.view()).unwrap();
    assert!(enlarged(backward_error(&adjoint(&dense), &x, &b), &x));
    let condition = condition(&dense);
    if condition < 1e3 && lu.growth() < 1e3 {
        check_determinant(lu.log_determinant().unwrap(), &dense, 1e-9);
        let inverse = lu.inverse().unwrap();
        assert_close(&dense_two_sided(&inverse), &solve(&dense, &Array2::eye(dense.nrows())), 1e-8);
        assert_eq!(inverse.lower().orders(), m.lower().orders());
        assert_eq!(inverse.upper().orders(), m.upper().orders());
    }
    // Renewed for another diagonal, and for other inputs too.
    let heavier = m.diagonal_blocks().iter().map(|d| &d + &Array2::<E>::eye(d.nrows())).collect();
    let (transition, inputs, outputs, d) = m.lower().clone().into_parts();
    let other = Sss::new(transition, inputs.map(|b| b + b), outputs, d).unwrap();
    let other = Quasiseparable::new(other, m.upper().clone()).unwrap();
    let dense = dense_two_sided(&other) + Array2::<E>::eye(dense.nrows());
    match lu.refactor(&other, &heavier) {
        Ok(lu) => {
            let (lower, upper) = (dense_lower(lu.lower()), lu.upper().to_dense());
            let scale = norm(&lower) * norm(&upper);
            assert!(norm(&(product(&lower, &upper) - &dense)) <= STABLE * scale.max(1e-300));
        }
        Err(found) => assert!(matches!(found, Error::Singular { .. }), "{found}"),
    }
}

/// A positive definite matrix: the given one, shifted by more than its most negative eigenvalue.
fn positive<E: Dense>(sizes: &Sizes) -> HermitianQuasiseparable<E> {
    let lowest = eigenvalues(&dense_hermitian(&sizes.hermitian::<E>())).first().copied().unwrap_or(0.0);
    sizes.hermitian_with(E::from_real(0.3 - lowest.min(0.0)))
}

fn check_cholesky<E: Dense>(sizes: &Sizes, width: usize) {
    let m = positive::<E>(sizes);
    let dense = dense_hermitian(&m);
    let condition = condition(&dense);
    let factor = m.cholesky().unwrap();
    let l = dense_lower(&factor.lower());
    assert!(norm(&(product(&l, &adjoint(&l)) - &dense)) <= STABLE * norm(&dense));
    assert!(m.ldl().unwrap().growth() < 1.0 + 1e-10);
    let b = random_array::<E>(dense.nrows(), width, &mut sizes.random());
    let x = factor.solve(b.view()).unwrap();
    assert!(backward_error(&dense, &x, &b) < STABLE);
    let log: f64 = eigenvalues(&dense).into_iter().map(f64::ln).sum();
    assert!((factor.log_determinant() - log).abs() < 1e-12 * condition + 1e-12 * log.abs());
    let tolerance = 1e-13 * condition.max(10.0);
    let expected = solve(&dense, &Array2::eye(dense.nrows()));
    let inverse = factor.inverse().unwrap();
    assert_close(&dense_hermitian(&inverse), &expected, tolerance);
    assert_eq!(inverse.lower().orders(), m.lower().orders());
    assert_close(
        factor.inverse_diagonal().unwrap().flat(),
        HermitianQuasiseparable::diagonal_blocks(&inverse).flat(),
        tolerance,
    );
    assert_eq!(factor.ldl().inertia().unwrap(), Inertia { negative: 0, positive: dense.nrows() });

    let heavier = m.diagonal_blocks().iter().map(|d| &d + &Array2::<E>::eye(d.nrows())).collect();
    let again = factor.refactor(&m, &heavier).unwrap();
    let x = again.solve(b.view()).unwrap();
    assert!(backward_error(&(&dense + &Array2::<E>::eye(dense.nrows())), &x, &b) < STABLE);
}

fn check_ldl<E: Dense>(sizes: &Sizes, shift: f64) {
    let m = sizes.hermitian_with(E::from_real(shift));
    let dense = dense_hermitian(&m);
    let Ok(ldl) = m.ldl() else { return };
    if ldl.growth() > 1e3 || condition(&dense) > 1e6 {
        return;
    }
    let values = eigenvalues(&dense);
    let negative = values.iter().filter(|v| **v < 0.0).count();
    assert_eq!(ldl.inertia().unwrap(), Inertia { negative, positive: values.len() - negative });
    let b = random_array::<E>(dense.nrows(), 1, &mut sizes.random());
    assert!(backward_error(&dense, &ldl.solve(b.view()).unwrap(), &b) < 1e-10);
    check_determinant(ldl.log_determinant().unwrap(), &dense, 1e-6);
    let l = dense_lower(&ldl.lower());
    let d = Sss::new(
        Transition::Identity,
        m.lower().b_blocks().map(|_| E::zero()),
        m.lower().c_blocks().clone(),
        ldl.pivots().clone(),
    );
    let back = product(&product(&l, &dense_lower(&d.unwrap())), &adjoint(&l));
    assert_close(&back, &dense, 1e-9);
}

fn check_orthogonal<E: Dense>(sizes: &Sizes, width: usize) {
    let mut sizes = sizes.clone();
    if sizes.outputs.iter().sum::<usize>() < sizes.inputs.iter().sum() {
        sizes = sizes.swapped();
    }
    let m = sizes.two_sided::<E>();
    let dense = dense_two_sided(&m);
    let condition = condition(&dense);
    let Ok(qr) = m.qr() else { return assert!(condition > 1e8, "condition {condition} is refused") };
    let b = random_array::<E>(dense.nrows(), width, &mut sizes.random());
    if dense.is_square() {
        let x = qr.solve(b.view()).unwrap();
        assert!(backward_error(&dense, &x, &b) < STABLE);
        let x = qr.solve_adjoint(b.view()).unwrap();
        assert!(backward_error(&adjoint(&dense), &x, &b) < STABLE);
        let log: f64 = singular_values(&dense).into_iter().map(f64::ln).sum();
        let LogDeterminant { phase, log_modulus } = qr.log_determinant().unwrap();
        assert!((log_modulus - log).abs() < 1e-14 * condition + 1e-12);
        let expected = determinant(&dense) / log.exp();
        assert!((phase.to_complex() - expected).norm() < 1e-12 * condition + 1e-10, "{phase} {expected}");
    }
    let solution = qr.least_squares(b.view()).unwrap();
    let residual = &b - &product(&dense, &solution.x);
    for (found, column) in solution.residuals.iter().zip(residual.columns()) {
        let expected = norm(&column.to_owned().insert_axis(ndarray::Axis(1)));
        assert!((found - expected).abs() <= 1e-13 * (norm(&b) + norm(&dense) * norm(&solution.x)));
    }
    // The residual of a least squares solution is orthogonal to the columns.
    let slope = norm(&product(&adjoint(&dense), &residual));
    let scale = norm(&dense) * (norm(&dense) * norm(&solution.x) + norm(&b));
    assert!(slope <= 1e-13 * scale.max(1e-300), "{slope:e} against {scale:e}");
}

/// That an inverse is right, or that there is none to speak of.
fn check_inverse_of<E: Dense>(dense: &Array2<E>, found: Option<Array2<E>>) {
    let condition = condition(dense);
    match found {
        None => assert!(condition > 1e8, "condition {condition} is refused"),
        Some(found) if condition < 1e10 => {
            let expected = solve(dense, &Array2::eye(dense.nrows()));
            let error = norm(&(found - &expected));
            assert!(error <= 1e-14 * condition * norm(&expected), "{error:e} at condition {condition:e}");
        }
        Some(_) => {}
    }
}

fn check_orthogonal_inverse<E: Dense>(sizes: &Sizes) {
    let m = sizes.clone().square().two_sided::<E>();
    let inverse = m.inverse().ok();
    if let Some(inverse) = &inverse {
        for (inverse, m) in [(inverse.lower(), m.lower()), (inverse.upper(), m.upper())] {
            assert!(inverse.orders().iter().zip(m.orders()).all(|(found, most)| found <= most));
        }
    }
    check_inverse_of(&dense_two_sided(&m), inverse.as_ref().map(dense_two_sided));
    let m = sizes.hermitian::<E>();
    check_inverse_of(&dense_hermitian(&m), m.inverse().ok().as_ref().map(dense_hermitian));
    // Blocks that are not square, of a matrix that is.
    let mut turned = sizes.clone();
    turned.inputs.rotate_left(1.min(sizes.len()));
    turned.outputs = sizes.inputs.clone();
    let m = turned.two_sided::<E>();
    check_inverse_of(&dense_two_sided(&m), m.inverse().ok().as_ref().map(dense_two_sided));
}

fn check_lower_qr<E: Dense>(sizes: &Sizes, width: usize) {
    let mut sizes = sizes.clone();
    for (outputs, inputs) in sizes.outputs.iter_mut().zip(&sizes.inputs) {
        *outputs = (*outputs).max(*inputs);
    }
    let t = sizes.lower::<E>();
    let dense = dense_lower(&t);
    let qr = t.qr().unwrap();
    let (q, r) = (dense_lower(qr.q()), dense_lower(qr.r()));
    assert_close(&product(&q, &r), &dense, 1e-13);
    assert_close(&product(&adjoint(&q), &q), &Array2::eye(q.ncols()), 1e-13);
    assert_eq!(qr.r().orders(), t.orders());
    assert!(qr.q().orders().iter().zip(t.orders()).all(|(q, t)| q <= t));
    if condition(&dense) < 1e6 {
        let b = random_array::<E>(dense.nrows(), width, &mut sizes.random());
        let solution = qr.least_squares(b.view()).unwrap();
        assert_close(&solution.x, &solve(&dense, &b), 1e-8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn substitution_solves_lower_upper_transposed_and_adjoint_systems(sizes in sizes(7), width in 0usize..4) {
        check_substitution::<f64>(&sizes, width);
        check_substitution::<f64>(&sizes.clone().uniform(), width);
        check_substitution::<Complex<f64>>(&sizes, width);
        check_substitution::<Complex<f64>>(&sizes.uniform(), width);
    }

    #[test]
    fn lower_times_upper_is_the_matrix_and_solves_its_systems(sizes in sizes(7), width in 0usize..4) {
        check_lu::<f64>(&sizes, width);
        check_lu::<Complex<f64>>(&sizes, width);
    }

    #[test]
    fn cholesky_factors_solves_inverts_and_is_renewed(sizes in sizes(7), width in 0usize..4) {
        check_cholesky::<f64>(&sizes, width);
        check_cholesky::<f64>(&sizes.clone().uniform(), width);
        check_cholesky::<Complex<f64>>(&sizes, width);
        check_cholesky::<Complex<f64>>(&sizes.uniform(), width);
    }

    #[test]
    fn pivots_of_hermitian_matrices_have_the_signs_of_eigenvalues(sizes in sizes(7), shift in -3.0..3.0) {
        check_ldl::<f64>(&sizes, shift);
        check_ldl::<f64>(&sizes.clone().uniform(), shift);
        check_ldl::<Complex<f64>>(&sizes, shift);
    }

    #[test]
    fn orthogonal_factors_solve_every_system_and_least_squares(sizes in sizes(7), width in 0usize..4) {
        check_orthogonal::<f64>(&sizes, width);
        check_orthogonal::<f64>(&sizes.clone().square(), width);
        check_orthogonal::<Complex<f64>>(&sizes.clone().square(), width);
        check_orthogonal::<Complex<f64>>(&sizes, width);
    }

    #[test]
    fn every_regular_matrix_has_an_inverse_of_its_orders(sizes in sizes(7)) {
        check_orthogonal_inverse::<f64>(&sizes);
        check_orthogonal_inverse::<Complex<f64>>(&sizes);
    }

    #[test]
    fn lower_matrices_are_isometric_times_lower(sizes in sizes(7), width in 1usize..3) {
        check_lower_qr::<f64>(&sizes, width);
        check_lower_qr::<Complex<f64>>(&sizes, width);
    }
}

#[test]
fn inverses_of_banded_matrices_are_semiseparable_and_back() {
    for width in 1..4 {
        let mut random = Random::new(width as u64);
        let mut bands = |extra: usize| random_array::<f64>(12, width + extra, &mut random);
        let (mut lower, upper) = (bands(1), bands(0));
        lower.column_mut(0).fill(2.0 * width as f64 + 1.0);
        let m = Quasiseparable::from_banded(lower.view(), upper.view()).unwrap();
        let inverse = m.lu().unwrap().inverse().unwrap();
        let identity = Array2::eye(12);
        assert_close(&product(&dense_two_sided(&inverse), &dense_two_sided(&m)), &identity, 1e-12);
        for part in [inverse.lower(), inverse.upper()] {
            let ranks = part.hankel_ranks(Tolerance::Relative(1e-12)).unwrap();
            assert!(ranks.iter().enumerate().all(|(k, n)| *n == width.min(k + 1).min(11 - k)), "{ranks:?}");
        }
        let back = dense_two_sided(&inverse.lu().unwrap().inverse().unwrap());
        assert!(back.indexed_iter().all(|((i, j), v)| i.abs_diff(j) <= width || v.abs() < 1e-11));
    }
}

#[test]
fn inverses_exist_where_elimination_breaks_down() {
    const LEN: usize = 60;
    for (order, seed) in [(1, 1), (2, 5), (3, 9)] {
        let sizes = Sizes { seed, ..uniform(LEN, order, Kind::Diagonal) };
        let mut random = sizes.random();
        let mut part = || {
            let a = Transition::diagonal(random_array::<f64>(LEN, order, &mut random));
            let (b, c) = (random_array(LEN, order, &mut random), random_array(LEN, order, &mut random));
            Sss::uniform(a, b, c, ndarray::Array1::zeros(LEN)).unwrap()
        };
        let m = Quasiseparable::new(part(), part()).unwrap(); // a diagonal of zeros
        assert!(m.lu().is_err());
        let (inverse, dense) = (m.inverse().unwrap(), dense_two_sided(&m));
        let unit = product(&dense, &dense_two_sided(&inverse)) - Array2::<f64>::eye(LEN);
        assert!(norm(&unit) <= 1e-14 * condition(&dense) * norm(&dense), "{:e}", norm(&unit));
        assert!(inverse.lower().orders().iter().chain(inverse.upper().orders()).all(|n| *n <= order));
        assert!(norm(&(dense_two_sided(&inverse.inverse().unwrap()) - &dense)) <= 1e-12 * condition(&dense));
    }
    let wide = Sizes { inputs: vec![1, 2], outputs: vec![1, 1], ..uniform(2, 1, Kind::Dense) };
    assert!(matches!(wide.two_sided::<f64>().inverse(), Err(Error::Shape { tensor: "m", .. })));
    let singular =
        Quasiseparable::from_low_rank(Array2::ones((4, 1)).view(), Array2::<f64>::ones((4, 1)).view());
    assert!(matches!(singular.unwrap().inverse(), Err(Error::Singular { .. })));
}

/// Sizes of a matrix of numbers of one order.
fn uniform(len: usize, order: usize, kind: Kind) -> Sizes {
    let (inputs, outputs, orders) = (vec![1; len], vec![1; len], vec![order; len + 1]);
    Sizes { inputs, outputs, orders, kind, growth: Growth::Plain, seed: order as u64 }
}

/// The same matrix with its transitions as dense matrices, for which there are no special loops.
fn with_dense_transitions<E: Field>(m: &HermitianQuasiseparable<E>) -> HermitianQuasiseparable<E> {
    let a = Transition::Dense((0..m.len()).map(|k| m.lower().a(k)).collect());
    let (_, b, c, d) = m.lower().clone().into_parts();
    HermitianQuasiseparable::new(Sss::new(a, b, c, d).unwrap()).unwrap()
}

fn check_against_general<E: Dense>(m: &HermitianQuasiseparable<E>) {
    let (fast, general) = (m.cholesky().unwrap(), with_dense_transitions(m).cholesky().unwrap());
    assert_close(fast.ldl().pivots().flat(), general.ldl().pivots().flat(), 1e-11);
    let (fast, general) = (fast.lower(), general.lower());
    assert_close(fast.b_blocks().flat(), general.b_blocks().flat(), 1e-9);
    let b = random_array::<E>(m.rows(), 1, &mut crate::support::Random::new(3));
    assert_close(&fast.solve(b.view()).unwrap(), &general.solve(b.view()).unwrap(), 1e-9);
    let (fast, general) =
        (fast.solve_transposed(b.view()).unwrap(), general.solve_transposed(b.view()).unwrap());
    assert_close(&fast, &general, 1e-9);
}

#[test]
fn the_loops_for_numbers_agree_with_the_general_elimination_at_any_order() {
    for order in (1..=10).chain([15, 16, 17, 24, 33]) {
        for kind in [Kind::Identity, Kind::Scalar, Kind::Diagonal] {
            check_against_general(&positive::<f64>(&uniform(20, order, kind)));
            check_against_general(&positive::<Complex<f64>>(&uniform(11, order, kind)));
        }
    }
    for order in [1, 2, 8, 11, 16] {
        check_against_general(&uniform(600, order, Kind::Scalar).hermitian_with(6.0 * order as f64));
        check_against_general(&uniform(600, order, Kind::Diagonal).hermitian_with(6.0 * order as f64));
    }
}
