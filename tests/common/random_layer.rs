//! MoE layers of any size with random weights, made in place.

#![allow(dead_code, reason = "each test and benchmark uses its part")]

use moekit::moe::WireFormat;
use moekit::moe::gate::{GateConfig, Scoring};
use moekit::moe::weights::{ExpertMatrices, ExpertWeights, MoeConfig, MoeWeights};
use moekit::num::bf16;
use moekit::tensor::{Element, QuantTensor, Tensor};
use moekit::{Cpu, Result};
use rayon::prelude::*;

/// A shape with a shared expert, the gate in groups as DeepSeek-V3's.
pub fn config(hidden: usize, intermediate_hidden: usize, num_experts: usize) -> MoeConfig {
    MoeConfig {
        hidden,
        intermediate_hidden,
        num_shared_experts: 1,
        swiglu_limit: None,
        gate: GateConfig {
            num_experts,
            num_topk: 8,
            scoring: Scoring::Sigmoid,
            num_expert_groups: 8,
            num_topk_groups: 4,
            renormalize: true,
            routed_scaling_factor: 2.5,
        },
    }
}

/// The weights of a rank with `num_local_experts` experts.
pub fn weights(
    cpu: &Cpu,
    config: &MoeConfig,
    num_local_experts: usize,
    format: WireFormat,
) -> Result<MoeWeights<Cpu>> {
    let (hidden, width) = (config.hidden, config.intermediate_hidden);
    let experts = |num_experts: usize, width: usize| -> Result<ExpertWeights<Cpu>> {
        Ok(ExpertWeights {
            gate_up: matrices(cpu, [num_experts, 2 * width, hidden], format)?,
            down: matrices(cpu, [num_experts, hidden, width], format)?,
        })
    };
    let shared_width = config.shared_intermediate_hidden();
    Ok(MoeWeights {
        gate: noise(cpu, [config.gate.num_experts, hidden], 1.0 / (hidden as f32).sqrt())?,
        gate_bias: Some(Tensor::zeros(cpu, [config.gate.num_experts])?),
        routed: experts(num_local_experts, width)?,
        shared: (shared_width > 0).then(|| experts(1, shared_width)).transpose()?,
    })
}

fn matrices(cpu: &Cpu, shape: [usize; 3], format: WireFormat) -> Result<ExpertMatrices<Cpu>> {
    let [num_experts, n, k] = shape;
    let scale = 1.0 / (k as f32).sqrt();
    Ok(match format {
        WireFormat::Bf16 => ExpertMatrices::Bf16(noise(cpu, shape, scale)?),
        WireFormat::Fp8 => {
            let mut values = Tensor::zeros(cpu, shape)?;
            // Magnitudes below 2.
            fill(&mut values, |bits| bits & 0xbfbf_bfbf_bfbf_bfbf);
            let mut scales = Tensor::zeros(cpu, [num_experts, n.div_ceil(128), k.div_ceil(128)])?;
            scales.view_mut().as_mut_span().fill(scale);
            ExpertMatrices::Fp8(QuantTensor { values, scales })
        }
    })
}

/// BF16 values of magnitudes from half of `scale` (a power of two is taken below it) to four times that.
pub fn noise<const R: usize>(
    cpu: &Cpu,
    shape: [usize; R],
    scale: f32,
) -> Result<Tensor<Cpu, bf16, R>> {
    let exponent = u64::from(bf16::from_f32(scale).to_bits() >> 7) - 1;
    let exponents = exponent << 7 | exponent << 23 | exponent << 39 | exponent << 55;
    let mut tensor = Tensor::zeros(cpu, shape)?;
    // Sign and mantissa are random, and the exponent's lowest bit.
    fill(&mut tensor, |bits| (bits & 0x80ff_80ff_80ff_80ff) + (exponents & !0x0080_0080_0080_0080));
    Ok(tensor)
}

/// Makes the elements from random words, every page in place and touched.
fn fill<T: Element, const R: usize>(
    tensor: &mut Tensor<Cpu, T, R>,
    word: impl Fn(u64) -> u64 + Sync,
) {
    const CHUNK: usize = 1 << 18;
    let mut view = tensor.view_mut();
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(view.as_mut_span());
    bytes.par_chunks_mut(CHUNK).enumerate().for_each(|(idx, chunk)| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(idx as u64 + 1);
        for bytes in chunk.chunks_mut(8) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let mixed = state ^ state >> 29;
            bytes.copy_from_slice(&word(mixed).to_le_bytes()[..bytes.len()]);
        }
    });
}
