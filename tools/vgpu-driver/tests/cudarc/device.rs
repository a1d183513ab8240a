//! What the tests share: a device with the test module.

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchArgs, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::Ptx;

pub const PTX: &str = include_str!("../ptx/basic.ptx");

/// A context with the test module.
pub struct Device {
    pub context: Arc<CudaContext>,
    pub module: Arc<CudaModule>,
    pub stream: Arc<CudaStream>,
}

pub fn device() -> Device {
    let context = CudaContext::new(0).expect("a device");
    let module = context.load_module(Ptx::from_src(PTX)).expect("the module loads");
    let stream = context.new_stream().expect("a stream");
    Device { context, module, stream }
}

impl Device {
    pub fn kernel(&self, name: &str) -> CudaFunction {
        self.module.load_function(name).expect("a kernel of the module")
    }

    /// Launches `name(address, value)` with one block of `threads`.
    pub fn launch<T: DeviceRepr>(&self, stream: &CudaStream, name: &str, address: u64, value: &T) {
        let kernel = self.kernel(name);
        let mut args: LaunchArgs<'_> = stream.launch_builder(&kernel);
        args.arg(&address).arg(value);
        // SAFETY: the kernels take an address and a value; faults are what some tests want.
        unsafe { args.launch(one_block(32)) }.expect("the launch is enqueued");
    }
}

pub fn one_block(threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// A call's answer as an error code.
pub fn code<T>(result: Result<T, cudarc::driver::DriverError>) -> CUresult {
    result.map_or_else(|error| error.0, |_| CUresult::CUDA_SUCCESS)
}
