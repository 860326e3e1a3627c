//! The language model, forwards.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::{Model, State, Tokens};
use crate::error::{Error, Result};
use crate::nn::{Linear, Room, Weight, check_tokens, embedding, linear_into, rms_norm};
use crate::parallel;
use crate::scalar::Real;

/// Positions that go through the model at a time: long prompts need no more memory than this many positions do.
const PIECE: usize = 512;

impl<A: Real> Model<Weight<A>> {
    /// Logits at every position: (tokens, vocab_rows). The state goes on from where it was to the end of the tokens.
    ///
    /// Prefill and decoding are this same function; only the number of tokens differs, and no cut changes a bit of the logits.
    ///
    /// # Errors
    /// [`Error::Value`] if a token is not in the vocabulary; [`Error::Shape`] if the state is of another number of sequences or of
    /// another model. The state is then as it was.
    ///
    /// # Examples
    /// ```
    /// use semisep::mamba2::{Config, Model, State, Tokens};
    /// let config = Config { state_dim: 8, head_dim: 8, ..Config::new(16, 2, 32) };
    /// let model = Model::<semisep::nn::Weight<f64>>::random(&config, 1)?;
    /// let mut state = State::new(&config, 1)?;
    /// let all = model.forward(&Tokens::one(&[3, 1, 4, 1]), &mut state)?;
    ///
    /// let mut state = State::new(&config, 1)?;
    /// model.forward(&Tokens::one(&[3, 1, 4]), &mut state)?;
    /// let last = model.forward(&Tokens::one(&[1]), &mut state)?; // goes on from the state
    /// assert!((&last.row(0) - &all.row(3)).iter().all(|e| e.abs() < 1e-12));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn forward(&self, tokens: &Tokens, state: &mut State<A>) -> Result<Array2<A>> {
        parallel::within(|| {
            let mut logits = Array2::zeros((tokens.len(), self.config.vocab_rows()));
            self.in_pieces(tokens, state, |start, hidden| {
                let rows = start..start + hidden.nrows();
                self.logits_into(hidden, logits.slice_mut(s![rows, ..]))
            })?;
            Ok(logits)
        })
    }

    /// Logits at the last position of each sequence alone: (sequences, vocab_rows). The state goes on as in [`Model::forward`].
    ///
    /// # Errors
    /// As [`Model::forward`], and [`Error::Value`] if a sequence has no tokens.
    pub fn advance(&self, tokens: &Tokens, state: &mut State<A>) -> Result<Array2<A>> {
        let last = tokens.last_positions()?;
        parallel::within(|| {
            let mut kept = Array2::zeros((last.len(), self.config.d_model));
            self.in_pieces(tokens, state, |start, hidden| {
                for (k, &t) in last.iter().enumerate() {
                    if (start..start + hidden.nrows()).contains(&t) {
                        kept.row_mut(k).assign(&hidden.row(t - start));
                    }
                }
                Ok(())
            })?;
            self.logits(kept.view())
        })
    }

    /// The residual stream behind the last block, piece by piece: `f` gets the first position of the piece and its rows.
    pub(super) fn in_pieces(
        &self,
        tokens: &Tokens,
        state: &mut State<A>,
        mut f: impl FnMut(usize, ArrayView2<'_, A>) -> Result<()>,
    ) -> Result<()> {
        self.check(tokens, state)?;
        let mut room = Room::new();
        for start in (0..tokens.len()).step_by(PIECE) {
            let piece = tokens.piece(start, tokens.len().min(start + PIECE));
            let packing = piece.packing()?;
            let mut r = embedding(&self.embedding, piece.ids())?;
            for (block, memory) in self.blocks.iter().zip(&mut state.memories) {
                block.forward_in(&mut room, &self.config, &mut r, &packing, memory)?;
            }
            f(start, r.view())?;
        }
        Ok(())
    }

    /// Norm and head.
    pub(super) fn logits(&self, r: ArrayView2<'_, A>) -> Result<Array2<A>> {
        let mut logits = Array2::zeros((r.nrows(), self.config.vocab_rows()));
        self.logits_into(r, logits.view_mut())?;
        Ok(logits)
    }

    /// The same into memory of the caller.
    fn logits_into(&self, r: ArrayView2<'_, A>, logits: ArrayViewMut2<'_, A>) -> Result<()> {
        let normed = rms_norm(r, &self.norm, 1, self.config.epsilon)?;
        linear_into(normed.view(), &self.head_map(), logits)
    }

    /// The head as a linear map: tied or not.
    pub(super) fn head_map(&self) -> Linear<Weight<A>> {
        Linear::without_bias(self.head.as_ref().unwrap_or(&self.embedding))
    }

    /// `Ok` if the tokens are in the vocabulary and the state is of this model and as many sequences.
    pub(super) fn check(&self, tokens: &Tokens, state: &State<A>) -> Result<()> {
        check_tokens(tokens.ids(), self.config.vocab_rows())?;
        if state.sequences() != tokens.sequences() {
            let expected = format!("the state of {} sequences", tokens.sequences());
            return Err(Error::shape("state", expected, &[state.sequences()]));
        }
        state.check(&self.config)
    }
}
