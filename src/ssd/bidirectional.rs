//! Non-causal layers: lower and upper parts with a shared diagonal, a two-sided (quasiseparable) matrix.

use ndarray::{Array4, ArrayView2, ArrayView4, Axis, Zip};

use super::{Algorithm, Diagonal, Grad, Output, Ssd};
use crate::error::{Error, Result, check_shape};
use crate::scalar::Scalar;

/// The matrix whose part below the diagonal is that of one [`Ssd`] and whose part above it is that of another, read
/// from the end:
///
/// ```math
/// M_{ts} = \begin{cases} a_t \cdots a_{s+1}\, (c_t^\top b_s)\, \mathrm{dt}_s & t > s \quad \text{(lower)} \\
/// d & t = s \\ \bar a_t \cdots \bar a_{s-1}\, (\bar c_t^\top \bar b_s)\, \overline{\mathrm{dt}}_s & t < s \quad \text{(upper)}
/// \end{cases}
/// ```
///
/// As a recurrence, the lower part runs forwards and the upper one backwards, `h_t = ā_t h_{t+1} + d̄t_t x_t b̄_tᵀ`;
/// each output reads both states before its own input enters them. Sequences packed in a row stay apart in both.
///
/// # Examples
/// ```
/// use ndarray::{Array3, Array4};
/// use semisep::ssd::{Algorithm, Bidirectional, Ssd};
/// let log_a = Array3::from_elem((1, 4, 1), -0.5);
/// let ones = Array4::<f64>::ones((1, 4, 1, 1));
/// let half = Ssd::with_unit_steps(log_a.view(), ones.view(), ones.view())?;
/// let m = Bidirectional::new(half.clone(), half)?;
/// let y = m.matmul(ones.view(), Algorithm::Automatic)?;
/// assert_eq!(y[[0, 0, 0, 0]], y[[0, 3, 0, 0]]); // what the first sees after it, the last sees before it
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bidirectional<'a, T: Scalar> {
    lower: Ssd<'a, T>,
    upper: Ssd<'a, T>, // time reversed
}

/// Cotangents of the inputs of [`Bidirectional::matmul`].
#[derive(Debug, Clone, PartialEq)]
pub struct BidirectionalGrad<T: Scalar> {
    /// Of the lower part's generators and of the diagonal `d`; its `x` is the share of x that goes through it.
    pub lower: Grad<T>,
    /// Of the upper part's generators, in the order of time; its `x` is the share of x that goes through it.
    pub upper: Grad<T>,
    /// Of x: the sum of both shares, (batch, len, heads, head_dim).
    pub x: Array4<T>,
}

impl<'a, T: Scalar> Bidirectional<'a, T> {
    /// The two-sided matrix of `lower` and `upper`, of which only the parts off the diagonal count.
    ///
    /// # Errors
    /// [`Error::Shape`] if they differ in batch, len, heads or sequences; [`Error::Config`] if either has a skip:
    /// the diagonal is shared, see [`Bidirectional::with_skip`].
    pub fn new(lower: Ssd<'a, T>, upper: Ssd<'a, T>) -> Result<Self> {
        check_shape("upper", "(batch, len, heads)", lower.log_a.shape(), upper.log_a.shape())?;
        if lower.sequences != upper.sequences {
            let reason = "expected the same sequences in the lower and the upper part".into();
            return Err(Error::Config { field: "sequences", reason });
        }
        if lower.d.is_some() || upper.d.is_some() {
            let reason = "expected none on either part: the diagonal is shared".into();
            return Err(Error::Config { field: "d", reason });
        }
        let upper = upper.reversed().with_diagonal(Diagonal::Free);
        Ok(Self { lower: lower.with_diagonal(Diagonal::Free), upper })
    }

    /// Sets the diagonal: (heads, 1) for one number a head, (heads, head_dim) for one a channel.
    ///
    /// # Errors
    /// As [`Ssd::with_skip`].
    pub fn with_skip(self, d: ArrayView2<'a, T::Acc>) -> Result<Self> {
        Ok(Self { lower: self.lower.with_skip(d)?, ..self })
    }

    /// `y = M x` with both states starting from zero; `x`, `y`: (batch, len, heads, head_dim).
    ///
    /// # Errors
    /// As [`Ssd::matmul`].
    pub fn matmul(&self, x: ArrayView4<'_, T>, how: Algorithm) -> Result<Array4<T>> {
        let lower = self.lower.matmul(x, None, how)?.y;
        let upper = self.upper.matmul(reversed(x), None, how)?.y;
        Ok(sum(lower, reversed(upper.view())))
    }

    /// Cotangents of every input of [`Bidirectional::matmul`], given the cotangent of its result.
    ///
    /// # Errors
    /// As [`Ssd::vjp`].
    pub fn vjp(
        &self,
        x: ArrayView4<'_, T>,
        how: Algorithm,
        dy: ArrayView4<'_, T>,
    ) -> Result<BidirectionalGrad<T>> {
        let state =
            |m: &Ssd<'_, T>| Array4::zeros((m.sequences.state_count(), m.heads(), x.dim().3, m.state_dim()));
        let cotangent = Output { y: dy.to_owned(), state: state(&self.lower) };
        let lower = self.lower.vjp(x, None, how, &cotangent)?;
        let cotangent = Output { y: reversed(dy).to_owned(), state: state(&self.upper) };
        let mut upper = self.upper.vjp(reversed(x), None, how, &cotangent)?;
        upper.log_a.invert_axis(Axis(1));
        upper.dt.invert_axis(Axis(1));
        upper.b.invert_axis(Axis(1));
        upper.c.invert_axis(Axis(1));
        upper.x.invert_axis(Axis(1));
        let x = sum(lower.x.clone(), upper.x.view());
        Ok(BidirectionalGrad { lower, upper, x })
    }
}

/// The same tensor from the last position to the first.
fn reversed<T>(mut x: ArrayView4<'_, T>) -> ArrayView4<'_, T> {
    x.invert_axis(Axis(1));
    x
}

/// `a + b`, rounded once.
fn sum<T: Scalar>(mut a: Array4<T>, b: ArrayView4<'_, T>) -> Array4<T> {
    Zip::from(&mut a).and(&b).for_each(|a, b| *a = T::narrow(a.widen() + b.widen()));
    a
}
