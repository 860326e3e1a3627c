//! What a model remembers of the sequences that it has read.

use ndarray::{Array3, Array4};

use super::Config;
use crate::error::{Error, Result};
use crate::scalar::Real;

/// What one mixer remembers, for each sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Memory<A> {
    /// Of a Mamba-2 layer: as much for every length.
    Mamba2 {
        /// Last inputs of the convolution, the latest last: (sequences, conv_width − 1, conv_dim)
        conv: Array3<A>,
        /// States of the operator: (sequences, heads, head_dim, state_dim)
        ssm: Array4<A>,
    },
    /// Of an attention layer: as much for every position.
    Attention {
        /// Last inputs of the convolution: (sequences, conv_width − 1, qkv_dim), nothing without one
        conv: Array3<A>,
        /// Keys and values of each sequence
        cache: Vec<KeyValues<A>>,
    },
}

/// Keys and values of the positions that a sequence has passed.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValues<A> {
    /// Width of a position in each: kv_heads · head_dim
    pub(crate) width: usize,
    /// (positions, kv_heads, head_dim), rotated
    pub(crate) keys: Vec<A>,
    /// (positions, kv_heads, head_dim)
    pub(crate) values: Vec<A>,
}

/// What a model remembers of the sequences that it has read: all that a continuation depends on.
///
/// A clone is a fork. [`State::snapshot`] and [`State::rewind`] do the same without copying keys and values.
#[derive(Debug, Clone, PartialEq)]
pub struct State<A> {
    sequences: usize,
    /// Of each block, in order
    pub memories: Vec<Memory<A>>,
}

/// What a state was, for going back to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<A> {
    sequences: usize,
    memories: Vec<Kept<A>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kept<A> {
    Mamba2 { conv: Array3<A>, ssm: Array4<A> },
    Attention { conv: Array3<A>, positions: Vec<usize> },
}

impl<A: Real> State<A> {
    /// What is remembered before the first position of each of so many sequences: nothing.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn new(config: &Config, sequences: usize) -> Result<Self> {
        config.validate()?;
        let one = |k| match config.attention.as_ref().filter(|attention| attention.layers.contains(&k)) {
            Some(attention) => {
                let (past, width) =
                    (attention.conv_width.saturating_sub(1), attention.kv_heads * attention.head_dim);
                let empty = KeyValues { width, keys: Vec::new(), values: Vec::new() };
                Memory::Attention {
                    conv: Array3::zeros((sequences, past, attention.qkv_dim())),
                    cache: vec![empty; sequences],
                }
            }
            None => Memory::Mamba2 {
                conv: Array3::zeros((sequences, config.conv_width - 1, config.conv_dim())),
                ssm: Array4::zeros((sequences, config.heads(), config.head_dim, config.state_dim)),
            },
        };
        Ok(Self { sequences, memories: (0..config.n_layer).map(one).collect() })
    }

    /// How many sequences.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Bytes of all that is remembered.
    pub fn bytes(&self) -> usize {
        let numbers = |memory: &Memory<A>| match memory {
            Memory::Mamba2 { conv, ssm } => conv.len() + ssm.len(),
            Memory::Attention { conv, cache } => {
                conv.len() + cache.iter().map(|of| of.keys.len() + of.values.len()).sum::<usize>()
            }
        };
        size_of::<A>() * self.memories.iter().map(numbers).sum::<usize>()
    }

    /// What the state is now.
    pub fn snapshot(&self) -> Snapshot<A> {
        let one = |memory: &Memory<A>| match memory {
            Memory::Mamba2 { conv, ssm } => Kept::Mamba2 { conv: conv.clone(), ssm: ssm.clone() },
            Memory::Attention { conv, cache } => Kept::Attention {
                conv: conv.clone(),
                positions: cache.iter().map(KeyValues::positions).collect(),
            },
        };
        Snapshot { sequences: self.sequences, memories: self.memories.iter().map(one).collect() }
    }

    /// Back to what this same state was: everything read since is forgotten.
    ///
    /// # Errors
    /// [`Error::Shape`] if `snapshot` is of a state of other sizes, or of positions that this one has not reached.
    pub fn rewind(&mut self, snapshot: &Snapshot<A>) -> Result<()> {
        let fits = self.sequences == snapshot.sequences
            && self.memories.len() == snapshot.memories.len()
            && self.memories.iter().zip(&snapshot.memories).all(|(memory, kept)| kept.fits(memory));
        if !fits {
            let expected = "a snapshot taken of this state before";
            return Err(Error::shape("snapshot", expected, &[snapshot.sequences, snapshot.memories.len()]));
        }
        for (memory, kept) in self.memories.iter_mut().zip(&snapshot.memories) {
            match (memory, kept) {
                (Memory::Mamba2 { conv, ssm }, Kept::Mamba2 { conv: was, ssm: state }) => {
                    conv.assign(was);
                    ssm.assign(state);
                }
                (Memory::Attention { conv, cache }, Kept::Attention { conv: was, positions }) => {
                    conv.assign(was);
                    cache.iter_mut().zip(positions).for_each(|(of, &positions)| of.truncate(positions));
                }
                _ => unreachable!("`fits` compared the kinds"),
            }
        }
        Ok(())
    }
}

impl<A: Real> Kept<A> {
    fn fits(&self, memory: &Memory<A>) -> bool {
        match (self, memory) {
            (Self::Mamba2 { conv, ssm }, Memory::Mamba2 { conv: now, ssm: state }) => {
                conv.dim() == now.dim() && ssm.dim() == state.dim()
            }
            (Self::Attention { conv, positions }, Memory::Attention { conv: now, cache }) => {
                let reached = positions.iter().zip(cache).all(|(&then, of)| then <= of.positions());
                conv.dim() == now.dim() && positions.len() == cache.len() && reached
            }
            _ => false,
        }
    }
}

impl<A> KeyValues<A> {
    /// How many positions.
    pub fn positions(&self) -> usize {
        self.keys.len() / self.width
    }

    /// Forgets all positions from this one on.
    fn truncate(&mut self, positions: usize) {
        self.keys.truncate(positions * self.width);
        self.values.truncate(positions * self.width);
    }
}
