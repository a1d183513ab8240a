//! Combine: fixed-order sums, weights, bias, and the same bits for any number of ranks.

use moekit::comm::{World, WorldOptions};
use moekit::moe::combine::CombineWeights;
use moekit::moe::dispatch::{TokensMut, TokensRef};
use moekit::moe::{EpBuffer, EpConfig, RecvLayout, Reduce, WireFormat};
use moekit::num::{bf16, round_bf16};
use moekit::tensor::Tensor;
use moekit::{Backend, Result};

use crate::case::on_every_backend;
use crate::ranks::{on_ranks, token_value};

on_every_backend![
    combine_adds_by_slot_in_fp32_and_rounds_once,
    combine_by_slot_has_the_same_bits_for_any_number_of_ranks,
    combine_by_rank_adds_partial_sums_by_ascending_rank,
    combine_crosses_nodes,
    combine_with_weights_of_one_is_a_plain_sum,
    combine_returns_zeros_for_clipped_rows,
    rows_beyond_the_caches_come_back_as_they_went,
    a_masked_rank_is_dropped_and_counted,
    combine_refuses_bad_arguments,
];

const HIDDEN: usize = 1040;
const NUM_TOPK: usize = 4;
const NUM_EXPERTS: usize = 8;
/// Tokens of all ranks together.
const NUM_TOKENS: usize = 24;

#[derive(Clone, Copy)]
struct Step {
    layout: RecvLayout,
    reduce: Reduce,
    weights: CombineWeights,
    with_bias: bool,
}

const STEP: Step = Step {
    layout: RecvLayout::Exact { expert_alignment: 8 },
    reduce: Reduce::BySlot,
    weights: CombineWeights::Routed,
    with_bias: true,
};

fn noise(seed: usize) -> f32 {
    let hash = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
}

fn token(token: usize, col: usize) -> bf16 {
    bf16::from_f32(noise(token * HIDDEN + col))
}

fn bias(token: usize, col: usize) -> bf16 {
    bf16::from_f32(noise(7_000_000 + token * HIDDEN + col))
}

fn expert(token: usize, slot: usize) -> i32 {
    if (token + slot) % 7 == 6 { -1 } else { ((token * 3 + slot * 5) % NUM_EXPERTS) as i32 }
}

fn weight(token: usize, slot: usize) -> f32 {
    noise(9_000_000 + token * NUM_TOPK + slot)
}

/// What expert `e` makes of a value.
fn expert_output(expert: i32, x: bf16) -> bf16 {
    round_bf16(x.to_f32() * (1.0 + expert as f32 / 8.0) + 0.01)
}

/// Dispatches this rank's share of the tokens, runs the experts, combines; returns its share of the
/// output in token order.
fn run<B: Backend>(backend: &B, world: World, step: Step) -> Result<Vec<bf16>> {
    let num_ranks = world.num_ranks();
    let n = NUM_TOKENS / num_ranks;
    let first = world.rank_idx() * n;
    let stream = backend.stream()?;
    let config = EpConfig {
        num_max_tokens_per_rank: n + 1,
        hidden: HIDDEN,
        num_topk: NUM_TOPK,
        num_experts: NUM_EXPERTS,
        wire: WireFormat::Bf16,
        layout: step.layout,
        reduce: step.reduce,
    };
    let mut ep = EpBuffer::new(backend, &world, config)?;
    let host = |f: &dyn Fn(usize, usize) -> bf16| -> Vec<bf16> {
        (0..n * HIDDEN).map(|i| f(first + i / HIDDEN, i % HIDDEN)).collect()
    };
    let x = Tensor::from_host(backend, &host(&token), [n, HIDDEN])?;
    let bias = Tensor::from_host(backend, &host(&bias), [n, HIDDEN])?;
    let slots = |i: usize| (first + i / NUM_TOPK, i % NUM_TOPK);
    let idx: Vec<i32> =
        (0..n * NUM_TOPK).map(slots).map(|(token, slot)| expert(token, slot)).collect();
    let weights: Vec<f32> =
        (0..n * NUM_TOPK).map(slots).map(|(token, slot)| weight(token, slot)).collect();
    let idx = Tensor::from_host(backend, &idx, [n, NUM_TOPK])?;
    let weights = Tensor::from_host(backend, &weights, [n, NUM_TOPK])?;
    let mut result = Vec::new();
    // Twice: the second step meets the first one's memory.
    for _ in 0..2 {
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let num_rows = match step.layout {
            RecvLayout::Exact { .. } => pending.num_recv_rows(&ep)?,
            _ => ep.config().sizes(num_ranks, num_ranks)?.num_max_recv_rows,
        };
        let poison = vec![bf16::NAN; num_rows * HIDDEN];
        let mut rows = Tensor::from_host(backend, &poison, [num_rows, HIDDEN])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        let grouped_layout = handle.grouped_layout().to_host(backend)?;
        let mut y = rows.to_host(backend)?;
        for (row, y) in y.chunks_mut(HIDDEN).enumerate() {
            let local = grouped_layout[row];
            let expert = ep.topology().local_experts().start as i32 + local;
            y.iter_mut().filter(|_| local >= 0).for_each(|y| *y = expert_output(expert, *y));
        }
        let y = Tensor::from_host(backend, &y, [num_rows, HIDDEN])?;
        let mut out = Tensor::from_host(backend, &vec![bf16::NAN; n * HIDDEN], [n, HIDDEN])?;
        let pending = ep.combine_send(&stream, &handle, y.view(), step.weights)?;
        let bias = step.with_bias.then(|| bias.view());
        ep.combine_recv(&stream, &handle, pending, bias, out.view_mut())?;
        result = out.to_host(backend)?;
    }
    // NOTE: no check: clipped rows are one case's subject.
    world.close()?;
    Ok(result)
}

/// All ranks' outputs in token order.
fn run_on<B: Backend>(
    backend: &B,
    num_ranks: usize,
    per_node: Option<usize>,
    step: Step,
) -> Vec<bf16> {
    let options = WorldOptions { ranks_per_node: per_node, ..Default::default() };
    let backend = backend.clone();
    let results = World::run_threads(num_ranks, options, move |world| run(&backend, world, step));
    let results = results.expect("world").into_iter().enumerate();
    results
        .flat_map(|(rank_idx, out)| out.unwrap_or_else(|e| panic!("rank {rank_idx}: {e}")))
        .collect()
}

/// The contract, term by term; `order` gives the groups of slots that are rounded on their way.
fn expected(step: Step, order: impl Fn(&[usize]) -> Vec<Vec<usize>>) -> Vec<bf16> {
    let mut out = Vec::new();
    for t in 0..NUM_TOKENS {
        let slots: Vec<usize> = (0..NUM_TOPK).filter(|&slot| expert(t, slot) >= 0).collect();
        let groups = order(&slots.iter().map(|&s| expert(t, s) as usize).collect::<Vec<_>>());
        for col in 0..HIDDEN {
            let term = |acc: f32, i: usize| {
                let slot = slots[i];
                let w = match step.weights {
                    CombineWeights::Routed => weight(t, slot),
                    CombineWeights::Ones => 1.0,
                };
                w.mul_add(expert_output(expert(t, slot), token(t, col)).to_f32(), acc)
            };
            let mut acc = match step.reduce {
                Reduce::BySlot => (0..slots.len()).fold(0.0, term),
                Reduce::ByRank => groups.iter().fold(0.0, |acc, group| {
                    acc + round_bf16(group.iter().fold(0.0, |acc, &i| term(acc, i))).to_f32()
                }),
            };
            if step.with_bias {
                acc += bias(t, col).to_f32();
            }
            out.push(round_bf16(acc));
        }
    }
    out
}

fn assert_same(got: &[bf16], want: &[bf16], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let at = (i / HIDDEN, i % HIDDEN);
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: token, column {at:?}: {got} for {want}");
    }
}

fn combine_adds_by_slot_in_fp32_and_rounds_once<B: Backend>(backend: &B) {
    let want = expected(STEP, |_| vec![]);
    assert_same(&run_on(backend, 1, None, STEP), &want, "1 rank");
    let step = Step { with_bias: false, ..STEP };
    assert_same(&run_on(backend, 2, None, step), &expected(step, |_| vec![]), "no bias");
}

fn combine_by_slot_has_the_same_bits_for_any_number_of_ranks<B: Backend>(backend: &B) {
    let want = expected(STEP, |_| vec![]);
    for num_ranks in [2, 4, 8] {
        for layout in [
            STEP.layout,
            RecvLayout::Masked { max_m: None },
            RecvLayout::Capacity { expert_alignment: 1, num_max_recv_rows: 120 },
        ] {
            let got = run_on(backend, num_ranks, None, Step { layout, ..STEP });
            assert_same(&got, &want, &format!("{num_ranks} ranks, {layout:?}"));
        }
    }
}

fn combine_by_rank_adds_partial_sums_by_ascending_rank<B: Backend>(backend: &B) {
    for (num_ranks, per_node) in [(2, None), (4, None), (4, Some(2))] {
        let step = Step { reduce: Reduce::ByRank, ..STEP };
        let num_local = NUM_EXPERTS / num_ranks;
        let want = expected(step, |experts| {
            (0..num_ranks)
                .map(|rank| {
                    (0..experts.len()).filter(|&i| experts[i] / num_local == rank).collect()
                })
                .filter(|group: &Vec<usize>| !group.is_empty())
                .collect()
        });
        let got = run_on(backend, num_ranks, per_node, step);
        assert_same(&got, &want, &format!("{num_ranks} ranks, {per_node:?} per node"));
    }
}

/// Tokens go to two experts that return them, at weights that add up to 1.
fn rows_beyond_the_caches_come_back_as_they_went<B: Backend>(backend: &B) {
    // 8.7 MB in each direction; every other row starts in the middle of a cache line.
    const WIDTH: usize = 7152;
    const NUM_OWN_TOKENS: usize = 608;
    on_ranks(backend, 2, |backend, world| {
        let config = EpConfig {
            num_max_tokens_per_rank: NUM_OWN_TOKENS,
            hidden: WIDTH,
            num_topk: 2,
            num_experts: NUM_EXPERTS,
            wire: WireFormat::Bf16,
            layout: RecvLayout::Exact { expert_alignment: 1 },
            reduce: Reduce::BySlot,
        };
        let stream = backend.stream()?;
        let mut ep = EpBuffer::new(backend, &world, config)?;
        let (rank_idx, shape) = (world.rank_idx(), [NUM_OWN_TOKENS, WIDTH]);
        let sent: Vec<bf16> = (0..NUM_OWN_TOKENS * WIDTH)
            .map(|i| token_value(rank_idx, i / WIDTH, i % WIDTH))
            .collect();
        let x = Tensor::from_host(backend, &sent, shape)?;
        let idx = |i: usize| ((i / 2 + i % 2 * (1 + i % 5)) % NUM_EXPERTS) as i32;
        let topk_idx: Vec<i32> = (0..NUM_OWN_TOKENS * 2).map(idx).collect();
        let topk_idx = Tensor::from_host(backend, &topk_idx, [NUM_OWN_TOKENS, 2])?;
        let weights = [0.25f32, 0.75].repeat(NUM_OWN_TOKENS);
        let weights = Tensor::from_host(backend, &weights, [NUM_OWN_TOKENS, 2])?;

        let tokens = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, tokens, topk_idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let num_rows = pending.num_recv_rows(&ep)?;
        let poison = vec![bf16::NAN; num_rows * WIDTH];
        let mut rows = Tensor::from_host(backend, &poison, [num_rows, WIDTH])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        let returning = ep.combine_send(&stream, &handle, rows.view(), CombineWeights::Routed)?;
        let mut out = Tensor::from_host(backend, &vec![bf16::NAN; sent.len()], shape)?;
        ep.combine_recv(&stream, &handle, returning, None, out.view_mut())?;
        backend.check(&stream)?;
        let differing = out.to_host(backend)?.iter().zip(&sent).position(|(got, want)| got != want);
        assert_eq!(differing, None, "rank {rank_idx}");
        world.close()
    });
}

fn combine_crosses_nodes<B: Backend>(backend: &B) {
    let want = expected(STEP, |_| vec![]);
    for per_node in [1, 2, 3] {
        let got = run_on(backend, 4, Some(per_node), STEP);
        assert_same(&got, &want, &format!("{per_node} ranks per node"));
    }
}

fn combine_with_weights_of_one_is_a_plain_sum<B: Backend>(backend: &B) {
    let step = Step { weights: CombineWeights::Ones, with_bias: false, ..STEP };
    assert_same(&run_on(backend, 2, None, step), &expected(step, |_| vec![]), "ones");
}

fn combine_returns_zeros_for_clipped_rows<B: Backend>(backend: &B) {
    let step = Step { layout: RecvLayout::Masked { max_m: Some(1) }, with_bias: false, ..STEP };
    let out = run_on(backend, 2, None, step);
    assert!(out.iter().all(|x| x.is_finite()), "clipped slots must not bring poison or old rows");
}

fn a_masked_rank_is_dropped_and_counted<B: Backend>(backend: &B) {
    on_ranks(backend, 3, |backend, world| {
        if world.rank_idx() == 1 {
            // This rank takes part in the allocation and then leaves the group.
            let _ep = EpBuffer::new(backend, &world, masked_config())?;
            world.set_rank_mask(&[false, true, false])?;
            return world.close();
        }
        let stream = backend.stream()?;
        let mut ep = EpBuffer::new(backend, &world, masked_config())?;
        world.set_rank_mask(&[true, false, true])?;
        ep.set_rank_mask(&[true, false, true])?;
        let n = 3;
        let x = Tensor::from_host(backend, &vec![bf16::ONE; n * 16], [n, 16])?;
        let idx = Tensor::from_host(backend, &[0, 1, 1, 2, 2, 0], [n, 2])?;
        let weights = Tensor::from_host(backend, &[1.0; 6], [n, 2])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let num_rows = pending.num_recv_rows(&ep)?;
        assert_eq!(num_rows, 4, "two slots of each active rank");
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [num_rows, 16])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        assert_eq!(handle.num_masked_slots(), 2);
        let mut out = Tensor::<B, bf16, 2>::zeros(backend, [n, 16])?;
        let pending = ep.combine_send(&stream, &handle, rows.view(), CombineWeights::Routed)?;
        ep.combine_recv(&stream, &handle, pending, None, out.view_mut())?;
        let sums: Vec<f32> = out.to_host(backend)?.chunks(16).map(|row| row[0].to_f32()).collect();
        assert_eq!(sums, [1.0, 1.0, 2.0], "slots of rank 1 count as nothing");
        world.close()
    });
}

fn masked_config() -> EpConfig {
    EpConfig {
        num_max_tokens_per_rank: 4,
        hidden: 16,
        num_topk: 2,
        num_experts: 3,
        wire: WireFormat::Bf16,
        layout: RecvLayout::Exact { expert_alignment: 1 },
        reduce: Reduce::BySlot,
    }
}

fn combine_refuses_bad_arguments<B: Backend>(backend: &B) {
    on_ranks(backend, 1, |backend, world| {
        let stream = backend.stream()?;
        let mut ep = EpBuffer::new(backend, &world, masked_config())?;
        let x = Tensor::<B, bf16, 2>::zeros(backend, [1, 16])?;
        let idx = Tensor::from_host(backend, &[0, 2], [1, 2])?;
        let weights = Tensor::zeros(backend, [1, 2])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [2, 16])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        let narrow = Tensor::<B, bf16, 2>::zeros(backend, [2, 15])?;
        let error = ep.combine_send(&stream, &handle, narrow.view(), CombineWeights::Routed);
        let error = error.expect_err("narrow").to_string();
        assert_eq!(error, "combine: `y` has shape [2, 15], expected [2, 16]");
        let pending = ep.combine_send(&stream, &handle, rows.view(), CombineWeights::Routed)?;
        let mut out = Tensor::<B, bf16, 2>::zeros(backend, [2, 16])?;
        let error = ep.combine_recv(&stream, &handle, pending, None, out.view_mut());
        let error = error.expect_err("one token").to_string();
        assert_eq!(error, "combine: `out` has shape [2, 16], expected [1, 16]");
        world.close()
    });
}
