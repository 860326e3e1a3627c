//! Numbers of 32 bits, real and complex: products and factorisations against the same numbers widened to 64 bits.

mod support_sss;

use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::sss::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};
use semisep::matrix::{StructuredMatrix, Upper};
use support_sss::dense::{Dense, backward_error, condition, eigenvalues};
use support_sss::ragged::{
    Growth, KINDS, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};

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
    let error = support_sss::dense::norm(&(back - &dense));
    assert!(error <= STABLE * support_sss::dense::norm(&dense), "{error:e}");
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
}
