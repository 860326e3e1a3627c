//! Cotangents of block semiseparable products against central differences of the definition, ragged sizes.

use crate::support::ragged::{
    Draw, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};
use crate::support::{assert_close, generators};
use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::{
    Blocks, HermitianQuasiseparable, Quasiseparable, Sss, StructuredMatrix, Transition, Upper,
};

type C = Complex<f64>;

/// All numbers of the generators, diagonal last.
fn parameters<E: Field>(m: &Sss<E>) -> Vec<E> {
    let blocks = [m.b_blocks(), m.c_blocks(), m.d_blocks()];
    let blocks = blocks.into_iter().flat_map(|b| b.flat().to_vec());
    generators::numbers(m.transition()).into_iter().chain(blocks).collect()
}

/// The matrix with other numbers.
fn with_parameters<E: Field>(m: &Sss<E>, numbers: &[E]) -> Sss<E> {
    let (mut transition, mut b, mut c, mut d) = m.clone().into_parts();
    let mut numbers = numbers.iter();
    let mut fill = |slots: &mut dyn Iterator<Item = &mut E>| {
        for slot in slots {
            *slot = *numbers.next().unwrap();
        }
    };
    match &mut transition {
        Transition::Identity => {}
        Transition::Scalar(a) => fill(&mut a.iter_mut()),
        Transition::Diagonal(a) | Transition::Dense(a) => fill(&mut a.flat_mut().iter_mut()),
    }
    let blocks: [&mut Blocks<E>; 3] = [&mut b, &mut c, &mut d];
    blocks.into_iter().for_each(|b| fill(&mut b.flat_mut().iter_mut()));
    Sss::new(transition, b, c, d).unwrap()
}

/// A complex number as a point of two real ones.
trait Parts: Draw {
    const PARTS: &'static [Self];
    fn real(self) -> f64;
}
impl Parts for f64 {
    const PARTS: &'static [f64] = &[1.0];
    fn real(self) -> f64 {
        self
    }
}
impl Parts for C {
    const PARTS: &'static [C] = &[Complex { re: 1.0, im: 0.0 }, Complex { re: 0.0, im: 1.0 }];
    fn real(self) -> f64 {
        self.re
    }
}

/// The cotangent of every number by central differences.
fn differences<E: Parts>(f: impl Fn(&[E]) -> f64, at: &[E]) -> Vec<E> {
    let mut point = at.to_vec();
    (0..at.len())
        .map(|i| {
            let mut sum = E::zero();
            for part in E::PARTS {
                point[i] = at[i] + *part * E::from_real(1e-5);
                let above = f(&point);
                point[i] = at[i] - *part * E::from_real(1e-5);
                let below = f(&point);
                sum += *part * E::from_real((above - below) / 2e-5);
            }
            point[i] = at[i];
            sum
        })
        .collect()
}

/// ⟨M x, dy⟩
fn loss<E: Parts>(dense: &Array2<E>, x: &Array2<E>, dy: &Array2<E>) -> f64 {
    product(dense, x).iter().zip(dy).map(|(y, dy)| y.conj() * *dy).sum::<E>().real()
}

fn check_lower<E: Parts>(sizes: &Sizes, columns: usize) {
    let (m, mut random) = (sizes.lower::<E>(), sizes.random());
    let (x, dy) = (array(m.columns(), columns, &mut random), array(m.rows(), columns, &mut random));
    let f = |p: &[E]| loss(&dense_lower(&with_parameters(&m, p)), &x, &dy);
    let expected = differences(f, &parameters(&m));
    let (grad, dx) = m.vjp(x.view(), dy.view()).unwrap();
    assert_close(&parameters(&grad), &expected, 1e-7);
    assert_close(&dx, &product(&adjoint(&dense_lower(&m)), &dy), 1e-12);
    // ⟨D, M⟩ with D = dy xᴴ is the same function of the generators.
    let grad = m.pull_back(product(&dy, &adjoint(&x)).view()).unwrap();
    assert_close(&parameters(&grad), &expected, 1e-7);

    let f = |p: &[E]| loss(&adjoint(&dense_lower(&with_parameters(&m, p))), &dy, &x);
    let (grad, d_dy) = Upper(&m).vjp(dy.view(), x.view()).unwrap();
    assert_close(&parameters(&grad), &differences(f, &parameters(&m)), 1e-7);
    assert_close(&d_dy, &product(&dense_lower(&m), &x), 1e-12);
    let grad = Upper(&m).pull_back(product(&x, &adjoint(&dy)).view()).unwrap();
    assert_close(&parameters(&grad), &expected, 1e-7);
}

fn check_two_sided<E: Parts>(sizes: &Sizes, columns: usize) {
    let (m, mut random) = (sizes.two_sided::<E>(), sizes.random());
    let (x, dy) = (array(m.columns(), columns, &mut random), array(m.rows(), columns, &mut random));
    let both = |m: &Quasiseparable<E>| {
        let mut all = parameters(m.lower());
        all.extend(parameters(m.upper()));
        all
    };
    let f = |p: &[E]| {
        let (lower, upper) = p.split_at(parameters(m.lower()).len());
        let parts = (with_parameters(m.lower(), lower), with_parameters(m.upper(), upper));
        loss(&dense_two_sided(&Quasiseparable::new(parts.0, parts.1).unwrap()), &x, &dy)
    };
    let expected = differences(f, &both(&m));
    let (grad, dx) = m.vjp(x.view(), dy.view()).unwrap();
    assert_close(&both(&grad), &expected, 1e-7);
    assert_close(&dx, &product(&adjoint(&dense_two_sided(&m)), &dy), 1e-12);
    let grad = m.pull_back(product(&dy, &adjoint(&x)).view()).unwrap();
    assert_close(&both(&grad), &expected, 1e-7);
}

/// Along a direction that keeps the diagonal Hermitian.
fn check_hermitian<E: Parts>(sizes: &Sizes, columns: usize) {
    let (m, mut random) = (sizes.hermitian::<E>(), sizes.random());
    let (x, dy) = (array(m.rows(), columns, &mut random), array(m.rows(), columns, &mut random));
    let mut other = sizes.clone();
    other.seed ^= 1;
    let direction = other.hermitian::<E>();
    let at = |t: f64| {
        let step = parameters(m.lower())
            .iter()
            .zip(parameters(direction.lower()))
            .map(|(p, d)| *p + d * E::from_real(t))
            .collect::<Vec<_>>();
        let moved = HermitianQuasiseparable::new(with_parameters(m.lower(), &step)).unwrap();
        loss(&dense_hermitian(&moved), &x, &dy)
    };
    let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
    let along = |grad: &HermitianQuasiseparable<E>| {
        let pairs = parameters(grad.lower()).into_iter().zip(parameters(direction.lower()));
        pairs.map(|(g, d)| g.conj() * d).sum::<E>().real()
    };
    let scale = 1.0 + expected.abs();
    let (grad, dx) = m.vjp(x.view(), dy.view()).unwrap();
    assert!((along(&grad) - expected).abs() < 1e-6 * scale, "{} for {expected}", along(&grad));
    assert_close(&dx, &product(&dense_hermitian(&m), &dy), 1e-12);
    let grad = m.pull_back(product(&dy, &adjoint(&x)).view()).unwrap();
    assert!((along(&grad) - expected).abs() < 1e-6 * scale, "{} for {expected}", along(&grad));
    assert!(HermitianQuasiseparable::new(grad.into_lower()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_vjp_agrees_with_central_differences(sizes in sizes(4), columns in 0usize..3) {
        check_lower::<f64>(&sizes, columns);
        check_lower::<C>(&sizes, columns);
        check_two_sided::<f64>(&sizes, columns);
        check_two_sided::<C>(&sizes, columns);
        check_hermitian::<f64>(&sizes, columns);
        check_hermitian::<C>(&sizes, columns);
    }
}
