//! Launches.

use std::ffi::{c_int, c_uint, c_void};
use std::slice::from_raw_parts;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vgpu::{Launch, LaunchError};

use crate::abi::{LaunchAttribute, LaunchConfig};
use crate::context::{stream_of, usable};
use crate::driver::driver;
use crate::entry::{api, get, lacking};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::module::Function;
use crate::operation::{
    HostAddress, HostCall, HostFunction, KernelLaunch, Operation, launch_failure,
};
use crate::settings::{Settings, settings};
use crate::status::Status;

/// `CU_LAUNCH_PARAM_BUFFER_POINTER`, `_SIZE` and `_END`.
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;
/// Blocks of a cluster that every device of compute capability 9.0 takes.
const PORTABLE_CLUSTER: u32 = 8;

api! {
    /// Launches a kernel.
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: Handle,
        params: *const *const c_void,
        extra: *const *const c_void,
    ) {
        let shape = shape([grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared_bytes);
        // SAFETY: the caller's pointers.
        unsafe { launch(function, (shape, false), stream, params, extra) }?;
    }

    /// Launches a kernel whose blocks all run at the same time.
    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: Handle,
        params: *const *const c_void,
    ) {
        let shape = shape([grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared_bytes);
        let shape = Launch { cooperative: true, ..shape };
        // SAFETY: the caller's pointers.
        unsafe { launch(function, (shape, false), stream, params, std::ptr::null()) }?;
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx(
        config: *const LaunchConfig,
        function: Handle,
        params: *const *const c_void,
        extra: *const *const c_void,
    ) {
        // SAFETY: the caller's structure of numbers and pointers.
        let config = unsafe { get(config, "config") }?;
        // SAFETY: its array.
        let shape = unsafe { with_attributes(&config) }?;
        // SAFETY: the caller's pointers.
        unsafe { launch(function, shape, config.stream, params, extra) }?;
    }

    /// Calls a function of the host in a stream's order.
    fn cuLaunchHostFunc(
        stream: Handle,
        function: Option<unsafe extern "C" fn(*mut c_void)>,
        data: *mut c_void,
    ) {
        usable()?;
        let call = function.ok_or_else(|| Failure::argument("fn", "a function", "null"))?;
        let data = HostAddress(data.cast());
        let function = HostFunction { call: HostCall::Function(call), data };
        stream_of(stream)?.enqueue(Operation::Host(function))?;
    }

    /// Calls a function of the host in a stream's order, also after a fault.
    fn cuStreamAddCallback(
        stream: Handle,
        function: Option<unsafe extern "C" fn(Handle, Status, *mut c_void)>,
        data: *mut c_void,
        flags: c_uint,
    ) {
        usable()?;
        if flags != 0 {
            return Err(Failure::argument("flags", 0, flags));
        }
        let call = function.ok_or_else(|| Failure::argument("callback", "a function", "null"))?;
        let data = HostAddress(data.cast());
        let function = HostFunction { call: HostCall::Callback(call, stream), data };
        let stream = stream_of(stream)?;
        stream.capture.refuse("callbacks cannot be captured")?;
        stream.enqueue(Operation::Host(function))?;
    }
}

fn shape(grid: [u32; 3], block: [u32; 3], dynamic_shared_bytes: u32) -> Launch {
    let Settings { num_sms, fuel, .. } = *settings();
    Launch { grid, block, dynamic_shared_bytes, num_sms, fuel, ..Launch::default() }
}

/// The launch of a configuration, and whether it may overlap the one in front.
///
/// # Safety
///
/// The configuration's array of attributes is as long as it says.
pub(super) unsafe fn with_attributes(config: &LaunchConfig) -> Result<(Launch, bool)> {
    let mut overlaps = false;
    let mut launch = shape(config.grid, config.block, config.shared_bytes);
    let num = config.num_attributes as usize;
    if num > 0 && config.attributes.is_null() {
        return Err(Failure::argument("attrs", "an array", "null"));
    }
    for index in 0..num {
        // SAFETY: the caller's. Attributes are numbers; the values are read as far as they go.
        let LaunchAttribute { id, value, .. } = unsafe { *config.attributes.add(index) };
        match id {
            2 => launch.cooperative = value[0] != 0,
            4 => launch.cluster = [value[0], value[1], value[2]],
            6 => overlaps = value[0] != 0,
            // Nothing, and hints on caches, waiting, scheduling, priority and memory.
            0 | 1 | 3 | 5 | 8 | 9 | 10 | 14 => {}
            other => return Err(lacking(&format!("launch attribute {other}"))),
        }
    }
    Ok((launch, overlaps))
}

/// # Safety
///
/// `params` is null or has an entry for each parameter; `extra` is null or ends with 0.
unsafe fn launch(
    function: Handle,
    (launch, overlaps): (Launch, bool),
    stream: Handle,
    params: *const *const c_void,
    extra: *const *const c_void,
) -> Result<()> {
    let context = usable()?;
    let function = driver()?.function(function)?;
    let stream = stream_of(stream)?;
    if stream.context != function.module.context {
        let reason = "the stream and the kernel belong to different contexts";
        return Err(Failure::new(Status::INVALID_CONTEXT, reason));
    }
    if stream.context != context.handle {
        return Err(Failure::new(Status::INVALID_CONTEXT, "the stream is of another context"));
    }
    // SAFETY: the caller's.
    let params = unsafe { pack(&function, params, extra) }?;
    let launch = Launch { params, ..launch };
    check(&function, &launch)?;
    stream.enqueue(Operation::Launch(Arc::new(KernelLaunch { function, launch, overlaps })))
}

/// Lays the parameters out.
///
/// # Safety
///
/// As for [`launch`].
unsafe fn pack(
    function: &Function,
    params: *const *const c_void,
    extra: *const *const c_void,
) -> Result<Vec<u8>> {
    let kernel = function.kernel()?;
    let mut buffer = vec![0; kernel.param_bytes() as usize];
    if kernel.params().is_empty() {
        return Ok(buffer);
    }
    match (params.is_null(), extra.is_null()) {
        (false, true) => {
            for (index, param) in kernel.params().iter().enumerate() {
                // SAFETY: the caller's array has an entry for each parameter.
                let value = unsafe { *params.add(index) }.cast::<u8>();
                if value.is_null() {
                    let arg = format!("kernelParams[{index}]");
                    return Err(Failure::argument(&arg, format!("`{}`", param.name), "null"));
                }
                // SAFETY: the entry points at the parameter's value.
                let value = unsafe { from_raw_parts(value, param.bytes as usize) };
                buffer[param.offset as usize..][..param.bytes as usize].copy_from_slice(value);
            }
        }
        (true, false) => {
            // SAFETY: the caller's.
            let given = unsafe { given_buffer(extra) }?;
            if given.len() < buffer.len() {
                let expected = format!("a buffer of {} bytes", buffer.len());
                return Err(Failure::argument("extra", expected, format!("{} bytes", given.len())));
            }
            let length = buffer.len();
            buffer.copy_from_slice(&given[..length]);
        }
        _ => {
            let got = if params.is_null() { "neither" } else { "both" };
            return Err(Failure::argument("kernelParams", "or else `extra`", got));
        }
    }
    Ok(buffer)
}

/// The buffer that `extra` names.
///
/// # Safety
///
/// The array ends with 0; the buffer has the length that the array says.
unsafe fn given_buffer<'a>(extra: *const *const c_void) -> Result<&'a [u8]> {
    let (mut start, mut length) = (std::ptr::null::<u8>(), 0);
    let mut at = 0;
    loop {
        // SAFETY: the array ends with 0, at which the loop ends.
        let option = unsafe { *extra.add(at) } as usize;
        if option == 0 {
            break;
        }
        // SAFETY: an option is followed by its value.
        let value = unsafe { *extra.add(at + 1) };
        match option {
            BUFFER_POINTER => start = value.cast(),
            // SAFETY: the value points at the length.
            BUFFER_SIZE => length = unsafe { get(value.cast::<usize>(), "extra") }?,
            other => return Err(Failure::argument("extra", "a buffer and its size", other)),
        }
        at += 2;
    }
    match start.is_null() {
        true => Err(Failure::argument("extra", "a buffer", "null")),
        // SAFETY: the caller's.
        false => Ok(unsafe { from_raw_parts(start, length) }),
    }
}

/// Checks what the launch asks for before it is enqueued.
pub(super) fn check(function: &Function, launch: &Launch) -> Result<()> {
    let most = function.max_dynamic_bytes.load(Ordering::Relaxed);
    if launch.dynamic_shared_bytes > most {
        let expected = format!(
            "at most {most} (`{}` can be given more: CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)",
            function.name
        );
        return Err(Failure::argument("sharedMemBytes", expected, launch.dynamic_shared_bytes));
    }
    let num_ctas = launch.cluster.iter().map(|it| u64::from(*it)).product::<u64>();
    let allows_large = function.allows_large_clusters.load(Ordering::Relaxed);
    if num_ctas > PORTABLE_CLUSTER.into() && !allows_large {
        let reason = format!(
            "clusters of {num_ctas} blocks need CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED"
        );
        return Err(Failure::new(Status::INVALID_CLUSTER_SIZE, reason));
    }
    function.module.image.check(&function.name, launch).map_err(|error| match &error {
        LaunchError::Shape { arg: "grid", expected, .. } if expected.contains("cooperative") => {
            Failure::new(Status::COOPERATIVE_LAUNCH_TOO_LARGE, error.to_string())
        }
        _ => launch_failure(error),
    })
}

/// Keeps the type of numbers that the driver API calls `int` in one place.
pub(super) fn int(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}
