//! The CUDA backend against the CPU. Tests that need a device say so where there is none.
#![cfg(feature = "cuda")]

mod backward;
#[path = "../ssd/support.rs"]
mod cases;
mod forward;
mod hostile;
mod huge;
mod kernels;
mod parity;
mod parts;
mod raw;
mod steps;
mod support;
