//! Launches: grid, clusters, cooperative and overlapping ones.

use std::ffi::c_void;
use std::mem::zeroed;

use cudarc::driver::sys;
use cudarc::driver::sys::CUlaunchAttributeID as Id;

use super::{Kernel, Stream, call};
use crate::error::Result;

/// How a kernel is spread over the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// CTAs.
    pub num_ctas: u32,
    /// Threads of a CTA.
    pub num_threads: u32,
    /// Dynamic shared memory of a CTA, in bytes.
    pub shared_bytes: u32,
    /// CTAs of a cluster; 1 = no clusters.
    pub cluster_len: u32,
    /// Whether all CTAs run at once, so that they may wait for each other.
    pub is_cooperative: bool,
    /// Whether the kernel may start before the one in front of it ends; it then waits by itself.
    pub overlaps_previous: bool,
}

impl Launch {
    /// CTAs without shared memory, in any order.
    pub const fn new(num_ctas: u32, num_threads: u32) -> Self {
        Self {
            num_ctas,
            num_threads,
            shared_bytes: 0,
            cluster_len: 1,
            is_cooperative: false,
            overlaps_previous: false,
        }
    }

    fn attributes(&self) -> ([sys::CUlaunchAttribute; 3], u32) {
        // SAFETY: integers and arrays of them, for which zero is a value.
        let mut attributes: [sys::CUlaunchAttribute; 3] = unsafe { zeroed() };
        let mut num = 0;
        let mut add = |id, value| {
            attributes[num].id = id;
            attributes[num].value = value;
            num += 1;
        };
        if self.cluster_len > 1 {
            let dim =
                sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: self.cluster_len, y: 1, z: 1 };
            let value = sys::CUlaunchAttributeValue { clusterDim: dim };
            add(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value);
        }
        if self.is_cooperative {
            let value = sys::CUlaunchAttributeValue { cooperative: 1 };
            add(Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value);
        }
        if self.overlaps_previous {
            let value = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
            add(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, value);
        }
        (attributes, num as u32)
    }

    /// Enqueues `kernel` with its one parameter; a grid without CTAs is left out.
    ///
    /// # Safety
    ///
    /// `P` is the kernel's parameter struct, and every device pointer in it is live, until the
    /// stream has passed, and large enough for the extents that it states.
    pub unsafe fn enqueue<P: Copy>(
        &self,
        op: &'static str,
        stream: &Stream,
        kernel: Kernel,
        params: &P,
    ) -> Result<()> {
        if self.num_ctas == 0 {
            return Ok(());
        }
        stream.context().bind()?;
        let (mut attributes, num_attributes) = self.attributes();
        let config = sys::CUlaunchConfig {
            gridDimX: self.num_ctas,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: self.num_threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: self.shared_bytes,
            hStream: stream.handle(),
            attrs: attributes.as_mut_ptr(),
            numAttrs: num_attributes,
        };
        let mut args = [(&raw const *params).cast_mut().cast::<c_void>()];
        let no_extra = std::ptr::null_mut();
        // SAFETY: the caller vouches for the parameters, which the driver copies before it returns;
        // configuration and attributes live until then.
        let answer =
            unsafe { sys::cuLaunchKernelEx(&config, kernel.function, args.as_mut_ptr(), no_extra) };
        call(op, "cuLaunchKernelEx", answer.result())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_becomes_an_attribute() {
        assert_eq!(Launch::new(3, 128).attributes().1, 0);
        let launch = Launch { cluster_len: 8, overlaps_previous: true, ..Launch::new(8, 1024) };
        let (attributes, num) = launch.attributes();
        let ids: Vec<_> = attributes[..num as usize].iter().map(|it| it.id).collect();
        let wanted = [
            Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        ];
        assert_eq!(ids, wanted);
        // SAFETY: written as this member.
        assert_eq!(unsafe { attributes[0].value.clusterDim.x }, 8);
        let launch = Launch { is_cooperative: true, ..Launch::new(1, 32) };
        assert_eq!(launch.attributes().0[0].id, Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
    }
}
