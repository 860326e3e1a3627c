//! Laws that need no dense matrix: with the order of the steps reversed, `J M J`, lower and upper parts change places and
//! everything else stays. Blocks keep their own order.

use crate::support::assert_close;
use crate::support::ragged::{Draw, Sizes, adjoint, array, sizes};
use ndarray::{Array2, Axis, concatenate};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};

/// Blocks of the steps in reverse, each by `f`.
fn backward<E: Draw>(blocks: &Blocks<E>, f: impl Fn(Array2<E>) -> Array2<E>) -> Blocks<E> {
    blocks.iter().rev().map(|block| f(block.to_owned())).collect()
}

/// `J Mᴴ J`, lower again.
fn behind<E: Draw>(m: &Sss<E>) -> Sss<E> {
    let (transition, b, c, d) = m.clone().into_parts();
    let transition = match transition {
        Transition::Identity => Transition::Identity,
        Transition::Scalar(a) => Transition::Scalar(a.iter().rev().map(|a| a.conj()).collect()),
        Transition::Diagonal(a) => Transition::Diagonal(backward(&a, |a| a.mapv(E::conj))),
        Transition::Dense(a) => Transition::Dense(backward(&a, |a| adjoint(&a))),
    };
    let adjoints = |blocks: &Blocks<E>| backward(blocks, |block| adjoint(&block));
    Sss::new(transition, adjoints(&c), adjoints(&b), adjoints(&d)).unwrap()
}

/// `J M J`
fn reversed<E: Draw>(m: &Quasiseparable<E>) -> Quasiseparable<E> {
    let (transition, b, c, _) = behind(m.upper()).into_parts();
    let d = backward(m.diagonal_blocks(), |block| block);
    Quasiseparable::new(Sss::new(transition, b, c, d).unwrap(), behind(m.lower())).unwrap()
}

/// `J x` for steps of these sizes.
fn flipped<E: Draw>(x: &Array2<E>, sizes: &[usize]) -> Array2<E> {
    let (mut rest, mut parts) = (x.view(), Vec::new());
    for &size in sizes {
        let (part, behind) = rest.split_at(Axis(0), size);
        parts.insert(0, part);
        rest = behind;
    }
    if parts.is_empty() { x.clone() } else { concatenate(Axis(0), &parts).unwrap() }
}

fn check_products<E: Draw>(sizes: &Sizes, columns: usize) {
    let m = sizes.two_sided::<E>();
    let r = reversed(&m);
    let mut random = sizes.random();
    let (x, y) = (array(m.columns(), columns, &mut random), array(m.rows(), columns, &mut random));
    let found = r.matmul(flipped(&x, &sizes.inputs).view()).unwrap();
    assert_close(&found, &flipped(&m.matmul(x.view()).unwrap(), &sizes.outputs), 1e-12);
    let found = r.adjoint_matmul(flipped(&y, &sizes.outputs).view()).unwrap();
    assert_close(&found, &flipped(&m.adjoint_matmul(y.view()).unwrap(), &sizes.inputs), 1e-12);
    assert_eq!(reversed(&r), m);
}

/// More than the sum of sizes in any row or column: on the diagonal it makes a matrix regular.
fn dominant<E: Draw>(dense: &Array2<E>) -> E {
    E::from_real(1.0 + 2.0 * dense.iter().map(|v| v.modulus()).sum::<f64>())
}

fn check_solutions<E: Draw>(sizes: &Sizes) {
    let sizes = sizes.clone().square();
    let shift = dominant(&sizes.hermitian::<E>().to_dense());
    let m = sizes.hermitian_with::<E>(shift);
    let r = HermitianQuasiseparable::new(behind(m.lower())).unwrap();
    let b = array(m.rows(), 2, &mut sizes.random());
    let (factor, other) = (m.cholesky().unwrap(), r.cholesky().unwrap());
    let found = other.solve(flipped(&b, &sizes.inputs).view()).unwrap();
    assert_close(&found, &flipped(&factor.solve(b.view()).unwrap(), &sizes.inputs), 1e-12);
    let (determinant, turned) = (factor.log_determinant(), other.log_determinant());
    assert!((determinant - turned).abs() <= 1e-12 * (1.0 + determinant.abs()));
}

fn check_general_solutions<E: Draw>(sizes: &Sizes) {
    let sizes = sizes.clone().square();
    let m = sizes.two_sided::<E>();
    let shift = dominant(&m.to_dense());
    let (lower, upper) = m.into_parts();
    let (transition, b, c, d) = lower.into_parts();
    let d = d.iter().map(|d| &d + &(Array2::eye(d.nrows()) * shift)).collect();
    let m = Quasiseparable::new(Sss::new(transition, b, c, d).unwrap(), upper).unwrap();
    let r = reversed(&m);
    let b = array(m.rows(), 2, &mut sizes.random());
    let turned = flipped(&b, &sizes.inputs);
    let close = |found: Array2<E>, expected: Array2<E>| {
        assert_close(&found, &flipped(&expected, &sizes.inputs), 1e-12);
    };
    close(r.qr().unwrap().solve(turned.view()).unwrap(), m.qr().unwrap().solve(b.view()).unwrap());
    close(r.lu().unwrap().solve(turned.view()).unwrap(), m.lu().unwrap().solve(b.view()).unwrap());
}

proptest! {
    #[test]
    fn products_of_the_reversed_matrix_are_reversed(sizes in sizes(7), columns in 1usize..4) {
        check_products::<f64>(&sizes, columns);
        check_products::<Complex<f64>>(&sizes, columns);
    }

    #[test]
    fn solutions_and_determinants_of_the_reversed_matrix_are_reversed(sizes in sizes(7)) {
        check_solutions::<f64>(&sizes);
        check_solutions::<Complex<f64>>(&sizes);
        check_general_solutions::<f64>(&sizes);
        check_general_solutions::<Complex<f64>>(&sizes);
    }

    #[test]
    fn the_reversed_matrix_has_the_same_hankel_singular_values(sizes in sizes(7)) {
        let m = sizes.lower::<f64>();
        let (spectrum, turned) = (m.hankel_spectrum().unwrap(), behind(&m).hankel_spectrum().unwrap());
        for k in 1..m.len() {
            let (values, other) = (spectrum.values(k), turned.values(m.len() - k));
            let most = values.first().copied().unwrap_or(0.0);
            for i in 0..values.len().max(other.len()) {
                let [own, other] = [values, other].map(|v| v.get(i).copied().unwrap_or(0.0));
                prop_assert!((own - other).abs() <= 1e-12 * most.max(1.0), "{own} and {other} at {k}");
            }
        }
    }
}
