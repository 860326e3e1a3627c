//! Every algorithm on a device against the CPU in f64, on the same rounded inputs. Without a device every test says so and
//! passes.
#![cfg(feature = "cuda")]

mod cuda_support;
#[path = "support/ssd.rs"]
mod support;

use cuda_support::{Decay, Rounded, device, errors, limit};
use half::{bf16, f16};
use semisep::backend::cuda::{Cuda, CudaTensor, Device, Stored, Stream};
use semisep::ssd::Algorithm;
use support::Shape;

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Recurrent,
    Algorithm::Quadratic,
    Algorithm::Chunked { chunk: 20 },
    Algorithm::Chunked { chunk: 64 },
    Algorithm::Automatic,
];

/// One row of the table: what differs from a plain case.
fn row(len: usize, change: impl FnOnce(&mut Shape)) -> Shape {
    let mut shape = Shape {
        batch: 2,
        len,
        groups: 1,
        heads_per_group: 2,
        head_dim: 4,
        state_dim: 5,
        skip: 1,
        cuts: vec![],
        per_sequence: false,
        free_diagonal: false,
        seed: len as u64,
    };
    change(&mut shape);
    shape
}

/// Every algorithm on every row, with one decay.
fn check<T: Stored>(device: &Device, rows: &[Shape], decay: Decay, algorithms: &[Algorithm]) {
    let cuda = Cuda::<T>::on(Stream::new(device).unwrap());
    for shape in rows {
        let case = Rounded::<T>::new(shape, decay);
        let expected = case.expected();
        for &how in algorithms {
            let found = case.found(&cuda, how);
            for (name, error) in errors(&found, &expected) {
                let limit = limit::<T>(name);
                assert!(error <= limit, "{} {decay:?} {how:?} {shape:?}: {name} off by {error:e}", T::NAME);
            }
        }
    }
}

/// The same in every type.
fn check_types(rows: &[Shape], decay: Decay, algorithms: &[Algorithm]) {
    let Some(device) = device() else { return };
    check::<f64>(&device, rows, decay, algorithms);
    check::<f32>(&device, rows, decay, algorithms);
    check::<f16>(&device, rows, decay, algorithms);
    check::<bf16>(&device, rows, decay, algorithms);
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_few_and_for_no_positions() {
    let rows: Vec<_> = [0, 1, 2, 31, 32, 33, 63, 64, 65].map(|len| row(len, |_| {})).into();
    check_types(&rows, Decay::Mild, &ALGORITHMS);
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_packed_sequences() {
    let rows = [
        row(70, |s| s.cuts = vec![1, 2, 30, 69]),
        row(70, |s| (s.cuts, s.per_sequence) = (vec![1, 40], true)),
        row(33, |s| (s.cuts, s.batch, s.skip) = (vec![32], 3, 0)),
    ];
    check_types(&rows, Decay::Mild, &ALGORITHMS);
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_groups_skips_and_a_free_diagonal() {
    let rows = [
        row(40, |s| (s.groups, s.heads_per_group, s.skip) = (2, 3, 2)),
        row(40, |s| (s.groups, s.heads_per_group, s.skip) = (4, 1, 0)),
        row(70, |s| s.free_diagonal = true),
    ];
    check_types(&rows, Decay::Mild, &ALGORITHMS);
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_hostile_decays() {
    let rows = [row(100, |_| {})];
    for decay in [Decay::Wide, Decay::None, Decay::Strong, Decay::Alternating] {
        check_types(&rows, decay, &ALGORITHMS);
    }
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_wide_heads_and_states() {
    let wide =
        |head_dim, state_dim| row(66, |s| (s.batch, s.head_dim, s.state_dim) = (1, head_dim, state_dim));
    let rows = [wide(64, 128), wide(80, 17), wide(1, 256), wide(256, 256)];
    check_types(&rows, Decay::Wide, &[Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }]);
}

#[test]
fn every_algorithm_agrees_with_the_cpu_for_long_sequences() {
    let long = |len| row(len, |s| (s.batch, s.head_dim, s.state_dim) = (1, 64, 128));
    let rows = [long(1000), long(4097)];
    check_types(&rows, Decay::Mild, &ALGORITHMS);
    check_types(&rows, Decay::Wide, &ALGORITHMS);
}

#[test]
fn many_rows_agree_with_the_cpu() {
    let rows = [row(130, |s| (s.batch, s.head_dim, s.state_dim) = (64, 64, 128))];
    check_types(&rows, Decay::Mild, &[Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }]);
}

#[test]
fn the_same_call_gives_the_same_bits_and_a_sequence_the_same_in_any_batch() {
    let Some(device) = device() else { return };
    let cuda = Cuda::<f32>::on(Stream::new(&device).unwrap());
    let packed = row(90, |s| (s.batch, s.cuts, s.per_sequence) = (1, vec![20, 21], true));
    let case = Rounded::<f32>::new(&packed, Decay::Mild);
    for how in ALGORITHMS.into_iter().filter(|how| *how != Algorithm::Automatic) {
        let [once, twice] = [0; 2].map(|_| case.found(&cuda, how));
        assert_eq!(once, twice, "{how:?}");
        // The last sequence alone: the same slices as a case of their own.
        let alone = case.part(21..90, 2);
        let (out, grad) = alone.found(&cuda, how);
        let part = ndarray::s![.., 21.., .., ..];
        assert_eq!(out.y, once.0.y.slice(part), "{how:?}");
        assert_eq!(grad.x, once.1.x.slice(part), "{how:?}");
        assert_eq!(grad.b, once.1.b.slice(part), "{how:?}");
        assert_eq!(grad.log_a, once.1.log_a.slice(ndarray::s![.., 21.., ..]), "{how:?}");
        assert_eq!(out.state, once.0.state.slice(ndarray::s![2..3, .., .., ..]), "{how:?}");
    }
}

#[test]
#[allow(unsafe_code)]
fn tensors_go_to_a_device_and_come_back() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let values =
        ndarray::Array4::from_shape_fn((2, 3, 4, 5), |(a, b, c, d)| (a * 100 + b * 20 + c * 5 + d) as f32);
    let there = CudaTensor::upload(&stream, values.view()).unwrap();
    assert_eq!(there.download_as().unwrap(), values);
    let part = there.part(5, &[2, 3, 2, 5]).unwrap();
    assert_eq!(part.download_as().unwrap(), values.slice(ndarray::s![.., .., 1..3, ..]));
    // SAFETY: the memory is that of `there`, which lives on.
    let borrowed = unsafe { CudaTensor::<f32>::borrow(&stream, *part.pointer(), &[2, 3, 10], 20) }.unwrap();
    assert_eq!(borrowed.download().unwrap().len(), 60);
    let permuted = CudaTensor::upload(&stream, values.view().permuted_axes([3, 1, 0, 2])).unwrap();
    assert_eq!(permuted.download_as().unwrap(), values.permuted_axes([3, 1, 0, 2]));
    let filled = CudaTensor::<bf16>::filled(&stream, &[3, 7], 1.5).unwrap();
    assert!(filled.download().unwrap().iter().all(|v| v.to_f32() == 1.5));
}
