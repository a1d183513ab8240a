//! The whole layer against the f64 oracle, and its promise of the same bits on any world.

use moekit::Backend;
use moekit::comm::{World, WorldOptions};
use moekit::moe::{Fusion, RecvLayout, Reduce, Weighting};
use moekit::num::bf16;
use moekit_testkit::moe as oracle;
use moekit_testkit::{bf16 as tk_bf16, compare, gate, quant};

use crate::case::on_every_backend;
use crate::moe_model::{
    Format, HIDDEN, Model, NUM_EXPERTS, NUM_TOKENS, Run, WHOLE_INTERMEDIATE, model,
};

on_every_backend![
    fp8_layer_agrees_with_the_oracle,
    weighted_fp8_layer_agrees_with_the_oracle,
    bf16_layer_agrees_with_the_oracle,
    layer_has_the_same_bits_on_every_world,
    layer_weighted_in_its_second_product_has_the_same_bits_on_every_world,
    layer_with_replicas_has_the_same_bits,
    layer_with_fused_activation_has_the_same_bits,
    layer_runs_with_no_tokens_on_some_ranks,
    layer_refuses_weights_that_do_not_fit,
];

/// Of the FP8 layer against an oracle that rounds at the same places.
///
/// A rounding of gate_up to BF16 that falls the other way can move an E4M3 code: up to 6e-3. On Hopper, sums
/// of FP8 products over 128 are off by 1.3e-4 (13 bits are kept), and the activations by up to twice that.
/// That share of the distance between two codes, at most 1/8 of a number, get the next one, so that the
/// root mean square of their errors is sqrt(2 * 1.3e-4 / 8) = 5.7e-3, which the second product keeps.
/// Both together, as the root of the sum of squares.
const FP8_BOUND: f64 = 8.3e-3;

/// All ranks' outputs in token order, on one node.
fn outputs<B: Backend>(run: Run, backend: &B) -> Vec<bf16> {
    outputs_on_nodes(run, None, backend)
}

/// All ranks' outputs in token order.
fn outputs_on_nodes<B: Backend>(run: Run, ranks_per_node: Option<usize>, backend: &B) -> Vec<bf16> {
    let options = WorldOptions { ranks_per_node, ..WorldOptions::default() };
    let backend = backend.clone();
    let num_ranks = run.num_ranks;
    let results = World::run_threads(num_ranks, options, move |world| {
        let out = run.rank(&backend, &world)?;
        world.close()?;
        Ok(out)
    });
    let results = results.expect("world").into_iter().enumerate();
    results
        .flat_map(|(rank_idx, out)| {
            out.unwrap_or_else(|error| panic!("rank {rank_idx} of {num_ranks}: {error}"))
        })
        .collect()
}

/// The oracle's routing; the seed leaves no token undecided at FP32's precision.
fn routing(model: &Model) -> gate::Routing {
    let x: Vec<f32> = model.x.iter().map(|x| x.to_f32()).collect();
    let logits: Vec<f32> = (0..NUM_TOKENS * NUM_EXPERTS)
        .map(|i| {
            let (token, expert) = (i / NUM_EXPERTS, i % NUM_EXPERTS);
            let dot: f64 = (0..HIDDEN)
                .map(|col| {
                    f64::from(x[token * HIDDEN + col])
                        * f64::from(model.gate[expert * HIDDEN + col].to_f32())
                })
                .sum();
            dot as f32
        })
        .collect();
    let routing = gate::deepseek_v3(
        &logits,
        &model.bias,
        &gate::GateConfig {
            num_experts: NUM_EXPERTS,
            num_topk: 3,
            renormalise: true,
            routed_scaling_factor: 2.5,
        },
        gate::GroupLimit { num_expert_groups: 4, num_topk_groups: 3 },
    );
    for token in 0..NUM_TOKENS {
        assert!(routing.is_decided(token, 1e-6), "token {token} is nearly a tie");
    }
    routing
}

fn with_oracle<R>(f: impl FnOnce(&oracle::Layer, &oracle::Tokens<'_>) -> R) -> R {
    let model = model();
    let routing = routing(model);
    let x: Vec<f32> = model.x.iter().map(|x| x.to_f32()).collect();
    let tokens = oracle::Tokens {
        x: &x,
        hidden: HIDDEN,
        num_topk: 3,
        topk_idx: &routing.topk_idx,
        topk_weights: &routing.topk_weights_f32(),
    };
    f(&model.layer, &tokens)
}

fn fp8_layer_agrees_with_the_oracle<B: Backend>(backend: &B) {
    assert_agrees_in_fp8(backend, Weighting::Combine);
}

fn weighted_fp8_layer_agrees_with_the_oracle<B: Backend>(backend: &B) {
    assert_agrees_in_fp8(backend, Weighting::Down);
}

fn assert_agrees_in_fp8<B: Backend>(backend: &B, weighting: Weighting) {
    let want = with_oracle(|layer, tokens| {
        let rounding = oracle::Rounding {
            scale_format: quant::ScaleFormat::F32,
            gate_up_in_bf16: true,
            shared_in_bf16: true,
            weighs_rows: weighting == Weighting::Down,
        };
        oracle::emulated(layer, tokens, &rounding)
    });
    let want: Vec<f64> = want.into_iter().map(|y| f64::from(tk_bf16::widen(y))).collect();
    for layout in [
        RecvLayout::Exact { expert_alignment: 16 },
        RecvLayout::Capacity { expert_alignment: 8, num_max_recv_rows: 140 },
        RecvLayout::Masked { max_m: None },
    ] {
        let got = outputs(Run { layout, weighting, ..Run::new(2) }, backend);
        compare::assert_relative_error(&format!("{layout:?}"), &got, &want, FP8_BOUND);
    }
}

fn bf16_layer_agrees_with_the_oracle<B: Backend>(backend: &B) {
    let want = with_oracle(|layer, tokens| oracle::exact(layer, tokens).values);
    for layout in [RecvLayout::Exact { expert_alignment: 1 }, RecvLayout::Masked { max_m: None }] {
        let got = outputs(Run { layout, format: Format::Bf16, ..Run::new(2) }, backend);
        // NOTE: BF16 roundings of weights, gate_up, activation and y, 1.7e-3 each.
        compare::assert_relative_error(&format!("{layout:?}"), &got, &want, 6e-3);
    }
    let weighting = Weighting::Down;
    let got = outputs(Run { weighting, format: Format::Bf16, ..Run::new(2) }, backend);
    compare::assert_relative_error("weighted before the rounding", &got, &want, 6e-3);
}

fn layer_weighted_in_its_second_product_has_the_same_bits_on_every_world<B: Backend>(backend: &B) {
    let run = |num_ranks| Run { weighting: Weighting::Down, ..Run::new(num_ranks) };
    let want = outputs(run(1), backend);
    for (num_ranks, layout) in [
        (2, RecvLayout::Masked { max_m: None }),
        (4, RecvLayout::Exact { expert_alignment: 1 }),
        (2, RecvLayout::Capacity { expert_alignment: 8, num_max_recv_rows: 140 }),
    ] {
        let got = outputs(Run { layout, ..run(num_ranks) }, backend);
        let name = format!("{num_ranks} ranks, {layout:?}");
        compare::assert_bits_eq(&name, &[NUM_TOKENS, HIDDEN], &got, &want);
    }
    // One rank adds all slots; its row is rounded on the way back, before the shared expert is added.
    let by_rank = outputs(Run { reduce: Reduce::ByRank, ..run(1) }, backend);
    let want: Vec<f64> = want.iter().map(|y| f64::from(y.to_f32())).collect();
    compare::assert_relative_error("by rank", &by_rank, &want, 4e-3);
}

fn layer_has_the_same_bits_on_every_world<B: Backend>(backend: &B) {
    let want = outputs(Run::new(1), backend);
    for (num_ranks, ranks_per_node, layout) in [
        (2, None, RecvLayout::Masked { max_m: None }),
        (4, None, RecvLayout::Exact { expert_alignment: 128 }),
        (4, Some(2), RecvLayout::Exact { expert_alignment: 1 }),
        (8, None, RecvLayout::Exact { expert_alignment: 16 }),
    ] {
        let run = Run { layout, ..Run::new(num_ranks) };
        let name = format!("{num_ranks} ranks, {ranks_per_node:?} per node, {layout:?}");
        let got = outputs_on_nodes(run, ranks_per_node, backend);
        compare::assert_bits_eq(&name, &[NUM_TOKENS, HIDDEN], &got, &want);
    }
}

fn layer_with_replicas_has_the_same_bits<B: Backend>(backend: &B) {
    let want = outputs(Run::new(1), backend);
    let physical_to_logical = (0..NUM_EXPERTS as i32).chain([3, 7, 0, 3]).rev().collect();
    let run = Run { physical_to_logical, ..Run::new(4) };
    compare::assert_bits_eq("replicas", &[NUM_TOKENS, HIDDEN], &outputs(run, backend), &want);
}

fn layer_with_fused_activation_has_the_same_bits<B: Backend>(backend: &B) {
    let run = |num_ranks| Run { intermediate_hidden: WHOLE_INTERMEDIATE, ..Run::new(num_ranks) };
    let want = outputs(run(1), backend);
    for (fusion, layout) in [
        (Fusion::On, RecvLayout::Exact { expert_alignment: 16 }),
        (Fusion::On, RecvLayout::Capacity { expert_alignment: 8, num_max_recv_rows: 140 }),
        (Fusion::On, RecvLayout::Masked { max_m: None }),
        (Fusion::WherePays, RecvLayout::Masked { max_m: None }),
        (Fusion::WherePays, RecvLayout::Exact { expert_alignment: 1 }),
    ] {
        let got = outputs(Run { fusion, layout, ..run(2) }, backend);
        let name = format!("{fusion:?}, {layout:?}");
        compare::assert_bits_eq(&name, &[NUM_TOKENS, HIDDEN], &got, &want);
    }
    // Where it cannot be, it is not.
    let run = Run { fusion: Fusion::WherePays, ..Run::new(2) };
    let want = outputs(Run::new(1), backend);
    compare::assert_bits_eq("144 columns", &[NUM_TOKENS, HIDDEN], &outputs(run, backend), &want);
}

fn layer_runs_with_no_tokens_on_some_ranks<B: Backend>(backend: &B) {
    let want = outputs(Run::new(1), backend);
    let run = Run { share: vec![0, 17, 0, 7], ..Run::new(4) };
    compare::assert_bits_eq("uneven", &[NUM_TOKENS, HIDDEN], &outputs(run, backend), &want);
}

fn layer_refuses_weights_that_do_not_fit<B: Backend>(backend: &B) {
    let refused = |run: Run| {
        let backend = backend.clone();
        let result = World::run_threads(1, WorldOptions::default(), move |world| {
            run.rank(&backend, &world).map(|_| ())
        });
        result.expect("world").remove(0).expect_err("refused").to_string()
    };
    let physical_to_logical = (0..NUM_EXPERTS as i32 - 1).collect();
    let error = refused(Run { physical_to_logical, ..Run::new(1) });
    assert!(error.contains("none for expert 23"), "{error}");
    let error = refused(Run { fusion: Fusion::On, ..Run::new(1) });
    let want = "moe layer: `intermediate_hidden` is 144, expected a multiple of 128";
    assert_eq!(error, want);
    let error = refused(Run { fusion: Fusion::On, format: Format::Bf16, ..Run::new(1) });
    assert_eq!(error, "moe layer: `weights` is BF16, expected FP8 where `fusion` is on");
}
