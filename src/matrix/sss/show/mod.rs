//! Matrices in words: one line, and, alternate, a corner of their entries.
//!
//! ```
//! use ndarray::{Array1, Array2};
//! use semisep::matrix::sss::{Sss, Transition};
//!
//! let ones = Array2::ones((300, 2));
//! let m = Sss::uniform(Transition::Scalar(Array1::from_elem(300, 0.5)), ones.clone(), ones, Array1::ones(300))?;
//! assert_eq!(m.to_string(), "Sss 300 × 300: 300 steps of 1 × 1, orders 2 2 2 (least, median, most), scalar");
//! assert!(format!("{m:#}").lines().count() > 5);
//! # Ok::<(), semisep::Error>(())
//! ```

#[cfg(feature = "serde")]
mod serde;

use std::fmt;

use ndarray::Array2;

use super::{Blocks, FilterForm, HermitianQuasiseparable, Quasiseparable, Sss, Transition, Upper};
use crate::error::Result;
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// Rows and columns of the corner that the alternate form prints.
const CORNER: usize = 6;

/// Size and blocks.
fn sizes<E: Field>(
    f: &mut fmt::Formatter<'_>,
    (name, shape): (&str, (usize, usize)),
    d: &Blocks<E>,
    turned: Turned,
) -> fmt::Result {
    let largest = d.iter().fold((0, 0), |most, d| (most.0.max(d.nrows()), most.1.max(d.ncols())));
    let (outputs, inputs) = match turned {
        Turned::No => largest,
        Turned::Yes => (largest.1, largest.0),
    };
    let up_to = if d.is_empty() || d.uniform().is_some() { "" } else { "up to " };
    write!(f, "{name} {} × {}: {} steps of {up_to}{outputs} × {inputs}", shape.0, shape.1, d.len())
}

/// Whether blocks are those of the adjoint.
#[derive(Clone, Copy)]
enum Turned {
    No,
    Yes,
}

/// Least, median and most of the orders between two steps, and the kind of the transition.
fn orders<E: Field>(f: &mut fmt::Formatter<'_>, all: &[usize], transition: &Transition<E>) -> fmt::Result {
    let mut inner = all.get(1..all.len() - 1).unwrap_or(&[]).to_vec();
    inner.sort_unstable();
    let at = |i: usize| inner.get(i).copied().unwrap_or(0);
    let (least, median, most) = (at(0), at(inner.len() / 2), at(inner.len().saturating_sub(1)));
    write!(f, "orders {least} {median} {most} (least, median, most), {}", transition.kind())
}

/// The first rows and columns of a matrix of this shape by its entries, with dots where it goes on.
fn corner<E: Field>(
    f: &mut fmt::Formatter<'_>,
    shape: (usize, usize),
    entry: impl Fn(usize, usize) -> Result<E>,
) -> fmt::Result {
    let (rows, columns) = (CORNER.min(shape.0), CORNER.min(shape.1));
    let cell = |i, j| match entry(i, j) {
        Ok(v) if v.is_zero() => "0".into(),
        Ok(v) => format!("{v:.4}"),
        Err(_) => String::new(),
    };
    let cells = Array2::from_shape_fn((rows, columns), |(i, j)| cell(i, j));
    let width = cells.iter().map(|cell: &String| cell.chars().count()).max().unwrap_or(0);
    for row in cells.rows() {
        writeln!(f)?;
        for cell in row {
            write!(f, "  {cell:>width$}")?;
        }
        if shape.1 > columns {
            write!(f, "  …")?;
        }
    }
    if shape.0 > rows { write!(f, "\n  ⋮") } else { Ok(()) }
}

impl<E: Field> fmt::Display for Sss<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sizes(f, ("Sss", self.shape()), self.d_blocks(), Turned::No)?;
        write!(f, ", ")?;
        orders(f, self.orders(), self.transition())?;
        if f.alternate() { corner(f, self.shape(), |i, j| self.entry(i, j)) } else { Ok(()) }
    }
}

impl<E: Field> fmt::Display for Upper<&Sss<E>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sizes(f, ("Upper", self.shape()), self.0.d_blocks(), Turned::Yes)?;
        write!(f, ", ")?;
        orders(f, self.0.orders(), self.0.transition())?;
        if f.alternate() { corner(f, self.shape(), |i, j| self.entry(i, j)) } else { Ok(()) }
    }
}

impl<E: Field> fmt::Display for Upper<Sss<E>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Upper(&self.0).fmt(f)
    }
}

impl<E: Field> fmt::Display for FilterForm<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let predictor = self.predictor();
        sizes(f, ("FilterForm", self.shape()), predictor.d_blocks(), Turned::No)?;
        write!(f, ", ")?;
        orders(f, self.orders(), self.transition())?;
        if f.alternate() { corner(f, self.shape(), |i, j| predictor.entry(i, j)) } else { Ok(()) }
    }
}

impl<E: Field> fmt::Display for Quasiseparable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sizes(f, ("Quasiseparable", self.shape()), self.diagonal_blocks(), Turned::No)?;
        write!(f, ", lower ")?;
        orders(f, self.lower().orders(), self.lower().transition())?;
        write!(f, ", upper ")?;
        orders(f, self.upper().orders(), self.upper().transition())?;
        if f.alternate() { corner(f, self.shape(), |i, j| self.entry(i, j)) } else { Ok(()) }
    }
}

impl<E: Field> fmt::Display for HermitianQuasiseparable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sizes(f, ("HermitianQuasiseparable", self.shape()), self.diagonal_blocks(), Turned::No)?;
        write!(f, ", ")?;
        orders(f, self.lower().orders(), self.lower().transition())?;
        if f.alternate() { corner(f, self.shape(), |i, j| self.entry(i, j)) } else { Ok(()) }
    }
}
