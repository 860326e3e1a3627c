//! That generators are finite: sweeps of others would never end well.

use super::{Blocks, Sss, Transition};
use crate::error::{Error, Result};
use crate::matrix::check::{self, is_finite};
use crate::scalar::Field;

/// All generators of a matrix.
pub(super) fn check_finite<E: Field>(m: &Sss<E>) -> Result<()> {
    check_blocks("b", m.b_blocks())?;
    check_blocks("c", m.c_blocks())?;
    check_blocks("d", m.d_blocks())?;
    check_transition(m.transition())
}

/// The numbers of a transition.
pub(super) fn check_transition<E: Field>(transition: &Transition<E>) -> Result<()> {
    match transition {
        Transition::Identity => Ok(()),
        Transition::Scalar(a) => check::finite("a", a.view()),
        Transition::Diagonal(a) | Transition::Dense(a) => check_blocks("a", a),
    }
}

/// The numbers of a row of matrices; the error names the step.
pub(super) fn check_blocks<E: Field>(tensor: &'static str, blocks: &Blocks<E>) -> Result<()> {
    let Some(position) = blocks.flat().iter().position(|v| !is_finite(*v)) else { return Ok(()) };
    let mut before = 0;
    let step = (0..blocks.len())
        .find(|k| {
            before += blocks.values(*k).len();
            before > position
        })
        .unwrap_or(0);
    let found = format!("{} at step {step}", blocks.flat()[position]);
    Err(Error::Value { tensor, expected: "finite numbers", found })
}
