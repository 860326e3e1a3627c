//! A device, its memory pool, and the kernels that are loaded on it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, ptr, thread};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::architecture::Architecture;
use super::cache::{KernelCache, Origin};
use super::launch::Kernel;
use super::source::Program;
use crate::error::{DeviceError, Error, Result};

/// Bytes of stack of a thread that compiles: as many as a program's first thread has.
const STACK: usize = 8 << 20;

/// The newest of the driver's functions used here.
const NEWEST: &str = "cuTensorMapEncodeTiled";

/// A CUDA device with its primary context; cheap to clone.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    ordinal: usize,
    raw: sys::CUdevice,
    context: sys::CUcontext,
    name: String,
    architecture: Architecture,
    multiprocessors: u32,
    shared_memory: u32,
    cache: KernelCache,
    modules: Mutex<HashMap<Program, Arc<Module>>>,
}

// SAFETY: the driver's handles of devices and contexts may be used from any thread that makes the context current, which
// every use here does (`bind`); the table of modules is behind a lock.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// A loaded program; never unloaded while its device lives, so that functions of it stay valid.
struct Module {
    raw: sys::CUmodule,
}

// SAFETY: as of `Inner`: the driver's handles of modules may be used from any thread that makes the context current.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Device {
    /// Device `ordinal` of this machine, with kernels kept in the user's cache folder.
    ///
    /// # Errors
    /// [`DeviceError::NoDriver`], [`DeviceError::NoDevice`], [`DeviceError::Unsupported`] for an architecture before
    /// sm_80, [`DeviceError::Driver`] for what the driver refuses or, being older than CUDA 12.0, lacks.
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::with_cache(ordinal, KernelCache::default())
    }

    /// The same with kernels kept elsewhere.
    ///
    /// # Errors
    /// As [`Device::new`].
    pub fn with_cache(ordinal: usize, cache: KernelCache) -> Result<Self> {
        // SAFETY: opens the library if the loader finds it; the driver's own initialiser does nothing before `init`.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver.into());
        }
        if !has("cuInit") {
            return Err(DeviceError::NoDriver.into()); // another library of that name
        }
        if !has(NEWEST) {
            let reason = "expected a driver of CUDA 12.0 or later, found one without this function".into();
            return Err(DeviceError::Driver { call: NEWEST, reason }.into());
        }
        let count = match result::init().and_then(|()| result::device::get_count()) {
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(DriverError(sys::CUresult::CUDA_ERROR_STUB_LIBRARY)) => {
                return Err(DeviceError::NoDriver.into());
            }
            other => usize::try_from(other.map_err(|e| driver("cuInit", e))?).unwrap_or(0),
        };
        let raw = match i32::try_from(ordinal) {
            Ok(number) if ordinal < count => {
                result::device::get(number).map_err(|e| driver("cuDeviceGet", e))?
            }
            _ => return Err(DeviceError::NoDevice { ordinal, count }.into()),
        };
        let attribute = |which| {
            // SAFETY: `raw` is a device of this driver.
            let value = unsafe { result::device::get_attribute(raw, which) };
            value.map(|v| u32::try_from(v).unwrap_or(0)).map_err(|e| driver("cuDeviceGetAttribute", e))
        };
        let architecture = Architecture::new(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared_memory = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let name = result::device::get_name(raw).map_err(|e| driver("cuDeviceGetName", e))?;
        // SAFETY: `raw` is a device of this driver; released when `Inner` goes.
        let context =
            unsafe { result::primary_ctx::retain(raw) }.map_err(|e| driver("cuDevicePrimaryCtxRetain", e))?;
        let modules = Mutex::default();
        let inner = Inner {
            ordinal,
            raw,
            context,
            name,
            architecture,
            multiprocessors,
            shared_memory,
            cache,
            modules,
        };
        let device = Self { inner: Arc::new(inner) };
        device.keep_freed_memory()?;
        Ok(device)
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.inner.ordinal
    }

    /// Its name, as the driver tells it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What its kernels are compiled for.
    pub fn architecture(&self) -> Architecture {
        self.inner.architecture
    }

    /// Number of multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.inner.multiprocessors
    }

    /// Bytes of shared memory that one block can have.
    pub fn shared_memory(&self) -> u32 {
        self.inner.shared_memory
    }

    /// Makes the device current on the calling thread, as every call of the driver wants it.
    pub(crate) fn bind(&self) -> Result<()> {
        // SAFETY: the context is retained for as long as `inner` lives.
        unsafe { result::ctx::set_current(self.inner.context) }.map_err(|e| driver("cuCtxSetCurrent", e))
    }

    /// The function `name` of a program: compiled or read from the cache, and loaded, the first time.
    ///
    /// # Errors
    /// As [`KernelCache::image`], and [`DeviceError::Driver`] if it cannot be loaded.
    pub(crate) fn kernel(&self, program: &Program, name: &'static str) -> Result<Kernel> {
        let module = self.module(program)?;
        self.bind()?;
        let symbol =
            CString::new(name).map_err(|_| Error::Config { field: "kernel", reason: name.into() })?;
        // SAFETY: the module is loaded and stays so.
        let function = unsafe { result::module::get_function(module.raw, symbol) };
        function.map(|raw| Kernel::new(name, raw)).map_err(|e| driver("cuModuleGetFunction", e))
    }

    /// Loads programs that a call will start, those that must be compiled beside one another.
    ///
    /// # Errors
    /// As [`Device::kernel`].
    pub(crate) fn load(&self, programs: &[Program]) -> Result<()> {
        let mut modules = self.modules();
        let missing: Vec<_> = programs.iter().filter(|program| !modules.contains_key(program)).collect();
        let Some((last, others)) = missing.split_last() else { return Ok(()) };
        let image = |program: &Program| self.image(program);
        let images: Vec<Result<(Vec<u8>, Origin)>> = thread::scope(|scope| {
            let beside: Vec<_> = others
                .iter()
                .map(|program| {
                    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || image(program))
                })
                .collect();
            let own = image(last);
            // Where no thread could be had, or it did not end, this one does its work.
            let done = others.iter().zip(beside).map(|(program, thread)| {
                thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| image(program))
            });
            done.chain([own]).collect()
        });
        for (program, image) in missing.into_iter().zip(images) {
            modules.insert(program.clone(), self.module_of(program, image?)?);
        }
        Ok(())
    }

    fn modules(&self) -> MutexGuard<'_, HashMap<Program, Arc<Module>>> {
        self.inner.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn module(&self, program: &Program) -> Result<Arc<Module>> {
        let mut modules = self.modules();
        if let Some(module) = modules.get(program) {
            return Ok(module.clone());
        }
        let module = self.module_of(program, self.image(program)?)?;
        modules.insert(program.clone(), module.clone());
        Ok(module)
    }

    fn image(&self, program: &Program) -> Result<(Vec<u8>, Origin)> {
        self.inner.cache.image(program, self.inner.architecture)
    }

    /// Loads machine code on the device.
    fn module_of(&self, program: &Program, (image, origin): (Vec<u8>, Origin)) -> Result<Arc<Module>> {
        self.bind()?;
        let raw = match load(&image) {
            // Whole, but not for this driver: perhaps one that was replaced.
            Err(wrong) if origin == Origin::Disk => {
                match self.inner.cache.renew(program, self.inner.architecture) {
                    Ok(image) => load(&image),
                    Err(_) => Err(wrong),
                }
            }
            found => found,
        }?;
        Ok(Arc::new(Module { raw }))
    }

    /// Memory that a tensor has given back stays with the process for the next one: asking the system for it anew takes
    /// longer than most kernels.
    fn keep_freed_memory(&self) -> Result<()> {
        self.bind()?;
        let mut all = u64::MAX;
        // SAFETY: the pool belongs to the device; the attribute is an integer of 64 bits.
        unsafe {
            result::device::get_default_mem_pool(self.inner.raw).and_then(|pool| {
                result::mem_pool::set_attribute(
                    pool,
                    sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                    ptr::from_mut(&mut all).cast(),
                )
            })
        }
        .map_err(|e| driver("cuMemPoolSetAttribute", e))
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.inner.context == other.inner.context
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}: {}, {})", self.inner.ordinal, self.inner.name, self.inner.architecture)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let modules = std::mem::take(self.modules.get_mut().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: the context was retained once and everything that uses it holds `Inner`; modules are unloaded before.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            for module in modules.into_values() {
                let _ = result::module::unload(module.raw);
            }
            let _ = result::primary_ctx::release(self.raw);
        }
    }
}

/// Loads an object file on the current device.
fn load(image: &[u8]) -> Result<sys::CUmodule> {
    // SAFETY: `image` is a whole object file, which the driver copies; its length stands in its header.
    unsafe { result::module::load_data(image.as_ptr().cast::<c_void>()) }
        .map_err(|e| driver("cuModuleLoadData", e))
}

/// Whether the driver's library, which is present, has a function.
fn has(function: &str) -> bool {
    // SAFETY: the library is present; the symbol is looked for and not used.
    unsafe { sys::culib().get::<*const ()>(function.as_bytes()) }.is_ok()
}

/// What the driver said of `call`.
pub(super) fn driver(call: &'static str, wrong: DriverError) -> Error {
    let reason = wrong.to_string();
    match wrong.0 {
        sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | sys::CUresult::CUDA_ERROR_INVALID_PTX => {
            DeviceError::Unsupported {
                found: reason,
                expected: "a device that runs the kernel's code".into(),
            }
        }
        // Failures of a kernel that ran, told by whichever call comes next.
        sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | sys::CUresult::CUDA_ERROR_LAUNCH_FAILED
        | sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | sys::CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | sys::CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | sys::CUresult::CUDA_ERROR_INVALID_PC
        | sys::CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | sys::CUresult::CUDA_ERROR_ASSERT
        | sys::CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION => {
            DeviceError::Launch { kernel: call.into(), reason }
        }
        _ => DeviceError::Driver { call, reason },
    }
    .into()
}
