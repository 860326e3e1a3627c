//! The SSD operator: y = M x per head, M = (L ∘ C Bᵀ) diag(dt) + d I, by every algorithm, with every gradient.
//!
//! For one head, with decay `a_t = exp(log_a_t)`, the matrix is 1-semiseparable times low rank (paper, section 5):
//!
//! ```math
//! M_{ts} = a_{t:s}\, (c_t^\top b_s)\, \mathrm{dt}_s \quad (t \ge s), \qquad a_{t:s} = a_t a_{t-1} \cdots a_{s+1}
//! ```
//!
//! plus `d` on the diagonal. The same product as a recurrence over a state `h` of shape (head_dim, state_dim):
//!
//! ```math
//! h_t = a_t h_{t-1} + \mathrm{dt}_t\, x_t b_t^\top, \qquad y_t = h_t c_t + d\, x_t
//! ```
//!
//! [`Ssd`] is the matrix, [`Algorithm`] the way to multiply. The walk: [`Ssd::matmul`] checks `x`, cuts the rows
//! into runs (one sequence and one group of heads each), and calls `forward` of `quadratic.rs`, `recurrent.rs` or
//! `chunked/` on every run; [`Ssd::vjp`] calls their `vjp`.

mod bidirectional;
mod chunked;
mod discretize;
mod door;
mod place;
mod quadratic;
mod recurrent;
mod run;
mod selective_scan;
mod sequences;

use ndarray::{
    Array2, Array3, Array4, ArrayView, ArrayView2, ArrayView3, ArrayView4, Dimension, ShapeBuilder,
};

pub use bidirectional::{Bidirectional, BidirectionalGrad};
pub use discretize::{Discretization, DiscretizationGrad, Squash};
pub use door::Kept;
pub use place::{At, Cpu, Place};
pub use selective_scan::{ScanGrad, ScanOutput, SelectiveScan};
pub use sequences::{Sequences, States};

use crate::error::{Error, Result, check_shape};
use crate::scalar::{Real, Scalar};

/// How to multiply; never changes the answer beyond rounding where all numbers are finite, see [`Ssd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// The fastest for the length at hand: recurrent up to [`Algorithm::FEW`] positions, quadratic up to
    /// [`Algorithm::SHORT`], else chunked with blocks of [`Algorithm::CHUNK`].
    #[default]
    Automatic,
    /// Masked attention: the matrix of each head is formed, O(len²) time and memory.
    Quadratic,
    /// The state space recurrence: O(len) time, one state of memory; the way to decode token by token.
    Recurrent,
    /// The block decomposition: quadratic inside blocks, recurrent between them, all in matrix products.
    Chunked {
        /// Block length, at least 1; need not divide the sequence length.
        chunk: usize,
    },
}

impl Algorithm {
    /// Sequences up to this length go to the recurrence by default; `docs/benchmarks.md` has the measurement.
    pub const FEW: usize = 4;
    /// Sequences up to this length, if not to the recurrence, go to the quadratic form by default.
    pub const SHORT: usize = 16;
    /// Block length by default; `docs/benchmarks.md` has the measurement.
    pub const CHUNK: usize = 64;

    /// The algorithm that is run for a sequence of length `len`: itself, unless it is `Automatic`.
    pub fn resolve(self, len: usize) -> Self {
        match self {
            Self::Automatic if len <= Self::FEW => Self::Recurrent,
            Self::Automatic if len <= Self::SHORT => Self::Quadratic,
            Self::Automatic => Self::Chunked { chunk: Self::CHUNK },
            other => other,
        }
    }
}

/// What stands on the diagonal of `L ∘ C Bᵀ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Diagonal {
    /// `c_t·b_t`, as in the paper: the output sees the state after its own input.
    #[default]
    Scores,
    /// Zero: the matrix is strictly lower triangular but for the skip `d`, as each half of a two-sided
    /// (quasiseparable) matrix is.
    Free,
}

/// The SSD matrix of every batch row and head, by views of its generators; shapes are checked once, here.
///
/// `x`, `b`, `c` may be stored as `f64`, `f32`, `f16` or `bf16`; steps, decays, skip and states are always in
/// the precision of computation ([`Scalar::Acc`]), since rounding them to sixteen bits would dominate the error.
///
/// Any finite `log_a` is taken; one whose exponential underflows forgets all that was before. Batch and len may be 0.
///
/// What is not finite, 0 times which is NaN, spreads further by [`Algorithm::Quadratic`] and [`Algorithm::Chunked`] than by
/// [`Algorithm::Recurrent`], to other outputs of the same sequence or chunk, earlier ones included. That is a number of `x`,
/// `b` or `c`, at which nothing looks, or, with `log_a` above 0, a product of decays over a sequence or chunk that overflows.
///
/// To see a matrix, multiply by unit vectors: with head_dim = len and `x[[k, t, h, p]]` = 1 where t = p and 0 elsewhere,
/// `y[[k, t, h, s]]` is the entry (t, s) of the matrix of batch row k and head h.
///
/// # Examples
/// ```
/// use ndarray::{Array3, Array4};
/// use semisep::ssd::{Algorithm, Ssd};
///
/// let (batch, len, heads, groups, head_dim, state_dim) = (1, 10, 4, 2, 3, 5);
/// let log_a = Array3::from_elem((batch, len, heads), -0.1);
/// let dt = Array3::from_elem((batch, len, heads), 1.0);
/// let b = Array4::from_shape_fn((batch, len, groups, state_dim), |(_, t, _, n)| ((t + n) as f64).sin());
/// let c = b.mapv(f64::cos);
/// let x = Array4::<f64>::ones((batch, len, heads, head_dim));
///
/// let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view())?;
/// let fast = m.matmul(x.view(), None, Algorithm::Chunked { chunk: 4 })?;
/// let slow = m.matmul(x.view(), None, Algorithm::Quadratic)?;
/// assert!((&fast.y - &slow.y).iter().all(|e| e.abs() < 1e-12));
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ssd<'a, T: Scalar> {
    log_a: ArrayView3<'a, T::Acc>,     // (batch, len, heads)
    dt: ArrayView3<'a, T::Acc>,        // (batch, len, heads)
    b: ArrayView4<'a, T>,              // (batch, len, groups, state_dim)
    c: ArrayView4<'a, T>,              // (batch, len, groups, state_dim)
    d: Option<ArrayView2<'a, T::Acc>>, // (heads, 1 or head_dim)
    diagonal: Diagonal,
    sequences: Sequences,
}

/// The generators of an [`Ssd`], by the same names.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone)]
pub(crate) struct Generators<'a, T: Scalar> {
    pub log_a: ArrayView3<'a, T::Acc>,
    pub dt: ArrayView3<'a, T::Acc>,
    pub b: ArrayView4<'a, T>,
    pub c: ArrayView4<'a, T>,
    pub d: Option<ArrayView2<'a, T::Acc>>,
    pub diagonal: Diagonal,
}

/// What a product yields, and the cotangent of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Output<T: Scalar> {
    /// (batch, len, heads, head_dim)
    pub y: Array4<T>,
    /// Final states, (batch or sequences, heads, head_dim, state_dim); see [`States`].
    pub state: Array4<T::Acc>,
}

/// Cotangents of every input of a product.
#[derive(Debug, Clone, PartialEq)]
pub struct Grad<T: Scalar> {
    /// (batch, len, heads)
    pub log_a: Array3<T::Acc>,
    /// (batch, len, heads)
    pub dt: Array3<T::Acc>,
    /// (batch, len, groups, state_dim)
    pub b: Array4<T>,
    /// (batch, len, groups, state_dim)
    pub c: Array4<T>,
    /// (heads, 1) or (heads, head_dim), as the skip was given; `None` if it was not
    pub d: Option<Array2<T::Acc>>,
    /// (batch, len, heads, head_dim)
    pub x: Array4<T>,
    /// Cotangents of the initial states, shaped like [`Output::state`]
    pub state: Array4<T::Acc>,
}

impl<'a, T: Scalar> Ssd<'a, T> {
    /// The matrix with generators `log_a`, `dt`: (batch, len, heads) and `b`, `c`: (batch, len, groups, state_dim).
    /// Head `h` uses group `h / (heads / groups)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if shapes disagree, `heads` is not a multiple of `groups`, or an axis other than batch and
    /// len is empty; [`Error::Value`] if a step or a decay is not finite.
    pub fn new(
        log_a: ArrayView3<'a, T::Acc>,
        dt: ArrayView3<'a, T::Acc>,
        b: ArrayView4<'a, T>,
        c: ArrayView4<'a, T>,
    ) -> Result<Self> {
        let (batch, len, heads) = log_a.dim();
        if heads == 0 {
            return Err(Error::shape("log_a", "(batch, len, heads) with at least one head", log_a.shape()));
        }
        check_shape("dt", "(batch, len, heads)", log_a.shape(), dt.shape())?;
        let (_, _, groups, state_dim) = b.dim();
        if (b.dim().0, b.dim().1) != (batch, len) || groups == 0 || state_dim == 0 || heads % groups != 0 {
            let expected = format!(
                "(batch, len, groups, state_dim) = [{batch}, {len}, a divisor of heads = {heads}, at least 1]"
            );
            return Err(Error::shape("b", expected, b.shape()));
        }
        check_shape("c", "(batch, len, groups, state_dim)", b.shape(), c.shape())?;
        check_finite("log_a", log_a.view())?;
        check_finite("dt", dt.view())?;
        let sequences = Sequences::whole(batch, len);
        Ok(Self { log_a, dt, b, c, d: None, diagonal: Diagonal::Scores, sequences })
    }

    /// The matrix of steps that are all one: `dt` = 1.
    ///
    /// # Errors
    /// As [`Ssd::new`].
    pub fn with_unit_steps(
        log_a: ArrayView3<'a, T::Acc>,
        b: ArrayView4<'a, T>,
        c: ArrayView4<'a, T>,
    ) -> Result<Self> {
        let dt = broadcast(T::Acc::ONE, log_a.raw_dim());
        Self::new(log_a, dt, b, c)
    }

    /// Adds `d` to the diagonal: (heads, 1) for one number a head, (heads, head_dim) for one a channel.
    ///
    /// # Errors
    /// [`Error::Shape`] if the first axis is not `heads` or the second is empty.
    pub fn with_skip(self, d: ArrayView2<'a, T::Acc>) -> Result<Self> {
        if d.nrows() != self.heads() || d.ncols() == 0 {
            let expected = format!("(heads, 1 or head_dim) with heads = {}", self.heads());
            return Err(Error::shape("d", expected, d.shape()));
        }
        Ok(Self { d: Some(d), ..self })
    }

    /// Packs several sequences in each row.
    ///
    /// # Errors
    /// [`Error::Shape`] if `sequences` is not about as many rows and positions as the matrix has.
    pub fn with_sequences(self, sequences: Sequences) -> Result<Self> {
        let (batch, len, _) = self.log_a.dim();
        if sequences.shape() != (batch, len) {
            let (rows, positions) = sequences.shape();
            return Err(Error::shape(
                "sequences",
                format!("(batch, len) = [{batch}, {len}]"),
                &[rows, positions],
            ));
        }
        Ok(Self { sequences, ..self })
    }

    /// Chooses what stands on the diagonal besides `d`.
    pub fn with_diagonal(self, diagonal: Diagonal) -> Self {
        Self { diagonal, ..self }
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.log_a.dim().2
    }

    /// Number of groups; the heads of a group share `b` and `c`.
    pub fn groups(&self) -> usize {
        self.b.dim().2
    }

    /// Width of the state of a head.
    pub fn state_dim(&self) -> usize {
        self.b.dim().3
    }

    /// The sequences packed in the rows.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Views of all that the matrix is made of, for places that keep tensors of their own.
    #[cfg(feature = "cuda")]
    pub(crate) fn generators(&self) -> Generators<'a, T> {
        Generators {
            log_a: self.log_a,
            dt: self.dt,
            b: self.b,
            c: self.c,
            d: self.d,
            diagonal: self.diagonal,
        }
    }

    /// The matrix that reads time backwards: its product with the reversed `x` is the product of an upper
    /// triangular matrix with `x`, reversed.
    pub(crate) fn reversed(&self) -> Self {
        let mut m = self.clone();
        m.log_a.invert_axis(ndarray::Axis(1));
        m.dt.invert_axis(ndarray::Axis(1));
        m.b.invert_axis(ndarray::Axis(1));
        m.c.invert_axis(ndarray::Axis(1));
        m.sequences = m.sequences.reversed();
        m
    }
}

/// The same number at every place of `shape`, without memory.
fn broadcast<'a, A: Real, D: Dimension>(
    value: &'static A,
    shape: impl ndarray::IntoDimension<Dim = D>,
) -> ArrayView<'a, A, D> {
    let shape = shape.into_dimension();
    let still = D::zeros(shape.ndim());
    match ArrayView::from_shape(shape.strides(still), std::slice::from_ref(value)) {
        Ok(view) => view,
        Err(_) => unreachable!("one element serves every index when all strides are zero"),
    }
}

/// `Ok` if every element is finite.
fn check_finite<A: Real, D: Dimension>(tensor: &'static str, values: ArrayView<'_, A, D>) -> Result<()> {
    match values.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some((at, v)) => {
            Err(Error::Value { tensor, expected: "finite numbers", found: format!("{v} at {at:?}") })
        }
    }
}
