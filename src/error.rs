//! The one error type of the crate.

use std::fmt;
use std::path::PathBuf;

/// What was wrong with an input: which tensor or field, what was expected, what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has the wrong rank or the wrong length along an axis.
    Shape {
        /// Name of the tensor, as in `docs/notation.md`.
        tensor: &'static str,
        /// The shape that was expected, in words and numbers.
        expected: String,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor has the right shape but holds a value that is not allowed there.
    Value {
        /// Name of the tensor.
        tensor: &'static str,
        /// What every value must satisfy.
        expected: &'static str,
        /// The first offending value and where it stands.
        found: String,
    },
    /// An option contradicts itself or another one.
    Config {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read, written or understood.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An accelerator is missing, cannot do what is asked, or failed.
    Device(DeviceError),
}

/// What went wrong on the way to an accelerator, on it or with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// The driver's library is not installed.
    NoDriver,
    /// The library of the run-time compiler is not installed, and the kernel is not in the cache either.
    NoCompiler,
    /// There is no device of this number.
    NoDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The architecture is too old for the kernels or unknown to the compiler.
    Unsupported {
        /// What it was found to be.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// The device has no memory left for a tensor.
    OutOfMemory {
        /// Size of the allocation that failed.
        bytes: usize,
    },
    /// A tensor is on another device or stream than the others.
    Elsewhere {
        /// Name of the tensor.
        tensor: &'static str,
    },
    /// A kernel does not compile.
    Compile {
        /// File of the kernel.
        kernel: String,
        /// What the compiler said.
        log: String,
    },
    /// A kernel was not started, or failed while it ran.
    Launch {
        /// Name of the kernel, or of the call that reported the failure of an earlier one.
        kernel: String,
        /// What the driver said.
        reason: String,
    },
    /// The driver refused a call.
    Driver {
        /// Name of the call.
        call: &'static str,
        /// What the driver said.
        reason: String,
    },
}

/// [`std::result::Result`] with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A shape error; `expected` is any text, `found` the shape at hand.
    pub(crate) fn shape(tensor: &'static str, expected: impl Into<String>, found: &[usize]) -> Self {
        Self::Shape { tensor, expected: expected.into(), found: found.to_vec() }
    }
}

/// `Ok` if `found` is `expected`, else a shape error that names `tensor` and its axes.
pub(crate) fn check_shape(
    tensor: &'static str,
    axes: &str,
    expected: &[usize],
    found: &[usize],
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(tensor, format!("{axes} = {expected:?}"), found))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { tensor, expected, found } => {
                write!(f, "tensor `{tensor}`: expected shape {expected}, found {found:?}")
            }
            Self::Value { tensor, expected, found } => {
                write!(f, "tensor `{tensor}`: expected {expected}, found {found}")
            }
            Self::Config { field, reason } => write!(f, "field `{field}`: {reason}"),
            Self::File { path, reason } => write!(f, "file `{}`: {reason}", path.display()),
            Self::Device(wrong) => wrong.fmt(f),
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => write!(f, "device: no CUDA driver library found"),
            Self::NoCompiler => write!(f, "device: no run-time compiler library (nvrtc) found"),
            Self::NoDevice { ordinal, count } => write!(f, "device: number {ordinal} of {count}"),
            Self::Unsupported { found, expected } => write!(f, "device: expected {expected}, found {found}"),
            Self::OutOfMemory { bytes } => write!(f, "device: no memory left for {bytes} bytes"),
            Self::Elsewhere { tensor } => {
                write!(f, "tensor `{tensor}`: expected on the stream of the call, found on another")
            }
            Self::Compile { kernel, log } => write!(f, "kernel `{kernel}` does not compile: {log}"),
            Self::Launch { kernel, reason } => write!(f, "kernel `{kernel}`: {reason}"),
            Self::Driver { call, reason } => write!(f, "device: {call}: {reason}"),
        }
    }
}

impl From<DeviceError> for Error {
    fn from(wrong: DeviceError) -> Self {
        Self::Device(wrong)
    }
}

impl std::error::Error for Error {}
