//! What is loaded has the bits of the file.

use std::fs;

use moekit::Cpu;
use moekit::checkpoint::Checkpoint;
use moekit::moe::weights::{ExpertMatrices, MoeWeights};
use moekit::tensor::{Element, Tensor};
use moekit_testkit::compare;
use moekit_testkit::quant::Quantised;

use crate::store::{Format, HIDDEN, NUM_EXPERTS, Store, shard_name};

fn bytes<T: Element, const R: usize>(tensor: &Tensor<Cpu, T, R>) -> Vec<u8> {
    bytemuck::cast_slice(&tensor.to_host(&Cpu::new()).expect("on the host")).to_vec()
}

/// Bytes of all values, and those of all scales.
fn matrices(matrices: &ExpertMatrices<Cpu>) -> [Vec<u8>; 2] {
    match matrices {
        ExpertMatrices::Fp8(matrices) => [bytes(&matrices.values), bytes(&matrices.scales)],
        ExpertMatrices::Bf16(matrices) => [bytes(matrices), Vec::new()],
    }
}

/// What the store has of some experts' `projections`, one after the other.
fn stored(store: &Store, experts: &[&str], projections: &[&str]) -> [Vec<u8>; 2] {
    let (mut values, mut scales) = (Vec::new(), Vec::new());
    for expert in experts {
        for projection in projections {
            let name = format!("{expert}.{projection}.weight");
            values.extend_from_slice(&store.get(&name).bytes);
            let name = format!("model.layers.0.mlp.{name}_scale_inv");
            scales.extend(store.tensors.get(&name).iter().flat_map(|scales| &scales.bytes));
        }
    }
    [values, scales]
}

fn assert_loaded(store: &Store, weights: &MoeWeights<Cpu>, experts: &[&str]) {
    assert_eq!(bytes(&weights.gate), store.get("gate.weight").bytes);
    let bias = weights.gate_bias.as_ref().expect("a bias");
    assert_eq!(bytes(bias), store.get("gate.e_score_correction_bias").bytes);
    let shared = weights.shared.as_ref().expect("a shared expert");
    for (weights, experts) in [(&weights.routed, experts), (shared, &["shared_experts"])] {
        let want = stored(store, experts, &["gate_proj", "up_proj"]);
        assert_eq!(matrices(&weights.gate_up), want, "gate_up of {experts:?}");
        let want = stored(store, experts, &["down_proj"]);
        assert_eq!(matrices(&weights.down), want, "down of {experts:?}");
    }
}

#[test]
fn every_rank_loads_its_experts_bit_for_bit_from_one_file_or_many() {
    for (format, width) in [(Format::Fp8, 256), (Format::Bf16, 144)] {
        let store = Store::new(format, width);
        for dir in [store.write_single(), store.write_sharded()] {
            let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
            for (physical, experts) in [
                (&[2, 3, 5][..], &["experts.2", "experts.3", "experts.5"][..]),
                (&[4, 1, 4, 0], &["experts.4", "experts.1", "experts.4", "experts.0"]),
                (&[], &[]),
            ] {
                let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, physical).expect("loaded");
                assert_loaded(&store, &weights, experts);
            }
            assert_eq!(checkpoint.tensors().expect("tensors").len(), store.tensors.len());
        }
    }
}

#[test]
fn an_unused_physical_expert_stays_zero() {
    let store = Store::new(Format::Fp8, 128);
    let checkpoint = Checkpoint::open(store.write_single().path()).expect("a checkpoint");
    let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, &[-1, 3]).expect("loaded");
    let [values, scales] = matrices(&weights.routed.down);
    let [values_of_3, scales_of_3] = stored(&store, &["experts.3"], &["down_proj"]);
    assert_eq!(values, [vec![0; HIDDEN * 128], values_of_3].concat());
    assert_eq!(scales, [vec![0; scales_of_3.len()], scales_of_3].concat());
}

#[test]
fn only_the_files_of_the_own_experts_are_needed() {
    let store = Store::new(Format::Fp8, 128);
    let dir = store.write_sharded();
    for name in store.tensors.keys() {
        if name.contains(".experts.") && !name.contains(".experts.2.") {
            fs::remove_file(dir.path().join(shard_name(name))).expect("removed");
        }
    }
    let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
    let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, &[2]).expect("loaded");
    assert_loaded(&store, &weights, &["experts.2"]);
    let error = checkpoint.load_moe_layer(&Cpu::new(), 0, &[1]).expect_err("no file").to_string();
    assert!(error.contains("experts.1.gate_proj.weight"), "{error}");
}

/// Widths of which 128 is no divisor: blocks of `up_proj` do not line up with those of the stack.
#[test]
fn experts_of_any_width_keep_their_numbers() {
    for width in [16, 144, 272] {
        let store = Store::new(Format::Fp8, width);
        let checkpoint = Checkpoint::open(store.write_single().path()).expect("a checkpoint");
        let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, &[5]).expect("loaded");
        let [codes, scales] = matrices(&weights.routed.gate_up);
        let scales = bytemuck::pod_collect_to_vec(&scales);
        let got = Quantised::new(codes.clone(), scales, [2 * width, HIDDEN], [128, 128]);
        let mut want = Vec::new();
        for projection in ["gate_proj", "up_proj"] {
            let name = format!("experts.5.{projection}.weight");
            let codes = store.get(&name).bytes.clone();
            let scales = store.get(&format!("{name}_scale_inv")).floats();
            let matrix = Quantised::new(codes, scales, [width, HIDDEN], [128, 128]);
            want.extend(matrix.dequantise().values);
        }
        let got: Vec<f32> = got.dequantise().values.iter().map(|&x| x as f32).collect();
        // NOTE: half a unit of E4M3's last place is 1/32 of a value on average, at the most 1/16.
        compare::assert_relative_error(&format!("width {width}"), &got, &want, 3.5e-2);
        let whole = width / 128 * 128 * HIDDEN;
        let file = &store.get("experts.5.gate_proj.weight").bytes;
        assert_eq!(codes[..whole], file[..whole], "whole blocks keep their codes");
    }
}

#[test]
fn an_fp32_gate_is_rounded_to_bf16() {
    let mut store = Store::new(Format::Fp8, 128);
    let name = "model.layers.0.mlp.gate.weight";
    let gate = store.tensors.get_mut(name).expect("a gate");
    let values = (0..NUM_EXPERTS * HIDDEN).map(|idx| 1.0 + idx as f32 / 4096.0);
    gate.bytes = values.clone().flat_map(f32::to_le_bytes).collect();
    gate.dtype = "F32";
    let checkpoint = Checkpoint::open(store.write_single().path()).expect("a checkpoint");
    let weights = checkpoint.load_moe_layer(&Cpu::new(), 0, &[]).expect("loaded");
    let got = weights.gate.to_host(&Cpu::new()).expect("on the host");
    let want: Vec<u16> =
        values.map(|x| moekit_testkit::bf16::round(f64::from(x)).to_bits()).collect();
    assert_eq!(got.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want);
}
