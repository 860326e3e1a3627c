//! Dense oracles by `faer`: solutions, determinants, singular values, eigenvalues.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use ndarray::Array2;
use num_complex::Complex;

use super::ragged::Draw;

/// A number that both libraries know.
pub trait Dense: Draw + faer::traits::ComplexField {
    fn to_complex(self) -> Complex<f64>;
}

impl Dense for f64 {
    fn to_complex(self) -> Complex<f64> {
        Complex::from(self)
    }
}

impl Dense for Complex<f64> {
    fn to_complex(self) -> Complex<f64> {
        self
    }
}

pub fn to_faer<E: Dense>(a: &Array2<E>) -> Mat<E> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]])
}

/// `A⁻¹ b`, or the least squares solution of a tall system.
pub fn solve<E: Dense>(a: &Array2<E>, b: &Array2<E>) -> Array2<E> {
    let solver = to_faer(a).col_piv_qr();
    let x = if a.is_square() { solver.solve(to_faer(b)) } else { lstsq(&solver, b) };
    Array2::from_shape_fn((a.ncols(), b.ncols()), |(i, j)| x[(i, j)])
}

fn lstsq<E: Dense>(solver: &faer::linalg::solvers::ColPivQr<E>, b: &Array2<E>) -> Mat<E> {
    use faer::linalg::solvers::SolveLstsq;
    solver.solve_lstsq(to_faer(b))
}

/// Singular values, largest first.
pub fn singular_values<E: Dense>(a: &Array2<E>) -> Vec<f64> {
    let complex = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]].to_complex());
    complex.singular_values().expect("the iteration converges")
}

/// Eigenvalues of a Hermitian matrix, smallest first.
pub fn eigenvalues<E: Dense>(a: &Array2<E>) -> Vec<f64> {
    let complex = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]].to_complex());
    complex.self_adjoint_eigenvalues(Side::Lower).expect("the iteration converges")
}

/// The determinant.
pub fn determinant<E: Dense>(a: &Array2<E>) -> Complex<f64> {
    let complex = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]].to_complex());
    complex.determinant()
}

/// Largest singular value over smallest; infinite for singular and for wide matrices.
pub fn condition<E: Dense>(a: &Array2<E>) -> f64 {
    if a.ncols() == 0 {
        return 1.0;
    }
    if a.nrows() < a.ncols() {
        return f64::INFINITY;
    }
    let values = singular_values(a);
    let smallest = values[values.len() - 1];
    if smallest > 0.0 { values[0] / smallest } else { f64::INFINITY }
}

/// Frobenius norm.
pub fn norm<E: Dense>(a: &Array2<E>) -> f64 {
    a.iter().map(|v| v.to_complex().norm_sqr()).sum::<f64>().sqrt()
}

/// `‖A x - b‖ / (‖A‖ ‖x‖ + ‖b‖)`, zero where nothing is there.
pub fn backward_error<E: Dense>(a: &Array2<E>, x: &Array2<E>, b: &Array2<E>) -> f64 {
    let scale = norm(a) * norm(x) + norm(b);
    if scale == 0.0 {
        return 0.0;
    }
    norm(&(super::ragged::product(a, x) - b)) / scale
}
