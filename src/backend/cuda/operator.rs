//! The SSD matrix on a device: the door there.

use std::sync::{Arc, Mutex, PoisonError};

use super::check;
use super::exact::{self, Operands, blocks, discretize, recurrent};
use super::extent::{Extent, apart};
use super::generators::{Steps, StepsGrad};
use super::plan::{Plan, plan};
use super::portable;
use super::sm90::{self, backward, forward};
use super::spans::Spans;
use super::tensor::{CudaTensor, Stored};
use crate::error::{Error, Result, check_shape};
use crate::ssd::{Algorithm, Diagonal, Sequences};

/// The axes of states.
const STATES: &str = "(batch or sequences, heads, head_dim, state_dim)";

/// The SSD matrix of every batch row and head, by generators on a device: twin of [`crate::ssd::Ssd`].
///
/// b, c, x and y may be parts of wider tensors; states and the skip begin at multiples of 16 bytes. Sums are taken in a
/// fixed order, so that the same call gives the same bits; by a fixed algorithm (any but [`Algorithm::Automatic`], and that
/// one too by [`CudaSsd::with_batch_invariance`]) a sequence gets the same bits in whatever batch or row it stands.
///
/// # Examples
/// A layer's inputs as parts of one projection, raw steps included, and results that stay on the device:
/// ```no_run
/// use half::bf16;
/// use semisep::backend::cuda::{CudaSsd, CudaTensor, Device, Raw, StepRule, Steps, Stream};
/// use semisep::ssd::{Algorithm, Squash};
///
/// let stream = Stream::new(&Device::new(0)?)?;
/// let (batch, len, heads, head_dim, state_dim) = (2, 4096, 24, 64, 128);
/// let width = heads * head_dim;
/// let row = [batch, len, width + 2 * state_dim + heads];
/// let projected = CudaTensor::<bf16>::noise(&stream, &row, 0, -1.0, 1.0)?;
/// let x = projected.part(0, &[batch, len, heads, head_dim])?;
/// let b = projected.part(width, &[batch, len, 1, state_dim])?;
/// let c = projected.part(width + state_dim, &[batch, len, 1, state_dim])?;
/// let dt = Raw::Stored(projected.part(width + 2 * state_dim, &[batch, len, heads])?);
/// let a = CudaTensor::filled(&stream, &[heads], -1.0)?;
/// let rule = StepRule::default().squash(Squash::Softplus);
/// let m = CudaSsd::new(Steps::Raw { dt, a, rule }, b, c)?;
/// println!("{}", m.plan(Algorithm::Automatic, &x, &x)?);
/// let out = m.matmul(&x, None, Algorithm::Automatic)?;
/// let grad = m.vjp(&x, None, Algorithm::Automatic, &out)?;
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CudaSsd<T: Stored> {
    steps: Steps<T>,
    b: CudaTensor<T>,              // (batch, len, groups, state_dim)
    c: CudaTensor<T>,              // (batch, len, groups, state_dim)
    d: Option<CudaTensor<T::Acc>>, // (heads, 1 or head_dim)
    diagonal: Diagonal,
    sequences: Sequences,
    pub(super) tf32: bool,                   // whether products may round; of f32 alone
    pub(super) invariant: bool,              // whether the batch has no say in how rows are cut
    tables: Arc<Mutex<Vec<(usize, Spans)>>>, // by chunk, as far as they were needed
    hopper: Arc<Mutex<Option<sm90::Tables>>>,
    pieces: Arc<Mutex<Option<sm90::Pieces>>>,
}

/// Twin of [`crate::ssd::Output`].
#[derive(Debug, Clone)]
pub struct CudaOutput<T: Stored> {
    /// (batch, len, heads, head_dim)
    pub y: CudaTensor<T>,
    /// (batch or sequences, heads, head_dim, state_dim)
    pub state: CudaTensor<T::Acc>,
}

/// Twin of [`crate::ssd::Grad`].
#[derive(Debug, Clone)]
pub struct CudaGrad<T: Stored> {
    /// Cotangents of the steps and decays, or of what they were made from.
    pub steps: StepsGrad<T::Acc>,
    /// (batch, len, groups, state_dim)
    pub b: CudaTensor<T>,
    /// (batch, len, groups, state_dim)
    pub c: CudaTensor<T>,
    /// As the skip was given; `None` if it was not
    pub d: Option<CudaTensor<T::Acc>>,
    /// (batch, len, heads, head_dim)
    pub x: CudaTensor<T>,
    /// Of the initial states, shaped like [`CudaOutput::state`]
    pub state: CudaTensor<T::Acc>,
}

impl CudaSsd<f32> {
    /// Lets blocks multiply on tensor cores: operands of products are rounded to tf32, 11 significant bits; sums, decays and
    /// states stay f32. That costs accuracy, up to 1e-3 relative where f32 alone has 1e-5, and is several times as fast.
    /// [`Algorithm::Recurrent`], [`Algorithm::Quadratic`] and, up to [`Algorithm::SHORT`] positions, [`Algorithm::Automatic`] stay
    /// exact.
    pub fn with_tf32(self) -> Self {
        Self { tf32: true, ..self }
    }
}

impl<T: Stored> CudaSsd<T> {
    /// The matrix with these steps and `b`, `c`: (batch, len, groups, state_dim), one sequence a row. Numbers are not looked
    /// at: one that is not finite spreads as it does in arithmetic.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`crate::ssd::Ssd::new`] has it, or if steps or decays are not contiguous or an axis is longer
    /// than the kernels are made for (state_dim and, of x, head_dim 256, heads 65535);
    /// [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) if tensors are of different streams.
    pub fn new(steps: Steps<T>, b: CudaTensor<T>, c: CudaTensor<T>) -> Result<Self> {
        let [batch, len, heads] = steps.check(b.stream())?;
        check::generators(&b, &c, [batch, len, heads], 1..=exact::WIDEST, b.stream())?;
        let most = i32::MAX as usize;
        if heads > check::MOST_BLOCKS || len > most || batch > most {
            let expected = format!("(batch, len, heads) at most [{most}, {most}, {}]", check::MOST_BLOCKS);
            return Err(Error::shape("dt", expected, steps.shape()));
        }
        let sequences = Sequences::whole(batch, len);
        Ok(Self {
            steps,
            b,
            c,
            d: None,
            diagonal: Diagonal::Scores,
            sequences,
            tf32: false,
            invariant: false,
            tables: Arc::default(),
            hopper: Arc::default(),
            pieces: Arc::default(),
        })
    }

    /// Adds `d` to the diagonal: (heads, 1) or (heads, head_dim).
    ///
    /// # Errors
    /// [`Error::Shape`] if it has other axes or is not contiguous, [`Error::Value`] if it does not begin at a multiple of 16
    /// bytes, [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere).
    pub fn with_skip(self, d: CudaTensor<T::Acc>) -> Result<Self> {
        check::skip(&d, self.heads(), self.b.stream())?;
        Ok(Self { d: Some(d), ..self })
    }

    /// Packs several sequences in each row.
    ///
    /// # Errors
    /// [`Error::Shape`] if `sequences` is not about as many rows and positions as the matrix has.
    pub fn with_sequences(self, sequences: Sequences) -> Result<Self> {
        let (rows, positions) = sequences.shape();
        check_shape("sequences", "(batch, len)", &self.steps.shape()[..2], &[rows, positions])?;
        let (tables, hopper, pieces) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { sequences, tables, hopper, pieces, ..self })
    }

    /// Chooses what stands on the diagonal besides `d`.
    pub fn with_diagonal(self, diagonal: Diagonal) -> Self {
        Self { diagonal, ..self }
    }

    /// Makes products by [`Algorithm::Automatic`] batch-invariant too: with more than [`Algorithm::SHORT`] positions in its row a
    /// sequence gets the same bits in whatever batch or row it stands, as its gradients do anyway. On Hopper rows are then
    /// walked whole, which takes longer where batch and heads do not fill the device; elsewhere nothing changes. Rows that are
    /// cut leave out what has decayed below 2⁻⁶⁴ before a segment begins, which takes no decay to exceed one; whole ones do not.
    /// A batch with an empty sequence, or with more than 65535 of them, is served by another tier, whose bits are others.
    pub fn with_batch_invariance(self) -> Self {
        Self { invariant: true, ..self }
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.steps.shape()[2]
    }

    /// Which kernels would serve with `x` and with `y` or its cotangent.
    ///
    /// # Errors
    /// Those that [`CudaSsd::matmul_into`] has for these tensors.
    pub fn plan(&self, how: Algorithm, x: &CudaTensor<T>, y: &CudaTensor<T>) -> Result<Plan> {
        self.check(x, None, how)?;
        check::shaped("y", "(batch, len, heads, head_dim)", y, x.shape(), self.b.stream())?;
        Ok(self.choose(how, x, y))
    }

    /// `y = M x` and the final states, from the given initial states or from zero.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Value`] where states do not begin at a multiple of 16 bytes, [`Error::Config`] for a chunk
    /// of none or, in the exact tier, of more than 2097120 positions, and
    /// [`DeviceError::Elsewhere`](crate::DeviceError::Elsewhere) before anything is started; then
    /// [`DeviceError::OutOfMemory`](crate::DeviceError::OutOfMemory) and those of compiling and starting kernels.
    pub fn matmul(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<T::Acc>>,
        how: Algorithm,
    ) -> Result<CudaOutput<T>> {
        let shape = self.check(x, initial, how)?;
        let y = CudaTensor::room(self.b.stream(), x.shape())?;
        let state = CudaTensor::room(self.b.stream(), &shape)?;
        self.multiply(x, initial, &state, &y, how)?;
        Ok(CudaOutput { y, state })
    }

    /// `y = M x` into memory of the caller, the states read from and written to `state`.
    ///
    /// # Errors
    /// As [`CudaSsd::matmul`], [`Error::Shape`] if `y` is not shaped like `x`, and [`Error::Value`] if `y` or `state` shares
    /// memory with what is read or with one another.
    pub fn matmul_into(
        &self,
        x: &CudaTensor<T>,
        state: &CudaTensor<T::Acc>,
        y: &CudaTensor<T>,
        how: Algorithm,
    ) -> Result<()> {
        self.check(x, Some(state), how)?;
        check::shaped("y", "(batch, len, heads, head_dim)", y, x.shape(), self.b.stream())?;
        self.check_apart(x, state, y)?;
        let travels = self.sequences.spans().iter().all(|span| span.enters == span.leaves);
        if travels {
            return self.multiply(x, Some(state), state, y, how);
        }
        let initial = state.duplicate()?;
        self.multiply(x, Some(&initial), state, y, how)
    }

    /// Cotangents of every input of [`CudaSsd::matmul`], given the cotangent of its output.
    ///
    /// # Errors
    /// As [`CudaSsd::matmul`], and [`Error::Shape`] if the cotangents do not have the shapes of the output.
    pub fn vjp(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<T::Acc>>,
        how: Algorithm,
        cotangent: &CudaOutput<T>,
    ) -> Result<CudaGrad<T>> {
        let shape = self.check(x, initial, how)?;
        let (dy, dlast) = (&cotangent.y, &cotangent.state);
        check::shaped("dy", "(batch, len, heads, head_dim)", dy, x.shape(), self.b.stream())?;
        check::aligned("dfinal_state", STATES, dlast, &shape, self.b.stream())?;
        let found = match self.choose(how, x, dy) {
            Plan::Recurrent => {
                let spans = self.spans(recurrent::SEGMENT)?;
                self.with_operands(x, &spans, |m| recurrent::vjp(m, initial, dy, dlast))
            }
            Plan::Blocks { chunk } => {
                let spans = self.spans(chunk)?;
                self.with_operands(x, &spans, |m| blocks::vjp(m, initial, dy, dlast))
            }
            Plan::Hopper => return self.hopper_vjp(x, initial, dy, dlast),
            Plan::Portable | Plan::Tf32 => {
                let spans = self.spans(portable::chunk_of::<T>(self.b.shape()[3]))?;
                self.with_operands(x, &spans, |m| portable::backward::vjp(m, initial, dy, dlast))
            }
        }?;
        let steps = match &self.steps {
            Steps::Given { .. } => StepsGrad::Given { log_a: found.log_a, dt: found.dt },
            Steps::Raw { dt, a, rule } => {
                let grad = discretize::vjp(dt, a, rule, &found.dt, &found.log_a)?;
                StepsGrad::Raw { dt: grad.dt, a: grad.a, bias: grad.bias }
            }
        };
        Ok(CudaGrad { steps, b: found.b, c: found.c, d: found.d, x: found.x, state: found.state })
    }

    /// The same by the Hopper tier.
    fn hopper_vjp(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<T::Acc>>,
        dy: &CudaTensor<T>,
        dlast: &CudaTensor<T::Acc>,
    ) -> Result<CudaGrad<T>> {
        let tables = once(&self.hopper, || sm90::Tables::new(self.b.stream(), &self.sequences))?;
        let operands = backward::Operands {
            steps: &self.steps,
            b: &self.b,
            c: &self.c,
            d: self.d.as_ref(),
            x,
            dy,
            tables: &tables,
        };
        let grad = backward::vjp(&operands, initial, dlast)?;
        match &self.d {
            Some(d) if d.shape()[1] > 1 => {
                let spans = self.spans(recurrent::SEGMENT)?;
                let d = self.with_operands(x, &spans, |m| exact::sums::skip_vjp(m, d, dy))?;
                Ok(CudaGrad { d: Some(d), ..grad })
            }
            _ => Ok(grad),
        }
    }

    fn multiply(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<T::Acc>>,
        last: &CudaTensor<T::Acc>,
        y: &CudaTensor<T>,
        how: Algorithm,
    ) -> Result<()> {
        match self.choose(how, x, y) {
            Plan::Recurrent => {
                let spans = self.spans(recurrent::SEGMENT)?;
                self.with_operands(x, &spans, |m| recurrent::forward(m, initial, last, y))
            }
            Plan::Blocks { chunk } => {
                let spans = self.spans(chunk)?;
                self.with_operands(x, &spans, |m| blocks::forward(m, initial, last, y))
            }
            Plan::Portable | Plan::Tf32 => {
                let spans = self.spans(portable::chunk_of::<T>(self.b.shape()[3]))?;
                self.with_operands(x, &spans, |m| portable::forward::forward(m, initial, last, y))
            }
            Plan::Hopper => {
                let pieces = once(&self.pieces, || forward::pieces(self.b.stream(), &self.sequences))?;
                let operands = forward::Operands {
                    steps: &self.steps,
                    b: &self.b,
                    c: &self.c,
                    d: self.d.as_ref(),
                    x,
                    y,
                    pieces: &pieces,
                    whole_rows: self.invariant,
                };
                forward::forward(&operands, initial, last)
            }
        }
    }

    fn choose(&self, how: Algorithm, x: &CudaTensor<T>, y: &CudaTensor<T>) -> Plan {
        let walks = || forward::walks(x, &self.b, &self.sequences);
        let hopper = sm90::serves(x, y, &self.b, &self.c, self.diagonal) && walks();
        plan(how, self.steps.shape()[1], T::NAME, hopper, self.tf32)
    }

    /// The operands of the exact tier: steps and decays are made if they are not given.
    fn with_operands<R>(
        &self,
        x: &CudaTensor<T>,
        spans: &Spans,
        f: impl FnOnce(&Operands<'_, T>) -> Result<R>,
    ) -> Result<R> {
        let made;
        let (dt, log_a) = match &self.steps {
            Steps::Given { log_a, dt } => (dt, log_a),
            Steps::Raw { dt, a, rule } => {
                made = discretize::apply(dt, a, rule)?;
                (&made[0], &made[1])
            }
        };
        f(&Operands {
            log_a,
            dt,
            b: &self.b,
            c: &self.c,
            d: self.d.as_ref(),
            x,
            diagonal: self.diagonal,
            spans,
        })
    }

    /// The tables of spans for a chunk, made the first time.
    fn spans(&self, chunk: usize) -> Result<Spans> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, spans)) = tables.iter().find(|(of, _)| *of == chunk) {
            return Ok(spans.clone());
        }
        let spans = Spans::new(self.b.stream(), &self.sequences, chunk)?;
        tables.push((chunk, spans.clone()));
        Ok(spans)
    }

    /// What is written is nothing that is read.
    fn check_apart(&self, x: &CudaTensor<T>, state: &CudaTensor<T::Acc>, y: &CudaTensor<T>) -> Result<()> {
        let mut read = vec![("x", Extent::of(x)), ("b", Extent::of(&self.b)), ("c", Extent::of(&self.c))];
        read.extend(self.steps.extents());
        read.extend(self.d.as_ref().map(|d| ("d", Extent::of(d))));
        apart("state", Extent::of(state), read.clone())?;
        read.push(("state", Extent::of(state)));
        apart("y", Extent::of(y), read)
    }

    /// Everything that `new` could not know; returns the shape of the states.
    fn check(
        &self,
        x: &CudaTensor<T>,
        initial: Option<&CudaTensor<T::Acc>>,
        how: Algorithm,
    ) -> Result<[usize; 4]> {
        let [batch, len, heads] = *self.steps.shape() else { unreachable!("`new` found three axes") };
        let head_dim = check::input(x, [batch, len, heads], self.b.stream())?;
        check::skip_columns(self.d.as_ref(), head_dim)?;
        if how == (Algorithm::Chunked { chunk: 0 }) {
            return Err(Error::Config { field: "chunk", reason: "expected at least 1, found 0".into() });
        }
        let shape = [self.sequences.state_count(), heads, head_dim, self.b.shape()[3]];
        if let Some(initial) = initial {
            check::aligned("initial_state", STATES, initial, &shape, self.b.stream())?;
        }
        Ok(shape)
    }
}

/// What is in `place`, made the first time.
fn once<V: Clone>(place: &Mutex<Option<V>>, make: impl FnOnce() -> Result<V>) -> Result<V> {
    let mut made = place.lock().unwrap_or_else(PoisonError::into_inner);
    match &*made {
        Some(found) => Ok(found.clone()),
        None => Ok(made.insert(make()?).clone()),
    }
}
