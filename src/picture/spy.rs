//! How large the entries of a matrix are, and where.

use ndarray::Array2;

use super::canvas::{Anchor, Canvas, Colour, FAINT, RULE, WORDS};
use super::heat::cells;
use crate::error::Result;
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// Cells along the longer side; of a larger matrix evenly spaced entries are shown.
const CELLS: usize = 80;
const SIDE: f64 = 480.0;
/// Decades below the largest entry that are shown.
const DECADES: f64 = 16.0;
const LARGE: Colour = Colour(16.0, 50.0, 120.0);
const SMALL: Colour = Colour(226.0, 232.0, 240.0);
const NOTHING: Colour = Colour(252.0, 252.0, 250.0);
/// Infinite, or no number.
const NOT_FINITE: Colour = Colour(224.0, 32.0, 96.0);

/// A picture of the sizes of entries as SVG text: dark is large, each shade a number of decades, paper is zero, and red is
/// not finite, with the number of such entries in the title.
///
/// The matrix is not formed: its products with some unit columns are the entries that are shown. So a generator that is
/// not finite shows in every entry that a product computes with it, even where it is multiplied by zero.
///
/// # Errors
/// Those of the product.
///
/// # Example
/// ```
/// use ndarray::array;
/// use semisep::matrix::{OneSemiseparable, spy_svg};
///
/// let m = OneSemiseparable::new(array![1.0, 0.5, 0.5])?;
/// assert!(spy_svg(&m)?.starts_with("<svg"));
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn spy_svg<E: Field, M: StructuredMatrix<E>>(m: &M) -> Result<String> {
    Ok(draw(m)?.render())
}

/// The picture.
pub(crate) fn draw<E: Field, M: StructuredMatrix<E>>(m: &M) -> Result<Canvas> {
    let (rows, columns) = m.shape();
    let sizes = sampled(m, (&places(rows), &places(columns)))?;
    let cell = SIDE / sizes.nrows().max(sizes.ncols()).max(1) as f64;
    let (left, top) = (28.0, 84.0);
    let (width, height) = (cell * sizes.ncols() as f64, cell * sizes.nrows() as f64);
    let mut explanation = if rows.max(columns) > CELLS {
        format!("{} × {} of {rows} × {columns} entries, evenly spaced", sizes.nrows(), sizes.ncols())
    } else {
        format!("{rows} × {columns} entries")
    };
    let not_finite = sizes.iter().filter(|v| !v.is_finite()).count();
    if not_finite > 0 {
        explanation += &format!(", {not_finite} of them not finite");
    }
    let mut canvas = Canvas::new((left + SIDE + 120.0, top + SIDE + 32.0), "Sizes of entries", &explanation);
    let largest = sizes.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let share = |v: f64| ((largest / v).log10() / DECADES).min(1.0);
    let paint = |_, _, v: f64| match v {
        0.0 => NOTHING,
        v if v.is_finite() => LARGE.towards(SMALL, share(v)),
        _ => NOT_FINITE,
    };
    cells(&mut canvas, (left, top), (cell, cell), sizes.view(), paint);
    canvas.frame((left - 1.0, top - 1.0), (width + 1.5, height + 1.5), RULE);
    let words = WORDS.sized(11.0).anchored(Anchor::Start).coloured(FAINT);
    let mut y = top;
    let mut row = |colour: Colour, meaning: &str| {
        let x = left + SIDE + 20.0;
        canvas.rectangle((x, y), (16.0, 16.0), &colour.css());
        canvas.words((x + 24.0, y + 12.0), meaning, words);
        y += 22.0;
    };
    for decade in (0..=DECADES as i32).step_by(4) {
        let colour = LARGE.towards(SMALL, f64::from(decade) / DECADES);
        row(colour, &format!("{:.1e}", largest * 10f64.powi(-decade)));
    }
    if not_finite > 0 {
        row(NOT_FINITE, "not finite");
    }
    Ok(canvas)
}

/// Evenly spaced places of `len`, both ends included.
fn places(len: usize) -> Vec<usize> {
    let count = len.min(CELLS);
    (0..count).map(|p| if count < 2 { 0 } else { p * (len - 1) / (count - 1) }).collect()
}

/// Absolute values of the entries at these rows and columns.
fn sampled<E: Field, M: StructuredMatrix<E>>(
    m: &M,
    (rows, columns): (&[usize], &[usize]),
) -> Result<Array2<f64>> {
    let mut units = Array2::zeros((m.shape().1, columns.len()));
    for (p, &column) in columns.iter().enumerate() {
        units[[column, p]] = E::one();
    }
    let product = m.matmul(units.view())?;
    let size = |v: E| num_traits::ToPrimitive::to_f64(&v.modulus()).unwrap_or(f64::NAN);
    Ok(Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| size(product[[rows[i], j]])))
}
