//! Chunks, segments and sequences as tables on the device; twins of the structs of `cuda/ssd/sm90/backward.cuh` and, what
//! the product walks, of `forward_plan.cuh`.

use ndarray::ArrayView1;

use crate::backend::cuda::stream::Stream;
use crate::backend::cuda::tensor::CudaTensor;
use crate::error::Result;
use crate::ssd::Sequences;

/// Positions of a chunk; as in `backward.cuh`.
pub(super) const CHUNK: usize = 128;
/// Chunks of a segment: the segments of a longer sequence are walked side by side. How a sequence is cut depends on its
/// length alone, so that its bits do not depend on its neighbours.
const SEGMENT: usize = 32;

/// Rows of four numbers on the device.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub rows: CudaTensor<i32>,
    pub count: usize,
}

/// The sequences of a matrix, cut.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    /// (row, start, len, sequence)
    pub(super) chunks: Table,
    /// (first chunk, chunks, state that enters, state that leaves), -1 for none
    pub(super) segments: Table,
    /// (first segment, segments, state that enters, state that leaves)
    pub(super) sequences: Table,
}

impl Tables {
    /// The tables of `sequences`.
    pub fn new(stream: &Stream, sequences: &Sequences) -> Result<Self> {
        let number = |state: Option<usize>| state.map_or(-1, |k| k as i32);
        let (mut chunks, mut segments, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for (k, span) in sequences.spans().iter().enumerate() {
            let (enters, leaves) = (number(span.enters), number(span.leaves));
            let first_segment = segments.len();
            let first_chunk = chunks.len();
            chunks.extend((span.start..span.end).step_by(CHUNK).map(|start| {
                let len = CHUNK.min(span.end - start);
                [span.row as i32, start as i32, len as i32, k as i32]
            }));
            segments.extend((first_chunk..chunks.len()).step_by(SEGMENT).map(|first| {
                let count = SEGMENT.min(chunks.len() - first);
                [first as i32, count as i32, enters, leaves]
            }));
            whole.push([first_segment as i32, (segments.len() - first_segment) as i32, enters, leaves]);
        }
        Ok(Self {
            chunks: table(stream, &chunks)?,
            segments: table(stream, &segments)?,
            sequences: table(stream, &whole)?,
        })
    }

    /// Whether some sequence has more than one segment.
    pub(super) fn cut(&self) -> bool {
        self.segments.count > self.sequences.count
    }
}

/// The sequences of a matrix as the product's kernel walks them.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    /// Rows of `Piece` in `forward_plan.cuh`; nothing where every row is one sequence.
    pub(super) rows: Option<CudaTensor<i32>>,
    /// How many there are.
    pub(super) count: usize,
    /// Their chunks.
    pub(super) chunks: usize,
}

impl Pieces {
    /// Of `sequences`, in chunks of `chunk` positions.
    pub fn new(stream: &Stream, sequences: &Sequences, chunk: usize) -> Result<Self> {
        let number = |state: Option<usize>| state.map_or(-1, |k| k as i32);
        let (spans, mut rows, mut chunks) = (sequences.spans(), Vec::new(), 0);
        for span in &spans {
            let len = span.end - span.start;
            let place = [span.row as i32, span.start as i32, len as i32, chunks as i32];
            rows.extend(place.into_iter().chain([number(span.enters), number(span.leaves), 0, 0]));
            chunks += len.div_ceil(chunk);
        }
        let packed = spans.len() != sequences.shape().0;
        let rows = packed.then(|| CudaTensor::upload(stream, ArrayView1::from(&rows))).transpose()?;
        Ok(Self { rows, count: spans.len(), chunks })
    }
}

fn table(stream: &Stream, rows: &[[i32; 4]]) -> Result<Table> {
    let numbers = ArrayView1::from(rows.as_flattened());
    Ok(Table { rows: CudaTensor::upload(stream, numbers)?, count: rows.len() })
}
