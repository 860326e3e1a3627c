//! Places besides the CPU.

pub mod cuda;
