//! Kernels that nvcc compiled from `ptx/*.cu`.

mod support;

use support::{Gpu, launch};
use vgpu::{FaultKind, Launch};

/// nvcc 13.2's output for `ptx/basic.cu`.
const BASIC: &str = include_str!("ptx/basic.ptx");

/// A parameter buffer of an address, an address and a number.
fn params(a: u64, b: u64, n: u32) -> Vec<u8> {
    [&a.to_le_bytes()[..], &b.to_le_bytes(), &n.to_le_bytes()].concat()
}

#[test]
fn a_block_sums_weighted_values() {
    let gpu = Gpu::new(BASIC);
    let values: Vec<f32> = (0..100).map(|i| (i * 7 % 13) as f32).collect();
    let (input, output) = (gpu.upload(&values), gpu.upload(&[0f32; 3]));
    let shape = Launch { params: params(input, output, 100), ..launch(3, 64, &[]) };
    gpu.launch("sums", &shape).unwrap();
    // Thread t sums values[i] * (i % 8 + 1) for i from t on; all are small integers, so exact.
    let term = |i: usize| values[i] * (i % 8 + 1) as f32;
    let expected: f32 = (0..64).map(|t| (t..100).map(term).sum::<f32>()).sum();
    assert_eq!(gpu.download::<f32>(output, 3), [expected; 3]);
    let (counter, _) = gpu.image.global("counter").unwrap();
    assert_eq!(gpu.download::<i32>(counter, 1), [3]);
}

#[test]
fn printf_writes_in_the_order_of_the_threads() {
    let gpu = Gpu::new(BASIC);
    let input = gpu.upload(&[5i32, 0, 12]);
    let params = [&input.to_le_bytes()[..], &3u32.to_le_bytes()].concat();
    let report = gpu.launch("speaks", &Launch { params, ..launch(1, 32, &[]) }).unwrap();
    let expected = "first: 5 of 3, 2.500000, done\nsecond: 0 of 3, 0.000000, done\n\
                    first: 12 of 3, 6.000000, done\n";
    assert_eq!(report.output, expected);
}

#[test]
fn a_failed_assertion_names_its_condition_and_source() {
    let gpu = Gpu::new(BASIC);
    let input = gpu.upload(&[5i32, -1]);
    let params = [&input.to_le_bytes()[..], &2u32.to_le_bytes()].concat();
    let fault = gpu.launch("speaks", &Launch { params, ..launch(1, 32, &[]) }).unwrap_err();
    let vgpu::LaunchError::Fault(fault) = fault else { panic!("{fault}") };
    let FaultKind::Assert { message, function, .. } = &fault.kind else { panic!("{fault}") };
    assert_eq!(message, "in[i] >= 0");
    assert_eq!(function, "void speaks(const int *, int)");
    let at = fault.at.unwrap();
    assert_eq!(at.thread, [1, 0, 0]);
    let (file, line) = at.source.unwrap();
    assert_eq!(file, "basic.cu");
    let source = include_str!("ptx/basic.cu").lines().nth(line as usize - 1).unwrap();
    assert!(source.contains("assert(in[i] >= 0);"), "{source}");
}

#[test]
fn quantising_gives_codes_and_scales() {
    let gpu = Gpu::new(BASIC);
    // Row 0 is in E4M3 already, once it is scaled by 448 / 448; row 1 is zero.
    let row: Vec<f32> = (0..128).map(|i| if i == 5 { 448.0 } else { (i % 16) as f32 }).collect();
    let input = gpu.upload(&[row.clone(), vec![0.0; 128]].concat());
    let (codes, scales) = (gpu.upload(&[0xffu8; 256]), gpu.upload(&[0f32; 2]));
    gpu.run("quantise", 2, 32, &[input, codes, scales]);
    assert_eq!(gpu.download::<f32>(scales, 2), [1.0, 1e-4 / 448.0]);
    let codes = gpu.download::<u8>(codes, 256);
    let decode = |code: u8| match (code >> 3, code & 7) {
        (0, mantissa) => f32::from(mantissa) / 512.0,
        (exponent, mantissa) => {
            (1.0 + f32::from(mantissa) / 8.0) * 2f32.powi(i32::from(exponent) - 7)
        }
    };
    let back: Vec<f32> = codes.iter().map(|code| decode(*code)).collect();
    assert_eq!(back[..128], row);
    assert_eq!(back[128..], [0.0; 128]);
}

#[test]
fn a_spin_lock_serialises_threads_of_all_warps_and_blocks() {
    let gpu = Gpu::new(BASIC);
    let (lock, value) = (gpu.upload(&[0i32]), gpu.upload(&[0i32]));
    let params = params(lock, value, 2);
    gpu.launch("spins", &Launch { params, ..launch(2, 64, &[]) }).unwrap();
    // Every thread adds 2 * ((tid + round) & 15) in rounds 0 and 1.
    let per_block: i32 = (0..64).map(|t| 2 * (t & 15) + 2 * ((t + 1) & 15)).sum();
    assert_eq!(gpu.download::<i32>(value, 1), [2 * per_block]);
    assert_eq!(gpu.download::<i32>(lock, 1), [0]);
}
