//! The driver's error codes, their names and what they mean.

use std::ffi::CStr;

/// A call's result as the caller sees it: `CUresult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($code:literal $name:ident $text:literal;)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $name: Status = Status($code);)*
        }

        impl Status {
            /// Name and meaning; `None` for a number that is none of the driver's.
            #[must_use]
            pub fn describe(self) -> Option<(&'static CStr, &'static CStr)> {
                let name = match self.0 {
                    0 => c"CUDA_SUCCESS",
                    $($code => cstr!(concat!("CUDA_ERROR_", stringify!($name), "\0")),)*
                    _ => return None,
                };
                let text = match self.0 {
                    $($code => cstr!(concat!($text, "\0")),)*
                    _ => c"no error",
                };
                Some((name, text))
            }
        }
    };
}

macro_rules! cstr {
    ($text:expr) => {
        const {
            match CStr::from_bytes_with_nul($text.as_bytes()) {
                Ok(text) => text,
                Err(_) => panic!("the text has one zero byte, at its end"),
            }
        }
    };
}

impl Status {
    /// `CUDA_SUCCESS`.
    pub const SUCCESS: Status = Status(0);

    /// Name of the code.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.describe().and_then(|(name, _)| name.to_str().ok()).unwrap_or("an unknown code")
    }
}

statuses! {
    1 INVALID_VALUE "invalid argument";
    2 OUT_OF_MEMORY "out of memory";
    3 NOT_INITIALIZED "cuInit has not been called";
    4 DEINITIALIZED "the driver is shutting down";
    5 PROFILER_DISABLED "profiling is off";
    6 PROFILER_NOT_INITIALIZED "profiling was not set up";
    7 PROFILER_ALREADY_STARTED "profiling is on already";
    8 PROFILER_ALREADY_STOPPED "profiling is off already";
    34 STUB_LIBRARY "the library is a stub";
    46 DEVICE_UNAVAILABLE "the device is busy or unavailable";
    100 NO_DEVICE "there is no device";
    101 INVALID_DEVICE "no such device";
    102 DEVICE_NOT_LICENSED "the device has no licence";
    200 INVALID_IMAGE "the kernel image is invalid";
    201 INVALID_CONTEXT "no valid context is current";
    202 CONTEXT_ALREADY_CURRENT "the context is current already";
    205 MAP_FAILED "mapping failed";
    206 UNMAP_FAILED "unmapping failed";
    207 ARRAY_IS_MAPPED "the array is mapped";
    208 ALREADY_MAPPED "the resource is mapped already";
    209 NO_BINARY_FOR_GPU "no kernel image for this device";
    210 ALREADY_ACQUIRED "the resource is taken already";
    211 NOT_MAPPED "the resource is not mapped";
    212 NOT_MAPPED_AS_ARRAY "the resource is not mapped as an array";
    213 NOT_MAPPED_AS_POINTER "the resource is not mapped as a pointer";
    214 ECC_UNCORRECTABLE "memory error that cannot be corrected";
    215 UNSUPPORTED_LIMIT "no such limit";
    216 CONTEXT_ALREADY_IN_USE "another thread uses the context";
    217 PEER_ACCESS_UNSUPPORTED "no peer access between these devices";
    218 INVALID_PTX "the PTX cannot be used";
    219 INVALID_GRAPHICS_CONTEXT "the graphics context is invalid";
    220 NVLINK_UNCORRECTABLE "NVLink error that cannot be corrected";
    221 JIT_COMPILER_NOT_FOUND "there is no PTX compiler";
    222 UNSUPPORTED_PTX_VERSION "the PTX is of a version that is not supported";
    223 JIT_COMPILATION_DISABLED "compilation of PTX is off";
    224 UNSUPPORTED_EXEC_AFFINITY "the affinity is not supported";
    225 UNSUPPORTED_DEVSIDE_SYNC "device-side synchronisation is not supported";
    300 INVALID_SOURCE "the device's source is invalid";
    301 FILE_NOT_FOUND "no such file";
    302 SHARED_OBJECT_SYMBOL_NOT_FOUND "a shared object lacks a symbol";
    303 SHARED_OBJECT_INIT_FAILED "a shared object was not initialised";
    304 OPERATING_SYSTEM "a call of the operating system failed";
    400 INVALID_HANDLE "invalid handle";
    401 ILLEGAL_STATE "not in the state for this call";
    402 LOSSY_QUERY "the answer would lose information";
    500 NOT_FOUND "no such symbol";
    600 NOT_READY "not finished yet";
    700 ILLEGAL_ADDRESS "a kernel accessed an illegal address";
    701 LAUNCH_OUT_OF_RESOURCES "the launch needs more resources than there are";
    702 LAUNCH_TIMEOUT "the launch ran for too long";
    703 LAUNCH_INCOMPATIBLE_TEXTURING "the launch uses textures in a way that does not fit";
    704 PEER_ACCESS_ALREADY_ENABLED "peer access is on already";
    705 PEER_ACCESS_NOT_ENABLED "peer access is not on";
    708 PRIMARY_CONTEXT_ACTIVE "the primary context is in use";
    709 CONTEXT_IS_DESTROYED "the context is destroyed";
    710 ASSERT "an assertion failed on the device";
    711 TOO_MANY_PEERS "too many peers";
    712 HOST_MEMORY_ALREADY_REGISTERED "the host memory is registered already";
    713 HOST_MEMORY_NOT_REGISTERED "the host memory is not registered";
    714 HARDWARE_STACK_ERROR "error in the device's stack";
    715 ILLEGAL_INSTRUCTION "illegal instruction";
    716 MISALIGNED_ADDRESS "misaligned address";
    717 INVALID_ADDRESS_SPACE "the address is of another space";
    718 INVALID_PC "invalid program counter";
    719 LAUNCH_FAILED "the launch failed";
    720 COOPERATIVE_LAUNCH_TOO_LARGE "too many blocks for a cooperative launch";
    721 TENSOR_MEMORY_LEAK "tensor memory was not given back";
    800 NOT_PERMITTED "not permitted";
    801 NOT_SUPPORTED "not supported";
    802 SYSTEM_NOT_READY "the system is not ready";
    803 SYSTEM_DRIVER_MISMATCH "the display driver does not fit this library";
    804 COMPAT_NOT_SUPPORTED_ON_DEVICE "the device does not support compatibility mode";
    805 MPS_CONNECTION_FAILED "no connection to the MPS server";
    806 MPS_RPC_FAILURE "a call of the MPS server failed";
    807 MPS_SERVER_NOT_READY "the MPS server is not ready";
    808 MPS_MAX_CLIENTS_REACHED "the MPS server has no room for a client";
    809 MPS_MAX_CONNECTIONS_REACHED "the MPS server has no room for a connection";
    810 MPS_CLIENT_TERMINATED "the MPS client was ended";
    811 CDP_NOT_SUPPORTED "no launches from the device";
    812 CDP_VERSION_MISMATCH "launches from the device of another version";
    900 STREAM_CAPTURE_UNSUPPORTED "not permitted while a stream is captured";
    901 STREAM_CAPTURE_INVALIDATED "the capture was invalidated by an earlier error";
    902 STREAM_CAPTURE_MERGE "two captures would be merged";
    903 STREAM_CAPTURE_UNMATCHED "the capture was not begun on this stream";
    904 STREAM_CAPTURE_UNJOINED "the capture has branches that were not joined";
    905 STREAM_CAPTURE_ISOLATION "a dependency would cross the capture's border";
    906 STREAM_CAPTURE_IMPLICIT "a capture would depend on the default stream";
    907 CAPTURED_EVENT "the event was recorded in a capture";
    908 STREAM_CAPTURE_WRONG_THREAD "the capture was begun by another thread";
    909 TIMEOUT "timed out";
    910 GRAPH_EXEC_UPDATE_FAILURE "the graph differs too much for an update";
    911 EXTERNAL_DEVICE "error of another device";
    912 INVALID_CLUSTER_SIZE "the cluster's size is invalid";
    913 FUNCTION_NOT_LOADED "the function is not loaded";
    914 INVALID_RESOURCE_TYPE "the resource is of another type";
    915 INVALID_RESOURCE_CONFIGURATION "the resource's configuration is invalid";
    916 KEY_ROTATION "a key was changed meanwhile";
    999 UNKNOWN "unknown error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_and_texts() {
        assert_eq!(Status::SUCCESS.describe(), Some((c"CUDA_SUCCESS", c"no error")));
        assert_eq!(Status(700).name(), "CUDA_ERROR_ILLEGAL_ADDRESS");
        assert_eq!(Status(12345).describe(), None);
    }
}
