//! Products with semiseparable matrices beside a copy that moves as many bytes.
//!
//! `column/multiply` over `column/copy` is the share of copy bandwidth: each generator, the input and the output
//! count once, and a copied number counts twice, once read and once written. Elements of `columns` are operations,
//! four for each number of the state, column and step, so that its rates are operations a second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use semisep::matrix::{Multiply, Partition, Sss, StructuredMatrix, Transition};

fn generators(len: usize, order: usize) -> Sss<f64> {
    let wave =
        |scale: f64| Array2::from_shape_fn((len, order), |(k, n)| (scale * (k * order + n) as f64).sin());
    let a = wave(0.3).mapv_into(|v| 0.9 + 0.1 * v);
    let d = Array1::from_shape_fn(len, |k| (k as f64).cos());
    Sss::uniform(Transition::diagonal(a), wave(0.7), wave(1.1), d).expect("shapes agree")
}

fn operand(len: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((len, columns), |(k, p)| (0.1 * (k * columns + p) as f64).sin())
}

fn column(c: &mut Criterion) {
    let mut group = c.benchmark_group("column");
    group.sample_size(15).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for order in [2, 8, 16, 64] {
        for len in [10_000, 100_000, 1_000_000] {
            let m = generators(len, order);
            let (x, mut y) = (operand(len, 1), operand(len, 1));
            group.throughput(Throughput::Elements(len as u64));
            let id = format!("order {order}, len {len}");
            group.bench_function(BenchmarkId::new("multiply", &id), |b| {
                b.iter(|| m.matmul_into(black_box(x.view()), y.view_mut()).expect("shapes agree"));
            });
            if len == 100_000 {
                group.bench_function(BenchmarkId::new("adjoint", &id), |b| {
                    b.iter(|| black_box(m.adjoint_matmul(x.view()).expect("shapes agree")));
                });
                group.bench_function(BenchmarkId::new("vjp", &id), |b| {
                    b.iter(|| black_box(m.vjp(x.view(), x.view()).expect("shapes agree")));
                });
            }
            let numbers = len * (3 * order + 3);
            let source = vec![1.0f64; numbers / 2];
            let mut target = vec![0.0f64; numbers / 2];
            group.bench_function(BenchmarkId::new("copy", &id), |b| {
                b.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)));
            });
        }
    }
}

fn columns(c: &mut Criterion) {
    let mut group = c.benchmark_group("columns");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    let len = 100_000;
    for order in [8, 16, 64] {
        let m = generators(len, order);
        for columns in [16, 64] {
            let (x, mut y) = (operand(len, columns), operand(len, columns));
            group.throughput(Throughput::Elements((4 * order * columns * len) as u64));
            let id = |name: &str| BenchmarkId::new(name, format!("order {order}, columns {columns}"));
            group.bench_function(id("in registers"), |b| {
                b.iter(|| m.matmul_into(black_box(x.view()), y.view_mut()).expect("shapes agree"));
            });
            for (name, how) in [
                ("recurrent", Multiply::Recurrent),
                ("blocks of 32", Multiply::Blocks(Partition::Equal(32))),
                ("blocks of 64", Multiply::Blocks(Partition::Equal(64))),
            ] {
                group.bench_function(id(name), |b| {
                    b.iter(|| black_box(m.multiply(x.view(), &how).expect("shapes agree")));
                });
            }
        }
    }
}

criterion_group!(benches, column, columns);
criterion_main!(benches);
