//! What the copy engine is told of a tensor.
#![allow(unsafe_code)]

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::backend::cuda::device::driver;
use crate::backend::cuda::launch::Parameters;
use crate::backend::cuda::tensor::{CudaTensor, Stored};
use crate::error::Result;

/// A tensor map, as the driver encodes it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct TensorMap([u64; 16]);

impl Parameters for TensorMap {}

/// The map of a tensor (batch, len, groups or heads, columns) as (batch, len, all columns), in boxes of `positions` and 64
/// columns.
pub(super) fn tensor_map<T: Stored>(tensor: &CudaTensor<T>, positions: u32) -> Result<TensorMap> {
    let [batch, len, parts, columns] = *tensor.shape() else {
        unreachable!("the operator's tensors have four axes");
    };
    let kind = match T::NAME {
        "f16" => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        _ => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    let row = (tensor.pitch() * size_of::<T>()) as u64;
    let sizes = [(parts * columns) as u64, len as u64, batch as u64];
    let strides = [row, row * len as u64];
    let (boxes, every) = ([64, positions, 1], [1u32; 3]);
    let mut map = TensorMap([0; 16]);
    // SAFETY: the arrays have as many elements as the rank says, and the driver only reads them; it writes a map, of the size
    // and alignment of ours.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            std::ptr::from_mut(&mut map).cast(),
            kind,
            3,
            *tensor.pointer() as *mut _,
            sizes.as_ptr(),
            strides.as_ptr(),
            boxes.as_ptr(),
            every.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()
    }
    .map_err(|e: DriverError| driver("cuTensorMapEncodeTiled", e))?;
    Ok(map)
}
