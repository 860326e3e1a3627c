//! Parts of networks: plain functions on views, each with its vjp behind it.
//!
//! A tensor of positions is (len, channels), the sequences of a batch one after the other; what looks at other positions takes
//! the [`crate::ssd::Sequences`] that tell where they begin. Parameters are [`Weight`]s, their cotangents plain arrays of the
//! same shapes.

mod activation;
mod attention;
mod conv1d;
mod embedding;
mod linear;
mod loss;
mod norm;
mod room;
mod rotary;
mod rows;
mod weight;

pub use crate::numbers::{Numbers, Shared, Storage};
pub use activation::{gate, gate_vjp, silu, silu_vjp};
pub use attention::{Heads, attention, attention_vjp};
pub use conv1d::{Conv1d, Conv1dGrad, causal_conv1d, causal_conv1d_vjp};
pub use embedding::{embedding, embedding_vjp};
pub use linear::{Linear, linear, linear_vjp};
pub use loss::{cross_entropy, cross_entropy_vjp};
pub use norm::{GatedNorm, GatedNormGrad, gated_rms_norm, gated_rms_norm_vjp, rms_norm, rms_norm_vjp};
pub use rotary::{Rotary, rotary, rotary_vjp};
pub use weight::Weight;

pub(crate) use conv1d::check_packed;
pub(crate) use embedding::check_tokens;
pub(crate) use linear::linear_into;
pub(crate) use loss::{cross_entropy_targets, summed_cross_entropy, summed_cross_entropy_vjp};
pub(crate) use norm::rms_norm_into;
pub(crate) use room::Room;
