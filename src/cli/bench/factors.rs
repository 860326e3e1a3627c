//! Rows of `semisep bench --suite matrix`: factorisation and solution of matrices of numbers with diagonal transitions.
//!
//! The factorisation and its derivative count 4 N² operations a step, against a matrix product; the two triangular
//! solutions move six numbers of each state a step, against a copy.

use std::hint::black_box;

use indicatif::ProgressBar;
use ndarray::{Array1, Array2};

use super::matrices::{Amount, ORDERS, growth, operand, timed};
use super::problem::noise;
use super::{Measured, Suite};
use crate::error::Result;
use crate::matrix::sss::{HermitianQuasiseparable, LikelihoodMemory, Sss, Transition};

/// How often the bar moves.
pub(super) const STEPS: usize = 2 * ORDERS.len();

/// Everything of this part.
///
/// # Errors
/// None: the matrices are positive definite.
pub(super) fn rows(suite: &Suite, bar: &ProgressBar, measured: &mut Measured) -> Result<()> {
    for order in ORDERS {
        let (mut shorter, mut shorter_solved) = (None, None);
        for len in [suite.scanned / 10, suite.scanned] {
            bar.set_message(format!("Cholesky, order {order}, length {len}"));
            bar.inc(1);
            let m = covariance(order, len)?;
            let mut factor = m.cholesky().ok();
            let mut work = || {
                // The factor is consumed by the next and gives it its memory.
                factor = factor.take().and_then(|factor| factor.refactor(&m, m.diagonal_blocks()).ok());
            };
            let operations = Amount::Operations(4 * order * order * len);
            let mut row = timed(suite, format!("Cholesky, order {order}"), len, operations, &mut work);
            row.growth = growth(shorter, &row);
            shorter = Some((len, row.seconds));
            measured.rows.push(row);

            let Some(factor) = factor else { continue };
            let mut x = operand(len, 1);
            let mut work = || drop(black_box(factor.ldl().solve_in_place(&mut x)));
            let name = format!("two triangular solutions, order {order}");
            let mut row = timed(suite, name, len, Amount::Bytes((6 * order + 5) * len), &mut work);
            row.growth = growth(shorter_solved, &row);
            shorter_solved = Some((len, row.seconds));
            measured.rows.push(row);
            drop(factor);
            if len < suite.scanned {
                let y = operand(len, 1);
                let mut memory = LikelihoodMemory::new();
                let mut work = || {
                    let _ = black_box(m.log_likelihood_vjp_in(y.view(), &mut memory));
                };
                let name = format!("gradient of a likelihood, order {order}");
                measured.rows.push(timed(suite, name, len, operations, &mut work));
            }
        }
    }
    Ok(())
}

/// The covariance of a sum of exponentials at random times, with noise.
fn covariance(order: usize, len: usize) -> Result<HermitianQuasiseparable<f64>> {
    let mut next = noise(11);
    let gaps = Array1::from_shape_simple_fn(len, || 0.1 + 0.05 * next());
    let a = Array2::from_shape_fn((len, order), |(k, n)| (-gaps[k] * (0.1 + 0.05 * n as f64)).exp());
    let c = Array2::from_shape_fn((len, order), |(_, n)| 1.0 / (1.0 + n as f64));
    let d = Array1::from_elem(len, 0.5 + c.row(0).sum());
    HermitianQuasiseparable::new(Sss::uniform(Transition::diagonal(a.clone()), a, c, d)?)
}
