//! SiLU, and the gate made of it.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::rows::each_row;
use crate::error::{Result, check_shape};
use crate::linalg::{flat, with_flat_rows};
use crate::scalar::Real;

/// ``$`\sigma(v) = 1 / (1 + e^{-v})`$``
#[inline(always)]
pub(super) fn sigmoid<A: Real>(v: A) -> A {
    A::one() / (A::one() + (-v).quick_exp())
}

/// ``$`\mathrm{SiLU}(v) = v\, \sigma(v)`$``
#[inline(always)]
pub(super) fn silu_of<A: Real>(v: A) -> A {
    v * sigmoid(v)
}

/// ``$`\mathrm{SiLU}'(v) = \sigma(v) (1 + v (1 - \sigma(v)))`$``
#[inline(always)]
pub(super) fn silu_slope<A: Real>(v: A) -> A {
    let s = sigmoid(v);
    s * (A::one() + v * (A::one() - s))
}

/// ``$`x \sigma(x)`$`` of every number, in place: (len, channels).
///
/// # Examples
/// ```
/// use ndarray::array;
/// let mut x = array![[0.0, 40.0, -800.0]];
/// semisep::nn::silu(x.view_mut());
/// assert_eq!(x, array![[0.0, 40.0, 0.0]]);
/// ```
pub fn silu<A: Real>(x: ArrayViewMut2<'_, A>) {
    each_row(
        x,
        #[inline(always)]
        |_, row| row.iter_mut().for_each(|v| *v = silu_of(*v)),
    );
}

/// Cotangent of the input of [`silu`]: ``$`dx = dy \circ \mathrm{SiLU}'(x)`$``, all (len, channels).
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ.
pub fn silu_vjp<A: Real>(x: ArrayView2<'_, A>, dy: ArrayView2<'_, A>) -> Result<Array2<A>> {
    check_shape("dy", "(len, channels)", x.shape(), dy.shape())?;
    let x = with_flat_rows(x.into());
    let mut dx = dy.as_standard_layout().into_owned();
    each_row(
        dx.view_mut(),
        #[inline(always)]
        |t, row| row.iter_mut().zip(flat(x.row(t))).for_each(|(d, &v)| *d *= silu_slope(v)),
    );
    Ok(dx)
}

/// ``$`v \circ \mathrm{SiLU}(g)`$`` into `y`, all (len, channels).
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ.
pub fn gate<A: Real>(v: ArrayView2<'_, A>, g: ArrayView2<'_, A>, y: ArrayViewMut2<'_, A>) -> Result<()> {
    check_shape("gate", "(len, channels)", v.shape(), g.shape())?;
    check_shape("y", "(len, channels)", v.shape(), y.shape())?;
    let (v, g) = (with_flat_rows(v.into()), with_flat_rows(g.into()));
    each_row(
        y,
        #[inline(always)]
        |t, row| {
            let pairs = flat(v.row(t)).iter().zip(flat(g.row(t)));
            row.iter_mut().zip(pairs).for_each(|(y, (&v, &g))| *y = v * silu_of(g));
        },
    );
    Ok(())
}

/// Cotangents of the inputs of [`gate`], of `v` and of `g`:
///
/// ```math
/// dv = dy \circ \mathrm{SiLU}(g), \qquad dg = dy \circ v \circ \mathrm{SiLU}'(g)
/// ```
///
/// all (len, channels).
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ.
pub fn gate_vjp<A: Real>(
    v: ArrayView2<'_, A>,
    g: ArrayView2<'_, A>,
    dy: ArrayView2<'_, A>,
) -> Result<(Array2<A>, Array2<A>)> {
    check_shape("gate", "(len, channels)", v.shape(), g.shape())?;
    check_shape("dy", "(len, channels)", v.shape(), dy.shape())?;
    let mut dv = Array2::zeros(v.raw_dim());
    gate(dy, g, dv.view_mut())?;
    let dg = silu_vjp(g, (&dy * &v).view())?;
    Ok((dv, dg))
}
