//! Steps and decays on a device: given, or raw.

use super::check;
use super::extent::Extent;
use super::steps::StepRule;
use super::stream::Stream;
use super::tensor::{CudaTensor, Stored};
use crate::error::{Error, Result};

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
    /// To be made on the device: `log a = A dt`.
    Raw {
        /// Raw steps, (batch, len, heads).
        dt: Raw<T>,
        /// A, (heads).
        a: CudaTensor<T::Acc>,
        /// How raw steps become steps.
        rule: StepRule<T::Acc>,
    },
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

    /// Their address, and whether it is one of numbers as x is stored.
    pub(super) fn address(&self) -> (u64, bool) {
        match self {
            Self::Computed(tensor) => (*tensor.pointer(), false),
            Self::Stored(tensor) => (*tensor.pointer(), true),
        }
    }

    fn on(&self, stream: &Stream) -> Result<()> {
        match self {
            Self::Computed(tensor) => check::on("dt", tensor, stream),
            Self::Stored(tensor) => check::on("dt", tensor, stream),
        }
    }
}

impl<T: Stored> Steps<T> {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Given { dt, .. } => dt.shape(),
            Self::Raw { dt, .. } => dt.shape(),
        }
    }

    /// Where all of them lie.
    pub(super) fn extents(&self) -> Vec<(&'static str, Extent)> {
        match self {
            Self::Given { log_a, dt } => vec![("log_a", Extent::of(log_a)), ("dt", Extent::of(dt))],
            Self::Raw { dt, a, rule } => {
                let dt = match dt {
                    Raw::Computed(tensor) => Extent::of(tensor),
                    Raw::Stored(tensor) => Extent::of(tensor),
                };
                let bias = rule.bias.as_ref().map(|bias| ("dt_bias", Extent::of(bias)));
                [("dt", dt), ("A", Extent::of(a))].into_iter().chain(bias).collect()
            }
        }
    }

    /// Shapes, contiguity and streams; (batch, len, heads).
    pub(super) fn check(&self, stream: &Stream) -> Result<[usize; 3]> {
        let axes = "(batch, len, heads) with at least one head";
        let shape = match *self.shape() {
            [batch, len, heads @ (1..)] => [batch, len, heads],
            _ => return Err(Error::shape("dt", axes, self.shape())),
        };
        match self {
            Self::Given { log_a, dt } => {
                check::flat("dt", axes, dt, &shape, stream)?;
                check::flat("log_a", axes, log_a, &shape, stream)?;
            }
            Self::Raw { dt, a, rule } => {
                dt.on(stream)?;
                check::flat("A", "(heads)", a, &shape[2..], stream)?;
                rule.check(shape[2], stream)?;
            }
        }
        Ok(shape)
    }
}
