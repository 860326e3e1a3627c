//! The Cholesky factor of the covariance of a state-space model, by orthogonal steps on square roots.

use ndarray::{Array2, ArrayView2, s};
use num_traits::Zero;

use super::super::finite::{check_blocks, check_transition};
use super::super::kernels::hermitian_part;
use super::super::{Blocks, Sss, Transition, bare};
use super::{Cholesky, Ldl};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{Qr, above, adjoint, beside, product, solve_right};
use crate::scalar::Field;

/// A linear state-space model with square roots of its covariances.
///
/// ```math
/// x_{k+1} = A_k x_k + w_k, \quad y_k = C_k x_k + v_k, \qquad
/// w_k \sim (0, Q_k Q_k^H), \quad v_k \sim (0, R_k R_k^H), \quad x_0 \sim (0, S S^H)
/// ```
///
/// with independent noises. The covariance of y is a Hermitian semiseparable matrix whose orders are those of the states.
/// The roots must be accurate themselves: taken from a formula, not from a difference of covariances.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpaceRoots<E> {
    /// The transitions $`A_k`$, $`(N_{k+1}, N_k)`$.
    pub transition: Transition<E>,
    /// $`Q_k`$, a root of the covariance of the noise of the state, $`(N_{k+1}, \cdot)`$.
    pub noise: Blocks<E>,
    /// The outputs $`C_k`$, $`(q_k, N_k)`$.
    pub output: Blocks<E>,
    /// $`R_k`$, a root of the covariance of the noise of the output, $`(q_k, \cdot)`$.
    pub output_noise: Blocks<E>,
    /// S, a root of the covariance of the first state, $`(N_0, \cdot)`$.
    pub initial: Array2<E>,
}

impl<E: Field> StateSpaceRoots<E> {
    /// The Cholesky factor of the covariance of y: a square-root Kalman filter.
    ///
    /// One orthogonal Θ a step, and no subtraction, so the pivots are right in nearly all digits even where the covariance
    /// itself, written down in numbers of this precision, is no longer positive definite:
    ///
    /// ```math
    /// \begin{pmatrix} R_k & C_k S_k & 0 \\ 0 & A_k S_k & Q_k \end{pmatrix} \Theta =
    /// \begin{pmatrix} d_k^{1/2} & 0 & 0 \\ \tilde B_k d_k^{1/2} & S_{k+1} & 0 \end{pmatrix}
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] naming tensor and step if sizes disagree, [`Error::Value`] if a number is not finite,
    /// [`Error::NotPositiveDefinite`] naming the first step whose output has no variance of its own, or one that is not
    /// positive definite once it is written down: outputs of one step that determine one another nearly.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, Array3, array};
    /// use semisep::matrix::sss::{StateSpaceRoots, Transition};
    ///
    /// let column = |value: f64| Array3::from_elem((3, 1, 1), value);
    /// let walk = StateSpaceRoots {
    ///     transition: Transition::Identity,
    ///     noise: column(1.0).into(),
    ///     output: column(1.0).into(),
    ///     output_noise: column(2.0).into(),
    ///     initial: Array2::zeros((1, 1)),
    /// };
    /// let factor = walk.cholesky()?; // of [[4, 0, 0], [0, 5, 1], [0, 1, 6]]
    /// assert!((factor.log_determinant() - f64::ln(4.0 * 29.0)).abs() < 1e-14);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn cholesky(&self) -> Result<Cholesky<E>> {
        let len = self.output.len();
        check_shape("noise", "(steps of output)", &[len], &[self.noise.len()])?;
        check_shape("output_noise", "(steps of output)", &[len], &[self.output_noise.len()])?;
        bare::check_steps("output", &[&self.noise, &self.output, &self.output_noise])?;
        self.check_sizes()?;
        self.check_finite()?;
        let sizes = (0..len).map(|k| (self.noise.dims(k).0, self.output.dims(k).0));
        let gains = Blocks::zeros(sizes);
        let pivots = Blocks::zeros((0..len).map(|k| (self.output.dims(k).0, self.output.dims(k).0)));
        let mut factor = Sss::new(self.transition.clone(), gains, self.output.clone(), pivots)?;
        let mut root = self.initial.clone();
        for k in 0..len {
            let step = self.step(&factor, k, root.view());
            let outputs = factor.outputs(k);
            let pivot = step.slice(s![..outputs, ..outputs.min(step.ncols())]);
            let small = if step.ncols() < outputs { Some(step.ncols()) } else { None };
            let zero = small.or_else(|| (0..outputs).find(|&i| pivot[[i, i]].is_zero()));
            if zero.is_some() {
                return Err(Error::NotPositiveDefinite { step: k, pivot: E::zero().to_string() });
            }
            let below = step.slice(s![outputs.., ..outputs]);
            let gain = solve_right(below, pivot).ok_or_else(|| super::singular(pivot, k))?;
            let d = hermitian_part(product(pivot, adjoint(pivot).view()));
            super::cholesky::root(d.view(), k)?;
            factor.b.block_mut(k).assign(&gain);
            factor.d.block_mut(k).assign(&d);
            root = step.slice(s![outputs.., outputs..]).to_owned();
        }
        Ok(Cholesky::from_ldl(Ldl::from_positive_factor(factor)))
    }

    /// The lower triangular array after step k, its diagonal positive.
    fn step(&self, factor: &Sss<E>, k: usize, root: ArrayView2<'_, E>) -> Array2<E> {
        let (r, q) = (self.output_noise.block(k), self.noise.block(k));
        let zero = |rows: usize, columns: usize| Array2::zeros((rows, columns));
        let states = beside(product(self.output.block(k), root).view(), zero(r.nrows(), q.ncols()).view());
        let moved = beside(factor.apply_a(k, root).view(), q);
        let noise = above(r, zero(q.nrows(), r.ncols()).view());
        let array = beside(noise.view(), above(states.view(), moved.view()).view());
        let mut lower = adjoint(Qr::new(adjoint(array.view()).view()).r());
        for j in 0..lower.ncols() {
            let diagonal = lower[[j, j]];
            let size = diagonal.modulus();
            if !size.is_zero() {
                let phase = diagonal.over(E::from_real(size));
                lower.column_mut(j).mapv_inplace(|v| v * phase.conj());
            }
        }
        lower
    }

    fn check_finite(&self) -> Result<()> {
        check_transition(&self.transition)?;
        check_blocks("noise", &self.noise)?;
        check_blocks("output", &self.output)?;
        check_blocks("output_noise", &self.output_noise)?;
        crate::matrix::check::finite("initial", self.initial.flatten().view())
    }

    /// That roots have as many rows as what they are covariances of.
    fn check_sizes(&self) -> Result<()> {
        let first = if self.output.is_empty() { self.initial.nrows() } else { self.output.dims(0).1 };
        if self.initial.nrows() != first {
            let expected = format!("({first}, any number of columns): columns of output at step 0");
            return Err(Error::shape("initial", expected, self.initial.shape()));
        }
        for k in 0..self.output.len() {
            if let Some(next) = (k + 1 < self.output.len()).then(|| self.output.dims(k + 1).1) {
                let (rows, columns) = self.noise.dims(k);
                if rows != next {
                    let expected = format!(
                        "({next}, any number of columns) at step {k}: columns of output at step {}",
                        k + 1
                    );
                    return Err(Error::shape("noise", expected, &[rows, columns]));
                }
            }
            let (outputs, (rows, columns)) = (self.output.dims(k).0, self.output_noise.dims(k));
            if rows != outputs {
                let expected = format!("({outputs}, any number of columns) at step {k}: rows of output");
                return Err(Error::shape("output_noise", expected, &[rows, columns]));
            }
        }
        let last = self.noise.len().checked_sub(1).map(|k| self.noise.dims(k).0);
        let orders: Vec<_> = (0..self.output.len()).map(|k| self.output.dims(k).1).chain(last).collect();
        let read = |k: usize| k < self.output.len() && self.output.dims(k).0 > 0;
        let roots = |k: usize| k.checked_sub(1).map_or(self.initial.ncols(), |k| self.noise.dims(k).1);
        bare::check_orders(&orders, &self.transition, |k| read(k) || roots(k) > 0)
    }
}
