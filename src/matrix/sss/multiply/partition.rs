//! How the steps of a recurrence are cut into blocks.

use std::ops::Range;

use crate::error::{Error, Result};

/// How the steps of a matrix are cut into consecutive blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partition {
    /// Blocks of one length, the last one as long as the rest.
    Equal(usize),
    /// Blocks of these lengths.
    Lengths(Vec<usize>),
}

impl Partition {
    /// The blocks of a matrix with `len` steps.
    ///
    /// # Errors
    /// [`Error::Config`] if a block is empty, the lengths do not add up to `len` or there are too many to be listed.
    pub fn ranges(&self, len: usize) -> Result<Vec<Range<usize>>> {
        let wrong = |reason: String| Err(Error::Config { field: "partition", reason });
        match self {
            Self::Equal(0) => wrong("a block has at least one step".into()),
            Self::Equal(size) => {
                let mut ranges = Vec::new();
                if ranges.try_reserve_exact(len.div_ceil(*size)).is_err() {
                    return wrong(format!("more blocks of {size} steps of {len} than there is memory for"));
                }
                ranges.extend((0..len).step_by(*size).map(|i| i..i.saturating_add(*size).min(len)));
                Ok(ranges)
            }
            Self::Lengths(lengths) => {
                let mut start = 0usize;
                let mut ranges = Vec::with_capacity(lengths.len());
                for length in lengths {
                    let end = start.saturating_add(*length);
                    ranges.push(start..end);
                    start = end;
                }
                if lengths.contains(&0) {
                    wrong("a block has at least one step".into())
                } else if start != len {
                    wrong(format!("block lengths add up to {start}, expected {len}"))
                } else {
                    Ok(ranges)
                }
            }
        }
    }
}
