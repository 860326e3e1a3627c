//! How well a model foresees a text.

use crate::error::{Error, Result};
use crate::mamba2::{Model, State, Tokens};
use crate::nn::Weight;
use crate::scalar::{Real, double};

/// How well a model foresees a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Tokens that were foreseen: all but the first.
    pub count: usize,
    /// Sum of ``$`-\log p`$`` over them, in nats.
    pub surprise: f64,
}

impl Perplexity {
    /// Mean surprise at a token, in nats.
    pub fn mean(&self) -> f64 {
        self.surprise / self.count as f64
    }

    /// The perplexity, `exp` of the mean surprise: between how many tokens the model hesitates.
    pub fn value(&self) -> f64 {
        self.mean().exp()
    }
}

/// Tokens that are read at a time.
const PIECE: usize = 2048;

/// The perplexity of a text, whatever its length: the state goes on from piece to piece, so every token is foreseen from
/// all that stand before it.
///
/// ```math
/// \exp\Big(-\frac{1}{n - 1} \sum_{t = 1}^{n - 1} \log p(i_t \mid i_0 \dots i_{t - 1})\Big)
/// ```
///
/// `progress` hears how many tokens have been foreseen so far.
///
/// # Errors
/// [`Error::Value`] if there are fewer than two tokens or one is not in the vocabulary.
pub fn perplexity<A: Real>(
    model: &Model<Weight<A>>,
    ids: &[u32],
    mut progress: impl FnMut(usize),
) -> Result<Perplexity> {
    let count = ids.len().saturating_sub(1);
    if count == 0 {
        let found = format!("{}", ids.len());
        return Err(Error::Value { tensor: "input_ids", expected: "at least two tokens", found });
    }
    let mut state = State::new(model.config(), 1)?;
    let mut surprise = 0.0;
    for start in (0..count).step_by(PIECE) {
        let end = count.min(start + PIECE);
        let targets: Vec<_> = ids[start + 1..=end].iter().copied().map(Some).collect();
        let loss = model.loss(&Tokens::one(&ids[start..end]), &targets, &mut state)?;
        surprise += double(loss) * targets.len() as f64;
        progress(end);
    }
    Ok(Perplexity { count, surprise })
}
