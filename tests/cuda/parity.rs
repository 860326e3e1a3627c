//! Every algorithm on a device against the CPU in f64, on the same rounded inputs. Without a device every test says so and
//! passes.
use crate::cases::{Case, Shape};
use crate::support::{Decay, HOSTILE, Rounded, assert_rows, device, errors, limit, refused};
use half::{bf16, f16};
use ndarray::{Array, Array3, Array4, Dimension, s};
use semisep::backend::cuda::{
    Cuda, CudaOutput, CudaSsd, CudaTensor, Device, Plan, Raw, StepRule, Steps, StepsGrad, Stored, Stream,
};
use semisep::ssd::{Algorithm, Diagonal, Discretization, Sequences, Squash};
use semisep::{DeviceError, Error};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Recurrent,
    Algorithm::Quadratic,
    Algorithm::Chunked { chunk: 20 },
    Algorithm::Chunked { chunk: 64 },
    Algorithm::Automatic,
];

/// The largest error accepted of products in tf32. Either operand is rounded to 11 bits, 2e-4 of a number in the mean, and what is
/// sought is one product of a product: 4e-4, as is found wherever there are many terms. Few terms that cancel, as with states of 5
/// numbers here, come to twice that.
const TF32_LIMIT: f64 = 1e-3;

/// One row of the table: what differs from a plain case.
fn row(len: usize, change: impl FnOnce(&mut Shape)) -> Shape {
    crate::support::row(len, |shape| {
        (shape.head_dim, shape.state_dim) = (4, 5);
        change(shape);
    })
}

/// Every algorithm on every row, with one decay.
fn check<T: Stored>(device: &Device, rows: &[Shape], decay: Decay, algorithms: &[Algorithm]) {
    let cuda = Cuda::<T>::on(Stream::new(device).unwrap());
    check_on(&cuda, limit::<T>, rows, decay, algorithms);
}

/// The blocks in f32 with products in tf32.
fn check_tf32(device: &Device, rows: &[Shape], decay: Decay) {
    let cuda = Cuda::<f32>::on(Stream::new(device).unwrap()).with_tf32();
    check_on(&cuda, |_| TF32_LIMIT, rows, decay, &[Algorithm::Chunked { chunk: 64 }]);
}

fn check_on<T: Stored>(
    cuda: &Cuda<T>,
    limit: impl Fn(&str) -> f64,
    rows: &[Shape],
    decay: Decay,
    algorithms: &[Algorithm],
) {
    for shape in rows {
        let case = Rounded::<T>::new(shape, decay);
        let expected = case.expected();
        for &how in algorithms {
            let found = case.found(cuda, how);
            for (name, error) in errors(&found, &expected) {
                let limit = limit(name);
                assert!(error <= limit, "{} {decay:?} {how:?} {shape:?}: {name} off by {error:e}", T::NAME);
            }
        }
    }
}

/// What a test computes in.
#[derive(Clone, Copy)]
enum Type {
    F64,
    F32,
    Tf32,
    F16,
    Bf16,
}

impl Type {
    fn check(self, rows: &[Shape], decay: Decay, algorithms: &[Algorithm]) {
        let Some(device) = device() else { return };
        match self {
            Self::F64 => check::<f64>(&device, rows, decay, algorithms),
            Self::F32 => check::<f32>(&device, rows, decay, algorithms),
            Self::Tf32 => check_tf32(&device, rows, decay),
            Self::F16 => check::<f16>(&device, rows, decay, algorithms),
            Self::Bf16 => check::<bf16>(&device, rows, decay, algorithms),
        }
    }
}

/// A test for each type, `name::f64` to `name::bf16`: each short enough for the slowest of the sanitizers.
macro_rules! in_every_type {
    ($(fn $name:ident($kind:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn run($kind: Type) $body

            #[test]
            fn f64() {
                run(Type::F64);
            }

            #[test]
            fn f32() {
                run(Type::F32);
            }

            #[test]
            fn tf32() {
                run(Type::Tf32);
            }

            #[test]
            fn f16() {
                run(Type::F16);
            }

            #[test]
            fn bf16() {
                run(Type::Bf16);
            }
        }
    )*};
}

in_every_type! {
    fn every_algorithm_agrees_with_the_cpu_for_few_and_for_no_positions(kind) {
        let mut rows: Vec<_> = [0, 1, 2, 31, 32, 33, 63, 64, 65].map(|len| row(len, |_| {})).into();
        rows.push(row(20, |s| s.batch = 0));
        kind.check(&rows, Decay::Mild, &ALGORITHMS);
    }

    fn every_algorithm_agrees_with_the_cpu_for_packed_sequences(kind) {
        let rows = [
            row(70, |s| s.cuts = vec![1, 2, 30, 69]),
            row(70, |s| (s.cuts, s.per_sequence) = (vec![1, 40], true)),
            row(33, |s| (s.cuts, s.batch, s.skip) = (vec![32], 3, 0)),
        ];
        kind.check(&rows, Decay::Mild, &ALGORITHMS);
    }

    fn every_algorithm_agrees_with_the_cpu_for_empty_sequences(kind) {
        let empty = |change: fn(&mut Shape)| {
            row(70, |s| {
                (s.batch, s.cuts) = (1, vec![0, 30, 30, 70]);
                change(s);
            })
        };
        let sized = |s: &mut Shape| (s.head_dim, s.state_dim) = (64, 64); // as the Hopper tier would have it
        let rows = [empty(|s| s.per_sequence = true), empty(|_| {}), empty(sized)];
        kind.check(&rows, Decay::Mild, &ALGORITHMS);
    }

    fn every_algorithm_agrees_with_the_cpu_for_groups_skips_and_a_free_diagonal(kind) {
        let rows = [
            row(40, |s| (s.groups, s.heads_per_group, s.skip) = (2, 3, 2)),
            row(40, |s| (s.groups, s.heads_per_group, s.skip) = (4, 1, 0)),
            row(70, |s| s.free_diagonal = true),
            row(70, |s| (s.groups, s.heads_per_group, s.batch) = (2, 9, 1)), // more heads than a block takes
        ];
        kind.check(&rows, Decay::Mild, &ALGORITHMS);
    }

    fn every_algorithm_agrees_with_the_cpu_for_hostile_decays(kind) {
        let rows = [row(100, |_| {})];
        for decay in HOSTILE {
            kind.check(&rows, decay, &ALGORITHMS);
        }
    }
}

fn wide(head_dim: usize, state_dim: usize) -> Shape {
    row(66, |s| (s.batch, s.head_dim, s.state_dim) = (1, head_dim, state_dim))
}

fn long(len: usize) -> Shape {
    row(len, |s| (s.batch, s.head_dim, s.state_dim) = (1, 64, 128))
}

/// Of the portable tier: two tiles of channels, the last one ragged; odd widths; the widest.
fn portable_widths() -> [Shape; 4] {
    [wide(80, 17), wide(1, 256), wide(24, 136), wide(256, 256)]
}

in_every_type! {
    fn every_algorithm_agrees_with_the_cpu_for_wide_heads_and_states(kind) {
        let algorithms = [Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }];
        kind.check(&[wide(64, 128)], Decay::Wide, &algorithms);
        match kind {
            Type::F64 => kind.check(&[wide(256, 256)], Decay::Wide, &algorithms),
            Type::F32 => kind.check(&[wide(80, 17), wide(1, 256)], Decay::Wide, &algorithms),
            Type::Tf32 | Type::F16 | Type::Bf16 => kind.check(&portable_widths(), Decay::Wide, &algorithms[1..]),
        }
    }

    fn every_algorithm_agrees_with_the_cpu_for_a_thousand_positions(kind) {
        kind.check(&[long(1000)], Decay::Mild, &ALGORITHMS);
        kind.check(&[long(1000)], Decay::Wide, &ALGORITHMS);
    }

    fn every_algorithm_agrees_with_the_cpu_for_long_sequences(kind) {
        kind.check(&[long(4097)], Decay::Mild, &ALGORITHMS);
        kind.check(&[long(4097)], Decay::Wide, &ALGORITHMS);
    }

    fn many_rows_agree_with_the_cpu(kind) {
        let rows = [row(130, |s| (s.batch, s.head_dim, s.state_dim) = (64, 64, 128))];
        kind.check(&rows, Decay::Mild, &[Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }]);
    }
}

#[test]
fn the_same_call_gives_the_same_bits_and_a_sequence_the_same_in_any_batch() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    check_bits(&Cuda::<f32>::on(stream.clone()));
    check_bits(&Cuda::<f32>::on(stream.clone()).with_tf32());
    check_bits(&Cuda::<f16>::on(stream.clone()));
    check_bits(&Cuda::<bf16>::on(stream));
}

fn check_bits<T: Stored + PartialEq>(cuda: &Cuda<T>) {
    let packed = row(90, |s| (s.batch, s.cuts, s.per_sequence) = (1, vec![20, 21], true));
    let case = Rounded::<T>::new(&packed, Decay::Mild);
    for how in ALGORITHMS.into_iter().filter(|how| *how != Algorithm::Automatic) {
        let [once, twice] = [0; 2].map(|_| case.found(cuda, how));
        assert_eq!(once, twice, "{} {how:?}", T::NAME);
        // The last sequence alone: the same slices as a case of their own.
        let alone = case.part(21..90, 2);
        let (out, grad) = alone.found(cuda, how);
        let part = s![.., 21.., .., ..];
        assert_eq!(out.y, once.0.y.slice(part), "{} {how:?}", T::NAME);
        assert_eq!(grad.x, once.1.x.slice(part), "{} {how:?}", T::NAME);
        assert_eq!(grad.b, once.1.b.slice(part), "{} {how:?}", T::NAME);
        assert_eq!(grad.log_a, once.1.log_a.slice(s![.., 21.., ..]), "{} {how:?}", T::NAME);
        assert_eq!(out.state, once.0.state.slice(s![2..3, .., .., ..]), "{} {how:?}", T::NAME);
    }
}

#[test]
fn products_round_to_tf32_only_where_that_is_asked_for() {
    let Some(device) = device() else { return };
    let exact = Cuda::<f32>::on(Stream::new(&device).unwrap());
    let fast = exact.clone().with_tf32();
    let case = Rounded::<f32>::new(&row(100, |_| {}), Decay::Mild);
    for (how, by_default, asked) in [
        (Algorithm::Automatic, Plan::Blocks { chunk: 64 }, Plan::Tf32),
        (Algorithm::Chunked { chunk: 20 }, Plan::Blocks { chunk: 20 }, Plan::Tf32),
        (Algorithm::Quadratic, Plan::Blocks { chunk: 100 }, Plan::Blocks { chunk: 100 }),
        (Algorithm::Recurrent, Plan::Recurrent, Plan::Recurrent),
    ] {
        assert_eq!(case.plan(&exact, how), by_default);
        assert_eq!(case.plan(&fast, how), asked);
        let [exact, fast] = [&exact, &fast].map(|cuda| case.found(cuda, how));
        assert_eq!(exact == fast, by_default == asked, "{how:?}");
    }
}

/// A batch twice, and some of its rows, by every algorithm whose bits do not depend on the batch.
fn check_rows<T: Stored + PartialEq>(cuda: &Cuda<T>) {
    let case = Rounded::<T>::new(&row(70, |s| s.batch = 64), Decay::Mild);
    for how in ALGORITHMS.into_iter().filter(|how| *how != Algorithm::Automatic) {
        let (out, grad) = case.found(cuda, how);
        assert_eq!(case.found(cuda, how), (out.clone(), grad.clone()), "{} {how:?}", T::NAME);
        for rows in [0..1, 63..64, 5..12, 0..33] {
            let part = case.rows(rows.clone()).found(cuda, how);
            assert_rows(&part.1, &grad, rows.clone());
            assert_eq!(part.0.y, out.y.slice(s![rows.clone(), .., .., ..]), "{} {how:?} {rows:?}", T::NAME);
            assert_eq!(part.0.state, out.state.slice(s![rows, .., .., ..]), "{} {how:?}", T::NAME);
        }
    }
}

in_every_type! {
    fn a_row_gets_the_same_bits_in_any_batch(kind) {
        let Some(device) = device() else { return };
        let stream = Stream::new(&device).unwrap();
        match kind {
            Type::F64 => check_rows(&Cuda::<f64>::on(stream)),
            Type::F32 => check_rows(&Cuda::<f32>::on(stream)),
            Type::Tf32 => check_rows(&Cuda::<f32>::on(stream).with_tf32()),
            Type::F16 => check_rows(&Cuda::<f16>::on(stream)),
            Type::Bf16 => check_rows(&Cuda::<bf16>::on(stream)),
        }
    }
}

#[test]
#[allow(unsafe_code)]
fn tensors_go_to_a_device_and_come_back() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let values = Array4::from_shape_fn((2, 3, 4, 5), |(a, b, c, d)| (a * 100 + b * 20 + c * 5 + d) as f32);
    let there = CudaTensor::upload(&stream, values.view()).unwrap();
    assert_eq!(there.download_as().unwrap(), values);
    let part = there.part(5, &[2, 3, 2, 5]).unwrap();
    assert_eq!(part.download_as().unwrap(), values.slice(s![.., .., 1..3, ..]));
    // SAFETY: the memory is that of `there`, which lives on.
    let borrowed = unsafe { CudaTensor::<f32>::borrow(&stream, *part.pointer(), &[2, 3, 10], 20) }.unwrap();
    assert_eq!(borrowed.download().unwrap().len(), 60);
    let permuted = CudaTensor::upload(&stream, values.view().permuted_axes([3, 1, 0, 2])).unwrap();
    assert_eq!(permuted.download_as().unwrap(), values.permuted_axes([3, 1, 0, 2]));
    let filled = CudaTensor::<bf16>::filled(&stream, &[3, 7], 1.5).unwrap();
    assert!(filled.download().unwrap().iter().all(|v| v.to_f32() == 1.5));
}

#[test]
fn raw_steps_are_discretised_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let case = Case::new(&row(300, |s| s.heads_per_group = 3));
    let (raw, a) = (case.dt.mapv(|v| 0.1 + v.abs()), ndarray::array![-1.0, -0.3, -40.0]);
    let bias = ndarray::array![0.5, -0.1, 0.0];
    let rule = Discretization::new(a.view()).bias(bias.view()).unwrap();
    for (squash, limits) in
        [(Squash::Softplus, (0.9, 1.4)), (Squash::Identity, (f64::NEG_INFINITY, f64::INFINITY))]
    {
        let rule = rule.clone().squash(squash).limits(limits.0, limits.1).unwrap();
        let (dt, log_a) = rule.apply(raw.view()).unwrap();
        let m = case.matrix();
        let m = semisep::ssd::Ssd::new(log_a.view(), dt.view(), case.b.view(), case.c.view())
            .unwrap()
            .with_skip(case.d.view())
            .map(|other| other.with_diagonal(Diagonal::Scores).with_sequences(m.sequences().clone()))
            .unwrap()
            .unwrap();
        let slope = m.vjp(case.x.view(), None, Algorithm::Recurrent, &case.cotangent).unwrap();
        let expected = rule.vjp(raw.view(), slope.dt.view(), slope.log_a.view()).unwrap();

        // The raw steps are a part of a wider tensor, as x, b and c are in a layer.
        let mut wide = Array3::<f64>::from_elem((2, 300, 10), f64::NAN);
        wide.slice_mut(s![.., .., 4..7]).assign(&raw);
        let wide = CudaTensor::upload(&stream, wide.view()).unwrap();
        let up = |v: &ndarray::Array1<f64>| CudaTensor::upload(&stream, v.view()).unwrap();
        let rule = StepRule::default().bias(up(&bias)).squash(squash);
        let steps = Steps::Raw {
            dt: Raw::Computed(wide.part(4, &[2, 300, 3]).unwrap()),
            a: up(&a),
            rule: rule.limits(limits.0, limits.1).unwrap(),
        };
        let up = |v: &Array4<f64>| CudaTensor::upload(&stream, v.view()).unwrap();
        let there = CudaSsd::new(steps, up(&case.b), up(&case.c)).unwrap();
        let there = there.with_skip(CudaTensor::upload(&stream, case.d.view()).unwrap()).unwrap();
        let cotangent = CudaOutput { y: up(&case.cotangent.y), state: up(&case.cotangent.state) };
        for how in [Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }] {
            let grad = there.vjp(&up(&case.x), None, how, &cotangent).unwrap();
            let StepsGrad::Raw { dt, a, bias } = grad.steps else { panic!("{:?}", grad.steps) };
            close("raw", dt, &expected.raw);
            close("A", a, &expected.a);
            close("bias", bias, &expected.bias);
            close("x", grad.x, &slope.x);
        }
    }
}

fn close<D: Dimension>(name: &str, found: CudaTensor<f64>, expected: &Array<f64, D>) {
    let error = crate::support::relative(found.download_as::<D>().unwrap().view(), expected.view());
    assert!(error < 1e-12, "{name}: {error:e}");
}

#[test]
#[allow(unsafe_code)]
fn bad_input_is_a_typed_error_before_anything_is_started() {
    let Some(device) = device() else { return };
    let (stream, other) = (Stream::new(&device).unwrap(), Stream::new(&device).unwrap());
    let f32s = |shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, 0.5).unwrap();
    let elsewhere = |shape: &[usize]| CudaTensor::<f32>::filled(&other, shape, 0.5).unwrap();
    // The same shape with gaps between rows, and at an address that is a multiple of 4 only.
    let gaps = |[a, b, c]: [usize; 3]| f32s(&[a, b, c + 4]).part(4, &[a, b, c]).unwrap();
    let odd = |shape: &[usize]| {
        let whole = f32s(&[shape.iter().product::<usize>() + 1]);
        let row = shape[shape.len().min(2)..].iter().product();
        // SAFETY: the tensor lies inside of `whole`, and no kernel gets it.
        unsafe { CudaTensor::<f32>::borrow(&stream, whole.pointer() + 4, shape, row) }.unwrap()
    };
    let given = |log_a, dt| Steps::<f32>::Given { log_a, dt };
    let steps = || given(f32s(&[2, 9, 4]), f32s(&[2, 9, 4]));
    let generator = || f32s(&[2, 9, 2, 5]);
    let new = |steps| CudaSsd::new(steps, generator(), generator());
    let raw = |dt, a, bias| {
        let rule = StepRule::default().bias(bias);
        new(Steps::Raw { dt: Raw::Computed(dt), a, rule })
    };
    let with = |b: &[usize], c: &[usize]| CudaSsd::new(steps(), f32s(b), f32s(c));
    for (name, found) in [
        ("dt", new(given(f32s(&[2, 9]), f32s(&[2, 9])))),
        ("dt", new(given(f32s(&[2, 9, 0]), f32s(&[2, 9, 0])))),
        ("dt", new(given(f32s(&[2, 9, 4]), gaps([2, 9, 4])))),
        ("dt", new(given(f32s(&[2, 9, 4]), elsewhere(&[2, 9, 4])))),
        ("log_a", new(given(f32s(&[2, 9, 3]), f32s(&[2, 9, 4])))),
        ("log_a", new(given(gaps([2, 9, 4]), f32s(&[2, 9, 4])))),
        ("log_a", new(given(elsewhere(&[2, 9, 4]), f32s(&[2, 9, 4])))),
        ("dt", raw(elsewhere(&[2, 9, 4]), f32s(&[4]), f32s(&[4]))),
        ("A", raw(f32s(&[2, 9, 4]), f32s(&[3]), f32s(&[4]))),
        ("A", raw(f32s(&[2, 9, 4]), elsewhere(&[4]), f32s(&[4]))),
        ("dt_bias", raw(f32s(&[2, 9, 4]), f32s(&[4]), f32s(&[1, 4]))),
        ("dt_bias", raw(f32s(&[2, 9, 4]), f32s(&[4]), elsewhere(&[4]))),
        ("b", with(&[2, 9, 3, 5], &[2, 9, 3, 5])),
        ("b", with(&[2, 8, 2, 5], &[2, 8, 2, 5])),
        ("b", with(&[2, 9, 2, 257], &[2, 9, 2, 257])),
        ("b", with(&[2, 9, 2, 0], &[2, 9, 2, 0])),
        ("b", with(&[2, 9, 0, 5], &[2, 9, 0, 5])),
        ("c", with(&[2, 9, 2, 5], &[2, 9, 2, 6])),
        ("c", CudaSsd::new(steps(), generator(), elsewhere(&[2, 9, 2, 5]))),
        ("dt", {
            let many = || f32s(&[1, 1, 65536]);
            CudaSsd::new(given(many(), many()), f32s(&[1, 1, 1, 5]), f32s(&[1, 1, 1, 5]))
        }),
    ] {
        assert_eq!(refused(found), name);
    }

    let m = new(steps()).unwrap();
    for (name, found) in [
        ("d", m.clone().with_skip(f32s(&[3, 1]))),
        ("d", m.clone().with_skip(f32s(&[4]))),
        ("d", m.clone().with_skip(f32s(&[4, 0]))),
        ("d", m.clone().with_skip(elsewhere(&[4, 1]))),
        ("d", m.clone().with_skip(odd(&[4, 1]))),
        ("sequences", m.clone().with_sequences(Sequences::whole(2, 8))),
    ] {
        assert_eq!(refused(found), name);
    }

    let (x, state, how) = (f32s(&[2, 9, 4, 3]), f32s(&[2, 4, 3, 5]), Algorithm::Automatic);
    let multiply = |x: &CudaTensor<f32>, initial, how| m.matmul(x, initial, how).map(drop);
    let into = |state: &CudaTensor<f32>, y: &CudaTensor<f32>| m.matmul_into(&x, state, y, how);
    let plan = |x: &CudaTensor<f32>, y: &CudaTensor<f32>| m.plan(how, x, y).map(drop);
    let vjp = |y: CudaTensor<f32>, state| m.vjp(&x, None, how, &CudaOutput { y, state }).map(drop);
    let narrow = m.clone().with_skip(f32s(&[4, 2])).unwrap();
    for (name, found) in [
        ("x", multiply(&f32s(&[2, 9, 3, 3]), None, how)),
        ("x", multiply(&f32s(&[2, 9, 4, 257]), None, how)),
        ("x", multiply(&f32s(&[2, 9, 4, 0]), None, how)),
        ("x", multiply(&f32s(&[2, 9, 12]), None, how)),
        ("x", multiply(&elsewhere(&[2, 9, 4, 3]), None, how)),
        ("chunk", multiply(&x, None, Algorithm::Chunked { chunk: 0 })),
        ("d", narrow.matmul(&x, None, how).map(drop)),
        ("initial_state", multiply(&x, Some(&f32s(&[2, 4, 5, 3])), how)),
        ("initial_state", multiply(&x, Some(&elsewhere(&[2, 4, 3, 5])), how)),
        ("initial_state", multiply(&x, Some(&odd(&[2, 4, 3, 5])), how)),
        ("initial_state", into(&f32s(&[1, 4, 3, 5]), &x)),
        ("y", into(&state, &f32s(&[2, 9, 4, 2]))),
        ("y", into(&state, &elsewhere(&[2, 9, 4, 3]))),
        ("x", plan(&f32s(&[2, 9, 3, 3]), &x)),
        ("y", plan(&x, &f32s(&[2, 9, 3, 3]))),
        ("dy", vjp(f32s(&[2, 9, 4, 2]), state.clone())),
        ("dy", vjp(elsewhere(&[2, 9, 4, 3]), state.clone())),
        ("dfinal_state", vjp(x.clone(), f32s(&[2, 4, 3, 4]))),
        ("dfinal_state", vjp(x.clone(), elsewhere(&[2, 4, 3, 5]))),
        ("dfinal_state", vjp(x.clone(), odd(&[2, 4, 3, 5]))),
        ("part", f32s(&[2, 9, 8]).part(6, &[2, 9, 4]).map(drop)),
        ("part", f32s(&[2, 9, 8]).part(0, &[2, 8, 4]).map(drop)),
        ("copy", x.copy_from(&f32s(&[2, 9, 4, 2]))),
        ("copy", x.copy_from(&elsewhere(&[2, 9, 4, 3]))),
        ("copy", gaps([2, 9, 4]).duplicate().map(drop)),
        ("download", x.download_as::<ndarray::Ix3>().map(drop)),
        // SAFETY: what is refused is not used.
        ("pitch", unsafe { CudaTensor::<f32>::borrow(&stream, 0, &[2, 9, 4], 3) }.map(drop)),
        // SAFETY: as above.
        ("pointer", unsafe { CudaTensor::<f32>::borrow(&stream, 2, &[2, 9, 4], 4) }.map(drop)),
        ("dt_limit", StepRule::<f32>::default().limits(0.2, 0.1).map(drop)),
        ("dt_limit", StepRule::<f32>::default().limits(f64::NAN, 0.1).map(drop)),
    ] {
        assert_eq!(refused(found), name);
    }
    let huge = CudaTensor::<f64>::filled(&stream, &[1 << 30, 1 << 20], 0.0).unwrap_err();
    assert!(matches!(huge, Error::Device(DeviceError::OutOfMemory { .. })), "{huge:?}");
}
