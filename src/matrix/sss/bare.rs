//! Sizes that no number belongs to: an empty block says how many states, rows or columns there are and takes no memory.
//!
//! Whatever is made of such a matrix does take memory, so constructors allow a limited number of them.

use super::{Blocks, Transition};
use crate::error::{Error, Result};
use crate::scalar::Field;

/// States between two steps, where numbers do not belong to more elsewhere.
const STATES: usize = 1 << 12;
/// Steps, rows or columns in all.
const LENGTH: usize = 1 << 24;

/// That there are not too many steps, if none has a number.
pub(super) fn check_steps<E: Field>(tensor: &'static str, blocks: &[&Blocks<E>]) -> Result<()> {
    let len = blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
    if len <= LENGTH || blocks.iter().any(|blocks| !blocks.flat().is_empty()) {
        return Ok(());
    }
    Err(Error::shape(tensor, format!("at most {LENGTH} steps without a number"), &[len]))
}

/// That no order is too large for one that no number belongs to; `numbers(k)` says whether some of a block before or
/// behind belong to the states before step k.
pub(super) fn check_orders<E: Field>(
    orders: &[usize],
    transition: &Transition<E>,
    numbers: impl Fn(usize) -> bool,
) -> Result<()> {
    if orders.iter().all(|states| *states <= STATES) {
        return Ok(());
    }
    let moved = |states: usize, beside: Option<&usize>| match transition {
        Transition::Identity | Transition::Scalar(_) => false,
        Transition::Diagonal(_) => beside.is_some_and(|others| *others >= states),
        Transition::Dense(_) => beside.is_some_and(|others| *others > 0),
    };
    let before = |k: usize| k.checked_sub(1).and_then(|k| orders.get(k));
    let belong = |k: usize| numbers(k) || moved(orders[k], orders.get(k + 1)) || moved(orders[k], before(k));
    let most = (0..orders.len()).filter(|k| belong(*k)).map(|k| orders[k]).fold(STATES, usize::max);
    match orders.iter().position(|states| *states > most) {
        None => Ok(()),
        Some(k) => {
            let expected = format!("at most {most} states before step {k}, where no number belongs to one");
            Err(Error::shape("orders", expected, &[orders[k]]))
        }
    }
}

/// That rows or columns are not too many, from the sizes of steps and whether numbers belong to them.
pub(super) fn check_length(tensor: &'static str, sizes: impl Iterator<Item = (usize, bool)>) -> Result<()> {
    let bare = sizes.filter(|(_, numbers)| !numbers).fold(0usize, |sum, (size, _)| sum.saturating_add(size));
    if bare <= LENGTH {
        return Ok(());
    }
    Err(Error::shape(tensor, format!("at most {LENGTH} rows or columns that no number belongs to"), &[bare]))
}

/// An empty table with room for one order more than there are steps.
pub(super) fn order_table(len: usize) -> Result<Vec<usize>> {
    let mut orders = Vec::new();
    match len.checked_add(1).map(|count| orders.try_reserve_exact(count)) {
        Some(Ok(())) => Ok(orders),
        _ => Err(Error::shape("b", "as many steps as there is memory for", &[len])),
    }
}
