//! Networks and the language model: gradients, reference models, checkpoints, text.

#[cfg(feature = "checkpoint")]
mod checkpoint;
#[cfg(feature = "checkpoint")]
mod files;
#[cfg(feature = "text")]
mod generate;
mod golden;
mod gradients;
mod nn;
mod splits;
mod support;
#[cfg(feature = "text")]
mod tokenizer;
