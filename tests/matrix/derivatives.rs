//! Derivatives of products, solutions and determinants against central differences and dense inverses.

use crate::support::dense::{Dense, condition, eigenvalues, solve};
use crate::support::ragged::{
    Growth, Kind, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, sizes,
};
use crate::support::{assert_close, distance};
use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{
    Blocks, HermitianQuasiseparable, LikelihoodMemory, Quasiseparable, Sss, Transition,
};

const STEP: f64 = 1e-5;

fn numbers<E: Field>(a: &Transition<E>) -> Vec<E> {
    match a {
        Transition::Identity => Vec::new(),
        Transition::Scalar(a) => a.to_vec(),
        Transition::Diagonal(a) | Transition::Dense(a) => a.flat().to_vec(),
    }
}

/// All generators in a row.
fn generators<E: Field>(m: &Sss<E>) -> Vec<E> {
    let blocks = [m.b_blocks(), m.c_blocks(), m.d_blocks()];
    numbers(m.transition()).into_iter().chain(blocks.into_iter().flat_map(|b| b.flat().to_vec())).collect()
}

fn both<E: Field>(m: &Quasiseparable<E>) -> Vec<E> {
    generators(m.lower()).into_iter().chain(generators(m.upper())).collect()
}

/// `m + t direction`, generator by generator.
fn moved<E: Dense>(m: &Sss<E>, direction: &Sss<E>, t: f64) -> Sss<E> {
    let t = E::from_real(t);
    let blocks = |a: &Blocks<E>, b: &Blocks<E>| -> Blocks<E> {
        a.iter().zip(b.iter()).map(|(a, b)| &a + &b.mapv(|b| t * b)).collect()
    };
    let transition = match (m.transition(), direction.transition()) {
        (Transition::Identity, _) => Transition::Identity,
        (Transition::Scalar(a), Transition::Scalar(b)) => Transition::Scalar(a + &b.mapv(|b| t * b)),
        (Transition::Diagonal(a), Transition::Diagonal(b)) => Transition::Diagonal(blocks(a, b)),
        (Transition::Dense(a), Transition::Dense(b)) => Transition::Dense(blocks(a, b)),
        _ => unreachable!("directions have the kind of the matrix"),
    };
    let d = blocks(m.d_blocks(), direction.d_blocks());
    Sss::new(
        transition,
        blocks(m.b_blocks(), direction.b_blocks()),
        blocks(m.c_blocks(), direction.c_blocks()),
        d,
    )
    .unwrap()
}

fn inner<'a, E: Dense>(u: impl IntoIterator<Item = &'a E>, v: impl IntoIterator<Item = &'a E>) -> f64 {
    u.into_iter().zip(v).map(|(u, v)| (u.to_complex().conj() * v.to_complex()).re).sum()
}

/// The slope of f along a direction, against the inner product with the gradient. Two central differences, extrapolated to
/// step zero: where entries grow, the third derivative alone would show.
fn check_slope(f: impl Fn(f64) -> f64, expected: f64, scale: f64) {
    let difference = |step: f64| (f(step) - f(-step)) / (2.0 * step);
    let slope = (4.0 * difference(STEP) - difference(2.0 * STEP)) / 3.0;
    assert!((slope - expected).abs() < 1e-6 * (1.0 + scale), "difference {slope}, gradient {expected}");
}

fn other(sizes: &Sizes) -> Sizes {
    Sizes { seed: sizes.seed ^ 0x5555, ..sizes.clone() }
}

fn shifted<E: Dense>(m: Sss<E>, shift: f64) -> Sss<E> {
    let (a, b, c, d) = m.into_parts();
    let d = d.iter().map(|d| {
        let mut d = d.to_owned();
        d.diag_mut().mapv_inplace(|v| v + E::from_real(shift));
        d
    });
    Sss::new(a, b, c, d.collect()).unwrap()
}

fn check_lower<E: Dense>(sizes: &Sizes, width: usize) {
    let sizes = sizes.clone().square();
    let (m, direction) = (shifted(sizes.lower::<E>(), 3.0), other(&sizes).lower::<E>());
    if condition(&dense_lower(&m)) > 1e3 {
        return;
    }
    let mut random = sizes.random();
    let mut draw = || array::<E>(m.rows(), width, &mut random);
    let (y, dy, dx) = (draw(), draw(), draw());
    let (gradient, y_gradient) = m.solve_vjp(y.view(), dx.view()).unwrap();
    let expected = inner(&generators(&gradient), &generators(&direction)) + inner(&y_gradient, &dy);
    let at = |t: f64| {
        let y = &y + &dy.mapv(|v| v * E::from_real(t));
        inner(&dx, &moved(&m, &direction, t).solve(y.view()).unwrap())
    };
    check_slope(at, expected, expected.abs() + at(0.0).abs() + 100.0);
    let gradient = m.log_determinant_vjp(0.7).unwrap();
    let expected = inner(&generators(&gradient), &generators(&direction));
    check_slope(|t| 0.7 * moved(&m, &direction, t).log_determinant().unwrap().log_modulus, expected, 10.0);
}

fn check_two_sided<E: Dense>(sizes: &Sizes, width: usize) {
    let sizes = sizes.clone().square();
    let m = sizes.two_sided::<E>();
    let m = Quasiseparable::new(shifted(m.lower().clone(), 4.0), m.upper().clone()).unwrap();
    let dense = dense_two_sided(&m);
    if condition(&dense) > 1e3 || m.lu().map_or(true, |lu| lu.growth() > 1e3) {
        return;
    }
    // The gradient of the logarithm of the determinant is the adjoint of the inverse, read through the generators.
    let inverse = solve(&dense, &Array2::eye(dense.nrows()));
    let expected = m.pull_back(adjoint(&inverse).mapv(|v| v * E::from_real(0.7)).view()).unwrap();
    let gradient = m.log_determinant_vjp(0.7).unwrap();
    assert_close(&both(&gradient), &both(&expected), 1e-8);

    let mut random = sizes.random();
    let mut draw = || array::<E>(m.rows(), width, &mut random);
    let (b, db, dx) = (draw(), draw(), draw());
    let (gradient, b_gradient) = m.solve_vjp(&m.qr().unwrap(), b.view(), dx.view()).unwrap();
    let x = solve(&dense, &b);
    let g = solve(&adjoint(&dense), &dx);
    let expected = m.pull_back(g.dot(&adjoint(&x)).mapv(|v| -v).view()).unwrap();
    assert_close(&both(&gradient), &both(&expected), 1e-8);
    assert!(
        (inner(&b_gradient, &db) - inner(&dx, &solve(&dense, &db))).abs() < 1e-8 * (1.0 + inner(&dx, &dx))
    );
}

fn positive<E: Dense>(sizes: &Sizes) -> HermitianQuasiseparable<E> {
    let lowest = eigenvalues(&dense_hermitian(&sizes.hermitian::<E>())).first().copied().unwrap_or(0.0);
    sizes.hermitian_with(E::from_real(1.0 - lowest.min(0.0)))
}

fn check_hermitian<E: Dense>(sizes: &Sizes, width: usize) {
    let m = positive::<E>(sizes);
    let dense = dense_hermitian(&m);
    let tolerance = 1e-11 * condition(&dense).max(10.0);
    let inverse = solve(&dense, &Array2::eye(dense.nrows()));
    let expected = m.pull_back(inverse.mapv(|v| v * E::from_real(0.7)).view()).unwrap();
    let gradient = m.log_determinant_vjp(0.7).unwrap();
    let (found, expected) = (generators(gradient.lower()), generators(expected.lower()));
    assert!(distance(&found, &expected) < tolerance);

    let direction = HermitianQuasiseparable::lower(&other(sizes).hermitian::<E>()).clone();
    let expected = inner(&found, &generators(&direction));
    let at = |t: f64| {
        let m = HermitianQuasiseparable::new(moved(m.lower(), &direction, t)).unwrap();
        0.7 * m.cholesky().unwrap().log_determinant()
    };
    if condition(&dense) < 1e3 {
        check_slope(at, expected, 100.0 + expected.abs());
    }

    let mut random = sizes.random();
    let mut draw = || array::<E>(m.rows(), width, &mut random);
    let (b, dx) = (draw(), draw());
    let factor = m.cholesky().unwrap();
    let (gradient, b_gradient) = m.solve_vjp(factor.ldl(), b.view(), dx.view()).unwrap();
    let (x, g) = (solve(&dense, &b), solve(&dense, &dx));
    assert!(distance(&b_gradient, &g) < tolerance);
    let expected = m.pull_back(g.dot(&adjoint(&x)).mapv(|v| -v).view()).unwrap();
    assert!(distance(&generators(gradient.lower()), &generators(expected.lower())) < tolerance);
}

fn check_likelihood(sizes: &Sizes, draws: usize) {
    let m = positive::<f64>(sizes);
    let dense = dense_hermitian(&m);
    if condition(&dense) > 1e3 {
        return;
    }
    let y = array::<f64>(m.rows(), draws, &mut sizes.random());
    let found = m.log_likelihood_vjp(y.view()).unwrap();
    let weighted = solve(&dense, &y);
    let log: f64 = eigenvalues(&dense).into_iter().map(f64::ln).sum();
    let constant = m.rows() as f64 * std::f64::consts::TAU.ln();
    let expected = -0.5 * (inner(&y, &weighted) + draws as f64 * (log + constant));
    assert!((found.value - expected).abs() < 1e-9 * (1.0 + expected.abs()));
    let by_solution = m.cholesky().unwrap().log_likelihood(y.view()).unwrap();
    assert!((found.value - by_solution).abs() < 1e-12 * (1.0 + expected.abs()));
    assert_close(&found.y, &weighted.mapv(|v| -v), 1e-10);
    let direction = HermitianQuasiseparable::lower(&other(sizes).hermitian::<f64>()).clone();
    let expected = inner(&generators(found.covariance.lower()), &generators(&direction));
    let at = |t: f64| {
        let m = HermitianQuasiseparable::new(moved(m.lower(), &direction, t)).unwrap();
        m.cholesky().unwrap().log_likelihood(y.view()).unwrap()
    };
    check_slope(at, expected, 100.0 + expected.abs());
}

/// The likelihood of one draw from a matrix of numbers, twice in the same memory, against dense cotangents.
fn check_long(sizes: &Sizes, memory: &mut LikelihoodMemory<f64>) {
    for seed in [1, 2] {
        let m = positive::<f64>(&Sizes { seed, ..sizes.clone() });
        let dense = dense_hermitian(&m);
        let y = array::<f64>(m.rows(), 1, &mut sizes.random());
        let alpha = solve(&dense, &y);
        let inverse = solve(&dense, &Array2::eye(dense.nrows()));
        let expected = m.pull_back(((alpha.dot(&alpha.t()) - inverse) * 0.5).view()).unwrap();
        let found = m.log_likelihood_vjp_in(y.view(), memory).unwrap();
        let tolerance = 1e-12 * condition(&dense).max(10.0);
        let (cotangents, expected) = (generators(found.covariance.lower()), generators(expected.lower()));
        assert!(distance(&cotangents, &expected) < tolerance);
        assert!(distance(&found.y, &(-alpha)) < tolerance);
        assert_eq!(*found, m.log_likelihood_vjp(y.view()).unwrap());
    }
}

#[test]
fn likelihoods_longer_than_a_segment_have_dense_gradients_in_memory_of_others() {
    let mut memory = LikelihoodMemory::new();
    for order in [1, 2, 3, 5, 8, 11, 16, 33] {
        for kind in [Kind::Identity, Kind::Scalar, Kind::Diagonal] {
            check_long(&numbers_of_order(37, order, kind), &mut memory);
        }
    }
    // Of orders above 16 every second P is kept: lengths from one step to beyond two pairs.
    for len in 1..8 {
        check_long(&numbers_of_order(len, 19, Kind::Diagonal), &mut memory);
    }
    for order in [2, 8, 11, 19] {
        check_hermitian::<Complex<f64>>(&numbers_of_order(35, order, Kind::Diagonal), 1);
    }
}

/// Sizes of matrices of numbers.
fn numbers_of_order(len: usize, order: usize, kind: Kind) -> Sizes {
    let (inputs, outputs, orders) = (vec![1; len], vec![1; len], vec![order; len + 1]);
    Sizes { inputs, outputs, orders, kind, growth: Growth::Plain, seed: order as u64 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn solutions_and_determinants_of_lower_matrices_have_the_slopes_of_their_gradients(
        sizes in sizes(6), width in 0usize..3,
    ) {
        check_lower::<f64>(&sizes, width);
        check_lower::<Complex<f64>>(&sizes, width);
        check_lower::<f64>(&sizes.uniform(), width);
    }

    #[test]
    fn gradients_of_two_sided_matrices_are_dense_ones_read_through_the_generators(
        sizes in sizes(6), width in 0usize..3,
    ) {
        check_two_sided::<f64>(&sizes, width);
        check_two_sided::<Complex<f64>>(&sizes, width);
    }

    #[test]
    fn gradients_of_hermitian_matrices_are_dense_ones_read_through_the_generators(
        sizes in sizes(6), width in 0usize..3,
    ) {
        check_hermitian::<f64>(&sizes, width);
        check_hermitian::<f64>(&sizes.clone().uniform(), width);
        check_hermitian::<Complex<f64>>(&sizes, width);
        check_hermitian::<Complex<f64>>(&sizes.uniform(), width);
    }

    #[test]
    fn likelihoods_are_gaussian_and_have_the_slopes_of_their_gradients(sizes in sizes(6), draws in 0usize..3) {
        check_likelihood(&sizes, draws);
        check_likelihood(&sizes.uniform(), draws);
    }
}
