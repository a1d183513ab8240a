//! Structures have the layout of cudarc's bindings, which are generated from NVIDIA's header.

use std::mem::{align_of, offset_of, size_of};

use cudarc::driver::sys;
use vgpu_driver::abi::{
    IpcMemHandle, LaunchAttribute, LaunchConfig, MemAccessDesc, MemAllocationProp, Memcpy2D,
    MemcpySide,
};

#[test]
fn structures_are_laid_out_as_in_c() {
    type Config = sys::CUlaunchConfig_st;
    assert_eq!(size_of::<LaunchConfig>(), size_of::<Config>());
    assert_eq!(offset_of!(LaunchConfig, shared_bytes), offset_of!(Config, sharedMemBytes));
    assert_eq!(offset_of!(LaunchConfig, stream), offset_of!(Config, hStream));
    assert_eq!(offset_of!(LaunchConfig, attributes), offset_of!(Config, attrs));
    assert_eq!(offset_of!(LaunchConfig, num_attributes), offset_of!(Config, numAttrs));
    type Attribute = sys::CUlaunchAttribute_st;
    assert_eq!(size_of::<LaunchAttribute>(), size_of::<Attribute>());
    assert_eq!(offset_of!(LaunchAttribute, value), offset_of!(Attribute, value));
    type Copy = sys::CUDA_MEMCPY2D_st;
    assert_eq!(size_of::<Memcpy2D>(), size_of::<Copy>());
    assert_eq!(offset_of!(Memcpy2D, dst), offset_of!(Copy, dstXInBytes));
    assert_eq!(offset_of!(Memcpy2D, width_in_bytes), offset_of!(Copy, WidthInBytes));
    assert_eq!(offset_of!(MemcpySide, array), offset_of!(Copy, srcArray));
    type Prop = sys::CUmemAllocationProp_st;
    assert_eq!(size_of::<MemAllocationProp>(), size_of::<Prop>());
    assert_eq!(offset_of!(MemAllocationProp, location), offset_of!(Prop, location));
    assert_eq!(offset_of!(MemAllocationProp, flags), offset_of!(Prop, allocFlags));
    assert_eq!(size_of::<MemAccessDesc>(), size_of::<sys::CUmemAccessDesc>());
    assert_eq!(size_of::<IpcMemHandle>(), size_of::<sys::CUipcMemHandle>());
    assert_eq!(size_of::<sys::CUtensorMap>(), vgpu::TENSOR_MAP_BYTES);
    assert!(align_of::<sys::CUtensorMap>() >= 64);
}
