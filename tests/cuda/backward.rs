//! The vjp of the Hopper tier against the CPU in f64, on the same rounded inputs: on a device of that tier every test makes
//! sure that it serves, on another one what serves in its place is judged. Without a device every test says so and passes.
use crate::cases::{Numbers, Shape};
use crate::support::{Decay, HOSTILE, Rounded, assert_rows, device, errors, limit, relative, row, widened};
use half::{bf16, f16};
use ndarray::{Array1, Array3, Array4};
use num_traits::ToPrimitive;
use semisep::backend::cuda::{
    Cuda, CudaOutput, CudaSsd, CudaTensor, Device, Raw, StepRule, Steps, StepsGrad, Stored, Stream,
};
use semisep::ssd::{Algorithm, Discretization, Squash};

fn check<T: Stored>(device: &Device, shape: &Shape, decay: Decay) {
    check_case(device, &Rounded::<T>::new(shape, decay), &format!("{decay:?}"));
}

fn check_case<T: Stored>(device: &Device, case: &Rounded<T>, what: &str) {
    let cuda = Cuda::<T>::on(Stream::new(device).unwrap());
    case.assert_hopper(&cuda);
    let found = case.found(&cuda, Algorithm::Automatic);
    for (name, error) in errors(&found, &case.expected()) {
        let limit = limit::<T>(name);
        assert!(error <= limit, "{} {what} {:?}: {name} off by {error:e}", T::NAME, case.case.shape);
    }
}

/// Heads of sizes far apart, and inputs that are zero where their cotangents are large.
fn check_sizes<T: Stored>(device: &Device, shape: &Shape) {
    let scaled = |values: &Array4<T>, by: &dyn Fn(usize) -> f64| {
        let by = |h: usize| num_traits::cast::<f64, T::Acc>(by(h)).unwrap();
        Array4::from_shape_fn(values.dim(), |at| T::narrow(values[at].widen() * by(at.2)))
    };
    let changed = |x: &dyn Fn(usize) -> f64, dy: &dyn Fn(usize) -> f64, what| {
        let mut case = Rounded::<T>::new(shape, Decay::Mild);
        case.x = scaled(&case.x, x);
        case.cotangent.y = scaled(&case.cotangent.y, dy);
        case.case.x = widened(&case.x);
        case.case.cotangent.y = widened(&case.cotangent.y);
        check_case(device, &case, what);
    };
    changed(&|_| 0.0, &|_| 1000.0, "x is zero");
    changed(&|_| 1000.0, &|_| 0.0, "dy is zero");
    changed(&|h| 10f64.powi(2 - 2 * h as i32), &|_| 1.0, "x from 100 to 0.01");
    changed(
        &|h| if h == 1 { 0.0 } else { 1.0 },
        &|h| if h == 0 { 0.0 } else { 100.0 },
        "heads without x or dy",
    );
}

#[test]
fn cotangents_agree_with_the_cpu_where_heads_are_of_other_sizes_or_zero() {
    let Some(device) = device() else { return };
    for shape in
        [row(300, |s| s.heads_per_group = 3), row(300, |s| (s.state_dim, s.heads_per_group) = (256, 3))]
    {
        check_sizes::<bf16>(&device, &shape);
        check_sizes::<f16>(&device, &shape);
    }
}

fn check_types(rows: &[Shape], decay: Decay) {
    let Some(device) = device() else { return };
    for shape in rows {
        check::<bf16>(&device, shape, decay);
        check::<f16>(&device, shape, decay);
    }
}

#[test]
fn cotangents_agree_with_the_cpu_for_lengths_around_the_chunks() {
    check_types(&[65, 127, 128, 129, 257].map(|len| row(len, |_| {})), Decay::Mild);
}

#[test]
fn cotangents_agree_with_the_cpu_for_both_widths_of_the_state_groups_and_skips() {
    let rows = [
        row(200, |s| (s.state_dim, s.groups, s.heads_per_group) = (64, 2, 3)),
        row(200, |s| (s.groups, s.heads_per_group, s.skip) = (4, 1, 0)),
        row(200, |s| (s.batch, s.heads_per_group, s.skip) = (1, 5, 2)),
    ];
    check_types(&rows, Decay::Mild);
}

#[test]
fn cotangents_agree_with_the_cpu_where_a_block_has_many_heads_or_none() {
    let many = |s: &mut Shape| (s.batch, s.heads_per_group) = (1, 5);
    let rows = [
        row(4200, many),
        row(4200, |s| {
            many(s);
            s.cuts = vec![1000, 1001, 2300];
        }),
        row(4200, |s| {
            many(s);
            s.state_dim = 256;
        }),
        row(200, |s| (s.batch, s.heads_per_group) = (1, 9)),
    ];
    check_types(&rows, Decay::Wide);
}

#[test]
fn cotangents_agree_with_the_cpu_for_wide_heads_and_wide_states() {
    let rows = [
        row(200, |s| (s.head_dim, s.groups, s.heads_per_group, s.skip) = (128, 2, 3, 2)),
        row(200, |s| (s.head_dim, s.state_dim, s.cuts) = (128, 64, vec![1, 130])),
        row(200, |s| (s.state_dim, s.groups) = (256, 2)),
        row(300, |s| (s.state_dim, s.cuts, s.per_sequence) = (256, vec![64, 193], true)),
        row(300, |s| (s.head_dim, s.state_dim, s.groups, s.heads_per_group) = (128, 256, 2, 1)),
    ];
    check_types(&rows, Decay::Mild);
    let long = |s: &mut Shape| {
        (s.head_dim, s.state_dim, s.batch, s.heads_per_group) = (128, 256, 1, 1);
    };
    check_types(&[row(4200, long)], Decay::Wide);
}

#[test]
fn cotangents_agree_with_the_cpu_for_packed_sequences() {
    let rows = [
        row(300, |s| s.cuts = vec![1, 2, 130, 299]),
        row(300, |s| (s.cuts, s.per_sequence) = (vec![64, 200], true)),
    ];
    check_types(&rows, Decay::Mild);
}

#[test]
fn cotangents_agree_with_the_cpu_for_hostile_decays() {
    for decay in HOSTILE {
        check_types(&[row(1000, |s| s.batch = 1)], decay);
    }
}

#[test]
fn cotangents_agree_with_the_cpu_for_sequences_in_segments() {
    let long = |s: &mut Shape| (s.batch, s.heads_per_group) = (1, 1);
    check_types(&[row(4097, long), row(8300, long)], Decay::Mild);
}

#[test]
fn the_same_call_gives_the_same_bits_and_a_sequence_the_same_in_any_row() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<bf16>::on(Stream::new(&device).unwrap());
    let packed = row(400, |s| (s.batch, s.cuts, s.per_sequence) = (1, vec![20, 150], true));
    let case = Rounded::<bf16>::new(&packed, Decay::Mild);
    let [once, twice] = [0; 2].map(|_| case.found(&cuda, Algorithm::Automatic).1);
    assert_eq!(once, twice);
    let alone = case.part(150..400, 2).found(&cuda, Algorithm::Automatic).1;
    let part = ndarray::s![.., 150.., .., ..];
    assert_eq!(alone.x, once.x.slice(part));
    assert_eq!(alone.b, once.b.slice(part));
    assert_eq!(alone.c, once.c.slice(part));
    assert_eq!(alone.log_a, once.log_a.slice(ndarray::s![.., 150.., ..]));
    assert_eq!(alone.dt, once.dt.slice(ndarray::s![.., 150.., ..]));
}

#[test]
fn a_row_gets_the_same_bits_in_any_batch() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<bf16>::on(Stream::new(&device).unwrap());
    let case = Rounded::<bf16>::new(&row(200, |s| s.batch = 64), Decay::Mild);
    let (_, all) = case.found(&cuda, Algorithm::Automatic);
    for rows in [0..1, 63..64, 5..12, 0..33] {
        assert_rows(&case.rows(rows.clone()).found(&cuda, Algorithm::Automatic).1, &all, rows);
    }
}

/// Raw steps made on the device, as a part of a wider tensor, against the CPU's discretisation and product in f64.
fn check_raw<T: Stored>(device: &Device, len: usize, head_dim: usize) {
    let shape = row(len, |s| (s.batch, s.heads_per_group, s.head_dim) = (2, 4, head_dim));
    let case = Rounded::<T>::new(&shape, Decay::Mild);
    let mut numbers = Numbers::new(7);
    let narrow = |v: f64| num_traits::FromPrimitive::from_f64(v).unwrap();
    let raw = Array3::from_shape_simple_fn((2, len, 4), || -3.0 + 2.0 * numbers.draw());
    let raw: Array3<T::Acc> = raw.mapv(narrow);
    let a: Array1<T::Acc> = Array1::from_shape_simple_fn(4, || narrow(-0.5 - numbers.draw().abs()));
    let bias: Array1<T::Acc> = Array1::from_shape_simple_fn(4, || narrow(0.5 * numbers.draw()));
    let limits = (0.02, 0.15);

    let wide = |values: &Array1<T::Acc>| values.mapv(|v| v.to_f64().unwrap());
    let (a64, bias64) = (wide(&a), wide(&bias));
    let raw64 = raw.mapv(|v| v.to_f64().unwrap());
    let rule = Discretization::new(a64.view()).bias(bias64.view()).unwrap().squash(Squash::Softplus);
    let rule = rule.limits(limits.0, limits.1).unwrap();
    let (dt, log_a) = rule.apply(raw64.view()).unwrap();
    let reference = crate::cases::Case { dt, log_a, ..case.case.clone() };
    let initial = Some(reference.initial.view());
    let m = reference.matrix();
    let grad = m.vjp(reference.x.view(), initial, Algorithm::Recurrent, &reference.cotangent).unwrap();
    let expected = rule.vjp(raw64.view(), grad.dt.view(), grad.log_a.view()).unwrap();

    let stream = Stream::new(device).unwrap();
    let up = |values: &Array4<T>| CudaTensor::upload(&stream, values.view()).unwrap();
    let wider =
        Array3::from_shape_fn((2, len, 7), |(b, t, h)| if h < 4 { raw[[b, t, h]] } else { narrow(9.0) });
    let rule = StepRule::default().bias(CudaTensor::upload(&stream, bias.view()).unwrap());
    let steps = Steps::Raw {
        dt: Raw::Computed(CudaTensor::upload(&stream, wider.view()).unwrap().part(0, &[2, len, 4]).unwrap()),
        a: CudaTensor::upload(&stream, a.view()).unwrap(),
        rule: rule.squash(Squash::Softplus).limits(limits.0, limits.1).unwrap(),
    };
    let m = CudaSsd::new(steps, up(&case.b), up(&case.c)).unwrap();
    let m = m.with_skip(CudaTensor::upload(&stream, case.d.view()).unwrap()).unwrap();
    let state = |values: &Array4<T::Acc>| CudaTensor::upload(&stream, values.view()).unwrap();
    let cotangent = CudaOutput { y: up(&case.cotangent.y), state: state(&case.cotangent.state) };
    case.assert_hopper(&Cuda::on(stream.clone()));
    let found = m.vjp(&up(&case.x), Some(&state(&case.initial)), Algorithm::Automatic, &cotangent).unwrap();
    let StepsGrad::Raw { dt, a, bias } = found.steps else { unreachable!("the steps are raw") };
    let numbers = |tensor: &CudaTensor<T::Acc>| tensor.download().unwrap().mapv(|v| v.to_f64().unwrap());
    let (x, y) = (numbers(&a), numbers(&bias));
    for (name, error) in [
        ("draw", relative(numbers(&dt).view(), expected.raw.view().into_dyn())),
        ("dA", relative(x.view(), expected.a.view().into_dyn())),
        ("dbias", relative(y.view(), expected.bias.view().into_dyn())),
        ("dx", relative(widened(&found.x.download_as().unwrap()).view(), grad.x.view())),
    ] {
        let limit = limit::<T>(if name == "dx" { "dx" } else { "ddt" });
        assert!(error <= limit, "{} {len} {head_dim}: {name} off by {error:e}", T::NAME);
    }
}

#[test]
fn cotangents_of_raw_steps_agree_with_the_cpu() {
    let Some(device) = device() else { return };
    for (len, head_dim) in [(130, 64), (1000, 64), (130, 128)] {
        check_raw::<bf16>(&device, len, head_dim);
        check_raw::<f16>(&device, len, head_dim);
    }
}
