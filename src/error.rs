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
    /// A factorisation met a pivot that is not positive.
    NotPositiveDefinite {
        /// The step at which it stopped.
        step: usize,
        /// The pivot found there.
        pivot: String,
    },
    /// A system has no unique solution: a block that must be inverted is singular.
    Singular {
        /// The step at which this shows.
        step: usize,
        /// The block or pivot that is singular.
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
            Self::NotPositiveDefinite { step, pivot } => {
                write!(f, "not positive definite: pivot {pivot} at step {step}")
            }
            Self::Singular { step, found } => write!(f, "singular at step {step}: {found}"),
            Self::Config { field, reason } => write!(f, "field `{field}`: {reason}"),
            Self::File { path, reason } => write!(f, "file `{}`: {reason}", path.display()),
        }
    }
}

impl std::error::Error for Error {}
