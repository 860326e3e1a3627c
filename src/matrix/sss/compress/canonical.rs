//! Canonical forms: minimal orders and states of a chosen scale.

use num_traits::Float;

use super::steps::Steps;
use super::sweeps::{Cut, output_normal, truncate};
use crate::error::Result;
use crate::matrix::sss::finite::check_finite;
use crate::matrix::sss::{Sss, Upper};
use crate::scalar::{Field, real};

/// Which scale the states of a minimal matrix have. With $`H_k = O_k R_k`$, where $`O_k`$ is what the state before step
/// k causes and $`R_k`$ what it remembers, and S the diagonal matrix of the Hankel singular values:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canonical {
    /// $`R_k R_k^H = I`$, $`O_k^H O_k = S^2`$: rows of $`(A_k \; B_k)`$ are orthonormal.
    InputNormal,
    /// $`O_k^H O_k = I`$, $`R_k R_k^H = S^2`$: columns of $`C_k`$ above $`A_k`$ are orthonormal.
    OutputNormal,
    /// $`R_k R_k^H = O_k^H O_k = S`$.
    Balanced,
}

impl<E: Field> Sss<E> {
    /// The same matrix with the smallest possible orders, the ranks of its Hankel blocks, in a canonical form.
    ///
    /// Singular values at the level of rounding errors count as zero.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if a generator is not finite.
    ///
    /// # Example
    /// ```
    /// use ndarray::Array2;
    /// use semisep::matrix::sss::{Canonical, Sss, Transition};
    ///
    /// let twice = Array2::<f64>::ones((6, 2)); // two states that always agree
    /// let m = Sss::uniform(Transition::Identity, twice.clone(), twice, ndarray::Array1::ones(6))?;
    /// assert_eq!(m.canonical(Canonical::Balanced)?.orders(), [0, 1, 1, 1, 1, 1, 0]);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn canonical(&self, form: Canonical) -> Result<Self> {
        check_finite(self)?;
        let steps = Steps::new(self);
        Ok(match form {
            Canonical::InputNormal => input_normal(steps).0,
            Canonical::OutputNormal => input_normal(steps.reversed()).0.reversed(),
            Canonical::Balanced => balanced(steps),
        }
        .into_matrix())
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// As [`Sss::canonical`], with the form said of the lower matrix whose adjoint this is.
    ///
    /// # Errors
    /// As there.
    pub fn canonical(&self, form: Canonical) -> Result<Self> {
        self.0.canonical(form).map(Upper)
    }
}

/// Minimal and input normal, with the Hankel singular values kept at every step but the last.
fn input_normal<E: Field>(mut steps: Steps<E>) -> (Steps<E>, Vec<Vec<f64>>) {
    let sizes = output_normal(&mut steps);
    let mut found = truncate(&mut steps, &sizes, Cut::Below(0.0));
    found.values.iter_mut().zip(&found.kept).for_each(|(values, kept)| values.truncate(*kept));
    (steps, found.values)
}

/// `S^{1/2}` on one side of every state and its inverse on the other.
fn balanced<E: Field>(steps: Steps<E>) -> Steps<E> {
    let (mut steps, values) = input_normal(steps);
    for (k, values) in values.iter().enumerate() {
        for (n, value) in values.iter().enumerate() {
            let root = real::<E::Real>(*value).sqrt();
            let (up, down) = (E::from_real(root), E::from_real(root.recip()));
            steps.a[k].row_mut(n).mapv_inplace(|v| v * up);
            steps.b[k].row_mut(n).mapv_inplace(|v| v * up);
            steps.a[k + 1].column_mut(n).mapv_inplace(|v| v * down);
            steps.c[k + 1].column_mut(n).mapv_inplace(|v| v * down);
        }
    }
    steps
}
