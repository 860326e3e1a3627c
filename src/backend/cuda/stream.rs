//! A queue of work on a device.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::result::{self, event, stream as raw};
use cudarc::driver::sys;

use super::device::{Device, driver};
use crate::error::{DeviceError, Result};

/// A queue of work, done in the order it was put there; cheap to clone.
///
/// Every tensor belongs to one stream, and one call takes tensors of one stream, so that nothing here can read what is
/// not yet written.
#[derive(Clone)]
pub struct Stream {
    inner: Arc<Inner>,
}

struct Inner {
    device: Device,
    raw: sys::CUstream,
    owner: Owner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Here,
    Caller,
}

// SAFETY: the driver's stream handles may be used from any thread that makes the context current, which every use here
// does first.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Stream {
    /// A new stream, which waits for no other.
    ///
    /// # Errors
    /// [`crate::DeviceError::Driver`] if the driver refuses.
    pub fn new(device: &Device) -> Result<Self> {
        device.bind()?;
        let made = raw::create(raw::StreamKind::NonBlocking).map_err(|e| driver("cuStreamCreate", e))?;
        Ok(Self { inner: Arc::new(Inner { device: device.clone(), raw: made, owner: Owner::Here }) })
    }

    /// A stream of the caller's, `CUstream` or `cudaStream_t`: work is put there and synchronised with only by
    /// downloads, so it may be captured into a graph.
    ///
    /// # Safety
    /// `handle` is a stream of the device's primary context (or null, its default stream), and is not destroyed before
    /// this value, its clones and the tensors that belong to it are gone.
    pub unsafe fn borrow(device: &Device, handle: *mut c_void) -> Self {
        let inner = Inner { device: device.clone(), raw: handle.cast(), owner: Owner::Caller };
        Self { inner: Arc::new(inner) }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The handle, a `CUstream`.
    pub fn handle(&self) -> *mut c_void {
        self.inner.raw.cast()
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`crate::DeviceError::Launch`] if some of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.inner.device.bind()?;
        // SAFETY: the stream exists for as long as `inner`.
        unsafe { raw::synchronize(self.inner.raw) }.map_err(|e| driver("cuStreamSynchronize", e))
    }

    /// Seconds of device time that `work` takes, from its first piece to its last.
    ///
    /// # Errors
    /// Those of `work`, and as [`Stream::synchronize`].
    pub fn time(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.inner.device.bind()?;
        let [start, end] = [Event::new()?, Event::new()?];
        start.record(self)?;
        work()?;
        end.record(self)?;
        self.synchronize()?;
        end.milliseconds_since(&start).map(|ms| f64::from(ms) / 1e3)
    }

    /// Seconds of device time of `work` recorded and replayed as a [`Graph`](super::Graph), the median of `times` replays. It
    /// is done once before, so that its programs are loaded.
    ///
    /// # Errors
    /// Those of `work`, of recording it, and as [`Stream::synchronize`].
    pub fn time_replayed(&self, times: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        let graph = self.record(&mut work)?;
        // SAFETY: `work` keeps what it reads and writes, and what it makes itself is made in the recording.
        let replay = || self.time(|| unsafe { graph.launch() });
        replay()?;
        let mut all = (0..times.max(1)).map(|_| replay()).collect::<Result<Vec<_>>>()?;
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }

    /// `call` would be recorded with memory of the host that is gone when the recording is replayed.
    pub(super) fn check_not_recording(&self, call: &'static str) -> Result<()> {
        self.inner.device.bind()?;
        // SAFETY: the stream exists for as long as `inner`.
        let status = unsafe { raw::is_capturing(self.inner.raw) }.map_err(|e| driver(call, e))?;
        if status == sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Ok(());
        }
        Err(DeviceError::Driver { call, reason: "not while work of the stream is recorded".into() }.into())
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.inner.raw
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.inner.raw == other.inner.raw && self.inner.device == other.inner.device
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?} of {:?}, {:?})", self.inner.raw, self.inner.device, self.inner.owner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner == Owner::Here && self.device.bind().is_ok() {
            // SAFETY: made by `new`; nothing that uses it outlives `Inner`, and the driver finishes its work first.
            let _ = unsafe { result::stream::destroy(self.raw) };
        }
    }
}

/// A mark in a stream.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Self> {
        let made = event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        made.map(Self).map_err(|e| driver("cuEventCreate", e))
    }

    fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: the event and the stream exist, and the device is current.
        unsafe { event::record(self.0, stream.raw()) }.map_err(|e| driver("cuEventRecord", e))
    }
}

impl Event {
    /// Between two that were passed. By the function that every driver has: the bindings' is of CUDA 12.8.
    fn milliseconds_since(&self, start: &Self) -> Result<f32> {
        type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
        const NAME: &str = "cuEventElapsedTime";
        let mut elapsed = 0.0;
        // SAFETY: the driver is open, the type is that of its header, and both events exist.
        unsafe {
            let function = sys::culib().get::<Elapsed>(NAME.as_bytes());
            let function = function.map_err(|e| DeviceError::Driver { call: NAME, reason: e.to_string() })?;
            function(&mut elapsed, start.0, self.0).result().map_err(|e| driver(NAME, e))?;
        }
        Ok(elapsed)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not used again.
        let _ = unsafe { event::destroy(self.0) };
    }
}
