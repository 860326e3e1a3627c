//! Work recorded once and replayed.
#![allow(unsafe_code)]

use cudarc::driver::result::{graph, stream as raw};
use cudarc::driver::sys;

use super::device::driver;
use super::stream::Stream;
use crate::error::Result;

/// Work of a stream that was recorded instead of done; the host starts all of it by one call.
///
/// It keeps the addresses that the work was recorded with: tensors that it reads or writes must be there when it is replayed.
#[derive(Debug)]
pub struct Graph {
    stream: Stream,
    raw: sys::CUgraphExec,
}

impl Graph {
    /// Records what `work` puts into `stream`. Programs that it starts must have been loaded before, by doing it once.
    ///
    /// # Errors
    /// Those of `work`, and [`crate::DeviceError::Driver`] if it cannot be recorded, as waiting for the stream cannot.
    pub fn record(stream: &Stream, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        stream.device().bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream exists.
        unsafe { raw::begin_capture(stream.raw(), mode) }.map_err(|e| driver("cuStreamBeginCapture", e))?;
        let done = work();
        // SAFETY: the recording began above.
        let recorded = unsafe { raw::end_capture(stream.raw()) };
        done?;
        let recorded = recorded.map_err(|e| driver("cuStreamEndCapture", e))?;
        // SAFETY: `recorded` is a graph; what it was made into does not need it any longer.
        let made = unsafe { graph::instantiate(recorded, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above.
        let _ = unsafe { graph::destroy(recorded) };
        let raw = made.map_err(|e| driver("cuGraphInstantiate", e))?;
        Ok(Self { stream: stream.clone(), raw })
    }

    /// Puts the work into its stream.
    ///
    /// # Safety
    /// Every tensor that the recorded work reads or writes still exists.
    ///
    /// # Errors
    /// [`crate::DeviceError::Driver`] if the driver refuses.
    pub unsafe fn replay(&self) -> Result<()> {
        self.stream.device().bind()?;
        // SAFETY: the graph exists for as long as this, and the caller vouches for what it reads and writes.
        unsafe { graph::launch(self.raw, self.stream.raw()) }.map_err(|e| driver("cuGraphLaunch", e))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.stream.device().bind().is_ok() {
            // SAFETY: made by `record` and not used again; the driver finishes its work first.
            let _ = unsafe { graph::exec_destroy(self.raw) };
        }
    }
}
