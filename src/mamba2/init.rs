//! Random parameters, as the released models began.

use super::{Config, Model, Naming};
use crate::error::Result;
use crate::nn::{Shared, Weight};
use crate::random::Random;
use crate::scalar::{Real, real};

/// Steps begin between these, uniformly in their logarithm, and not below the last.
const STEPS: (f64, f64) = (0.001, 0.1);
const LEAST_STEP: f64 = 1e-4;

/// −A begins between these.
const RATES: (f64, f64) = (1.0, 16.0);

/// Standard deviation of the embedding.
const EMBEDDING: f64 = 0.02;

impl<A: Real> Model<Weight<A>> {
    /// A model with random parameters, the same for the same seed. Of the released models:
    ///
    /// | parameter | distribution |
    /// |---|---|
    /// | embedding | normal, standard deviation 0.02 |
    /// | projections, head, convolution | uniform up to ``$`\pm 1/\sqrt{n}`$`` with n inputs; biases of projections zero |
    /// | `out_proj`, `fc2` | the same, divided by ``$`\sqrt{\mathrm{n\_layer}}`$`` |
    /// | `dt_bias` | the step between 0.001 and 0.1, uniform in its logarithm, through the inverse of softplus |
    /// | `A_log` | the logarithm of a number uniform between 1 and 16 |
    /// | `D`, norms | 1 |
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn random(config: &Config, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        config.shapes()?.try_map(Naming::Original, |name, shape| {
            let draw = parameter(name, shape, config.n_layer);
            let count = shape.iter().product();
            let numbers: Vec<A> = (0..count).map(|_| real(draw(&mut random))).collect();
            Weight::new(shape, A::numbers(Shared::new(numbers)))
        })
    }
}

/// How a number of the parameter of this name and shape is drawn.
fn parameter(name: &str, shape: &[usize], n_layer: usize) -> Box<dyn Fn(&mut Random) -> f64> {
    let inputs: usize = shape[1..].iter().product();
    let bound = 1.0 / (inputs as f64).sqrt();
    let last = |part: &str| name.ends_with(part);
    if last("embedding.weight") {
        Box::new(|random| EMBEDDING * random.normal())
    } else if last("norm.weight") || last("norm2.weight") || last("norm_f.weight") || last("mixer.D") {
        Box::new(|_| 1.0)
    } else if last("dt_bias") {
        Box::new(|random| {
            let step = random.uniform(STEPS.0.ln(), STEPS.1.ln()).exp().max(LEAST_STEP);
            step + (-(-step).exp_m1()).ln()
        })
    } else if last("A_log") {
        Box::new(|random| random.uniform(RATES.0, RATES.1).ln())
    } else if last("out_proj.weight") || last("fc2.weight") {
        let bound = bound / (n_layer as f64).sqrt();
        Box::new(move |random| random.uniform(-bound, bound))
    } else if last("proj.bias") {
        Box::new(|_| 0.0)
    } else {
        Box::new(move |random| random.uniform(-bound, bound))
    }
}
