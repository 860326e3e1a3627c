//! The gated MLP behind a mixer.

use ndarray::{Array2, ArrayD, ArrayView2, Axis};

use super::Mlp;
use crate::error::{Error, Result};
use crate::nn::{Weight, gate, gate_vjp, linear, linear_vjp};
use crate::scalar::Real;

impl<A: Real> Mlp<Weight<A>> {
    /// ``$`W_2 (v \circ \mathrm{SiLU}(g))`$`` with ``$`[v, g] = W_1 u`$``, for every position: (len, d_model).
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes disagree.
    pub fn forward(&self, u: ArrayView2<'_, A>) -> Result<Array2<A>> {
        let (inner, gated) = self.gated(u)?;
        drop(inner);
        linear(gated.view(), &self.fc2)
    }

    /// Cotangents of the parameters and of `u`, given that of the output, `d_out`; all but the former (len, d_model).
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes disagree.
    pub fn vjp(&self, u: ArrayView2<'_, A>, d_out: ArrayView2<'_, A>) -> Result<(Mlp<ArrayD<A>>, Array2<A>)> {
        let (inner, gated) = self.gated(u)?;
        let (fc2, d_gated) = linear_vjp(gated.view(), &self.fc2, d_out)?;
        let (value, by) = inner.view().split_at(Axis(1), gated.ncols());
        let (d_value, d_by) = gate_vjp(value, by, d_gated.view())?;
        let mut d_inner = Array2::zeros(inner.raw_dim());
        let (mut first, mut second) = d_inner.view_mut().split_at(Axis(1), gated.ncols());
        first.assign(&d_value);
        second.assign(&d_by);
        let (fc1, du) = linear_vjp(u, &self.fc1, d_inner.view())?;
        Ok((Mlp { fc1, fc2 }, du))
    }

    /// ``$`[v, g]`$`` and ``$`v \circ \mathrm{SiLU}(g)`$``.
    fn gated(&self, u: ArrayView2<'_, A>) -> Result<(Array2<A>, Array2<A>)> {
        let inner = linear(u, &self.fc1)?;
        let hidden = inner.ncols() / 2;
        if inner.ncols() != 2 * hidden {
            return Err(Error::shape("fc1.weight", "(2 hidden, d_model)", self.fc1.weight.shape()));
        }
        let (value, by) = inner.view().split_at(Axis(1), hidden);
        let mut gated = Array2::zeros((u.nrows(), hidden));
        gate(value, by, gated.view_mut())?;
        Ok((inner, gated))
    }
}
