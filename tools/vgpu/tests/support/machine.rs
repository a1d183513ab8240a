//! Kernels of threads that compute and store a word each.

use super::Gpu;

pub const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// A kernel `k` with two buffers in `%a` and `%b`, the thread in `%me`, and `%p`, `%r`, `%rd`, `%f`.
pub fn kernel(body: &str) -> String {
    format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n\
         .reg .b64 %a, %b, %rd<16>; .reg .b32 %me, %r<32>; .reg .pred %p<8>; .reg .f32 %f<8>;\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n{body}\nret;\n}}\n"
    )
}

/// `st b[tid] = register`.
pub fn store(register: &str) -> String {
    format!(
        "mul.wide.u32 %rd15, %me, 4;\nadd.u64 %rd15, %b, %rd15;\nst.global.u32 [%rd15], {register};\n"
    )
}

/// Runs `body`, which stores one word per thread.
pub fn words(body: &str, threads: u32, input: &[u32]) -> Vec<u32> {
    let gpu = Gpu::new(&kernel(body));
    let (a, b) = (gpu.upload(input), gpu.upload(&vec![0u32; threads as usize]));
    gpu.run("k", 1, threads, &[a, b]);
    gpu.download(b, threads as usize)
}
