//! Graphs that were captured.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use crate::context::{current, stream_of, usable};
use crate::driver::driver;
use crate::entry::{api, get, put};
use crate::failure::{Failure, Result};
use crate::graph::{Graph, GraphExec};
use crate::handles::Handle;
use crate::operation::Operation;

/// Flags of an instantiation; all but one change nothing here.
const FLAGS: u64 = 15;
/// `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`.
const AUTO_FREE: u64 = 1;

api! {
    /// An empty graph.
    fn cuGraphCreate(graph: *mut Handle, flags: c_uint) {
        current()?;
        if flags != 0 {
            return Err(Failure::argument("flags", 0, flags));
        }
        if graph.is_null() {
            return Err(Failure::argument("phGraph", "an address", "null"));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(graph, "phGraph", driver()?.graphs.add(Graph::new(Vec::new()))) }?;
    }

    /// Ends a graph.
    fn cuGraphDestroy(graph: Handle) {
        driver()?.graphs.remove(graph)?;
    }

    /// A copy of a graph.
    fn cuGraphClone(clone: *mut Handle, graph: Handle) {
        let nodes = driver()?.graphs.get(graph)?.nodes.clone();
        if clone.is_null() {
            return Err(Failure::argument("phGraphClone", "an address", "null"));
        }
        // SAFETY: the caller's pointer.
        unsafe { put(clone, "phGraphClone", driver()?.graphs.add(Graph::new(nodes))) }?;
    }

    /// Nodes of a graph: their number, or the first of them.
    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, num_nodes: *mut usize) {
        let handles = &driver()?.graphs.get(graph)?.handles;
        // SAFETY: the caller's pointer.
        let room = unsafe { get(num_nodes, "numNodes") }?;
        if nodes.is_null() {
            // SAFETY: the caller's pointer.
            return unsafe { put(num_nodes, "numNodes", handles.len()) };
        }
        for (index, handle) in handles.iter().take(room).enumerate() {
            // SAFETY: the caller's array has `room` entries.
            unsafe { nodes.add(index).write(*handle) };
        }
        // SAFETY: the caller's pointer.
        unsafe { put(num_nodes, "numNodes", handles.len().min(room)) }?;
    }

    /// A graph that can be launched.
    fn cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, flags: u64) {
        // SAFETY: the caller's pointer.
        unsafe { instantiate(exec, graph, flags) }?;
    }

    /// A graph that can be launched; parameters: flags, the stream of an upload, and two answers.
    fn cuGraphInstantiateWithParams(exec: *mut Handle, graph: Handle, params: *mut [u64; 4]) {
        // SAFETY: the caller's structure of four 8-byte fields.
        let [flags, ..] = unsafe { get(params, "instantiateParams") }?;
        // SAFETY: the caller's pointers. The last two fields: no node failed, success.
        unsafe {
            instantiate(exec, graph, flags)?;
            let fields = params.cast::<u64>();
            fields.add(2).write_unaligned(0);
            fields.add(3).cast::<u32>().write_unaligned(0);
        }
    }

    /// Enqueues a graph.
    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        usable()?;
        let exec = driver()?.graph_execs.get(exec)?;
        stream_of(stream)?.enqueue(Operation::Graph(exec))?;
    }

    /// Nothing needs to be brought to the device.
    fn cuGraphUpload(exec: Handle, stream: Handle) {
        usable()?;
        driver()?.graph_execs.get(exec)?;
        stream_of(stream)?;
    }

    /// Ends a graph that can be launched. Launches that are on their way still run.
    fn cuGraphExecDestroy(exec: Handle) {
        driver()?.graph_execs.remove(exec)?;
    }

    /// Takes over a graph of the same shape; a pointer to an answer may be null.
    fn cuGraphExecUpdate_v2(exec: Handle, graph: Handle, result: *mut c_void) {
        let driver = driver()?;
        let (old, new) = (driver.graph_execs.get(exec)?, driver.graphs.get(graph)?);
        let fits = old.has_shape_of(&new);
        if !result.is_null() {
            // CU_GRAPH_EXEC_UPDATE_SUCCESS or CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, and the
            // nodes to blame: none.
            // SAFETY: the caller's structure: a number and two handles.
            unsafe {
                result.cast::<u32>().write_unaligned(if fits { 0 } else { 2 });
                result.cast::<u64>().add(1).write_unaligned(0);
                result.cast::<u64>().add(2).write_unaligned(0);
            }
        }
        if !fits {
            let reason = "the graphs have different nodes";
            return Err(Failure::new(crate::status::Status::GRAPH_EXEC_UPDATE_FAILURE, reason));
        }
        driver.graph_execs.insert(exec, Arc::new(old.renew(&new)));
    }
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn instantiate(exec: *mut Handle, graph: Handle, flags: u64) -> Result<()> {
    usable()?;
    if flags & !FLAGS != 0 {
        return Err(Failure::argument("flags", "flags of CUgraphInstantiate_flags", flags));
    }
    if exec.is_null() {
        return Err(Failure::argument("phGraphExec", "an address", "null"));
    }
    let driver = driver()?;
    let new = GraphExec::new(&*driver.graphs.get(graph)?, flags & AUTO_FREE != 0);
    // SAFETY: the caller's.
    unsafe { put(exec, "phGraphExec", driver.graph_execs.add(new)) }
}
