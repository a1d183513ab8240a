//! How much of a kernel fits on a device.

use std::ffi::{c_int, c_uint};

use vgpu::{MAX_SHARED_BYTES, blocks_per_sm};

use super::launch::{check, int, with_attributes};
use crate::abi::LaunchConfig;
use crate::driver::driver;
use crate::entry::{api, get, put};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::settings::settings;

api! {
    /// Blocks that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        num_blocks: *mut c_int,
        function: Handle,
        block_size: c_int,
        dynamic_bytes: usize,
    ) {
        let num = blocks(function, block_size, dynamic_bytes)?;
        // SAFETY: the caller's pointer.
        unsafe { put(num_blocks, "numBlocks", num) }?;
    }

    /// Blocks that a multiprocessor holds; the flag for caching changes nothing.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        num_blocks: *mut c_int,
        function: Handle,
        block_size: c_int,
        dynamic_bytes: usize,
        flags: c_uint,
    ) {
        if flags > 1 {
            return Err(Failure::argument("flags", "0 or 1", flags));
        }
        let num = blocks(function, block_size, dynamic_bytes)?;
        // SAFETY: the caller's pointer.
        unsafe { put(num_blocks, "numBlocks", num) }?;
    }

    /// The block with which most threads fit, and the blocks that fill the device.
    fn cuOccupancyMaxPotentialBlockSize(
        min_grid: *mut c_int,
        block_size: *mut c_int,
        function: Handle,
        bytes_of: Option<unsafe extern "C" fn(c_int) -> usize>,
        dynamic_bytes: usize,
        limit: c_int,
    ) {
        let function = driver()?.function(function)?;
        let kernel = function.kernel()?;
        let most = match u32::try_from(limit) {
            Ok(limit) if limit > 0 => limit.min(kernel.max_threads()),
            _ => kernel.max_threads(),
        };
        let mut best = (0, 0, 0);
        for threads in (1..=most / 32).rev().map(|warps| warps * 32) {
            // SAFETY: the caller's function of a block's size.
            let bytes = bytes_of.map_or(dynamic_bytes, |f| unsafe { f(threads as c_int) });
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let num = blocks_per_sm(kernel, threads, bytes);
            if num * threads > best.0 {
                best = (num * threads, threads, num);
            }
        }
        let (_, threads, num) = best;
        // SAFETY: the caller's pointers.
        unsafe {
            put(min_grid, "minGridSize", int(num * settings().num_sms))?;
            put(block_size, "blockSize", int(threads))?;
        }
    }

    /// Dynamic shared memory that so many blocks leave each other.
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        dynamic_bytes: *mut usize,
        function: Handle,
        num_blocks: c_int,
        block_size: c_int,
    ) {
        let wanted = u32::try_from(num_blocks).ok().filter(|num| *num > 0);
        let wanted = wanted.ok_or_else(|| Failure::argument("numBlocks", "at least 1", num_blocks))?;
        let threads = threads(block_size)?;
        let function = driver()?.function(function)?;
        let kernel = function.kernel()?;
        let fits = |bytes: u32| blocks_per_sm(kernel, threads, bytes) >= wanted;
        let most = MAX_SHARED_BYTES - kernel.static_shared_bytes();
        // Less memory never holds fewer blocks.
        let sizes: Vec<u32> = (0..=most / 16).map(|unit| unit * 16).collect();
        let num = sizes.partition_point(|bytes| fits(*bytes));
        let refuse = || Failure::argument("numBlocks", "so many as fit", num_blocks);
        let bytes = num.checked_sub(1).map(|last| sizes[last]).ok_or_else(refuse)?;
        // SAFETY: the caller's pointer.
        unsafe { put(dynamic_bytes, "dynamicSmemSize", bytes as usize) }?;
    }

    /// The largest cluster that the kernel can be launched with.
    fn cuOccupancyMaxPotentialClusterSize(
        size: *mut c_int,
        function: Handle,
        config: *const LaunchConfig,
    ) {
        let function = driver()?.function(function)?;
        // SAFETY: the caller's structure of numbers and pointers.
        let config = unsafe { get(config, "config") }?;
        let threads = config.block.iter().product();
        let num = blocks_per_sm(function.kernel()?, threads, config.shared_bytes);
        let allows_large = function.allows_large_clusters.load(std::sync::atomic::Ordering::Relaxed);
        let most = if allows_large { 16 } else { 8 };
        // SAFETY: the caller's pointer.
        unsafe { put(size, "clusterSize", if num == 0 { 0 } else { most }) }?;
    }

    /// Clusters that the device holds.
    fn cuOccupancyMaxActiveClusters(
        num_clusters: *mut c_int,
        function: Handle,
        config: *const LaunchConfig,
    ) {
        let function = driver()?.function(function)?;
        // SAFETY: the caller's structure of numbers and pointers.
        let config = unsafe { get(config, "config") }?;
        // SAFETY: its array.
        let (launch, _) = unsafe { with_attributes(&config) }?;
        let params = vec![0; function.kernel()?.param_bytes() as usize];
        let launch = vgpu::Launch { params, cooperative: false, ..launch };
        check(&function, &launch)?;
        let threads = launch.block.iter().product();
        let per_sm = blocks_per_sm(function.kernel()?, threads, launch.dynamic_shared_bytes);
        let num_ctas = launch.cluster.iter().product::<u32>().max(1);
        // SAFETY: the caller's pointer.
        unsafe { put(num_clusters, "numClusters", int(per_sm * settings().num_sms / num_ctas)) }?;
    }
}

fn threads(block_size: c_int) -> Result<u32> {
    let threads = u32::try_from(block_size).ok().filter(|num| *num > 0);
    threads.ok_or_else(|| Failure::argument("blockSize", "at least 1", block_size))
}

fn blocks(function: Handle, block_size: c_int, dynamic_bytes: usize) -> Result<c_int> {
    let threads = threads(block_size)?;
    let function = driver()?.function(function)?;
    let bytes = u32::try_from(dynamic_bytes).unwrap_or(u32::MAX);
    Ok(int(blocks_per_sm(function.kernel()?, threads, bytes)))
}
