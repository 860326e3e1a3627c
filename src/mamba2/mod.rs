//! The Mamba-2 language model: its configuration, its parameters, what it remembers, forwards and backwards.
//!
//! [`Model`] holds parameters as plain structs of leaves. With [`crate::nn::Weight`]s it runs: [`Model::forward`] takes
//! [`Tokens`] and a [`State`] to logits, for a whole prompt or for one token, of one sequence or of many packed together.
//! [`Model::loss_vjp`] yields the gradient as the same struct of arrays. `checkpoint` (feature of that name) reads published
//! models, [`generate`] continues texts.

mod attention;
mod block;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod config;
pub mod generate;
mod gradient;
mod init;
mod layer;
mod mlp;
mod model;
mod parameters;
mod remembered;
mod state;
mod tokens;

pub use crate::nn::{Conv1d, GatedNorm, Linear};
pub use config::{AttentionConfig, Config, MlpConfig};
pub use gradient::{Grad, ModelGrad};
pub use parameters::{Attention, Block, Layer, Mixer, Mlp, Model, Naming};
pub use state::{KeyValues, Memory, Snapshot, State};
pub use tokens::Tokens;
