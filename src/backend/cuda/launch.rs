//! Starting kernels.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::{fmt, ptr};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::check::MOST_BLOCKS;
use super::device::driver;
use super::stream::Stream;
use super::tensor::{CudaTensor, Element};
use crate::error::{DeviceError, Error, Result};

/// Bytes of shared memory that a block may have without asking.
const SHARED_UNASKED: u32 = 48 << 10;

/// A function that runs on the device.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    name: &'static str,
    raw: sys::CUfunction,
}

/// How many blocks, threads and bytes of shared memory a kernel is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub blocks: [usize; 3],
    pub threads: u32,
    pub shared: u32,
    pub start: Start,
}

/// When a kernel starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Once all before it is done.
    After,
    /// Once every block of the kernel before it has begun and lets it (`griddepcontrol.launch_dependents`), and multiprocessors
    /// are free; it waits itself where it needs what that kernel writes (`griddepcontrol.wait`).
    Beside,
}

impl Grid {
    /// `blocks` of `threads` threads, without dynamic shared memory.
    pub fn new(blocks: [usize; 3], threads: u32) -> Self {
        Self { blocks, threads, shared: 0, start: Start::After }
    }
}

impl Kernel {
    pub(super) fn new(name: &'static str, raw: sys::CUfunction) -> Self {
        Self { name, raw }
    }

    /// Puts the kernel into the queue; a grid without blocks is nothing to do.
    ///
    /// # Errors
    /// [`DeviceError::Launch`] if the grid or the shared memory is more than the device has.
    ///
    /// # Safety
    /// `arguments` are those of the kernel's declaration, in order and of the same size, and every pointer among them
    /// leads to memory of the stream that holds whatever the kernel reads or writes there.
    pub unsafe fn launch(&self, stream: &Stream, grid: Grid, arguments: &[&dyn Argument]) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let wrong =
            |reason: String| -> Error { DeviceError::Launch { kernel: self.name.into(), reason }.into() };
        let refused = |e: DriverError| match driver("cuLaunchKernelEx", e) {
            Error::Device(DeviceError::Driver { reason, .. }) => wrong(reason),
            other => other,
        };
        let [x, y, z] = grid.blocks;
        let limits = [i32::MAX as usize, MOST_BLOCKS, MOST_BLOCKS];
        if grid.blocks.iter().zip(limits).any(|(&blocks, limit)| blocks > limit) {
            return Err(wrong(format!("expected at most {limits:?} blocks, found {:?}", grid.blocks)));
        }
        stream.device().bind()?;
        if grid.shared > SHARED_UNASKED {
            let most = stream.device().shared_memory();
            if grid.shared > most {
                let reason = format!("expected at most {most} bytes of shared memory, found {}", grid.shared);
                return Err(wrong(reason));
            }
            // SAFETY: the function belongs to a module that stays loaded.
            unsafe {
                result::function::set_function_attribute(
                    self.raw,
                    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    grid.shared as i32,
                )
            }
            .map_err(refused)?;
        }
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|a| a.address().cast_mut()).collect();
        let mut beside = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: grid.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: grid.shared,
            hStream: stream.raw(),
            attrs: &mut beside,
            numAttrs: u32::from(grid.start == Start::Beside),
        };
        // SAFETY: the caller vouches for the arguments, whose addresses, like the attribute, the driver reads before it returns.
        unsafe { sys::cuLaunchKernelEx(&config, self.raw, pointers.as_mut_ptr(), ptr::null_mut()) }
            .result()
            .map_err(refused)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name)
    }
}

/// Something that a kernel takes.
pub(crate) trait Argument {
    /// Where it stands on the host, as the kernel's parameter.
    fn address(&self) -> *const c_void;
}

/// Structs of numbers and addresses, laid out as their twins under `cuda/` are.
pub(crate) trait Parameters: Copy {}

macro_rules! impl_parameters {
    ($($t:ty),*) => {$( impl Parameters for $t {} )*};
}
impl_parameters!(i32, u32, i64, u64, f32, f64);

impl<P: Parameters> Argument for P {
    fn address(&self) -> *const c_void {
        ptr::from_ref(self).cast()
    }
}

/// A tensor is taken as the address of its first element.
impl<T: Element> Argument for CudaTensor<T> {
    fn address(&self) -> *const c_void {
        ptr::from_ref(self.pointer()).cast()
    }
}

/// An absent tensor is a null pointer.
impl<T: Element> Argument for Option<&CudaTensor<T>> {
    fn address(&self) -> *const c_void {
        const NULL: &u64 = &0;
        ptr::from_ref(self.map_or(NULL, CudaTensor::pointer)).cast()
    }
}
