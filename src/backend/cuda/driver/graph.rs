//! Graphs: a sequence of stages, captured once and replayed.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Context, Stream, call};
use crate::error::Result;

const OP: &str = "cuda graph";

/// Captured stages; see [`crate::backend::cuda::Cuda::capture`].
#[derive(Debug)]
pub struct CudaGraph {
    context: Arc<Context>,
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
}

// SAFETY: a graph may move between threads; it is changed by `&mut self` and drop alone.
unsafe impl Send for CudaGraph {}

impl CudaGraph {
    /// Captures what `enqueue` enqueues on `stream`, which runs none of it.
    pub(in super::super) fn capture(
        stream: &Stream,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        stream.context().bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        let answer = unsafe { result::stream::begin_capture(stream.handle(), mode) };
        call(OP, "cuStreamBeginCapture", answer)?;
        let enqueued = enqueue();
        stream.context().bind()?;
        // SAFETY: the capture was begun above, and ends whatever became of it.
        let answer = unsafe { result::stream::end_capture(stream.handle()) };
        let captured = call(OP, "cuStreamEndCapture", answer).map(|graph| Self {
            context: Arc::clone(stream.context()),
            graph,
            executable: std::ptr::null_mut(),
        });
        enqueued?;
        let mut graph = captured?;
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph was captured just now.
        let answer = unsafe { result::graph::instantiate(graph.graph, flags) };
        graph.executable = call(OP, "cuGraphInstantiate", answer)?;
        Ok(graph)
    }

    /// Enqueues all stages again.
    pub(in super::super) fn replay(&mut self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // SAFETY: graph and stream are live.
        let answer = unsafe { result::graph::launch(self.executable, stream.handle()) };
        call(OP, "cuGraphLaunch", answer)
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: each was made in `capture`, and is not used again. A failure has nobody to go to.
        unsafe {
            if !self.executable.is_null() {
                let _ = result::graph::exec_destroy(self.executable);
            }
            let _ = result::graph::destroy(self.graph);
        }
    }
}
