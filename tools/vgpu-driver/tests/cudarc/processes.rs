//! Memory that two processes share.

use std::env;
use std::process::Command;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult};

use crate::child::on_vgpu;
use crate::device::{Device, code, device};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const LAZY: u32 = 1;
/// The handle, for the second process.
const HANDLE: &str = "VGPU_DRIVER_TEST_HANDLE";

fn open(handle: sys::CUipcMemHandle) -> Result<u64, CUresult> {
    let mut address = 0;
    // SAFETY: a live pointer; wrong handles are refused.
    match unsafe { sys::cuIpcOpenMemHandle_v2(&mut address, handle, LAZY) } {
        OK => Ok(address),
        error => Err(error),
    }
}

/// What the second process does.
fn second_process(gpu: &Device, text: &str) {
    let mut handle = sys::CUipcMemHandle { reserved: [0; 64] };
    for (byte, digits) in handle.reserved.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap();
        *byte = u8::from_str_radix(digits, 16).unwrap() as _;
    }
    let address = open(handle).unwrap();
    assert_eq!(open(handle), Ok(address));
    // The first process waits for this flag, and this one for the answer behind it.
    gpu.launch(&gpu.stream, "add", address, &1u32);
    gpu.launch(&gpu.stream, "wait_for", address + 4, &0u32);
    gpu.stream.synchronize().unwrap();
    // SAFETY: the memory is not used any more.
    unsafe {
        assert_eq!(sys::cuMemFree_v2(address), INVALID);
        assert_eq!(sys::cuIpcCloseMemHandle(address), OK);
        assert_eq!(sys::cuIpcCloseMemHandle(address), OK);
        assert_eq!(sys::cuIpcCloseMemHandle(address), INVALID);
        let mut value = [0u32];
        assert_eq!(code(result::memcpy_dtoh_sync(&mut value, address)), INVALID);
    }
}

/// Handle of an event, for the second process.
const EVENT: &str = "VGPU_DRIVER_TEST_EVENT";

fn digits(bytes: &[std::ffi::c_char; 64]) -> String {
    bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect()
}

/// What the second process does: its stream goes on when the first process's kernel is over.
fn wait_for_event(gpu: &Device, event: &str, memory: &str) {
    let read = |text: &str| {
        let mut bytes = [0; 64];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap() as _;
        }
        bytes
    };
    let words = open(sys::CUipcMemHandle { reserved: read(memory) }).unwrap();
    let mut opened = std::ptr::null_mut();
    // SAFETY: live handles and memory.
    unsafe {
        let wrong = sys::CUipcEventHandle { reserved: read(memory) };
        assert_eq!(sys::cuIpcOpenEventHandle(&mut opened, wrong), INVALID, "a handle of memory");
        let handle = sys::CUipcEventHandle { reserved: read(event) };
        assert_eq!(sys::cuIpcOpenEventHandle(&mut opened, handle), OK);
        assert_eq!(sys::cuEventQuery(opened), CUresult::CUDA_ERROR_NOT_READY);
        assert_eq!(sys::cuStreamWaitEvent(gpu.stream.cu_stream(), opened, 0), OK);
        gpu.launch(&gpu.stream, "add", words + 8, &1u32);
        // The first process's kernel waits for this.
        result::memset_d8_sync(words, 1, 1).unwrap();
        gpu.stream.synchronize().unwrap();
        assert_eq!(sys::cuEventSynchronize(opened), OK);
        assert_eq!(sys::cuEventQuery(opened), OK);
        let mut values = [0u32; 3];
        result::memcpy_dtoh_sync(&mut values, words).unwrap();
        assert_eq!(values, [1, 1, 32], "the kernel in front has written");
        assert_eq!(sys::cuEventDestroy_v2(opened), OK);
    }
}

on_vgpu! {
    fn a_stream_waits_for_an_event_of_another_process() {
        let gpu = device();
        if let Ok(event) = env::var(EVENT) {
            return wait_for_event(&gpu, &event, &env::var(HANDLE).unwrap());
        }
        // SAFETY: memory and handles live until the end.
        unsafe {
            let start = result::malloc_sync(4096).unwrap();
            result::memset_d8_sync(start, 0, 4096).unwrap();
            let mut memory = sys::CUipcMemHandle { reserved: [0; 64] };
            assert_eq!(sys::cuIpcGetMemHandle(&mut memory, start), OK);
            let (mut event, mut plain) = (std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(sys::cuEventCreate(&mut event, 4), INVALID, "it cannot keep the time");
            assert_eq!(sys::cuEventCreate(&mut event, 2 | 4), OK);
            assert_eq!(sys::cuEventCreate(&mut plain, 2), OK);
            let mut handle = sys::CUipcEventHandle { reserved: [0; 64] };
            assert_eq!(sys::cuIpcGetEventHandle(&mut handle, plain), INVALID);
            assert_eq!(sys::cuIpcGetEventHandle(&mut handle, event), OK);
            gpu.launch(&gpu.stream, "wait_for", start, &0u32);
            assert_eq!(sys::cuEventRecord(event, gpu.stream.cu_stream()), OK);
            let mut args = env::args();
            let mut second = Command::new(args.next().unwrap());
            let second = second.args(args).env(EVENT, digits(&handle.reserved));
            let mut second = second.env(HANDLE, digits(&memory.reserved)).spawn().unwrap();
            assert!(second.wait().unwrap().success());
            assert_eq!(sys::cuEventQuery(event), OK);
        }
    }

    fn kernels_of_two_processes_wait_for_each_other() {
        let gpu = device();
        if let Ok(handle) = env::var(HANDLE) {
            return second_process(&gpu, &handle);
        }
        // SAFETY: memory lives until the end.
        unsafe {
            let start = result::malloc_sync(4096).unwrap();
            result::memset_d8_sync(start, 0, 4096).unwrap();
            let mut handle = sys::CUipcMemHandle { reserved: [0; 64] };
            assert_eq!(sys::cuIpcGetMemHandle(&mut handle, start + 100), OK);
            assert_eq!(open(handle), Err(CUresult::CUDA_ERROR_INVALID_CONTEXT), "its own memory");
            assert_eq!(open(sys::CUipcMemHandle { reserved: [1; 64] }), Err(INVALID));
            let digits: String =
                handle.reserved.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
            let mut args = env::args();
            let mut second = Command::new(args.next().unwrap());
            let mut second = second.args(args).env(HANDLE, digits).spawn().unwrap();
            gpu.launch(&gpu.stream, "wait_for", start, &0u32);
            gpu.stream.synchronize().unwrap();
            assert!(second.wait().unwrap().success());
            let mut words = [0u32; 3];
            result::memcpy_dtoh_sync(&mut words, start).unwrap();
            assert_eq!(words, [32, 1, 1]);
        }
    }
}
