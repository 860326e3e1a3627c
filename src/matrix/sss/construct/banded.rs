//! Banded and bidiagonal matrices: the state is a shift register.

use ndarray::{Array1, Array2, ArrayView2};

use super::super::{Blocks, Quasiseparable, Sss, Transition};
use crate::error::{Error, Result};
use crate::matrix::Bidiagonal;
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    /// A lower banded matrix by its diagonals; of order w, exact.
    ///
    /// ```math
    /// M_{k,k-l} = \text{bands}_{kl}, \quad 0 \le l \le w
    /// ```
    ///
    /// The state holds the last w inputs, $`x_k = (u_{k-1}, \ldots, u_{k-w})`$, fewer at the start.
    ///
    /// # Shapes
    /// `bands`: (len, w + 1); entries that lie outside the matrix are not read.
    ///
    /// # Errors
    /// [`Error::Shape`] if `bands` has no column: the diagonal is one.
    pub fn from_banded(bands: ArrayView2<'_, E>) -> Result<Self> {
        let (len, diagonals) = bands.dim();
        let Some(width) = diagonals.checked_sub(1) else {
            return Err(Error::shape("bands", "(len, w + 1)", bands.shape()));
        };
        let order = |k: usize| if k == len { 0 } else { k.min(width) };
        let shift = |k: usize| {
            Array2::from_shape_fn(
                (order(k + 1), order(k)),
                |(i, j)| if i == j + 1 { E::one() } else { E::zero() },
            )
        };
        let enter = |k: usize| {
            Array2::from_shape_fn((order(k + 1), 1), |(i, _)| if i == 0 { E::one() } else { E::zero() })
        };
        let read = |k: usize| Array2::from_shape_fn((1, order(k)), |(_, j)| bands[[k, j + 1]]);
        let diagonal = bands.column(0).to_vec();
        Ok(Self::from_parts(
            Transition::Dense((0..len).map(shift).collect()),
            (0..len).map(enter).collect(),
            (0..len).map(read).collect(),
            Blocks::from_uniform(len, (1, 1), diagonal),
        ))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// A banded matrix by its diagonals; the order of each side is its bandwidth, exact.
    ///
    /// ```math
    /// M_{k,k-l} = \text{lower}_{kl}, \quad M_{k-l,k} = \text{upper}_{k,l-1}
    /// ```
    ///
    /// # Shapes
    /// `lower`: (len, w + 1), the diagonal first; `upper`: (len, v), without it, by column. Entries that lie outside the
    /// matrix are not read.
    ///
    /// # Errors
    /// [`Error::Shape`] if `lower` has no column or `upper` another length.
    pub fn from_banded(lower: ArrayView2<'_, E>, upper: ArrayView2<'_, E>) -> Result<Self> {
        if upper.nrows() != lower.nrows() {
            return Err(Error::shape("upper", format!("({}, any width)", lower.nrows()), upper.shape()));
        }
        let below = Sss::from_banded(lower)?;
        let bands = Array2::from_shape_fn((upper.nrows(), upper.ncols() + 1), |(k, l)| match l {
            0 => E::zero(),
            _ => upper[[k, l - 1]].conj(),
        });
        Self::new(below, Sss::from_banded(bands.view())?)
    }
}

/// Order 1, whatever the entries.
impl<E: Field> From<&Bidiagonal<E>> for Sss<E> {
    fn from(m: &Bidiagonal<E>) -> Self {
        let len = m.diagonal().len();
        let ones = Array2::ones((len, 1));
        let lower = Array2::from_shape_fn((len, 1), |(k, _)| m.lower()[k]);
        let zeros = Transition::Scalar(Array1::zeros(len));
        Self::uniform(zeros, ones, lower, m.diagonal().clone()).expect("made of the same length")
    }
}
