//! What the machine can do at best: multiply matrices and copy memory.

use std::collections::BTreeMap;
use std::hint::black_box;

use indicatif::ProgressBar;
use ndarray::{Array2, Axis, s};

use super::Suite;
use super::clock::{median, seconds};
use super::problem::noise;
use crate::linalg::set_matmul;
use crate::parallel;
use crate::scalar::{Real, real};

/// Limits by thread count.
#[derive(Debug, Clone, Default)]
pub(super) struct Ceilings {
    /// Operations a second in f32.
    pub gemm_f32: BTreeMap<usize, f64>,
    /// Operations a second in f64.
    pub gemm_f64: BTreeMap<usize, f64>,
    /// Bytes read and written a second.
    pub copy: BTreeMap<usize, f64>,
}

impl Ceilings {
    /// Measures all three for the threads at hand.
    pub(super) fn measure(&mut self, suite: &Suite, threads: usize, bar: &ProgressBar) {
        bar.set_message(format!("matrix products and copies, {threads} threads"));
        self.gemm_f32.insert(threads, Yardstick::<f32>::product(suite.side, threads).rate());
        bar.inc(1);
        self.gemm_f64.insert(threads, Yardstick::<f64>::product(suite.side, threads).rate());
        bar.inc(1);
        self.copy.insert(threads, Yardstick::<f64>::copy(suite.copied).rate());
    }
}

/// Work that runs at a limit of the machine.
#[derive(Debug)]
pub(super) enum Yardstick<A> {
    /// `c = a b`, rows shared out to the threads.
    Product { a: Array2<A>, b: Array2<A>, c: Array2<A>, threads: usize },
    /// A copy, pieces shared out to the threads.
    Copy { from: Vec<A>, to: Vec<A> },
}

impl<A: Real> Yardstick<A> {
    /// Square matrices of this side.
    pub(super) fn product(side: usize, threads: usize) -> Self {
        let mut next = noise(side as u64);
        let mut matrix = || Array2::from_shape_simple_fn((side, side), || real(next()));
        Self::Product { a: matrix(), b: matrix(), c: Array2::zeros((side, side)), threads }
    }

    /// As many bytes as `numbers` f64 take.
    pub(super) fn copy(numbers: usize) -> Self {
        let numbers = numbers * size_of::<f64>() / size_of::<A>();
        Self::Copy { from: vec![A::one(); numbers], to: vec![A::zero(); numbers] }
    }

    /// Operations, or bytes read and written, in one run.
    pub(super) fn amount(&self) -> f64 {
        match self {
            Self::Product { a, .. } => 2.0 * (a.nrows() as f64).powi(3),
            Self::Copy { from, .. } => 2.0 * size_of_val(&from[..]) as f64,
        }
    }

    /// One run.
    pub(super) fn run(&mut self) {
        match self {
            Self::Product { a, b, c, threads } => {
                let rows = a.nrows().div_ceil(*threads).max(1);
                let panels = c.axis_chunks_iter_mut(Axis(0), rows).enumerate().collect();
                parallel::for_each(panels, |(k, c)| {
                    let first = k * rows;
                    set_matmul(c, a.slice(s![first..(first + rows).min(a.nrows()), ..]), b.view());
                });
                black_box(c);
            }
            Self::Copy { from, to } => {
                let piece = (from.len() / 32).max(1);
                let pieces = from.chunks(piece).zip(to.chunks_mut(piece)).collect();
                parallel::for_each(pieces, |(from, to): (&[A], &mut [A])| to.copy_from_slice(from));
                black_box(to);
            }
        }
    }

    /// The median of a few runs, as a rate.
    fn rate(&mut self) -> f64 {
        self.run();
        let mut times: Vec<_> = (0..7).map(|_| seconds(|| self.run())).collect();
        self.amount() / median(&mut times)
    }
}
