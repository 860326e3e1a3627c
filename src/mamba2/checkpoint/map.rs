//! Files as memory: what is read of a file is what is touched.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Result, in_file};

/// A file whose bytes are memory for as long as this lives.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`crate::Error::File`] if it is not a regular file or cannot be read.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(|e| in_file(path, e))?.is_file() {
            return Err(in_file(path, "not a regular file"));
        }
        let file = File::open(path).map_err(|e| in_file(path, e))?;
        // SAFETY: the map is private and read-only, and is only ever read as plain bytes and numbers, for which every
        // bit pattern is a value. What is left is that another program changes or shortens the file meanwhile, which
        // no reader of a map can exclude; the documentation of `load` asks users not to.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| in_file(path, e))?;
        Ok(Self { path: path.to_owned(), map })
    }

    /// Where the file is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
