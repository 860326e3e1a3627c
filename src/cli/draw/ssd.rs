//! The matrix of an SSD, and the roles of its blocks in the block decomposition.

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, s};

use super::canvas::{Anchor, Canvas, Colour, FAINT, INK, Point, WORDS};
use super::heat::{cells, largest, shade};
use super::masks::decays;
use crate::error::Result;
use crate::ssd::{Algorithm, Ssd};

const DIAGONAL: Colour = Colour(222.0, 118.0, 20.0);
const RIGHT: Colour = Colour(34.0, 139.0, 72.0);
const CENTRE: Colour = Colour(120.0, 60.0, 160.0);
const LEFT: Colour = Colour(24.0, 96.0, 180.0);
const PRODUCT: Colour = Colour(96.0, 104.0, 116.0);

const LEN: usize = 32;
const CHUNK: usize = 8;
const SIDE: f64 = 96.0; // of a block, in pixels
const STRIP: f64 = 24.0; // width of a factor

/// One head of an SSD by its generators.
pub(super) struct Head {
    pub a: Array1<f64>, // (len)
    pub b: Array2<f64>, // (len, state_dim)
    pub c: Array2<f64>, // (len, state_dim)
}

impl Head {
    /// Smooth waves, so that the picture shows structure rather than noise.
    pub(super) fn new(len: usize, state_dim: usize) -> Self {
        let wave = |t: usize, n: usize, shift: f64| {
            0.55 + 0.45 * (0.5 * (1.0 + 0.6 * n as f64) * t as f64 + 2.0 * n as f64 + shift).sin()
        };
        Self {
            a: decays(len),
            b: Array2::from_shape_fn((len, state_dim), |(t, n)| wave(t, n, 0.0)),
            c: Array2::from_shape_fn((len, state_dim), |(t, n)| wave(t, n, 1.1)),
        }
    }

    /// All entries of M: its product with the unit matrix.
    pub(super) fn dense(&self) -> Result<Array2<f64>> {
        let (len, state_dim) = self.b.dim();
        let log_a = Array3::from_shape_fn((1, len, 1), |(_, t, _)| self.a[t].ln());
        let raise = |g: &Array2<f64>| Array4::from_shape_fn((1, len, 1, state_dim), |(_, t, _, n)| g[[t, n]]);
        let (b, c) = (raise(&self.b), raise(&self.c));
        let unit = Array4::from_shape_fn((1, len, 1, len), |(_, t, _, p)| f64::from(u8::from(t == p)));
        let m = Ssd::with_unit_steps(log_a.view(), b.view(), c.view())?;
        Ok(m.matmul(unit.view(), None, Algorithm::Recurrent)?.y.slice(s![0, .., 0, ..]).to_owned())
    }

    /// `a_{to} ⋯ a_{from+1}`
    fn decay(&self, from: usize, to: usize) -> f64 {
        (from + 1..=to).map(|t| self.a[t]).product()
    }

    /// (state_dim, chunk): what each input of chunk `k` leaves in the state at the end of the chunk.
    fn right(&self, k: usize) -> Array2<f64> {
        let last = (k + 1) * CHUNK - 1;
        Array2::from_shape_fn((self.b.ncols(), CHUNK), |(n, t)| {
            self.b[[k * CHUNK + t, n]] * self.decay(k * CHUNK + t, last)
        })
    }

    /// (chunk, state_dim): what each output of chunk `k` reads from the state before the chunk.
    fn left(&self, k: usize) -> Array2<f64> {
        let before = k * CHUNK - 1;
        Array2::from_shape_fn((CHUNK, self.c.ncols()), |(t, n)| {
            self.c[[k * CHUNK + t, n]] * self.decay(before, k * CHUNK + t)
        })
    }

    /// (state_dim, state_dim): from the end of chunk `from` to the start of chunk `to`.
    fn centre(&self, from: usize, to: usize) -> Array2<f64> {
        let through = self.decay((from + 1) * CHUNK - 1, to * CHUNK - 1);
        Array2::from_diag(&Array1::from_elem(self.b.ncols(), through))
    }
}

/// The matrix on the left, its blocks in factors on the right, the four roles below.
///
/// # Errors
/// None: the generators fit.
pub(super) fn draw() -> Result<Canvas> {
    let head = Head::new(LEN, 3);
    let m = head.dense()?;
    let blocks = LEN / CHUNK;
    let whole = blocks as f64 * SIDE;
    let (top, first, second) = (92.0, 28.0, 28.0 + whole + 44.0);
    let mut canvas = Canvas::new(
        (second + whole + 28.0, top + whole + 132.0),
        "The matrix of an SSD and its block decomposition",
        "32 positions in chunks of 8, state_dim 3: darker is larger; every block below the diagonal has rank 3",
    );
    let caption = WORDS.anchored(Anchor::Middle).coloured(INK);
    canvas.words((first + whole / 2.0, top - 10.0), "M = L ∘ C Bᵀ", caption);
    canvas.words((second + whole / 2.0, top - 10.0), "what the chunked algorithm computes", caption);

    let scale = largest(m.view());
    let same = |i: usize, j: usize| i / CHUNK == j / CHUNK;
    let cell = SIDE / CHUNK as f64;
    cells(&mut canvas, (first, top), (cell, cell), m.view(), |i, j, v| {
        shade(if same(i, j) { DIAGONAL } else { PRODUCT }, depth(v, scale))
    });
    for to in 0..blocks {
        for from in 0..=to {
            let place = |left: f64| (left + from as f64 * SIDE, top + to as f64 * SIDE);
            let part = m.slice(s![to * CHUNK..(to + 1) * CHUNK, from * CHUNK..(from + 1) * CHUNK]);
            canvas.frame(place(first), (SIDE - 1.0, SIDE - 1.0), "#8a8a8a");
            if from == to {
                let shaded = |_, _, v: f64| shade(DIAGONAL, depth(v, scale));
                cells(&mut canvas, place(second), (cell, cell), part, shaded);
            } else {
                factors(&mut canvas, place(second), &head, (from, to), (part, scale));
            }
            canvas.frame(place(second), (SIDE - 1.0, SIDE - 1.0), "#8a8a8a");
        }
    }
    legend(&mut canvas, (first, top + whole + 28.0));
    Ok(canvas)
}

/// How dark a number is drawn: the square root keeps small ones visible.
fn depth(v: f64, scale: f64) -> f64 {
    (v.abs() / scale).sqrt()
}

/// One block below the diagonal: left, centre and right factor around a faint picture of their product.
fn factors(
    canvas: &mut Canvas,
    corner: Point,
    head: &Head,
    (from, to): (usize, usize),
    (part, scale): (ArrayView2<'_, f64>, f64),
) {
    let (rest, thin) = (SIDE - STRIP - 3.0, STRIP / head.b.ncols() as f64);
    let long = rest / CHUNK as f64;
    let inner = (corner.0 + STRIP + 2.0, corner.1 + STRIP + 2.0);
    let (left, centre, right) = (head.left(to), head.centre(from, to), head.right(from));
    let paint = |colour: Colour, m: &Array2<f64>| {
        let scale = largest(m.view());
        move |_: usize, _: usize, v: f64| shade(colour, depth(v, scale))
    };
    cells(canvas, inner, (long, long), part, |_, _, v| shade(Colour(186.0, 190.0, 196.0), depth(v, scale)));
    cells(canvas, (corner.0, inner.1), (thin, long), left.view(), paint(LEFT, &left));
    cells(canvas, (inner.0, corner.1), (long, thin), right.view(), paint(RIGHT, &right));
    let through = |i, j, v: f64| if i == j { shade(CENTRE, 0.25 + 0.75 * v) } else { shade(CENTRE, 0.0) };
    cells(canvas, corner, (thin, thin), centre.view(), through);
}

fn legend(canvas: &mut Canvas, (x, y): Point) {
    let roles = [
        (DIAGONAL, "diagonal blocks", "input to output within a chunk: the quadratic form, (L ∘ C Bᵀ) X"),
        (RIGHT, "right factors", "input to state: what a chunk leaves behind, Bᵀ with the decays to its end"),
        (
            CENTRE,
            "centre factors",
            "state to state: the decay through whole chunks, a recurrence over chunks",
        ),
        (
            LEFT,
            "left factors",
            "state to output: what a chunk reads from before, C with the decays from its start",
        ),
    ];
    for (k, (colour, name, meaning)) in roles.into_iter().enumerate() {
        let y = y + 26.0 * k as f64;
        canvas.rectangle((x, y - 12.0), (16.0, 16.0), &colour.css());
        canvas.words((x + 26.0, y), name, super::canvas::Style { bold: true, ..WORDS });
        canvas.words((x + 164.0, y), meaning, WORDS.coloured(FAINT));
    }
}
