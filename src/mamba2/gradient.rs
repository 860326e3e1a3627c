//! The language model, backwards.

use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis, Ix1, Ix2, s};

use super::{Model, State, Tokens};
use crate::error::{Result, check_shape};
use crate::nn::{
    Weight, cross_entropy_targets, embedding, embedding_vjp, linear, linear_vjp, rms_norm, rms_norm_vjp,
    summed_cross_entropy, summed_cross_entropy_vjp,
};
use crate::scalar::{Real, real};

/// Positions whose logits are held at a time.
const PIECE: usize = 256;

/// Cotangents of the parameters and the input of a part of a model, and of its memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Grad<P, A> {
    /// Of the parameters, in their struct
    pub parameters: P,
    /// Of the input, (len, d_model)
    pub u: Array2<A>,
    /// Of the memory that comes in
    pub memory: super::Memory<A>,
}

/// Cotangents of a model's parameters and of the state that it starts from.
#[derive(Debug, Clone)]
pub struct ModelGrad<A> {
    /// Of the parameters, in their struct; a tied head adds to the embedding
    pub parameters: Model<ArrayD<A>>,
    /// Of the state that comes in
    pub state: State<A>,
}

impl<A: Real> Model<Weight<A>> {
    /// Mean cross-entropy of the targets, of the positions that have one; [`Tokens::next`] for a language model.
    ///
    /// # Errors
    /// As [`Model::forward`], and [`crate::Error`] if there is not a target, or none, for each position.
    pub fn loss(&self, tokens: &Tokens, targets: &[Option<u32>], state: &mut State<A>) -> Result<A> {
        let count = cross_entropy_targets((tokens.len(), self.config.vocab_rows()), targets)?;
        let mut sum = A::zero();
        self.in_pieces(tokens, state, |start, r| {
            for (k, r) in r.axis_chunks_iter(Axis(0), PIECE).enumerate() {
                let first = start + k * PIECE;
                sum += summed_cross_entropy(self.logits(r)?.view(), &targets[first..first + r.nrows()]);
            }
            Ok(())
        })?;
        Ok(sum / real(count.max(1) as f64))
    }

    /// The loss, and its gradient by every parameter and by the state that it starts from.
    ///
    /// # Errors
    /// As [`Model::loss`].
    ///
    /// # Examples
    /// ```
    /// use semisep::mamba2::{Config, Model, State, Tokens};
    /// use semisep::nn::Weight;
    /// let config = Config { state_dim: 4, head_dim: 8, ..Config::new(16, 2, 32) };
    /// let model = Model::<Weight<f64>>::random(&config, 1)?;
    /// let (tokens, state) = (Tokens::one(&[3, 1, 4, 1, 5]), State::new(&config, 1)?);
    /// let (loss, grad) = model.loss_vjp(&tokens, &tokens.next(), &state)?;
    /// // A step of descent: parameters and gradient are the same struct.
    /// let better = model.zip_map(&grad.parameters, |w, d| Weight::from(w.to_array() - d * 0.1))?;
    /// assert!(better.loss(&tokens, &tokens.next(), &mut state.clone())? < loss);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn loss_vjp(
        &self,
        tokens: &Tokens,
        targets: &[Option<u32>],
        state: &State<A>,
    ) -> Result<(A, ModelGrad<A>)> {
        let count = cross_entropy_targets((tokens.len(), self.config.vocab_rows()), targets)?;
        let each = A::one() / real(count.max(1) as f64);
        let mut loss = A::zero();
        let grad = self.backwards(tokens, state, None, |start, mut logits| {
            let targets = &targets[start..start + logits.nrows()];
            loss += each * summed_cross_entropy(logits.view(), targets);
            summed_cross_entropy_vjp(&mut logits, targets, each);
            logits
        })?;
        Ok((loss, grad))
    }

    /// Cotangents of the parameters and of the state that comes in, given those of the output of [`Model::forward`]: of the logits,
    /// and of the state that goes out.
    ///
    /// # Errors
    /// As [`Model::forward`], and [`crate::Error::Shape`] if the cotangents are not shaped like what they belong to.
    pub fn vjp(
        &self,
        tokens: &Tokens,
        state: &State<A>,
        (d_logits, d_state): (ArrayView2<'_, A>, &State<A>),
    ) -> Result<ModelGrad<A>> {
        let expected = [tokens.len(), self.config.vocab_rows()];
        check_shape("d_logits", "(tokens, vocab_rows)", &expected, d_logits.shape())?;
        self.backwards(tokens, state, Some(d_state), |start, logits| {
            d_logits.slice(s![start..start + logits.nrows(), ..]).to_owned()
        })
    }

    /// Forwards keeping what enters each block, then backwards; `d_logits` of the first position of a piece and its logits.
    fn backwards(
        &self,
        tokens: &Tokens,
        state: &State<A>,
        d_state: Option<&State<A>>,
        d_logits: impl FnMut(usize, Array2<A>) -> Array2<A>,
    ) -> Result<ModelGrad<A>> {
        self.check(tokens, state)?;
        let packing = tokens.packing()?;
        let mut r = embedding(&self.embedding, tokens.ids())?;
        let mut entering = Vec::with_capacity(self.blocks.len());
        let mut last = state.clone();
        for (block, memory) in self.blocks.iter().zip(&mut last.memories) {
            entering.push(r.clone());
            block.forward(&self.config, &mut r, &packing, memory)?;
        }
        let d_last = match d_state {
            Some(d_state) => {
                d_state.check_like(&last)?;
                d_state.clone()
            }
            None => last.zeros_like(),
        };
        let head = self.head_backwards(r.view(), d_logits)?;
        let (mut d_r, mut blocks, mut memories) = (head.d_r, Vec::new(), Vec::new());
        let parts = self.blocks.iter().zip(entering).zip(state.memories.iter().zip(&d_last.memories));
        for ((block, r), (memory, d_memory)) in parts.rev() {
            let grad = block.vjp(&self.config, r.view(), &packing, memory, (d_r.view(), d_memory))?;
            d_r = grad.u;
            blocks.push(grad.parameters);
            memories.push(grad.memory);
        }
        blocks.reverse();
        memories.reverse();
        let (mut d_embedding, d_head) = match self.head {
            Some(_) => (Array2::zeros(head.d_weight.raw_dim()), Some(head.d_weight.into_dyn())),
            None => (head.d_weight, None),
        };
        embedding_vjp(tokens.ids(), d_r.view(), &mut d_embedding)?;
        let parameters = Model {
            config: self.config.clone(),
            embedding: d_embedding.into_dyn(),
            blocks,
            norm: head.d_norm.into_dyn(),
            head: d_head,
        };
        Ok(ModelGrad { parameters, state: State::of(state.sequences(), memories) })
    }

    /// Norm and head, backwards, a piece of the positions at a time.
    fn head_backwards(
        &self,
        r: ArrayView2<'_, A>,
        mut d_logits: impl FnMut(usize, Array2<A>) -> Array2<A>,
    ) -> Result<HeadGrad<A>> {
        let map = self.head_map();
        let mut grad = HeadGrad {
            d_weight: Array2::zeros((map.weight.rows(), map.weight.columns())),
            d_norm: Array1::zeros(r.ncols()),
            d_r: Array2::zeros(r.raw_dim()),
        };
        for start in (0..r.nrows()).step_by(PIECE) {
            let rows = start..r.nrows().min(start + PIECE);
            let r = r.slice(s![rows.clone(), ..]);
            let normed = rms_norm(r, &self.norm, 1, self.config.epsilon)?;
            let d_logits = d_logits(start, linear(normed.view(), &map)?);
            let (d_map, d_normed) = linear_vjp(normed.view(), &map, d_logits.view())?;
            let (d_norm, d_r) = rms_norm_vjp(r, &self.norm, (1, self.config.epsilon), d_normed.view())?;
            grad.d_weight += &of_rank::<A, Ix2>(d_map.weight);
            grad.d_norm += &of_rank::<A, Ix1>(d_norm);
            grad.d_r.slice_mut(s![rows, ..]).assign(&d_r);
        }
        Ok(grad)
    }
}

/// Cotangents of the head's weight, of the last norm, and of what goes into it.
struct HeadGrad<A> {
    d_weight: Array2<A>,
    d_norm: Array1<A>,
    d_r: Array2<A>,
}

fn of_rank<A: Real, D: ndarray::Dimension>(array: ArrayD<A>) -> ndarray::Array<A, D> {
    match array.into_dimensionality() {
        Ok(array) => array,
        Err(_) => unreachable!("a cotangent has the rank of what it belongs to"),
    }
}
