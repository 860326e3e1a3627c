//! Where sequences and their chunks lie, as tables on the device.

use ndarray::ArrayView1;

use super::check::MOST_BLOCKS;
use super::stream::Stream;
use super::tensor::CudaTensor;
use crate::error::{Error, Result};
use crate::ssd::Sequences;

/// A stretch of positions; twin of `Span` in `cuda/common/exact.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    first: i64,
    len: i32,
    enters: i32,
    leaves: i32,
    part_of: i32,
}

/// Most positions of a chunk: its tiles of 32 are counted in the third axis of a grid.
const LONGEST: usize = 32 * MOST_BLOCKS;

/// The numbers of a `Row` as they lie in memory.
const ROW: usize = 6;

impl Row {
    fn numbers(self) -> [i32; ROW] {
        // The device is little-endian, whatever the host is.
        [self.first as i32, (self.first >> 32) as i32, self.len, self.enters, self.leaves, self.part_of]
    }
}

/// Spans on the device.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// (count, 6) the spans' rows.
    pub rows: CudaTensor<i32>,
    /// How many there are.
    pub count: usize,
    /// Positions of the longest.
    pub longest: usize,
}

/// The sequences of a matrix, and each of them cut into chunks.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    /// Whole sequences; `enters` and `leaves` number the states of the operator.
    pub sequences: Table,
    /// Their chunks; `enters` and `leaves` are the chunk's own number.
    pub chunks: Table,
    /// (sequences, 2) the first chunk of each sequence, and the first that is not its own.
    pub ranges: CudaTensor<i32>,
}

impl Spans {
    /// The tables of `sequences` with chunks of `chunk` positions, at least 1. A sequence boundary is a chunk boundary.
    ///
    /// # Errors
    /// [`Error::Config`] if a chunk has more than [`LONGEST`] positions, and those of an upload.
    pub fn new(stream: &Stream, sequences: &Sequences, chunk: usize) -> Result<Self> {
        let (_, len) = sequences.shape();
        let number = |state: Option<usize>| state.map_or(-1, |k| k as i32);
        let (mut whole, mut chunks, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for (k, span) in sequences.spans().iter().enumerate() {
            let row = |start: usize, end: usize| Row {
                first: (span.row * len + start) as i64,
                len: (end - start) as i32,
                enters: number(span.enters),
                leaves: number(span.leaves),
                part_of: k as i32,
            };
            whole.push(row(span.start, span.end));
            ranges.push(chunks.len() as i32);
            for start in (span.start..span.end).step_by(chunk) {
                let own = chunks.len() as i32;
                chunks.push(Row {
                    enters: own,
                    leaves: own,
                    ..row(start, span.end.min(start.saturating_add(chunk)))
                });
            }
            ranges.push(chunks.len() as i32);
        }
        if let Some(long) = chunks.iter().find(|chunk| chunk.len as usize > LONGEST) {
            let reason = format!("expected blocks of at most {LONGEST} positions, found one of {}", long.len);
            return Err(Error::Config { field: "chunk", reason });
        }
        Ok(Self {
            sequences: table(stream, &whole)?,
            chunks: table(stream, &chunks)?,
            ranges: CudaTensor::upload(stream, ArrayView1::from(&ranges))?,
        })
    }
}

fn table(stream: &Stream, rows: &[Row]) -> Result<Table> {
    let numbers: Vec<i32> = rows.iter().flat_map(|row| row.numbers()).collect();
    let longest = rows.iter().map(|row| row.len as usize).max().unwrap_or(0);
    Ok(Table { rows: CudaTensor::upload(stream, ArrayView1::from(&numbers))?, count: rows.len(), longest })
}
