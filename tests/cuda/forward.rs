//! The product of the Hopper tier against the CPU in f64, on the same rounded inputs: on a device of that tier every test makes
//! sure that it serves, on another one what serves in its place is judged. Without a device every test says so and passes.
use crate::cases::Shape;
use crate::support::{Decay, HOSTILE, Rounded, device, limit, poison, row, widened, worst};
use half::{bf16, f16};
use ndarray::{Array4, Axis};
use num_traits::ToPrimitive;
use semisep::backend::cuda::{Cuda, CudaSsd, CudaTensor, Device, Plan, Steps, Stored, Stream};
use semisep::ssd::{Algorithm, Diagonal, Output, Sequences};

/// The device's product into memory that holds NaN, the states read and written in one place.
fn product<T: Stored>(cuda: &Cuda<T>, case: &Rounded<T>) -> Output<T> {
    case.assert_hopper(cuda);
    poison(cuda.stream());
    let x = CudaTensor::upload(cuda.stream(), case.x.view()).unwrap();
    let state = CudaTensor::upload(cuda.stream(), case.initial.view()).unwrap();
    let y = CudaTensor::<T>::filled(cuda.stream(), x.shape(), f64::NAN).unwrap();
    cuda.upload(&case.matrix()).unwrap().matmul_into(&x, &state, &y, Algorithm::Automatic).unwrap();
    Output { y: y.download_as().unwrap(), state: state.download_as().unwrap() }
}

fn check<T: Stored>(device: &Device, shape: &Shape, decay: Decay) {
    let cuda = Cuda::<T>::on(Stream::new(device).unwrap());
    let case = Rounded::<T>::new(shape, decay);
    let found = product(&cuda, &case);
    let (m, initial) = (case.case.matrix(), Some(case.case.initial.view()));
    let expected = m.matmul(case.case.x.view(), initial, Algorithm::Recurrent).unwrap();
    let state: Array4<f64> = found.state.map(|v| v.to_f64().unwrap());
    for (name, error) in
        [("y", worst(widened(&found.y), &expected.y, 2)), ("state", worst(state, &expected.state, 1))]
    {
        let limit = limit::<T>(name);
        assert!(error <= limit, "{} {decay:?} {shape:?}: {name} off by {error:e}", T::NAME);
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
fn products_agree_with_the_cpu_for_lengths_around_the_chunks() {
    check_types(&[5, 63, 64, 65, 127, 128, 1000].map(|len| row(len, |_| {})), Decay::Mild);
}

#[test]
fn products_agree_with_the_cpu_for_every_width_and_any_heads_and_groups() {
    let mut rows = Vec::new();
    for (head_dim, state_dim) in [(64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256)] {
        rows.push(row(130, |s| (s.head_dim, s.state_dim) = (head_dim, state_dim)));
        rows.push(row(70, |s| {
            (s.head_dim, s.state_dim, s.groups, s.heads_per_group) = (head_dim, state_dim, 2, 3);
            s.skip = 2;
        }));
    }
    rows.push(row(200, |s| (s.groups, s.heads_per_group, s.skip) = (8, 1, 0)));
    check_types(&rows, Decay::Mild);
}

#[test]
fn products_agree_with_the_cpu_for_packed_sequences() {
    let rows = [
        row(300, |s| s.cuts = vec![1, 2, 130, 299]),
        row(300, |s| (s.cuts, s.per_sequence) = (vec![64, 200], true)),
        row(130, |s| (s.cuts, s.per_sequence, s.state_dim) = (vec![1, 65], true, 256)),
    ];
    check_types(&rows, Decay::Mild);
}

#[test]
fn products_agree_with_the_cpu_for_hostile_decays() {
    for decay in HOSTILE {
        check_types(&[row(700, |s| s.batch = 1)], decay);
    }
}

#[test]
fn products_agree_with_the_cpu_where_rows_are_cut_into_segments() {
    let few = |s: &mut Shape| (s.batch, s.heads_per_group) = (1, 2);
    check_types(&[row(4097, few), row(700, few)], Decay::Mild);
    check_types(&[row(2000, few)], Decay::None);
}

#[test]
fn states_in_one_place_or_two_give_the_same_bits() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<bf16>::on(Stream::new(&device).unwrap());
    let case = Rounded::<bf16>::new(&row(1500, |s| s.batch = 1), Decay::Mild);
    let apart =
        case.matrix().on(&cuda).matmul(case.x.view(), Some(case.initial.view()), Algorithm::Automatic);
    assert_eq!(product(&cuda, &case), apart.unwrap());
}

#[test]
fn the_same_call_gives_the_same_bits_and_a_full_device_those_of_each_row() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<bf16>::on(Stream::new(&device).unwrap());
    let many = row(200, |s| (s.batch, s.heads_per_group) = (30, 10)); // 150 blocks: shares end inside rows
    let case = Rounded::<bf16>::new(&many, Decay::Mild);
    let [once, twice] = [0; 2].map(|_| product(&cuda, &case));
    assert_eq!(once, twice);
    for rows in [0..28, 3..30] {
        let out = product(&cuda, &case.rows(rows.clone()));
        assert_eq!(out.y, once.y.slice_axis(Axis(0), rows.clone().into()));
        assert_eq!(out.state, once.state.slice_axis(Axis(0), rows.into()));
    }
}

/// Few heads, which are cut into segments unless that is asked for.
#[test]
fn a_sequence_gets_the_same_bits_in_any_batch_alone_or_packed_where_that_is_asked_for() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<bf16>::on(Stream::new(&device).unwrap()).with_batch_invariance();
    let case = Rounded::<bf16>::new(&row(700, |s| s.batch = 20), Decay::Mild);
    let all = product(&cuda, &case);
    for rows in [0..1, 3..5, 7..20] {
        let out = product(&cuda, &case.rows(rows.clone()));
        assert_eq!(out.y, all.y.slice_axis(Axis(0), rows.clone().into()));
        assert_eq!(out.state, all.state.slice_axis(Axis(0), rows.into()));
    }
    let packed = row(2000, |s| (s.batch, s.cuts, s.per_sequence) = (1, vec![20, 150], true));
    let case = Rounded::<bf16>::new(&packed, Decay::Mild);
    let (all, alone) = (product(&cuda, &case), product(&cuda, &case.part(150..2000, 2)));
    assert_eq!(alone.y, all.y.slice_axis(Axis(1), (150..2000).into()));
    assert_eq!(alone.state, all.state.slice_axis(Axis(0), (2..3).into()));
}

#[test]
fn the_tier_is_chosen_by_device_type_widths_alignment_diagonal_and_sequences() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let hopper = |otherwise| if device.architecture().is_hopper() { Plan::Hopper } else { otherwise };
    check_plans::<bf16>(&stream, hopper(Plan::Portable), Plan::Portable);
    check_plans::<f16>(&stream, hopper(Plan::Portable), Plan::Portable);
    check_plans::<f32>(&stream, Plan::Blocks { chunk: 64 }, Plan::Blocks { chunk: 64 });
    check_plans::<f64>(&stream, Plan::Blocks { chunk: 64 }, Plan::Blocks { chunk: 64 });
}

/// The kernels that serve where everything is as the Hopper tier wants it, and where one thing is not.
fn check_plans<T: Stored>(stream: &Stream, served: Plan, otherwise: Plan) {
    let tensor = |shape: &[usize]| CudaTensor::<T>::filled(stream, shape, 0.5).unwrap();
    let generators = |state_dim| tensor(&[1, 70, 2, state_dim]);
    let matrix = |b: CudaTensor<T>, c: CudaTensor<T>| {
        let scalars = || CudaTensor::<T::Acc>::filled(stream, &[1, 70, 4], -0.5).unwrap();
        CudaSsd::new(Steps::Given { log_a: scalars(), dt: scalars() }, b, c).unwrap()
    };
    let plan =
        |m: &CudaSsd<T>, x: &CudaTensor<T>, y: &CudaTensor<T>| m.plan(Algorithm::Automatic, x, y).unwrap();
    let (wide, narrow) = ([1, 70, 4, 64], [1, 70, 2, 64]);
    let (x, m) = (tensor(&wide), matrix(generators(64), generators(64)));
    assert_eq!(plan(&m, &x, &x), served);
    // Rows that begin away from multiples of 16 bytes: all, or all but every eighth.
    let away = |[_, _, parts, columns]: [usize; 4]| {
        [(8, 1), (1, 0)].map(|(more, first)| {
            tensor(&[1, 70, parts * columns + more]).part(first, &[1, 70, parts, columns]).unwrap()
        })
    };
    for away in away(wide) {
        assert_eq!(plan(&m, &away, &x), otherwise);
        assert_eq!(plan(&m, &x, &away), otherwise);
    }
    for away in away(narrow) {
        assert_eq!(plan(&matrix(away.clone(), generators(64)), &x, &x), otherwise);
        assert_eq!(plan(&matrix(generators(64), away), &x, &x), otherwise);
    }
    for (state_dim, head_dim, expected) in [
        (128, 128, served),
        (256, 64, served),
        (32, 64, otherwise),
        (192, 64, otherwise),
        (64, 32, otherwise),
    ] {
        let x = tensor(&[1, 70, 4, head_dim]);
        assert_eq!(plan(&matrix(generators(state_dim), generators(state_dim)), &x, &x), expected);
    }
    assert_eq!(plan(&m.clone().with_diagonal(Diagonal::Free), &x, &x), otherwise);
    let empty = Sequences::from_offsets(&[0, 30, 30, 70]).unwrap();
    assert_eq!(plan(&m.with_sequences(empty).unwrap(), &x, &x), otherwise);
}
