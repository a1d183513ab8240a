//! Counts of launches, in a file and for the program itself.

use std::ffi::{c_char, c_int};

use cudarc::driver::sys::{self, CUresult};
use serde_json::Value;

use crate::child::{in_child, on_vgpu};
use crate::device::{Device, device};

fn add_once(gpu: &Device) {
    let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
    gpu.launch(&gpu.stream, "add", crate::memory::address(&words), &1u32);
    gpu.stream.synchronize().unwrap();
}

/// A launch of `add`: every thread adds to the same word.
fn check_add(launch: &Value) {
    assert_eq!(launch["kernel"], "add");
    assert_eq!(launch["block"], serde_json::json!([32, 1, 1]));
    assert_eq!(launch["instructions"], 4);
    assert_eq!(launch["classes"]["atomic"], 1);
    assert_eq!(launch["bytes"]["global"], serde_json::json!({ "read": 128, "written": 128 }));
    assert_eq!(launch["global_sectors"], 1);
}

#[test]
fn every_launch_is_a_line_of_the_file() {
    let path = concat!(module_path!(), "::every_launch_is_a_line_of_the_file");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("counts.jsonl");
    let run = || {
        let gpu = device();
        add_once(&gpu);
        add_once(&gpu);
    };
    if in_child(path, &[("VGPU_COUNTS", file.to_str().unwrap())], run).is_none() {
        return;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let launches: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(launches.len(), 2, "{text}");
    launches.iter().for_each(check_add);
    assert_eq!([&launches[0]["launch"], &launches[1]["launch"]], [0, 1]);
}

type CountLaunches = unsafe extern "C" fn(c_int) -> CUresult;
type TakeCounts = unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> CUresult;

/// The counts so far, through a buffer of `length` bytes, and how many bytes they need.
fn take(length: usize) -> (String, usize) {
    let (mut buffer, mut needed) = (vec![0u8; length], 0);
    // SAFETY: the library has the function; the buffer is as long as it says.
    unsafe {
        let call = sys::culib().get::<TakeCounts>(b"vgpuTakeCounts").unwrap();
        let answer = call(buffer.as_mut_ptr().cast(), length, &mut needed);
        assert_eq!(answer, CUresult::CUDA_SUCCESS);
    }
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
    buffer.truncate(end);
    (String::from_utf8(buffer).unwrap(), needed)
}

on_vgpu! {
    fn a_program_reads_the_counts_of_its_own_launches() {
        let gpu = device();
        // SAFETY: the library has the functions.
        let count = |on| unsafe {
            sys::culib().get::<CountLaunches>(b"vgpuCountLaunches").unwrap()(on)
        };
        add_once(&gpu);
        assert_eq!(count(1), CUresult::CUDA_SUCCESS);
        add_once(&gpu);
        let (_, needed) = take(0);
        assert_eq!(take(needed - 1), (String::new(), needed), "nothing is lost in a short buffer");
        let (text, again) = take(needed);
        assert_eq!(again, needed);
        let launches: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(launches.len(), 1);
        check_add(&launches[0]);
        assert_eq!(take(16), ("[]".to_owned(), 3), "they were taken");
        assert_eq!(count(0), CUresult::CUDA_SUCCESS);
        add_once(&gpu);
        assert_eq!(take(16).0, "[]");
    }
}
