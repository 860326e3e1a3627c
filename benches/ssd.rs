//! The SSD operator: every algorithm forwards and backwards, and one token.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array3, Array4};
use semisep::ssd::{Algorithm, Kept, Ssd};

const HEADS: usize = 24;
const HEAD_DIM: usize = 64;
const STATE_DIM: usize = 128;

/// Numbers that look random and are always the same.
fn wave(k: usize) -> f32 {
    ((k as f32) * 0.7).sin()
}

fn operator(c: &mut Criterion) {
    let mut group = c.benchmark_group("ssd");
    group.sample_size(10);
    let cases = [
        ("quadratic", Algorithm::Quadratic, 256),
        ("recurrent", Algorithm::Recurrent, 2048),
        ("chunked", Algorithm::Chunked { chunk: Algorithm::CHUNK }, 2048),
    ];
    for (name, how, len) in cases {
        let mut k = 0;
        let mut next = || {
            k += 1;
            wave(k)
        };
        let log_a = Array3::from_shape_simple_fn((1, len, HEADS), || -next().abs());
        let dt = Array3::from_shape_simple_fn((1, len, HEADS), || next().abs());
        let b = Array4::from_shape_simple_fn((1, len, 1, STATE_DIM), &mut next);
        let c = Array4::from_shape_simple_fn((1, len, 1, STATE_DIM), &mut next);
        let x = Array4::from_shape_simple_fn((1, len, HEADS, HEAD_DIM), &mut next);
        let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).unwrap();
        let mut out = m.matmul(x.view(), None, how).unwrap();
        let (cotangent, mut kept) = (out.clone(), Kept::new(how));
        let mut grad = m.vjp(x.view(), None, how, &cotangent).unwrap();
        group.throughput(Throughput::Elements((4 * len * HEADS * HEAD_DIM * STATE_DIM) as u64));
        group.bench_function(BenchmarkId::new(format!("{name} forward"), len), |bench| {
            bench.iter(|| m.matmul_into(x.view(), out.state.view_mut(), out.y.view_mut(), how).unwrap())
        });
        group.bench_function(BenchmarkId::new(format!("{name} forward, keeping"), len), |bench| {
            bench.iter(|| {
                m.matmul_keeping(x.view(), out.state.view_mut(), out.y.view_mut(), &mut kept).unwrap()
            })
        });
        group.bench_function(BenchmarkId::new(format!("{name} backward"), len), |bench| {
            bench.iter(|| m.vjp_into(x.view(), None, &kept, &cotangent, &mut grad).unwrap())
        });
    }
    group.finish();
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("one token");
    for batch in [1, 64] {
        let log_a = Array3::from_elem((batch, 1, HEADS), -0.1f32);
        let b = Array4::from_elem((batch, 1, 1, STATE_DIM), 0.5f32);
        let x = Array4::from_elem((batch, 1, HEADS, HEAD_DIM), 0.5f32);
        let m = Ssd::with_unit_steps(log_a.view(), b.view(), b.view()).unwrap();
        let mut state = Array4::zeros((batch, HEADS, HEAD_DIM, STATE_DIM));
        let mut y = x.clone();
        group.throughput(Throughput::Bytes(2 * (state.len() * size_of::<f32>()) as u64));
        group.bench_function(BenchmarkId::new("recurrent", batch), |bench| {
            bench.iter(|| {
                m.matmul_into(x.view(), state.view_mut(), y.view_mut(), Algorithm::Recurrent).unwrap()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, operator, step);
criterion_main!(benches);
