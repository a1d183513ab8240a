//! Dispatch: every token reaches the rows of its experts, in every layout, world and wire format.

use moekit::comm::World;
use moekit::moe::combine::CombineWeights;
use moekit::moe::dispatch::{PendingDispatch, TokensMut, TokensRef};
use moekit::moe::{EpBuffer, EpConfig, ExpertMap, RecvLayout, Reduce, WireFormat};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Error, Result};

use crate::case::on_every_backend;
use crate::ranks::{on_nodes, on_ranks, token_value};

on_every_backend![
    dispatch_fills_contiguous_rows_in_source_order,
    dispatch_fills_masked_rows,
    dispatch_carries_fp8_values_and_scales,
    dispatch_crosses_nodes,
    dispatch_again_reuses_the_routing,
    dispatch_spreads_replicas_over_tokens,
    dispatch_says_how_many_rows_it_needs,
    dispatch_reports_clipped_rows_at_check,
    dispatch_reports_a_wrong_index_at_check,
    a_later_send_makes_a_pending_dispatch_stale,
    a_handle_of_another_buffer_or_rank_mask_is_refused,
    dispatch_refuses_bad_arguments,
];

const HIDDEN: usize = 48;
const NUM_TOPK: usize = 2;
const NUM_MAX_TOKENS: usize = 9;

fn config(num_experts: usize, layout: RecvLayout) -> EpConfig {
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

fn dispatch_says_how_many_rows_it_needs<B: Backend>(backend: &B) {
    on_ranks(backend, 1, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 8 };
        let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
        let x = Tensor::<B, bf16, 2>::zeros(backend, [3, HIDDEN])?;
        let idx = Tensor::from_host(backend, &[0, 1].repeat(3), [3, NUM_TOPK])?;
        let weights = Tensor::zeros(backend, [3, NUM_TOPK])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [15, HIDDEN])?;
        let error = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut())).err();
        let error = error.expect("too few rows").to_string();
        assert_eq!(error, "dispatch: `rows` holds 15 rows, needs 16");
        // The refused step holds nobody up.
        let pending = send_one_token(backend, &stream, &mut ep, 3.0)?;
        assert_eq!(pending.num_recv_rows(&ep)?, 16);
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [16, HIDDEN])?;
        let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
        let short = Tensor::<B, bf16, 2>::zeros(backend, [15, HIDDEN])?;
        let error = ep.combine_send(&stream, &handle, short.view(), CombineWeights::Routed);
        let error = error.expect_err("too few rows").to_string();
        assert_eq!(error, "combine: `y` holds 15 rows, needs 16");
        world.close()
    });
}

fn dispatch_reports_clipped_rows_at_check<B: Backend>(backend: &B) {
    for (layout, want) in [
        (RecvLayout::Masked { max_m: Some(2) }, "plan: `max_m` holds 2 rows, needs 3"),
        (
            RecvLayout::Capacity { expert_alignment: 1, num_max_recv_rows: 4 },
            "plan: `num_max_recv_rows` holds 4 rows, needs 6",
        ),
    ] {
        on_ranks(backend, 1, move |backend, world| {
            let stream = backend.stream()?;
            let mut ep = EpBuffer::new(backend, &world, config(2, layout))?;
            let x = Tensor::<B, bf16, 2>::zeros(backend, [3, HIDDEN])?;
            let idx = Tensor::from_host(backend, &[0, 1].repeat(3), [3, NUM_TOPK])?;
            let weights = Tensor::zeros(backend, [3, NUM_TOPK])?;
            let x = TokensRef::Bf16(x.view());
            let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
            ep.dispatch_plan(&stream, &mut pending)?;
            let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [4, HIDDEN])?;
            let _handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
            let fault = backend.check(&stream).expect_err("rows were clipped").to_string();
            assert_eq!(fault, want);
            world.close()
        });
    }
}

fn dispatch_reports_a_wrong_index_at_check<B: Backend>(backend: &B) {
    on_ranks(backend, 1, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 1 };
        let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
        let x = Tensor::<B, bf16, 2>::zeros(backend, [2, HIDDEN])?;
        let idx = Tensor::from_host(backend, &[0, 1, 2, -1], [2, NUM_TOPK])?;
        let weights = Tensor::zeros(backend, [2, NUM_TOPK])?;
        let x = TokensRef::Bf16(x.view());
        let mut pending = ep.dispatch_send(&stream, x, idx.view(), weights.view())?;
        ep.dispatch_plan(&stream, &mut pending)?;
        assert_eq!(pending.num_recv_rows(&ep)?, 2, "the wrong slot is dropped");
        let fault = backend.check(&stream).expect_err("index 2 of 2").to_string();
        assert_eq!(fault, "dispatch: `topk_idx` is 2 (token 1, slot 0), expected -1 to 1");
        world.close()
    });
}

/// Sends one token of each rank to expert 0 and expert 1.
fn send_one_token<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    ep: &mut EpBuffer<B>,
    value: f32,
) -> Result<PendingDispatch<B>> {
    let x = Tensor::from_host(backend, &[bf16::from_f32(value); HIDDEN], [1, HIDDEN])?;
    let idx = Tensor::from_host(backend, &[0, 1], [1, NUM_TOPK])?;
    let weights = Tensor::from_host(backend, &[1.0, 1.0], [1, NUM_TOPK])?;
    let x = TokensRef::Bf16(x.view());
    let mut pending = ep.dispatch_send(stream, x, idx.view(), weights.view())?;
    ep.dispatch_plan(stream, &mut pending)?;
    Ok(pending)
}

fn a_later_send_makes_a_pending_dispatch_stale<B: Backend>(backend: &B) {
    for ranks_per_node in [None, Some(1)] {
        on_nodes(backend, 2, ranks_per_node, |backend, world| {
            let stream = backend.stream()?;
            let exact = RecvLayout::Exact { expert_alignment: 1 };
            let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
            let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [2, HIDDEN])?;
            let first = send_one_token(backend, &stream, &mut ep, 1.0)?;
            // Nobody received the first: the second must not wait for that.
            let second = send_one_token(backend, &stream, &mut ep, 2.0)?;
            let error = ep.dispatch_recv(&stream, first, TokensMut::Bf16(rows.view_mut()));
            let error = error.err().expect("the first is stale");
            assert_eq!(
                error.to_string(),
                "dispatch: the handle is of epoch 1, its buffer is at epoch 2"
            );
            let handle = ep.dispatch_recv(&stream, second, TokensMut::Bf16(rows.view_mut()))?;
            assert_eq!(rows.to_host(backend)?, [bf16::from_f32(2.0); 2 * HIDDEN]);

            let weights = CombineWeights::Routed;
            let first = ep.combine_send(&stream, &handle, rows.view(), weights)?;
            let second = ep.combine_send(&stream, &handle, rows.view(), weights)?;
            let mut out = Tensor::<B, bf16, 2>::zeros(backend, [1, HIDDEN])?;
            let error = ep.combine_recv(&stream, &handle, first, None, out.view_mut());
            let error = error.expect_err("the first is stale").to_string();
            assert_eq!(error, "combine: the handle is of epoch 1, its buffer is at epoch 2");
            ep.combine_recv(&stream, &handle, second, None, out.view_mut())?;
            assert_eq!(out.to_host(backend)?, [bf16::from_f32(4.0); HIDDEN]);
            world.close()
        });
    }
}

fn a_handle_of_another_buffer_or_rank_mask_is_refused<B: Backend>(backend: &B) {
    on_ranks(backend, 2, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 1 };
        let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
        let mut other = EpBuffer::new(backend, &world, config(2, exact))?;
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [2, HIDDEN])?;
        let mut handle = || -> Result<_> {
            let pending = send_one_token(backend, &stream, &mut ep, 1.0)?;
            ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))
        };
        let (first, second) = (handle()?, handle()?);
        let x = Tensor::<B, bf16, 2>::zeros(backend, [1, HIDDEN])?;
        let x = TokensRef::Bf16(x.view());
        let error = other.dispatch_cached(&stream, x, first).err().expect("foreign").to_string();
        assert!(error.contains("a handle of another buffer"), "{error}");

        // Rank 1 leaves: what was routed to it can be neither sent again nor combined.
        world.barrier("before the mask")?;
        let mask = [true, false];
        world.set_rank_mask(&mask)?;
        if world.rank_idx() == 1 {
            let error = ep.set_rank_mask(&mask).expect_err("this rank is left out").to_string();
            assert!(error.contains("this rank left out"), "{error}");
            return world.close();
        }
        ep.set_rank_mask(&[true, true])?;
        ep.set_rank_mask(&mask)?;
        let y = rows.view();
        let error = ep.combine_send(&stream, &second, y, CombineWeights::Routed).err();
        assert!(matches!(error, Some(Error::StaleHandle { op: "combine", .. })), "{error:?}");
        let error = ep.dispatch_cached(&stream, x, second).err();
        assert!(matches!(error, Some(Error::StaleHandle { op: "dispatch", .. })), "{error:?}");
        let error = ep.set_rank_mask(&[true, true]).expect_err("it cannot come back").to_string();
        assert!(error.contains("rank 1 active again"), "{error}");
        world.close()
    });
}

fn dispatch_refuses_bad_arguments<B: Backend>(backend: &B) {
    on_ranks(backend, 1, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 1 };
        let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
        let mut refused = |num_tokens: usize, width: usize, num_topk: usize| -> Result<Error> {
            let x = Tensor::<B, bf16, 2>::zeros(backend, [num_tokens, width])?;
            let idx = Tensor::zeros(backend, [num_tokens, num_topk])?;
            let weights = Tensor::zeros(backend, [num_tokens, num_topk])?;
            let x = TokensRef::Bf16(x.view());
            let result = ep.dispatch_send(&stream, x, idx.view(), weights.view());
            Ok(result.err().expect("refused"))
        };
        let error = refused(NUM_MAX_TOKENS + 1, HIDDEN, NUM_TOPK)?.to_string();
        assert_eq!(error, "dispatch: `num_max_tokens_per_rank` holds 9 tokens, needs 10");
        let error = refused(2, HIDDEN + 1, NUM_TOPK)?.to_string();
        assert_eq!(error, "dispatch: `x` has shape [2, 49], expected [2, 48]");
        let error = refused(2, HIDDEN, 3)?.to_string();
        assert_eq!(error, "dispatch: `topk_idx` has shape [2, 3], expected [2, 2]");
        world.close()
    });
}
