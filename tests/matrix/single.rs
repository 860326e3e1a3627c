//! Numbers of 32 bits, real and complex: products and factorisations against the same numbers widened to 64 bits.

use crate::support::dense::{Dense, backward_error, condition, eigenvalues, norm, solve};
use crate::support::ragged::{
    Growth, KINDS, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};
use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::sss::{
    Blocks, HermitianQuasiseparable, Quasiseparable, Sss, StateSpaceRoots, Transition,
};
use semisep::matrix::{StructuredMatrix, Upper};

const EPSILON: f64 = f32::EPSILON as f64;
/// Backward errors of algorithms that are stable stay below this: as in 64 bits, by units in the last place.
const STABLE: f64 = 45.0 * EPSILON;

/// A number of 32 bits and what it is in 64.
trait Single: Field<Real = f32> {
    type Wide: Dense;
    fn narrow(wide: Self::Wide) -> Self;
    fn widen(self) -> Self::Wide;
}

impl Single for f32 {
    type Wide = f64;
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
    fn widen(self) -> f64 {
        self.into()
    }
}

impl Single for Complex<f32> {
    type Wide = Complex<f64>;
    fn narrow(wide: Complex<f64>) -> Self {
        Self::new(wide.re as f32, wide.im as f32)
    }
    fn widen(self) -> Complex<f64> {
        Complex::new(self.re.into(), self.im.into())
    }
}

/// The matrix with `f` of every number.
fn convert<A: Field, B: Field>(m: &Sss<A>, f: impl Fn(A) -> B) -> Sss<B> {
    let blocks = |blocks: &Blocks<A>| blocks.iter().map(|m| m.mapv(&f)).collect::<Blocks<B>>();
    let transition = match m.transition() {
        Transition::Identity => Transition::Identity,
        Transition::Scalar(a) => Transition::Scalar(a.mapv(&f)),
        Transition::Diagonal(a) => Transition::Diagonal(blocks(a)),
        Transition::Dense(a) => Transition::Dense(blocks(a)),
    };
    Sss::new(transition, blocks(m.b_blocks()), blocks(m.c_blocks()), blocks(m.d_blocks())).unwrap()
}

/// The matrix in 32 bits, and exactly that one in 64.
fn both<E: Single>(m: &Sss<E::Wide>) -> (Sss<E>, Sss<E::Wide>) {
    let single = convert(m, E::narrow);
    let wide = convert(&single, E::widen);
    (single, wide)
}

fn both_arrays<E: Single>(a: &Array2<E::Wide>) -> (Array2<E>, Array2<E::Wide>) {
    let single = a.mapv(E::narrow);
    let wide = single.mapv(E::widen);
    (single, wide)
}

/// Entry by entry within `c n ε |M| |x|`.
fn check_product<E: Single>(
    found: &Array2<E>,
    dense: &Array2<E::Wide>,
    bound: &Array2<f64>,
    x: &Array2<E::Wide>,
) {
    let (expected, sizes) = (product(dense, x), product(bound, &x.mapv(|v| v.modulus())));
    assert_eq!(found.dim(), expected.dim());
    for ((found, expected), size) in found.iter().zip(&expected).zip(&sizes) {
        let error = (found.widen() - *expected).modulus();
        assert!(error <= 2.0 * EPSILON * size, "{found} for {expected}, within {size:e}");
    }
}

fn check_products<E: Single>(sizes: &Sizes, columns: usize) {
    let (m, wide) = both::<E>(&sizes.lower());
    let dense = dense_lower(&wide);
    let count = (4 + m.len() + m.orders().iter().max().copied().unwrap_or(0)) as f64;
    let bound = dense_lower(&convert(&wide, |v| v.modulus())) * count;
    let mut random = sizes.random();
    let (x, wide_x) = both_arrays::<E>(&array(dense.ncols(), columns, &mut random));
    let (y, wide_y) = both_arrays::<E>(&array(dense.nrows(), columns, &mut random));
    let transposed = bound.t().to_owned();
    check_product(&m.matmul(x.view()).unwrap(), &dense, &bound, &wide_x);
    check_product(&m.adjoint_matmul(y.view()).unwrap(), &adjoint(&dense), &transposed, &wide_y);
    check_product(&m.transpose_matmul(y.view()).unwrap(), &dense.t().to_owned(), &transposed, &wide_y);
    check_product(&Upper(&m).matmul(y.view()).unwrap(), &adjoint(&dense), &transposed, &wide_y);
    let (upper, wide_upper) = both::<E>(&sizes.swapped().reordered(sizes.seed).lower());
    let m = Quasiseparable::new(m, upper).unwrap();
    let bound = bound + dense_lower(&convert(&wide_upper, |v| v.modulus())).t().mapv(|v| v * (count + 4.0));
    let dense = dense_two_sided(&Quasiseparable::new(wide, wide_upper).unwrap());
    check_product(&m.matmul(x.view()).unwrap(), &dense, &bound, &wide_x);
}

fn check_hermitian<E: Single>(sizes: &Sizes, width: usize) {
    let lowest = eigenvalues(&dense_hermitian(&sizes.hermitian::<E::Wide>())).first().copied().unwrap_or(0.0);
    let shifted = sizes.hermitian_with(E::Wide::from_real(0.5 - lowest.min(0.0)));
    let (m, wide) = both::<E>(shifted.lower());
    let m = HermitianQuasiseparable::new(m).unwrap();
    let dense = dense_hermitian(&HermitianQuasiseparable::new(wide).unwrap());
    let (b, wide_b) = both_arrays::<E>(&array(dense.nrows(), width, &mut sizes.random()));
    let factor = m.cholesky().unwrap();
    let (_, lower) = both::<E>(&convert(&factor.lower(), E::widen));
    let lower = dense_lower(&lower);
    let back = product(&lower, &adjoint(&lower));
    let error = norm(&(back - &dense));
    assert!(error <= STABLE * norm(&dense), "{error:e}");
    for x in [factor.solve(b.view()).unwrap(), m.ldl().unwrap().solve(b.view()).unwrap()] {
        assert!(backward_error(&dense, &x.mapv(E::widen), &wide_b) < STABLE);
    }
    let log: f64 = eigenvalues(&dense).into_iter().map(f64::ln).sum();
    let found = f64::from(factor.log_determinant());
    let tolerance = 20.0 * EPSILON * (condition(&dense) + log.abs());
    assert!((found - log).abs() <= tolerance, "{found} against {log}");
}

fn check_two_sided<E: Single>(sizes: &Sizes, width: usize) {
    let sizes = sizes.clone().square();
    let (lower, upper) = sizes.two_sided::<E::Wide>().into_parts();
    let ((lower, wide_lower), (upper, wide_upper)) = (both::<E>(&lower), both::<E>(&upper));
    let dense = dense_two_sided(&Quasiseparable::new(wide_lower, wide_upper).unwrap());
    let m = Quasiseparable::new(lower, upper).unwrap();
    let (b, wide_b) = both_arrays::<E>(&array(dense.nrows(), width, &mut sizes.random()));
    match m.qr() {
        Err(_) => assert!(condition(&dense) > 1e3, "a regular matrix is refused"),
        Ok(qr) => {
            let x = qr.solve(b.view()).unwrap().mapv(E::widen);
            assert!(backward_error(&dense, &x, &wide_b) < STABLE);
        }
    }
    if let Ok(lu) = m.lu() {
        let x = lu.solve(b.view()).unwrap().mapv(E::widen);
        let growth = lu.growth().max(1.0);
        if growth < 1e2 && condition(&dense) < 1e2 {
            assert!(backward_error(&dense, &x, &wide_b) < STABLE * growth * growth);
        }
    }
}

/// The numbers of generators.
fn generators<E: Field>(m: &Sss<E>) -> Vec<E> {
    let (a, b, c, d) = m.clone().into_parts();
    let a = crate::support::generators::numbers(&a);
    a.iter().chain(b.flat()).chain(c.flat()).chain(d.flat()).copied().collect()
}

/// The same, widened.
fn widened<E: Single>(m: &Sss<E>) -> Vec<E::Wide> {
    generators(m).into_iter().map(E::widen).collect()
}

/// As far from one another as rounding may take what depends on the solutions of a system of this condition.
#[track_caller]
fn assert_near<'a, E: Dense>(
    found: impl IntoIterator<Item = E>,
    expected: impl IntoIterator<Item = &'a E>,
    condition: f64,
) {
    let (found, expected): (Vec<E>, Vec<&E>) = (found.into_iter().collect(), expected.into_iter().collect());
    let column = |values: Vec<E>| Array2::from_shape_vec((values.len(), 1), values).unwrap();
    let expected = column(expected.into_iter().copied().collect());
    let error = norm(&(column(found) - &expected));
    let limit = 40.0 * EPSILON * condition * (1.0 + norm(&expected));
    assert!(error <= limit, "{error:e} above {limit:e}");
}

/// The factor of the covariance of a model by square roots, and that covariance from the map of noises to outputs.
fn check_array<E: Single>(sizes: &Sizes) {
    let (m, wide) = both::<E>(&sizes.clone().square().lower());
    let mut random = sizes.random();
    let states = m.orders().to_vec();
    let root = |rows, random: &mut crate::support::Random| both_arrays::<E>(&array(rows, 2, random));
    let noise: Vec<_> = (0..m.len()).map(|k| root(states[k + 1], &mut random)).collect();
    let initial = root(states[0], &mut random);
    let output_noise: Vec<_> = (0..m.len())
        .map(|k| {
            let size = m.d(k).nrows();
            let shifted =
                array(size, size, &mut random) + Array2::<E::Wide>::eye(size) * E::Wide::from_real(3.0);
            both_arrays::<E>(&shifted)
        })
        .collect();
    let model = StateSpaceRoots {
        transition: m.transition().clone(),
        noise: noise.iter().map(|(single, _)| single.clone()).collect(),
        output: m.c_blocks().clone(),
        output_noise: output_noise.iter().map(|(single, _)| single.clone()).collect(),
        initial: initial.0,
    };
    // A step before the first brings in the initial state.
    let beside = |a: &Array2<E::Wide>, b: &Array2<E::Wide>| ndarray::concatenate![ndarray::Axis(1), *a, *b];
    let zeros = |rows: usize, columns: usize| Array2::<E::Wide>::zeros((rows, columns));
    let a = (0..m.len()).map(|k| crate::support::ragged::step(&wide, k));
    let b = noise.iter().zip(&output_noise).map(|((_, q), (_, r))| beside(q, &zeros(q.nrows(), r.ncols())));
    let d = noise.iter().zip(&output_noise).map(|((_, q), (_, r))| beside(&zeros(r.nrows(), q.ncols()), r));
    let map = Sss::new(
        Transition::Dense(std::iter::once(zeros(states[0], 0)).chain(a).collect()),
        std::iter::once(initial.1).chain(b).collect(),
        std::iter::once(zeros(0, 0)).chain(wide.c_blocks().iter().map(|c| c.to_owned())).collect(),
        std::iter::once(zeros(0, 2)).chain(d).collect(),
    );
    let map = dense_lower(&map.unwrap());
    let covariance = product(&map, &adjoint(&map));
    let factor = model.cholesky().unwrap();
    let lower = dense_lower(&convert(&factor.lower(), E::widen));
    let error = norm(&(product(&lower, &adjoint(&lower)) - &covariance));
    assert!(error <= STABLE * norm(&covariance), "{error:e}");
    let (b, wide_b) = both_arrays::<E>(&array(covariance.nrows(), 2, &mut random));
    let x = factor.solve(b.view()).unwrap().mapv(E::widen);
    assert!(backward_error(&covariance, &x, &wide_b) < STABLE);
}

fn check_lower_qr<E: Single>(sizes: &Sizes) {
    let mut sizes = sizes.clone();
    for (outputs, inputs) in sizes.outputs.iter_mut().zip(&sizes.inputs) {
        *outputs = (*outputs).max(*inputs);
    }
    let (m, wide) = both::<E>(&sizes.lower());
    let dense = dense_lower(&wide);
    let qr = m.qr().unwrap();
    let (q, r) = (dense_lower(&convert(qr.q(), E::widen)), dense_lower(&convert(qr.r(), E::widen)));
    assert!(norm(&(product(&q, &r) - &dense)) <= STABLE * norm(&dense));
    let unit = Array2::<E::Wide>::eye(q.ncols());
    assert!(norm(&(product(&adjoint(&q), &q) - &unit)) <= STABLE * (1.0 + norm(&unit)));
}

/// The lower matrix of these sizes in both precisions, with `shift` added to its square diagonal blocks.
fn shifted<E: Single>(sizes: &Sizes, shift: f64) -> (Sss<E>, Sss<E::Wide>) {
    let (a, b, c, d) = sizes.clone().square().lower::<E::Wide>().into_parts();
    let d = d.iter().map(|d| &d + &(Array2::<E::Wide>::eye(d.nrows()) * E::Wide::from_real(shift))).collect();
    both::<E>(&Sss::new(a, b, c, d).unwrap())
}

fn check_lower_inverse<E: Single>(sizes: &Sizes, width: usize) {
    let (m, wide) = shifted::<E>(sizes, 4.0);
    let dense = dense_lower(&wide);
    let condition = condition(&dense);
    if condition > 50.0 {
        return;
    }
    let inverse = solve(&dense, &Array2::eye(dense.nrows()));
    assert_near(dense_lower(&convert(&m.inverse().unwrap(), E::widen)), &inverse, condition);
    let (y, wide_y) = both_arrays::<E>(&array(dense.nrows(), width, &mut sizes.random()));
    let (gradient, dy) = m.solve_vjp(y.view(), y.view()).unwrap();
    let (x, g) = (solve(&dense, &wide_y), solve(&adjoint(&dense), &wide_y));
    let expected = wide.pull_back(product(&g, &adjoint(&x)).mapv(|v| -v).view()).unwrap();
    assert_near(dy.mapv(E::widen), &g, condition);
    assert_near(widened(&gradient), &generators(&expected), condition * condition);
    let (gradient, dx) = m.vjp(y.view(), y.view()).unwrap();
    let expected = wide.pull_back(product(&wide_y, &adjoint(&wide_y)).view()).unwrap();
    assert_near(widened(&gradient), &generators(&expected), condition);
    assert_near(dx.mapv(E::widen), &product(&adjoint(&dense), &wide_y), condition);
    let gradient = m.log_determinant_vjp(1.0).unwrap();
    let expected = wide.pull_back(adjoint(&inverse).view()).unwrap();
    let d = gradient.d_blocks().flat().iter().map(|v| v.widen());
    assert_near(d, expected.d_blocks().flat(), condition);
}

fn check_hermitian_inverse<E: Single>(sizes: &Sizes, width: usize) {
    let lowest = eigenvalues(&dense_hermitian(&sizes.hermitian::<E::Wide>())).first().copied().unwrap_or(0.0);
    let (m, wide) = both::<E>(sizes.hermitian_with(E::Wide::from_real(2.0 - lowest.min(0.0))).lower());
    let m = HermitianQuasiseparable::new(m).unwrap();
    let wide = HermitianQuasiseparable::new(wide).unwrap();
    let dense = dense_hermitian(&wide);
    let condition = condition(&dense);
    if condition > 50.0 {
        return;
    }
    let inverse = solve(&dense, &Array2::eye(dense.nrows()));
    let factor = m.cholesky().unwrap();
    let found = HermitianQuasiseparable::new(convert(factor.inverse().unwrap().lower(), E::widen)).unwrap();
    assert_near(dense_hermitian(&found), &inverse, condition);
    let diagonal = factor.inverse_diagonal().unwrap();
    assert_near(diagonal.flat().iter().map(|v| v.widen()), found.diagonal_blocks().flat(), condition);
    let (b, wide_b) = both_arrays::<E>(&array(dense.nrows(), width, &mut sizes.random()));
    let (gradient, _) = m.solve_vjp(factor.ldl(), b.view(), b.view()).unwrap();
    let x = solve(&dense, &wide_b);
    let expected = wide.pull_back(product(&x, &adjoint(&x)).mapv(|v| -v).view()).unwrap();
    assert_near(widened(gradient.lower()), &generators(expected.lower()), condition * condition);
    let gradient = m.log_determinant_vjp(1.0).unwrap();
    let expected = wide.pull_back(inverse.view()).unwrap();
    assert_near(widened(gradient.lower()), &generators(expected.lower()), condition * condition);
}

fn check_two_sided_inverse<E: Single>(sizes: &Sizes, width: usize) {
    let sizes = sizes.clone().square();
    let (lower, wide_lower) = shifted::<E>(&sizes, 6.0);
    let (upper, wide_upper) = both::<E>(&sizes.two_sided::<E::Wide>().into_parts().1);
    let m = Quasiseparable::new(lower, upper).unwrap();
    let wide = Quasiseparable::new(wide_lower, wide_upper).unwrap();
    let dense = dense_two_sided(&wide);
    let condition = condition(&dense);
    let Some(lu) = m.lu().ok().filter(|lu| condition < 50.0 && lu.growth() < 4.0) else { return };
    let inverse = solve(&dense, &Array2::eye(dense.nrows()));
    let (low, up) = lu.inverse().unwrap().into_parts();
    let found = Quasiseparable::new(convert(&low, E::widen), convert(&up, E::widen)).unwrap();
    assert_near(dense_two_sided(&found), &inverse, 4.0 * condition);
    let both = |m: &Quasiseparable<E::Wide>| {
        generators(m.lower()).into_iter().chain(generators(m.upper())).collect::<Vec<_>>()
    };
    let single =
        |m: &Quasiseparable<E>| widened(m.lower()).into_iter().chain(widened(m.upper())).collect::<Vec<_>>();
    let gradient = m.log_determinant_vjp(1.0).unwrap();
    let expected = wide.pull_back(adjoint(&inverse).view()).unwrap();
    assert_near(single(&gradient), &both(&expected), 4.0 * condition * condition);
    let (b, wide_b) = both_arrays::<E>(&array(dense.nrows(), width, &mut sizes.random()));
    let (gradient, _) = m.solve_vjp(&m.qr().unwrap(), b.view(), b.view()).unwrap();
    let (x, g) = (solve(&dense, &wide_b), solve(&adjoint(&dense), &wide_b));
    let expected = wide.pull_back(product(&g, &adjoint(&x)).mapv(|v| -v).view()).unwrap();
    assert_near(single(&gradient), &both(&expected), condition * condition);
}

/// Sizes of a matrix of numbers of one order.
fn uniform(len: usize, order: usize, kind: usize, seed: u64) -> Sizes {
    let orders = if len == 0 { vec![0] } else { vec![order; len + 1] };
    let (inputs, outputs) = (vec![1; len], vec![1; len]);
    Sizes { inputs, outputs, orders, kind: KINDS[kind], growth: Growth::Plain, seed }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn products_are_right_to_their_rounding(sizes in sizes(7), columns in 0usize..4) {
        check_products::<f32>(&sizes, columns);
        check_products::<Complex<f32>>(&sizes, columns);
    }

    #[test]
    fn the_loops_for_numbers_are_right_to_their_rounding(
        len in 0usize..40, order in 1usize..20, columns in 0usize..40, kind in 0usize..4, seed in any::<u64>(),
    ) {
        check_products::<f32>(&uniform(len, order, kind, seed), columns);
        check_products::<Complex<f32>>(&uniform(len, order, kind, seed), columns);
    }

    #[test]
    fn cholesky_and_ldl_are_stable(sizes in sizes(7), width in 0usize..4) {
        check_hermitian::<f32>(&sizes, width);
        check_hermitian::<f32>(&sizes.clone().uniform(), width);
        check_hermitian::<Complex<f32>>(&sizes, width);
        check_hermitian::<Complex<f32>>(&sizes.uniform(), width);
    }

    #[test]
    fn orthogonal_factors_and_lu_are_stable(sizes in sizes(7), width in 0usize..4) {
        check_two_sided::<f32>(&sizes, width);
        check_two_sided::<Complex<f32>>(&sizes, width);
    }

    #[test]
    fn array_and_lower_orthogonal_factors_are_stable(sizes in sizes(7)) {
        check_array::<f32>(&sizes);
        check_array::<Complex<f32>>(&sizes);
        check_lower_qr::<f32>(&sizes);
        check_lower_qr::<Complex<f32>>(&sizes);
    }

    #[test]
    fn inverses_and_derivatives_are_right_to_their_condition(sizes in sizes(5), width in 0usize..3) {
        check_lower_inverse::<f32>(&sizes, width);
        check_lower_inverse::<Complex<f32>>(&sizes, width);
        check_two_sided_inverse::<f32>(&sizes, width);
        check_two_sided_inverse::<Complex<f32>>(&sizes, width);
        for sizes in [sizes.clone(), sizes.uniform()] {
            check_hermitian_inverse::<f32>(&sizes, width);
            check_hermitian_inverse::<Complex<f32>>(&sizes, width);
        }
    }
}
