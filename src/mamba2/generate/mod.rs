//! Continuing texts, and how well a model foresees one.
//!
//! [`Continuation`] works on token ids and yields one token at a time for one sequence or for many side by side;
//! [`Sampling`] says how tokens are chosen; `Text` (feature `text`) turns what comes into text as it comes.

mod perplexity;
mod sampling;
#[cfg(feature = "text")]
mod text;

pub use perplexity::{Perplexity, perplexity};
pub use sampling::{Draw, Sampling};
#[cfg(feature = "text")]
pub use text::{Text, Tokenizer};

use ndarray::Array2;

use super::{Model, State, Tokens};
use crate::error::Result;
use crate::nn::Weight;
use crate::scalar::Real;

/// Sequences that a model continues side by side, each at its own length, without padding.
///
/// ```
/// use semisep::mamba2::generate::{Continuation, Sampling};
/// use semisep::mamba2::{Config, Model};
///
/// let config = Config { state_dim: 8, head_dim: 8, ..Config::new(16, 2, 32) };
/// let model = Model::<semisep::nn::Weight<f32>>::random(&config, 1)?;
/// let mut both = Continuation::new(&model, &[&[3, 1, 4][..], &[1, 5]], Sampling::default())?;
/// both.step()?;
/// both.end(0);
/// both.step()?;
/// assert_eq!((both.tokens(0).len(), both.tokens(1).len()), (4, 4));
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Continuation<'m, A: Real> {
    model: &'m Model<Weight<A>>,
    sampling: Sampling,
    state: State<A>,
    sequences: Vec<Sequence>,
    /// After the last tokens that were read
    logits: Array2<A>,
}

#[derive(Debug, Clone)]
struct Sequence {
    tokens: Vec<u32>,
    /// How many of them the model has read.
    read: usize,
    /// Its row of the logits.
    row: usize,
    ended: bool,
}

impl<'m, A: Real> Continuation<'m, A> {
    /// Reads the prompts.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if there is no prompt, one is empty, or a token is not in the vocabulary; [`Error::Config`](crate::Error::Config) as in
    /// [`Sampling::validate`].
    pub fn new<S: AsRef<[u32]>>(
        model: &'m Model<Weight<A>>,
        prompts: &[S],
        sampling: Sampling,
    ) -> Result<Self> {
        sampling.validate()?;
        let mut state = State::new(model.config(), prompts.len())?;
        let logits = model.advance(&Tokens::packed(prompts), &mut state)?;
        let sequence = |(row, prompt): (usize, &S)| {
            let tokens = prompt.as_ref().to_vec();
            Sequence { read: tokens.len(), tokens, row, ended: false }
        };
        let sequences = prompts.iter().enumerate().map(sequence).collect();
        Ok(Self { model, sampling, state, sequences, logits })
    }

    /// The next token of each sequence, `None` for those that have ended.
    ///
    /// A token is read by the model when the one after it is asked for, so the last one costs nothing.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the model yields logits that are not numbers.
    pub fn step(&mut self) -> Result<Vec<Option<u32>>> {
        self.read()?;
        let mut next = vec![None; self.sequences.len()];
        for (k, sequence) in self.sequences.iter_mut().enumerate().filter(|(_, sequence)| !sequence.ended) {
            let logits = self.logits.row(sequence.row);
            let token = self.sampling.choose(logits, &sequence.tokens, k as u64)?;
            sequence.tokens.push(token);
            next[k] = Some(token);
        }
        Ok(next)
    }

    /// The model reads what it has not, of the sequences that go on: all of them have one token more since the last time.
    fn read(&mut self) -> Result<()> {
        let unread = |sequence: &Sequence| match sequence.ended {
            true => Vec::new(),
            false => sequence.tokens[sequence.read..].to_vec(),
        };
        let tokens: Vec<_> = self.sequences.iter().map(unread).collect();
        if tokens.iter().all(Vec::is_empty) {
            return Ok(());
        }
        self.logits = self.model.forward(&Tokens::packed(&tokens), &mut self.state)?;
        let running = self.sequences.iter_mut().filter(|sequence| !sequence.ended);
        for (row, sequence) in running.enumerate() {
            (sequence.read, sequence.row) = (sequence.tokens.len(), row);
        }
        Ok(())
    }

    /// Sequence `k` gets no more tokens.
    ///
    /// # Panics
    /// If there are fewer sequences.
    pub fn end(&mut self, k: usize) {
        self.sequences[k].ended = true;
    }

    /// Whether no sequence goes on.
    pub fn has_ended(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.ended)
    }

    /// The tokens of sequence `k`, its prompt first.
    ///
    /// # Panics
    /// If there are fewer sequences.
    pub fn tokens(&self, k: usize) -> &[u32] {
        &self.sequences[k].tokens
    }
}
