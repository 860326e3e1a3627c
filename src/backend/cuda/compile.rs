//! From a program to machine code, by the run-time compiler; needs no device and no driver.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::OnceLock;

use cudarc::nvrtc::sys as nvrtc;

use super::architecture::Architecture;
use super::source::Program;
use crate::error::{DeviceError, Result};

/// The newest of the functions used here, of CUDA 11.2.
const NEWEST: &[u8] = b"nvrtcGetSupportedArchs";

/// The run-time compiler, known to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    version: (i32, i32),
    known: Vec<u32>,
}

/// Machine code for one architecture, and what the compiler had to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The object file that the driver loads.
    pub image: Vec<u8>,
    /// Warnings, and the resources of each kernel.
    pub log: String,
}

/// What a kernel needs of a multiprocessor, as the compiler tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Name of the kernel.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of registers that a thread has to keep in memory.
    pub spilled: u32,
}

impl Compiled {
    /// The resources of every kernel, from the log.
    pub fn resources(&self) -> Vec<Resources> {
        let before = |line: &str, word: &str| -> u32 {
            let number = line.split(word).next().and_then(|head| head.split_whitespace().last());
            number.and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let mut found: Vec<Resources> = Vec::new();
        for line in self.log.lines() {
            if let Some(rest) = line.split("Compiling entry function '").nth(1) {
                let name = rest.split('\'').next().unwrap_or_default().to_owned();
                found.push(Resources { name, registers: 0, spilled: 0 });
            }
            let Some(kernel) = found.last_mut() else { continue };
            if line.contains("bytes spill stores") {
                kernel.spilled += before(line, " bytes spill stores") + before(line, " bytes spill loads");
            }
            if line.contains("registers") {
                kernel.registers = before(line, " registers");
            }
        }
        found
    }
}

impl Compiler {
    /// The compiler of this machine.
    ///
    /// # Errors
    /// [`DeviceError::NoCompiler`] if its library is not found by the loader or older than CUDA 11.2.
    pub fn find() -> Result<&'static Self> {
        static FOUND: OnceLock<Option<Compiler>> = OnceLock::new();
        FOUND.get_or_init(Self::open).as_ref().ok_or(DeviceError::NoCompiler.into())
    }

    fn open() -> Option<Self> {
        // SAFETY: opens the library if the loader finds it; it has no initialiser that could misbehave.
        if !unsafe { nvrtc::is_culib_present() } {
            return None;
        }
        // SAFETY: the library is present; the symbol is looked for and not used.
        if unsafe { nvrtc::culib().get::<*const ()>(NEWEST) }.is_err() {
            return None; // of a version that is too old
        }
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the library is present; both calls write integers to the places given.
        unsafe {
            nvrtc::nvrtcVersion(&mut major, &mut minor).result().ok()?;
            nvrtc::nvrtcGetNumSupportedArchs(&mut count).result().ok()?;
        }
        let mut known = vec![0 as c_int; usize::try_from(count).ok()?];
        // SAFETY: `known` has room for as many integers as the library said that it will write.
        unsafe { nvrtc::nvrtcGetSupportedArchs(known.as_mut_ptr()).result().ok()? };
        let known = known.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        Some(Self { version: (major, minor), known })
    }

    /// Its version, as `13.0`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// The newest architecture it knows whose code runs on `device`.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if there is none.
    pub fn target(&self, device: Architecture) -> Result<Architecture> {
        device.target(&self.known)
    }

    /// Compiles a program.
    ///
    /// # Errors
    /// [`DeviceError::Compile`] with the compiler's log.
    pub fn compile(&self, program: &Program, target: Architecture) -> Result<Compiled> {
        let wrong = |log: String| DeviceError::Compile { kernel: program.to_string(), log };
        let text = |s: &str| CString::new(s).map_err(|e| wrong(e.to_string()));
        let (name, source) = (text(program.source().name)?, text(program.source().text)?);
        let headers = program.headers();
        let names = headers.iter().map(|h| text(h.name)).collect::<std::result::Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|h| text(h.text)).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = options(program, target)
            .iter()
            .map(|option| text(option))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let (names, texts, options) = (pointers(&names), pointers(&texts), pointers(&options));

        let mut handle = ptr::null_mut();
        // SAFETY: every string is terminated and outlives the program, which is destroyed at the end of this
        // function; there are as many header names as header texts.
        let created = unsafe {
            nvrtc::nvrtcCreateProgram(
                &mut handle,
                source.as_ptr(),
                name.as_ptr(),
                texts.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        created.result().map_err(|e| wrong(e.to_string()))?;
        let handle = Handle(handle);
        // SAFETY: the program exists, and `options` points to as many terminated strings as it is said to hold.
        let compiled =
            unsafe { nvrtc::nvrtcCompileProgram(handle.0, options.len() as c_int, options.as_ptr()) };
        let log = handle.log();
        compiled.result().map_err(|e| wrong(format!("{e}: {}", log.trim())))?;
        let image = handle.image().ok_or_else(|| wrong("no machine code".into()))?;
        Ok(Compiled { image, log })
    }
}

/// What the compiler is told. Products are fused with sums; divisions, roots and exponentials are exact to rounding.
pub(super) fn options(program: &Program, target: Architecture) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture={target}"),
        "--std=c++17".into(),
        "--ptxas-options=-v".into(),
        "--device-as-default-execution-space".into(),
    ];
    options.extend(program.defines().iter().map(|(name, value)| format!("--define-macro={name}={value}")));
    options
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).collect()
}

/// A compiler's program, destroyed when it goes.
struct Handle(nvrtc::nvrtcProgram);

impl Handle {
    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the program exists; one integer is written.
        if unsafe { nvrtc::nvrtcGetProgramLogSize(self.0, &mut size) }.result().is_err() {
            return String::new();
        }
        let mut bytes = vec![0u8; size];
        // SAFETY: `bytes` has the size that the library asked for.
        match unsafe { nvrtc::nvrtcGetProgramLog(self.0, bytes.as_mut_ptr().cast()) }.result() {
            Ok(()) => String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned(),
            Err(_) => String::new(),
        }
    }

    fn image(&self) -> Option<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program exists and was compiled; one integer is written.
        unsafe { nvrtc::nvrtcGetCUBINSize(self.0, &mut size) }.result().ok()?;
        let mut bytes = vec![0u8; size];
        // SAFETY: `bytes` has the size that the library asked for.
        unsafe { nvrtc::nvrtcGetCUBIN(self.0, bytes.as_mut_ptr().cast()) }.result().ok()?;
        (size > 0).then_some(bytes)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the program exists and is not used again.
        let _ = unsafe { nvrtc::nvrtcDestroyProgram(&mut self.0) };
    }
}
