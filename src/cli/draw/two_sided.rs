//! Pictures of block semiseparable matrices.

use crate::error::Result;
use crate::matrix::Partition;
use crate::matrix::sss::{Quasiseparable, Sss, Tolerance};
use crate::picture::canvas::Canvas;
use crate::picture::{hankel, spy};

const LEN: usize = 200;
/// Singular values below this share of the largest are not counted.
const TOLERANCE: Tolerance = Tolerance::Relative(1e-8);

/// A smooth kernel of two scales on uneven points: of low rank beside its diagonal, not far from it.
fn kernel(i: usize, j: usize) -> f64 {
    let place = |i: usize| i as f64 + 3.0 * (i as f64 / 11.0).sin();
    let distance = (place(i) - place(j)).abs();
    let ahead = if i < j { 0.2 } else { 1.0 };
    ahead / (1.0 + (distance / 12.0).powi(2)) + (-distance / 3.0).exp()
}

/// Hankel singular values of the lower part of that kernel.
///
/// # Errors
/// None: entries are finite.
pub(super) fn draw_hankel() -> Result<Canvas> {
    let m = Sss::from_entries(LEN, &Partition::Equal(1), kernel, Tolerance::Relative(1e-15))?;
    Ok(hankel::draw(&m.spectrum, TOLERANCE))
}

/// Sizes of the entries of that kernel, by generators.
///
/// # Errors
/// None: entries are finite.
pub(super) fn draw_spy() -> Result<Canvas> {
    let m = Quasiseparable::from_entries(LEN, &Partition::Equal(1), kernel, TOLERANCE)?;
    spy::draw(&m.matrix)
}
