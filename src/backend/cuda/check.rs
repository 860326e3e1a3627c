//! What the tensors of a call must have in common; every error names the tensor, and nothing is started before.

use std::ops::RangeInclusive;

use super::exact::WIDEST;
use super::stream::Stream;
use super::tensor::{CudaTensor, Element, Stored};
use crate::error::{DeviceError, Error, Result, check_shape};

/// Of an address that 16 bytes at a time are read from.
const ALIGNMENT: u64 = 16;

/// The tensor belongs to the stream.
pub(super) fn on<E: Element>(name: &'static str, tensor: &CudaTensor<E>, stream: &Stream) -> Result<()> {
    if tensor.stream() == stream { Ok(()) } else { Err(DeviceError::Elsewhere { tensor: name }.into()) }
}

/// It also has the shape.
pub(super) fn shaped<E: Element>(
    name: &'static str,
    axes: &str,
    tensor: &CudaTensor<E>,
    shape: &[usize],
    stream: &Stream,
) -> Result<()> {
    on(name, tensor, stream)?;
    check_shape(name, axes, shape, tensor.shape())
}

/// Its rows also follow one another without a gap.
pub(super) fn flat<E: Element>(
    name: &'static str,
    axes: &str,
    tensor: &CudaTensor<E>,
    shape: &[usize],
    stream: &Stream,
) -> Result<()> {
    shaped(name, axes, tensor, shape, stream)?;
    if tensor.is_contiguous() {
        return Ok(());
    }
    let expected = format!("{axes} without gaps between rows, found a pitch of {}", tensor.pitch());
    Err(Error::shape(name, expected, tensor.shape()))
}

/// It also begins at a multiple of 16 bytes.
pub(super) fn aligned<E: Element>(
    name: &'static str,
    axes: &str,
    tensor: &CudaTensor<E>,
    shape: &[usize],
    stream: &Stream,
) -> Result<()> {
    flat(name, axes, tensor, shape, stream)?;
    if tensor.pointer().is_multiple_of(ALIGNMENT) {
        return Ok(());
    }
    let found = format!("{:#x}", tensor.pointer());
    Err(Error::Value { tensor: name, expected: "an address that is a multiple of 16", found })
}

/// `b` and `c` are (batch, len, groups, state_dim) for steps of (batch, len, heads) and a state_dim among `widths`.
pub(super) fn generators<E: Element>(
    b: &CudaTensor<E>,
    c: &CudaTensor<E>,
    [batch, len, heads]: [usize; 3],
    widths: RangeInclusive<usize>,
    stream: &Stream,
) -> Result<()> {
    on("b", b, stream)?;
    match *b.shape() {
        [rows, positions, groups @ (1..), state_dim]
            if (rows, positions) == (batch, len) && heads % groups == 0 && widths.contains(&state_dim) => {}
        _ => {
            let expected = format!(
                "(batch, len, groups, state_dim) = [{batch}, {len}, a divisor of {heads}, {} to {}]",
                widths.start(),
                widths.end()
            );
            return Err(Error::shape("b", expected, b.shape()));
        }
    }
    shaped("c", "(batch, len, groups, state_dim)", c, b.shape(), stream)
}

/// `x` is (batch, len, heads, head_dim); the head_dim.
pub(super) fn input<E: Element>(
    x: &CudaTensor<E>,
    [batch, len, heads]: [usize; 3],
    stream: &Stream,
) -> Result<usize> {
    on("x", x, stream)?;
    match *x.shape() {
        [b, l, h, head_dim @ 1..=WIDEST] if (b, l, h) == (batch, len, heads) => Ok(head_dim),
        _ => {
            let expected =
                format!("(batch, len, heads, head_dim) = [{batch}, {len}, {heads}, 1 to {WIDEST}]");
            Err(Error::shape("x", expected, x.shape()))
        }
    }
}

/// `d` is (heads, columns); whether the columns are 1 or head_dim is seen with x, by [`skip_columns`].
pub(super) fn skip<E: Element>(d: &CudaTensor<E>, heads: usize, stream: &Stream) -> Result<()> {
    let columns = d.shape().get(1).map_or(1, |&columns| columns.max(1));
    aligned("d", "(heads, 1 or head_dim)", d, &[heads, columns], stream)
}

/// `d` has one number a head or one a channel.
pub(super) fn skip_columns<E: Element>(d: Option<&CudaTensor<E>>, head_dim: usize) -> Result<()> {
    match d.map(CudaTensor::shape) {
        Some(shape @ &[heads, columns]) if columns != 1 && columns != head_dim => {
            let expected = format!("(heads, 1 or head_dim) = [{heads}, 1 or {head_dim}]");
            Err(Error::shape("d", expected, shape))
        }
        _ => Ok(()),
    }
}

/// Most blocks along the second and third axes of a grid.
pub(super) const MOST_BLOCKS: usize = 65535;

/// Offsets inside a tile of 16 rows fit an `int`, which is what kernels of a scan count them in.
pub(super) fn near_rows(name: &'static str, pitch: usize) -> Result<()> {
    const MOST: usize = i32::MAX as usize / 16;
    if pitch <= MOST {
        return Ok(());
    }
    let expected = format!("(batch, len, ..) with rows at most {MOST} elements apart");
    Err(Error::shape(name, expected, &[pitch]))
}

/// Numbers stored as `T` are computed with in single precision, the only one that the kernel of `work` has.
pub(super) fn single<T: Stored>(work: &str) -> Result<()> {
    if T::NAME != "f64" {
        return Ok(());
    }
    let reason = format!("expected f32, bf16 or f16 for {work}, found f64");
    Err(Error::Config { field: "dtype", reason })
}
