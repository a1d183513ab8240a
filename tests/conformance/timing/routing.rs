//! Gate and plan, at DeepSeek-V3's extents.

use moekit::moe::gate::{GateArgs, GateConfig, Scoring};
use moekit::moe::plan::{PlanArgs, PlanOut, RowLayout};
use moekit::tensor::Tensor;
use moekit::{Backend, Result};
use moekit_testkit::rng::Rng;

use super::inputs::{moved, noise};
use super::{Options, Row};

const NUM_EXPERTS: usize = 256;
const NUM_TOPK: usize = 8;

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    for full in [64, 4096] {
        let num_tokens = options.extent(full, 4);
        if options.has("gate") {
            print(gate(backend, num_tokens, Scoring::Sigmoid)?);
            print(gate(backend, num_tokens, Scoring::Softmax)?);
        }
        if options.has("plan") {
            print(plan(backend, num_tokens)?);
        }
    }
    Ok(())
}

/// Sigmoid with a bias and groups, as DeepSeek-V3; softmax without, as Qwen3.
fn gate<B: Backend>(backend: &B, num_tokens: usize, scoring: Scoring) -> Result<Row<'static, B>> {
    let is_sigmoid = scoring == Scoring::Sigmoid;
    let (name, num_experts) =
        if is_sigmoid { ("gate", NUM_EXPERTS) } else { ("gate, softmax", 128) };
    let config = GateConfig {
        num_experts,
        num_topk: NUM_TOPK,
        scoring,
        num_expert_groups: if is_sigmoid { 8 } else { 1 },
        num_topk_groups: if is_sigmoid { 4 } else { 1 },
        renormalize: true,
        routed_scaling_factor: 2.5,
    };
    let backend = backend.clone();
    let shape = [num_tokens, num_experts];
    let logits = Tensor::from_host(&backend, &noise(num_tokens * num_experts), shape)?;
    let bias = Tensor::from_host(&backend, &noise(num_experts), [num_experts])?;
    let mut idx = Tensor::zeros(&backend, [num_tokens, NUM_TOPK])?;
    let mut weights = Tensor::zeros(&backend, [num_tokens, NUM_TOPK])?;
    Ok(Row {
        name,
        shape: format!("{num_tokens} x {num_experts}, top {NUM_TOPK}"),
        cost: moved(num_tokens * (num_experts + 2 * NUM_TOPK) * 4),
        published_tflops: None,
        call: Box::new(move |stream| {
            let (idx, weights) = (idx.view_mut(), weights.view_mut());
            let bias = is_sigmoid.then(|| bias.view());
            backend.gate(stream, GateArgs::new(logits.view(), bias, config, idx, weights)?)
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
