//! `semisep bench --suite matrix`: semiseparable matrices on one thread, in f64.
//!
//! Rows with a rate in bytes count generators, inputs and outputs once, against a copy; rows with operations count four
//! for each number of the state, column and step, against a matrix product.

use std::hint::black_box;

use indicatif::ProgressBar;
use ndarray::{Array1, Array2};

use super::ceilings::Yardstick;
use super::clock::{beforehand, in_turn, seconds};
use super::problem::noise;
use super::{Measured, Row, Suite, Unit};
use crate::error::Result;
use crate::matrix::{OneSemiseparable, Sss, Transition};

/// Orders that are measured.
pub(super) const ORDERS: [usize; 4] = [2, 8, 16, 64];

/// Columns of the products with many.
const COLUMNS: usize = 64;

/// How often the bar moves.
pub(super) const STEPS: usize = 2 + 3 * ORDERS.len();

/// Everything of the suite.
///
/// # Errors
/// None: the generators fit.
pub(super) fn rows(suite: &Suite, bar: &ProgressBar, measured: &mut Measured) -> Result<()> {
    let lens = [suite.scanned / 10, suite.scanned];
    one_semiseparable(suite, bar, measured)?;
    for order in ORDERS {
        let mut shorter = None;
        for len in lens {
            bar.set_message(format!("product, order {order}, length {len}"));
            bar.inc(1);
            let m = generators(order, len)?;
            let (x, mut y) = (operand(len, 1), operand(len, 1));
            let mut work = || drop(black_box(m.matmul_into(x.view(), y.view_mut())));
            let name = format!("product, order {order}");
            let mut row = timed(suite, name, len, Amount::Bytes((3 * order + 3) * len), &mut work);
            row.growth = growth(shorter, &row);
            shorter = Some((len, row.seconds));
            measured.rows.push(row);
        }
        let len = lens[0];
        bar.set_message(format!("product with {COLUMNS} columns, order {order}, length {len}"));
        bar.inc(1);
        let m = generators(order, len)?;
        let (x, mut y) = (operand(len, COLUMNS), operand(len, COLUMNS));
        let mut work = || drop(black_box(m.matmul_into(x.view(), y.view_mut())));
        let name = format!("product, order {order}, {COLUMNS} columns");
        let operations = Amount::Operations(4 * order * COLUMNS * len);
        measured.rows.push(timed(suite, name, len, operations, &mut work));
    }
    Ok(())
}

/// The product of order 1, in cache and from memory: calls of as many rows together.
fn one_semiseparable(suite: &Suite, bar: &ProgressBar, measured: &mut Measured) -> Result<()> {
    for len in [suite.scanned / 100, suite.scanned] {
        bar.set_message(format!("1-semiseparable product, length {len}"));
        bar.inc(1);
        let mut next = noise(3);
        let m = OneSemiseparable::new(Array1::from_shape_simple_fn(len, || 0.95 + 0.05 * next()))?;
        let x = Array1::from_shape_simple_fn(len, &mut next);
        let mut y = Array1::zeros(len);
        let calls = suite.scanned / len;
        let mut work = || (0..calls).for_each(|_| drop(black_box(m.matvec_into(x.view(), y.view_mut()))));
        let bytes = Amount::Bytes(3 * len * calls);
        let mut row = timed(suite, "one-semiseparable product".into(), len, bytes, &mut work);
        row.seconds /= calls as f64;
        measured.rows.push(row);
    }
    Ok(())
}

/// A matrix of numbers with diagonal transitions between 0.05 and 0.95.
pub(super) fn generators(order: usize, len: usize) -> Result<Sss<f64>> {
    let mut next = noise(5);
    let a = Array2::from_shape_simple_fn((len, order), || 0.5 + 0.45 * next());
    let mut matrix = || Array2::from_shape_simple_fn((len, order), &mut next);
    Sss::uniform(Transition::diagonal(a), matrix(), matrix(), Array1::ones(len))
}

/// Random columns.
pub(super) fn operand(len: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_simple_fn((len, columns), noise(7))
}

/// What a piece of work amounts to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    /// Numbers read and written, in f64.
    Bytes(usize),
    /// Additions and multiplications.
    Operations(usize),
}

/// The exponent of the length by which time grew since the shorter one.
pub(super) fn growth(shorter: Option<(usize, f64)>, row: &Row) -> Option<f64> {
    shorter.map(|(len, seconds)| (row.seconds / seconds).ln() / (row.len as f64 / len as f64).ln())
}

/// One row: the work in turn with a yardstick of its kind.
pub(super) fn timed(suite: &Suite, name: String, len: usize, amount: Amount, work: &mut dyn FnMut()) -> Row {
    let (unit, done, mut yardstick) = match amount {
        Amount::Bytes(numbers) => {
            let bytes = (numbers * size_of::<f64>()) as f64;
            (Unit::Bytes, bytes, Yardstick::<f64>::copy(suite.copied))
        }
        Amount::Operations(n) => (Unit::Operations, n as f64, Yardstick::<f64>::product(suite.yardstick, 1)),
    };
    let before = beforehand(|| yardstick.run());
    work();
    let first = seconds(&mut *work);
    let (seconds, limit) = in_turn(suite.effort, (first, before), work, || yardstick.run());
    Row {
        name,
        dtype: "f64",
        threads: 1,
        len,
        seconds,
        unit,
        rate: done / seconds,
        ceiling: yardstick.amount() / limit,
        extra: None,
        growth: None,
    }
}
