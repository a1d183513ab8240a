//! Counts of the launches that a test makes, from the virtual GPU.

use std::ffi::{c_char, c_int};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys;
use serde_json::Value;

type CountLaunches = unsafe extern "C" fn(c_int) -> u32;
type TakeCounts = unsafe extern "C" fn(*mut c_char, usize, *mut usize) -> u32;

/// Whether the driver counts: it does if it is the virtual GPU's. A driver must be open.
pub fn can_count() -> bool {
    // SAFETY: only looked up.
    unsafe { sys::culib().get::<TakeCounts>(b"vgpuTakeCounts") }.is_ok()
}

/// Runs `launch`, which waits for its kernels, and returns their counts in the order of their ends:
/// objects as docs/vgpu.md describes them. One test at a time is in here; launches that others make
/// meanwhile are counted too.
pub fn counted<T>(launch: impl FnOnce() -> T) -> (T, Vec<Value>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    count(true);
    let result = launch();
    let counts = take();
    count(false);
    (result, counts)
}

fn count(is_on: bool) {
    // SAFETY: the function is the virtual GPU's, of this type.
    let answer = unsafe {
        let call = sys::culib().get::<CountLaunches>(b"vgpuCountLaunches");
        call.expect("the driver should be the virtual GPU's")(is_on.into())
    };
    assert_eq!(answer, 0, "vgpuCountLaunches");
}

fn take() -> Vec<Value> {
    // SAFETY: as above.
    let call = unsafe { sys::culib().get::<TakeCounts>(b"vgpuTakeCounts") };
    let call = call.expect("the driver should be the virtual GPU's");
    let (mut buffer, mut needed) = (Vec::new(), 1);
    while buffer.len() < needed {
        buffer.resize(needed, 0u8);
        // SAFETY: the buffer is as long as it says.
        let answer = unsafe { call(buffer.as_mut_ptr().cast(), buffer.len(), &mut needed) };
        assert_eq!(answer, 0, "vgpuTakeCounts");
    }
    serde_json::from_slice(&buffer[..needed - 1]).expect("the virtual GPU should write JSON")
}
