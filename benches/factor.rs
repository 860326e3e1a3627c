//! Cholesky factorisations, solutions and likelihood gradients of matrices of numbers with diagonal transitions.
//!
//! The factorisation is timed in memory that is already there (`refactor`), as celerite2's is, solutions in place, and
//! the gradient both in memory that is already there and in new memory.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use semisep::matrix::sss::{HermitianQuasiseparable, LikelihoodMemory, Sss, Transition};

/// A sum of exponentials at random times, the covariance that celerite2 is made for.
fn covariance(len: usize, order: usize) -> HermitianQuasiseparable<f64> {
    let gap = |k: usize| 0.05 + 0.1 * ((k * 7919 % 1009) as f64 / 1009.0);
    let a = Array2::from_shape_fn((len, order), |(k, n)| (-gap(k + 1) * (0.1 + 0.05 * n as f64)).exp());
    let c = Array2::from_shape_fn((len, order), |(_, n)| 1.0 / (1.0 + n as f64));
    let b = &a * &Array2::from_elem((len, order), 1.0);
    let d = Array1::from_elem(len, 0.5 + c.row(0).sum());
    HermitianQuasiseparable::new(Sss::uniform(Transition::diagonal(a), b, c, d).expect("shapes agree"))
        .expect("the diagonal is real")
}

fn factor(c: &mut Criterion) {
    let mut group = c.benchmark_group("factor");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    for order in [2, 8, 16, 64] {
        for len in [100_000, 1_000_000] {
            if order == 64 && len > 100_000 {
                continue;
            }
            let m = covariance(len, order);
            let id = format!("order {order}, len {len}");
            group.throughput(Throughput::Elements(len as u64));
            let mut kept = Some(m.cholesky().expect("positive definite"));
            group.bench_function(BenchmarkId::new("cholesky", &id), |bencher| {
                bencher.iter(|| {
                    let factor = kept.take().expect("put back below");
                    kept = Some(factor.refactor(&m, m.diagonal_blocks()).expect("positive definite"));
                });
            });
            let factor = kept.expect("put back above");
            let mut x = Array2::from_elem((len, 1), 1.0);
            group.bench_function(BenchmarkId::new("solve", &id), |bencher| {
                bencher.iter(|| factor.ldl().solve_in_place(black_box(&mut x)).expect("shapes agree"));
            });
            if len == 100_000 {
                let y = Array2::from_shape_fn((len, 1), |(k, _)| (k as f64).sin());
                let mut memory = LikelihoodMemory::new();
                group.bench_function(BenchmarkId::new("gradient", &id), |bencher| {
                    bencher.iter(|| {
                        m.log_likelihood_vjp_in(y.view(), &mut memory).expect("positive definite").value
                    });
                });
                group.bench_function(BenchmarkId::new("gradient in new memory", &id), |bencher| {
                    bencher.iter(|| m.log_likelihood_vjp(y.view()).expect("positive definite"));
                });
            }
        }
    }
}

criterion_group!(benches, factor);
criterion_main!(benches);
