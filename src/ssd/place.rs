//! Where an operator is computed.

use ndarray::ArrayView4;

use super::{Algorithm, Grad, Output, Ssd};
use crate::error::Result;
use crate::scalar::Scalar;

/// A place that multiplies and differentiates: [`Cpu`], or with the feature `cuda` a `backend::cuda::Cuda`.
///
/// The tensors are on the host; a place elsewhere copies them there and its results back.
pub trait Place<T: Scalar> {
    /// As [`Ssd::matmul`].
    ///
    /// # Errors
    /// As [`Ssd::matmul`], and what may go wrong with the place, [`crate::Error::Device`].
    fn matmul(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
    ) -> Result<Output<T>>;

    /// As [`Ssd::vjp`].
    ///
    /// # Errors
    /// As [`Ssd::vjp`], and what may go wrong with the place, [`crate::Error::Device`].
    fn vjp(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
        cotangent: &Output<T>,
    ) -> Result<Grad<T>>;
}

/// This machine's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu;

impl<T: Scalar> Place<T> for Cpu {
    fn matmul(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
    ) -> Result<Output<T>> {
        m.matmul(x, initial, how)
    }

    fn vjp(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
        cotangent: &Output<T>,
    ) -> Result<Grad<T>> {
        m.vjp(x, initial, how, cotangent)
    }
}

/// A matrix at a place: the calls of [`Ssd`], computed there.
///
/// # Examples
/// ```
/// use ndarray::{Array3, Array4};
/// use semisep::ssd::{Algorithm, Cpu, Ssd};
/// let log_a = Array3::from_elem((1, 10, 2), -0.1);
/// let (b, x) = (Array4::<f64>::ones((1, 10, 1, 3)), Array4::<f64>::ones((1, 10, 2, 4)));
/// let m = Ssd::with_unit_steps(log_a.view(), b.view(), b.view())?;
/// let y = m.on(&Cpu).matmul(x.view(), None, Algorithm::default())?.y;
/// assert_eq!(y, m.matmul(x.view(), None, Algorithm::default())?.y);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug)]
pub struct At<'m, 'a, T: Scalar, P: ?Sized> {
    m: &'m Ssd<'a, T>,
    place: &'m P,
}

impl<'a, T: Scalar> Ssd<'a, T> {
    /// The matrix at a place.
    pub fn on<'m, P: Place<T> + ?Sized>(&'m self, place: &'m P) -> At<'m, 'a, T, P> {
        At { m: self, place }
    }
}

impl<T: Scalar, P: Place<T> + ?Sized> At<'_, '_, T, P> {
    /// As [`Ssd::matmul`].
    ///
    /// # Errors
    /// As [`Place::matmul`].
    pub fn matmul(
        &self,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
    ) -> Result<Output<T>> {
        self.place.matmul(self.m, x, initial, how)
    }

    /// As [`Ssd::vjp`].
    ///
    /// # Errors
    /// As [`Place::vjp`].
    pub fn vjp(
        &self,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
        cotangent: &Output<T>,
    ) -> Result<Grad<T>> {
        self.place.vjp(self.m, x, initial, how, cotangent)
    }
}
