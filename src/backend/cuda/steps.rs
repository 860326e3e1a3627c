//! Raw steps on a device and how they become steps.

use super::stream::Stream;
use super::tensor::{CudaTensor, Element};
use crate::error::{DeviceError, Error, Result, check_shape};
use crate::ssd::Squash;

/// Raw steps and the rule `dt = clamp(squash(raw + bias), limits)`, as [`crate::ssd::Discretization`] has it on the host; kernels
/// apply it where they read the steps.
#[derive(Debug, Clone)]
pub struct StepRule<'a> {
    pub(super) raw: &'a CudaTensor<f32>,
    pub(super) bias: Option<&'a CudaTensor<f32>>,
    squash: Squash,
    limits: (f32, f32),
}

impl<'a> StepRule<'a> {
    /// `raw` taken as steps: (batch, len, heads), or (batch, len, channels) for a selective scan.
    pub fn new(raw: &'a CudaTensor<f32>) -> Self {
        Self { raw, bias: None, squash: Squash::Identity, limits: (f32::NEG_INFINITY, f32::INFINITY) }
    }

    /// Adds `bias`: (heads) to the raw steps.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not have one number a head.
    pub fn bias(self, bias: &'a CudaTensor<f32>) -> Result<Self> {
        let heads = self.raw.shape().last().copied().unwrap_or(0);
        check_shape("dt_bias", "(heads)", &[heads], bias.shape())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Chooses how raw steps become positive.
    pub fn squash(self, squash: Squash) -> Self {
        Self { squash, ..self }
    }

    /// Clamps the steps; either limit may be infinite.
    ///
    /// # Errors
    /// [`Error::Config`] if a limit is NaN or the lower one exceeds the upper one.
    pub fn limits(self, lower: f32, upper: f32) -> Result<Self> {
        if lower <= upper {
            return Ok(Self { limits: (lower, upper), ..self });
        }
        let reason = format!("expected a lower limit at most the upper one, found {lower} and {upper}");
        Err(Error::Config { field: "dt_limit", reason })
    }

    /// 1 if the steps pass through a softplus, the lower and the upper limit: as kernels take them.
    pub(super) fn rule(&self) -> (i32, f32, f32) {
        (i32::from(self.squash == Squash::Softplus), self.limits.0, self.limits.1)
    }
}

/// `Ok` if `tensor` is on `stream`.
pub(super) fn check_stream<T: Element>(
    name: &'static str,
    tensor: &CudaTensor<T>,
    stream: &Stream,
) -> Result<()> {
    if tensor.stream() == stream {
        return Ok(());
    }
    Err(DeviceError::Elsewhere { tensor: name }.into())
}

/// `Ok` if `tensor` is on `stream`, has the shape and no gaps between its rows.
pub(super) fn check_flat<T: Element>(
    name: &'static str,
    axes: &str,
    tensor: &CudaTensor<T>,
    shape: &[usize],
    stream: &Stream,
) -> Result<()> {
    check_stream(name, tensor, stream)?;
    check_shape(name, axes, shape, tensor.shape())?;
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(Error::shape(name, format!("{axes} without gaps between rows"), &[tensor.pitch()]))
}
