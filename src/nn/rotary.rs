//! Rotary positions.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::rows::each_row;
use crate::error::{Error, Result};
use crate::scalar::{Real, real};

/// The rotation of the first channels of a head by its position, in halves: channel i < dim/2 together with channel i + dim/2,
///
/// ```math
/// (u, v) \mapsto (u \cos \varphi - v \sin \varphi,\ v \cos \varphi + u \sin \varphi), \qquad
/// \varphi = t\, \mathrm{base}^{-2 i / \mathrm{dim}}
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Width of a head.
    pub head_dim: usize,
    /// Channels of a head that are rotated: even, at most `head_dim`.
    pub dim: usize,
    /// The base of the wavelengths.
    pub base: f64,
}

impl Rotary {
    fn check(&self, channels: usize) -> Result<()> {
        if self.dim.is_multiple_of(2)
            && self.dim <= self.head_dim
            && self.head_dim > 0
            && channels.is_multiple_of(self.head_dim)
        {
            return Ok(());
        }
        let expected = format!(
            "(len, heads · head_dim) with head_dim = {} and at least {} of it, an even number, rotated",
            self.head_dim, self.dim
        );
        Err(Error::shape("x", expected, &[channels]))
    }
}

/// Rotates every head of every position in place; row t is at position `first + t`.
///
/// # Shapes
/// `x`: (len, heads · head_dim)
///
/// # Errors
/// [`Error::Shape`] if `x` does not consist of heads, or the rotated channels are odd or more than a head has.
pub fn rotary<A: Real>(x: ArrayViewMut2<'_, A>, first: usize, how: Rotary) -> Result<()> {
    turn(x, first, how, 1.0)
}

/// Cotangent of the input of [`rotary`]: that of the output, rotated back.
///
/// # Errors
/// As [`rotary`].
pub fn rotary_vjp<A: Real>(dy: ArrayView2<'_, A>, first: usize, how: Rotary) -> Result<Array2<A>> {
    let mut dx = dy.as_standard_layout().into_owned();
    turn(dx.view_mut(), first, how, -1.0)?;
    Ok(dx)
}

fn turn<A: Real>(x: ArrayViewMut2<'_, A>, first: usize, how: Rotary, sign: f64) -> Result<()> {
    how.check(x.ncols())?;
    let half = how.dim / 2;
    let rates: Vec<f64> = (0..half).map(|i| sign * how.base.powf(-2.0 * i as f64 / how.dim as f64)).collect();
    each_row(
        x,
        #[inline(always)]
        |t, row| {
            let angle = |rate: &f64| ((first + t) as f64 * rate).sin_cos();
            let turns: Vec<(A, A)> =
                rates.iter().map(angle).map(|(sin, cos)| (real(sin), real(cos))).collect();
            for head in row.chunks_exact_mut(how.head_dim) {
                let (early, late) = head[..how.dim].split_at_mut(half);
                for ((u, v), &(sin, cos)) in early.iter_mut().zip(late).zip(&turns) {
                    (*u, *v) = (*u * cos - *v * sin, *v * cos + *u * sin);
                }
            }
        },
    );
    Ok(())
}
