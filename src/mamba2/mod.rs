//! The Mamba-2 language model: its configuration, its parameters, what it remembers.

#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod config;
pub mod generate;
mod parameters;
mod state;

pub use config::{AttentionConfig, Config, GatedNorm, MlpConfig};
pub use parameters::{Attention, Block, Conv1d, Layer, Linear, Mixer, Mlp, Model, Naming};
pub use state::{KeyValues, Memory, Snapshot, State};
