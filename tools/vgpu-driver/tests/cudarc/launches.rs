//! Launches and what they need.

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUfunction_attribute, CUlaunchAttributeID as Id, CUresult};
use cudarc::driver::{CudaFunction, LaunchConfig, PushKernelArg, result};

use crate::child::{in_child, on_vgpu};
use crate::device::{Device, PTX, code, device, one_block};
use crate::memory::address;

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

/// The handle of a kernel of a module of its own.
pub fn function(name: &str) -> sys::CUfunction {
    let text = |text: &str| std::ffi::CString::new(text).expect("no zero byte");
    // SAFETY: text that ends with a zero byte; the module was loaded just now.
    unsafe {
        let module = result::module::load_data(text(PTX).as_ptr().cast()).expect("the module");
        result::module::get_function(module, text(name)).expect("the kernel")
    }
}

/// Launches with attributes and one argument.
fn launch_ex(
    gpu: &Device,
    function: sys::CUfunction,
    grid: u32,
    attributes: &mut [sys::CUlaunchAttribute],
    argument: u64,
) -> CUresult {
    let config = sys::CUlaunchConfig {
        gridDimX: grid,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 1,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: gpu.stream.cu_stream(),
        attrs: attributes.as_mut_ptr(),
        numAttrs: attributes.len() as u32,
    };
    let mut args = [(&raw const argument).cast_mut().cast::<c_void>()];
    // SAFETY: the kernel takes one address.
    unsafe { sys::cuLaunchKernelEx(&config, function, args.as_mut_ptr(), std::ptr::null_mut()) }
}

fn attribute(id: Id, value: [i32; 3]) -> sys::CUlaunchAttribute {
    // SAFETY: numbers, for which zero is a value.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = id;
    let [x, y, z] = value.map(|it| it as u32);
    attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
    attribute
}

/// Launches `shares` with this much dynamic shared memory.
fn share(gpu: &Device, shares: &CudaFunction, out: u64, bytes: u32) -> CUresult {
    let mut args = gpu.stream.launch_builder(shares);
    args.arg(&out);
    let config = LaunchConfig { shared_mem_bytes: bytes, ..one_block(1) };
    // SAFETY: the kernel writes one word at `out`.
    code(unsafe { args.launch(config) })
}

/// Lets the stream wait for the fourth word, so that work is there before it begins.
fn hold(gpu: &Device, words: u64) {
    // SAFETY: live memory.
    let answer = unsafe { sys::cuStreamWaitValue32_v2(gpu.stream.cu_stream(), words + 12, 1, 1) };
    assert_eq!(answer, OK);
}

fn release(gpu: &Device, words: u64) {
    let other = gpu.context.new_stream().unwrap();
    // SAFETY: live memory.
    let answer = unsafe { sys::cuStreamWriteValue32_v2(other.cu_stream(), words + 12, 1, 0) };
    assert_eq!(answer, OK);
    other.synchronize().unwrap();
}

/// `goes_ahead` and `follows`, which may overlap it: what they leave.
fn overlapping_launches() -> Vec<u32> {
    let gpu = device();
    let (first, second) = (function("goes_ahead"), function("follows"));
    let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
    // The safe layer marks each use with an event, which would stand between the launches.
    let at = address(&words);
    gpu.stream.synchronize().unwrap();
    hold(&gpu, at);
    let overlap = attribute(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, [1, 0, 0]);
    assert_eq!(launch_ex(&gpu, first, 1, &mut [], at), OK);
    assert_eq!(launch_ex(&gpu, second, 2, &mut [overlap], at), OK);
    release(&gpu, at);
    gpu.stream.synchronize().unwrap();
    gpu.stream.clone_dtoh(&words).unwrap()[..3].to_vec()
}

#[test]
fn an_overlapping_launch_begins_early_and_waits_when_it_says_so() {
    let path =
        concat!(module_path!(), "::an_overlapping_launch_begins_early_and_waits_when_it_says_so");
    for mode in ["latest", "random:5"] {
        in_child(path, &[("VGPU_ASYNC", mode)], || {
            assert_eq!(overlapping_launches(), [1, 0, 1], "it began before the one in front wrote");
            // A chain: each is behind one that has not ended.
            let gpu = device();
            let follows = function("follows");
            let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
            gpu.stream.synchronize().unwrap();
            let first = function("goes_ahead");
            let at = address(&words);
            hold(&gpu, at);
            assert_eq!(launch_ex(&gpu, first, 3, &mut [], at), OK);
            for _ in 0..5 {
                let id = Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
                let overlap = attribute(id, [1, 0, 0]);
                assert_eq!(launch_ex(&gpu, follows, 2, &mut [overlap], at), OK);
            }
            gpu.launch(&gpu.stream, "add", at, &1u32);
            release(&gpu, at);
            gpu.stream.synchronize().unwrap();
            let left = gpu.stream.clone_dtoh(&words).unwrap();
            assert_eq!(left[..3], [33, 1, 1], "the last saw it all");
        });
    }
}

on_vgpu! {
    fn a_kernel_computes_and_copies_bring_the_result() {
        let gpu = device();
        let scale = gpu.kernel("scale");
        let input: Vec<f32> = (0..1000).map(|i| i as f32 / 4.0).collect();
        let on_device = gpu.stream.clone_htod(&input).unwrap();
        let mut out = gpu.stream.alloc_zeros::<f32>(1000).unwrap();
        let mut launch = gpu.stream.launch_builder(&scale);
        launch.arg(&mut out).arg(&on_device).arg(&2.0f32).arg(&1000u32);
        // SAFETY: the kernel's parameters.
        unsafe { launch.launch(LaunchConfig::for_num_elems(1000)) }.unwrap();
        let result = gpu.stream.clone_dtoh(&out).unwrap();
        let expected: Vec<f32> = (0..1000).map(|i| i as f32 * 1.5).collect();
        assert_eq!(result, expected);
    }

    fn clusters_and_overlap_come_as_attributes() {
        let gpu = device();
        let ranks = function("ranks");
        let out = gpu.stream.alloc_zeros::<u32>(6).unwrap();
        let cluster = attribute(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, [3, 1, 1]);
        let overlap = attribute(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, [1, 0, 0]);
        assert_eq!(launch_ex(&gpu, ranks, 6, &mut [cluster, overlap], address(&out)), OK);
        // The module's counter is 7.
        assert_eq!(gpu.stream.clone_dtoh(&out).unwrap(), [7, 8, 9, 7, 8, 9]);
        let refused = launch_ex(&gpu, ranks, 5, &mut [cluster], address(&out));
        assert_eq!(refused, CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, "5 blocks in threes");
        let large = attribute(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, [16, 1, 1]);
        let refused = launch_ex(&gpu, ranks, 16, &mut [large], address(&out));
        assert_eq!(refused, CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, "not portable");
        let event = attribute(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT, [0; 3]);
        let lacking = launch_ex(&gpu, ranks, 1, &mut [event], address(&out));
        assert_eq!(lacking, CUresult::CUDA_ERROR_NOT_SUPPORTED);
    }

    fn launches_run_one_after_the_other_by_default() {
        assert_eq!(overlapping_launches(), [1, 1, 1]);
    }

    fn a_cooperative_grid_has_a_workspace_and_fits_the_device() {
        let gpu = device();
        let workspace = function("workspace");
        let out = gpu.stream.alloc_zeros::<u32>(3).unwrap();
        let cooperative = attribute(Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, [1, 0, 0]);
        assert_eq!(launch_ex(&gpu, workspace, 1, &mut [cooperative], address(&out)), OK);
        let [low, high, barrier] = gpu.stream.clone_dtoh(&out).unwrap()[..] else { panic!() };
        assert!(low != 0 || high != 0);
        assert_eq!(barrier, 0);
        // 132 multiprocessors hold 32 blocks each.
        let refused = launch_ex(&gpu, workspace, 132 * 32 + 1, &mut [cooperative], address(&out));
        assert_eq!(refused, CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    }

    fn much_shared_memory_must_be_asked_for() {
        let gpu = device();
        let shares = gpu.kernel("shares");
        let out = gpu.stream.alloc_zeros::<u32>(1).unwrap();
        assert_eq!(share(&gpu, &shares, address(&out), 48 * 1024), OK);
        assert_eq!(share(&gpu, &shares, address(&out), 48 * 1024 + 4), INVALID);
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        shares.set_attribute(attribute, 227 * 1024).unwrap();
        assert_eq!(code(shares.set_attribute(attribute, 227 * 1024 + 1)), INVALID);
        assert_eq!(shares.get_attribute(attribute).unwrap(), 227 * 1024);
        assert_eq!(share(&gpu, &shares, address(&out), 227 * 1024), OK);
        assert_eq!(gpu.stream.clone_dtoh(&out).unwrap(), [227 * 1024]);
    }

    fn wrong_launches_are_refused_before_they_start() {
        let gpu = device();
        let add = function("add");
        let stream = gpu.stream.cu_stream();
        let value = 0u64;
        let mut args = [(&raw const value).cast_mut().cast::<c_void>(), std::ptr::null_mut()];
        let mut launch = |function, grid, block, with_args: bool| {
            let args = if with_args { args.as_mut_ptr() } else { std::ptr::null_mut() };
            // SAFETY: refused.
            unsafe {
                let none = std::ptr::null_mut();
                sys::cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, args, none)
            }
        };
        assert_eq!(launch(add, 1, 32, true), INVALID, "a null parameter");
        assert_eq!(launch(add, 1, 32, false), INVALID, "no parameters");
        args[1] = (&raw const value).cast_mut().cast();
        let mut launch = |function, grid, block| {
            // SAFETY: refused.
            unsafe {
                let none = std::ptr::null_mut();
                let args = args.as_mut_ptr();
                sys::cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, args, none)
            }
        };
        assert_eq!(launch(add, 0, 32), INVALID);
        assert_eq!(launch(add, 1, 1025), INVALID);
        assert_eq!(launch(0x99 as _, 1, 32), CUresult::CUDA_ERROR_INVALID_HANDLE);
        gpu.stream.synchronize().unwrap();
    }

    fn parameters_can_come_as_a_buffer() {
        let gpu = device();
        let words = gpu.stream.alloc_zeros::<u32>(1).unwrap();
        let mut buffer = [0u8; 12];
        buffer[..8].copy_from_slice(&address(&words).to_le_bytes());
        buffer[8..].copy_from_slice(&2u32.to_le_bytes());
        let mut launch = |bytes: usize| {
            let (start, length) = (buffer.as_mut_ptr().cast(), (&raw const bytes).cast_mut().cast());
            let mut extra: [*mut c_void; 5] = [1 as _, start, 2 as _, length, 0 as _];
            let (stream, none) = (gpu.stream.cu_stream(), std::ptr::null_mut());
            // SAFETY: the buffer holds the kernel's parameters.
            unsafe {
                let extra = extra.as_mut_ptr();
                sys::cuLaunchKernel(function("add"), 1, 1, 1, 32, 1, 1, 0, stream, none, extra)
            }
        };
        assert_eq!(launch(11), INVALID);
        assert_eq!(launch(12), OK);
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [64]);
    }

    fn occupancy_follows_threads_and_shared_memory() {
        let gpu = device();
        let scale = gpu.kernel("scale");
        let blocks = |threads, bytes| {
            scale.occupancy_max_active_blocks_per_multiprocessor(threads, bytes, None).unwrap()
        };
        assert_eq!([blocks(1024, 0), blocks(32, 0), blocks(96, 0)], [2, 32, 21]);
        assert_eq!([blocks(128, 100 * 1024), blocks(128, 228 * 1024)], [2, 0]);
    }
}
