//! Steps and decays on a device: given, or raw.

use super::stream::Stream;
use super::tensor::{CudaTensor, Element, Stored};
use crate::error::{DeviceError, Error, Result, check_shape};
use crate::ssd::Squash;

/// Steps and decays, or what they are made from.
#[derive(Debug, Clone)]
pub enum Steps<T: Stored> {
    /// Both given, (batch, len, heads).
    Given {
        /// Logarithms of the decays.
        log_a: CudaTensor<T::Acc>,
        /// Steps.
        dt: CudaTensor<T::Acc>,
    },
    /// To be made on the device, as [`crate::ssd::Discretization`] makes them.
    Raw(RawSteps<T>),
}

/// `dt = clamp(squash(raw + bias), limits)`, `log a = A dt`.
#[derive(Debug, Clone)]
pub struct RawSteps<T: Stored> {
    /// Raw steps, (batch, len, heads).
    pub dt: Raw<T>,
    /// A, (heads).
    pub a: CudaTensor<T::Acc>,
    /// Added to the raw steps, (heads).
    pub bias: Option<CudaTensor<T::Acc>>,
    /// How they become positive.
    pub squash: Squash,
    /// Between which they are clamped.
    pub limits: (f64, f64),
}

/// Raw steps as a layer has them at hand: computed, or stored like x.
#[derive(Debug, Clone)]
pub enum Raw<T: Stored> {
    /// In the precision of computation.
    Computed(CudaTensor<T::Acc>),
    /// As x is stored.
    Stored(CudaTensor<T>),
}

/// Cotangents of [`Steps`].
#[derive(Debug, Clone)]
pub enum StepsGrad<A> {
    /// Of steps that were given, (batch, len, heads).
    Given {
        /// Of log a.
        log_a: CudaTensor<A>,
        /// Of dt.
        dt: CudaTensor<A>,
    },
    /// Of raw steps.
    Raw {
        /// Of the raw steps, (batch, len, heads).
        dt: CudaTensor<A>,
        /// Of A, (heads).
        a: CudaTensor<A>,
        /// Of the bias, (heads); also meaningful when none was given.
        bias: CudaTensor<A>,
    },
}

impl<T: Stored> Raw<T> {
    /// The lengths of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Computed(tensor) => tensor.shape(),
            Self::Stored(tensor) => tensor.shape(),
        }
    }

    /// Elements from the start of a row to that of the next.
    pub fn pitch(&self) -> usize {
        match self {
            Self::Computed(tensor) => tensor.pitch(),
            Self::Stored(tensor) => tensor.pitch(),
        }
    }

    fn on(&self, stream: &Stream) -> Result<()> {
        match self {
            Self::Computed(tensor) => on("dt", tensor, stream),
            Self::Stored(tensor) => on("dt", tensor, stream),
        }
    }
}

impl<T: Stored> Steps<T> {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Given { dt, .. } => dt.shape(),
            Self::Raw(raw) => raw.dt.shape(),
        }
    }

    /// Shapes, contiguity and streams.
    pub(super) fn check(&self, stream: &Stream) -> Result<()> {
        let axes = "(batch, len, heads) with at least one head";
        let heads = match *self.shape() {
            [_, _, heads] if heads > 0 => heads,
            _ => return Err(Error::shape("dt", axes, self.shape())),
        };
        match self {
            Self::Given { log_a, dt } => {
                check_shape("log_a", "(batch, len, heads)", dt.shape(), log_a.shape())?;
                contiguous("log_a", log_a)?;
                contiguous("dt", dt)?;
                on("log_a", log_a, stream)?;
                on("dt", dt, stream)
            }
            Self::Raw(raw) => {
                check_shape("A", "(heads)", &[heads], raw.a.shape())?;
                on("A", &raw.a, stream)?;
                if let Some(bias) = &raw.bias {
                    check_shape("dt_bias", "(heads)", &[heads], bias.shape())?;
                    on("dt_bias", bias, stream)?;
                }
                if raw.limits.0 <= raw.limits.1 {
                    return raw.dt.on(stream);
                }
                let (lower, upper) = raw.limits;
                let reason =
                    format!("expected a lower limit at most the upper one, found {lower} and {upper}");
                Err(Error::Config { field: "dt_limit", reason })
            }
        }
    }
}

/// `Ok` if the tensor belongs to the stream.
pub(super) fn on<E: Element>(name: &'static str, tensor: &CudaTensor<E>, stream: &Stream) -> Result<()> {
    if tensor.stream() == stream { Ok(()) } else { Err(DeviceError::Elsewhere { tensor: name }.into()) }
}

/// `Ok` if rows follow one another without a gap.
pub(super) fn contiguous<E: Element>(name: &'static str, tensor: &CudaTensor<E>) -> Result<()> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(Error::shape(name, format!("rows without gaps, found a pitch of {}", tensor.pitch()), tensor.shape()))
}
