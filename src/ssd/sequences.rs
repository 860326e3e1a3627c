//! Several sequences packed in one row.

use ndarray::ArrayView2;

use crate::error::{Error, Result};

/// Which states the operator takes in and gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum States {
    /// One for each row: the initial state enters the row's first sequence, the final state leaves its last.
    #[default]
    PerRow,
    /// One for each sequence, in order: every sequence has its own initial and final state.
    PerSequence,
}

/// Where the sequences packed in each row begin: at a start the state is cleared, so that nothing, gradients
/// included, passes from one sequence to the next.
///
/// # Examples
/// ```
/// use semisep::ssd::{Sequences, States};
/// // Three sequences of lengths 3, 1 and 4 in one row, each with a state of its own.
/// let packed = Sequences::from_offsets(&[0, 3, 4, 8])?.with_states(States::PerSequence);
/// assert_eq!(packed.count(), 3);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    len: usize,
    starts: Vec<Vec<usize>>, // per row: ascending, the first is 0
    states: States,
}

impl Sequences {
    /// One sequence in each of `batch` rows of length `len`.
    pub fn whole(batch: usize, len: usize) -> Self {
        Self { len, starts: vec![vec![0]; batch], states: States::PerRow }
    }

    /// One row, sequence k at `offsets[k]..offsets[k + 1]` (the `cu_seqlens` of other libraries).
    ///
    /// # Errors
    /// [`Error::Value`] if the offsets do not start at 0 or ever decrease; [`Error::Shape`] if there are
    /// fewer than two. Equal neighbours are an empty sequence.
    pub fn from_offsets(offsets: &[usize]) -> Result<Self> {
        let name = "offsets";
        let [first, .., last] = offsets else {
            return Err(Error::shape(name, "at least two offsets", &[offsets.len()]));
        };
        if *first != 0 {
            return Err(Error::Value {
                tensor: name,
                expected: "a first offset of 0",
                found: first.to_string(),
            });
        }
        if let Some(k) = (1..offsets.len()).find(|&k| offsets[k] < offsets[k - 1]) {
            return Err(Error::Value {
                tensor: name,
                expected: "offsets that never decrease",
                found: format!("{} after {} at {k}", offsets[k], offsets[k - 1]),
            });
        }
        let starts = offsets[..offsets.len() - 1].to_vec();
        Ok(Self { len: *last, starts: vec![starts], states: States::PerRow })
    }

    /// A new sequence begins wherever the id changes. `ids`: (batch, len), never decreasing along a row.
    ///
    /// # Errors
    /// [`Error::Value`] if an id is smaller than the one before it.
    pub fn from_ids(ids: ArrayView2<'_, i32>) -> Result<Self> {
        let mut starts = Vec::with_capacity(ids.nrows());
        for (row, ids) in ids.outer_iter().enumerate() {
            let mut found = vec![0];
            for t in 1..ids.len() {
                if ids[t] < ids[t - 1] {
                    return Err(Error::Value {
                        tensor: "seq_idx",
                        expected: "ids that never decrease along a row",
                        found: format!("{} after {} at row {row}, position {t}", ids[t], ids[t - 1]),
                    });
                }
                if ids[t] != ids[t - 1] {
                    found.push(t);
                }
            }
            starts.push(found);
        }
        Ok(Self { len: ids.ncols(), starts, states: States::PerRow })
    }

    /// The same sequences with the choice of which states go in and out.
    pub fn with_states(self, states: States) -> Self {
        Self { states, ..self }
    }

    /// Which states go in and out.
    pub fn states(&self) -> States {
        self.states
    }

    /// Number of sequences in all rows.
    pub fn count(&self) -> usize {
        self.starts.iter().map(Vec::len).sum()
    }

    /// Number of states that go in and out: the leading axis of the state tensors.
    pub fn state_count(&self) -> usize {
        match self.states {
            States::PerRow => self.starts.len(),
            States::PerSequence => self.count(),
        }
    }

    /// (rows, positions in a row).
    pub fn shape(&self) -> (usize, usize) {
        (self.starts.len(), self.len)
    }

    /// The same rows read backwards.
    pub(crate) fn reversed(&self) -> Self {
        let starts = (self.starts.iter())
            .map(|row| std::iter::once(0).chain(row[1..].iter().rev().map(|s| self.len - s)).collect())
            .collect();
        Self { len: self.len, starts, states: self.states }
    }

    /// Every sequence in order: its row, its positions, and which states enter and leave it.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::with_capacity(self.count());
        for (row, starts) in self.starts.iter().enumerate() {
            for (k, &start) in starts.iter().enumerate() {
                let end = starts.get(k + 1).copied().unwrap_or(self.len);
                let (enters, leaves) = match self.states {
                    States::PerSequence => (Some(spans.len()), Some(spans.len())),
                    States::PerRow => ((k == 0).then_some(row), (k + 1 == starts.len()).then_some(row)),
                };
                spans.push(Span { row, start, end, enters, leaves });
            }
        }
        spans
    }
}

/// One sequence: row, positions `start..end`, index of the state that enters and of the one that leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub row: usize,
    pub start: usize,
    pub end: usize,
    pub enters: Option<usize>,
    pub leaves: Option<usize>,
}
