//! Norms of linear maps that are known by their products.

use ndarray::{Array2, ArrayView, ArrayView2, Dimension};
use num_traits::Zero;

use crate::error::Result;
use crate::linalg::scale_of;
use crate::matrix::StructuredMatrix;
use crate::matrix::sss::compress::sweeps::{norm, to_f64};
use crate::scalar::{Field, larger, real};

type Product<'a, E> = Box<dyn Fn(ArrayView2<'_, E>) -> Result<Array2<E>> + 'a>;

/// A linear map by its product and that of its adjoint.
pub(super) struct Map<'a, E> {
    pub(super) shape: (usize, usize),
    pub(super) times: Product<'a, E>,
    adjoint_times: Product<'a, E>,
}

/// Columns of which the search for the largest one keeps track.
const SIDE_BY_SIDE: usize = 4;
/// Products of that search; it hardly ever takes more than three.
const TURNS: usize = 6;
/// Steps of the search for the largest singular value.
const STEPS: usize = 300;
/// Relative growth of the estimate of the 2-norm over some steps below which it has settled.
const SETTLED: f64 = 1e-6;

impl<'a, E: Field> Map<'a, E> {
    pub(super) fn new(
        shape: (usize, usize),
        times: impl Fn(ArrayView2<'_, E>) -> Result<Array2<E>> + 'a,
        adjoint_times: impl Fn(ArrayView2<'_, E>) -> Result<Array2<E>> + 'a,
    ) -> Self {
        Self { shape, times: Box::new(times), adjoint_times: Box::new(adjoint_times) }
    }

    pub(super) fn of<M: StructuredMatrix<E>>(m: &'a M) -> Self {
        Self::new(m.shape(), |x| m.matmul(x), |y| m.adjoint_matmul(y))
    }

    pub(super) fn adjoint(self) -> Self {
        Self { shape: (self.shape.1, self.shape.0), times: self.adjoint_times, adjoint_times: self.times }
    }

    /// `‖M e_j‖₁`
    pub(super) fn column_norm(&self, j: usize) -> Result<f64> {
        let mut x = Array2::zeros((self.shape.1, 1));
        x[[j, 0]] = E::one();
        Ok(absolute_sum((self.times)(x.view())?.view()))
    }

    /// The 1-norm from below, nearly always the norm itself (Hager; Higham and Tisseur): `‖M x‖₁` is convex in x, so it is
    /// largest at a unit vector, and its gradient says at which; some are tried side by side.
    pub(super) fn norm_one_estimate(&self) -> Result<f64> {
        let n = self.shape.1;
        if n == 0 || self.shape.0 == 0 {
            return Ok(0.0);
        }
        let width = n.min(SIDE_BY_SIDE);
        let mut x = Array2::from_shape_fn((n, width), |(i, j)| {
            let turn = (i as f64 + 0.5) * (j as f64 * 0.618_033_988_749_894_9);
            let sign = if turn - turn.floor() < 0.5 { 1.0 } else { -1.0 };
            E::from_real(real(sign / n as f64))
        });
        let mut best = 0.0;
        let mut tried: Vec<usize> = Vec::new();
        for _ in 0..TURNS {
            let y = (self.times)(x.view())?;
            let norm = y.columns().into_iter().map(absolute_sum).fold(0.0, larger);
            if norm.is_nan() {
                return Ok(norm);
            }
            if norm <= best {
                break;
            }
            best = norm;
            let slopes = (self.adjoint_times)(y.mapv(phase).view())?;
            let steepest: Vec<f64> = slopes
                .rows()
                .into_iter()
                .map(|row| row.iter().map(|v| to_f64(v.modulus())).fold(0.0, f64::max))
                .collect();
            x.fill(E::zero());
            for mut column in x.columns_mut() {
                let untried = (0..n).filter(|i| !tried.contains(i));
                let Some(next) = untried.max_by(|&i, &j| steepest[i].total_cmp(&steepest[j])) else { break };
                column[next] = E::one();
                tried.push(next);
            }
        }
        // Where all of this is misled by cancellation, a vector of growing numbers with changing signs is not.
        let growing = Array2::from_shape_fn((n, 1), |(i, _)| {
            let size = 1.0 + i as f64 / (n.max(2) - 1) as f64;
            E::from_real(real(if i % 2 == 0 { size } else { -size }))
        });
        let other = absolute_sum((self.times)(growing.view())?.view()) / absolute_sum(growing.view());
        Ok(larger(best, other))
    }

    /// The largest singular value from below: Lanczos steps on `Mᴴ M` from a fixed start until it has settled.
    pub(super) fn norm_two_estimate(&self) -> Result<f64> {
        let n = self.shape.1;
        if n == 0 || self.shape.0 == 0 {
            return Ok(0.0);
        }
        let mut v = Array2::from_shape_fn((n, 1), |(i, _)| {
            let turn = (i as f64 + 0.5) * 0.618_033_988_749_894_9; // no pattern that a matrix could have
            E::from_real(real(1.0 + (turn - turn.floor())))
        });
        let length = norm(&v);
        scale(&mut v, length.recip());
        // Lengths of images are parts of that of the first one: squares of others might over- or underflow.
        let unit = scale_of(&(self.times)(v.view())?);
        let into_units = |mut x: Array2<E>| {
            x.mapv_inplace(|x| x.over(E::from_real(unit)));
            x
        };
        let (mut before, mut coupling) = (Array2::zeros((n, 1)), 0.0);
        let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
        let mut history = Vec::new();
        for _ in 0..STEPS.min(4 * n + 8) {
            let image = into_units((self.times)(v.view())?);
            let mut w = into_units((self.adjoint_times)(image.view())?);
            let square = norm(&image).powi(2);
            if square.is_nan() {
                return Ok(square);
            }
            diagonal.push(square);
            let (here, back) = (E::from_real(real(square)), E::from_real(real(coupling)));
            ndarray::Zip::from(&mut w).and(&v).and(&before).for_each(|w, v, u| *w -= here * *v + back * *u);
            let value = largest_eigenvalue(&diagonal, &beside).sqrt();
            history.push(value);
            coupling = norm(&w);
            let settled = history.len() > 4 && value - history[history.len() - 5] <= SETTLED * value;
            if settled || coupling.is_nan() || coupling <= f64::EPSILON * value * value {
                break;
            }
            beside.push(coupling);
            scale(&mut w, coupling.recip());
            before = std::mem::replace(&mut v, w);
        }
        Ok(history.last().copied().unwrap_or(0.0) * to_f64(unit))
    }
}

/// The 2-norm of a matrix, its largest singular value, from below: some tens of products, usually to five digits.
///
/// # Errors
/// Those of the products.
///
/// # Example
/// ```
/// use ndarray::array;
/// use semisep::matrix::OneSemiseparable;
/// use semisep::matrix::sss::norm_two_estimate;
///
/// let m = OneSemiseparable::new(array![1.0, 0.0, 0.0])?; // the identity
/// assert!((norm_two_estimate(&m)? - 1.0).abs() < 1e-12);
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn norm_two_estimate<E: Field, M: StructuredMatrix<E>>(m: &M) -> Result<f64> {
    Map::of(m).norm_two_estimate()
}

/// Largest eigenvalue of a symmetric tridiagonal matrix, by bisection on the signs of its pivots.
fn largest_eigenvalue(diagonal: &[f64], beside: &[f64]) -> f64 {
    let next = |k: usize| beside.get(k).copied().unwrap_or(0.0);
    let previous = |k: usize| if k == 0 { 0.0 } else { next(k - 1) };
    let edge = |k: usize| diagonal[k] + previous(k) + if k + 1 < diagonal.len() { next(k) } else { 0.0 };
    let mut above = (0..diagonal.len()).map(edge).fold(0.0, f64::max) * (1.0 + 4.0 * f64::EPSILON);
    let mut below = diagonal.iter().copied().fold(0.0, f64::max);
    let exceeds = |shift: f64| {
        let mut pivot = 1.0;
        for (k, d) in diagonal.iter().enumerate() {
            pivot = d - shift - previous(k) * previous(k) / pivot;
            if pivot.is_nan() || pivot >= 0.0 {
                return false;
            }
        }
        true
    };
    for _ in 0..60 {
        let middle = below + (above - below) / 2.0;
        if exceeds(middle) {
            above = middle;
        } else {
            below = middle;
        }
        if above - below <= f64::EPSILON * above {
            break;
        }
    }
    above
}

pub(super) fn absolute_sum<E: Field, D: Dimension>(x: ArrayView<'_, E, D>) -> f64 {
    x.iter().map(|x| to_f64(x.modulus())).sum()
}

/// `x / |x|`, and 1 for zero.
fn phase<E: Field>(x: E) -> E {
    let size = x.modulus();
    if size.is_zero() { E::one() } else { x.over(E::from_real(size)) }
}

fn scale<E: Field>(x: &mut Array2<E>, factor: f64) {
    let factor = E::from_real(real(factor));
    x.mapv_inplace(|x| x * factor);
}
