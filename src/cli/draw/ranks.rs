//! Numerical ranks of the blocks of an SSD matrix.

use ndarray::s;

use super::canvas::{Anchor, Canvas, Colour, FAINT, INK, RULE, WORDS};
use super::heat::shade;
use super::ssd::Head;
use crate::error::Result;
use crate::linalg::singular_values;
use crate::matrix::{MainDiagonal, maximal_block_ranks};

const LEN: usize = 64;
const CHUNK: usize = 8;
const STATE: usize = 3;
/// A singular value counts from this share of the largest on.
const TOLERANCE: f64 = 1e-10;
const SIDE: f64 = 48.0;

/// Ranks of all blocks as a grid, and of the largest blocks below the diagonal as bars.
///
/// # Errors
/// None: the matrix is finite.
pub(super) fn draw() -> Result<Canvas> {
    let m = Head::new(LEN, STATE).dense()?;
    let blocks = LEN / CHUNK;
    let whole = blocks as f64 * SIDE;
    let (top, first, second) = (92.0, 28.0, 28.0 + whole + 70.0);
    let mut canvas = Canvas::new(
        (second + whole + 28.0, top + whole + 44.0),
        "Ranks below the diagonal of an SSD matrix",
        "64 positions, state_dim 3: whatever block is cut out below the diagonal, its rank is at most 3",
    );
    let caption = WORDS.anchored(Anchor::Middle);
    canvas.words((first + whole / 2.0, top - 10.0), "rank of each block of 8 × 8", caption);
    canvas.words(
        (second + whole / 2.0, top - 10.0),
        "rank of all that lies below and left of a position",
        caption,
    );

    for i in 0..blocks {
        for j in 0..blocks {
            let part = m.slice(s![i * CHUNK..(i + 1) * CHUNK, j * CHUNK..(j + 1) * CHUNK]);
            let rank = rank(&singular_values(part).unwrap_or_default());
            let hue = if i == j { Colour(222.0, 118.0, 20.0) } else { Colour(24.0, 96.0, 180.0) };
            let place = (first + j as f64 * SIDE, top + i as f64 * SIDE);
            let share = if i == j { 0.6 } else { rank as f64 / STATE as f64 * 0.5 };
            canvas.rectangle(place, (SIDE - 1.5, SIDE - 1.5), &shade(hue, share).css());
            let colour = if rank == 0 { FAINT } else { INK };
            let middle = (place.0 + SIDE / 2.0, place.1 + SIDE / 2.0 + 5.0);
            canvas.words(middle, &rank.to_string(), caption.coloured(colour));
        }
    }
    bars(
        &mut canvas,
        (second, top),
        whole,
        &maximal_block_ranks(m.view(), MainDiagonal::Excluded, TOLERANCE)?,
    );
    Ok(canvas)
}

/// One bar for each k: the rank of `M[k:, :k]`, and behind it the rank that its shape would allow.
fn bars(canvas: &mut Canvas, (left, top): (f64, f64), side: f64, ranks: &[usize]) {
    let highest = LEN / 2;
    let unit = side / (highest as f64 + 2.0);
    let step = side / LEN as f64;
    let height = |rank: usize| rank as f64 * unit;
    for (k, &rank) in ranks.iter().enumerate() {
        let x = left + (k as f64 + 1.0) * step;
        let allowed = (k + 1).min(LEN - k - 1);
        canvas.rectangle((x, top + side - height(allowed)), (step - 1.0, height(allowed)), "#ececea");
        canvas.rectangle((x, top + side - height(rank)), (step - 1.0, height(rank)), "#1860b4");
    }
    canvas.line((left, top + side), (left + side, top + side), FAINT);
    for rank in [STATE, 8, 16, 24, 32] {
        let y = top + side - height(rank);
        let stroke = if rank == STATE { "#1860b4" } else { RULE };
        canvas.line((left, y), (left + side, y), stroke);
        let words = WORDS.anchored(Anchor::End).sized(11.0).coloured(FAINT);
        canvas.words((left - 6.0, y + 4.0), &rank.to_string(), words);
    }
    let words = WORDS.anchored(Anchor::Middle).sized(12.0).coloured(FAINT);
    let caption = "position k; grey: the rank that the shape of the block would allow";
    canvas.words((left + side / 2.0, top + side + 20.0), caption, words);
}

fn rank(singular_values: &[f64]) -> usize {
    let largest = singular_values.first().copied().unwrap_or(0.0);
    singular_values.iter().filter(|&&v| v > TOLERANCE * largest).count()
}
