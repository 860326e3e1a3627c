//! From logits to a token.

use ndarray::ArrayView1;

use crate::error::{Error, Result};
use crate::random::Random;
use crate::scalar::{Real, double};

/// How the next token is chosen from the logits.
///
/// The steps, each on what the one before has left: divide the logits of tokens already seen by
/// `repetition_penalty` (multiply where they are negative); then either take the largest, or divide by the temperature
/// and draw from
///
/// ```math
/// p_i = \frac{e^{l_i}}{\sum_{j \in K} e^{l_j}}, \qquad i \in K
/// ```
///
/// where `K` is cut by `top_k`, by `top_p` and by `min_p`, in this order.
///
/// ```
/// use ndarray::array;
/// use semisep::mamba2::generate::{Draw, Sampling};
///
/// let draw = Draw::Random { temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.0, seed: 1 };
/// let sampling = Sampling { draw, ..Sampling::default() };
/// let token = sampling.choose(array![0.0, 9.0, 1.0].view(), &[], 0)?;
/// assert_eq!(token, 1);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Above 1: what has been said is less likely to be said again. 1 changes nothing.
    pub repetition_penalty: f64,
    /// What is done with the logits.
    pub draw: Draw,
}

/// Whether chance has a part in the choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    /// The token of the largest logit, the first of equals.
    Greedy,
    /// A token by chance.
    Random {
        /// Divides the logits; 1 changes nothing, towards 0 is towards greedy.
        temperature: f64,
        /// That many tokens of the largest logits stay; 0 keeps all.
        top_k: usize,
        /// The fewest tokens whose probabilities sum to at least this stay; 1 keeps all.
        top_p: f64,
        /// Tokens of at least this share of the largest probability stay; 0 keeps all.
        min_p: f64,
        /// What the chance depends on: the same seed draws the same tokens.
        seed: u64,
    },
}

impl Default for Sampling {
    /// Greedy, without a penalty.
    fn default() -> Self {
        Self { repetition_penalty: 1.0, draw: Draw::Greedy }
    }
}

impl Sampling {
    /// `Ok` if every number is one that means something.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field: temperatures and penalties must be above 0, `top_p` in (0, 1], `min_p` in
    /// [0, 1].
    pub fn validate(&self) -> Result<()> {
        let check = |field: &'static str, good: bool, expected: &str, found: f64| {
            let reason = || format!("expected {expected}, found {found}");
            if good { Ok(()) } else { Err(Error::Config { field, reason: reason() }) }
        };
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let penalty = self.repetition_penalty;
        check("repetition_penalty", positive(penalty), "a number above 0", penalty)?;
        if let Draw::Random { temperature, top_p, min_p, .. } = self.draw {
            check("temperature", positive(temperature), "a number above 0", temperature)?;
            check("top_p", top_p > 0.0 && top_p <= 1.0, "a number above 0 and at most 1", top_p)?;
            check("min_p", (0.0..=1.0).contains(&min_p), "a number from 0 to 1", min_p)?;
        }
        Ok(())
    }

    /// The token after those in `seen`, and the chance of it taken from `seed`, `row` and the length of `seen`.
    ///
    /// `row` tells sequences apart that are continued side by side with one seed.
    ///
    /// # Errors
    /// [`Error::Config`] as in [`validate`](Self::validate), [`Error::Value`] if a logit is not a number or all are
    /// minus infinity, [`Error::Shape`] if there is no logit.
    pub fn choose<A: Real>(&self, logits: ArrayView1<'_, A>, seen: &[u32], row: u64) -> Result<u32> {
        self.validate()?;
        if logits.is_empty() {
            return Err(Error::shape("logits", "(vocabulary) of at least 1", &[0]));
        }
        if let Some(k) = logits.iter().position(|l| l.is_nan() || *l == A::infinity()) {
            let (expected, found) = ("finite numbers or -inf", format!("{} at {k}", logits[k]));
            return Err(Error::Value { tensor: "logits", expected, found });
        }
        let mut candidates: Vec<Candidate> =
            logits.iter().enumerate().map(|(k, l)| (k as u32, double(*l))).collect();
        self.penalize(&mut candidates, seen);
        let best = candidates.iter().copied().min_by(order).unwrap_or((0, 0.0));
        if best.1 == f64::NEG_INFINITY {
            let (expected, found) = ("at least one finite number", "-inf everywhere".to_owned());
            return Err(Error::Value { tensor: "logits", expected, found });
        }
        let Draw::Random { temperature, top_k, top_p, min_p, seed } = self.draw else { return Ok(best.0) };
        if top_k > 0 {
            keep_largest(&mut candidates, top_k);
        }
        for (_, l) in &mut candidates {
            *l = ((*l - best.1) / temperature).exp(); // a weight from here on, 1 for the best
        }
        if top_p < 1.0 {
            keep_share(&mut candidates, top_p);
        }
        candidates.retain(|c| c.1 >= min_p);
        Ok(draw(&candidates, uniform(seed, row, seen.len() as u64)).unwrap_or(best.0))
    }

    fn penalize(&self, candidates: &mut [Candidate], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some((_, l)) = candidates.get_mut(token as usize) {
                *l = if *l > 0.0 { *l / self.repetition_penalty } else { *l * self.repetition_penalty };
            }
        }
    }
}

/// A token with its logit or weight.
type Candidate = (u32, f64);

/// The likeliest first, and of equals the first: a total order, so that every choice is the same everywhere.
fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn keep_largest(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
        candidates.truncate(count);
    }
}

/// Keeps the fewest of the largest weights that sum to the share `p` of all.
fn keep_share(candidates: &mut Vec<Candidate>, p: f64) {
    let enough = p * candidates.iter().map(|c| c.1).sum::<f64>();
    let mut sorted = 0;
    let mut sum = 0.0;
    let mut block = 64; // sorts a few, more only if these are not enough
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let len = block.min(rest.len());
        if len < rest.len() {
            rest.select_nth_unstable_by(len, order);
        }
        rest[..len].sort_unstable_by(order);
        for c in &rest[..len] {
            sum += c.1;
            sorted += 1;
            if sum >= enough {
                candidates.truncate(sorted);
                return;
            }
        }
        block *= 8;
    }
}

/// The candidate in whose part of the total weight the share `u` falls, parts in the order of the tokens.
fn draw(candidates: &[Candidate], u: f64) -> Option<u32> {
    let mut candidates = candidates.to_vec();
    candidates.sort_unstable_by_key(|c| c.0);
    let total: f64 = candidates.iter().map(|c| c.1).sum();
    let mut left = u * total;
    for &(token, weight) in &candidates {
        left -= weight;
        if left < 0.0 {
            return Some(token);
        }
    }
    candidates.iter().rev().find(|c| c.1 > 0.0).map(|c| c.0) // rounding took the last part
}

/// A number in [0, 1) that depends on nothing but its arguments.
///
/// Chance without a state: to rewind a sequence is to draw again what was drawn.
fn uniform(seed: u64, row: u64, position: u64) -> f64 {
    let row = Random::new(Random::new(seed).bits() ^ row).bits();
    Random::new(row ^ position).unit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn view(logits: &[f32]) -> ArrayView1<'_, f32> {
        ArrayView1::from(logits)
    }

    fn random(temperature: f64, top_k: usize, top_p: f64, min_p: f64, seed: u64) -> Sampling {
        Sampling { repetition_penalty: 1.0, draw: Draw::Random { temperature, top_k, top_p, min_p, seed } }
    }

    /// How often each token is drawn, of 20000.
    fn frequencies(sampling: &Sampling) -> [f64; 5] {
        let mut counts = [0.0; 5];
        for row in 0..20_000 {
            counts[sampling.choose(view(&LOGITS), &[], row).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_close(found: [f64; 5], weights: [f64; 5]) {
        let total: f64 = weights.iter().sum();
        for (f, w) in found.iter().zip(weights) {
            assert!((f - w / total).abs() < 0.015, "{found:?} for {weights:?}"); // 4 standard deviations
            assert!(w > 0.0 || *f == 0.0, "{found:?} for {weights:?}");
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::default().choose(view(&LOGITS), &[4], 0), Ok(1));
    }

    #[test]
    fn frequencies_follow_the_softmax_at_every_temperature() {
        for temperature in [0.5, 1.0, 3.0] {
            let weights = LOGITS.map(|l| (f64::from(l) / temperature).exp());
            assert_close(frequencies(&random(temperature, 0, 1.0, 0.0, 7)), weights);
        }
    }

    #[test]
    fn every_cut_leaves_what_it_says() {
        let e = f64::exp;
        let cut = |keep: [f64; 5]| {
            let mut weights = LOGITS.map(|l| e(l.into()));
            weights.iter_mut().zip(keep).for_each(|(w, k)| *w *= k);
            weights
        };
        assert_close(frequencies(&random(1.0, 1, 1.0, 0.0, 3)), cut([0.0, 1.0, 0.0, 0.0, 0.0]));
        assert_close(frequencies(&random(1.0, 3, 1.0, 0.0, 3)), cut([0.0, 1.0, 1.0, 1.0, 0.0]));
        // Shares of the total: 0.40, 0.40, 0.15, 0.05, 0.01.
        assert_close(frequencies(&random(1.0, 0, 0.3, 0.0, 3)), cut([0.0, 1.0, 0.0, 0.0, 0.0]));
        assert_close(frequencies(&random(1.0, 0, 0.5, 0.0, 3)), cut([0.0, 1.0, 0.0, 1.0, 0.0]));
        assert_close(frequencies(&random(1.0, 0, 0.9, 0.0, 3)), cut([0.0, 1.0, 1.0, 1.0, 0.0]));
        assert_close(frequencies(&random(1.0, 0, 1.0, 0.2, 3)), cut([0.0, 1.0, 1.0, 1.0, 0.0]));
        assert_close(frequencies(&random(1.0, 2, 0.99, 0.0, 3)), cut([0.0, 1.0, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn the_share_kept_of_many_tokens_is_the_shortest_that_suffices() {
        let mut candidates: Vec<Candidate> = (0..5000).map(|k| (k, 1.0 + f64::from(k % 1000))).collect();
        let mut sorted = candidates.clone();
        sorted.sort_by(order);
        let total: f64 = sorted.iter().map(|c| c.1).sum();
        keep_share(&mut candidates, 0.9);
        let sum = |n: usize| sorted[..n].iter().map(|c| c.1).sum::<f64>();
        let n = candidates.len();
        assert_eq!(candidates, sorted[..n]);
        assert!(sum(n) >= 0.9 * total && sum(n - 1) < 0.9 * total);
    }

    #[test]
    fn a_penalty_turns_away_from_what_was_seen() {
        let penalized = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(penalized.choose(view(&LOGITS), &[1, 1], 0), Ok(3));
        assert_eq!(penalized.choose(view(&LOGITS), &[1, 3, 3, 9999], 0), Ok(2));
        assert_eq!(penalized.choose(view(&[-1.0, -1.5]), &[0], 0), Ok(1), "negative logits go down too");
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_another() {
        let sequence = |seed| -> Vec<u32> {
            let sampling = random(2.0, 0, 1.0, 0.0, seed);
            (0..64).map(|n| sampling.choose(view(&LOGITS), &vec![0; n], 0).unwrap()).collect()
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        let wrong = [
            ("temperature", random(0.0, 0, 1.0, 0.0, 0)),
            ("temperature", random(f64::NAN, 0, 1.0, 0.0, 0)),
            ("top_p", random(1.0, 0, 0.0, 0.0, 0)),
            ("top_p", random(1.0, 0, 1.5, 0.0, 0)),
            ("min_p", random(1.0, 0, 1.0, -0.1, 0)),
            ("repetition_penalty", Sampling { repetition_penalty: -1.0, ..Sampling::default() }),
        ];
        for (name, sampling) in wrong {
            let found = sampling.choose(view(&LOGITS), &[], 0);
            assert!(matches!(found, Err(Error::Config { field, .. }) if field == name), "{name}");
        }
        for logits in [&[][..], &[f32::NAN], &[0.0, f32::INFINITY], &[f32::NEG_INFINITY; 2]] {
            assert!(Sampling::default().choose(view(logits), &[], 0).is_err(), "{logits:?}");
        }
    }
}
