//! The library as cudarc drives it.

mod support;

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaModule, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use support::in_child;

const PTX: &str = include_str!("ptx/basic.ptx");

fn module() -> (Arc<CudaContext>, Arc<CudaModule>) {
    let context = CudaContext::new(0).expect("a device");
    let module = context.load_module(Ptx::from_src(PTX)).expect("the module loads");
    (context, module)
}

#[test]
fn a_kernel_computes_and_copies_bring_the_result() {
    in_child("a_kernel_computes_and_copies_bring_the_result", &[], || {
        let (context, module) = module();
        let stream = context.new_stream().unwrap();
        let scale = module.load_function("scale").unwrap();
        let input: Vec<f32> = (0..1000).map(|i| i as f32 / 4.0).collect();
        let on_device = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<f32>(1000).unwrap();
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut out).arg(&on_device).arg(&2.0f32).arg(&1000u32);
        unsafe { launch.launch(LaunchConfig::for_num_elems(1000)) }.unwrap();
        let result = stream.clone_dtoh(&out).unwrap();
        stream.synchronize().unwrap();
        let expected: Vec<f32> = (0..1000).map(|i| i as f32 * 1.5).collect();
        assert_eq!(result, expected);
    });
}
