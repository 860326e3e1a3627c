//! Matrices as coloured cells.

use ndarray::ArrayView2;

use super::canvas::{Anchor, Canvas, Colour, FAINT, Point, RULE, WORDS};

const PAPER: Colour = Colour(250.0, 250.0, 248.0);
const POSITIVE: Colour = Colour(20.0, 70.0, 140.0);
const NEGATIVE: Colour = Colour(190.0, 70.0, 20.0);
/// What a number just above zero looks like, so that it is told from zero.
const LEAST: f64 = 0.12;

/// Blue above zero, orange below, paper at zero; `v` from -1 to 1.
pub(crate) fn signed(v: f64) -> Colour {
    match v {
        0.0 => PAPER,
        v if v > 0.0 => PAPER.towards(POSITIVE, LEAST + (1.0 - LEAST) * v),
        v => PAPER.towards(NEGATIVE, LEAST - (1.0 - LEAST) * v),
    }
}

/// Shades of one colour; `v` from 0 to 1.
pub(crate) fn shade(colour: Colour, v: f64) -> Colour {
    if v == 0.0 { PAPER } else { PAPER.towards(colour, LEAST + (1.0 - LEAST) * v) }
}

/// The largest absolute value, or 1 if all are zero.
pub(crate) fn largest(m: ArrayView2<'_, f64>) -> f64 {
    let largest = m.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    if largest > 0.0 { largest } else { 1.0 }
}

/// One cell for each entry, `cell` pixels wide and high; `paint` gets (row, column, value).
pub(crate) fn cells(
    canvas: &mut Canvas,
    corner: Point,
    cell: (f64, f64),
    m: ArrayView2<'_, f64>,
    paint: impl Fn(usize, usize, f64) -> Colour,
) {
    let gap = if cell.0.min(cell.1) >= 9.0 { 0.8 } else { 0.3 };
    for ((i, j), &v) in m.indexed_iter() {
        let place = (corner.0 + j as f64 * cell.0, corner.1 + i as f64 * cell.1);
        canvas.rectangle(place, (cell.0 - gap, cell.1 - gap), &paint(i, j, v).css());
    }
}

/// A signed matrix with a frame, its name above and its axes named.
pub(crate) fn panel(canvas: &mut Canvas, corner: Point, cell: f64, m: ArrayView2<'_, f64>, caption: &str) {
    let scale = largest(m);
    let (height, width) = (m.nrows() as f64 * cell, m.ncols() as f64 * cell);
    cells(canvas, corner, (cell, cell), m, |_, _, v| signed(v / scale));
    canvas.frame((corner.0 - 2.0, corner.1 - 2.0), (width + 3.2, height + 3.2), RULE);
    let middle = WORDS.anchored(Anchor::Middle).coloured(FAINT);
    canvas.words((corner.0 + width / 2.0, corner.1 + height + 20.0), caption, middle.sized(12.0));
}

/// What the colours mean, from `-scale` (or 0) to `scale`, upwards.
pub(crate) fn key(canvas: &mut Canvas, corner: Point, height: f64, least: f64, scale: f64) {
    let steps = 40;
    let step = height / f64::from(steps);
    for k in 0..steps {
        let share = 1.0 - (f64::from(k) + 0.5) / f64::from(steps);
        let v = least + (scale - least) * share;
        let place = (corner.0, corner.1 + f64::from(k) * step);
        canvas.rectangle(place, (14.0, step + 0.3), &signed(v / scale).css());
    }
    let words = WORDS.sized(11.0).coloured(FAINT);
    let at = |v: f64| corner.1 + height * (scale - v) / (scale - least) + 4.0;
    let mut marks = vec![scale, least];
    if least < 0.0 {
        marks.push(0.0);
    }
    for v in marks {
        canvas.words((corner.0 + 20.0, at(v)), &number(v), words);
    }
}

fn number(v: f64) -> String {
    let text = format!("{v:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.replace('-', "\u{2212}")
}
