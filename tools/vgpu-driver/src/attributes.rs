//! What a device says about itself: an H100 SXM, but for what the settings change and what the
//! virtual GPU does not do.

use vgpu::MAX_SHARED_BYTES;

use crate::settings::settings;

/// Registers of a streaming multiprocessor, and the most that a block can have.
pub const NUM_REGISTERS: i32 = 65_536;
/// Threads of a streaming multiprocessor.
pub const MAX_SM_THREADS: i32 = 2048;

/// Attributes with a value other than zero that no setting changes: `CUdevice_attribute` and value.
const FIXED: [(u32, i32); 94] = [
    // Threads of a block; extents of blocks and grids.
    (1, 1024),
    (2, 1024),
    (3, 1024),
    (4, 64),
    (5, i32::MAX),
    (6, 65_535),
    (7, 65_535),
    // Shared memory of a block, constant memory, warp, pitch, registers of a block.
    (8, 49_152),
    (9, 65_536),
    (10, 32),
    (11, i32::MAX),
    (12, NUM_REGISTERS),
    // Clock in kHz, texture alignment, overlap, mapped host memory.
    (13, 1_980_000),
    (14, 512),
    (15, 1),
    (19, 1),
    // Largest textures and surfaces.
    (21, 131_072),
    (22, 131_072),
    (23, 65_536),
    (24, 16_384),
    (25, 16_384),
    (26, 16_384),
    (27, 32_768),
    (28, 32_768),
    (29, 2048),
    (30, 512),
    (42, 32_768),
    (43, 2048),
    (45, 32_768),
    (46, 32_768),
    (47, 8192),
    (48, 8192),
    (49, 32_768),
    (51, 32),
    (52, 32_768),
    (53, 32_768),
    (54, 2046),
    (55, 32_768),
    (56, 131_072),
    (57, 65_536),
    (58, 16_384),
    (59, 16_384),
    (60, 16_384),
    (61, 32_768),
    (62, 2048),
    (63, 32_768),
    (64, 32_768),
    (65, 2048),
    (66, 32_768),
    (67, 32_768),
    (68, 2046),
    (69, 268_435_456),
    (70, 131_072),
    (71, 65_000),
    (72, 2_097_120),
    (73, 32_768),
    (74, 32_768),
    (77, 32_768),
    // Kernels beside each other, ECC, memory clock in kHz and width in bits, L2 cache.
    (31, 1),
    (32, 1),
    (36, 2_619_000),
    (37, 5120),
    (38, 52_428_800),
    // Threads of a multiprocessor, copy engines, one address space.
    (39, MAX_SM_THREADS),
    (40, 3),
    (41, 1),
    // Compute capability 9.0, priorities, caches of global and local memory.
    (75, 9),
    (76, 0),
    (78, 1),
    (79, 1),
    (80, 1),
    // Shared memory and registers of a multiprocessor, FP32 against FP64.
    (81, 233_472),
    (82, NUM_REGISTERS),
    (87, 2),
    // Pre-emption, registered host memory at its own address, cooperative launches.
    (90, 1),
    (91, 1),
    (95, 1),
    (97, MAX_SHARED_BYTES as i32),
    (99, 1),
    // Blocks of a multiprocessor, reserved shared memory, stream-ordered allocation, clusters.
    (106, 32),
    (111, 1024),
    (115, 1),
    (120, 1),
    // Managed memory, used by host and device at once; waits for values in memory, of 8 bytes and by
    // NOR, under both numbers; events of several processes.
    (83, 1),
    (89, 1),
    (93, 1),
    (94, 1),
    (122, 1),
    (123, 1),
    (125, 1),
    // Addresses apart from memory, exported as files and by fabric handles.
    (102, 1),
    (103, 1),
    (128, 1),
    // Multicast objects.
    (132, 1),
];

/// `CU_DEVICE_ATTRIBUTE_MAX` of CUDA 13.0.
const END: u32 = 149;

/// A device's attribute; `None` if there is none of the number.
pub fn device_attribute(device: usize, attribute: u32) -> Option<i32> {
    match attribute {
        16 => Some(settings().num_sms as i32),
        // PCI bus.
        33 => Some(device as i32 + 1),
        // TMA.
        127 => Some(1),
        0 => None,
        _ if attribute >= END => None,
        _ => {
            let fixed = FIXED.iter().find(|(number, _)| *number == attribute);
            Some(fixed.map_or(0, |(_, value)| *value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_listed_once() {
        let mut numbers: Vec<u32> = FIXED.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert_eq!(device_attribute(0, 75), Some(9));
        assert_eq!(device_attribute(0, 88), Some(0));
        assert_eq!(device_attribute(0, 4000), None);
    }
}
