//! The selective scan against its definition entry by entry, central differences, and the SSD operator.

use crate::support::{Numbers, distance};
use half::bf16;
use ndarray::{Array1, Array2, Array3, Array4, Axis, concatenate, s};
use proptest::prelude::*;
use semisep::Error;
use semisep::ssd::{Algorithm, ScanOutput, SelectiveScan, Ssd};

/// Everything a scan takes, and a cotangent of what it gives.
#[derive(Debug, Clone)]
struct Case {
    dt: Array3<f64>,
    a: Array2<f64>,
    b: Array4<f64>,
    c: Array4<f64>,
    d: Array1<f64>,
    x: Array3<f64>,
    initial: Array3<f64>,
    cotangent: ScanOutput<f64>,
}

/// (batch, len, groups, channels in a group, state_dim)
type Sizes = (usize, usize, usize, usize, usize);

impl Case {
    fn new((batch, len, groups, per_group, state_dim): Sizes, seed: u64) -> Self {
        let mut n = Numbers::new(seed);
        let channels = groups * per_group;
        let io = (batch, len, channels);
        let generator = (batch, len, groups, state_dim);
        let state = (batch, channels, state_dim);
        Self {
            dt: Array3::from_shape_fn(io, |_| n.draw().abs()),
            a: Array2::from_shape_fn((channels, state_dim), |_| -2.0 * n.draw().abs()),
            b: Array4::from_shape_fn(generator, |_| n.draw()),
            c: Array4::from_shape_fn(generator, |_| n.draw()),
            d: Array1::from_shape_fn(channels, |_| n.draw()),
            x: Array3::from_shape_fn(io, |_| n.draw()),
            initial: Array3::from_shape_fn(state, |_| n.draw()),
            cotangent: ScanOutput {
                y: Array3::from_shape_fn(io, |_| n.draw()),
                state: Array3::from_shape_fn(state, |_| n.draw()),
            },
        }
    }

    fn matrix(&self) -> SelectiveScan<'_, f64> {
        SelectiveScan::new(self.dt.view(), self.a.view(), self.b.view(), self.c.view())
            .unwrap()
            .with_skip(self.d.view())
            .unwrap()
    }

    fn product(&self) -> ScanOutput<f64> {
        self.matrix().matmul(self.x.view(), Some(self.initial.view())).unwrap()
    }

    /// ⟨y, dy⟩ + ⟨state, dstate⟩
    fn loss(&self) -> f64 {
        let out = self.product();
        (&out.y * &self.cotangent.y).sum() + (&out.state * &self.cotangent.state).sum()
    }

    /// Every entry of every channel's matrix, from its formula: no recurrence.
    fn by_entries(&self) -> ScanOutput<f64> {
        let (batch, len, channels) = self.dt.dim();
        let (groups, state_dim) = (self.b.dim().2, self.a.ncols());
        let mut out =
            ScanOutput { y: Array3::zeros(self.x.raw_dim()), state: Array3::zeros(self.initial.raw_dim()) };
        for (row, k, n) in indices(batch, channels, state_dim) {
            let g = k / (channels / groups);
            let rate = self.a[[k, n]];
            let decay = |from: usize, to: usize| {
                (rate * self.dt.slice(s![row, from..to, k]).sum()).exp() // steps from .. to - 1
            };
            for t in 0..len {
                let seen: f64 = (0..=t)
                    .map(|s| {
                        decay(s + 1, t + 1)
                            * self.b[[row, s, g, n]]
                            * self.dt[[row, s, k]]
                            * self.x[[row, s, k]]
                    })
                    .sum();
                let start = decay(0, t + 1) * self.initial[[row, k, n]];
                out.y[[row, t, k]] += self.c[[row, t, g, n]] * (seen + start);
                if t + 1 == len {
                    out.state[[row, k, n]] = seen + start;
                }
            }
            if len == 0 {
                out.state[[row, k, n]] = self.initial[[row, k, n]];
            }
        }
        for ((row, t, k), y) in out.y.indexed_iter_mut() {
            *y += self.d[k] * self.x[[row, t, k]];
        }
        out
    }
}

fn indices(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1..3usize, 0..20usize, 1..3usize, 1..4usize, 1..4usize)
}

/// Central difference of the loss in every number of one input, against its cotangent.
fn check(
    name: &str,
    case: &Case,
    analytic: impl Iterator<Item = f64>,
    number: impl Fn(&mut Case, usize) -> &mut f64,
) {
    for (i, found) in analytic.enumerate() {
        let step = 1e-5;
        let mut side = [case.clone(), case.clone()];
        *number(&mut side[0], i) += step;
        *number(&mut side[1], i) -= step;
        let expected = (side[0].loss() - side[1].loss()) / (2.0 * step);
        let close = (found - expected).abs() < 1e-7 * (1.0 + expected.abs());
        assert!(close, "{name}[{i}]: {found} where differences give {expected}");
    }
}

macro_rules! check_field {
    ($case:expr, $grad:expr, $($field:ident),*) => {$(
        check(stringify!($field), $case, $grad.$field.iter().copied(), |case, i| {
            case.$field.iter_mut().nth(i).unwrap()
        });
    )*};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_scan_equals_its_entries(sizes in sizes(), seed in any::<u64>()) {
        let case = Case::new(sizes, seed);
        let (found, expected) = (case.product(), case.by_entries());
        prop_assert!(distance(found.y.view(), expected.y.view()) < 1e-13);
        prop_assert!(distance(found.state.view(), expected.state.view()) < 1e-13);
    }

    #[test]
    fn a_scan_cut_anywhere_gives_the_whole_if_the_state_is_carried(
        sizes in sizes(), seed in any::<u64>(), at in 0.0..1.0f64,
    ) {
        let case = Case::new(sizes, seed);
        let at = (at * (sizes.1 + 1) as f64) as usize;
        let part = |from: usize, to: usize, initial: &Array3<f64>| {
            let cut = s![.., from..to, ..];
            let (b, c) = (case.b.slice(s![.., from..to, .., ..]), case.c.slice(s![.., from..to, .., ..]));
            let m = SelectiveScan::new(case.dt.slice(cut), case.a.view(), b, c).unwrap();
            m.with_skip(case.d.view()).unwrap().matmul(case.x.slice(cut), Some(initial.view())).unwrap()
        };
        let first = part(0, at, &case.initial);
        let second = part(at, sizes.1, &first.state);
        let whole = case.product();
        let joined = concatenate(Axis(1), &[first.y.view(), second.y.view()]).unwrap();
        prop_assert_eq!(joined, whole.y);
        prop_assert_eq!(second.state, whole.state);
    }

    #[test]
    fn with_one_rate_a_channel_it_is_the_ssd_operator_with_a_head_for_each_channel(
        sizes in sizes(), seed in any::<u64>(),
    ) {
        let mut case = Case::new(sizes, seed);
        let rates = case.a.column(0).to_owned();
        case.a.columns_mut().into_iter().for_each(|mut column| column.assign(&rates));
        let log_a = &case.dt * &rates;
        let skip = case.d.view().insert_axis(Axis(1));
        let m = Ssd::new(log_a.view(), case.dt.view(), case.b.view(), case.c.view()).unwrap();
        let out = m.with_skip(skip).unwrap().matmul(
            case.x.view().insert_axis(Axis(3)),
            Some(case.initial.view().insert_axis(Axis(2))),
            Algorithm::Quadratic,
        ).unwrap();
        let found = case.product();
        prop_assert!(distance(found.y.view(), out.y.index_axis(Axis(3), 0)) < 1e-13);
        prop_assert!(distance(found.state.view(), out.state.index_axis(Axis(2), 0)) < 1e-13);
    }
}

#[test]
fn gradients_equal_central_differences() {
    for sizes in [(2, 5, 2, 2, 3), (1, 1, 1, 1, 1), (1, 3, 1, 3, 2)] {
        let case = Case::new(sizes, 7);
        let grad = case.matrix().vjp(case.x.view(), Some(case.initial.view()), &case.cotangent).unwrap();
        check_field!(&case, grad, dt, a, b, c, x);
        let d = grad.d.unwrap();
        check("d", &case, d.iter().copied(), |case, i| &mut case.d[i]);
        check("initial", &case, grad.state.iter().copied(), |case, i| {
            case.initial.iter_mut().nth(i).unwrap()
        });
    }
}

#[test]
fn gradients_of_long_scans_with_many_channels_equal_differences_along_a_direction() {
    let case = Case::new((2, 150, 2, 70, 2), 3); // more than two checkpoints, more than one block of channels
    let grad = case.matrix().vjp(case.x.view(), Some(case.initial.view()), &case.cotangent).unwrap();
    let way = Case::new((2, 150, 2, 70, 2), 4);
    let moved = |by: f64| {
        let mut there = case.clone();
        there.dt.scaled_add(by, &way.dt);
        there.a.scaled_add(by, &way.a);
        there.b.scaled_add(by, &way.b);
        there.c.scaled_add(by, &way.c);
        there.d.scaled_add(by, &way.d);
        there.x.scaled_add(by, &way.x);
        there.initial.scaled_add(by, &way.initial);
        there.loss()
    };
    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
    let found = (&grad.dt * &way.dt).sum()
        + (&grad.a * &way.a).sum()
        + (&grad.b * &way.b).sum()
        + (&grad.c * &way.c).sum()
        + (&grad.d.unwrap() * &way.d).sum()
        + (&grad.x * &way.x).sum()
        + (&grad.state * &way.initial).sum();
    assert!(
        (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
        "{found} where differences give {expected}"
    );
}

#[test]
fn short_storage_costs_only_the_rounding_of_inputs_and_outputs() {
    let case = Case::new((1, 50, 1, 3, 4), 5);
    let narrow = |v: &f64| bf16::from_f64(*v);
    let (b, c, x) = (case.b.map(narrow), case.c.map(narrow), case.x.map(narrow));
    let (dt, a) = (case.dt.mapv(|v| v as f32), case.a.mapv(|v| v as f32));
    let found =
        SelectiveScan::new(dt.view(), a.view(), b.view(), c.view()).unwrap().matmul(x.view(), None).unwrap();
    let wide = |v: &bf16| v.to_f64();
    let (b, c, x) = (b.map(wide), c.map(wide), x.map(wide));
    let (dt, a) = (dt.mapv(f64::from), a.mapv(f64::from));
    let exact =
        SelectiveScan::new(dt.view(), a.view(), b.view(), c.view()).unwrap().matmul(x.view(), None).unwrap();
    assert!(distance(found.y.map(wide).view(), exact.y.view()) < 4e-3);
    assert!(distance(found.state.mapv(f64::from).view(), exact.state.view()) < 1e-6);
}

#[test]
fn wrong_shapes_are_errors_that_name_the_tensor() {
    let case = Case::new((1, 4, 2, 2, 3), 1);
    let named = |found: Result<(), Error>, name: &str| match found {
        Err(Error::Shape { tensor, .. }) => assert_eq!(tensor, name),
        other => panic!("{other:?} where a shape error about {name} was due"),
    };
    let (dt, a, b, c) = (case.dt.view(), case.a.view(), case.b.view(), case.c.view());
    named(SelectiveScan::new(dt, a.slice(s![1.., ..]), b, c).map(|_| ()), "A");
    named(SelectiveScan::new(dt, a, b.slice(s![.., 1.., .., ..]), c).map(|_| ()), "b");
    named(SelectiveScan::new(dt, a, b, c.slice(s![.., .., 1.., ..])).map(|_| ()), "c");
    named(SelectiveScan::new(dt.slice(s![.., .., ..0]), a, b, c).map(|_| ()), "dt");
    let m = case.matrix();
    named(m.matmul(case.x.slice(s![.., .., 1..]), None).map(|_| ()), "x");
    named(m.matmul(case.x.view(), Some(case.initial.slice(s![.., .., 1..]))).map(|_| ()), "initial_state");
    let mut cotangent = case.cotangent.clone();
    cotangent.y = Array3::zeros((1, 3, 4));
    named(m.vjp(case.x.view(), None, &cotangent).map(|_| ()), "dy");
    let nan = Array3::from_elem((1, 4, 4), f64::NAN);
    assert!(matches!(SelectiveScan::new(nan.view(), a, b, c), Err(Error::Value { tensor: "dt", .. })));
}
