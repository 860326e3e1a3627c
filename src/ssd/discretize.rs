//! Discretisation: raw steps and A → steps dt and decays log a, with its vjp.

use ndarray::{Array1, Array3, ArrayView1, ArrayView3, Zip};

use super::check_finite;
use crate::error::{Error, Result, check_shape};
use crate::scalar::Real;

/// How raw steps become positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    /// They are taken as they are.
    #[default]
    Identity,
    /// `log(1 + exp(dt))`, without overflow.
    Softplus,
}

/// The rule that turns raw steps into the generators of the mask, per head:
///
/// ```math
/// \mathrm{dt} = \mathrm{clamp}(\mathrm{squash}(\mathrm{raw} + \mathrm{bias}),\, \mathrm{limits}), \qquad
/// \log a = A\, \mathrm{dt}
/// ```
///
/// (paper, section 7.1 and the reference layer.) A clamped step passes no gradient to what is left of the clamp.
///
/// # Examples
/// ```
/// use ndarray::{Array3, array};
/// use semisep::ssd::{Discretization, Squash};
/// let a = array![-1.0, -0.5];
/// let rule = Discretization::new(a.view()).squash(Squash::Softplus).limits(0.001, 0.1)?;
/// let (dt, log_a) = rule.apply(Array3::zeros((1, 4, 2)).view())?;
/// assert_eq!(dt[[0, 0, 0]], 0.1); // log 2, clamped
/// assert_eq!(log_a[[0, 0, 1]], -0.05);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Discretization<'a, A: Real> {
    a: ArrayView1<'a, A>,            // (heads)
    bias: Option<ArrayView1<'a, A>>, // (heads)
    squash: Squash,
    limits: (A, A),
}

/// Cotangents of the inputs of [`Discretization::apply`].
#[derive(Debug, Clone, PartialEq)]
pub struct DiscretizationGrad<A> {
    /// Cotangent of the raw steps, (batch, len, heads).
    pub raw: Array3<A>,
    /// Cotangent of A, (heads).
    pub a: Array1<A>,
    /// Cotangent of the bias, (heads); also meaningful when no bias was given (a bias of zero).
    pub bias: Array1<A>,
}

impl<'a, A: Real> Discretization<'a, A> {
    /// The rule with `a`: (heads) (at most 0 in a model), no bias, no squashing and no limits.
    pub fn new(a: ArrayView1<'a, A>) -> Self {
        Self { a, bias: None, squash: Squash::Identity, limits: (A::neg_infinity(), A::infinity()) }
    }

    /// Adds `bias`: (heads) to the raw steps.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not have one number a head.
    pub fn bias(self, bias: ArrayView1<'a, A>) -> Result<Self> {
        check_shape("dt_bias", "(heads)", self.a.shape(), bias.shape())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Chooses how raw steps become positive.
    pub fn squash(self, squash: Squash) -> Self {
        Self { squash, ..self }
    }

    /// Clamps the steps; either limit may be infinite.
    ///
    /// # Errors
    /// [`Error::Config`] if a limit is NaN or the lower one exceeds the upper one.
    pub fn limits(self, lower: A, upper: A) -> Result<Self> {
        if lower <= upper {
            return Ok(Self { limits: (lower, upper), ..self });
        }
        let reason = format!("expected a lower limit at most the upper one, found {lower} and {upper}");
        Err(Error::Config { field: "dt_limit", reason })
    }

    /// (dt, log a), both (batch, len, heads), from raw steps of that shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is not one step a head; [`Error::Value`] if a step, a bias or A is not
    /// finite.
    pub fn apply(&self, raw: ArrayView3<'_, A>) -> Result<(Array3<A>, Array3<A>)> {
        self.check(&raw)?;
        let mut dt = raw.to_owned();
        for mut dt in dt.lanes_mut(ndarray::Axis(2)) {
            for (h, dt) in dt.iter_mut().enumerate() {
                *dt = self.clamp(self.squashed(*dt + self.bias_of(h)));
            }
        }
        let log_a = &dt * &self.a;
        Ok((dt, log_a))
    }

    /// Cotangents of the raw steps, A and the bias, given those of dt and log a, all (batch, len, heads).
    ///
    /// # Errors
    /// As [`Discretization::apply`], and [`Error::Shape`] if a cotangent is not shaped like `raw`.
    pub fn vjp(
        &self,
        raw: ArrayView3<'_, A>,
        d_dt: ArrayView3<'_, A>,
        d_log_a: ArrayView3<'_, A>,
    ) -> Result<DiscretizationGrad<A>> {
        self.check(&raw)?;
        check_shape("d_dt", "(batch, len, heads)", raw.shape(), d_dt.shape())?;
        check_shape("d_log_a", "(batch, len, heads)", raw.shape(), d_log_a.shape())?;
        let heads = self.a.len();
        let mut grad = DiscretizationGrad {
            raw: Array3::zeros(raw.raw_dim()),
            a: Array1::zeros(heads),
            bias: Array1::zeros(heads),
        };
        for h in 0..heads {
            let (mut da, mut dbias) = (A::zero(), A::zero());
            let mut out = grad.raw.index_axis_mut(ndarray::Axis(2), h);
            let [raw, d_dt, d_log_a] = [&raw, &d_dt, &d_log_a].map(|v| v.index_axis(ndarray::Axis(2), h));
            Zip::from(&mut out).and(&raw).and(&d_dt).and(&d_log_a).for_each(|out, &raw, &d_dt, &d_log_a| {
                let shifted = raw + self.bias_of(h);
                let dt = self.squashed(shifted);
                let inside = self.clamp(dt) == dt;
                da += self.clamp(dt) * d_log_a;
                if inside {
                    *out = (d_dt + self.a[h] * d_log_a) * self.slope(shifted);
                    dbias += *out;
                }
            });
            (grad.a[h], grad.bias[h]) = (da, dbias);
        }
        Ok(grad)
    }

    fn check(&self, raw: &ArrayView3<'_, A>) -> Result<()> {
        if raw.dim().2 != self.a.len() || self.a.is_empty() {
            let expected = format!("(batch, len, heads) with heads = {}, at least 1", self.a.len());
            return Err(Error::shape("dt", expected, raw.shape()));
        }
        check_finite("A", self.a)?;
        if let Some(bias) = self.bias {
            check_finite("dt_bias", bias)?;
        }
        check_finite("dt", raw.view())
    }

    fn bias_of(&self, head: usize) -> A {
        self.bias.map_or(A::zero(), |b| b[head])
    }

    fn clamp(&self, dt: A) -> A {
        dt.max(self.limits.0).min(self.limits.1)
    }

    /// softplus(v) = max(v, 0) + log(1 + exp(-|v|)): the exponent never overflows.
    fn squashed(&self, v: A) -> A {
        match self.squash {
            Squash::Identity => v,
            Squash::Softplus => v.max(A::zero()) + (-v.abs()).exp().ln_1p(),
        }
    }

    /// Derivative of `squashed`.
    fn slope(&self, v: A) -> A {
        match self.squash {
            Squash::Identity => A::one(),
            Squash::Softplus if v >= A::zero() => A::one() / (A::one() + (-v).exp()),
            Squash::Softplus => v.exp() / (A::one() + v.exp()),
        }
    }
}
