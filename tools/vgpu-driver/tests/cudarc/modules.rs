//! Modules.

use std::ffi::{CString, c_void};

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUfunction_attribute, CUjit_option, CUresult};

use crate::child::{in_child, on_vgpu};
use crate::device::{PTX, code, device};

fn load(image: &[u8]) -> CUresult {
    // SAFETY: a binary, or text that ends with a zero byte.
    code(unsafe { result::module::load_data(image.as_ptr().cast()) })
}

on_vgpu! {
    fn machine_code_is_not_for_this_device() {
        let _gpu = device();
        assert_eq!(load(b"\x7fELF\x02\x01\x01"), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
        assert_eq!(load(b"\xff\xfe\0"), CUresult::CUDA_ERROR_INVALID_IMAGE);
        assert_eq!(load(b"no ptx\0"), CUresult::CUDA_ERROR_INVALID_PTX);
    }

    fn variables_and_kernels_are_found_by_name() {
        let gpu = device();
        // SAFETY: live memory, handles and strings.
        unsafe {
            let ptx = CString::new(PTX).unwrap();
            let module = result::module::load_data(ptx.as_ptr().cast()).unwrap();
            let (start, bytes) = result::module::get_global(module, CString::new("counter").unwrap()).unwrap();
            let mut value = [0u32];
            result::memcpy_dtoh_sync(&mut value, start).unwrap();
            assert_eq!((bytes, value), (4, [7]));
            let missing = || CString::new("missing").unwrap();
            let not_found = CUresult::CUDA_ERROR_NOT_FOUND;
            assert_eq!(code(result::module::get_global(module, missing())), not_found);
            assert_eq!(code(result::module::get_function(module, missing())), not_found);
            let name = CString::new("scale").unwrap();
            let function = result::module::get_function(module, name).unwrap();
            let (mut offset, mut size) = (0, 0);
            assert_eq!(sys::cuFuncGetParamInfo(function, 3, &mut offset, &mut size), CUresult::CUDA_SUCCESS);
            assert_eq!((offset, size), (20, 4));
            assert_eq!(sys::cuFuncGetParamInfo(function, 4, &mut offset, &mut size), CUresult::CUDA_ERROR_INVALID_VALUE);
            result::module::unload(module).unwrap();
            assert_eq!(code(result::module::unload(module)), CUresult::CUDA_ERROR_INVALID_HANDLE);
            let mut info = 0;
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
            let gone = sys::cuFuncGetAttribute(&mut info, attribute, function);
            assert_eq!(gone, CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        drop(gpu);
    }
}

#[test]
fn all_that_is_unsupported_is_listed_in_the_log_and_on_stderr() {
    let path =
        concat!(module_path!(), "::all_that_is_unsupported_is_listed_in_the_log_and_on_stderr");
    let output = in_child(path, &[], || {
        let _gpu = device();
        let ptx = CString::new(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry f()\n{\n\
             .reg .b32 %a, %b;\nfrobnicate.b32 %a, %b;\nadd.u32 %a, %a, %b;\ntwiddle.u32 %a;\nret;\n}\n",
        )
        .unwrap();
        let mut log = [0u8; 4096];
        type Option = CUjit_option;
        let mut options =
            [Option::CU_JIT_ERROR_LOG_BUFFER, Option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as *mut c_void];
        let mut module = std::ptr::null_mut();
        // SAFETY: text that ends with a zero byte, and a log of the length that is said.
        let answer = unsafe {
            let image = ptx.as_ptr().cast();
            sys::cuModuleLoadDataEx(
                &mut module,
                image,
                2,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_PTX);
        let log = String::from_utf8_lossy(&log[..values[1] as usize - 1]).into_owned();
        assert!(log.contains("line 7") && log.contains("frobnicate"), "{log}");
        assert!(log.contains("line 9") && log.contains("twiddle"), "{log}");
    });
    if let Some(output) = output {
        assert!(output.contains("frobnicate") && output.contains("twiddle"), "{output}");
    }
}
