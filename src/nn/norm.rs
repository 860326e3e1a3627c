//! RMS norm, plain and gated.

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewMut2};

use super::Weight;
use super::activation::{gate, gate_vjp, silu_of};
use super::rows::each_row;
use crate::error::{Error, Result, check_shape};
use crate::linalg::{dot, flat, flat_mut, with_flat_rows};
use crate::scalar::{Real, double, real};

/// Where the gated norm of a Mamba-2 layer applies its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatedNorm {
    /// ``$`w \circ \mathrm{RMS}(y \circ \mathrm{SiLU}(z))`$``: the released models.
    #[default]
    GateFirst,
    /// ``$`w \circ \mathrm{RMS}(y) \circ \mathrm{SiLU}(z)`$``.
    NormFirst,
    /// ``$`y \circ \mathrm{SiLU}(z)`$``: no norm, no weight.
    GateOnly,
}

/// The norm of every position, over groups of channels of one size:
///
/// ```math
/// y_i = w_i\, r\, x_i, \qquad r = \bigl(\tfrac 1 n \textstyle\sum_{j} x_j^2 + \varepsilon\bigr)^{-1/2}
/// ```
///
/// with the sum over the n channels of the group that i belongs to.
///
/// # Shapes
/// `x`: (len, channels); `w`: (channels); `groups` divides channels.
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
///
/// # Examples
/// ```
/// use ndarray::{array, Array1};
/// use semisep::nn::{Weight, rms_norm};
/// let y = rms_norm(array![[3.0, 4.0]].view(), &Weight::from(Array1::ones(2)), 1, 0.0)?;
/// assert!((y[[0, 1]] - 4.0 / 12.5_f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn rms_norm<A: Real>(
    x: ArrayView2<'_, A>,
    w: &Weight<A>,
    groups: usize,
    epsilon: f64,
) -> Result<Array2<A>> {
    let mut y = Array2::zeros(x.raw_dim());
    rms_norm_into(x, w, (groups, epsilon), y.view_mut())?;
    Ok(y)
}

/// The same into memory of the caller, which is shaped like `x`.
pub(crate) fn rms_norm_into<A: Real>(
    x: ArrayView2<'_, A>,
    w: &Weight<A>,
    (groups, epsilon): (usize, f64),
    y: ArrayViewMut2<'_, A>,
) -> Result<()> {
    check_shape("y", "(len, channels)", x.shape(), y.shape())?;
    let size = group_size(x.ncols(), w, groups)?;
    let (x, w) = (with_flat_rows(x.into()), w.flat());
    each_row(
        y,
        #[inline(always)]
        |t, row| {
            let parts = flat(x.row(t)).chunks_exact(size).zip(w.chunks_exact(size));
            for (y, (x, w)) in row.chunks_exact_mut(size).zip(parts) {
                let r = reciprocal_rms(x, epsilon);
                y.iter_mut().zip(x.iter().zip(w)).for_each(|(y, (&x, &w))| *y = normed(x, r, w));
            }
        },
    );
    Ok(())
}

/// The same in place.
fn rms_norm_in_place<A: Real>(
    y: ArrayViewMut2<'_, A>,
    w: &Weight<A>,
    groups: usize,
    epsilon: f64,
) -> Result<()> {
    let size = group_size(y.ncols(), w, groups)?;
    let w = w.flat();
    each_row(
        y,
        #[inline(always)]
        |_, row| {
            for (y, w) in row.chunks_exact_mut(size).zip(w.chunks_exact(size)) {
                let r = reciprocal_rms(y, epsilon);
                y.iter_mut().zip(w).for_each(|(y, &w)| *y = normed(*y, r, w));
            }
        },
    );
    Ok(())
}

/// Cotangents of the weight and of `x`, for each group of n channels:
///
/// ```math
/// dx = r\, (w \circ dy) - \tfrac{r^3}{n} \langle w \circ dy, x \rangle\, x, \qquad dw = \textstyle\sum_t r_t\, dy_t \circ x_t
/// ```
///
/// # Shapes
/// As [`rms_norm`]; `dy`: (len, channels).
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
pub fn rms_norm_vjp<A: Real>(
    x: ArrayView2<'_, A>,
    w: &Weight<A>,
    (groups, epsilon): (usize, f64),
    dy: ArrayView2<'_, A>,
) -> Result<(ArrayD<A>, Array2<A>)> {
    check_shape("dy", "(len, channels)", x.shape(), dy.shape())?;
    let size = group_size(x.ncols(), w, groups)?;
    let weight = w.flat();
    let x = with_flat_rows(x.into());
    let mut dw = ndarray::Array1::zeros(x.ncols());
    let mut dx = dy.as_standard_layout().into_owned();
    for (mut dx, x) in dx.outer_iter_mut().zip(x.outer_iter()) {
        let groups = flat_mut(dx.view_mut()).chunks_exact_mut(size).zip(flat(x).chunks_exact(size));
        let parameters = weight.chunks_exact(size).zip(flat_mut(dw.view_mut()).chunks_exact_mut(size));
        for ((dx, x), (w, dw)) in groups.zip(parameters) {
            let r: A = real(reciprocal_rms(x, epsilon));
            let mut along = A::zero();
            for (((dx, &x), &w), dw) in dx.iter_mut().zip(x).zip(w).zip(dw) {
                *dw += r * *dx * x;
                *dx *= w;
                along += *dx * x;
            }
            let back = along * r * r * r / real(size as f64);
            dx.iter_mut().zip(x).for_each(|(dx, &x)| *dx = r * *dx - back * x);
        }
    }
    Ok((dw.into_dyn(), dx))
}

/// Norm and gate of every position into `out`, in the order that `kind` says; the norm over `groups` groups of channels.
///
/// # Shapes
/// `y`, `z`, `out`: (len, channels); `w`: (channels), absent with [`GatedNorm::GateOnly`].
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree or the weight is missing.
pub fn gated_rms_norm<A: Real>(
    y: ArrayView2<'_, A>,
    z: ArrayView2<'_, A>,
    w: Option<&Weight<A>>,
    (kind, groups, epsilon): (GatedNorm, usize, f64),
    mut out: ArrayViewMut2<'_, A>,
) -> Result<()> {
    check_shape("z", "(len, channels)", y.shape(), z.shape())?;
    check_shape("out", "(len, channels)", y.shape(), out.shape())?;
    match kind {
        GatedNorm::GateOnly => gate(y, z, out),
        GatedNorm::GateFirst => {
            gate(y, z, out.view_mut())?;
            rms_norm_in_place(out, present(w)?, groups, epsilon)
        }
        GatedNorm::NormFirst => {
            out.assign(&y);
            rms_norm_in_place(out.view_mut(), present(w)?, groups, epsilon)?;
            let z = with_flat_rows(z.into());
            each_row(
                out,
                #[inline(always)]
                |t, row| row.iter_mut().zip(flat(z.row(t))).for_each(|(y, &z)| *y *= silu_of(z)),
            );
            Ok(())
        }
    }
}

/// Cotangents of the weight, of `y` and of `z`.
pub type GatedNormGrad<A> = (Option<ArrayD<A>>, Array2<A>, Array2<A>);

/// Cotangents of the inputs of [`gated_rms_norm`], its two steps backwards: of the weight, of `y`, of `z`.
///
/// # Shapes
/// As [`gated_rms_norm`]; `d_out`: (len, channels).
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree or the weight is missing.
pub fn gated_rms_norm_vjp<A: Real>(
    y: ArrayView2<'_, A>,
    z: ArrayView2<'_, A>,
    w: Option<&Weight<A>>,
    (kind, groups, epsilon): (GatedNorm, usize, f64),
    d_out: ArrayView2<'_, A>,
) -> Result<GatedNormGrad<A>> {
    match kind {
        GatedNorm::GateOnly => {
            let (dy, dz) = gate_vjp(y, z, d_out)?;
            Ok((None, dy, dz))
        }
        GatedNorm::GateFirst => {
            check_shape("z", "(len, channels)", y.shape(), z.shape())?;
            let mut gated = Array2::zeros(y.raw_dim());
            gate(y, z, gated.view_mut())?;
            let (dw, d_gated) = rms_norm_vjp(gated.view(), present(w)?, (groups, epsilon), d_out)?;
            let (dy, dz) = gate_vjp(y, z, d_gated.view())?;
            Ok((Some(dw), dy, dz))
        }
        GatedNorm::NormFirst => {
            let normed = rms_norm(y, present(w)?, groups, epsilon)?;
            let (d_normed, dz) = gate_vjp(normed.view(), z, d_out)?;
            let (dw, dy) = rms_norm_vjp(y, present(w)?, (groups, epsilon), d_normed.view())?;
            Ok((Some(dw), dy, dz))
        }
    }
}

/// `w r x`, rounded once: rounded twice, a model in f32 is off by up to four times as much.
#[inline(always)]
fn normed<A: Real>(x: A, r: f64, w: A) -> A {
    real(double(x) * r * double(w))
}

#[inline(always)]
fn reciprocal_rms<A: Real>(x: &[A], epsilon: f64) -> f64 {
    1.0 / (double(dot(x, x)) / x.len() as f64 + epsilon).sqrt()
}

fn present<A: Real>(w: Option<&Weight<A>>) -> Result<&Weight<A>> {
    w.ok_or_else(|| Error::shape("norm.weight", "(channels)", &[]))
}

/// Channels in a group.
fn group_size<A: Real>(channels: usize, w: &Weight<A>, groups: usize) -> Result<usize> {
    check_shape("norm.weight", "(channels)", &[channels], w.shape())?;
    if groups == 0 || !channels.is_multiple_of(groups) || channels == 0 {
        return Err(Error::shape(
            "norm.weight",
            format!("(channels), a multiple of groups = {groups}"),
            &[channels],
        ));
    }
    Ok(channels / groups)
}
