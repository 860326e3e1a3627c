//! The selective scan of Mamba-1: a diagonal transition for every channel, one channel a head.
//!
//! ```math
//! h_t = \exp(\mathrm{dt}_t\, A) \circ h_{t-1} + \mathrm{dt}_t\, x_t\, b_t, \qquad y_t = \langle c_t, h_t \rangle + d\, x_t
//! ```
//!
//! for each channel, with `A` and `h` of state_dim numbers. Its matrix has order state_dim and no mask that all of the state
//! shares, so there is no attention form and no block decomposition of one: the recurrence is the algorithm. It is
//! here as the yardstick of the SSD operator, which gives up the separate decays and gains matrix products.

use ndarray::{
    Array1, Array2, Array3, Array4, ArrayView1, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, Axis, s,
};
use num_traits::Float;

use super::check_finite;
use crate::error::{Error, Result, check_shape};
use crate::parallel;
use crate::scalar::{Real, Scalar};

/// Channels that are gone through side by side; sums over channels are made of the sums of these blocks, in order.
const CHANNELS: usize = 64;
/// Steps between states that the vjp keeps; the states between are computed again.
const CHECKPOINT: usize = 64;

/// The matrices of a selective scan, one for every batch row and channel, by views of their generators.
///
/// # Examples
/// ```
/// use ndarray::{Array2, Array3, Array4, array};
/// use semisep::ssd::SelectiveScan;
///
/// let (batch, len, channels, state_dim) = (1, 3, 2, 1);
/// let dt = Array3::from_elem((batch, len, channels), 1.0);
/// let a = Array2::from_elem((channels, state_dim), 0.5f64.ln());
/// let ones = Array4::<f64>::ones((batch, len, 1, state_dim)); // one group
/// let m = SelectiveScan::new(dt.view(), a.view(), ones.view(), ones.view())?;
/// let out = m.matmul(Array3::ones((batch, len, channels)).view(), None)?;
/// assert_eq!(out.y.slice(ndarray::s![0, .., 0]), array![1.0, 1.5, 1.75]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SelectiveScan<'a, T: Scalar> {
    dt: ArrayView3<'a, T::Acc>,        // (batch, len, channels)
    a: ArrayView2<'a, T::Acc>,         // (channels, state_dim)
    b: ArrayView4<'a, T>,              // (batch, len, groups, state_dim)
    c: ArrayView4<'a, T>,              // (batch, len, groups, state_dim)
    d: Option<ArrayView1<'a, T::Acc>>, // (channels)
}

/// What a selective scan yields, and the cotangent of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanOutput<T: Scalar> {
    /// (batch, len, channels)
    pub y: Array3<T>,
    /// Final states, (batch, channels, state_dim).
    pub state: Array3<T::Acc>,
}

/// Cotangents of every input of a selective scan.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanGrad<T: Scalar> {
    /// (batch, len, channels)
    pub dt: Array3<T::Acc>,
    /// (channels, state_dim)
    pub a: Array2<T::Acc>,
    /// (batch, len, groups, state_dim)
    pub b: Array4<T>,
    /// (batch, len, groups, state_dim)
    pub c: Array4<T>,
    /// (channels); `None` if there was no skip
    pub d: Option<Array1<T::Acc>>,
    /// (batch, len, channels)
    pub x: Array3<T>,
    /// Cotangents of the initial states, (batch, channels, state_dim)
    pub state: Array3<T::Acc>,
}

impl<'a, T: Scalar> SelectiveScan<'a, T> {
    /// The scan with steps `dt`: (batch, len, channels), decay rates `a`: (channels, state_dim), at most 0 in a model, and
    /// `b`, `c`: (batch, len, groups, state_dim). Channel k uses group `k / (channels / groups)`. Raw steps become steps by
    /// [`Discretization`](super::Discretization).
    ///
    /// # Errors
    /// [`Error::Shape`] if shapes disagree, `channels` is not a multiple of `groups`, or an axis other than batch and
    /// len is empty; [`Error::Value`] if a step or a rate is not finite.
    pub fn new(
        dt: ArrayView3<'a, T::Acc>,
        a: ArrayView2<'a, T::Acc>,
        b: ArrayView4<'a, T>,
        c: ArrayView4<'a, T>,
    ) -> Result<Self> {
        let (batch, len, channels) = dt.dim();
        let state_dim = a.ncols();
        if channels == 0 {
            return Err(Error::shape("dt", "(batch, len, channels) with at least one channel", dt.shape()));
        }
        if a.nrows() != channels || state_dim == 0 {
            let expected = format!("(channels, state_dim) = [{channels}, at least 1]");
            return Err(Error::shape("A", expected, a.shape()));
        }
        let groups = b.dim().2;
        if b.dim() != (batch, len, groups, state_dim) || groups == 0 || channels % groups != 0 {
            let expected = format!(
                "(batch, len, groups, state_dim) = [{batch}, {len}, a divisor of channels = {channels}, {state_dim}]"
            );
            return Err(Error::shape("b", expected, b.shape()));
        }
        check_shape("c", "(batch, len, groups, state_dim)", b.shape(), c.shape())?;
        check_finite("dt", dt.view())?;
        check_finite("A", a.view())?;
        Ok(Self { dt, a, b, c, d: None })
    }

    /// Adds `d`: (channels) to the diagonal.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not have one number a channel.
    pub fn with_skip(self, d: ArrayView1<'a, T::Acc>) -> Result<Self> {
        check_shape("d", "(channels)", &[self.a.nrows()], d.shape())?;
        Ok(Self { d: Some(d), ..self })
    }

    /// Outputs and final states, from the given initial states or from zero.
    ///
    /// # Shapes
    /// `x`: (batch, len, channels); `initial`: (batch, channels, state_dim).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or `initial` does not fit.
    pub fn matmul(
        &self,
        x: ArrayView3<'_, T>,
        initial: Option<ArrayView3<'_, T::Acc>>,
    ) -> Result<ScanOutput<T>> {
        let mut state = self.check(&x, initial)?;
        let mut y = Array3::from_elem(x.raw_dim(), T::narrow(*T::Acc::ZERO));
        let work: Vec<_> = self
            .lanes()
            .into_iter()
            .zip(blocks(state.outer_iter_mut(), Axis(0)))
            .zip(blocks(y.outer_iter_mut(), Axis(1)))
            .collect();
        parallel::for_each(work, |((lane, mut h), mut y)| {
            let x = x.index_axis(Axis(0), lane.row);
            for (t, mut y) in y.outer_iter_mut().enumerate() {
                for (k, y) in y.iter_mut().enumerate() {
                    let channel = lane.first + k;
                    let (x, (b, c)) = (x[[t, channel]].widen(), self.generators(lane.row, t, channel));
                    let step = self.dt[[lane.row, t, channel]];
                    let mut read = self.skip(channel) * x;
                    for (n, h) in h.row_mut(k).iter_mut().enumerate() {
                        *h = (step * self.a[[channel, n]]).exp() * *h + step * x * b[n].widen();
                        read += c[n].widen() * *h;
                    }
                    *y = T::narrow(read);
                }
            }
        });
        Ok(ScanOutput { y, state })
    }

    /// Cotangents of every input of [`SelectiveScan::matmul`], given the cotangent of its output.
    ///
    /// With g the cotangent of h_t, passed back as `exp(dt_t A) g`:
    ///
    /// ```math
    /// g \mathrel{+}= dy_t\, c_t, \quad dc_t = dy_t\, h_t, \quad db_t = \mathrm{dt}_t\, x_t\, g, \quad
    /// dx_t = \mathrm{dt}_t \langle g, b_t \rangle + d\, dy_t
    /// ```
    /// ```math
    /// d\mathrm{dt}_t = \langle g,\, A \circ e^{\mathrm{dt}_t A} \circ h_{t-1} + x_t b_t \rangle, \quad
    /// dA = \sum_t \mathrm{dt}_t\, g \circ e^{\mathrm{dt}_t A} \circ h_{t-1}
    /// ```
    ///
    /// # Errors
    /// As [`SelectiveScan::matmul`], and [`Error::Shape`] if the cotangents do not have the shapes of the output.
    pub fn vjp(
        &self,
        x: ArrayView3<'_, T>,
        initial: Option<ArrayView3<'_, T::Acc>>,
        cotangent: &ScanOutput<T>,
    ) -> Result<ScanGrad<T>> {
        let initial = self.check(&x, initial)?;
        check_shape("dy", "(batch, len, channels)", x.shape(), cotangent.y.shape())?;
        check_shape("dfinal_state", "the shape of the state", initial.shape(), cotangent.state.shape())?;
        let shares = parallel::map(self.lanes(), |lane| self.lane_vjp(lane, &x, &initial, cotangent));
        let zero = *T::Acc::ZERO;
        let (mut db, mut dc) = (Array4::zeros(self.b.raw_dim()), Array4::zeros(self.b.raw_dim()));
        let mut grad = ScanGrad {
            dt: Array3::zeros(self.dt.raw_dim()),
            a: Array2::zeros(self.a.raw_dim()),
            b: Array4::from_elem(self.b.raw_dim(), T::narrow(zero)),
            c: Array4::from_elem(self.b.raw_dim(), T::narrow(zero)),
            d: self.d.map(|d| Array1::zeros(d.raw_dim())),
            x: Array3::from_elem(x.raw_dim(), T::narrow(zero)),
            state: Array3::zeros(initial.raw_dim()),
        };
        for (lane, share) in self.lanes().into_iter().zip(shares) {
            let channels = lane.first..lane.first + lane.count;
            grad.dt.slice_mut(s![lane.row, .., channels.clone()]).assign(&share.dt);
            grad.x.slice_mut(s![lane.row, .., channels.clone()]).assign(&share.x);
            grad.state.slice_mut(s![lane.row, channels.clone(), ..]).assign(&share.state);
            let mut a = grad.a.slice_mut(s![channels.clone(), ..]);
            a += &share.a;
            if let Some(d) = &mut grad.d {
                let mut d = d.slice_mut(s![channels]);
                d += &share.d;
            }
            let mut db = db.index_axis_mut(Axis(0), lane.row);
            db += &share.b;
            let mut dc = dc.index_axis_mut(Axis(0), lane.row);
            dc += &share.c;
        }
        grad.b.zip_mut_with(&db, |out, sum| *out = T::narrow(*sum));
        grad.c.zip_mut_with(&dc, |out, sum| *out = T::narrow(*sum));
        Ok(grad)
    }

    /// Cotangents of one block of channels of one batch row.
    fn lane_vjp(
        &self,
        lane: Lane,
        x: &ArrayView3<'_, T>,
        initial: &Array3<T::Acc>,
        cotangent: &ScanOutput<T>,
    ) -> LaneGrad<T> {
        let (len, state_dim) = (self.dt.dim().1, self.a.ncols());
        let channels = lane.first..lane.first + lane.count;
        let mut h = initial.slice(s![lane.row, channels.clone(), ..]).to_owned();
        let mut kept = Vec::with_capacity(len.div_ceil(CHECKPOINT));
        for t in 0..len {
            if t % CHECKPOINT == 0 {
                kept.push(h.clone());
            }
            self.advance(lane, t, x, h.view_mut());
        }
        let mut out = LaneGrad {
            dt: Array2::zeros((len, lane.count)),
            a: Array2::zeros((lane.count, state_dim)),
            b: Array3::zeros((len, self.b.dim().2, state_dim)),
            c: Array3::zeros((len, self.b.dim().2, state_dim)),
            d: Array1::zeros(lane.count),
            x: Array2::from_elem((len, lane.count), T::narrow(*T::Acc::ZERO)),
            state: cotangent.state.slice(s![lane.row, channels, ..]).to_owned(),
        };
        let mut states = Array3::zeros((CHECKPOINT.min(len), lane.count, state_dim)); // before each step
        for (segment, mut h) in kept.into_iter().enumerate().rev() {
            let steps = segment * CHECKPOINT..len.min((segment + 1) * CHECKPOINT);
            for (t, mut before) in steps.clone().zip(states.outer_iter_mut()) {
                before.assign(&h);
                self.advance(lane, t, x, h.view_mut());
            }
            for t in steps.clone().rev() {
                let before = states.index_axis(Axis(0), t - steps.start);
                self.back(lane, t, x, &cotangent.y, before, &mut out);
            }
        }
        out
    }

    /// One step of the recurrence for the channels of `lane`; `h`: (channels of the block, state_dim).
    fn advance(&self, lane: Lane, t: usize, x: &ArrayView3<'_, T>, mut h: ArrayViewMut2<'_, T::Acc>) {
        for (k, mut h) in h.outer_iter_mut().enumerate() {
            let channel = lane.first + k;
            let (b, _) = self.generators(lane.row, t, channel);
            let step = self.dt[[lane.row, t, channel]];
            let u = step * x[[lane.row, t, channel]].widen();
            for (n, h) in h.iter_mut().enumerate() {
                *h = (step * self.a[[channel, n]]).exp() * *h + u * b[n].widen();
            }
        }
    }

    /// One step back; `before`: the states that enter it.
    fn back(
        &self,
        lane: Lane,
        t: usize,
        x: &ArrayView3<'_, T>,
        dy: &Array3<T>,
        before: ArrayView2<'_, T::Acc>,
        out: &mut LaneGrad<T>,
    ) {
        for k in 0..lane.count {
            let channel = lane.first + k;
            let group = self.group(channel);
            let (b, c) = self.generators(lane.row, t, channel);
            let step = self.dt[[lane.row, t, channel]];
            let (x, dy) = (x[[lane.row, t, channel]].widen(), dy[[lane.row, t, channel]].widen());
            let (mut from_input, mut from_decay) = (*T::Acc::ZERO, *T::Acc::ZERO);
            for n in 0..self.a.ncols() {
                let rate = self.a[[channel, n]];
                let (decay, b) = ((step * rate).exp(), b[n].widen());
                let kept = decay * before[[k, n]];
                out.c[[t, group, n]] += dy * (kept + step * x * b);
                let g = out.state[[k, n]] + dy * c[n].widen();
                out.b[[t, group, n]] += step * x * g;
                from_input += g * b;
                from_decay += g * kept * rate;
                out.a[[k, n]] += step * g * kept;
                out.state[[k, n]] = decay * g;
            }
            out.dt[[t, k]] = from_decay + x * from_input;
            out.x[[t, k]] = T::narrow(step * from_input + self.skip(channel) * dy);
            out.d[k] += dy * x;
        }
    }

    /// `x` and `initial` fit; the initial states as an array.
    fn check(
        &self,
        x: &ArrayView3<'_, T>,
        initial: Option<ArrayView3<'_, T::Acc>>,
    ) -> Result<Array3<T::Acc>> {
        check_shape("x", "(batch, len, channels)", self.dt.shape(), x.shape())?;
        let shape = [self.dt.dim().0, self.a.nrows(), self.a.ncols()];
        match initial {
            None => Ok(Array3::zeros(shape)),
            Some(state) => {
                check_shape("initial_state", "(batch, channels, state_dim)", &shape, state.shape())?;
                Ok(state.as_standard_layout().into_owned())
            }
        }
    }

    fn group(&self, channel: usize) -> usize {
        channel / (self.a.nrows() / self.b.dim().2)
    }

    /// `b` and `c` at one position for one channel.
    fn generators(&self, row: usize, t: usize, channel: usize) -> (ArrayView1<'_, T>, ArrayView1<'_, T>) {
        let group = self.group(channel);
        (self.b.slice(s![row, t, group, ..]), self.c.slice(s![row, t, group, ..]))
    }

    fn skip(&self, channel: usize) -> T::Acc {
        self.d.map_or(*T::Acc::ZERO, |d| d[channel])
    }

    /// The blocks of channels of every batch row, rows first.
    fn lanes(&self) -> Vec<Lane> {
        let (rows, channels) = (self.dt.dim().0, self.a.nrows());
        (0..rows)
            .flat_map(|row| (0..channels).step_by(CHANNELS).map(move |first| (row, first)))
            .map(|(row, first)| Lane { row, first, count: CHANNELS.min(channels - first) })
            .collect()
    }
}

/// A block of channels of one batch row.
#[derive(Debug, Clone, Copy)]
struct Lane {
    row: usize,
    first: usize,
    count: usize,
}

/// Cotangents of one block of channels; `b` and `c`: its share of what all channels of a row add to.
struct LaneGrad<T: Scalar> {
    dt: Array2<T::Acc>,    // (len, channels of the block)
    a: Array2<T::Acc>,     // (channels of the block, state_dim)
    b: Array3<T::Acc>,     // (len, groups, state_dim)
    c: Array3<T::Acc>,     // (len, groups, state_dim)
    d: Array1<T::Acc>,     // (channels of the block)
    x: Array2<T>,          // (len, channels of the block)
    state: Array2<T::Acc>, // (channels of the block, state_dim)
}

/// The views of every row, cut into blocks of channels along `axis`.
fn blocks<'v, A: 'v>(
    rows: impl Iterator<Item = ArrayViewMut2<'v, A>>,
    axis: Axis,
) -> impl Iterator<Item = ArrayViewMut2<'v, A>> {
    rows.flat_map(move |mut rest| {
        let mut cut = Vec::with_capacity(rest.len_of(axis).div_ceil(CHANNELS));
        while rest.len_of(axis) > CHANNELS {
            let (here, after) = rest.split_at(axis, CHANNELS);
            cut.push(here);
            rest = after;
        }
        cut.push(rest);
        cut
    })
}
