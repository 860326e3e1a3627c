//! Files that appear whole or not at all.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::NamedTempFile;

use super::in_file;
use crate::error::Result;
use crate::numbers::{nearest_bf16, nearest_f16};

/// A file that is being made: a temporary one beside the place it will take.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    file: NamedTempFile,
}

impl Pending {
    /// Opens a temporary file in the folder of `path`, so that a bad path is told before any work.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the folder cannot be written to, or `path` is something other than a file.
    pub fn new(path: &Path) -> Result<Self> {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.exists() && !target.is_file() {
            return Err(in_file(path, "not a regular file, so it cannot be replaced"));
        }
        if target.file_name().is_none() {
            return Err(in_file(path, "not the name of a file"));
        }
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".semisep-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less what the umask takes
        let file = builder.tempfile_in(&folder).map_err(|e| {
            in_file(path, format!("no file can be made in the folder `{}`: {}", folder.display(), e.kind()))
        })?;
        Ok(Self { path: target, file })
    }

    /// Writes the content and gives the file its name.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the disk does not take it.
    pub fn commit(mut self, content: &[u8]) -> Result<()> {
        let wrong = |e: std::io::Error| in_file(&self.path, e);
        self.file.write_all(content).map_err(wrong)?;
        self.file.as_file().sync_all().map_err(wrong)?;
        self.file.persist(&self.path).map_err(|e| in_file(&self.path, e.error))?;
        Ok(())
    }
}

/// A tensor to be written: numbers in f64 and the type they take in the file.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name in the file.
    pub name: &'static str,
    /// Type in the file.
    pub dtype: Dtype,
    /// The numbers.
    pub values: ArrayD<f64>,
}

/// The bytes of a safetensors file.
///
/// # Errors
/// [`crate::Error::File`], naming `path`, if the type of a tensor is not a floating one of 16 bits or more.
pub fn safetensors_bytes(
    path: &Path,
    tensors: &[Tensor],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(tensors.len());
    let data: Vec<_> = tensors.iter().map(encode).collect();
    for (tensor, data) in tensors.iter().zip(&data) {
        let view = TensorView::new(tensor.dtype, tensor.values.shape().to_vec(), data);
        views.push((tensor.name, view.map_err(|e| in_file(path, e))?));
    }
    safetensors::serialize(views, Some(metadata)).map_err(|e| in_file(path, e))
}

fn encode(tensor: &Tensor) -> Vec<u8> {
    let values = tensor.values.iter();
    match tensor.dtype {
        Dtype::F32 => values.flat_map(|&v| (v as f32).to_le_bytes()).collect(),
        Dtype::F16 => values.flat_map(|&v| nearest_f16(v).to_le_bytes()).collect(),
        Dtype::BF16 => values.flat_map(|&v| nearest_bf16(v).to_le_bytes()).collect(),
        _ => values.flat_map(|&v| v.to_le_bytes()).collect(),
    }
}
