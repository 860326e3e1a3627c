//! What a model remembers of the sequences that it has read.

use ndarray::{Array3, Array4, ArrayView2};

use super::{AttentionConfig, Config};
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
        let memories = (0..config.n_layer).map(|k| Memory::new(config, k, sequences)).collect();
        Ok(Self { sequences, memories })
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

    /// Zeros of the same shapes: the cotangent of a state that nothing depends on.
    pub fn zeros_like(&self) -> Self {
        Self { sequences: self.sequences, memories: self.memories.iter().map(Memory::zeros_like).collect() }
    }

    /// The state made of these memories of so many sequences.
    pub(super) fn of(sequences: usize, memories: Vec<Memory<A>>) -> Self {
        Self { sequences, memories }
    }

    /// `Ok` if this is a state of such a model.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let found: Vec<_> = self.memories.iter().map(Memory::sizes).collect();
        let expected: Vec<_> = (0..config.n_layer).map(|k| sizes(config, k, self.sequences)).collect();
        if found == expected {
            return Ok(());
        }
        Err(Error::shape("state", "that of this model", &[self.sequences, self.memories.len()]))
    }

    /// `Ok` if this has the shapes of `other`, positions included.
    pub(super) fn check_like(&self, other: &Self) -> Result<()> {
        let shapes = |state: &Self| {
            let of = |memory: &Memory<A>| (memory.sizes(), memory.positions());
            (state.sequences, state.memories.iter().map(of).collect::<Vec<_>>())
        };
        if shapes(self) == shapes(other) {
            return Ok(());
        }
        Err(Error::shape(
            "d_state",
            "the shapes of the state that goes out",
            &[self.sequences, self.memories.len()],
        ))
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

impl<A: Real> KeyValues<A> {
    /// Of no position yet; `width` = kv_heads · head_dim.
    pub(super) fn new(width: usize) -> Self {
        Self { width, keys: Vec::new(), values: Vec::new() }
    }

    /// How many positions.
    pub fn positions(&self) -> usize {
        self.keys.len() / self.width
    }

    /// (positions, kv_heads · head_dim), rotated.
    pub fn keys(&self) -> ArrayView2<'_, A> {
        self.view(&self.keys)
    }

    /// (positions, kv_heads · head_dim)
    pub fn values(&self) -> ArrayView2<'_, A> {
        self.view(&self.values)
    }

    /// Adds positions at the end; both (positions, kv_heads · head_dim).
    pub(super) fn append(&mut self, keys: ArrayView2<'_, A>, values: ArrayView2<'_, A>) {
        debug_assert!(keys.dim() == values.dim() && keys.ncols() == self.width);
        self.keys.extend(keys.iter());
        self.values.extend(values.iter());
    }

    fn view<'a>(&self, numbers: &'a [A]) -> ArrayView2<'a, A> {
        match ArrayView2::from_shape((numbers.len() / self.width, self.width), numbers) {
            Ok(view) => view,
            Err(_) => unreachable!("only whole positions are added and removed"),
        }
    }

    /// Forgets all positions from this one on.
    fn truncate(&mut self, positions: usize) {
        self.keys.truncate(positions * self.width);
        self.values.truncate(positions * self.width);
    }
}

impl<A: Real> Memory<A> {
    /// What block `k` remembers of so many sequences before their first position.
    fn new(config: &Config, k: usize, sequences: usize) -> Self {
        let sizes = sizes(config, k, sequences);
        let conv = Array3::zeros((sizes[0], sizes[1], sizes[2]));
        match sizes[3..] {
            [states, heads, head_dim, state_dim] if attention(config, k).is_none() => {
                Self::Mamba2 { conv, ssm: Array4::zeros((states, heads, head_dim, state_dim)) }
            }
            ref widths => {
                Self::Attention { conv, cache: widths.iter().map(|&width| KeyValues::new(width)).collect() }
            }
        }
    }

    /// Lengths of all axes but positions.
    fn sizes(&self) -> Vec<usize> {
        match self {
            Self::Mamba2 { conv, ssm } => [conv.shape(), ssm.shape()].concat(),
            Self::Attention { conv, cache } => {
                let widths = cache.iter().map(|of| of.width);
                conv.shape().iter().copied().chain(widths).collect()
            }
        }
    }

    /// How many positions of each sequence it holds keys and values of.
    fn positions(&self) -> Vec<usize> {
        match self {
            Self::Mamba2 { .. } => Vec::new(),
            Self::Attention { cache, .. } => cache.iter().map(KeyValues::positions).collect(),
        }
    }

    /// Zeros of the same shapes: the cotangent of a memory that nothing depends on.
    pub fn zeros_like(&self) -> Self {
        match self {
            Self::Mamba2 { conv, ssm } => {
                Self::Mamba2 { conv: Array3::zeros(conv.raw_dim()), ssm: Array4::zeros(ssm.raw_dim()) }
            }
            Self::Attention { conv, cache } => {
                let zeros = |of: &KeyValues<A>| KeyValues {
                    width: of.width,
                    keys: vec![A::zero(); of.keys.len()],
                    values: vec![A::zero(); of.values.len()],
                };
                Self::Attention {
                    conv: Array3::zeros(conv.raw_dim()),
                    cache: cache.iter().map(zeros).collect(),
                }
            }
        }
    }
}

/// The attention of block `k`, if it has one.
fn attention(config: &Config, k: usize) -> Option<&AttentionConfig> {
    config.attention.as_ref().filter(|attention| attention.layers.contains(&k))
}

/// Lengths of all axes, but for positions, of the memory of block `k`.
fn sizes(config: &Config, k: usize, sequences: usize) -> Vec<usize> {
    match attention(config, k) {
        Some(of) => {
            let conv = [sequences, of.conv_width.saturating_sub(1), of.qkv_dim()];
            let widths = std::iter::repeat_n(of.kv_heads * of.head_dim, sequences);
            conv.into_iter().chain(widths).collect()
        }
        None => {
            let conv = [sequences, config.conv_width - 1, config.conv_dim()];
            let ssm = [sequences, config.heads(), config.head_dim, config.state_dim];
            [&conv[..], &ssm].concat()
        }
    }
}
