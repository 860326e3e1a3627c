//! The tool's operator and its gradient: discretisation, then the SSD matrix, then the gate.
//!
//! ```math
//! (\mathrm{dt}, \log a) = \mathrm{discretise}(\mathrm{raw}, A, \mathrm{bias}), \qquad
//! v = M x, \qquad y = v \circ z\,\sigma(z)
//! ```

use std::path::PathBuf;

use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayD, Dimension, Zip};
use num_traits::{Float, One, ToPrimitive};

use super::case::Case;
use super::in_file;
use crate::error::Result;
use crate::scalar::{Scalar, real};
use crate::ssd::{Algorithm, Discretization, Output, Place, Sequences, Squash, Ssd};

/// The operator with its inputs stored as `T`.
#[derive(Debug, Clone)]
pub struct Operator<T: Scalar> {
    path: PathBuf,
    x: Array4<T>,
    dt: Array3<T::Acc>,
    a: Array1<T::Acc>,
    b: Array4<T>,
    c: Array4<T>,
    d: Option<Array2<T::Acc>>, // (heads, 1 or head_dim)
    d_shape: Vec<usize>,
    z: Option<Array4<T>>,
    dt_bias: Option<Array1<T::Acc>>,
    init: Option<Array4<T::Acc>>,
    sequences: Sequences,
    squash: Squash,
    limits: (T::Acc, T::Acc),
}

/// Whether a result is held in the storage type or in the type that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As `x` is stored.
    Stored,
    /// As sums are computed.
    Computed,
}

/// A result by its name in the file format; numbers widened to f64, without rounding.
#[derive(Debug, Clone)]
pub struct Named {
    /// `y`, `final_state` or `grad_NAME`.
    pub name: &'static str,
    /// In which type it was held.
    pub kept: Kept,
    /// The numbers.
    pub values: ArrayD<f64>,
}

/// Cotangents of the inputs that were given.
#[derive(Debug, Clone)]
pub struct Gradient<T: Scalar> {
    x: Array4<T>,
    dt: Array3<T::Acc>,
    a: Array1<T::Acc>,
    b: Array4<T>,
    c: Array4<T>,
    d: Option<ArrayD<T::Acc>>,
    z: Option<Array4<T>>,
    dt_bias: Option<Array1<T::Acc>>,
    init: Option<Array4<T::Acc>>,
}

impl<T: Scalar> Operator<T> {
    /// Rounds the numbers of a case to `T`, steps and states to the type that `T` is computed in.
    pub fn new(case: &Case) -> Self {
        let heads = case.a.len();
        let skip = |d: &ArrayD<f64>| {
            let columns = d.len() / heads;
            Array2::from_shape_fn((heads, columns), |(h, p)| match d.ndim() {
                1 => real(d[[h]]),
                _ => real(d[[h, p]]),
            })
        };
        Self {
            path: case.path.clone(),
            x: stored::<T, _>(&case.x),
            dt: case.dt.mapv(real),
            a: case.a.mapv(real),
            b: stored::<T, _>(&case.b),
            c: stored::<T, _>(&case.c),
            d: case.d.as_ref().map(skip),
            d_shape: case.d.as_ref().map_or(Vec::new(), |d| d.shape().to_vec()),
            z: case.z.as_ref().map(stored::<T, _>),
            dt_bias: case.dt_bias.as_ref().map(|b| b.mapv(real)),
            init: case.init.as_ref().map(|h| h.mapv(real)),
            sequences: case.sequences.clone(),
            squash: case.squash,
            limits: (real(case.limits.0), real(case.limits.1)),
        }
    }

    /// y and the final state.
    ///
    /// # Errors
    /// [`crate::Error::File`] if steps or decays are not finite, [`crate::Error::Config`] if the chunk is 0, and what may
    /// go wrong with the place.
    pub fn forward(&self, place: &dyn Place<T>, how: Algorithm) -> Result<Output<T>> {
        let mut output = self.ungated(place, how)?;
        if let Some(z) = &self.z {
            Zip::from(&mut output.y).and(z).for_each(|y, z| *y = T::narrow(y.widen() * silu(z.widen())));
        }
        Ok(output)
    }

    /// Cotangents of all inputs, given those of y and of the final state.
    ///
    /// With `s = σ(z)`: `dv = dy ∘ z s`, `dz = dy ∘ v ∘ s (1 + z (1 - s))`, then the vjp of the matrix, then that of
    /// the discretisation.
    ///
    /// # Errors
    /// As [`Operator::forward`].
    pub fn vjp(&self, place: &dyn Place<T>, how: Algorithm, cotangent: &Output<T>) -> Result<Gradient<T>> {
        let mut dv = cotangent.clone();
        let mut dz = None;
        if let Some(z) = &self.z {
            let v = self.ungated(place, how)?.y;
            let mut out = cotangent.y.clone(); // overwritten
            Zip::from(&mut out).and(&mut dv.y).and(z).and(&v).for_each(|dz, dy, z, v| {
                let (dy_here, z) = (dy.widen(), z.widen());
                *dz = T::narrow(dy_here * v.widen() * silu_slope(z));
                *dy = T::narrow(dy_here * silu(z));
            });
            dz = Some(out);
        }
        let initial = self.init.as_ref().map(|h| h.view());
        let grad = self.with_matrix(|m| m.on(place).vjp(self.x.view(), initial, how, &dv))?;
        let rule = self.rule()?;
        let raw = rule.vjp(self.dt.view(), grad.dt.view(), grad.log_a.view()).map_err(|e| self.wrong(e))?;
        let shaped = |d: Array2<T::Acc>| {
            let flat = ArrayD::from_shape_vec(self.d_shape.clone(), d.iter().copied().collect());
            flat.map_err(|e| in_file(&self.path, format!("tensor `D`: {e}")))
        };
        Ok(Gradient {
            x: grad.x,
            dt: raw.raw,
            a: raw.a,
            b: grad.b,
            c: grad.c,
            d: grad.d.map(shaped).transpose()?,
            z: dz,
            dt_bias: self.dt_bias.as_ref().map(|_| raw.bias),
            init: self.init.as_ref().map(|_| grad.state),
        })
    }

    /// `M x` and the final state.
    fn ungated(&self, place: &dyn Place<T>, how: Algorithm) -> Result<Output<T>> {
        let initial = self.init.as_ref().map(|h| h.view());
        self.with_matrix(|m| m.on(place).matmul(self.x.view(), initial, how))
    }

    fn with_matrix<R>(&self, f: impl FnOnce(&Ssd<'_, T>) -> Result<R>) -> Result<R> {
        let (dt, log_a) = self.rule()?.apply(self.dt.view()).map_err(|e| self.wrong(e))?;
        let matrix = Ssd::new(log_a.view(), dt.view(), self.b.view(), self.c.view())
            .and_then(|m| m.with_sequences(self.sequences.clone()))
            .and_then(|m| match &self.d {
                Some(d) => m.with_skip(d.view()),
                None => Ok(m),
            });
        matrix.and_then(|m| f(&m)).map_err(|e| self.wrong(e))
    }

    fn rule(&self) -> Result<Discretization<'_, T::Acc>> {
        let rule = Discretization::new(self.a.view())
            .squash(self.squash)
            .limits(self.limits.0, self.limits.1)
            .map_err(|e| self.wrong(e))?;
        match &self.dt_bias {
            Some(bias) => rule.bias(bias.view()).map_err(|e| self.wrong(e)),
            None => Ok(rule),
        }
    }

    fn wrong(&self, error: crate::Error) -> crate::Error {
        match error {
            crate::Error::Config { .. } | crate::Error::Device(_) => error,
            other => in_file(&self.path, other),
        }
    }
}

/// The cotangents of a case, rounded to `T`.
pub fn rounded<T: Scalar>(output: &Output<f64>) -> Output<T> {
    Output { y: stored::<T, _>(&output.y), state: output.state.mapv(real) }
}

/// `y` and `final_state` by name.
pub fn named_output<T: Scalar>(output: &Output<T>) -> Vec<Named> {
    vec![narrow_one("y", &output.y), wide_one::<T, _>("final_state", &output.state)]
}

impl<T: Scalar> Gradient<T> {
    /// The cotangents by name, in the order of [`super::case::GRADIENTS`].
    pub fn named(&self) -> Vec<Named> {
        let mut all = vec![
            narrow_one("grad_x", &self.x),
            wide_one::<T, _>("grad_dt", &self.dt),
            wide_one::<T, _>("grad_A", &self.a),
            narrow_one("grad_B", &self.b),
            narrow_one("grad_C", &self.c),
        ];
        all.extend(self.d.as_ref().map(|d| wide_one::<T, _>("grad_D", d)));
        all.extend(self.z.as_ref().map(|z| narrow_one("grad_z", z)));
        all.extend(self.dt_bias.as_ref().map(|b| wide_one::<T, _>("grad_dt_bias", b)));
        all.extend(self.init.as_ref().map(|h| wide_one::<T, _>("grad_init", h)));
        all
    }
}

fn narrow_one<T: Scalar, D: Dimension>(name: &'static str, values: &Array<T, D>) -> Named {
    Named { name, kept: Kept::Stored, values: values.map(|v| double(v.widen())).into_dyn() }
}

fn wide_one<T: Scalar, D: Dimension>(name: &'static str, values: &Array<T::Acc, D>) -> Named {
    Named { name, kept: Kept::Computed, values: values.mapv(double).into_dyn() }
}

fn double(v: impl ToPrimitive) -> f64 {
    v.to_f64().unwrap_or(f64::NAN)
}

fn stored<T: Scalar, D: Dimension>(values: &Array<f64, D>) -> Array<T, D> {
    values.map(|&v| T::narrow(real(v)))
}

/// `σ(z)` without overflow.
fn sigmoid<A: Float>(z: A) -> A {
    let e = (-z.abs()).exp();
    if z >= A::zero() { A::one() / (A::one() + e) } else { e / (A::one() + e) }
}

/// `z σ(z)`
fn silu<A: Float>(z: A) -> A {
    z * sigmoid(z)
}

/// The derivative of `silu`: `s (1 + z (1 - s))`, with `1 - s = σ(-z)`.
fn silu_slope<A: Float>(z: A) -> A {
    sigmoid(z) * (<A as One>::one() + z * sigmoid(-z))
}
