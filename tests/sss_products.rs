//! Products with block semiseparable matrices against dense matrices from the definition.

mod support_sss;

use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::Upper;
use support_sss::assert_close;
use support_sss::ragged::{
    Draw, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};

/// Dense form, product and adjoint product of one matrix against its dense form.
fn check<E: Draw, M: StructuredMatrix<E>>(m: &M, dense: &Array2<E>, sizes: &Sizes, columns: usize) {
    let mut random = sizes.random();
    assert_eq!(m.shape(), dense.dim());
    assert_close(&m.to_dense(), dense, 1e-12);
    let x = array(dense.ncols(), columns, &mut random);
    let y = array(dense.nrows(), columns, &mut random);
    assert_close(&m.matmul(x.view()).unwrap(), &product(dense, &x), 1e-12);
    assert_close(&m.adjoint_matmul(y.view()).unwrap(), &product(&adjoint(dense), &y), 1e-12);
}

fn check_all<E: Draw>(sizes: &Sizes, columns: usize) {
    let lower = sizes.lower::<E>();
    let dense = dense_lower(&lower);
    check(&lower, &dense, sizes, columns);
    check(&Upper(&lower), &adjoint(&dense), sizes, columns);
    let m = sizes.two_sided::<E>();
    check(&m, &dense_two_sided(&m), sizes, columns);
    let m = sizes.hermitian::<E>();
    check(&m, &dense_hermitian(&m), sizes, columns);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_agree_with_the_definition(sizes in sizes(7), columns in 0usize..4) {
        check_all::<f64>(&sizes, columns);
        check_all::<Complex<f64>>(&sizes, columns);
    }
}
