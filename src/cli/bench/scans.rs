//! Products of single long matrices against the bandwidth of memory.

use std::hint::black_box;

use indicatif::ProgressBar;
use ndarray::{Array1, Array2, Axis};

use super::ceilings::Yardstick;
use super::clock::{beforehand, in_turn, seconds};
use super::problem::noise;
use super::{Measured, Row, Suite, Unit};
use crate::error::Result;
use crate::matrix::{OneSemiseparable, Sss, Transition};

/// Order of the semiseparable matrix.
const ORDER: usize = 8;

/// The 1-semiseparable product and the semiseparable one with diagonal transitions, one column, in f64.
///
/// # Errors
/// None: the generators fit.
pub(super) fn rows(suite: &Suite, threads: usize, bar: &ProgressBar, measured: &mut Measured) -> Result<()> {
    let len = suite.scanned;
    let mut next = noise(3);
    let x = Array1::from_shape_simple_fn(len, &mut next);
    let mut y = Array1::zeros(len);

    bar.set_message(format!("1-semiseparable product, {threads} threads"));
    bar.inc(1);
    let m = OneSemiseparable::new(Array1::from_shape_simple_fn(len, || 0.95 + 0.05 * next()))?;
    let mut work = || drop(black_box(m.matvec_into(x.view(), y.view_mut())));
    let numbers = 3 * len; // a, x, y
    measured.rows.push(row("one-semiseparable product", (len, numbers), (suite, threads), &mut work));

    bar.set_message(format!("semiseparable product, {threads} threads"));
    bar.inc(1);
    let mut matrix = || Array2::from_shape_simple_fn((len, ORDER), || 0.5 + 0.45 * next());
    let (a, b, c) = (matrix(), matrix(), matrix());
    let m = Sss::uniform(Transition::diagonal(a), b, c, Array1::ones(len))?;
    let (x, mut y) = (x.insert_axis(Axis(1)), y.insert_axis(Axis(1)));
    let mut work = || drop(black_box(m.matmul_into(x.view(), y.view_mut())));
    let numbers = (3 * ORDER + 3) * len; // A, B, C, D, x, y
    measured.rows.push(row("semiseparable product, order 8", (len, numbers), (suite, threads), &mut work));
    Ok(())
}

fn row(
    name: &str,
    (len, numbers): (usize, usize),
    (suite, threads): (&Suite, usize),
    work: &mut dyn FnMut(),
) -> Row {
    let mut yardstick = Yardstick::<f64>::copy(suite.copied);
    let before = beforehand(|| yardstick.run());
    work();
    let first = seconds(&mut *work);
    let (seconds, copied) = in_turn(suite.effort, (first, before), work, || yardstick.run());
    Row {
        name: name.to_owned(),
        dtype: "f64",
        threads,
        len,
        seconds,
        unit: Unit::Bytes,
        rate: (numbers * size_of::<f64>()) as f64 / seconds,
        ceiling: yardstick.amount() / copied,
        extra: None,
        growth: None,
    }
}
