//! Covariances of state-space models.

use ndarray::Array2;

use super::super::algebra::product::sandwich;
use super::super::finite::{check_blocks, check_transition};
use super::super::kernels::hermitian_part;
use super::super::{Blocks, HermitianQuasiseparable, Sss, Transition, bare};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{add_matmul, adjoint, matmul};
use crate::matrix::check;
use crate::scalar::Field;

/// A linear model with noise: how a hidden state moves and what is seen of it.
///
/// ```math
/// x_{k+1} = A_k x_k + w_k, \quad y_k = C_k x_k + v_k, \qquad
/// \mathrm{cov}(w_k) = Q_k, \quad \mathrm{cov}(v_k) = R_k, \quad \mathrm{cov}(x_0) = P_0
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpace<E> {
    /// A: $`(N_{k+1}, N_k)`$.
    pub transition: Transition<E>,
    /// Q: $`(N_{k+1}, N_{k+1})`$, Hermitian.
    pub noise: Blocks<E>,
    /// C: $`(q_k, N_k)`$.
    pub output: Blocks<E>,
    /// R: $`(q_k, q_k)`$, Hermitian.
    pub output_noise: Blocks<E>,
    /// $`P_0`$: $`(N_0, N_0)`$, Hermitian.
    pub initial: Array2<E>,
}

impl<E: Field> StateSpace<E> {
    /// The covariance of all outputs, of the orders of the model.
    ///
    /// ```math
    /// P_{k+1} = A_k P_k A_k^H + Q_k, \qquad B_k = A_k P_k C_k^H, \quad D_k = C_k P_k C_k^H + R_k
    /// ```
    ///
    /// Only the Hermitian parts of the diagonal blocks are used.
    ///
    /// # Errors
    /// [`Error::Shape`] naming tensor and step if sizes disagree, [`Error::Value`] if a number is not finite.
    pub fn covariance(&self) -> Result<HermitianQuasiseparable<E>> {
        let len = self.output.len();
        check_shape("noise", "(steps of output)", &[len], &[self.noise.len()])?;
        check_shape("output_noise", "(steps of output)", &[len], &[self.output_noise.len()])?;
        bare::check_steps("output", &[&self.noise, &self.output, &self.output_noise])?;
        let square = |tensor, blocks: &Blocks<E>, k: usize, size: usize| {
            let (rows, columns) = blocks.dims(k);
            if (rows, columns) == (size, size) {
                return Ok(());
            }
            Err(Error::shape(tensor, format!("{:?} at step {k}", (size, size)), &[rows, columns]))
        };
        let order = |k: usize| if k < len { self.output.dims(k).1 } else { self.noise.dims(len - 1).0 };
        for k in 0..len {
            square("noise", &self.noise, k, order(k + 1))?;
            square("output_noise", &self.output_noise, k, self.output.dims(k).0)?;
        }
        let first = if len == 0 { self.initial.nrows() } else { order(0) };
        check_shape("initial", "(states, states)", &[first, first], self.initial.shape())?;
        self.check_finite()?;
        // The generators B and D are filled in below; the constructor checks the transition.
        let b = Blocks::zeros((0..len).map(|k| (order(k + 1), self.output.dims(k).0)));
        let d = Blocks::zeros((0..len).map(|k| self.output_noise.dims(k)));
        let mut lower = Sss::new(self.transition.clone(), b, self.output.clone(), d)?;
        let mut p = self.initial.clone();
        for k in 0..len {
            let read = matmul(p.view(), adjoint(lower.c(k)).view()); // P C^H
            let b = lower.apply_a(k, read.view());
            let mut d = self.output_noise.block(k).to_owned();
            add_matmul(d.view_mut(), lower.c(k), read.view());
            lower.b.block_mut(k).assign(&b);
            lower.d.block_mut(k).assign(&hermitian_part(d));
            p = hermitian_part(sandwich(&lower, k, &p, &lower) + self.noise.block(k));
        }
        HermitianQuasiseparable::new(lower)
    }

    fn check_finite(&self) -> Result<()> {
        check_transition(&self.transition)?;
        check_blocks("noise", &self.noise)?;
        check_blocks("output", &self.output)?;
        check_blocks("output_noise", &self.output_noise)?;
        check::finite("initial", self.initial.flatten().view())
    }
}
