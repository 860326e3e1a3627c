//! Hostile numbers and bad input: finite answers stay finite, everything else is a typed error.

use crate::support::{Case, Shape, distance};
use ndarray::{Array1, Array2, Array3, Array4, array};
use semisep::Error;
use semisep::ssd::{Algorithm, Discretization, Grad, Kept, Output, Sequences, Squash, Ssd};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Quadratic,
    Algorithm::Recurrent,
    Algorithm::Chunked { chunk: 7 },
    Algorithm::Chunked { chunk: 64 },
    Algorithm::Automatic,
];

fn shape(len: usize) -> Shape {
    Shape {
        batch: 1,
        len,
        groups: 1,
        heads_per_group: 3,
        head_dim: 4,
        state_dim: 5,
        skip: 2,
        cuts: vec![],
        per_sequence: false,
        free_diagonal: false,
        seed: 3,
    }
}

/// Numbers that hurt: what is changed in an ordinary case.
fn hostile_cases() -> Vec<(&'static str, Case)> {
    let change = |name: &'static str, len: usize, change: fn(&mut Case)| {
        let mut case = Case::new(&shape(len));
        change(&mut case);
        (name, case)
    };
    vec![
        change("no decay", 100, |c| c.log_a.fill(0.0)),
        change("A = 0 and dt = 0", 40, |c| {
            c.log_a.fill(0.0);
            c.dt.fill(0.0);
        }),
        change("decay e^-10000 a step", 50, |c| c.log_a.fill(-1e4)),
        change("decay from none to e^-10000", 70, |c| {
            c.log_a
                .indexed_iter_mut()
                .for_each(|((_, t, h), v)| *v = -(10f64).powi((t as i32 + h as i32) % 14 - 9));
        }),
        change("alternating none and total decay", 60, |c| {
            c.log_a.indexed_iter_mut().for_each(|((_, t, _), v)| *v = if t % 2 == 0 { 0.0 } else { -1e4 });
        }),
        change("a slow slide into underflow", 300, |c| c.log_a.fill(-0.7)),
        change("one huge and one tiny x side by side", 30, |c| {
            c.x.indexed_iter_mut().for_each(|((_, t, ..), v)| {
                *v *= if t == 11 {
                    1e15
                } else if t == 12 {
                    1e-15
                } else {
                    1.0
                }
            });
        }),
        change("denormal x", 30, |c| c.x.mapv_inplace(|v| v * 1e-42)),
        change("denormal B and C", 30, |c| {
            c.b.mapv_inplace(|v| v * 1e-41);
            c.c.mapv_inplace(|v| v * 1e-3);
        }),
        change("one position", 1, |_| {}),
        change("no position", 0, |_| {}),
    ]
}

fn all_finite(out: &Output<f32>, grad: &Grad<f32>) -> bool {
    out.y.iter().chain(&out.state).all(|v| v.is_finite())
        && (grad.x.iter().chain(&grad.b).chain(&grad.c).chain(&grad.state)).all(|v| v.is_finite())
        && grad.log_a.iter().chain(&grad.dt).chain(grad.d.iter().flatten()).all(|v| v.is_finite())
}

#[test]
fn hostile_numbers_keep_double_precision_within_its_bound() {
    for (name, case) in hostile_cases() {
        let exact = case.by_definition();
        let judge = case.matrix().vjp(
            case.x.view(),
            Some(case.initial.view()),
            Algorithm::Recurrent,
            &case.cotangent,
        );
        let judge = judge.unwrap();
        for how in ALGORITHMS {
            let out = case.matrix().matmul(case.x.view(), Some(case.initial.view()), how).unwrap();
            assert!(distance(out.y.view(), exact.y.view()) < 1e-13, "{name}, {how:?}: y");
            assert!(distance(out.state.view(), exact.state.view()) < 1e-13, "{name}, {how:?}: state");
            let grad =
                case.matrix().vjp(case.x.view(), Some(case.initial.view()), how, &case.cotangent).unwrap();
            for (part, error) in [
                ("x", distance(grad.x.view(), judge.x.view())),
                ("b", distance(grad.b.view(), judge.b.view())),
                ("c", distance(grad.c.view(), judge.c.view())),
                ("dt", distance(grad.dt.view(), judge.dt.view())),
                ("log_a", distance(grad.log_a.view(), judge.log_a.view())),
                ("state", distance(grad.state.view(), judge.state.view())),
            ] {
                assert!(error < 1e-12, "{name}, {how:?}: gradient of {part} off by {error}");
            }
        }
    }
}

#[test]
fn hostile_numbers_keep_single_precision_finite_and_within_its_bound() {
    for (name, case) in hostile_cases() {
        let exact = case.by_definition();
        let low = |v: &f64| *v as f32;
        let (log_a, dt, d) = (case.log_a.map(low), case.dt.map(low), case.d.map(low));
        let (b, c, x, initial) = (case.b.map(low), case.c.map(low), case.x.map(low), case.initial.map(low));
        let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).unwrap().with_skip(d.view()).unwrap();
        let cotangent = Output { y: case.cotangent.y.map(low), state: case.cotangent.state.map(low) };
        for how in ALGORITHMS {
            let out = m.matmul(x.view(), Some(initial.view()), how).unwrap();
            let grad = m.vjp(x.view(), Some(initial.view()), how, &cotangent).unwrap();
            assert!(all_finite(&out, &grad), "{name}, {how:?}");
            let (y, state) = (out.y.mapv(f64::from), out.state.mapv(f64::from));
            assert!(distance(y.view(), exact.y.view()) < 1e-5, "{name}, {how:?}: y");
            assert!(distance(state.view(), exact.state.view()) < 1e-5, "{name}, {how:?}: state");
        }
    }
}

#[test]
fn pairs_that_overflow_above_the_diagonal_do_not_reach_the_gradient() {
    // x is huge late and dy huge early: the product of the two stands above the diagonal and counts for nothing.
    let (log_a, ones) = (Array3::<f32>::zeros((1, 8, 1)), Array4::<f32>::ones((1, 8, 1, 1)));
    let mut x = ones.clone();
    let mut dy = ones.clone();
    x[[0, 6, 0, 0]] = 1e30;
    dy[[0, 1, 0, 0]] = 1e30;
    let m = Ssd::with_unit_steps(log_a.view(), ones.view(), ones.view()).unwrap();
    let cotangent = Output { y: dy, state: Array4::zeros((1, 1, 1, 1)) };
    for how in ALGORITHMS {
        let out = m.matmul(x.view(), None, how).unwrap();
        assert!(all_finite(&out, &m.vjp(x.view(), None, how, &cotangent).unwrap()), "{how:?}");
    }
}

#[test]
fn softplus_and_its_slope_neither_overflow_nor_vanish_early() {
    let a = array![-1.0f64];
    let rule = Discretization::new(a.view()).squash(Squash::Softplus);
    let raw = array![[[-1e4f64], [-40.0], [0.0], [40.0], [1e4]]];
    let (dt, log_a) = rule.apply(raw.view()).unwrap();
    let expected = [0.0, (-40f64).exp(), 2f64.ln(), 40.0, 1e4];
    for (k, expected) in expected.into_iter().enumerate() {
        assert!((dt[[0, k, 0]] - expected).abs() <= 1e-15 * expected, "softplus of {}", raw[[0, k, 0]]);
        assert_eq!(log_a[[0, k, 0]], -dt[[0, k, 0]]);
    }
    let grad = rule.vjp(raw.view(), Array3::ones((1, 5, 1)).view(), Array3::zeros((1, 5, 1)).view()).unwrap();
    let slopes = [0.0, (-40f64).exp(), 0.5, 1.0, 1.0];
    for (k, slope) in slopes.into_iter().enumerate() {
        assert!((grad.raw[[0, k, 0]] - slope).abs() <= 1e-15, "slope at {}", raw[[0, k, 0]]);
    }
}

#[test]
fn the_gradient_of_the_discretisation_is_its_slope() {
    let (a, bias) = (array![-0.7f64, -0.1, 0.0], array![0.3f64, -0.4, 0.1]);
    let raw = Array3::from_shape_fn((2, 4, 3), |(b, t, h)| {
        (b as f64 * 1.7 + t as f64 * 0.9 + h as f64).sin() * 2.0
    });
    let weights = raw.mapv(|v| (5.0 * v).cos());
    for squash in [Squash::Identity, Squash::Softplus] {
        let loss = |raw: &Array3<f64>, a: &Array1<f64>, bias: &Array1<f64>| {
            let rule = Discretization::new(a.view()).squash(squash).limits(-0.5, 1.6).unwrap();
            let (dt, log_a) = rule.bias(bias.view()).unwrap().apply(raw.view()).unwrap();
            (&dt * &weights).sum() + (&log_a * &weights).sum() * 0.5
        };
        let rule = Discretization::new(a.view()).squash(squash).limits(-0.5, 1.6).unwrap();
        let rule = rule.bias(bias.view()).unwrap();
        let grad = rule.vjp(raw.view(), weights.view(), (&weights * 0.5).view()).unwrap();
        const STEP: f64 = 1e-6;
        for (at, &found) in grad.raw.indexed_iter() {
            let nudged = |by: f64| {
                let mut raw = raw.clone();
                raw[at] += by;
                loss(&raw, &a, &bias)
            };
            let slope = (nudged(STEP) - nudged(-STEP)) / (2.0 * STEP);
            assert!((slope - found).abs() < 1e-8, "{squash:?}: raw step at {at:?}: {found}, slope {slope}");
        }
        for h in 0..3 {
            let nudge = |v: &Array1<f64>, by: f64| {
                let mut v = v.clone();
                v[h] += by;
                v
            };
            let slope =
                (loss(&raw, &nudge(&a, STEP), &bias) - loss(&raw, &nudge(&a, -STEP), &bias)) / (2.0 * STEP);
            assert!((slope - grad.a[h]).abs() < 1e-8, "{squash:?}: A of head {h}");
            let slope =
                (loss(&raw, &a, &nudge(&bias, STEP)) - loss(&raw, &a, &nudge(&bias, -STEP))) / (2.0 * STEP);
            assert!((slope - grad.bias[h]).abs() < 1e-8, "{squash:?}: bias of head {h}");
        }
    }
}

/// The tensor or field that an error names.
fn named<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    match result {
        Err(Error::Shape { tensor, .. } | Error::Value { tensor, .. }) => tensor,
        Err(Error::Config { field, .. }) => field,
        other => panic!("expected an error that names a tensor or a field, found {other:?}"),
    }
}

#[test]
fn bad_input_is_an_error_that_names_the_tensor() {
    let (log_a, dt) = (Array3::<f64>::zeros((2, 5, 4)), Array3::<f64>::ones((2, 5, 4)));
    let (b, x) = (Array4::<f64>::ones((2, 5, 2, 3)), Array4::<f64>::ones((2, 5, 4, 6)));
    let new = |log_a: &Array3<f64>, dt: &Array3<f64>, b: &Array4<f64>, c: &Array4<f64>| {
        Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).map(|m| m.heads())
    };
    assert_eq!(named(new(&log_a, &Array3::ones((2, 5, 3)), &b, &b)), "dt");
    assert_eq!(named(new(&Array3::zeros((2, 5, 0)), &Array3::zeros((2, 5, 0)), &b, &b)), "log_a");
    assert_eq!(named(new(&log_a, &dt, &Array4::ones((2, 4, 2, 3)), &b)), "b");
    assert_eq!(named(new(&log_a, &dt, &Array4::ones((2, 5, 3, 3)), &b)), "b"); // 4 heads, 3 groups
    assert_eq!(named(new(&log_a, &dt, &Array4::ones((2, 5, 0, 3)), &b)), "b");
    assert_eq!(named(new(&log_a, &dt, &Array4::ones((2, 5, 2, 0)), &b)), "b");
    assert_eq!(named(new(&log_a, &dt, &b, &Array4::ones((2, 5, 2, 4)))), "c");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut spoilt = log_a.clone();
        spoilt[[1, 3, 2]] = bad;
        assert_eq!(named(new(&spoilt, &dt, &b, &b)), "log_a");
        assert_eq!(named(new(&log_a, &spoilt, &b, &b)), "dt");
        let a = array![0.0, 0.0, 0.0, bad];
        assert_eq!(named(Discretization::new(a.view()).apply(dt.view())), "A");
        assert_eq!(named(Discretization::new(log_a.slice(ndarray::s![0, 0, ..])).apply(spoilt.view())), "dt");
    }

    let m = Ssd::new(log_a.view(), dt.view(), b.view(), b.view()).unwrap();
    let how = Algorithm::Automatic;
    let wrong_x = Array4::ones((2, 5, 3, 6));
    assert_eq!(named(m.matmul(wrong_x.view(), None, how)), "x");
    assert_eq!(named(m.matmul(Array4::ones((2, 5, 4, 0)).view(), None, how)), "x");
    assert_eq!(named(m.matmul(x.view(), Some(Array4::ones((2, 4, 6, 2)).view()), how)), "initial_state");
    let into = |state: (usize, usize, usize, usize), y: (usize, usize, usize, usize)| {
        m.matmul_into(x.view(), Array4::ones(state).view_mut(), Array4::ones(y).view_mut(), how)
    };
    assert_eq!(named(into((1, 4, 6, 3), (2, 5, 4, 6))), "state");
    assert_eq!(named(into((2, 4, 6, 3), (2, 5, 4, 5))), "y");
    let mut kept = Kept::new(Algorithm::Chunked { chunk: 2 });
    let (mut state, mut y) = (Array4::zeros((2, 4, 6, 3)), x.clone());
    m.matmul_keeping(x.view(), state.view_mut(), y.view_mut(), &mut kept).unwrap();
    let other = Output { y: Array4::ones((2, 5, 4, 7)), state: Array4::zeros((2, 4, 7, 3)) };
    let mut grad = m.vjp(other.y.view(), None, how, &other).unwrap();
    assert_eq!(named(m.vjp_into(other.y.view(), None, &kept, &other, &mut grad)), "kept");
    grad.b = Array4::ones((2, 5, 1, 3));
    assert_eq!(named(m.vjp_into(other.y.view(), None, &Kept::new(how), &other, &mut grad)), "grad.b");
    assert_eq!(named(m.matmul(x.view(), None, Algorithm::Chunked { chunk: 0 })), "chunk");
    let three = Array2::ones((3, 1));
    assert_eq!(named(m.clone().with_skip(three.view()).map(|_| ())), "d");
    let wide = Array2::ones((4, 5));
    assert_eq!(named(m.clone().with_skip(wide.view()).unwrap().matmul(x.view(), None, how)), "d");
    let cotangent = |y: (usize, usize, usize, usize), state: (usize, usize, usize, usize)| Output {
        y: Array4::zeros(y),
        state: Array4::zeros(state),
    };
    assert_eq!(named(m.vjp(x.view(), None, how, &cotangent((2, 5, 4, 5), (2, 4, 6, 3)))), "dy");
    assert_eq!(named(m.vjp(x.view(), None, how, &cotangent((2, 5, 4, 6), (2, 4, 6, 2)))), "dfinal_state");

    assert_eq!(named(m.clone().with_sequences(Sequences::whole(2, 6)).map(|_| ())), "sequences");
    assert_eq!(named(Sequences::from_offsets(&[0, 3, 2, 5])), "offsets");
    assert_eq!(named(Sequences::from_offsets(&[1, 5])), "offsets");
    assert_eq!(named(Sequences::from_offsets(&[0])), "offsets");
    assert_eq!(named(Sequences::from_ids(array![[0, 1, 0]].view())), "seq_idx");
    let a = array![1.0, 2.0];
    assert_eq!(named(Discretization::new(a.view()).limits(2.0, 1.0).map(|_| ())), "dt_limit");
    assert_eq!(named(Discretization::new(a.view()).limits(f64::NAN, 1.0).map(|_| ())), "dt_limit");
    assert_eq!(named(Discretization::new(a.view()).bias(array![1.0].view()).map(|_| ())), "dt_bias");
}
