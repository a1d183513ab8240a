//! Costs of calls against counting by hand.

use super::{Cost, DeviceSpec};
use crate::Cpu;
use crate::gemm::{
    GemmArgs, GemmOut, GroupRows, GroupedGemmArgs, KGroupedGemmArgs, KGroupedOperands,
    MaskedGemmArgs, MaskedRows, Operands,
};
use crate::moe::Rows;
use crate::moe::quant::{DequantizeArgs, Granularity, QuantizeArgs, ScaleFormat};
use crate::moe::swiglu::{SwigluArgs, SwigluInput};
use crate::num::bf16;
use crate::tensor::{QuantTensor, ScaleLayout, Tensor};

fn zeros<T: crate::tensor::Element, const R: usize>(shape: [usize; R]) -> Tensor<Cpu, T, R> {
    Tensor::zeros(&Cpu::new(), shape).expect("a tensor")
}

fn quant<const R: usize>(values: [usize; R], scales: [usize; R]) -> QuantTensor<Cpu, R> {
    QuantTensor { values: zeros(values), scales: zeros(scales) }
}

#[test]
fn dense_products_count_operands_scales_and_result() {
    let (a, b) = (quant([3, 144], [3, 2]), quant([130, 144], [2, 2]));
    let mut d = zeros::<bf16, 2>([3, 130]);
    let operands = Operands::Fp8 { a: a.view(), b: b.view() };
    let cost = GemmArgs::new(operands, GemmOut::Bf16(d.view_mut())).expect("args").cost();
    let bytes = 3 * 144 + 4 * 3 * 2 + 130 * 144 + 4 * 4 + 2 * 3 * 130;
    assert_eq!(cost, Cost { fp8_flops: 2 * 3 * 130 * 144, hbm_bytes: bytes, ..Cost::default() });

    let (a, b) = (zeros::<bf16, 2>([3, 144]), zeros::<bf16, 2>([130, 144]));
    let mut d = zeros::<f32, 2>([3, 130]);
    let operands = Operands::Bf16 { a: a.view(), b: b.view() };
    let cost = GemmArgs::new(operands, GemmOut::F32Accumulate(d.view_mut())).expect("args").cost();
    let bytes = 2 * (3 + 130) * 144 + 8 * 3 * 130;
    assert_eq!(cost, Cost { bf16_flops: 2 * 3 * 130 * 144, hbm_bytes: bytes, ..Cost::default() });
}

#[test]
fn grouped_products_count_every_groups_weights() {
    let (a, b) = (zeros::<bf16, 2>([5, 32]), zeros::<bf16, 3>([3, 8, 32]));
    let rows = zeros::<i32, 1>([5]);
    let mut d = zeros::<bf16, 2>([5, 8]);
    let operands = Operands::Bf16 { a: a.view(), b: b.view() };
    let out = GemmOut::Bf16(d.view_mut());
    let args = GroupedGemmArgs::new(operands, GroupRows::PerRow(rows.view()), out).expect("args");
    let bytes = 2 * (5 * 32 + 3 * 8 * 32 + 5 * 8);
    let cost = Cost { bf16_flops: 2 * 5 * 8 * 32, hbm_bytes: bytes, ..Cost::default() };
    assert_eq!(args.cost(), cost);
    assert_eq!((args.shape().m, args.shape().num_groups), (2, 3));
    let weights = zeros::<f32, 1>([5]);
    let args = args.with_row_weights(weights.view()).expect("weights");
    assert_eq!(args.cost(), Cost { hbm_bytes: bytes + 4 * 5, ..cost });
}

#[test]
fn masked_products_count_the_expected_rows() {
    let (a, b) = (zeros::<bf16, 3>([2, 9, 32]), zeros::<bf16, 3>([2, 8, 32]));
    let masked_m = zeros::<i32, 1>([2]);
    for (expected_m, counted) in [(4, 4), (100, 9)] {
        let mut d = zeros::<bf16, 3>([2, 9, 8]);
        let operands = Operands::Bf16 { a: a.view(), b: b.view() };
        let rows = MaskedRows { masked_m: masked_m.view(), expected_m };
        let args = MaskedGemmArgs::new(operands, rows, GemmOut::Bf16(d.view_mut())).expect("args");
        let bytes = 2 * (2 * counted * 32 + 2 * 8 * 32 + 2 * counted * 8);
        assert_eq!(args.cost().bf16_flops, 2 * 2 * counted * 8 * 32);
        assert_eq!(args.cost().hbm_bytes, bytes);
        let weights = zeros::<f32, 1>([2 * 9]);
        let args = args.with_row_weights(weights.view()).expect("weights");
        assert_eq!(args.cost().hbm_bytes, bytes + 4 * 2 * counted);
    }
}

#[test]
fn k_grouped_products_count_results_of_groups_with_rows() {
    let (ks, sum_k) = ([256, 0, 128], 384);
    let (a, b) = (quant([4 * sum_k], [4 * 3]), quant([6 * sum_k], [6 * 3]));
    let mut d = zeros::<f32, 3>([3, 4, 6]);
    let operands = KGroupedOperands::Fp8 { a: a.view(), b: b.view() };
    let args = KGroupedGemmArgs::new(operands, &ks, d.view_mut()).expect("args");
    let bytes = (4 + 6) * 384 + 4 * (4 + 6) * 3 + 2 * 8 * 4 * 6;
    let cost = Cost { fp8_flops: 2 * 4 * 6 * 384, hbm_bytes: bytes, ..Cost::default() };
    assert_eq!(args.cost(), cost);
    assert_eq!((args.shape().k, args.shape().num_groups), (128, 3));
}

#[test]
fn stages_count_each_tensor_once() {
    let cpu = Cpu::new();
    let x = zeros::<bf16, 2>([3, 144]);
    let mut out =
        QuantTensor::zeros_per_row(&cpu, [3, 144], ScaleLayout::RowMajor).expect("a tensor");
    let args = QuantizeArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32, Rows::All);
    let cost = args.expect("args").cost();
    assert_eq!((cost.flops(), cost.hbm_bytes), (0, 3 * (2 * 144 + 144 + 8)));

    let mut back = zeros::<f32, 2>([3, 144]);
    let args = DequantizeArgs::new(out.view(), back.view_mut(), Granularity::PerToken);
    assert_eq!(args.expect("args").cost().hbm_bytes, 3 * (4 * 144 + 144 + 8));

    let (gate_up, weights) = (zeros::<bf16, 2>([3, 64]), zeros::<f32, 1>([3]));
    let mut out = zeros::<f32, 2>([3, 32]);
    let input =
        SwigluInput { row_weights: Some(weights.view()), ..SwigluInput::new(gate_up.view()) };
    let args = SwigluArgs::new(input, out.view_mut()).expect("args");
    assert_eq!(args.cost().hbm_bytes, 3 * (2 * 64 + 4 * 32 + 4));
}

#[test]
fn a_floor_is_its_slowest_part() {
    let device = DeviceSpec::H100_SXM;
    let cost = Cost { bf16_flops: 989_500_000, link_bytes: 1_350_000, ..Cost::default() };
    let floor = cost.floor(&device);
    assert_eq!((floor.tensor_us, floor.hbm_us, floor.link_us), (1.0, 0.0, 3.0));
    assert_eq!(floor.time_us(), 3.0);
    let sum: Cost = [cost, Cost { fp8_flops: 1_979_000_000, ..cost }].into_iter().sum();
    assert_eq!(sum.floor(&device).tensor_us, 3.0);
    assert_eq!(sum.flops(), 2 * 989_500_000 + 1_979_000_000);
}

#[test]
fn devices_are_found_by_name_alone() {
    for device in DeviceSpec::ALL {
        assert_eq!(DeviceSpec::named(device.name).expect("a device"), device);
    }
    let error = DeviceSpec::named("a100").expect_err("unknown").to_string();
    assert!(error.contains("h100, h800, h200") && error.contains("a100"), "{error}");
}
