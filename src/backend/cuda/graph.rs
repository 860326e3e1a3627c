//! Work that is recorded once and started again as a whole.
#![allow(unsafe_code)]

use std::fmt;

use cudarc::driver::result::{graph, stream as raw};
use cudarc::driver::sys;

use super::device::driver;
use super::stream::Stream;
use crate::error::Result;

/// Recorded work of a stream: starting it costs the host one call, however many kernels it has. What is put into a decoding
/// loop, where kernels are shorter than the host takes to start them.
pub struct Graph {
    stream: Stream,
    recorded: sys::CUgraph,
    ready: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used from any thread that makes the context current, which every use here does first;
// those of a graph by one thread at a time, which is why there is no `Sync`.
unsafe impl Send for Graph {}

impl Stream {
    /// Records what `work` puts into this stream, without doing it. Kernels must have been used before, since none can be
    /// compiled meanwhile, and memory must be there already: calls that return tensors of their own do not fit.
    ///
    /// # Errors
    /// Those of `work`; [`crate::DeviceError::Driver`] if something in it cannot be recorded.
    pub fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.device().bind()?;
        // SAFETY: the stream exists; the capture is ended below whatever `work` does.
        unsafe { raw::begin_capture(self.raw(), sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }
            .map_err(|e| driver("cuStreamBeginCapture", e))?;
        let done = work();
        // SAFETY: a capture is under way.
        let recorded = unsafe { raw::end_capture(self.raw()) };
        done?;
        let recorded = recorded.map_err(|e| driver("cuStreamEndCapture", e))?;
        // SAFETY: `recorded` is a graph that this function owns.
        match unsafe { graph::instantiate(recorded, sys::CUgraphInstantiate_flags(0)) } {
            Ok(ready) => Ok(Graph { stream: self.clone(), recorded, ready }),
            Err(wrong) => {
                // SAFETY: as above, and not used again.
                let _ = unsafe { graph::destroy(recorded) };
                Err(driver("cuGraphInstantiate", wrong))
            }
        }
    }
}

impl Graph {
    /// Puts all of the work into the stream that it was recorded from.
    ///
    /// # Errors
    /// [`crate::DeviceError::Driver`].
    ///
    /// # Safety
    /// Every tensor that the recorded work reads or writes is still there.
    pub unsafe fn launch(&self) -> Result<()> {
        self.stream.device().bind()?;
        // SAFETY: the graph is ready, and the caller vouches for its memory.
        unsafe { graph::launch(self.ready, self.stream.raw()) }.map_err(|e| driver("cuGraphLaunch", e))
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph(of {:?})", self.stream)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.stream.device().bind().is_ok() {
            // SAFETY: made by `record` and not used again; the driver finishes what was started.
            unsafe {
                let _ = graph::exec_destroy(self.ready);
                let _ = graph::destroy(self.recorded);
            }
        }
    }
}
