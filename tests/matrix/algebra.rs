//! Algebra of block semiseparable matrices against dense matrices from the definition, and the orders it promises.

use crate::support::assert_close;
use crate::support::ragged::{
    Draw, KINDS, Kind, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};
use ndarray::{Array2, array};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Error;
use semisep::matrix::sss::{HermitianQuasiseparable, Sss, Transition, Upper};
use semisep::matrix::{Multiply, Partition, StructuredMatrix};

const TOLERANCE: f64 = 1e-12;

/// Sizes of a matrix whose outputs are the inputs of `first`.
fn fed_by(first: &Sizes, seed: u64) -> Sizes {
    let mut second = first.reordered(seed);
    second.outputs = first.inputs.clone();
    second.inputs.rotate_left(1.min(first.len()));
    second
}

fn orders<'a>(a: &'a [usize], b: &'a [usize], f: impl Fn(usize, usize) -> usize + 'a) -> Vec<usize> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

/// The same shapes with -1, 0 and 1 as numbers.
fn whole(m: &Sss<f64>) -> Sss<f64> {
    let (transition, b, c, d) = m.clone().into_parts();
    let round = |v: f64| (1.4 * v).round().clamp(-1.0, 1.0);
    Sss::new(transition.map(round), b.map(round), c.map(round), d.map(round)).unwrap()
}

fn kind_of<E: Draw>(m: &Sss<E>) -> &'static str {
    m.transition().kind()
}

fn check_sums<E: Draw>(sizes: &Sizes, other: &Sizes) {
    let (s, t) = (sizes.lower::<E>(), other.lower::<E>());
    let (ds, dt) = (dense_lower(&s), dense_lower(&t));
    let factor = E::draw(&mut sizes.random());

    let sum = (&s + &t).unwrap();
    assert_close(&dense_lower(&sum), &(&ds + &dt), TOLERANCE);
    assert_eq!(sum.orders(), orders(s.orders(), t.orders(), |a, b| a + b));
    assert_close(&dense_lower(&(&s - &t).unwrap()), &(&ds - &dt), TOLERANCE);
    assert_close(&dense_lower(&(&s * factor)), &ds.mapv(|v| v * factor), TOLERANCE);
    assert_close(&dense_lower(&-&s), &ds.mapv(|v| -v), TOLERANCE);

    let product = s.hadamard(&t).unwrap();
    assert_close(&dense_lower(&product), &(&ds * &dt), TOLERANCE);
    assert_eq!(product.orders(), orders(s.orders(), t.orders(), |a, b| a * b));

    let (u, v) = (Upper(s), Upper(t));
    let (du, dv) = (adjoint(&ds), adjoint(&dt));
    assert_close(&(&u + &v).unwrap().to_dense(), &(&du + &dv), TOLERANCE);
    assert_close(&(&u - &v).unwrap().to_dense(), &(&du - &dv), TOLERANCE);
    assert_close(&(&u * factor).to_dense(), &du.mapv(|v| v * factor), TOLERANCE);
    assert_close(&u.hadamard(&v).unwrap().to_dense(), &(&du * &dv), TOLERANCE);

    let (m, n) = (sizes.two_sided::<E>(), other.two_sided::<E>());
    let (dm, dn) = (dense_two_sided(&m), dense_two_sided(&n));
    assert_close(&dense_two_sided(&(&m + &n).unwrap()), &(&dm + &dn), TOLERANCE);
    assert_close(&dense_two_sided(&(&m - &n).unwrap()), &(&dm - &dn), TOLERANCE);
    assert_close(&dense_two_sided(&(&m * factor)), &dm.mapv(|v| v * factor), TOLERANCE);
    assert_close(&dense_two_sided(&m.hadamard(&n).unwrap()), &(&dm * &dn), TOLERANCE);

    let (m, n) = (sizes.hermitian::<E>(), other.hermitian::<E>());
    let (dm, dn) = (dense_hermitian(&m), dense_hermitian(&n));
    assert_close(&dense_hermitian(&(&m + &n).unwrap()), &(&dm + &dn), TOLERANCE);
    assert_close(&dense_hermitian(&(&m - &n).unwrap()), &(&dm - &dn), TOLERANCE);
    assert_close(&dense_hermitian(&m.scaled(-1.5)), &dm.mapv(|v| v * E::from_real(-1.5)), TOLERANCE);
    assert_close(&dense_hermitian(&m.hadamard(&n).unwrap()), &(&dm * &dn), TOLERANCE);
}

fn check_products<E: Draw>(sizes: &Sizes, seed: u64) {
    let right = fed_by(sizes, seed);
    let (s, t) = (sizes.lower::<E>(), right.lower::<E>());
    let (ds, dt) = (dense_lower(&s), dense_lower(&t));
    let st = (&s * &t).unwrap();
    assert_close(&dense_lower(&st), &product(&ds, &dt), TOLERANCE);
    assert_eq!(st.orders(), orders(s.orders(), t.orders(), |a, b| a + b));
    // (S T) x = S (T x)
    let x = array(dt.ncols(), 2, &mut sizes.random());
    let twice = s.matmul(t.matmul(x.view()).unwrap().view()).unwrap();
    assert_close(&st.matmul(x.view()).unwrap(), &twice, TOLERANCE);

    let u = Upper(right.swapped().lower::<E>());
    let du = adjoint(&dense_lower(&u.0));
    let su = (&s * &u).unwrap();
    assert_close(&dense_two_sided(&su), &product(&ds, &du), TOLERANCE);
    assert_eq!((su.lower().orders(), su.upper().orders()), (s.orders(), u.0.orders()));

    let v = Upper(sizes.swapped().lower::<E>());
    let dv = adjoint(&dense_lower(&v.0));
    let vt = (&v * &t).unwrap();
    assert_close(&dense_two_sided(&vt), &product(&dv, &dt), TOLERANCE);
    assert_eq!((vt.lower().orders(), vt.upper().orders()), (t.orders(), v.0.orders()));
    let vu = (&v * &u).unwrap();
    assert_close(&vu.to_dense(), &product(&dv, &du), TOLERANCE);

    let (m, n) = (sizes.two_sided::<E>(), right.two_sided::<E>());
    let mn = (&m * &n).unwrap();
    assert_close(&dense_two_sided(&mn), &product(&dense_two_sided(&m), &dense_two_sided(&n)), TOLERANCE);
    assert_eq!(mn.lower().orders(), orders(m.lower().orders(), n.lower().orders(), |a, b| a + b));
    assert_eq!(mn.upper().orders(), orders(m.upper().orders(), n.upper().orders(), |a, b| a + b));

    let gram = HermitianQuasiseparable::gram(&s);
    assert_close(&dense_hermitian(&gram), &product(&adjoint(&ds), &ds), TOLERANCE);
    assert_eq!(gram.lower().orders(), s.orders());
}

fn check_transposes<E: Draw>(sizes: &Sizes) {
    let s = sizes.lower::<E>();
    let ds = dense_lower(&s);
    assert_close(&s.adjoint().to_dense(), &adjoint(&ds), TOLERANCE);
    assert_close(&s.transpose().to_dense(), &ds.t().to_owned(), TOLERANCE);
    assert_eq!(s.transpose().transpose(), s);
    assert_eq!(s.conjugate().conjugate(), s);
    let m = sizes.two_sided::<E>();
    let dm = dense_two_sided(&m);
    assert_close(&dense_two_sided(&m.adjoint()), &adjoint(&dm), TOLERANCE);
    assert_close(&dense_two_sided(&m.transpose()), &dm.t().to_owned(), TOLERANCE);
    assert_eq!(m.adjoint().adjoint(), m);
    let m = sizes.hermitian::<E>();
    assert_close(&dense_hermitian(&m.transpose()), &dense_hermitian(&m).t().to_owned(), TOLERANCE);
    // (S T)ᵀ = Tᵀ Sᵀ
    let t = fed_by(sizes, 3).lower::<E>();
    let left = (&s * &t).unwrap().transpose();
    let right = (&t.transpose() * &s.transpose()).unwrap();
    assert_close(&left.to_dense(), &right.to_dense(), TOLERANCE);
}

fn check_kronecker<E: Draw>(sizes: &Sizes, (rows, columns): (usize, usize)) {
    let x = array::<E>(rows, columns, &mut sizes.random());
    let kron = |m: &Array2<E>, x: &Array2<E>| {
        let shape = (m.nrows() * rows, m.ncols() * columns);
        Array2::from_shape_fn(shape, |(i, j)| m[[i / rows, j / columns]] * x[[i % rows, j % columns]])
    };
    let s = sizes.lower::<E>();
    let large = s.kronecker(x.view());
    assert_close(&dense_lower(&large), &kron(&dense_lower(&s), &x), TOLERANCE);
    let expected: Vec<_> = s.orders().iter().map(|n| n * rows.min(columns)).collect();
    assert_eq!(large.orders(), expected);
    let m = sizes.two_sided::<E>();
    assert_close(&dense_two_sided(&m.kronecker(x.view())), &kron(&dense_two_sided(&m), &x), TOLERANCE);
    let m = sizes.hermitian::<E>();
    if rows == columns {
        let x = &x + &adjoint(&x);
        let large = m.kronecker(x.view()).unwrap();
        assert_close(&dense_hermitian(&large), &kron(&dense_hermitian(&m), &x), TOLERANCE);
    } else {
        assert!(matches!(m.kronecker(x.view()), Err(Error::Shape { tensor: "x", .. })));
    }
    let upper = Upper(s);
    let expected = kron(&adjoint(&dense_lower(&upper.0)), &x);
    assert_close(&adjoint(&dense_lower(&upper.kronecker(x.view()).0)), &expected, TOLERANCE);
}

fn check_inverse<E: Draw>(sizes: &Sizes) {
    let (transition, b, c, mut d) = sizes.clone().square().lower::<E>().into_parts();
    for k in 0..d.len() {
        d.block_mut(k).diag_mut().mapv_inplace(|v| v + E::from_real(4.0)); // far from singular
    }
    let s = Sss::new(transition.map(|a| a * E::from_real(0.3)), b, c, d).unwrap();
    let inverse = s.inverse().unwrap();
    assert_eq!(inverse.orders(), s.orders());
    let (dense, identity) = (dense_lower(&s), Array2::eye(s.rows()));
    assert_close(&product(&dense_lower(&inverse), &dense), &identity, 1e-9);
    assert_close(&product(&dense, &dense_lower(&inverse)), &identity, 1e-9);
    assert_close(&dense_lower(&inverse.inverse().unwrap()), &dense, 1e-8);
    // det(S T) = det S det T
    let log = |m: &Sss<E>| m.log_determinant().unwrap();
    let twisted = s.scaled(-E::one()).conjugate();
    let (one, other, both) = (log(&s), log(&twisted), log(&(&s * &twisted).unwrap()));
    assert!((both.log_modulus - one.log_modulus - other.log_modulus).abs() < 1e-10);
    assert!((both.phase - one.phase * other.phase).modulus() < 1e-10);
    let upper = Upper(s);
    assert_close(&product(&upper.inverse().unwrap().to_dense(), &upper.to_dense()), &identity, 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn sums_and_entrywise_products_agree_with_dense_ones(sizes in sizes(6), seed in any::<u64>()) {
        for kind in KINDS {
            let other = sizes.reordered(seed).with_kind(kind);
            check_sums::<f64>(&sizes, &other);
            check_sums::<Complex<f64>>(&sizes, &other);
        }
    }

    #[test]
    fn products_of_two_agree_with_dense_ones(sizes in sizes(6), seed in any::<u64>()) {
        check_products::<f64>(&sizes, seed);
        check_products::<Complex<f64>>(&sizes, seed);
    }

    #[test]
    fn transposes_agree_with_dense_ones(sizes in sizes(6)) {
        check_transposes::<f64>(&sizes);
        check_transposes::<Complex<f64>>(&sizes);
    }

    #[test]
    fn kronecker_products_agree_with_dense_ones(sizes in sizes(5), rows in 0usize..4, columns in 0usize..4) {
        check_kronecker::<f64>(&sizes, (rows, columns));
        check_kronecker::<Complex<f64>>(&sizes, (rows, columns));
    }

    #[test]
    fn inverses_have_the_same_orders_and_invert(sizes in sizes(6)) {
        check_inverse::<f64>(&sizes);
        check_inverse::<Complex<f64>>(&sizes);
    }

    #[test]
    fn elementwise_transitions_stay_elementwise_at_constant_orders(sizes in sizes(5)) {
        prop_assume!(sizes.len() > 0);
        let sizes = sizes.uniform();
        let kinds = |first: Kind, second: Kind| {
            let (s, t) = (sizes.with_kind(first).lower::<f64>(), sizes.with_kind(second).lower::<f64>());
            (kind_of(&s.add(&t).unwrap()), kind_of(&s.hadamard(&t).unwrap()))
        };
        prop_assert_eq!(kinds(Kind::Identity, Kind::Identity), ("identity", "identity"));
        prop_assert_eq!(kinds(Kind::Scalar, Kind::Scalar), ("diagonal", "scalar"));
        prop_assert_eq!(kinds(Kind::Identity, Kind::Scalar), ("diagonal", "scalar"));
        prop_assert_eq!(kinds(Kind::Diagonal, Kind::Scalar), ("diagonal", "diagonal"));
        prop_assert_eq!(kinds(Kind::Diagonal, Kind::Dense), ("dense", "dense"));
    }

    #[test]
    fn entrywise_product_with_all_ones_changes_nothing(sizes in sizes(6)) {
        let s = sizes.lower::<f64>();
        let ones = |rows: usize, columns: usize| Array2::<f64>::ones((rows, columns));
        let len = s.len();
        let all_ones = Sss::new(
            Transition::Identity,
            (0..len).map(|k| ones(1, s.inputs(k))).collect(),
            (0..len).map(|k| ones(s.outputs(k), 1)).collect(),
            (0..len).map(|k| ones(s.outputs(k), s.inputs(k))).collect(),
        ).unwrap();
        let same = s.hadamard(&all_ones).unwrap();
        prop_assert_eq!(same.orders(), s.orders());
        prop_assert_eq!(dense_lower(&same), dense_lower(&s));
    }

    #[test]
    fn algebra_of_whole_numbers_is_exact(sizes in sizes(6), seed in any::<u64>()) {
        let (s, t) = (whole(&sizes.lower()), whole(&sizes.reordered(seed).lower()));
        let (ds, dt) = (dense_lower(&s), dense_lower(&t));
        prop_assert_eq!(dense_lower(&(&s + &t).unwrap()), &ds + &dt);
        prop_assert_eq!(dense_lower(&(&s - &t).unwrap()), &ds - &dt);
        prop_assert_eq!(dense_lower(&s.hadamard(&t).unwrap()), &ds * &dt);
        let right = whole(&fed_by(&sizes, seed).lower());
        prop_assert_eq!(dense_lower(&(&s * &right).unwrap()), product(&ds, &dense_lower(&right)));
        let upper = Upper(whole(&fed_by(&sizes, seed).swapped().lower()));
        let dense = product(&ds, &adjoint(&dense_lower(&upper.0)));
        prop_assert_eq!(dense_two_sided(&(&s * &upper).unwrap()), dense);
        let x = array::<f64>(s.columns(), 5, &mut sizes.random()).mapv(|v| (9.0 * v).round());
        prop_assert_eq!(s.matmul(x.view()).unwrap(), product(&ds, &x));
        let blocks = Multiply::Blocks(Partition::Equal(3));
        prop_assert_eq!(s.multiply(x.view(), &blocks).unwrap(), product(&ds, &x));
        prop_assert_eq!(s.multiply(x.view(), &Multiply::TwoPass { pieces: 3 }).unwrap(), product(&ds, &x));
        prop_assert_eq!(dense_lower(&s.regroup(&Partition::Equal(2)).unwrap()), ds);
    }

    #[test]
    fn scaling_by_powers_of_two_is_exact(sizes in sizes(6)) {
        let s = sizes.lower::<f64>();
        let x = array(s.columns(), 1, &mut sizes.random());
        let y = s.matmul(x.view()).unwrap();
        prop_assert_eq!((&s * 0.25).matmul(x.view()).unwrap(), y * 0.25);
    }
}

#[test]
fn what_does_not_fit_is_an_error_that_names_the_step() {
    let mut random = crate::support::Random::new(4);
    let mut block = |rows: usize, columns: usize| array::<f64>(rows, columns, &mut random);
    let mut matrix = |sizes: &[(usize, usize)]| {
        let b = sizes.iter().map(|&(_, inputs)| block(1, inputs)).collect();
        let c = sizes.iter().map(|&(outputs, _)| block(outputs, 1)).collect();
        let d = sizes.iter().map(|&(outputs, inputs)| block(outputs, inputs)).collect();
        Sss::new(Transition::Identity, b, c, d).unwrap()
    };
    let (s, t, short) = (matrix(&[(2, 2), (2, 3)]), matrix(&[(2, 2), (2, 2)]), matrix(&[(2, 2)]));
    let names = |error: Error, text: &str| {
        assert!(error.to_string().contains(text), "{error} should say {text}");
    };
    names((&s + &t).unwrap_err(), "step 1");
    names((&s - &short).unwrap_err(), "steps");
    names(s.hadamard(&t).unwrap_err(), "step 1");
    names((&s * &t).unwrap_err(), "step 1");
    names(s.inverse().unwrap_err(), "step 1");
    let gram = HermitianQuasiseparable::gram(&s);
    names(
        gram.kronecker(array![[1.0, 2.0], [3.0, 1.0]].view()).unwrap_err(),
        "2 at (0, 1) against 3 at (1, 0)",
    );
    names(gram.kronecker(array![[f64::NAN]].view()).unwrap_err(), "a Hermitian block, found NaN");
    let (transition, b, c, mut d) = t.into_parts();
    d.block_mut(1).fill(0.0);
    let singular = Sss::new(transition, b, c, d).unwrap();
    assert!(matches!(singular.inverse(), Err(Error::Singular { step: 1, .. })));
}

#[test]
fn operators_take_adjoints_by_reference_and_multiples_of_hermitian_matrices() {
    let mut random = crate::support::Random::new(5);
    let mut matrix = || {
        let (b, c, d) = (random.complex(6, 2), random.complex(6, 2), random.vector(6).mapv(Complex::from));
        Sss::uniform(Transition::Identity, b, c, d).unwrap()
    };
    let (s, t) = (matrix(), matrix());
    let (dense_s, dense_t) = (dense_lower(&s), dense_lower(&t));
    let product = (s.adjoint() * &t).unwrap();
    assert_close(&dense_two_sided(&product), &adjoint(&dense_s).dot(&dense_t), 1e-12);
    let product = (&s * t.adjoint()).unwrap();
    assert_close(&dense_two_sided(&product), &dense_s.dot(&adjoint(&dense_t)), 1e-12);
    let h = HermitianQuasiseparable::new(s).unwrap();
    let expected = dense_hermitian(&h);
    assert_close(&dense_hermitian(&(&h * -2.0)), &expected.mapv(|v| v * -2.0), 1e-12);
    assert_close(&dense_hermitian(&-&h), &expected.mapv(|v| -v), 1e-12);
}
