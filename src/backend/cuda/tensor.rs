//! Tensors in the memory of a device.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUmemorytype as Kind};
use half::{bf16, f16};
use ndarray::{Array, ArrayD, ArrayView, Dimension, IxDyn};

use super::device::driver;
use super::launch::Grid;
use super::source::Program;
use super::stream::Stream;
use crate::error::{DeviceError, Error, Result};
use crate::scalar::Scalar;

/// A number that can be kept on a device.
pub trait Element: Copy + Default + Send + Sync + fmt::Debug + sealed::Sealed + 'static {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! impl_element {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {}
    )*};
}
impl_element!(f64, f32, bf16, f16, i64, i32);

/// A number that the operator can be stored in: an [`Element`] whose computations can be kept on a device too.
pub trait Stored: Scalar<Acc: Element> + Element {}
impl<T: Scalar<Acc: Element> + Element> Stored for T {}

/// The macro that tells a kernel how its tensors are stored; see `cuda/common/scalar.cuh`.
pub(crate) fn stored_macro<T: Stored>() -> &'static str {
    match T::NAME {
        "f64" => "STORED_F64",
        "f32" => "STORED_F32",
        "f16" => "STORED_F16",
        _ => "STORED_BF16",
    }
}

/// A tensor on a device: row-major, but for a distance between rows that may be longer than a row.
///
/// The *rows* of a tensor of three axes or more are numbered by its first two, (batch, len); those of a smaller one by
/// its first. Row r begins at element `r * pitch`. So a part of the channels of a wider tensor is a tensor too,
/// without a copy. Clones share memory.
#[derive(Clone)]
pub struct CudaTensor<T> {
    memory: Arc<Memory>,
    pointer: u64,
    shape: Vec<usize>,
    pitch: usize,
    numbers: PhantomData<T>,
}

struct Memory {
    stream: Stream,
    owned: Option<sys::CUdeviceptr>, // what is given back; nothing if it is the caller's or empty
}

impl<T: Element> CudaTensor<T> {
    /// Memory for a tensor; its numbers are whatever was there.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn room(stream: &Stream, shape: &[usize]) -> Result<Self> {
        let bytes = count_of(shape).and_then(|n| n.checked_mul(size_of::<T>()));
        let bytes = bytes.filter(|&n| n <= isize::MAX as usize);
        let bytes = bytes.ok_or(DeviceError::OutOfMemory { bytes: usize::MAX })?;
        stream.device().bind()?;
        let owned = match bytes {
            0 => None,
            // SAFETY: the stream exists; the memory is given back on the same stream.
            _ => Some(unsafe { result::malloc_async(stream.raw(), bytes) }.map_err(|e| match e.0 {
                sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes }.into(),
                _ => driver("cuMemAllocAsync", e),
            })?),
        };
        let memory = Arc::new(Memory { stream: stream.clone(), owned });
        let pitch = row_of(shape);
        Ok(Self { memory, pointer: owned.unwrap_or(0), shape: shape.to_vec(), pitch, numbers: PhantomData })
    }

    /// A copy of a tensor of the host.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Launch`] if earlier work on the stream failed, and
    /// [`DeviceError::Driver`] while work of the stream is recorded: a replay would read the numbers again.
    pub fn upload<D: Dimension>(stream: &Stream, values: ArrayView<'_, T, D>) -> Result<Self> {
        stream.check_not_recording("cuMemcpyHtoD")?;
        let tensor = Self::room(stream, values.shape())?;
        let values = values.as_standard_layout();
        match values.as_slice() {
            Some(values) if !values.is_empty() => {
                // SAFETY: the memory was made for as many elements; pageable memory of the host is read before the call
                // returns, and other memory, which the driver knows, is waited for.
                unsafe { result::memcpy_htod_async(tensor.pointer, values, stream.raw()) }
                    .map_err(|e| driver("cuMemcpyHtoD", e))?;
                if is_known_to_driver(values) {
                    stream.synchronize()?;
                }
            }
            _ => {}
        }
        Ok(tensor)
    }

    /// A copy on the host, after all work of the stream so far.
    ///
    /// # Errors
    /// [`DeviceError::Launch`] if some of that work failed, [`DeviceError::Driver`] while work of the stream is recorded.
    pub fn download(&self) -> Result<ArrayD<T>> {
        let stream = self.stream();
        stream.check_not_recording("cuMemcpyDtoH")?;
        let mut values = vec![T::default(); self.len()];
        let width = row_of(&self.shape) * size_of::<T>();
        if !values.is_empty() {
            let copy = sys::CUDA_MEMCPY2D {
                srcMemoryType: Kind::CU_MEMORYTYPE_DEVICE,
                srcDevice: self.pointer,
                srcPitch: self.pitch * size_of::<T>(),
                dstMemoryType: Kind::CU_MEMORYTYPE_HOST,
                dstHost: values.as_mut_ptr().cast(),
                dstPitch: width,
                WidthInBytes: width,
                Height: self.rows(),
                srcXInBytes: 0,
                srcY: 0,
                srcHost: ptr::null(),
                srcArray: ptr::null_mut(),
                dstXInBytes: 0,
                dstY: 0,
                dstDevice: 0,
                dstArray: ptr::null_mut(),
            };
            // One row, or rows without gaps, are a plain copy: pitched ones have a limit on the pitch.
            let flat = self.pitch == row_of(&self.shape) || self.rows() == 1;
            // SAFETY: row r of the tensor is valid at `r * pitch`, and `values` holds all rows one behind another; the
            // stream is waited for before `values` is looked at.
            let copied = unsafe {
                match flat {
                    true => result::memcpy_dtoh_async(&mut values, self.pointer, stream.raw()),
                    false => sys::cuMemcpy2DAsync_v2(&copy, stream.raw()).result(),
                }
            };
            copied.map_err(|e| driver("cuMemcpyDtoH", e))?;
        }
        stream.synchronize()?;
        ArrayD::from_shape_vec(IxDyn(&self.shape), values)
            .map_err(|_| Error::shape("download", "as many numbers as the shape has", &self.shape))
    }

    /// The same with a fixed number of axes.
    ///
    /// # Errors
    /// As [`CudaTensor::download`], and [`Error::Shape`] if the tensor has another number of axes.
    pub fn download_as<D: Dimension>(&self) -> Result<Array<T, D>> {
        let wrong = |_| Error::shape("download", format!("{:?} axes", D::NDIM), &self.shape);
        self.download()?.into_dimensionality().map_err(wrong)
    }

    /// A copy on the device.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], and [`Error::Shape`] if rows have gaps between them.
    pub fn duplicate(&self) -> Result<Self> {
        let copy = Self::room(self.stream(), &self.shape)?;
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Overwrites the numbers with those of another tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if the other has another shape or rows of either have gaps between them,
    /// [`DeviceError::Elsewhere`] if it is of another stream.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        if self.shape != other.shape || !self.is_contiguous() || !other.is_contiguous() {
            return Err(Error::shape("copy", format!("{:?} without gaps", self.shape), &other.shape));
        }
        if self.stream() != other.stream() {
            return Err(DeviceError::Elsewhere { tensor: "copy" }.into());
        }
        if self.is_empty() {
            return Ok(());
        }
        self.stream().device().bind()?;
        let bytes = self.len() * size_of::<T>();
        // SAFETY: both tensors are contiguous and hold as many bytes.
        unsafe { result::memcpy_dtod_async(self.pointer, other.pointer, bytes, self.stream().raw()) }
            .map_err(|e| driver("cuMemcpyDtoD", e))
    }

    /// Memory of the caller's: row r begins at `pointer + r * pitch` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if `pitch` is less than a row or the tensor would be larger than memory can be; [`Error::Value`] if
    /// `pointer` is not aligned to the elements, or null where there are any.
    ///
    /// # Safety
    /// `pointer` leads to memory of the stream's device that holds such a tensor, and is not freed before the work that
    /// this value and its clones are given to is done. Other streams do not write to it meanwhile.
    pub unsafe fn borrow(stream: &Stream, pointer: u64, shape: &[usize], pitch: usize) -> Result<Self> {
        check_borrowed::<T>(pointer, shape, pitch)?;
        let memory = Arc::new(Memory { stream: stream.clone(), owned: None });
        Ok(Self { memory, pointer, shape: shape.to_vec(), pitch, numbers: PhantomData })
    }

    /// Part of every row: `shape` has the same rows, and its row begins `first` elements behind the row's start.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows are others or the part reaches beyond the row.
    pub fn part(&self, first: usize, shape: &[usize]) -> Result<Self> {
        let row = row_of(&self.shape);
        let inside = count_of(shape).is_some()
            && rows_of(shape) == self.rows()
            && first.checked_add(row_of(shape)).is_some_and(|end| end <= row);
        if !inside {
            let expected = format!("{} rows of at most {row} elements from element {first}", self.rows());
            return Err(Error::shape("part", expected, shape));
        }
        let pointer = self.pointer + (first * size_of::<T>()) as u64;
        Ok(Self { pointer, shape: shape.to_vec(), ..self.clone() })
    }

    /// The lengths of its axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        rows_of(&self.shape)
    }

    /// Elements from the start of a row to that of the next.
    pub fn pitch(&self) -> usize {
        self.pitch
    }

    /// Whether rows follow one another without a gap.
    pub fn is_contiguous(&self) -> bool {
        self.pitch == row_of(&self.shape)
    }

    /// The stream that it belongs to.
    pub fn stream(&self) -> &Stream {
        &self.memory.stream
    }

    /// The address of its first element; 0 if it is empty.
    pub fn pointer(&self) -> &u64 {
        &self.pointer
    }
}

impl<T: Stored> CudaTensor<T> {
    /// A tensor of one number.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], and those of compiling and starting a kernel.
    pub fn filled(stream: &Stream, shape: &[usize], value: f64) -> Result<Self> {
        let tensor = Self::room(stream, shape)?;
        let kernel = stream.device().kernel(&fill_program::<T>(), "fill")?;
        // SAFETY: the arguments are those of `fill(out, count, value)`, and `out` holds `count` elements.
        unsafe { kernel.launch(stream, fill_grid(&tensor), &[&tensor, &(tensor.len() as i64), &value]) }?;
        Ok(tensor)
    }

    /// A tensor of numbers between `low` and `high` that look random and are the same for the same `seed`.
    ///
    /// # Errors
    /// As [`CudaTensor::filled`].
    pub fn noise(stream: &Stream, shape: &[usize], seed: u64, low: f64, high: f64) -> Result<Self> {
        let tensor = Self::room(stream, shape)?;
        let kernel = stream.device().kernel(&fill_program::<T>(), "noise")?;
        let count = tensor.len() as i64;
        // SAFETY: the arguments are those of `noise`, and `out` holds `count` elements.
        unsafe { kernel.launch(stream, fill_grid(&tensor), &[&tensor, &count, &seed, &low, &high]) }?;
        Ok(tensor)
    }
}

fn fill_program<T: Stored>() -> Program {
    Program::new("fill.cu").define(stored_macro::<T>(), 1)
}

fn fill_grid<T: Element>(tensor: &CudaTensor<T>) -> Grid {
    Grid::new([tensor.len().div_ceil(256).min(4096), 1, 1], 256)
}

/// Whether host memory is page-locked or managed, so that copies of it are done later than they are asked for.
fn is_known_to_driver<T>(values: &[T]) -> bool {
    let mut kind = 0u32; // that of no memory of the driver's, which this call does not take for an error
    let mut which = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    let mut place = ptr::from_mut(&mut kind).cast();
    // SAFETY: one attribute is asked for, an integer of 32 bits; the address is not read from.
    let found = unsafe {
        sys::cuPointerGetAttributes(1, &mut which, &mut place, values.as_ptr() as sys::CUdeviceptr)
    };
    found.result().is_ok() && kind != 0
}

/// A tensor of the caller's can be where it is said to be.
fn check_borrowed<T: Element>(pointer: u64, shape: &[usize], pitch: usize) -> Result<()> {
    let most = isize::MAX as usize / size_of::<T>();
    let reach = count_of(shape).filter(|&count| count <= most).and_then(|count| match count {
        0 => Some(0),
        _ => (rows_of(shape) - 1).checked_mul(pitch)?.checked_add(row_of(shape)),
    });
    let Some(reach) = reach.filter(|&reach| reach <= most && pitch <= most) else {
        let expected = format!("rows {pitch} elements apart within {most} elements");
        return Err(Error::shape("shape", expected, shape));
    };
    if pitch < row_of(shape) {
        return Err(Error::shape("pitch", format!("at least a row, {}", row_of(shape)), &[pitch]));
    }
    let end = pointer.checked_add((reach * size_of::<T>()) as u64);
    if !pointer.is_multiple_of(align_of::<T>() as u64) || end.is_none() || (pointer == 0 && reach > 0) {
        return Err(Error::Value {
            tensor: "pointer",
            expected: "an address aligned to the elements, and of memory where there are any",
            found: format!("{pointer:#x}"),
        });
    }
    Ok(())
}

/// Number of elements of a shape whose axes, empty ones apart, can be counted.
fn count_of(shape: &[usize]) -> Option<usize> {
    let all = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { all })
}

/// Number of rows of a shape.
fn rows_of(shape: &[usize]) -> usize {
    shape[..shape.len().min(2).min(shape.len().saturating_sub(1))].iter().product()
}

/// Elements of a row of a shape.
fn row_of(shape: &[usize]) -> usize {
    shape[shape.len().min(2).min(shape.len().saturating_sub(1))..].iter().product()
}

impl<T> fmt::Debug for CudaTensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaTensor({:?}, pitch {}, at {:#x})", self.shape, self.pitch, self.pointer)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(pointer) = self.owned
            && self.stream.device().bind().is_ok()
        {
            // SAFETY: allocated by `room` on this stream; the driver frees it after the work that uses it.
            let _ = unsafe { result::free_async(pointer, self.stream.raw()) };
        }
    }
}
