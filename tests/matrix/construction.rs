//! Block semiseparable matrices made of other things, against formulas written out.

use crate::support::ragged::{
    Draw, Kind, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes, step,
};
use crate::support::{Random, assert_close};
use ndarray::{Array1, Array2, array};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Error;
use semisep::matrix::sss::{Exponential, FilterForm, StateSpace};
use semisep::matrix::{
    Bidiagonal, Blocks, HermitianQuasiseparable, OneSemiseparable, Quasiseparable, Sss, StructuredMatrix,
    Transition, Upper,
};

type C = Complex<f64>;

fn check_banded<E: Draw>(len: usize, width: usize, above: usize, seed: u64) {
    let mut random = Random::new(seed);
    let (lower, upper) = (array::<E>(len, width + 1, &mut random), array::<E>(len, above, &mut random));
    let entry = |(i, j): (usize, usize)| match i.checked_sub(j) {
        Some(l) if l <= width => lower[[i, l]],
        None if j - i <= above => upper[[j, j - i - 1]],
        _ => E::zero(),
    };
    let dense = Array2::from_shape_fn((len, len), entry);
    let m = Quasiseparable::from_banded(lower.view(), upper.view()).unwrap();
    assert_eq!(dense_two_sided(&m), dense);
    let below = Array2::from_shape_fn((len, len), |(i, j)| if i < j { E::zero() } else { dense[[i, j]] });
    let m = Sss::from_banded(lower.view()).unwrap();
    assert_eq!(dense_lower(&m), below);
    assert!(m.orders().iter().all(|n| *n <= width));
}

/// `M_ij = C_i A_i ⋯ A_{j+1} B_j` for i ≥ j, block by block.
fn dense_filter<E: Draw>(m: &FilterForm<E>, predictor: &Sss<E>) -> Array2<E> {
    let (rows, columns) = (predictor.row_offsets(), predictor.column_offsets());
    let mut dense = Array2::zeros((predictor.rows(), predictor.columns()));
    for i in 0..m.len() {
        for j in 0..=i {
            // The transitions of both forms are the same.
            let b = m.b_blocks().block(j).to_owned();
            let path = (j + 1..=i).fold(b, |path, k| product(&step(predictor, k), &path));
            let block = product(&m.c_blocks().block(i).to_owned(), &path);
            dense.slice_mut(ndarray::s![rows[i]..rows[i + 1], columns[j]..columns[j + 1]]).assign(&block);
        }
    }
    dense
}

fn filter<E: Draw>(sizes: &Sizes) -> FilterForm<E> {
    let (transition, b, _, _) = sizes.lower::<E>().into_parts();
    let mut random = Random::new(sizes.seed.wrapping_add(5));
    let n = &sizes.orders;
    let c = (0..sizes.len()).map(|k| array(sizes.outputs[k], n[k + 1], &mut random)).collect();
    FilterForm::new(n[0], transition, b, c).unwrap()
}

fn check_filter<E: Draw>(sizes: &Sizes) {
    let m = filter::<E>(sizes);
    let predictor = m.predictor();
    let dense = dense_filter(&m, &predictor);
    assert_close(&m.to_dense(), &dense, 1e-12);
    assert_close(&dense_lower(&predictor), &dense, 1e-12);
    assert_eq!(predictor.orders(), m.orders());
    let x = array(dense.ncols(), 2, &mut sizes.random());
    assert_close(&m.matmul(x.view()).unwrap(), &product(&dense, &x), 1e-12);
    let y = array(dense.nrows(), 2, &mut sizes.random());
    assert_close(&m.adjoint_matmul(y.view()).unwrap(), &product(&adjoint(&dense), &y), 1e-12);
    let back = FilterForm::from_predictor(&predictor, 1e-9).unwrap();
    assert_close(&back.to_dense(), &dense, 1e-7);
}

/// The covariance of all outputs from the definition: outputs as a linear map of all noise.
fn dense_covariance<E: Draw>(m: &StateSpace<E>, orders: &[usize]) -> Array2<E> {
    let len = m.output.len();
    let zero_d = (0..len).map(|k| (m.output.dims(k).0, m.noise.dims(k).0));
    // y = T w + O x_0 + v with T the lower matrix with inputs w.
    let identities: Blocks<E> = orders[1..].iter().map(|n| Array2::eye(*n)).collect();
    let t = Sss::new(m.transition.clone(), identities, m.output.clone(), Blocks::zeros(zero_d)).unwrap();
    let map = dense_lower(&t);
    let rows = map.nrows();
    let mut observe = Array2::zeros((rows, orders[0]));
    let (mut path, offsets) = (Array2::eye(orders[0]), t.row_offsets());
    for k in 0..len {
        let block = product(&m.output.block(k).to_owned(), &path);
        observe.slice_mut(ndarray::s![offsets[k]..offsets[k + 1], ..]).assign(&block);
        path = product(&step(&t, k), &path);
    }
    let diagonal = |blocks: &Blocks<E>| {
        let places = blocks.row_offsets();
        let size = places[len];
        let mut dense = Array2::zeros((size, size));
        for k in 0..len {
            let range = places[k]..places[k + 1];
            dense.slice_mut(ndarray::s![range.clone(), range]).assign(&blocks.block(k));
        }
        dense
    };
    let sandwich = |a: &Array2<E>, q: &Array2<E>| product(&product(a, q), &adjoint(a));
    sandwich(&map, &diagonal(&m.noise)) + sandwich(&observe, &m.initial) + diagonal(&m.output_noise)
}

fn check_covariance<E: Draw>(sizes: &Sizes) {
    let mut random = sizes.random();
    let (transition, _, output, _) = sizes.lower::<E>().into_parts();
    let mut square = |n: usize| {
        let root = array::<E>(n, n, &mut random);
        product(&root, &adjoint(&root))
    };
    let model = StateSpace {
        transition,
        noise: sizes.orders[1..].iter().map(|n| square(*n)).collect(),
        output,
        output_noise: sizes.outputs.iter().map(|q| square(*q)).collect(),
        initial: square(sizes.orders[0]),
    };
    let m = model.covariance().unwrap();
    assert_close(&dense_hermitian(&m), &dense_covariance(&model, &sizes.orders), 1e-11);
    assert_eq!(m.lower().orders(), sizes.orders);
    if sizes.len() == 0 {
        return;
    }
    let broken = StateSpace { initial: array(sizes.orders[0] + 1, 1, &mut random), ..model };
    assert!(matches!(broken.covariance(), Err(Error::Shape { tensor: "initial", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn banded_matrices_are_exact(len in 0usize..9, width in 0usize..4, above in 0usize..4, seed in any::<u64>()) {
        check_banded::<f64>(len, width, above, seed);
        check_banded::<C>(len, width, above, seed);
    }

    #[test]
    fn filter_forms_convert_both_ways(sizes in sizes(6)) {
        check_filter::<f64>(&sizes);
        check_filter::<C>(&sizes);
    }

    #[test]
    fn covariances_of_state_space_models_agree_with_the_definition(sizes in sizes(5)) {
        check_covariance::<f64>(&sizes);
        check_covariance::<C>(&sizes);
    }

    #[test]
    fn low_rank_matrices_are_exact(len in 0usize..8, rank in 0usize..4, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let (u, v) = (array::<C>(len, rank, &mut random), array::<C>(len, rank, &mut random));
        let dense = product(&u, &adjoint(&v));
        let m = Quasiseparable::from_low_rank(u.view(), v.view()).unwrap();
        assert_close(&dense_two_sided(&m), &dense, 1e-14);
        let lower = Array2::from_shape_fn((len, len), |(i, j)| if i < j { C::new(0.0, 0.0) } else { dense[[i, j]] });
        assert_close(&dense_lower(&Sss::from_low_rank(u.view(), v.view()).unwrap()), &lower, 1e-14);
        assert!(Sss::from_low_rank(u.view(), array(len, rank + 1, &mut random).view()).is_err());
    }

    #[test]
    fn scans_and_their_inverses_convert(len in 0usize..9, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let l = OneSemiseparable::new(random.vector(len)).unwrap();
        assert_close(&dense_lower(&Sss::from(&l)), &l.to_dense(), 1e-15);
        let m = Bidiagonal::new(random.vector(len), random.vector(len)).unwrap();
        assert_eq!(dense_lower(&Sss::from(&m)), m.to_dense());
    }

    #[test]
    fn two_sided_forms_of_triangular_matrices_are_the_same(sizes in sizes(6)) {
        let m = sizes.lower::<C>();
        let dense = dense_lower(&m);
        let two_sided = Quasiseparable::from(m.clone());
        assert_eq!(dense_two_sided(&two_sided), dense);
        let upper = Quasiseparable::from(Upper(m));
        assert_eq!(dense_two_sided(&upper), adjoint(&dense));
        let hermitian = sizes.hermitian::<C>();
        let dense = dense_hermitian(&hermitian);
        assert_eq!(dense_two_sided(&hermitian.into()), dense);
    }
}

#[test]
fn sums_of_exponentials_agree_with_the_formula_over_a_long_range() {
    let times = [0.0, 0.5, 0.5, 3.0, 700.0, 1500.0, 1500.25];
    let terms = [Exponential { weight: 2.0, rate: 0.3 }, Exponential { weight: -0.5, rate: 1.25 }];
    let kernel = |t: f64| terms.iter().map(|e| e.weight * (-e.rate * t).exp()).sum::<f64>();
    let m = Sss::from_exponentials(&times, &terms).unwrap();
    let lower = |i: usize, j: usize| if i < j { 0.0 } else { kernel(times[i] - times[j]) };
    let dense = Array2::from_shape_fn((7, 7), |(i, j)| lower(i, j));
    assert_close(&dense_lower(&m), &dense, 1e-15);
    let m = HermitianQuasiseparable::from_exponentials(&times, &terms).unwrap();
    let noise = [0.25; 7];
    let m = m.with_added_diagonal(&noise).unwrap();
    let dense = Array2::from_shape_fn((7, 7), |(i, j)| {
        kernel((times[i] - times[j]).abs()) + if i == j { 0.25 } else { 0.0 }
    });
    assert_close(&dense_hermitian(&m), &dense, 1e-15);
    assert!(m.with_added_diagonal(&noise[..6]).is_err());

    let oscillating = [Exponential { weight: C::new(1.0, 0.0), rate: C::new(0.1, 2.0) }];
    let m = Sss::from_exponentials(&times, &oscillating).unwrap();
    let entry = |t: f64| (-C::new(0.1, 2.0) * t).exp();
    let dense =
        Array2::from_shape_fn(
            (7, 7),
            |(i, j)| {
                if i < j { C::new(0.0, 0.0) } else { entry(times[i] - times[j]) }
            },
        );
    // e^(-λ t) turns two thousand times: its argument is known to 2e-13.
    assert_close(&dense_lower(&m), &dense, 1e-12);
    assert!(HermitianQuasiseparable::from_exponentials(&times, &oscillating).is_ok());
    let skew = [Exponential { weight: C::new(0.0, 1.0), rate: C::new(0.1, 0.0) }];
    assert!(matches!(HermitianQuasiseparable::from_exponentials(&times, &skew), Err(Error::Value { .. })));

    assert!(matches!(Sss::from_exponentials(&[1.0, 0.5], &terms), Err(Error::Value { tensor: "times", .. })));
    assert!(matches!(
        Sss::from_exponentials(&[0.0, f64::NAN], &terms),
        Err(Error::Value { tensor: "times", .. })
    ));
    let endless = [Exponential { weight: f64::INFINITY, rate: 1.0 }];
    assert!(matches!(Sss::from_exponentials(&times, &endless), Err(Error::Value { tensor: "terms", .. })));
}

#[test]
fn a_free_diagonal_without_a_filter_form_is_refused_by_step() {
    // The state after each step is u_k alone; y_1 = x_1 = u_0 cannot be read from it.
    let ones = Array2::ones((3, 1));
    let zeros = Transition::Scalar(Array1::zeros(3));
    let delay = Sss::uniform(zeros, ones.clone(), ones, array![1.0, 1.0, 1.0]).unwrap();
    let error = FilterForm::from_predictor(&delay, 1e-12).unwrap_err();
    assert!(error.to_string().contains("step 1"), "{error}");
    assert!(FilterForm::from_predictor(&delay, f64::NAN).is_err());
    assert!(FilterForm::from_predictor(&delay, -1.0).is_err());
}

#[test]
fn generators_that_do_not_fit_are_refused_by_tensor_and_step() {
    let blocks = |dims: &[(usize, usize)]| Blocks::<f64>::zeros(dims.iter().copied());
    let (b, c, d) = (blocks(&[(2, 1), (3, 2)]), blocks(&[(1, 0), (2, 2)]), blocks(&[(1, 1), (2, 2)]));
    let a = Transition::Dense(blocks(&[(2, 0), (3, 2)]));
    assert_eq!(Sss::new(a.clone(), b.clone(), c.clone(), d.clone()).unwrap().orders(), [0, 2, 3]);
    let says = |result: semisep::Result<Sss<f64>>, name: &str, step: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Shape { tensor, .. } if tensor == name), "{error}");
        assert!(error.to_string().contains(step), "{error} should say {step}");
    };
    let wrong = Transition::Dense(blocks(&[(2, 0), (2, 2)]));
    says(Sss::new(wrong, b.clone(), c.clone(), d.clone()), "a", "step 1");
    let wrong = Transition::Diagonal(blocks(&[(0, 1), (3, 1)]));
    says(Sss::new(wrong, b.clone(), c.clone(), d.clone()), "a", "step 1");
    says(Sss::new(Transition::Scalar(array![1.0]), b.clone(), c.clone(), d.clone()), "a", "2 steps");
    says(Sss::new(a.clone(), b.clone(), blocks(&[(1, 0), (2, 1)]), d.clone()), "c", "step 1");
    says(Sss::new(a.clone(), b.clone(), c.clone(), blocks(&[(1, 2), (2, 2)])), "d", "step 0");
    says(Sss::new(a.clone(), b.clone(), blocks(&[(1, 0)]), d.clone()), "c", "steps");
    let lower = Sss::new(a, b, c, d).unwrap();
    let narrow = Sss::new(
        Transition::Identity,
        blocks(&[(0, 1), (0, 1)]),
        blocks(&[(1, 0), (2, 0)]),
        blocks(&[(1, 1), (2, 1)]),
    );
    let error = Quasiseparable::new(lower, narrow.unwrap()).unwrap_err();
    assert!(error.to_string().contains("step 1"), "{error}");
    let skew = Sizes {
        inputs: vec![2],
        outputs: vec![2],
        orders: vec![0, 0],
        kind: Kind::Identity,
        growth: crate::support::ragged::Growth::Plain,
        seed: 3,
    };
    assert!(matches!(
        HermitianQuasiseparable::new(skew.lower::<f64>()),
        Err(Error::Value { tensor: "d", .. })
    ));
}
