//! A tensor as it lies in a file.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use half::{bf16, f16};

use super::map::MappedFile;
use crate::error::{Result, in_file};
use crate::nn::{Numbers, Shared, Storage};
use crate::numbers::{Stored, with_slice};

/// Where the numbers of a tensor lie.
///
/// Readers of files make entries that satisfy: `bytes` lie inside the file, and if `strides` are absent they are as many
/// as the shape and type say; with strides every number lies inside `bytes`, and there are at most as many numbers as
/// the bytes hold.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Type of the numbers, or the name of one that weights are not made of; such an entry is for messages only.
    pub storage: std::result::Result<Storage, String>,
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
        Ok(match &self.storage {
            Ok(Storage::F64) => Numbers::F64(self.shared(f64::from_bits, u64::from_le_bytes)),
            Ok(Storage::F32) => Numbers::F32(self.shared(f32::from_bits, u32::from_le_bytes)),
            Ok(Storage::Bf16) => Numbers::Bf16(self.shared(bf16::from_bits, u16::from_le_bytes)),
            Ok(Storage::F16) => Numbers::F16(self.shared(f16::from_bits, u16::from_le_bytes)),
            Err(found) => {
                let reason = format!("expected type f64, f32, bf16 or f16, found {found}");
                return Err(in_file(self.file.path(), reason));
            }
        })
    }

    /// Whether the numbers are those of another tensor, in its order.
    ///
    /// # Errors
    /// As [`Entry::numbers`].
    pub fn same_numbers(&self, other: &Self) -> Result<bool> {
        let one_place = Arc::ptr_eq(&self.file, &other.file) && self.bytes == other.bytes;
        if one_place && self.storage == other.storage && self.strides == other.strides {
            return Ok(true);
        }
        let same = with_slice!(&self.numbers()?, own => with_slice!(&other.numbers()?, others => {
            let bits = |v: f64| v.to_bits();
            own.len() == others.len() && own.iter().zip(others).all(|(a, b)| bits(a.read()) == bits(b.read()))
        }));
        Ok(same)
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
