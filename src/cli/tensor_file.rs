//! Tensors by name from a safetensors file.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension, IxDyn};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::in_file;
use crate::error::Result;
use crate::mamba2::checkpoint::check_whole;

/// The tensors of one file; every error names the file and the tensor.
#[derive(Debug)]
pub struct TensorFile<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> TensorFile<'a> {
    /// Checks the header and all offsets. `path` is for messages.
    ///
    /// # Errors
    /// [`crate::Error::File`] if `bytes` are not a whole safetensors file.
    pub fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        check_whole(path, bytes)?;
        let wrong = |e| in_file(path, format!("not a whole safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(bytes).map_err(wrong)?;
        Ok(Self { path, tensors, metadata })
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// A string of the metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The tensor `name` as numbers of any floating type, or `None` if there is none.
    ///
    /// # Errors
    /// [`crate::Error::File`] if its type is not F64, F32, F16 or BF16.
    pub fn numbers(&self, name: &str) -> Result<Option<ArrayD<f64>>> {
        let Ok(tensor) = self.tensors.tensor(name) else { return Ok(None) };
        let bytes = tensor.data();
        let values: Vec<f64> = match tensor.dtype() {
            Dtype::F64 => words(bytes).map(f64::from_le_bytes).collect(),
            Dtype::F32 => words(bytes).map(|w| f32::from_le_bytes(w).into()).collect(),
            Dtype::F16 => words(bytes).map(|w| f16::from_le_bytes(w).into()).collect(),
            Dtype::BF16 => words(bytes).map(|w| bf16::from_le_bytes(w).into()).collect(),
            other => {
                return Err(self.wrong(name, format!("expected type F64, F32, F16 or BF16, found {other:?}")));
            }
        };
        self.shaped(name, &tensor, values).map(Some)
    }

    /// The tensor `name` as 32-bit integers, or `None` if there is none.
    ///
    /// # Errors
    /// [`crate::Error::File`] if its type is not I32.
    pub fn integers(&self, name: &str) -> Result<Option<ArrayD<i32>>> {
        let Ok(tensor) = self.tensors.tensor(name) else { return Ok(None) };
        if tensor.dtype() != Dtype::I32 {
            return Err(self.wrong(name, format!("expected type I32, found {:?}", tensor.dtype())));
        }
        let values = words(tensor.data()).map(i32::from_le_bytes).collect();
        self.shaped(name, &tensor, values).map(Some)
    }

    /// The tensor `name` as 64-bit integers, or `None` if there is none.
    ///
    /// # Errors
    /// [`crate::Error::File`] if its type is not I64.
    pub fn long_integers(&self, name: &str) -> Result<Option<ArrayD<i64>>> {
        let Ok(tensor) = self.tensors.tensor(name) else { return Ok(None) };
        if tensor.dtype() != Dtype::I64 {
            return Err(self.wrong(name, format!("expected type I64, found {:?}", tensor.dtype())));
        }
        let values = words(tensor.data()).map(i64::from_le_bytes).collect();
        self.shaped(name, &tensor, values).map(Some)
    }

    /// `array` with the rank that its type says.
    ///
    /// # Errors
    /// [`crate::Error::File`] if it has another.
    pub fn ranked<A, D: Dimension>(&self, name: &str, axes: &str, array: ArrayD<A>) -> Result<Array<A, D>> {
        let found = array.shape().to_vec();
        let wrong = |_| self.wrong(name, format!("expected shape {axes}, found {found:?}"));
        array.into_dimensionality().map_err(wrong)
    }

    /// An error about one tensor of this file.
    pub fn wrong(&self, name: &str, reason: impl std::fmt::Display) -> crate::Error {
        in_file(self.path, format!("tensor `{name}`: {reason}"))
    }

    fn shaped<A>(&self, name: &str, tensor: &TensorView<'_>, values: Vec<A>) -> Result<ArrayD<A>> {
        ArrayD::from_shape_vec(IxDyn(tensor.shape()), values).map_err(|e| self.wrong(name, e))
    }
}

/// `bytes` in words of `N`.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|word| {
        let mut own = [0; N];
        own.copy_from_slice(word);
        own
    })
}
