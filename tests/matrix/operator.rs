//! The solvers of faer on structured matrices.

use crate::support::ragged::{Growth, Kind, Sizes, dense_hermitian, dense_two_sided};
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::matrix_free::conjugate_gradient::{CgParams, conjugate_gradient, conjugate_gradient_scratch};
use faer::matrix_free::eigen::{
    PartialEigenParams, partial_self_adjoint_eigen, partial_self_adjoint_eigen_scratch,
};
use faer::matrix_free::lsmr::{LsmrParams, lsmr, lsmr_scratch};
use faer::matrix_free::{BiLinOp, IdentityPrecond, LinOp};
use faer::{Col, Mat, Par, Side};
use ndarray::Array2;
use num_complex::Complex;
use semisep::Error;
use semisep::matrix::sss::Exponential;
use semisep::matrix::{HermitianQuasiseparable, Operator, StructuredMatrix};

const LEN: usize = 200;

/// A covariance of two exponentials with noise, of condition below a thousand.
fn covariance() -> HermitianQuasiseparable<f64> {
    let times: Vec<f64> = (0..LEN).map(|k| 0.3 * k as f64 + 0.1 * (k as f64).sin()).collect();
    let terms = [Exponential { weight: 1.0, rate: 0.2 }, Exponential { weight: 0.5, rate: 1.5 }];
    let m = HermitianQuasiseparable::from_exponentials(&times, &terms).unwrap();
    m.with_added_diagonal(&[0.1; LEN]).unwrap()
}

fn right_hand_side() -> Mat<f64> {
    Mat::from_fn(LEN, 1, |i, _| (0.7 * i as f64).cos())
}

/// `|M x - b|` against `|b|`, with M formed from its definition.
fn residual(m: &Array2<f64>, x: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let column = |v: &Mat<f64>| Array2::from_shape_fn((v.nrows(), 1), |(i, _)| v[(i, 0)]);
    let norm = |v: Array2<f64>| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    norm(m.dot(&column(x)) - column(b)) / norm(column(b))
}

#[test]
fn conjugate_gradients_solve_a_covariance() {
    let m = covariance();
    let (operator, b, mut x) = (Operator(&m), right_hand_side(), Mat::<f64>::zeros(LEN, 1));
    let mut params = CgParams::<f64>::default();
    (params.rel_tolerance, params.max_iters) = (1e-12, 500);
    let identity = IdentityPrecond { dim: LEN };
    let scratch = conjugate_gradient_scratch::<f64>(identity, operator, 1, Par::Seq);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    conjugate_gradient(x.as_mut(), identity, operator, b.as_ref(), params, |_| {}, Par::Seq, stack)
        .expect("conjugate gradients converge");
    assert!(residual(&dense_hermitian(&m), &x, &b) < 1e-11);
}

#[test]
fn lsmr_solves_a_two_sided_system() {
    let m = covariance().to_quasiseparable();
    let (operator, b, mut x) = (Operator(&m), right_hand_side(), Mat::<f64>::zeros(LEN, 1));
    let mut params = LsmrParams::<f64>::default();
    (params.rel_tolerance, params.max_iters) = (1e-12, 2000);
    let identity = IdentityPrecond { dim: LEN };
    // What faer asks for is some numbers short of what it takes here.
    let scratch = lsmr_scratch::<f64>(identity, operator, 1, Par::Seq);
    let mut memory = MemBuffer::new(scratch.and(StackReq::new::<f64>(8 * LEN)));
    let stack = MemStack::new(&mut memory);
    lsmr(x.as_mut(), identity, operator, b.as_ref(), params, |_| {}, Par::Seq, stack)
        .expect("LSMR converges");
    assert!(residual(&dense_two_sided(&m), &x, &b) < 1e-9);
}

#[test]
fn partial_eigenvalues_of_a_covariance_are_those_of_the_dense_matrix() {
    const COUNT: usize = 4;
    let m = covariance();
    let operator = Operator::square(&m).unwrap();
    let dense = dense_hermitian(&m);
    let exact = Mat::from_fn(LEN, LEN, |i, j| dense[[i, j]]).self_adjoint_eigenvalues(Side::Lower).unwrap();
    let (mut vectors, mut values) = (Mat::<f64>::zeros(LEN, COUNT), [0.0; COUNT]);
    let start = Col::from_fn(LEN, |i| 1.0 / (LEN as f64).sqrt() * if i % 3 == 0 { -1.0 } else { 1.0 });
    let params = PartialEigenParams::default();
    let scratch = partial_self_adjoint_eigen_scratch::<f64>(&operator, COUNT, Par::Seq, params);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    let (out, start) = (vectors.as_mut(), start.as_ref());
    let info = partial_self_adjoint_eigen(out, &mut values, &operator, start, 1e-12, Par::Seq, stack, params);
    assert_eq!(info.n_converged_eigen, COUNT);
    for (found, exact) in values.iter().zip(exact.iter().rev()) {
        assert!((found - exact).abs() < 1e-10 * exact, "{found} instead of {exact}");
    }
}

#[test]
fn operators_of_square_matrices_are_refused_to_others() {
    let sizes = Sizes {
        inputs: vec![2, 1],
        outputs: vec![1, 1],
        orders: vec![0, 1, 0],
        kind: Kind::Dense,
        growth: Growth::Plain,
        seed: 3,
    };
    let m = sizes.lower::<f64>();
    assert!(matches!(Operator::square(&m), Err(Error::Shape { tensor: "matrix", .. })));
}

#[test]
fn operators_apply_the_matrix_its_conjugate_transpose_and_adjoint() {
    let sizes = Sizes {
        inputs: vec![2, 1, 3, 1],
        outputs: vec![1, 2, 2, 3],
        orders: vec![0, 2, 1, 3, 0],
        kind: Kind::Dense,
        growth: Growth::Plain,
        seed: 11,
    };
    let m = sizes.two_sided::<Complex<f64>>();
    let dense = dense_two_sided(&m);
    let (rows, columns) = m.shape();
    let operator = Operator(&m);
    let matrix = |rows: usize| Mat::from_fn(rows, 2, |i, j| Complex::new(i as f64 - 1.0, 0.5 + j as f64));
    let array = |m: &Mat<Complex<f64>>| Array2::from_shape_fn((m.nrows(), m.ncols()), |(i, j)| m[(i, j)]);
    let (x, y) = (matrix(columns), matrix(rows));
    let conjugate = dense.mapv(|v| v.conj());
    let mut memory = MemBuffer::new(StackReq::EMPTY);
    let stack = MemStack::new(&mut memory);
    let mut out = Mat::zeros(rows, 2);
    LinOp::apply(&operator, out.as_mut(), x.as_ref(), Par::Seq, stack);
    crate::support::assert_close(&array(&out), &dense.dot(&array(&x)), 1e-13);
    LinOp::conj_apply(&operator, out.as_mut(), x.as_ref(), Par::Seq, stack);
    crate::support::assert_close(&array(&out), &conjugate.dot(&array(&x)), 1e-13);
    let mut out = Mat::zeros(columns, 2);
    operator.transpose_apply(out.as_mut(), y.as_ref(), Par::Seq, stack);
    crate::support::assert_close(&array(&out), &dense.t().dot(&array(&y)), 1e-13);
    operator.adjoint_apply(out.as_mut(), y.as_ref(), Par::Seq, stack);
    crate::support::assert_close(&array(&out), &conjugate.t().dot(&array(&y)), 1e-13);
}
