//! Dispatch: every token reaches the rows of its experts, in every layout, world and wire format.

use moekit::comm::World;
use moekit::moe::dispatch::{TokensMut, TokensRef};
use moekit::moe::{EpBuffer, EpConfig, ExpertMap, RecvLayout, Reduce, WireFormat};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};

use crate::case::on_every_backend;
use crate::ranks::{on_nodes, on_ranks, token_value};

on_every_backend![
    dispatch_fills_contiguous_rows_in_source_order,
    dispatch_fills_masked_rows,
    dispatch_carries_fp8_values_and_scales,
    dispatch_crosses_nodes,
    dispatch_again_reuses_the_routing,
    dispatch_spreads_replicas_over_tokens,
];

pub const HIDDEN: usize = 48;
pub const NUM_TOPK: usize = 2;
pub const NUM_MAX_TOKENS: usize = 9;

pub fn config(num_experts: usize, layout: RecvLayout) -> EpConfig {
    EpConfig {
        num_max_tokens_per_rank: NUM_MAX_TOKENS,
        hidden: HIDDEN,
        num_topk: NUM_TOPK,
        num_experts,
        wire: WireFormat::Bf16,
        layout,
        reduce: Reduce::BySlot,
    }
}

/// Tokens per rank, one rank without any; expert of (rank, token, slot), some slots not selected.
fn num_tokens(rank_idx: usize) -> usize {
    [7, 0, 9, 4][rank_idx % 4]
}

fn expert(rank_idx: usize, token: usize, slot: usize, num_experts: usize) -> i32 {
    if (rank_idx + token + slot) % 5 == 4 {
        return -1;
    }
    ((rank_idx * 5 + token * 3 + slot * (1 + token)) % num_experts) as i32
}

fn routing(rank_idx: usize, num_experts: usize) -> (Vec<i32>, Vec<f32>) {
    (0..num_tokens(rank_idx) * NUM_TOPK)
        .map(|i| {
            let (token, slot) = (i / NUM_TOPK, i % NUM_TOPK);
            (expert(rank_idx, token, slot, num_experts), 0.25 + slot as f32)
        })
        .unzip()
}

fn tokens(rank_idx: usize, salt: usize) -> Vec<bf16> {
    (0..num_tokens(rank_idx) * HIDDEN)
        .map(|i| token_value(rank_idx, i / HIDDEN, i % HIDDEN + salt))
        .collect()
}

/// The (rank, token) pairs whose slots choose a physical expert, in source order.
fn expected_rows(num_ranks: usize, num_experts: usize, expert_idx: usize) -> Vec<(usize, usize)> {
    let mut rows = Vec::new();
    for rank_idx in 0..num_ranks {
        for token in 0..num_tokens(rank_idx) {
            for slot in 0..NUM_TOPK {
                if expert(rank_idx, token, slot, num_experts) == expert_idx as i32 {
                    rows.push((rank_idx, token));
                }
            }
        }
    }
    rows
}

/// One dispatch of BF16 tokens; checks every valid row and that padding keeps its poison.
fn dispatch_and_check<B: Backend>(backend: &B, world: World, config: EpConfig) -> Result<()> {
    let (rank_idx, num_ranks) = (world.rank_idx(), world.num_ranks());
    let num_experts = config.num_experts;
    let layout = config.layout;
    let stream = backend.stream()?;
    let mut ep = EpBuffer::new(backend, &world, config)?;
    for salt in 0..3 {
        let n = num_tokens(rank_idx);
        let x = Tensor::from_host(backend, &tokens(rank_idx, salt), [n, HIDDEN])?;
        let (idx, weights) = routing(rank_idx, num_experts);
        let idx = Tensor::from_host(backend, &idx, [n, NUM_TOPK])?;
        let weights = Tensor::from_host(backend, &weights, [n, NUM_TOPK])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let num_rows = match layout {
            RecvLayout::Exact { .. } => pending.num_recv_rows(&ep)?,
            _ => ep.config().sizes(num_ranks, num_ranks)?.num_max_recv_rows,
        };
        let poison = vec![bf16::NAN; num_rows * HIDDEN];
        let mut rows = Tensor::from_host(backend, &poison, [num_rows, HIDDEN])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        backend.check(&stream)?;

        let rows = rows.to_host(backend)?;
        let offsets = handle.expert_offsets().to_host(backend)?;
        let mut valid = vec![false; num_rows];
        for (local, expert_idx) in ep.topology().local_experts().enumerate() {
            let expected = expected_rows(num_ranks, num_experts, expert_idx);
            for (i, (src, token)) in expected.into_iter().enumerate() {
                let row = offsets[local] as usize + i;
                valid[row] = true;
                for col in 0..HIDDEN {
                    let want = token_value(src, token, col + salt);
                    let got = rows[row * HIDDEN + col];
                    assert_eq!(got, want, "rank {rank_idx}, expert {expert_idx}, row {row}, {col}");
                }
            }
        }
        for (row, valid) in valid.into_iter().enumerate() {
            assert!(valid || rows[row * HIDDEN].is_nan(), "row {row} is padding but was written");
        }
    }
    world.close()
}

fn dispatch_fills_contiguous_rows_in_source_order<B: Backend>(backend: &B) {
    for num_ranks in [1, 2, 4] {
        for expert_alignment in [1, 8] {
            let exact = config(8, RecvLayout::Exact { expert_alignment });
            on_ranks(backend, num_ranks, move |backend, world| {
                dispatch_and_check(backend, world, exact.clone())
            });
        }
    }
    let capacity = RecvLayout::Capacity { expert_alignment: 4, num_max_recv_rows: 80 };
    on_ranks(backend, 4, move |backend, world| {
        dispatch_and_check(backend, world, config(4, capacity))
    });
}

fn dispatch_fills_masked_rows<B: Backend>(backend: &B) {
    for max_m in [None, Some(16)] {
        on_ranks(backend, 4, move |backend, world| {
            dispatch_and_check(backend, world, config(8, RecvLayout::Masked { max_m }))
        });
    }
}

fn dispatch_crosses_nodes<B: Backend>(backend: &B) {
    for ranks_per_node in [2, 1, 3] {
        on_nodes(backend, 4, Some(ranks_per_node), |backend, world| {
            let exact = RecvLayout::Exact { expert_alignment: 4 };
            dispatch_and_check(backend, world, config(8, exact))
        });
    }
}

fn dispatch_carries_fp8_values_and_scales<B: Backend>(backend: &B) {
    on_ranks(backend, 2, |backend, world| {
        let hidden = 272;
        let config = EpConfig {
            hidden,
            wire: WireFormat::Fp8,
            ..config(2, RecvLayout::Exact { expert_alignment: 4 })
        };
        let rank_idx = world.rank_idx();
        let stream = backend.stream()?;
        let mut ep = EpBuffer::new(backend, &world, config)?;
        let n = 3;
        let code = |rank_idx: usize, token: usize, col: usize| {
            E4M3(((rank_idx * 91 + token * 17 + col) % 127) as u8)
        };
        let scale = |rank_idx: usize, token: usize, block: usize| {
            (1 + rank_idx * 100 + token * 10 + block) as f32
        };
        let values: Vec<E4M3> =
            (0..n * hidden).map(|i| code(rank_idx, i / hidden, i % hidden)).collect();
        let scales: Vec<f32> = (0..n * 3).map(|i| scale(rank_idx, i / 3, i % 3)).collect();
        let x = QuantTensor {
            values: Tensor::from_host(backend, &values, [n, hidden])?,
            scales: Tensor::from_host(backend, &scales, [n, 3])?,
        };
        // Token t of rank r goes to expert (r + t) % 2, in slot 0.
        let idx: Vec<i32> = (0..n).flat_map(|t| [((rank_idx + t) % 2) as i32, -1]).collect();
        let idx = Tensor::from_host(backend, &idx, [n, NUM_TOPK])?;
        let weights = Tensor::zeros(backend, [n, NUM_TOPK])?;
        for layout in [ScaleLayout::RowMajor, ScaleLayout::MnMajor] {
            let x = TokensRef::Fp8(x.view());
            let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
            ep.dispatch_plan(&stream, &mut pending)?;
            let num_rows = pending.num_recv_rows(&ep)?;
            let mut rows = QuantTensor::zeros_per_row(backend, [num_rows, hidden], layout)?;
            let _handle = ep.dispatch_recv(&stream, pending, TokensMut::Fp8(rows.view_mut()))?;
            backend.check(&stream)?;
            let sources: Vec<(usize, usize)> = (0..2)
                .flat_map(|src| (0..n).map(move |t| (src, t)))
                .filter(|(src, t)| (src + t) % 2 == rank_idx)
                .collect();
            assert_eq!(num_rows, 4);
            let (values, scales) = (rows.values.to_host(backend)?, rows.scales.to_host(backend)?);
            for (row, (src, token)) in sources.into_iter().enumerate() {
                for col in 0..hidden {
                    assert_eq!(values[row * hidden + col], code(src, token, col), "{row} {col}");
                }
                for block in 0..3 {
                    let got = scales[rows.scales.layout().offset([row, block])];
                    assert_eq!(got, scale(src, token, block), "{layout:?}, row {row}");
                }
            }
        }
        world.close()
    });
}

fn dispatch_again_reuses_the_routing<B: Backend>(backend: &B) {
    for ranks_per_node in [None, Some(1)] {
        on_nodes(backend, 2, ranks_per_node, |backend, world| {
            let rank_idx = world.rank_idx();
            let stream = backend.stream()?;
            let exact = RecvLayout::Exact { expert_alignment: 1 };
            let mut ep = EpBuffer::new(backend, &world, config(4, exact))?;
            let n = num_tokens(rank_idx);
            let (idx, weights) = routing(rank_idx, 4);
            let idx = Tensor::from_host(backend, &idx, [n, NUM_TOPK])?;
            let weights = Tensor::from_host(backend, &weights, [n, NUM_TOPK])?;
            let mut run = |salt: usize, cached| -> Result<_> {
                let x = Tensor::from_host(backend, &tokens(rank_idx, salt), [n, HIDDEN])?;
                let x = TokensRef::Bf16(x.view());
                let pending = match cached {
                    Some(handle) => ep.dispatch_cached(&stream, x, handle)?,
                    None => {
                        let mut pending =
                            ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
                        ep.dispatch_plan(&stream, &mut pending)?;
                        pending
                    }
                };
                let num_rows = pending.num_recv_rows(&ep)?;
                let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [num_rows, HIDDEN])?;
                let handle =
                    ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
                backend.check(&stream)?;
                Ok((handle, rows.to_host(backend)?))
            };
            let (handle, first) = run(0, None)?;
            let (handle, _) = run(5, Some(handle))?;
            let (_handle, again) = run(0, Some(handle))?;
            assert_eq!(first, again);
            let (_, other) = run(5, None)?;
            assert_ne!(first, other);
            world.close()
        });
    }
}

fn dispatch_spreads_replicas_over_tokens<B: Backend>(backend: &B) {
    on_ranks(backend, 2, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 1 };
        let mut ep = EpBuffer::new(backend, &world, config(4, exact))?;
        // Logical expert 0 has replicas on both ranks.
        ep.set_expert_map(ExpertMap::new(&[0, 1, 0, 2], 3)?)?;
        let n = 6;
        let x = Tensor::<B, bf16, 2>::zeros(backend, [n, HIDDEN])?;
        let idx = Tensor::from_host(backend, &[0, -1].repeat(n), [n, NUM_TOPK])?;
        let weights = Tensor::zeros(backend, [n, NUM_TOPK])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let num_rows = pending.num_recv_rows(&ep)?;
        assert_eq!(num_rows, n, "half of both ranks' tokens");
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [num_rows, HIDDEN])?;
        let _handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        world.close()
    });
}
