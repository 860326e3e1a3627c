//! The operator at the size that is measured.

use std::hint::black_box;

use ndarray::{Array3, Array4, Dimension, ShapeBuilder};

use super::ceilings::Yardstick;
use super::clock::{Effort, Timed, beforehand, in_turn, seconds};
use super::memory;
use crate::error::Result;
use crate::scalar::{Real, real};
use crate::ssd::{Algorithm, Kept, Output, Ssd};

const HEADS: usize = 24;
const HEAD_DIM: usize = 64;
const STATE_DIM: usize = 128;

/// An algorithm and its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub name: &'static str,
    pub how: Algorithm,
}

/// What is measured over lengths.
pub(super) const ALGORITHMS: [Named; 3] = [
    Named { name: "chunked", how: Algorithm::Chunked { chunk: Algorithm::CHUNK } },
    Named { name: "recurrent", how: Algorithm::Recurrent },
    Named { name: "quadratic", how: Algorithm::Quadratic },
];

/// What one run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The product.
    Forward,
    /// The product and the cotangents of all inputs.
    Both,
}

impl Pass {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Both => "forward+backward",
        }
    }
}

/// Inputs and cotangents.
#[derive(Debug)]
pub(super) struct Problem<A: Real> {
    log_a: Array3<A>,
    dt: Array3<A>,
    b: Array4<A>,
    c: Array4<A>,
    x: Array4<A>,
}

/// Numbers between -1 and 1 that look random and are always the same (a linear congruential generator).
pub(super) fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

impl<A: Real> Problem<A> {
    pub(super) fn new(batch: usize, len: usize) -> Self {
        let mut next = noise(len as u64);
        let dt = Array3::from_shape_simple_fn((batch, len, HEADS), || real(0.05 + 0.04 * next()));
        let log_a = dt.mapv(|dt: A| -dt);
        let mut fill = |shape: (usize, usize, usize, usize)| filled(shape, &mut next);
        let b = fill((batch, len, 1, STATE_DIM));
        let c = fill((batch, len, 1, STATE_DIM));
        let x = fill((batch, len, HEADS, HEAD_DIM));
        Self { log_a, dt, b, c, x }
    }

    /// What the state needs: an outer product and a product with it at every position.
    pub(super) fn operations(&self, pass: Pass) -> f64 {
        let forward = 4.0 * (self.x.len() * STATE_DIM) as f64;
        match pass {
            Pass::Forward => forward,
            Pass::Both => 3.0 * forward, // two products more for each one
        }
    }

    /// Bytes of the states of all rows.
    pub(super) fn state_bytes(&self) -> f64 {
        (self.x.dim().0 * HEADS * HEAD_DIM * STATE_DIM * size_of::<A>()) as f64
    }

    /// Times one algorithm.
    pub(super) fn time(
        &self,
        how: Algorithm,
        pass: Pass,
        effort: Effort,
        yardstick: &mut Yardstick<A>,
    ) -> Result<Timed> {
        let m = Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view())?;
        let x = self.x.view();
        let state = (x.dim().0, HEADS, HEAD_DIM, STATE_DIM);
        let cotangent = match pass {
            Pass::Forward => None,
            Pass::Both => {
                let mut next = noise(7);
                Some(Output { y: filled(x.raw_dim(), &mut next), state: filled(state, &mut next) })
            }
        };
        // Memory is the caller's and used again, as in a training loop: what is timed is the work.
        let mut output = m.matmul(x, None, how)?;
        let mut grad = cotangent.as_ref().map(|cotangent| m.vjp(x, None, how, cotangent)).transpose()?;
        let mut kept = Kept::new(how);
        let mut run = || -> Result<()> {
            output.state.fill(A::zero());
            match (&cotangent, &mut grad) {
                (Some(cotangent), Some(grad)) => {
                    m.matmul_keeping(x, output.state.view_mut(), output.y.view_mut(), &mut kept)?;
                    m.vjp_into(x, None, &kept, cotangent, grad)?;
                }
                _ => m.matmul_into(x, output.state.view_mut(), output.y.view_mut(), how)?,
            }
            black_box((&output, &grad));
            Ok(())
        };
        let before = beforehand(|| yardstick.run());
        let mut first = 0.0;
        let mut outcome = Ok(());
        let ((), peak) = memory::peak_during(|| first = seconds(|| outcome = run()));
        outcome?;
        // What can be wrong was wrong at the first run, too.
        let (seconds, yardstick) = in_turn(effort, (first, before), || drop(run()), || yardstick.run());
        let extra = peak;
        Ok(Timed { seconds, yardstick, extra })
    }

    /// Times one token with the state in place.
    pub(super) fn time_step(&self, effort: Effort, yardstick: &mut Yardstick<A>) -> Result<Timed> {
        let m = Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view())?;
        let mut state = Array4::zeros((self.x.dim().0, HEADS, HEAD_DIM, STATE_DIM));
        let mut y = Array4::zeros(self.x.raw_dim());
        let mut run = || -> Result<()> {
            m.matmul_into(self.x.view(), state.view_mut(), y.view_mut(), Algorithm::Recurrent)?;
            black_box(&y);
            Ok(())
        };
        let before = beforehand(|| yardstick.run());
        run()?;
        let first = seconds(|| drop(run()));
        let (seconds, yardstick) = in_turn(effort, (first, before), || drop(run()), || yardstick.run());
        Ok(Timed { seconds, yardstick, extra: None })
    }
}

/// Why a row is not measured, if it is not.
pub(super) fn too_much<A: Real>(
    algorithm: &Named,
    pass: Pass,
    len: usize,
    threads: usize,
    expected: Option<f64>,
    effort: Effort,
) -> Option<String> {
    let tensors = match pass {
        Pass::Forward => 2,
        Pass::Both => 5,
    };
    let [len, threads, size] = [len, threads, size_of::<A>()].map(|n| n as u128); // no length overflows
    let mut bytes = tensors * len * (HEADS * HEAD_DIM) as u128 * size;
    if algorithm.name == "quadratic" {
        bytes += (1 + tensors) * threads * len * len * size;
    }
    if let Some(available) = memory::available().filter(|&a| bytes > u128::from(a / 2)) {
        let (need, have) = (bytes >> 20, available >> 20);
        return Some(format!("needs about {need} MiB, more than half of the {have} MiB at hand"));
    }
    let patience = if algorithm.name == "chunked" { 10.0 * effort.patience } else { effort.patience };
    let seconds = expected.filter(|&seconds| seconds > patience)?;
    Some(format!("would take about {seconds:.1} s a run, more than {patience:.1} s"))
}

fn filled<A: Real, D: Dimension>(
    shape: impl ShapeBuilder<Dim = D>,
    next: &mut impl FnMut() -> f64,
) -> ndarray::Array<A, D> {
    ndarray::Array::from_shape_simple_fn(shape, || real(next()))
}

#[cfg(test)]
mod tests {
    use super::{ALGORITHMS, Effort, Pass, too_much};

    #[test]
    fn no_length_is_too_long_to_be_judged() {
        for algorithm in ALGORITHMS {
            for len in [1, u32::MAX as usize] {
                let effort = Effort { budget: 1.0, patience: 1.0 };
                let reason = too_much::<f64>(&algorithm, Pass::Both, len, 64, Some(2.0 * len as f64), effort);
                assert!(len == 1 || reason.is_some(), "{}", algorithm.name);
            }
        }
    }
}
