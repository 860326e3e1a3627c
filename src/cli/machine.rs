//! Where the tool computes.

use clap::ValueEnum;

use crate::error::Result;
#[cfg(not(feature = "cuda"))]
use crate::scalar::Scalar;
use crate::ssd::{Cpu, Place};

/// Places by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Device {
    /// This machine's processor
    #[default]
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
}

/// A number that every place can store.
#[cfg(feature = "cuda")]
pub trait Number: crate::backend::cuda::Stored {}
#[cfg(feature = "cuda")]
impl<T: crate::backend::cuda::Stored> Number for T {}

/// A number that every place can store.
#[cfg(not(feature = "cuda"))]
pub trait Number: Scalar {}
#[cfg(not(feature = "cuda"))]
impl<T: Scalar> Number for T {}

/// A device that was opened.
#[derive(Debug)]
pub enum Machine {
    /// This machine's processor.
    Cpu,
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(crate::backend::cuda::Stream),
}

impl Machine {
    /// Opens a device.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is none, [`crate::Error::Config`] if the tool was built without it.
    pub fn open(device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                use crate::backend::cuda::{Device, Stream};
                Ok(Self::Cuda(Stream::new(&Device::new(0)?)?))
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda => Err(crate::Error::Config {
                field: "--device",
                reason: "expected cpu, found cuda, which this tool was built without (feature `cuda`)".into(),
            }),
        }
    }

    /// The device as a place of operators.
    pub fn place<T: Number>(&self) -> Box<dyn Place<T>> {
        match self {
            Self::Cpu => Box::new(Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(stream) => Box::new(crate::backend::cuda::Cuda::<T>::on(stream.clone())),
        }
    }
}
