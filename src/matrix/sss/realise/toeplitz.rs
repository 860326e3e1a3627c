//! Time-invariant generators of a causal Toeplitz matrix (Ho and Kalman; Kung).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use num_traits::Float;

use crate::error::Result;
use crate::linalg::{RightSvd, adjoint, matmul, right_svd, scale_of, thin_qr};
use crate::matrix::StructuredMatrix;
use crate::matrix::check::finite;
use crate::matrix::mask::{Spectral, Toeplitz};
use crate::matrix::sss::compress::rounded::check_tolerance;
use crate::matrix::sss::compress::sweeps::{ROUNDING, to_f64};
use crate::matrix::sss::{Blocks, Rounded, Sss, Tolerance, Transition};
use crate::scalar::{Field, real};

/// Directions that the first sketch of the Hankel matrix has; each further one has twice as many.
const SKETCH: usize = 16;
/// Modes of up to this many times the level of rounding may do more harm to A than good.
const NEAR: f64 = 1e4;
/// Products with the Hankel matrix and its adjoint that turn a sketch towards the leading singular vectors.
const TURNS: usize = 3;

impl<E: Spectral> Sss<E> {
    /// The causal Toeplitz matrix $`M_{ij} = h_{i-j}`$ by generators that are the same at every step: a long convolution
    /// as a recurrence.
    ///
    /// The order is that of the Hankel matrix $`\Gamma_{ij} = h_{1+i+j}`$ at the tolerance, less modes of up to 10⁴ times the
    /// level of rounding that would only make the error larger; A comes from its shifted left singular vectors. Unlike
    /// [`from_dense`](Self::from_dense), which lets generators vary, this cannot always reach a tolerance:
    /// [`Rounded::error`] is the Frobenius error that was reached. With a Frobenius tolerance the order is
    /// raised until it is, to no more than half of len. [`Rounded::spectrum`] has the singular values of Γ that were
    /// looked at. Products with Γ go through the FFT: O(len · order · log len + len · order²), and len · order² more for
    /// each mode that is left out.
    ///
    /// # Shapes
    /// `response`: (len), h_0 on the diagonal.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a number is not finite, [`Error::Config`](crate::Error::Config) if the tolerance cannot be.
    ///
    /// # Example
    /// ```
    /// use ndarray::Array1;
    /// use semisep::matrix::sss::{Sss, Tolerance};
    ///
    /// let h = Array1::from_shape_fn(1000, |t| 0.99f64.powi(t as i32) + (-0.8f64).powi(t as i32));
    /// let m = Sss::from_toeplitz(h.view(), Tolerance::Relative(1e-10))?;
    /// assert_eq!(m.matrix.order_at(1), 2);
    /// assert!(m.error < 1e-8);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn from_toeplitz(
        response: ArrayView1<'_, E>,
        tolerance: Tolerance,
    ) -> Result<Rounded<Self, Vec<f64>>> {
        finite("response", response)?;
        check_tolerance(tolerance)?;
        let part = Response::new(response);
        let found = part.realise(match tolerance {
            Tolerance::Absolute(limit) => Goal::Above(limit / part.unit()),
            Tolerance::Relative(share) => Goal::Share(share),
            Tolerance::Frobenius(share) => Goal::Error(share * part.norm()),
        })?;
        Ok(part.restored(found))
    }
}

/// The response of a causal matrix, divided by a number so that squares neither over- nor underflow.
pub(super) struct Response<E: Field> {
    numbers: Array1<E>,
    scale: E::Real,
}

/// What is asked of a realisation, in units of the number that the response was divided by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Modes of singular values above this.
    Above(f64),
    /// Above this share of the largest.
    Share(f64),
    /// As few modes as leave at most this Frobenius error.
    Error(f64),
}

impl<E: Spectral> Response<E> {
    pub(super) fn new(response: ArrayView1<'_, E>) -> Self {
        let scale = scale_of(response);
        Self { numbers: response.mapv(|h| h.over(E::from_real(scale))), scale }
    }

    /// The number that the response was divided by.
    pub(super) fn unit(&self) -> f64 {
        to_f64(self.scale)
    }

    /// Frobenius norm of the matrix, divided by that number.
    pub(super) fn norm(&self) -> f64 {
        weighted(self.numbers.iter().copied())
    }

    pub(super) fn realise(&self, goal: Goal) -> Result<Rounded<Sss<E>, Vec<f64>>> {
        realise(self.numbers.view(), goal)
    }

    /// A realisation times the number that the response was divided by.
    pub(super) fn restored(&self, found: Rounded<Sss<E>, Vec<f64>>) -> Rounded<Sss<E>, Vec<f64>> {
        Rounded {
            matrix: found.matrix.scaled(E::from_real(self.scale)),
            error: found.error * self.unit(),
            spectrum: found.spectrum.into_iter().map(|v| v * self.unit()).collect(),
        }
    }
}

fn realise<E: Spectral>(response: ArrayView1<'_, E>, goal: Goal) -> Result<Rounded<Sss<E>, Vec<f64>>> {
    let len = response.len();
    let (rows, columns) = (len - len / 2, len / 2);
    if columns == 0 {
        return Ok(finish(response, System::empty(), Vec::new()));
    }
    let hankel = Toeplitz::new(rows, columns, response.slice(s![1..]).to_owned())?;
    let most = (rows - 1).max(1); // A comes from rows - 1 equations for each of its rows
    let mut sketch = SKETCH;
    loop {
        let modes = Modes::leading(&hankel, sketch.min(rows))?;
        let top = modes.values.first().copied().unwrap_or(0.0);
        let noise = top * to_f64(E::Real::epsilon()) * (len as f64).sqrt();
        let above = |limit: f64| modes.values.iter().take_while(|v| **v > limit.max(noise)).count().min(most);
        let trimmed =
            |order: usize| (modes.trimmed(order, NEAR * noise, response), order < modes.values.len());
        let (system, reached) = match goal {
            Goal::Above(limit) => trimmed(above(limit)),
            Goal::Share(share) => trimmed(above(share * top)),
            Goal::Error(budget) => {
                let mut orders = (0..=above(0.0)).map(|order| modes.system(order));
                match orders.find(|system| system.error(response) <= budget) {
                    Some(system) => (system, true),
                    None => (modes.system(above(0.0)), above(0.0) < modes.values.len()),
                }
            }
        };
        if reached || sketch >= rows {
            return Ok(finish(response, system, modes.values));
        }
        sketch *= 2;
    }
}

/// Leading singular values and vectors of a Hankel matrix.
struct Modes<E: Field> {
    values: Vec<f64>,
    left: Array2<E>,  // u, (rows, values)
    right: Array2<E>, // vᴴ, (values, columns)
}

impl<E: Spectral> Modes<E> {
    /// As many as a sketch of `size` directions finds. `hankel` is the matrix with its columns in opposite order.
    fn leading(hankel: &Toeplitz<E>, size: usize) -> Result<Self> {
        let (rows, columns) = hankel.shape();
        let times = |x: Array2<E>| hankel.matmul(x.slice(s![..;-1, ..]));
        let adjoint_times = |y: Array2<E>| -> Result<Array2<E>> {
            Ok(hankel.adjoint_matmul(y.view())?.slice_move(s![..;-1, ..]))
        };
        let basis = if size >= rows {
            Array2::eye(rows)
        } else {
            let mut y = times(Array2::from_shape_fn((columns, size), |(i, j)| probe(i * size + j)))?;
            for _ in 1..TURNS {
                y = thin_qr(y.view()).0;
                y = times(thin_qr(adjoint_times(y)?.view()).0)?;
            }
            thin_qr(y.view()).0
        };
        let small = adjoint(adjoint_times(basis.clone())?.view()); // basisᴴ Γ
        let RightSvd { values, right } = right_svd(small.view());
        let mut left = matmul(basis.view(), matmul(small.view(), adjoint(right.view()).view()).view());
        for (mut u, value) in left.columns_mut().into_iter().zip(&values) {
            u.mapv_inplace(|u| u.over(E::from_real(*value)));
        }
        Ok(Self { values: values.into_iter().map(to_f64).collect(), left, right })
    }

    /// The system of the leading `order` modes, without the last of those of values up to `doubtful` as long as that makes
    /// the error smaller.
    fn trimmed(&self, mut order: usize, doubtful: f64, response: ArrayView1<'_, E>) -> System<E> {
        let size = |system: &System<E>| match system.error(response) {
            error if error.is_nan() => f64::INFINITY,
            error => error,
        };
        let mut system = self.system(order);
        let mut error = size(&system);
        while order > 0 && self.values[order - 1] <= doubtful {
            order -= 1;
            let fewer = self.system(order);
            let other = size(&fewer);
            if other >= error && error.is_finite() {
                break;
            }
            (system, error) = (fewer, other);
        }
        system
    }

    /// The system of the leading `order` modes, balanced: $`\Gamma \approx O R`$ with $`O = U S^{1/2}`$,
    /// $`R = S^{1/2} V^H`$; c and b are the first row of O and column of R, and A solves `O_{..-1} A = O_{1..}`.
    fn system(&self, order: usize) -> System<E> {
        let root = |n: usize| E::from_real(real::<E::Real>(self.values[n].sqrt()));
        let mut o = self.left.slice(s![.., ..order]).to_owned();
        let mut r = self.right.slice(s![..order, ..1]).to_owned();
        for n in 0..order {
            o.column_mut(n).mapv_inplace(|v| v * root(n));
            r.row_mut(n).mapv_inplace(|v| v * root(n));
        }
        let rows = o.nrows();
        let a = if rows <= order {
            Array2::zeros((order, order)) // one row, one mode: nothing to shift
        } else {
            // Columns of O are rounded at the level of the largest one.
            let noise = ROUNDING * to_f64(E::Real::epsilon()) * self.values.first().map_or(0.0, |v| v.sqrt());
            least_squares(o.slice(s![..rows - 1, ..]), o.slice(s![1.., ..]), real(noise))
        };
        System { a, b: r, c: o.slice(s![..1, ..]).to_owned() }
    }
}

/// The smallest X for which `‖A X - B‖` is least; singular values of A up to `noise` count as zero.
fn least_squares<E: Field>(a: ArrayView2<'_, E>, b: ArrayView2<'_, E>, noise: E::Real) -> Array2<E> {
    let (q, r) = thin_qr(a);
    let RightSvd { values, right } = right_svd(r.view());
    let basis = adjoint(right.view());
    let left = matmul(r.view(), basis.view()); // u diag(values)
    let mut x = matmul(adjoint(left.view()).view(), matmul(adjoint(q.view()).view(), b).view());
    for (mut x, value) in x.rows_mut().into_iter().zip(values) {
        let value = E::from_real(value);
        let inverse = if value.modulus() > noise { E::one().over(value) } else { E::zero() };
        x.mapv_inplace(|v| v * inverse * inverse);
    }
    matmul(basis.view(), x.view())
}

/// One step of a time-invariant system: `h_t = c A^{t-1} b`.
struct System<E> {
    a: Array2<E>, // (order, order)
    b: Array2<E>, // (order, 1)
    c: Array2<E>, // (1, order)
}

impl<E: Field> System<E> {
    fn empty() -> Self {
        Self { a: Array2::zeros((0, 0)), b: Array2::zeros((0, 1)), c: Array2::zeros((1, 0)) }
    }

    /// Frobenius norm of the difference of the Toeplitz matrices.
    fn error(&self, response: ArrayView1<'_, E>) -> f64 {
        let mut state = self.b.clone();
        let mut differences: Vec<_> = response.iter().take(1).map(|_| E::zero()).collect();
        for h in response.iter().skip(1) {
            differences.push(*h - matmul(self.c.view(), state.view()).sum());
            state = matmul(self.a.view(), state.view());
        }
        weighted(differences.into_iter())
    }
}

/// Frobenius norm of the causal Toeplitz matrix with this response.
fn weighted<E: Field>(response: impl ExactSizeIterator<Item = E>) -> f64 {
    let len = response.len();
    let squares = response.enumerate().map(|(t, h)| (len - t) as f64 * to_f64(h.squared_modulus()));
    squares.fold(0.0, |sum, square| sum + square).sqrt()
}

fn finish<E: Field>(
    response: ArrayView1<'_, E>,
    system: System<E>,
    values: Vec<f64>,
) -> Rounded<Sss<E>, Vec<f64>> {
    let (len, order, error) = (response.len(), system.b.nrows(), system.error(response));
    let repeat = |m: &Array2<E>| std::iter::repeat_n(m.iter().copied(), len).flatten().collect::<Vec<_>>();
    let diagonal = if len == 0 { Vec::new() } else { vec![response[0]; len] };
    let matrix = Sss::from_parts(
        Transition::Dense(Blocks::from_uniform(len, (order, order), repeat(&system.a))),
        Blocks::from_uniform(len, (order, 1), repeat(&system.b)),
        Blocks::from_uniform(len, (1, order), repeat(&system.c)),
        Blocks::from_uniform(len, (1, 1), diagonal),
    );
    Rounded { matrix, error, spectrum: values }
}

/// Numbers between -1 and 1 without a pattern that a Hankel matrix could have, the same at every call.
fn probe<E: Field>(position: usize) -> E {
    let mut bits = (position as u64).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    E::from_real(real((bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0))
}
