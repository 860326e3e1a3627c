//! What a model reads.

use crate::error::{Error, Result};
use crate::ssd::{Sequences, States};

/// The tokens of one or more sequences, one after the other without padding; each goes on from its own place in a
/// [`super::State`].
///
/// # Examples
/// ```
/// use semisep::mamba2::Tokens;
/// let batch = Tokens::packed(&[vec![5, 6, 7], vec![8]]);
/// assert_eq!((batch.len(), batch.sequences()), (4, 2));
/// assert_eq!(batch.next(), [Some(6), Some(7), None, None]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    offsets: Vec<usize>, // from 0 to the number of ids, never decreasing
}

impl Tokens {
    /// Of one sequence.
    pub fn one(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), offsets: vec![0, ids.len()] }
    }

    /// Of several sequences, whatever their lengths; one may be empty, and then stays where it is.
    pub fn packed<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let (mut ids, mut offsets) = (Vec::new(), vec![0]);
        for sequence in sequences {
            ids.extend_from_slice(sequence.as_ref());
            offsets.push(ids.len());
        }
        Self { ids, offsets }
    }

    /// All tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Sequence k is `offsets[k]..offsets[k + 1]`.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// How many tokens in all.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many sequences.
    pub fn sequences(&self) -> usize {
        self.offsets.len() - 1
    }

    /// For each position the token after it in its sequence: the targets of a language model.
    pub fn next(&self) -> Vec<Option<u32>> {
        let last = |t: usize| self.offsets.contains(&(t + 1));
        (0..self.len()).map(|t| if last(t) { None } else { self.ids.get(t + 1).copied() }).collect()
    }

    /// Where the sequences begin, for what looks at other positions.
    pub(super) fn packing(&self) -> Result<Sequences> {
        Ok(Sequences::from_offsets(&self.offsets)?.with_states(States::PerSequence))
    }

    /// Positions `start..end` of all, with the same sequences, some of them empty there.
    pub(super) fn piece(&self, start: usize, end: usize) -> Self {
        let offsets = self.offsets.iter().map(|offset| offset.clamp(&start, &end) - start).collect();
        Self { ids: self.ids[start..end].to_vec(), offsets }
    }

    /// `Ok` with the last position of each sequence.
    pub(super) fn last_positions(&self) -> Result<Vec<usize>> {
        match self.offsets.windows(2).position(|pair| pair[0] == pair[1]) {
            None if self.sequences() > 0 => Ok(self.offsets[1..].iter().map(|end| end - 1).collect()),
            empty => Err(Error::Value {
                tensor: "input_ids",
                expected: "at least one token in each sequence",
                found: empty.map_or("no sequence".to_owned(), |k| format!("none in sequence {k}")),
            }),
        }
    }
}
