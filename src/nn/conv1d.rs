//! Causal depthwise convolution over time.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};

use super::Weight;
use super::rows::{bundles_of, sum_rows};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{flat, flat_mut, vectorize, with_flat_rows};
use crate::parallel;
use crate::scalar::Real;
use crate::ssd::{Sequences, States};

/// A causal depthwise convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv1d<V> {
    /// (channels, 1, width); the last column is for the present
    pub weight: V,
    /// (channels)
    pub bias: Option<V>,
}

/// Positions that are worth a task of their own.
const BUNDLE: usize = 32;

/// Rows of one sequence: where it starts, its window, the first of the rows, and where they go.
type Bundle<'a, A> = (usize, ArrayView2<'a, A>, usize, ArrayViewMut2<'a, A>);

/// Every channel on its own, over the present and the last positions of its sequence:
///
/// ```math
/// y_t = \mathrm{bias} + \sum_{k=0}^{K-1} w_k\, x_{t-K+1+k}
/// ```
///
/// Positions before the first come from the window, which afterwards holds the last K − 1 ones.
///
/// # Shapes
/// `x`, `y`: (len, channels); `window`: (sequences, width − 1, channels), the latest last; weight (channels, 1, width).
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree, or the sequences are not one packed row with a state each.
///
/// # Examples
/// ```
/// use ndarray::{Array2, Array3, array};
/// use semisep::nn::{Conv1d, Weight, causal_conv1d};
/// use semisep::ssd::{Sequences, States};
/// let conv = Conv1d { weight: Weight::from(array![[[10.0, 1.0]]]), bias: None };
/// let two = Sequences::from_offsets(&[0, 2, 3])?.with_states(States::PerSequence);
/// let (mut window, mut y) = (Array3::zeros((2, 1, 1)), Array2::zeros((3, 1)));
/// causal_conv1d(array![[1.0], [2.0], [3.0]].view(), &conv, &two, window.view_mut(), y.view_mut())?;
/// assert_eq!(y, array![[1.0], [12.0], [3.0]]); // nothing passes from one sequence to the next
/// assert_eq!(window, array![[[2.0]], [[3.0]]]);
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn causal_conv1d<A: Real>(
    x: ArrayView2<'_, A>,
    conv: &Conv1d<Weight<A>>,
    sequences: &Sequences,
    mut window: ArrayViewMut3<'_, A>,
    mut y: ArrayViewMut2<'_, A>,
) -> Result<()> {
    let taps = conv.taps(&x, sequences, window.view())?;
    check_shape("y", "(len, channels)", x.shape(), y.shape())?;
    let (x, bias) = (with_flat_rows(x.into()), conv.bias.as_ref().map(Weight::flat));
    let mut bundles = Vec::new();
    for (span, window) in sequences.spans().into_iter().zip(window.outer_iter()) {
        let (here, rest) = y.split_at(Axis(0), span.end - span.start);
        y = rest;
        let here = bundles_of(here, BUNDLE).into_iter().enumerate();
        bundles.extend(here.map(|(k, y)| (span.start, window, k * BUNDLE, y)));
    }
    parallel::for_each(bundles, |(start, window, first, mut y): Bundle<'_, A>| {
        vectorize(
            #[inline(always)]
            || {
                for (t, mut y) in y.outer_iter_mut().enumerate().map(|(i, y)| (first + i, y)) {
                    let y = flat_mut(y.view_mut());
                    match bias {
                        Some(bias) => y.copy_from_slice(bias),
                        None => y.fill(A::zero()),
                    }
                    for (k, taps) in taps.outer_iter().enumerate() {
                        let past = match (t + k).checked_sub(window.nrows()) {
                            Some(t) => flat(x.row(start + t)),
                            None => flat(window.row(t + k)),
                        };
                        let terms = flat(taps).iter().zip(past);
                        y.iter_mut().zip(terms).for_each(|(y, (&w, &x))| *y += w * x);
                    }
                }
            },
        );
    });
    for (span, mut window) in sequences.spans().into_iter().zip(window.outer_iter_mut()) {
        let kept = window.nrows().saturating_sub(span.end - span.start); // rows that the new ones leave there
        let dropped = window.nrows() - kept;
        for k in (0..kept).filter(|_| dropped > 0) {
            let (mut to, from) = window.multi_slice_mut((s![k, ..], s![k + dropped, ..]));
            to.assign(&from);
        }
        window.slice_mut(s![kept.., ..]).assign(&x.slice(s![span.end - dropped..span.end, ..]));
    }
    Ok(())
}

/// Cotangents of the inputs of [`causal_conv1d`].
#[derive(Debug, Clone, PartialEq)]
pub struct Conv1dGrad<A> {
    /// Of the parameters, in their shapes
    pub conv: Conv1d<ArrayD<A>>,
    /// Of `x`
    pub x: Array2<A>,
    /// Of the window that comes in
    pub window: Array3<A>,
}

/// Cotangents of the parameters, of `x` and of the window that comes in, given those of `y` and of the window that goes out.
/// With `e` the window followed by x:
///
/// ```math
/// dw_k = \sum_t dy_t\, e_{t+k}, \qquad de_{t+k} \mathrel{+}= w_k\, dy_t, \qquad d\,\mathrm{bias} = \sum_t dy_t
/// ```
///
/// # Shapes
/// As [`causal_conv1d`]; `dy`: (len, channels); `d_window`: like `window`.
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
pub fn causal_conv1d_vjp<A: Real>(
    x: ArrayView2<'_, A>,
    conv: &Conv1d<Weight<A>>,
    sequences: &Sequences,
    window: ArrayView3<'_, A>,
    (dy, d_window): (ArrayView2<'_, A>, ArrayView3<'_, A>),
) -> Result<Conv1dGrad<A>> {
    let taps = conv.taps(&x, sequences, window)?;
    check_shape("dy", "(len, channels)", x.shape(), dy.shape())?;
    check_shape("d_window", "(sequences, width - 1, channels)", window.shape(), d_window.shape())?;
    let mut d_taps = Array2::zeros(taps.raw_dim());
    let mut grad = (Array2::zeros(x.raw_dim()), Array3::zeros(window.raw_dim()));
    for (k, span) in sequences.spans().into_iter().enumerate() {
        let (window, len) = (window.index_axis(Axis(0), k), span.end - span.start);
        let mut seen = Array2::zeros((window.nrows() + len, x.ncols()));
        seen.slice_mut(s![..window.nrows(), ..]).assign(&window);
        seen.slice_mut(s![window.nrows().., ..]).assign(&x.slice(s![span.start..span.end, ..]));
        let mut d_seen = Array2::zeros(seen.raw_dim());
        d_seen.slice_mut(s![len.., ..]).assign(&d_window.index_axis(Axis(0), k));
        let dy = dy.slice(s![span.start..span.end, ..]);
        for (k, (taps, mut d_taps)) in taps.outer_iter().zip(d_taps.outer_iter_mut()).enumerate() {
            d_taps += &(&dy * &seen.slice(s![k..k + len, ..])).sum_axis(Axis(0));
            let mut d_seen = d_seen.slice_mut(s![k..k + len, ..]);
            d_seen += &(&dy * &taps);
        }
        grad.1.index_axis_mut(Axis(0), k).assign(&d_seen.slice(s![..window.nrows(), ..]));
        grad.0.slice_mut(s![span.start..span.end, ..]).assign(&d_seen.slice(s![window.nrows().., ..]));
    }
    let weight = d_taps.reversed_axes().insert_axis(Axis(1)).as_standard_layout().into_owned().into_dyn();
    let bias = conv.bias.as_ref().map(|_| sum_rows(dy).into_dyn());
    Ok(Conv1dGrad { conv: Conv1d { weight, bias }, x: grad.0, window: grad.1 })
}

impl<A: Real> Conv1d<Weight<A>> {
    /// The kernel as (width, channels); checks all shapes but those of results.
    fn taps(
        &self,
        x: &ArrayView2<'_, A>,
        sequences: &Sequences,
        window: ArrayView3<'_, A>,
    ) -> Result<Array2<A>> {
        let (channels, width) = match *self.weight.shape() {
            [channels, 1, width] if width > 0 => (channels, width),
            _ => return Err(Error::shape("conv1d.weight", "(channels, 1, width)", self.weight.shape())),
        };
        if let Some(bias) = &self.bias {
            check_shape("conv1d.bias", "(channels)", &[channels], bias.shape())?;
        }
        check_shape("x", "(len, channels)", &[x.nrows(), channels], x.shape())?;
        check_packed(sequences, x.nrows())?;
        let expected = [sequences.count(), width - 1, channels];
        check_shape("window", "(sequences, width - 1, channels)", &expected, window.shape())?;
        let weight = self.weight.flat();
        let mut taps = Array2::zeros((width, channels));
        for (k, mut taps) in taps.outer_iter_mut().enumerate() {
            let kernels = weight.chunks_exact(width);
            flat_mut(taps.view_mut()).iter_mut().zip(kernels).for_each(|(tap, kernel)| *tap = kernel[k]);
        }
        Ok(taps)
    }
}

/// `Ok` if the sequences are packed in one row of so many positions and each has a state.
pub(crate) fn check_packed(sequences: &Sequences, len: usize) -> Result<()> {
    let (rows, positions) = sequences.shape();
    if (rows, positions) == (1, len) && sequences.states() == States::PerSequence {
        return Ok(());
    }
    let expected = format!("one row of {len} positions, with a state for each sequence");
    Err(Error::shape("sequences", expected, &[rows, positions]))
}
