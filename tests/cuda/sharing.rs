//! Memory of several devices and processes. The second process is this program again.

use std::env;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};

use libtest_mimic::Failed;
use moekit::backend::Buffer;
use moekit::backend::cuda::{Cuda, HandleKind, IpcHandle, MemoryHandle};
use moekit::{Backend, Error, Result};

/// What the second process is to do: the way of its memory and the handle.
const TASK: &str = "MOEKIT_CUDA_TEST_TASK";
const QUESTION: &[u8; 8] = b"question";
const ANSWER: &[u8; 8] = b"answered";
/// Where the answer is, and how large the memory is: no multiple of anything.
const ANSWER_AT: usize = 5000;
const NUM_BYTES: usize = 70_001;

/// The second device if there is one.
fn another() -> Result<Cuda> {
    Cuda::new(1).or_else(|_| Cuda::new(0))
}

fn write(cuda: &Cuda, buffer: &mut impl Buffer, at: usize, bytes: &[u8]) -> Result<()> {
    assert!(at + bytes.len() <= buffer.num_bytes());
    // SAFETY: inside of the buffer, which nothing else uses at this time.
    unsafe { cuda.write(buffer.as_mut_ptr().wrapping_add(at), bytes) }
}

fn read(cuda: &Cuda, buffer: &impl Buffer, at: usize) -> Result<[u8; 8]> {
    assert!(at + 8 <= buffer.num_bytes());
    let mut bytes = [0; 8];
    // SAFETY: as in `write`.
    unsafe { cuda.read(buffer.as_ptr().wrapping_add(at), &mut bytes) }?;
    Ok(bytes)
}

pub fn devices_share(cuda: &Cuda) -> Result<(), Failed> {
    let Ok(other) = Cuda::new(1) else {
        println!("left out: there is one device");
        return Ok(());
    };
    assert!(cuda.can_access_peer(&other)? && other.can_access_peer(cuda)?);
    assert!(!cuda.can_access_peer(cuda)?, "a device is no peer of its own");
    for _ in 0..2 {
        other.enable_peer_access(cuda)?;
    }
    let mut ordinary = cuda.alloc(64)?;
    write(&other, &mut ordinary, 8, QUESTION)?;
    assert_eq!(read(cuda, &ordinary, 8)?, *QUESTION);
    let kind = cuda.handle_kinds()?.first().copied().ok_or("nothing can be exported")?;
    let mut shared = cuda.alloc_shared(NUM_BYTES, kind)?;
    assert_eq!(read(cuda, &shared, NUM_BYTES - 8)?, [0; 8], "it begins with zeros");
    other.allow_access(&shared)?;
    write(&other, &mut shared, NUM_BYTES - 8, QUESTION)?;
    assert_eq!(read(cuda, &shared, NUM_BYTES - 8)?, *QUESTION);
    Ok(())
}

pub fn files_are_imported(cuda: &Cuda) -> Result<(), Failed> {
    exchange(cuda, HandleKind::File)
}

pub fn fabric_handles_are_imported(cuda: &Cuda) -> Result<(), Failed> {
    exchange(cuda, HandleKind::Fabric)
}

/// The second process answers in memory that this one has allocated and exported.
fn exchange(cuda: &Cuda, kind: HandleKind) -> Result<(), Failed> {
    if !cuda.handle_kinds()?.contains(&kind) {
        let refused = cuda.alloc_shared(64, kind).expect_err("the device has no such handles");
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
        return Ok(());
    }
    let mut first = match cuda.alloc_shared(NUM_BYTES, kind) {
        Err(Error::Unavailable { reason, .. }) if kind == HandleKind::Fabric => {
            println!("left out: {reason}");
            return Ok(());
        }
        other => other?,
    };
    write(cuda, &mut first, 0, QUESTION)?;
    let handle = first.export()?;
    let again = cuda.import_shared(&handle, NUM_BYTES)?;
    let task = match &handle {
        MemoryHandle::File(file) => {
            rustix::io::fcntl_setfd(file.as_fd(), rustix::io::FdFlags::empty())?;
            format!("file {}", file.as_raw_fd())
        }
        MemoryHandle::Fabric(bytes) => format!("fabric {}", digits(bytes)),
    };
    run_second_process(&task)?;
    // The memory outlives the one that made it.
    drop(first);
    assert_eq!(read(cuda, &again, ANSWER_AT)?, *ANSWER);
    Ok(())
}

pub fn ordinary_memory_is_opened(cuda: &Cuda) -> Result<(), Failed> {
    let mut buffer = cuda.alloc(NUM_BYTES)?;
    write(cuda, &mut buffer, 0, QUESTION)?;
    let handle = cuda.ipc_handle(&buffer)?;
    run_second_process(&format!("ipc {}", digits(&handle.to_bytes())))?;
    assert_eq!(read(cuda, &buffer, ANSWER_AT)?, *ANSWER);
    Ok(())
}

pub fn wrong_handles_are_refused(cuda: &Cuda) -> Result<(), Failed> {
    let refused = |result: Result<()>, part: &str| {
        let error = result.expect_err("the handle names nothing").to_string();
        assert!(error.contains(part), "{error}");
    };
    let nothing = IpcHandle::from_bytes(&[7; IpcHandle::NUM_BYTES]);
    // SAFETY: it names nothing.
    refused(unsafe { cuda.open_ipc(&nothing) }.map(drop), "cuIpcOpenMemHandle");
    let fabric = MemoryHandle::Fabric([7; 64]);
    refused(cuda.import_shared(&fabric, 64).map(drop), "cuMemImportFromShareableHandle");
    refused(cuda.import_shared(&fabric, 0).map(drop), "`num_bytes` is 0, expected at least 1");
    refused(cuda.alloc_shared(0, HandleKind::File).map(drop), "`num_bytes` is 0");
    refused(cuda.ipc_handle(&cuda.alloc(0)?).map(drop), "`buffer` is 0");
    let handle = cuda.alloc_shared(64, HandleKind::File)?.export()?;
    refused(cuda.import_shared(&handle, 1 << 30).map(drop), "cuMemMap");
    Ok(())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn run_second_process(task: &str) -> Result<(), Failed> {
    let output = Command::new(env::current_exe()?).env(TASK, task).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// What this process is to do if it is the second one.
pub fn task_of_this_process() -> Option<String> {
    env::var(TASK).ok()
}

pub fn second_process(task: &str) -> ExitCode {
    match answer(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{task}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn answer(task: &str) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let cuda = another().map_err(text)?;
    let (way, handle) = task.split_once(' ').ok_or("no handle")?;
    if way == "ipc" {
        let handle = bytes_of(handle).ok_or("no digits")?;
        // SAFETY: the first process waits for this one.
        let buffer = unsafe { cuda.open_ipc(&IpcHandle::from_bytes(&handle)) }.map_err(text)?;
        return exchange_words(&cuda, buffer).map_err(text);
    }
    let handle = match way {
        "file" => {
            let file = handle.parse().map_err(|_| "no number".to_owned())?;
            // SAFETY: the first process left it open for this one.
            MemoryHandle::File(unsafe { OwnedFd::from_raw_fd(file) })
        }
        _ => MemoryHandle::Fabric(bytes_of(handle).ok_or("no digits")?),
    };
    let buffer = cuda.import_shared(&handle, NUM_BYTES).map_err(text)?;
    exchange_words(&cuda, buffer).map_err(text)
}

fn exchange_words(cuda: &Cuda, mut buffer: impl Buffer) -> Result<()> {
    assert_eq!(buffer.num_bytes(), NUM_BYTES);
    assert_eq!(read(cuda, &buffer, 0)?, *QUESTION);
    write(cuda, &mut buffer, ANSWER_AT, ANSWER)
}
