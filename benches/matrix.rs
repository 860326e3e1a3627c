//! Products with 1-semiseparable matrices: the product itself against a copy of as many bytes, and every scan.
//!
//! `cargo bench --bench matrix`. A row of the product moves three numbers: a and x are read, y is written.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use semisep::Result;
use semisep::matrix::scan::{
    associative, dilated, divide_and_conquer, matrix_factors, sequential, state_passing,
};
use semisep::matrix::{OneSemiseparable, StructuredMatrix};

const BYTES_PER_ROW: usize = 3 * size_of::<f64>();

fn transitions(len: usize) -> Array1<f64> {
    Array1::from_shape_fn(len, |t| 0.9 + 0.09 * (t as f64).sin())
}

fn product(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_semiseparable");
    for len in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Bytes((len * BYTES_PER_ROW) as u64));
        let source = vec![1.0f64; len * BYTES_PER_ROW / 16];
        let mut target = vec![0.0f64; source.len()];
        group.bench_function(BenchmarkId::new("copy_of_as_many_bytes", len), |bench| {
            bench.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)));
        });
        let l = OneSemiseparable::new(transitions(len)).expect("finite");
        let x = Array1::from_shape_fn(len, |t| (t as f64).cos());
        let mut y = Array1::zeros(len);
        group.bench_function(BenchmarkId::new("matvec_into", len), |bench| {
            bench.iter(|| black_box(&l).matvec_into(x.view(), black_box(&mut y).view_mut()));
        });
        group.bench_function(BenchmarkId::new("matvec", len), |bench| {
            bench.iter(|| black_box(&l).matvec(black_box(&x).view()));
        });
        let x = x.insert_axis(ndarray::Axis(1));
        group.bench_function(BenchmarkId::new("adjoint_matmul", len), |bench| {
            bench.iter(|| black_box(&l).adjoint_matmul(black_box(&x).view()));
        });
    }
    let (len, columns) = (20_000, 64);
    let l = OneSemiseparable::new(transitions(len)).expect("finite");
    let x = Array2::from_elem((len, columns), 1.0);
    group.throughput(Throughput::Bytes((2 * len * columns * size_of::<f64>()) as u64));
    group.bench_function("matmul_of_64_columns", |bench| bench.iter(|| l.matmul(black_box(&x).view())));
    group.finish();
}

type Scan = fn(ArrayView1<'_, f64>, ArrayView2<'_, f64>, Option<ArrayView1<'_, f64>>) -> Result<Array2<f64>>;

fn scans(c: &mut Criterion) {
    let every: [(&str, Scan); 6] = [
        ("sequential", sequential::scan),
        ("associative", associative::scan),
        ("dilated", dilated::scan),
        ("state_passing_256", |a, b, h| state_passing::scan(a, b, h, 256)),
        ("divide_and_conquer", divide_and_conquer::scan),
        ("matrix_factors", matrix_factors::scan),
    ];
    for columns in [1, 16] {
        let mut group = c.benchmark_group(format!("scan_of_{columns}_columns"));
        let len = 1_000_000 / columns;
        let (a, b) = (transitions(len), Array2::from_elem((len, columns), 1.0));
        group.throughput(Throughput::Bytes((len * (1 + 2 * columns) * size_of::<f64>()) as u64));
        for (name, scan) in every {
            group.bench_function(name, |bench| bench.iter(|| scan(a.view(), black_box(&b).view(), None)));
        }
        group.finish();
    }
}

criterion_group! {
    name = matrix;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2))
        .sample_size(20);
    targets = product, scans
}
criterion_main!(matrix);
