//! A device as a place for operators whose tensors are on the host.

use std::marker::PhantomData;

use ndarray::{ArrayView3, ArrayView4};

use super::device::Device;
use super::generators::{Steps, StepsGrad};
use super::operator::{CudaGrad, CudaOutput, CudaSsd};
use super::stream::Stream;
use super::tensor::{CudaTensor, Stored};
use crate::error::{Error, Result};
use crate::ssd::{Algorithm, Grad, Output, Place, Ssd};

/// A CUDA device as the place of computation, with tensors stored as `T`; shapes as [`CudaSsd::new`] takes them.
///
/// ```no_run
/// use ndarray::{Array3, Array4};
/// use semisep::backend::cuda::Cuda;
/// use semisep::ssd::{Algorithm, Ssd};
///
/// let log_a = Array3::from_elem((1, 100, 4), -0.1f32);
/// let (b, x) = (Array4::<f32>::ones((1, 100, 1, 16)), Array4::<f32>::ones((1, 100, 4, 8)));
/// let m = Ssd::with_unit_steps(log_a.view(), b.view(), b.view())?;
/// let here = m.matmul(x.view(), None, Algorithm::default())?;
/// let there = m.on(&Cuda::new(0)?).matmul(x.view(), None, Algorithm::default())?;
/// assert!((&here.y - &there.y).iter().all(|e| e.abs() < 1e-3));
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cuda<T> {
    stream: Stream,
    tf32: bool,      // whether products may round; of f32 alone
    invariant: bool, // whether the batch has no say in how rows are cut
    numbers: PhantomData<T>,
}

impl Cuda<f32> {
    /// The same place with products in tf32, as [`CudaSsd::with_tf32`].
    pub fn with_tf32(self) -> Self {
        Self { tf32: true, ..self }
    }
}

impl<T: Stored> Cuda<T> {
    /// Device `ordinal`, with a stream of its own.
    ///
    /// # Errors
    /// As [`Device::new`].
    pub fn new(ordinal: usize) -> Result<Self> {
        Ok(Self::on(Stream::new(&Device::new(ordinal)?)?))
    }

    /// A stream at hand.
    pub fn on(stream: Stream) -> Self {
        Self { stream, tf32: false, invariant: false, numbers: PhantomData }
    }

    /// The same place with batch-invariant products, as [`CudaSsd::with_batch_invariance`].
    pub fn with_batch_invariance(self) -> Self {
        Self { invariant: true, ..self }
    }

    /// The stream that work is put into.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The matrix with its generators copied to the device.
    ///
    /// # Errors
    /// As [`CudaSsd::new`], and [`crate::DeviceError::OutOfMemory`].
    pub fn upload(&self, m: &Ssd<'_, T>) -> Result<CudaSsd<T>> {
        let g = m.generators();
        let scalars = |v: ArrayView3<'_, T::Acc>| CudaTensor::upload(&self.stream, v);
        let steps = Steps::Given { log_a: scalars(g.log_a)?, dt: scalars(g.dt)? };
        let [b, c] = [CudaTensor::upload(&self.stream, g.b)?, CudaTensor::upload(&self.stream, g.c)?];
        let mut there =
            CudaSsd::new(steps, b, c)?.with_sequences(m.sequences().clone())?.with_diagonal(g.diagonal);
        (there.tf32, there.invariant) = (self.tf32, self.invariant);
        match g.d {
            Some(d) => there.with_skip(CudaTensor::upload(&self.stream, d)?),
            None => Ok(there),
        }
    }

    fn upload_state(&self, state: Option<ArrayView4<'_, T::Acc>>) -> Result<Option<CudaTensor<T::Acc>>> {
        state.map(|state| CudaTensor::upload(&self.stream, state)).transpose()
    }
}

impl<T: Stored> Place<T> for Cuda<T> {
    fn matmul(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
    ) -> Result<Output<T>> {
        let initial = self.upload_state(initial)?;
        let x = CudaTensor::upload(&self.stream, x)?;
        self.upload(m)?.matmul(&x, initial.as_ref(), how)?.download()
    }

    fn vjp(
        &self,
        m: &Ssd<'_, T>,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
        cotangent: &Output<T>,
    ) -> Result<Grad<T>> {
        let initial = self.upload_state(initial)?;
        let x = CudaTensor::upload(&self.stream, x)?;
        let y = CudaTensor::upload(&self.stream, cotangent.y.view())?;
        let state = CudaTensor::upload(&self.stream, cotangent.state.view())?;
        self.upload(m)?.vjp(&x, initial.as_ref(), how, &CudaOutput { y, state })?.download()
    }
}

impl<T: Stored> CudaOutput<T> {
    /// A copy on the host.
    ///
    /// # Errors
    /// As [`CudaTensor::download`].
    pub fn download(&self) -> Result<Output<T>> {
        Ok(Output { y: self.y.download_as()?, state: self.state.download_as()? })
    }
}

impl<T: Stored> CudaGrad<T> {
    /// A copy on the host.
    ///
    /// # Errors
    /// As [`CudaTensor::download`], and [`Error::Config`] if the steps were raw: their cotangents are no [`Grad`].
    pub fn download(&self) -> Result<Grad<T>> {
        let StepsGrad::Given { log_a, dt } = &self.steps else {
            let reason = "expected given steps, found raw ones, whose cotangents are others".into();
            return Err(Error::Config { field: "steps", reason });
        };
        Ok(Grad {
            log_a: log_a.download_as()?,
            dt: dt.download_as()?,
            b: self.b.download_as()?,
            c: self.c.download_as()?,
            d: self.d.as_ref().map(CudaTensor::download_as).transpose()?,
            x: self.x.download_as()?,
            state: self.state.download_as()?,
        })
    }
}
