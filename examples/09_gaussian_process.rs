//! Lesson 9: Gaussian-process regression in linear time, on a real series.
//!
//! A stationary Gaussian process with a state has a covariance matrix that is semiseparable: its order is the number of
//! states, whatever the number of points and however uneven their spacing. Likelihood, gradient, mean and variance are
//! products, one factorisation and solutions, each linear in the number of points.
//!
//! The series is the weekly CO2 record of Mauna Loa, 1958 to 2001 (`examples/data`, public domain), with its missing weeks.
//!
//! `cargo run --release --example 09_gaussian_process`

use std::f64::consts::TAU;
use std::time::Instant;

use ndarray::{Array1, Array2, Array3, Axis, array, concatenate, s};
use semisep::Result;
use semisep::matrix::sss::{HermitianQuasiseparable, Sss, Transition};

const RECORD: &str = include_str!("data/mauna_loa_co2.csv");
/// Variance of a reading that was not made.
const UNKNOWN: f64 = 1e6;

/// Logarithms of: deviation and length of the trend, deviations of the yearly wave and of its half-yearly harmonic, the
/// time over which waves change, deviation of a reading. Parts per million and years.
const NAMES: [&str; 6] =
    ["trend ppm", "trend years", "wave ppm", "harmonic ppm", "waves change in years", "noise ppm"];
type Parameters = [f64; NAMES.len()];

fn main() -> Result<()> {
    let (times, readings) = record();
    let known: Vec<f64> = readings.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    println!(
        "1. {} weeks, {} of them without a reading; the mean is {mean:.2} ppm.\n",
        times.len(),
        times.len() - known.len()
    );

    // A week without a reading, and the year after the last, are points whose noise is so large that they say nothing.
    let last = times[times.len() - 1];
    let times: Vec<f64> =
        times.into_iter().chain((1..=52).map(|week| last + f64::from(week) * 7.0 / 365.25)).collect();
    let y = Array2::from_shape_fn((times.len(), 1), |(k, _)| {
        readings.get(k).copied().flatten().map_or(0.0, |v| v - mean)
    });
    let seen: Vec<bool> = (0..times.len()).map(|k| readings.get(k).copied().flatten().is_some()).collect();

    let mut at: Parameters = [30.0f64, 40.0, 3.0, 1.0, 50.0, 0.5].map(f64::ln);
    let m = covariance(&at, &times, &seen)?;
    println!("2. The covariance, Matérn-3/2 plus two damped waves:\n\n   {m}\n");

    println!("3. Its log-likelihood and gradient, and what differences of the former say.\n");
    let (value, gradient) = likelihood(&at, &times, &seen, &y)?;
    println!("   log-likelihood {value:.2}");
    for (p, name) in NAMES.iter().enumerate() {
        let shifted = |step: f64| {
            let mut at = at;
            at[p] += step;
            covariance(&at, &times, &seen)?.cholesky()?.log_likelihood(y.view())
        };
        let difference = (shifted(1e-4)? - shifted(-1e-4)?) / 2e-4;
        println!("   {name:<22} {:>12.4} {difference:>12.4}", gradient[p]);
    }

    println!("\n4. Uphill along the gradient.\n");
    at = climb(at, &times, &seen, &y)?;
    let (value, _) = likelihood(&at, &times, &seen, &y)?;
    println!("   log-likelihood {value:.2}");
    for (name, v) in NAMES.iter().zip(at) {
        println!("   {name:<22} {:>9.3}", v.exp());
    }

    println!("\n5. What the process was at points without a reading: mean and two deviations.\n");
    let (curve, variance) = posterior(&at, &times, &seen, &y)?;
    let ahead = readings.len() + 12;
    let gap = seen.iter().position(|seen| !seen).unwrap_or(ahead);
    for (what, k) in
        [("the first missing week", gap), ("12 weeks ahead", ahead), ("a year ahead", times.len() - 1)]
    {
        println!(
            "   {what:<24} {:.2}: {:.2} ± {:.2} ppm",
            1958.24 + times[k],
            curve[k] + mean,
            2.0 * variance[k].sqrt()
        );
    }

    println!("\n6. A hundred thousand points.\n");
    let times: Vec<f64> = (0..100_000).map(|k| f64::from(k) * 7.0 / 365.25).collect();
    let y = Array2::from_shape_fn((times.len(), 1), |(k, _)| 3.0 * (TAU * times[k]).sin() + noise(k));
    let seen = vec![true; times.len()];
    let start = Instant::now();
    let (value, gradient) = likelihood(&at, &times, &seen, &y)?;
    println!(
        "   log-likelihood {value:.1} and gradient, {:.1} long: {:.1} s",
        gradient.dot(&gradient).sqrt(),
        seconds(start)
    );
    let start = Instant::now();
    let (curve, variance) = posterior(&at, &times, &seen, &y)?;
    let middle = times.len() / 2;
    println!("   mean and variance at every point: {:.1} s", seconds(start));
    println!(
        "   in the middle {:.2} ± {:.2}, the wave there is {:.2}",
        curve[middle],
        2.0 * variance[middle].sqrt(),
        3.0 * (TAU * times[middle]).sin()
    );
    Ok(())
}

/// Years since the first week, and the reading of each week if there is one.
fn record() -> (Vec<f64>, Vec<Option<f64>>) {
    let rows = RECORD.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(','));
    rows.filter_map(|(days, ppm)| Some((days.parse::<f64>().ok()? / 365.25, ppm.parse().ok()))).unzip()
}

/// The covariance of the readings by its generators: with F the transitions of the states over the time between two
/// points, P their stationary covariance and c what is seen of them, `M_ij = c F_{i-1} ⋯ F_j P cᵀ` for i > j.
fn covariance(at: &Parameters, times: &[f64], seen: &[bool]) -> Result<HermitianQuasiseparable<f64>> {
    let [trend, years, wave, harmonic, change, noise] = at.map(f64::exp);
    let (len, rate) = (times.len(), 3f64.sqrt() / years);
    let p = Array1::from_vec([trend, rate * trend, wave, wave, harmonic, harmonic].map(|v| v * v).to_vec());
    let c = array![1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let (mut a, mut b) = (Array3::zeros((len, 6, 6)), Array2::zeros((len, 6)));
    for k in 0..len - 1 {
        let dt = times[k + 1] - times[k];
        let mut a = a.index_axis_mut(Axis(0), k);
        let matern = array![[1.0 + rate * dt, dt], [-rate * rate * dt, 1.0 - rate * dt]] * (-rate * dt).exp();
        a.slice_mut(s![..2, ..2]).assign(&matern);
        for (n, frequency) in [(2, TAU), (4, 2.0 * TAU)] {
            let (sin, cos) = (frequency * dt).sin_cos();
            a.slice_mut(s![n..n + 2, n..n + 2])
                .assign(&(array![[cos, -sin], [sin, cos]] * (-dt / change).exp()));
        }
        b.row_mut(k).assign(&a.dot(&(&p * &c)));
    }
    let d = seen.iter().map(|seen| c.dot(&(&p * &c)) + if *seen { noise * noise } else { UNKNOWN }).collect();
    let c = c.broadcast((len, 6)).expect("one row for all").to_owned();
    HermitianQuasiseparable::new(Sss::uniform(Transition::Dense(a.into()), b, c, d)?)
}

/// Log-likelihood and its gradient. The derivative comes back as cotangents of the generators; the generators'
/// dependence on the parameters is cheap, so differences will do for it.
fn likelihood(at: &Parameters, times: &[f64], seen: &[bool], y: &Array2<f64>) -> Result<(f64, Array1<f64>)> {
    const STEP: f64 = 1e-5;
    let found = covariance(at, times, seen)?.log_likelihood_vjp(y.view())?;
    let numbers = |m: &HermitianQuasiseparable<f64>| {
        let Transition::Dense(a) = m.lower().transition() else { unreachable!("made dense above") };
        let flat = |v: &[f64]| Array1::from_vec(v.to_vec());
        concatenate![
            Axis(0),
            flat(a.flat()),
            flat(m.lower().b_blocks().flat()),
            flat(m.diagonal_blocks().flat())
        ]
    };
    let cotangent = numbers(&found.covariance);
    let mut gradient = Array1::zeros(at.len());
    for p in 0..at.len() {
        let mut shifted = [*at; 2];
        shifted[0][p] += STEP;
        shifted[1][p] -= STEP;
        let [above, below] = shifted.map(|at| covariance(&at, times, seen).map(|m| numbers(&m)));
        gradient[p] = cotangent.dot(&((above? - below?) / (2.0 * STEP)));
    }
    Ok((found.value, gradient))
}

/// Steps along the gradient, each half as long as the last when it would lead down and longer when it leads up.
fn climb(mut at: Parameters, times: &[f64], seen: &[bool], y: &Array2<f64>) -> Result<Parameters> {
    let (mut value, mut gradient) = likelihood(&at, times, seen, y)?;
    let mut step = 0.3;
    for _ in 0..30 {
        let length = gradient.dot(&gradient).sqrt();
        let next: Parameters = std::array::from_fn(|p| at[p] + step * gradient[p] / length);
        let (there, slope) = likelihood(&next, times, seen, y)?;
        if there > value {
            (at, value, gradient, step) = (next, there, slope, 1.3 * step);
        } else {
            step /= 3.0;
        }
    }
    Ok(at)
}

/// Mean and variance of the process itself, without the noise N of the readings: `y - N M⁻¹ y` and the diagonal of
/// `N - N M⁻¹ N`.
fn posterior(at: &Parameters, times: &[f64], seen: &[bool], y: &Array2<f64>) -> Result<(Vec<f64>, Vec<f64>)> {
    let factor = covariance(at, times, seen)?.cholesky()?;
    let (alpha, inverse) = (factor.solve(y.view())?, factor.inverse_diagonal()?);
    let noise = |k: usize| if seen[k] { (2.0 * at[5]).exp() } else { UNKNOWN };
    let mean = (0..times.len()).map(|k| y[[k, 0]] - noise(k) * alpha[[k, 0]]).collect();
    let variance = (0..times.len()).map(|k| noise(k) - noise(k) * noise(k) * inverse.flat()[k]).collect();
    Ok((mean, variance))
}

/// Numbers that look random, with a deviation of about 0.3.
fn noise(k: usize) -> f64 {
    let bits = (k as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits >> 40) as f64 / (1u64 << 24) as f64 - 0.5
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
