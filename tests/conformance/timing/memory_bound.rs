//! Stages that memory bounds, at DeepSeek-V3's extents.

use moekit::cost::Cost;
use moekit::moe::Rows;
use moekit::moe::gate::{GateArgs, GateConfig, Scoring};
use moekit::moe::plan::{PlanArgs, PlanOut, RowLayout};
use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
use moekit::moe::swiglu::{SwigluInput, SwigluQuantizeArgs};
use moekit::num::{bf16, ceil_div};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};
use moekit_testkit::rng::Rng;

use super::{Options, Row};

const HIDDEN: usize = 7168;
const WIDTH: usize = 2048;
const NUM_EXPERTS: usize = 256;
const NUM_TOPK: usize = 8;

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    for full in [64, 4096] {
        let num_tokens = options.extent(full, 4);
        print(gate(backend, num_tokens)?);
        print(plan(backend, num_tokens)?);
        print(quantize(backend, [num_tokens, options.extent(HIDDEN, 128)])?);
        print(swiglu_quantize(backend, [num_tokens, options.extent(WIDTH, 128)])?);
    }
    Ok(())
}

fn moved(num_bytes: usize) -> Cost {
    Cost { hbm_bytes: num_bytes as u64, ..Cost::default() }
}

fn noise(len: usize) -> Vec<f32> {
    let mut rng = Rng::new(11);
    (0..len).map(|_| rng.normal() as f32).collect()
}

fn noise_bf16(len: usize) -> Vec<bf16> {
    noise(len).into_iter().map(bf16::from_f32).collect()
}

fn gate<B: Backend>(backend: &B, num_tokens: usize) -> Result<Row<'static, B>> {
    let config = GateConfig {
        num_experts: NUM_EXPERTS,
        num_topk: NUM_TOPK,
        scoring: Scoring::Sigmoid,
        num_expert_groups: 8,
        num_topk_groups: 4,
        renormalize: true,
        routed_scaling_factor: 2.5,
    };
    let backend = backend.clone();
    let shape = [num_tokens, NUM_EXPERTS];
    let logits = Tensor::from_host(&backend, &noise(num_tokens * NUM_EXPERTS), shape)?;
    let bias = Tensor::from_host(&backend, &noise(NUM_EXPERTS), [NUM_EXPERTS])?;
    let mut idx = Tensor::zeros(&backend, [num_tokens, NUM_TOPK])?;
    let mut weights = Tensor::zeros(&backend, [num_tokens, NUM_TOPK])?;
    Ok(Row {
        stage: "gate",
        name: "gate",
        shape: format!("{num_tokens} x {NUM_EXPERTS}, top {NUM_TOPK}"),
        cost: moved(num_tokens * (NUM_EXPERTS + 2 * NUM_TOPK) * 4),
        published_tflops: None,
        call: Box::new(move |stream| {
            let (idx, weights) = (idx.view_mut(), weights.view_mut());
            let args = GateArgs::new(logits.view(), Some(bias.view()), config, idx, weights)?;
            backend.gate(stream, args)
        }),
    })
}

fn plan<B: Backend>(backend: &B, num_tokens: usize) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let (num_local, num_slots) = (NUM_EXPERTS, num_tokens * NUM_TOPK);
    let expert_alignment = 128;
    let num_rows = num_slots + num_local * (expert_alignment - 1);
    let mut rng = Rng::new(13);
    let chosen: Vec<i32> = (0..num_tokens)
        .flat_map(|_| {
            // Distinct experts: a random first one and a random odd step.
            let (first, step) = (rng.next_u64(), rng.next_u64() | 1);
            (0..NUM_TOPK as u64).map(move |slot| {
                (first.wrapping_add(slot.wrapping_mul(step)) % NUM_EXPERTS as u64) as i32
            })
        })
        .collect();
    let topk_idx = Tensor::from_host(&backend, &chosen, [num_tokens, NUM_TOPK])?;
    let mut offsets = Tensor::zeros(&backend, [num_local + 1])?;
    let mut num_recv = Tensor::zeros(&backend, [num_local])?;
    let mut grouped_layout = Tensor::zeros(&backend, [num_rows])?;
    let mut src_info = Tensor::zeros(&backend, [num_rows])?;
    let mut slot_rows = Tensor::zeros(&backend, [num_tokens, NUM_TOPK])?;
    Ok(Row {
        stage: "plan",
        name: "plan",
        shape: format!("{num_tokens} x {NUM_TOPK}, {NUM_EXPERTS} experts"),
        cost: moved(4 * (2 * num_slots + 2 * num_rows + 2 * num_local + 1)),
        published_tflops: None,
        call: Box::new(move |stream| {
            let out = PlanOut {
                expert_offsets: offsets.view_mut(),
                num_recv_tokens_per_expert: num_recv.view_mut(),
                expert_load: None,
                grouped_layout: grouped_layout.view_mut(),
                src_info: src_info.view_mut(),
                slot_rows: slot_rows.view_mut(),
            };
            let layout = RowLayout::Contiguous { expert_alignment };
            let args = PlanArgs::new(topk_idx.view(), NUM_EXPERTS, 0..NUM_EXPERTS, layout, out)?;
            backend.plan(stream, args)
        }),
    })
}

fn quantize<B: Backend>(backend: &B, [m, k]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let x = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let mut out = QuantTensor::zeros_per_row(&backend, [m, k], ScaleLayout::MnMajor)?;
    Ok(Row {
        stage: "quant",
        name: "quantize",
        shape: format!("{m} x {k}"),
        cost: moved(m * (3 * k + 4 * ceil_div(k, 128))),
        published_tflops: None,
        call: Box::new(move |stream| {
            let args = QuantizeArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32, Rows::All)?;
            backend.quantize(stream, args)
        }),
    })
}

fn swiglu_quantize<B: Backend>(backend: &B, [m, half]: [usize; 2]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let gate_up = Tensor::from_host(&backend, &noise_bf16(m * 2 * half), [m, 2 * half])?;
    let mut out = QuantTensor::zeros_per_row(&backend, [m, half], ScaleLayout::MnMajor)?;
    Ok(Row {
        stage: "swiglu",
        name: "swiglu_quantize",
        shape: format!("{m} x {half}"),
        cost: moved(m * (5 * half + 4 * ceil_div(half, 128))),
        published_tflops: None,
        call: Box::new(move |stream| {
            let input = SwigluInput::new(gate_up.view());
            let args = SwigluQuantizeArgs::new(input, out.view_mut(), ScaleFormat::Fp32)?;
            backend.swiglu_quantize(stream, args)
        }),
    })
}
