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
    _recorded: Recorded,
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
    /// Those of `work`, such as [`crate::DeviceError::Driver`] for copies to or from the host;
    /// [`crate::DeviceError::Driver`] if something in it cannot be recorded or the stream is being recorded already.
    pub fn record(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.device().bind()?;
        // SAFETY: the stream exists; the capture is ended below whatever `work` does.
        unsafe { raw::begin_capture(self.raw(), sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }
            .map_err(|e| driver("cuStreamBeginCapture", e))?;
        let recording = Recording { stream: self };
        work()?;
        let recorded = Recorded(recording.end()?);
        // SAFETY: the graph was recorded now and is not changed.
        let ready = unsafe { graph::instantiate(recorded.0, sys::CUgraphInstantiate_flags(0)) }
            .map_err(|e| driver("cuGraphInstantiate", e))?;
        Ok(Graph { stream: self.clone(), _recorded: recorded, ready })
    }
}

/// A recording under way: it ends however `record` does.
struct Recording<'a> {
    stream: &'a Stream,
}

impl Recording<'_> {
    fn end(self) -> Result<sys::CUgraph> {
        let stream = self.stream;
        std::mem::forget(self);
        stream.device().bind()?;
        // SAFETY: a capture is under way.
        unsafe { raw::end_capture(stream.raw()) }.map_err(|e| driver("cuStreamEndCapture", e))
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if let Ok(recorded) = (Recording { stream: self.stream }).end() {
            drop(Recorded(recorded));
        }
    }
}

/// A graph of the driver's that goes when it is not needed.
struct Recorded(sys::CUgraph);

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: the graph is this value's own.
        let _ = unsafe { graph::destroy(self.0) };
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
            let _ = unsafe { graph::exec_destroy(self.ready) };
        }
    }
}
