//! Structured matrices: semiseparable ones, masks, scans and masked attention, against dense matrices and definitions.

mod accuracy;
mod algebra;
mod attention;
mod compress;
mod construction;
mod derivatives;
mod duality;
mod factor;
mod features;
mod gradients;
mod hostile;
mod masks;
mod numbers;
mod operator;
mod products;
mod reading;
mod reversal;
mod scans;
mod semiseparable;
#[cfg(feature = "serde")]
mod serialisation;
mod single;
mod support;
mod toeplitz;
