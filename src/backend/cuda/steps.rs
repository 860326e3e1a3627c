//! How raw steps on a device become steps.

use super::check;
use super::stream::Stream;
use super::tensor::{CudaTensor, Element};
use crate::error::{Error, Result};
use crate::ssd::Squash;

/// The rule `dt = clamp(squash(raw + bias), limits)`, as [`crate::ssd::Discretization`] has it on the host; kernels apply it
/// where they read the raw steps.
#[derive(Debug, Clone)]
pub struct StepRule<A> {
    pub(super) bias: Option<CudaTensor<A>>, // (heads)
    squash: Squash,
    limits: (f64, f64),
}

impl<A> Default for StepRule<A> {
    /// Raw steps taken as they are.
    fn default() -> Self {
        Self { bias: None, squash: Squash::Identity, limits: (f64::NEG_INFINITY, f64::INFINITY) }
    }
}

impl<A: Element> StepRule<A> {
    /// Adds `bias`: (heads), or (channels) for a selective scan, to the raw steps.
    pub fn bias(self, bias: CudaTensor<A>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Chooses how raw steps become positive.
    pub fn squash(self, squash: Squash) -> Self {
        Self { squash, ..self }
    }

    /// Clamps the steps; either limit may be infinite.
    ///
    /// # Errors
    /// [`Error::Config`] if a limit is NaN or the lower one exceeds the upper one.
    pub fn limits(self, lower: f64, upper: f64) -> Result<Self> {
        if lower <= upper {
            return Ok(Self { limits: (lower, upper), ..self });
        }
        let reason = format!("expected a lower limit at most the upper one, found {lower} and {upper}");
        Err(Error::Config { field: "dt_limit", reason })
    }

    /// The rule is about so many heads, on this stream.
    pub(super) fn check(&self, heads: usize, stream: &Stream) -> Result<()> {
        match &self.bias {
            Some(bias) => check::flat("dt_bias", "(heads)", bias, &[heads], stream),
            None => Ok(()),
        }
    }

    /// As kernels take it: the address of the bias, 1 if the steps pass through a softplus, the lower and the upper limit.
    pub(super) fn arguments(&self) -> (u64, i32, f64, f64) {
        let bias = self.bias.as_ref().map_or(0, |bias| *bias.pointer());
        (bias, i32::from(self.squash == Squash::Softplus), self.limits.0, self.limits.1)
    }
}
