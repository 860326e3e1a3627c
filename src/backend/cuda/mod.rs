//! NVIDIA GPUs, through the driver and its run-time compiler.
//!
//! Nothing of CUDA is needed to build this; the driver and, where a kernel is not in the [`KernelCache`] yet, the compiler
//! are looked for when the program runs, and a missing one is a [`crate::DeviceError`].
//!
//! The walk: a [`Device`] compiles and loads kernels, a [`Stream`] of it does work in order, a [`CudaTensor`] is memory
//! of a stream. [`Cuda`] is the place of an operator whose tensors are on the host, [`CudaSsd`] the operator with
//! tensors of the device: it checks, chooses in `plan.rs`, and calls the launches of a tier.

mod architecture;
mod cache;
mod check;
mod compile;
mod decode;
mod device;
mod exact;
mod extent;
mod generators;
mod graph;
pub mod kernels;
mod launch;
mod operator;
mod place;
mod plan;
mod portable;
mod selective_scan;
mod sm90;
mod source;
mod spans;
mod steps;
mod stream;
mod tensor;

pub use architecture::Architecture;
pub use cache::{KernelCache, Origin};
pub use compile::{Compiled, Compiler, Resources};
pub use decode::{DecodeStep, Slots, StateElement};
pub use device::Device;
pub use generators::{Raw, Steps, StepsGrad};
pub use graph::Graph;
pub use operator::{CudaGrad, CudaOutput, CudaSsd};
pub use place::Cuda;
pub use plan::Plan;
pub use selective_scan::{ScanGrad, ScanOutput, SelectiveScan};
pub use source::{HEADERS, KERNELS, Program, Source};
pub use steps::StepRule;
pub use stream::Stream;
pub use tensor::{CudaTensor, Element, Stored};
