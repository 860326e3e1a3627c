//! Times of a piece of work and of a yardstick, taken in turn, so that both see the same machine.

use std::time::Instant;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Seconds of work after which no further sample is taken.
    pub budget: f64,
    /// Seconds that one run of the quadratic or recurrent algorithm may take; what takes longer is run once.
    pub patience: f64,
}

/// Medians, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    /// One run of the work.
    pub seconds: f64,
    /// One run of the yardstick.
    pub yardstick: f64,
    /// Peak memory of the work.
    pub extra: Option<u64>,
}

/// A sample is at least this long, so that short work is repeated within it.
const SAMPLE: f64 = 2e-3;
pub(super) const MOST_SAMPLES: usize = 25;

/// Seconds that `f` takes.
pub(super) fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// Times of the yardstick before any work, after a run that warms it up.
pub(super) fn beforehand(mut yardstick: impl FnMut()) -> Vec<f64> {
    yardstick();
    (0..3).map(|_| seconds(&mut yardstick)).collect()
}

/// Runs `work` and `yardstick` in turn; work beyond patience is not run again, and the yardstick is the mean of its
/// times before and after. `first` is how long a run of `work` took before, to warm it up, and
/// `yardsticks` what the yardstick took before that.
pub(super) fn in_turn(
    effort: Effort,
    (first, mut yardsticks): (f64, Vec<f64>),
    mut work: impl FnMut(),
    mut yardstick: impl FnMut(),
) -> (f64, f64) {
    if first > effort.patience {
        yardsticks.extend((0..3).map(|_| seconds(&mut yardstick)));
        return (first, yardsticks.iter().sum::<f64>() / yardsticks.len() as f64);
    }
    let least = match first {
        short if short < effort.budget => 3,
        middle if middle < 4.0 * effort.budget => 2,
        _ => 1,
    };
    let repeats = (SAMPLE / first.max(1e-9)).ceil().max(1.0);
    let (mut works, mut spent) = (Vec::new(), 0.0);
    while works.len() < least || (spent < effort.budget && works.len() < MOST_SAMPLES) {
        yardsticks.push(seconds(&mut yardstick));
        let sample = seconds(|| (0..repeats as usize).for_each(|_| work()));
        works.push(sample / repeats);
        spent += sample;
    }
    yardsticks.push(seconds(&mut yardstick));
    (median(&mut works), median(&mut yardsticks))
}

/// The middle one; NaN if there is none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
