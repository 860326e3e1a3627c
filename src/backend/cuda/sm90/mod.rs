//! The Hopper tier: warpgroup products, for the shapes of the published models.

pub(crate) mod backward;
pub(crate) mod forward;
mod tables;
mod tensor_map;

pub(crate) use tables::{Pieces, Tables};

use crate::backend::cuda::tensor::{CudaTensor, Stored, stored_macro};
use crate::ssd::Diagonal;

/// Whether the tier is made for numbers of this type, by its macro, and these widths.
fn knows(stored: &str, (head_dim, state_dim): (usize, usize)) -> bool {
    ["STORED_BF16", "STORED_F16"].contains(&stored)
        && matches!(head_dim, 64 | 128)
        && matches!(state_dim, 64 | 128 | 256)
}

/// Whether the tier is made for an operator with these `b` and `c`, `x`, and `y` or its cotangent: their type, widths, device and
/// alignment.
pub(crate) fn serves<T: Stored>(
    x: &CudaTensor<T>,
    y: &CudaTensor<T>,
    b: &CudaTensor<T>,
    c: &CudaTensor<T>,
    diagonal: Diagonal,
) -> bool {
    let aligned =
        |tensor: &CudaTensor<T>| tensor.pointer().is_multiple_of(16) && tensor.pitch().is_multiple_of(8);
    x.stream().device().architecture().is_hopper()
        && knows(stored_macro::<T>(), (x.shape()[3], b.shape()[3]))
        && diagonal == Diagonal::Scores
        && !x.is_empty()
        && [x, y, b, c].into_iter().all(aligned)
}
