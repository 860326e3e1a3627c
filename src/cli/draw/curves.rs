//! Time per token over length, from a measurement.

use std::path::Path;

use serde_json::Value;

use super::canvas::{Anchor, Canvas, FAINT, INK, Point, RULE, WORDS};
use crate::cli::case::read_bytes;
use crate::cli::in_file;
use crate::error::Result;

const ALGORITHMS: [(&str, &str); 3] =
    [("quadratic", "#be4614"), ("recurrent", "#228b48"), ("chunked", "#1860b4")];
const PASSES: [(&str, &str); 2] = [("forward", "forward"), ("forward+backward", "forward and backward")];
const SIDE: (f64, f64) = (430.0, 330.0);

/// One point of a curve: length and seconds per token.
type Sample = (f64, f64);

/// A curve for each algorithm; one panel for each pass that was measured.
///
/// # Errors
/// [`crate::Error::File`] if the file cannot be read or holds no curve.
pub(super) fn draw(path: &Path) -> Result<Canvas> {
    let bytes = read_bytes(path)?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|e| in_file(path, format!("not JSON: {e}")))?;
    let rows = json["rows"]
        .as_array()
        .ok_or_else(|| in_file(path, "field `rows`: expected a list of measurements"))?;
    let threads = rows.iter().filter_map(|row| row["threads"].as_u64()).max().unwrap_or(1);
    let panels: Vec<_> = PASSES
        .iter()
        .map(|(pass, title)| {
            (*title, ALGORITHMS.map(|(name, _)| samples(rows, &format!("{name} {pass}"), threads)))
        })
        .filter(|(_, curves)| curves.iter().any(|curve| !curve.is_empty()))
        .collect();
    let all: Vec<Sample> = panels.iter().flat_map(|(_, curves)| curves.iter().flatten().copied()).collect();
    if all.is_empty() {
        return Err(in_file(
            path,
            "field `rows`: expected f32 measurements of the algorithms over lengths, found none",
        ));
    }
    let scale = Scale::around(&all);
    let explanation = explanation(&json, threads);
    let width = 72.0 + panels.len() as f64 * (SIDE.0 + 110.0);
    let mut canvas =
        Canvas::new((width.max(620.0), 92.0 + SIDE.1 + 56.0), "Time per token over length", &explanation);
    for (k, (title, curves)) in panels.iter().enumerate() {
        let corner = (72.0 + k as f64 * (SIDE.0 + 110.0), 98.0);
        axes(&mut canvas, corner, &scale, title);
        labelled(&mut canvas, corner, &scale, curves);
    }
    Ok(canvas)
}

/// The f32 rows of one name, by length.
fn samples(rows: &[Value], name: &str, threads: u64) -> Vec<Sample> {
    let mut samples: Vec<Sample> = rows
        .iter()
        .filter(|row| {
            row["name"] == name && row["dtype"] == "f32" && row["threads"].as_u64() == Some(threads)
        })
        .filter_map(|row| Some((row["len"].as_f64()?, row["seconds"].as_f64()?)))
        .filter(|&(len, seconds)| len >= 1.0 && seconds > 0.0 && seconds.is_finite())
        .map(|(len, seconds)| (len, seconds / len))
        .collect();
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    samples
}

fn explanation(json: &Value, threads: u64) -> String {
    let rate = &json["ceilings"]["gemm_f32"][threads.to_string()];
    let rate =
        rate.as_f64().map_or(String::new(), |rate| format!("; matrix products reach {rate:.0} GFLOP/s"));
    let cpu = json["machine"]["cpu"].as_str().map_or(String::new(), |cpu| format!(" of {cpu}"));
    let cores = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    format!("f32, batch 1, 24 heads, head_dim 64, state_dim 128; {cores}{cpu}{rate}")
}

/// Logarithmic axes: powers of two across, powers of ten upwards.
struct Scale {
    len: (f64, f64),     // log2
    seconds: (f64, f64), // log10
}

impl Scale {
    fn around(samples: &[Sample]) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let range = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
            (range.0.floor(), range.1.ceil().max(range.0.floor() + 1.0))
        };
        Self {
            len: range(&mut samples.iter().map(|s| s.0.log2())),
            seconds: range(&mut samples.iter().map(|s| s.1.log10())),
        }
    }

    fn place(&self, corner: Point, (len, seconds): Sample) -> Point {
        let across = (len.log2() - self.len.0) / (self.len.1 - self.len.0);
        let up = (seconds.log10() - self.seconds.0) / (self.seconds.1 - self.seconds.0);
        (corner.0 + SIDE.0 * across, corner.1 + SIDE.1 * (1.0 - up))
    }
}

fn axes(canvas: &mut Canvas, corner: Point, scale: &Scale, title: &str) {
    canvas.words((corner.0 + SIDE.0 / 2.0, corner.1 - 12.0), title, WORDS.anchored(Anchor::Middle));
    let words = WORDS.sized(11.0).coloured(FAINT);
    let every = ((scale.len.1 - scale.len.0) / 8.0).ceil().max(1.0);
    let mut power = scale.len.0;
    while power <= scale.len.1 {
        let (x, _) = scale.place(corner, (power.exp2(), 1.0));
        canvas.line((x, corner.1), (x, corner.1 + SIDE.1), "#eeeeee");
        canvas.words((x, corner.1 + SIDE.1 + 17.0), &length(power), words.anchored(Anchor::Middle));
        power += every;
    }
    let mut power = scale.seconds.0;
    while power <= scale.seconds.1 {
        let (_, y) = scale.place(corner, (1.0, 10f64.powf(power)));
        canvas.line((corner.0, y), (corner.0 + SIDE.0, y), RULE);
        canvas.words((corner.0 - 8.0, y + 4.0), &duration(power), words.anchored(Anchor::End));
        power += 1.0;
    }
    let middle = (corner.0 + SIDE.0 / 2.0, corner.1 + SIDE.1 + 38.0);
    canvas.words(middle, "length of the sequence", words.sized(12.0).anchored(Anchor::Middle));
}

/// The curves with their names at the right ends, moved apart where they would touch.
fn labelled(canvas: &mut Canvas, corner: Point, scale: &Scale, curves: &[Vec<Sample>; 3]) {
    let mut labels: Vec<(Point, usize)> = Vec::new();
    for (k, samples) in curves.iter().enumerate() {
        let points: Vec<_> = samples.iter().map(|&sample| scale.place(corner, sample)).collect();
        canvas.curve(&points, ALGORITHMS[k].1);
        labels.extend(points.last().map(|&end| (end, k)));
    }
    labels.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
    let mut free = corner.1 - 8.0;
    for ((x, y), k) in labels {
        let y = y.max(free);
        free = y + 16.0;
        canvas.words((x + 8.0, y + 4.0), ALGORITHMS[k].0, WORDS.coloured(INK).coloured(ALGORITHMS[k].1));
    }
}

fn length(power: f64) -> String {
    let len = power.exp2();
    if len >= 1024.0 { format!("{} k", len / 1024.0) } else { len.to_string() }
}

fn duration(power: f64) -> String {
    let unit = (power / 3.0).floor();
    let value = 10f64.powf(power - 3.0 * unit);
    match unit as i32 {
        0 => format!("{value:.0} s"),
        -1 => format!("{value:.0} ms"),
        -2 => format!("{value:.0} µs"),
        -3 => format!("{value:.0} ns"),
        _ => format!("1e{power} s"),
    }
}
