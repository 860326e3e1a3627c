//! Compiled kernels on disk.
//!
//! An entry is a file named after its kernel, its architecture and a hash of everything that the machine code depends on but
//! the compiler's version, which stands inside: an entry of another version is made again where a compiler is
//! installed, and used as it is where none is. Entries are written beside their place and renamed into it, so that two
//! processes at once see whole entries or none; a checksum finds what was damaged later.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use super::architecture::Architecture;
use super::compile::{Compiler, options};
use super::source::Program;
use crate::error::Result;

/// What every entry begins with; changes with the format.
const MAGIC: &[u8] = b"semisep kernel 1\n";

/// What every object file begins with; the driver would take another text for a program of its own.
const OBJECT: &[u8] = b"\x7fELF";

/// Where compiled kernels are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCache {
    folder: Option<PathBuf>,
}

/// Where machine code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled now.
    Compiled,
    /// It was read from disk.
    Disk,
}

impl Default for KernelCache {
    /// `semisep/kernels` in the user's cache folder; nowhere if there is none.
    fn default() -> Self {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        Self { folder: base.map(|base| base.join("semisep").join("kernels")) }
    }
}

impl KernelCache {
    /// In `folder`, which is made when it is needed.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// Nowhere: every process compiles its kernels again.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Machine code of a program for a device: from disk where a whole entry of this compiler's version is there, or, without a
    /// compiler, one of any version whose code runs on the device; else compiled and kept. A folder that cannot be written
    /// to keeps nothing, and that is no error.
    ///
    /// # Errors
    /// [`crate::DeviceError::NoCompiler`] if it must be compiled and cannot be,
    /// [`crate::DeviceError::Unsupported`] if the compiler does not know the architecture,
    /// [`crate::DeviceError::Compile`] if the program is wrong.
    pub fn image(&self, program: &Program, device: Architecture) -> Result<(Vec<u8>, Origin)> {
        let there = match Compiler::find() {
            Ok(compiler) => self.find(program, [compiler.target(device)?], Some(&compiler.version())),
            Err(_) => self.find(program, device.runs(), None),
        };
        match there {
            Some(image) => Ok((image, Origin::Disk)),
            None => Ok((self.renew(program, device)?, Origin::Compiled)),
        }
    }

    /// The first whole entry for one of the targets, of a compiler's version or of any.
    fn find(
        &self,
        program: &Program,
        targets: impl IntoIterator<Item = Architecture>,
        version: Option<&str>,
    ) -> Option<Vec<u8>> {
        targets.into_iter().find_map(|target| read(&self.entry(program, target)?, program, target, version))
    }

    /// The same, compiled whatever the disk has.
    pub(super) fn renew(&self, program: &Program, device: Architecture) -> Result<Vec<u8>> {
        let compiler = Compiler::find()?;
        let target = compiler.target(device)?;
        let image = compiler.compile(program, target)?.image;
        self.keep(program, target, compiler, &image);
        Ok(image)
    }

    /// Keeps machine code that `compiler` made, if the folder can be written to.
    pub fn keep(&self, program: &Program, target: Architecture, compiler: &Compiler, image: &[u8]) {
        if let Some(path) = self.entry(program, target) {
            let _ = write(&path, program, target, &compiler.version(), image); // nothing kept is no error
        }
    }

    /// The file of a program's machine code.
    pub fn entry(&self, program: &Program, target: Architecture) -> Option<PathBuf> {
        let stem = program.source().name.replace(['/', '.'], "-");
        let name = format!("{stem}-{target}-{:032x}", hash(key(program, target).as_bytes()));
        Some(self.folder.as_ref()?.join(name))
    }
}

/// Everything that machine code depends on but the compiler's version.
fn key(program: &Program, target: Architecture) -> String {
    let mut key = format!("{program}\n{}\n", options(program, target).join(" "));
    for source in std::iter::once(program.source()).chain(program.headers()) {
        key.push_str(&format!("{} {:032x}\n", source.name, hash(source.text.as_bytes())));
    }
    key
}

/// An entry's text before the image.
fn header(program: &Program, target: Architecture, version: &str) -> Vec<u8> {
    [MAGIC, key(program, target).as_bytes(), b"compiler ", version.as_bytes(), b"\n\0"].concat()
}

/// The image of an entry, if it is whole and the one that is meant.
fn read(path: &Path, program: &Program, target: Architecture, version: Option<&str>) -> Option<Vec<u8>> {
    let entry = fs::read(path).ok()?;
    let (content, checksum) = entry.split_at(entry.len().checked_sub(16)?);
    if hash(content).to_le_bytes() != checksum {
        return None;
    }
    let end = content.iter().position(|&byte| byte == 0)? + 1;
    let (found, image) = content.split_at(end);
    let expected = header(program, target, version.unwrap_or(""));
    let meant = match version {
        Some(_) => found == expected,
        None => found.starts_with(&expected[..expected.len() - 2]), // any version
    };
    (meant && image.starts_with(OBJECT)).then(|| image.to_owned())
}

/// Writes an entry beside its place and moves it there.
fn write(
    path: &Path,
    program: &Program,
    target: Architecture,
    version: &str,
    image: &[u8],
) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut entry = header(program, target, version);
    entry.extend_from_slice(image);
    let checksum = hash(&entry).to_le_bytes();
    entry.extend_from_slice(&checksum);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let own = format!("part-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let beside = path.with_extension(own);
    let moved = fs::write(&beside, &entry).and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved
}

/// FNV-1a in 128 bits: names entries and finds damage; it need not withstand an adversary, since who can write to the
/// folder can replace the kernels anyway.
fn hash(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62272e07bb014262b821756295c58d;
    const PRIME: u128 = 0x0000000001000000000000000000013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::{KernelCache, OBJECT, write};
    use crate::backend::cuda::{Architecture, Program};

    /// What stands in the cache for `device` after an entry for `target` was written by version 13.0.
    fn found(target: &str, device: &str, version: Option<&str>) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache::at(folder.path());
        let [target, device]: [Architecture; 2] = [target, device].map(|name| name.parse().unwrap());
        let program = Program::new("fill.cu");
        write(&cache.entry(&program, target).unwrap(), &program, target, "13.0", OBJECT).unwrap();
        match version {
            Some(_) => cache.find(&program, [device], version),
            None => cache.find(&program, device.runs(), None),
        }
        .is_some()
    }

    #[test]
    fn without_a_compiler_an_entry_that_runs_on_the_device_will_do() {
        for (target, device) in
            [("sm_86", "sm_86"), ("sm_80", "sm_86"), ("sm_80", "sm_89"), ("sm_90", "sm_90")]
        {
            assert!(found(target, device, None), "{target} on {device}");
        }
        for (target, device) in
            [("sm_86", "sm_80"), ("sm_80", "sm_90"), ("sm_90", "sm_100"), ("sm_90", "sm_91")]
        {
            assert!(!found(target, device, None), "{target} on {device}");
        }
        assert!(found("sm_80", "sm_80", Some("13.0")));
        assert!(!found("sm_80", "sm_80", Some("12.9")));
        assert!(!found("sm_80", "sm_86", Some("13.0")));
    }
}
