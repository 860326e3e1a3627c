//! Where a tensor lies in memory, so that what a call writes can be told from what it reads.

use super::tensor::{CudaTensor, Element};
use crate::error::{Error, Result};

/// Rows of bytes: row r is `first + r * pitch` and the `row` bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    first: u64,
    rows: u64,
    row: u64,
    pitch: u64,
}

impl Extent {
    pub fn of<T: Element>(tensor: &CudaTensor<T>) -> Self {
        let (bytes, rows) = (size_of::<T>() as u64, tensor.rows() as u64);
        let row = (tensor.len() as u64).checked_div(rows).unwrap_or(0) * bytes;
        Self { first: *tensor.pointer(), rows, row, pitch: tensor.pitch() as u64 * bytes }
    }

    fn end(self) -> u64 {
        self.first + (self.rows - 1) * self.pitch + self.row
    }

    /// Whether some byte is of both. Rows of two tensors side by side in those of a wider one do not meet; of tensors that lie
    /// among one another in another way it is said that they do.
    fn meets(self, other: Self) -> bool {
        if self.rows * self.row == 0 || other.rows * other.row == 0 {
            return false;
        }
        let (low, high) = if self.first <= other.first { (self, other) } else { (other, self) };
        if high.first >= low.end() {
            return false;
        }
        let pitch = match (low.rows, high.rows) {
            (1, 1) => return true,
            (1, _) => high.pitch,
            (_, 1) => low.pitch,
            _ if low.pitch == high.pitch => low.pitch,
            _ => return true,
        };
        let beside = (high.first - low.first) % pitch;
        beside < low.row || beside + high.row > pitch
    }
}

/// The tensor that is written shares no memory with those that are read.
pub(super) fn apart(
    name: &'static str,
    written: Extent,
    read: impl IntoIterator<Item = (&'static str, Extent)>,
) -> Result<()> {
    match read.into_iter().find(|(_, extent)| written.meets(*extent)) {
        None => Ok(()),
        Some((other, _)) => Err(Error::Value {
            tensor: name,
            expected: "memory apart from that of what is read",
            found: format!("memory of `{other}`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::Extent;

    #[test]
    fn tensors_meet_where_they_share_a_byte() {
        let part = |first, rows, row| Extent { first, rows, row, pitch: 100 };
        let flat = |first, row| Extent { first, rows: 1, row, pitch: row };
        for (one, other, expected) in [
            (part(1000, 5, 40), part(1040, 5, 60), false), // side by side
            (part(1000, 5, 40), part(1039, 5, 60), true),
            (part(1000, 5, 40), part(1040, 5, 61), true), // into the next row
            (part(1000, 5, 40), part(1240, 5, 60), false), // two rows on
            (part(1000, 5, 40), part(1440, 5, 60), false),
            (part(1000, 5, 40), part(1000, 5, 40), true),
            (part(1000, 5, 40), flat(1240, 60), false),
            (part(1000, 5, 40), flat(1240, 61), true),
            (flat(1000, 40), flat(1040, 40), false),
            (flat(1000, 40), flat(1039, 40), true),
            (part(1000, 5, 40), Extent { first: 1040, rows: 5, row: 40, pitch: 200 }, true), // not told apart
            (part(1000, 0, 40), part(1000, 5, 40), false),
            (part(0, 5, 0), part(0, 5, 40), false),
        ] {
            assert_eq!(one.meets(other), expected, "{one:?} {other:?}");
            assert_eq!(other.meets(one), expected, "{other:?} {one:?}");
        }
    }
}
