//! A tensor as it lies in a file.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use half::{bf16, f16};

use super::map::MappedFile;
use crate::error::{Result, in_file};
use crate::nn::{Numbers, Shared};
use crate::scalar::Scalar;

/// Type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 64 bits
    F64,
    /// 32 bits
    F32,
    /// 16 bits, range of f32
    Bf16,
    /// 16 bits, IEEE
    F16,
}

impl Dtype {
    /// The type of stored numbers.
    pub fn of(numbers: &Numbers) -> Self {
        match numbers {
            Numbers::F64(_) => Self::F64,
            Numbers::F32(_) => Self::F32,
            Numbers::Bf16(_) => Self::Bf16,
            Numbers::F16(_) => Self::F16,
        }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => f64::NAME,
            Self::F32 => f32::NAME,
            Self::Bf16 => bf16::NAME,
            Self::F16 => f16::NAME,
        }
    }

    /// The same numbers stored in this type: shared if they are, else rounded to the nearest.
    pub(crate) fn convert(self, numbers: &Numbers) -> Numbers {
        if Self::of(numbers) == self {
            return numbers.clone();
        }
        let wide = numbers.widened::<f64>();
        match self {
            Self::F64 => Numbers::F64(Shared::new(wide)),
            Self::F32 => Numbers::F32(rounded(wide, |v| v as f32)),
            Self::Bf16 => Numbers::Bf16(rounded(wide, bf16::from_f64)),
            Self::F16 => Numbers::F16(rounded(wide, f16::from_f64)),
        }
    }
}

fn rounded<T: Send + Sync + 'static>(wide: Vec<f64>, round: impl Fn(f64) -> T) -> Shared<T> {
    Shared::new(wide.into_iter().map(round).collect::<Vec<_>>())
}

/// Where the numbers of a tensor lie.
///
/// Readers of files make entries that satisfy: `bytes` lie inside the file, and if `strides` are absent they are as many
/// as the shape and type say; with strides every number lies inside `bytes`, and there are at most as many numbers as
/// the bytes hold.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Type of the numbers, or the name of one that weights are not made of; such an entry is for messages only.
    pub dtype: std::result::Result<Dtype, String>,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Steps of the axes in numbers; `None` if the numbers lie in the order of the rows.
    pub strides: Option<Vec<usize>>,
    /// The file.
    pub file: Arc<MappedFile>,
    /// The part of it.
    pub bytes: Range<usize>,
}

impl Entry {
    /// How many numbers the tensor has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The numbers: those in the file itself where they lie as memory would have them, else a copy.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the type is not one of weights.
    pub fn numbers(&self) -> Result<Numbers> {
        Ok(match &self.dtype {
            Ok(Dtype::F64) => Numbers::F64(self.shared(f64::from_bits, u64::from_le_bytes)),
            Ok(Dtype::F32) => Numbers::F32(self.shared(f32::from_bits, u32::from_le_bytes)),
            Ok(Dtype::Bf16) => Numbers::Bf16(self.shared(bf16::from_bits, u16::from_le_bytes)),
            Ok(Dtype::F16) => Numbers::F16(self.shared(f16::from_bits, u16::from_le_bytes)),
            Err(found) => {
                let reason = format!("expected type f64, f32, bf16 or f16, found {found}");
                return Err(in_file(self.file.path(), reason));
            }
        })
    }

    /// `of` and `bits` make a number of its bytes, the first from the integer that the second makes.
    fn shared<T: Pod + Send + Sync, B, const N: usize>(
        &self,
        of: impl Fn(B) -> T,
        bits: impl Fn([u8; N]) -> B,
    ) -> Shared<T> {
        let bytes = &self.file.bytes()[self.bytes.clone()];
        let as_in_memory = cfg!(target_endian = "little") && self.strides.is_none();
        if as_in_memory && bytemuck::try_cast_slice::<u8, T>(bytes).is_ok() {
            let file = Arc::clone(&self.file);
            return Shared::new(Mapped { file, bytes: self.bytes.clone(), numbers: PhantomData });
        }
        let number = |place: usize| {
            let mut word = [0; N];
            word.copy_from_slice(&bytes[place * N..(place + 1) * N]);
            of(bits(word))
        };
        Shared::new(match &self.strides {
            None => (0..self.len()).map(number).collect::<Vec<T>>(),
            Some(strides) => places(&self.shape, strides).map(number).collect(),
        })
    }
}

/// Numbers in a mapped file, aligned and whole: whoever makes one has tried the cast.
struct Mapped<T> {
    file: Arc<MappedFile>,
    bytes: Range<usize>,
    numbers: PhantomData<T>,
}

impl<T: Pod> AsRef<[T]> for Mapped<T> {
    fn as_ref(&self) -> &[T] {
        bytemuck::cast_slice(&self.file.bytes()[self.bytes.clone()])
    }
}

/// Where the numbers of a tensor with strides lie, in the order of the rows.
fn places(shape: &[usize], strides: &[usize]) -> impl Iterator<Item = usize> {
    let shape = shape.to_vec();
    let strides = strides.to_vec();
    (0..shape.iter().product()).map(move |mut k: usize| {
        let mut place = 0;
        for (&len, &stride) in shape.iter().zip(&strides).rev() {
            place += (k % len) * stride;
            k /= len;
        }
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_strides() {
        assert_eq!(places(&[2, 3], &[1, 2]).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(places(&[], &[]).collect::<Vec<_>>(), [0]);
        assert_eq!(places(&[2, 0], &[5, 1]).count(), 0);
    }
}
