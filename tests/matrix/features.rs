//! Feature maps against formulas written out.

use crate::support::{Random, assert_close, differences, inner};
use ndarray::{Array1, Array2, array};
use semisep::Error;
use semisep::matrix::attention::features::FeatureMap;

#[test]
fn feature_maps_agree_with_their_formulas() {
    let mut random = Random::new(1);
    let (len, n) = (4, 3);
    let x = random.matrix(len, n) * 2.0;
    let w = random.matrix(5, n);
    let check = |map: FeatureMap<f64>, formula: &dyn Fn(usize, usize) -> f64| {
        let y = map.apply(x.view()).unwrap();
        assert_eq!(y.dim(), (len, map.width(n)));
        assert_close(&y, &Array2::from_shape_fn(y.raw_dim(), |(t, i)| formula(t, i)), 1e-13);
    };
    check(FeatureMap::Identity, &|t, i| x[[t, i]]);
    check(FeatureMap::Swish, &|t, i| x[[t, i]] * (0.5 + 0.5 * (x[[t, i]] / 2.0).tanh()));
    check(FeatureMap::Relu, &|t, i| if x[[t, i]] > 0.0 { x[[t, i]] } else { 0.0 });
    check(FeatureMap::Exp, &|t, i| x[[t, i]].exp());
    check(FeatureMap::OnePlusElu, &|t, i| {
        let x = x[[t, i]];
        1.0 + if x > 0.0 { x } else { x.exp_m1() }
    });
    let project = |t: usize, i: usize| -> f64 { (0..n).map(|j| w[[i % 5, j]] * x[[t, j]]).sum() };
    check(FeatureMap::RandomFourier { w: w.clone() }, &|t, i| {
        let p = project(t, i);
        (if i < 5 { p.cos() } else { p.sin() }) / 5f64.sqrt()
    });
    check(FeatureMap::PositiveRandom { w: w.clone() }, &|t, i| {
        let (p, norm) = (project(t, i), (0..n).map(|j| x[[t, j]].powi(2)).sum::<f64>());
        (-norm / 2.0).exp() * (if i < 5 { p } else { -p }).exp() / 10f64.sqrt()
    });
    check(FeatureMap::Cosformer { first: 2, len: 9 }, &|t, i| {
        let angle = std::f64::consts::PI * (t + 2) as f64 / 18.0;
        x[[t, i % n]] * if i < n { angle.cos() } else { angle.sin() }
    });
    check(FeatureMap::Taylor, &|t, i| match i {
        0 => 1.0,
        1..=3 => x[[t, i - 1]],
        _ => x[[t, (i - 4) / 3]] * x[[t, (i - 4) % 3]] / 2f64.sqrt(),
    });
    let (scale, shift) = (random.vector(n), random.vector(n));
    let z = |t: usize, j: usize| {
        let mean = (0..n).map(|j| x[[t, j]]).sum::<f64>() / 3.0;
        let variance = (0..n).map(|j| (x[[t, j]] - mean).powi(2)).sum::<f64>() / 3.0;
        (x[[t, j]] - mean) / (variance + 1e-5).sqrt() * scale[j] + shift[j]
    };
    let map = FeatureMap::Polynomial { scale: scale.clone(), shift: shift.clone() };
    check(map, &|t, i| z(t, i / 3) * z(t, i % 3));
}

#[test]
fn feature_kernels_are_the_kernels_they_promise() {
    let (q, k) = (array![[0.3, -0.4, 0.2]], array![[0.5, 0.1, -0.3]]);
    let kernel = |map: &FeatureMap<f64>| -> f64 {
        (map.apply(q.view()).unwrap() * map.apply(k.view()).unwrap()).sum()
    };
    let product = (&q * &k).sum();
    let distance = (&q - &k).mapv(|v| v * v).sum();
    // 40000 features leave a standard error of about 0.005.
    let fourier = kernel(&FeatureMap::random_fourier(40_000, 3, 17));
    assert!((fourier - (-distance / 2.0).exp()).abs() < 0.02, "{fourier}");
    let positive = kernel(&FeatureMap::positive_random(40_000, 3, 17));
    assert!((positive - product.exp()).abs() < 0.02, "{positive}");
    let taylor = kernel(&FeatureMap::Taylor);
    assert!((taylor - (1.0 + product + product * product / 2.0)).abs() < 1e-14);
    assert_eq!(FeatureMap::<f64>::random_fourier(4, 3, 1), FeatureMap::random_fourier(4, 3, 1));
    assert_ne!(FeatureMap::<f64>::random_fourier(4, 3, 1), FeatureMap::random_fourier(4, 3, 2));
}

#[test]
fn every_vjp_of_a_feature_map_agrees_with_central_differences() {
    let mut random = Random::new(2);
    let (len, n) = (3, 4);
    let x = random.matrix(len, n) * 2.0;
    let maps = [
        FeatureMap::Identity,
        FeatureMap::Swish,
        FeatureMap::Relu,
        FeatureMap::Exp,
        FeatureMap::OnePlusElu,
        FeatureMap::random_fourier(3, n, 5),
        FeatureMap::positive_random(3, n, 5),
        FeatureMap::Cosformer { first: 1, len: 6 },
        FeatureMap::Taylor,
        FeatureMap::Polynomial { scale: random.vector(n), shift: random.vector(n) },
    ];
    let parameters = |map: &FeatureMap<f64>| -> Vec<f64> {
        match map {
            FeatureMap::RandomFourier { w } | FeatureMap::PositiveRandom { w } => w.iter().copied().collect(),
            FeatureMap::Polynomial { scale, shift } => scale.iter().chain(shift).copied().collect(),
            _ => Vec::new(),
        }
    };
    let rebuilt = |map: &FeatureMap<f64>, p: &[f64]| -> FeatureMap<f64> {
        let matrix = || Array2::from_shape_vec((3, n), p.to_vec()).unwrap();
        match map {
            FeatureMap::RandomFourier { .. } => FeatureMap::RandomFourier { w: matrix() },
            FeatureMap::PositiveRandom { .. } => FeatureMap::PositiveRandom { w: matrix() },
            FeatureMap::Polynomial { .. } => FeatureMap::Polynomial {
                scale: Array1::from(p[..n].to_vec()),
                shift: Array1::from(p[n..].to_vec()),
            },
            other => other.clone(),
        }
    };
    for map in maps {
        let dy = random.matrix(len, map.width(n));
        let (grad, dx) = map.vjp(x.view(), dy.view()).unwrap();
        let of_x = differences(
            |p| {
                let x = Array2::from_shape_vec((len, n), p.to_vec()).unwrap();
                inner(&map.apply(x.view()).unwrap(), &dy)
            },
            &x.iter().copied().collect::<Vec<_>>(),
        );
        assert_close(&dx, &of_x, 1e-7);
        let of_parameters =
            differences(|p| inner(&rebuilt(&map, p).apply(x.view()).unwrap(), &dy), &parameters(&map));
        assert_close(&parameters(&grad), &of_parameters, 1e-7);
        assert!(map.vjp(x.view(), Array2::zeros((len, 1)).view()).is_err());
        assert_eq!(map.apply(Array2::zeros((0, n)).view()).unwrap().dim(), (0, map.width(n)));
    }
}

#[test]
fn feature_maps_survive_extreme_inputs_and_reject_wrong_shapes() {
    let x = array![[0.0, -1e4, 1e4, -1e300], [0.0, 0.0, 0.0, 0.0]];
    for map in [FeatureMap::Swish, FeatureMap::Relu, FeatureMap::OnePlusElu] {
        let y: Array2<f64> = map.apply(x.view()).unwrap();
        let (_, dx) = map.vjp(x.view(), Array2::ones(x.raw_dim()).view()).unwrap();
        assert!(y.iter().chain(&dx).all(|v| v.is_finite()), "{map:?}");
    }
    let far = array![[30.0, -40.0, 50.0, 1.0]];
    let map = FeatureMap::positive_random(8, 4, 3);
    assert!(map.apply(far.view()).unwrap().iter().all(|v: &f64| v.is_finite()));
    let same = Array2::<f64>::from_elem((2, 4), 3.0);
    let (_, dx) = FeatureMap::polynomial(4).vjp(same.view(), Array2::ones((2, 16)).view()).unwrap();
    assert!(dx.iter().all(|v| v.is_finite()));
    assert!(matches!(map.apply(array![[1.0]].view()), Err(Error::Shape { tensor: "w", .. })));
    let map = FeatureMap::<f64>::polynomial(3);
    assert!(matches!(map.apply(far.view()), Err(Error::Shape { tensor: "scale", .. })));
    let map = FeatureMap::<f64>::Cosformer { first: 3, len: 3 };
    assert!(matches!(map.apply(far.view()), Err(Error::Config { field: "len", .. })));
}
