//! The singular values of all Hankel blocks, and how many of them count.

use super::canvas::{Anchor, Canvas, Colour, FAINT, INK, Point, RULE, WORDS};
use crate::matrix::sss::{HankelSpectrum, Tolerance};

const SIDE: (f64, f64) = (430.0, 300.0);
/// Curves that are drawn; values beyond them are not told apart by eye.
const CURVES: usize = 16;
/// Points of a curve; more would not fit side by side.
const POINTS: usize = 215;
/// Decades below the largest value that are shown.
const DECADES: f64 = 18.0;
const FIRST: Colour = Colour(16.0, 70.0, 150.0);
const LAST: Colour = Colour(200.0, 208.0, 220.0);

impl HankelSpectrum {
    /// A picture as SVG text: the singular values of every Hankel block over its position, largest to smallest, and how
    /// many of them exceed the tolerance, which are the orders of the rounded matrix.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array1, Array2};
    /// use semisep::matrix::sss::{Sss, Tolerance, Transition};
    ///
    /// let ones = Array2::ones((50, 2));
    /// let m = Sss::uniform(Transition::Scalar(Array1::from_elem(50, 0.9)), ones.clone(), ones, Array1::ones(50))?;
    /// let svg = m.hankel_spectrum()?.to_svg(Tolerance::Relative(1e-10));
    /// assert!(svg.starts_with("<svg"));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn to_svg(&self, tolerance: Tolerance) -> String {
        draw(self, tolerance).render()
    }
}

/// Both panels.
pub(crate) fn draw(spectrum: &HankelSpectrum, tolerance: Tolerance) -> Canvas {
    let (top, first, second) = (92.0, 64.0, 64.0 + SIDE.0 + 70.0);
    let mut canvas = Canvas::new(
        (second + SIDE.0 + 28.0, top + SIDE.1 + 52.0),
        "Hankel singular values",
        "what the rows from a position on have to do with the columns before it, and how many numbers carry it",
    );
    let caption = WORDS.anchored(Anchor::Middle);
    canvas.words((first + SIDE.0 / 2.0, top - 10.0), "singular values, largest to smallest", caption);
    canvas.words((second + SIDE.0 / 2.0, top - 10.0), "how many exceed the tolerance", caption);
    let below = WORDS.anchored(Anchor::Middle).sized(12.0).coloured(FAINT);
    for left in [first, second] {
        canvas.words((left + SIDE.0 / 2.0, top + SIDE.1 + 24.0), "position", below);
        canvas.frame((left, top), SIDE, RULE);
    }
    values(&mut canvas, (first, top), spectrum);
    ranks(&mut canvas, (second, top), &spectrum.ranks(tolerance));
    canvas
}

/// Positions that are drawn, of `len`.
fn positions(len: usize) -> impl Iterator<Item = usize> {
    let points = len.min(POINTS);
    (0..points).map(move |p| if points < 2 { 0 } else { p * (len - 1) / (points - 1) })
}

/// Where position `k` of `len` stands.
fn across(k: usize, len: usize) -> f64 {
    SIDE.0 * (k as f64 + 0.5) / len as f64
}

fn values(canvas: &mut Canvas, (left, top): Point, spectrum: &HankelSpectrum) {
    let (norm, len) = (spectrum.norm(), spectrum.len());
    if norm.is_nan() || norm <= 0.0 {
        return;
    }
    let highest = norm.log10().ceil();
    let words = WORDS.anchored(Anchor::End).sized(11.0).coloured(FAINT);
    let height = |v: f64| top + SIDE.1 * ((highest - v.log10()) / DECADES).min(1.0);
    for decade in (0..=DECADES as i32).step_by(3) {
        let y = top + SIDE.1 * f64::from(decade) / DECADES;
        canvas.line((left, y), (left + SIDE.0, y), RULE);
        canvas.words((left - 6.0, y + 4.0), &format!("1e{}", highest as i32 - decade), words);
    }
    for n in 0..CURVES {
        let colour = FIRST.towards(LAST, n as f64 / CURVES as f64).css();
        let mut run: Vec<Point> = Vec::new();
        for k in positions(len) {
            match spectrum.values(k + 1).get(n) {
                Some(v) if *v > 0.0 => run.push((left + across(k, len), height(*v))),
                _ => stroke(canvas, &mut run, &colour),
            }
        }
        stroke(canvas, &mut run, &colour);
    }
}

fn stroke(canvas: &mut Canvas, run: &mut Vec<Point>, colour: &str) {
    for pair in run.windows(2) {
        canvas.line(pair[0], pair[1], colour);
    }
    run.clear();
}

fn ranks(canvas: &mut Canvas, (left, top): Point, ranks: &[usize]) {
    let most = ranks.iter().copied().max().unwrap_or(0);
    let unit = SIDE.1 / (most as f64 + 1.0);
    let len = ranks.len();
    let width = SIDE.0 / len.clamp(1, POINTS) as f64;
    for k in positions(len) {
        let height = unit * ranks[k] as f64;
        let corner = (left + across(k, len) - width / 2.0, top + SIDE.1 - height);
        canvas.rectangle(corner, (width * 0.9, height), "#1860b4");
    }
    let words = WORDS.anchored(Anchor::End).sized(11.0).coloured(INK);
    for rank in [0, most] {
        canvas.words((left - 6.0, top + SIDE.1 - unit * rank as f64 + 4.0), &rank.to_string(), words);
    }
}
