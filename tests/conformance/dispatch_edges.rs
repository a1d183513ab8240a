//! Dispatch at its edges: nothing, everything to one expert, too few rows, stale and foreign handles.

use moekit::moe::combine::CombineWeights;
use moekit::moe::dispatch::{PendingDispatch, TokensMut, TokensRef};
use moekit::moe::{EpBuffer, RecvLayout};
use moekit::num::bf16;
use moekit::tensor::Tensor;
use moekit::{Backend, Error, Result};

use crate::case::on_every_backend;
use crate::dispatch::{HIDDEN, NUM_MAX_TOKENS, NUM_TOPK, config};
use crate::ranks::{on_nodes, on_ranks};

on_every_backend![
    dispatch_of_nothing_and_of_everything_to_one_expert,
    dispatch_says_how_many_rows_it_needs,
    dispatch_reports_clipped_rows_at_check,
    dispatch_reports_a_wrong_index_at_check,
    a_later_send_makes_a_pending_dispatch_stale,
    a_handle_of_another_buffer_or_rank_mask_is_refused,
    dispatch_refuses_bad_arguments,
];

/// Sends equal tokens to these experts, with weights of 1, and plans the rows.
fn send<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    ep: &mut EpBuffer<B>,
    value: f32,
    topk_idx: &[i32],
) -> Result<PendingDispatch<B>> {
    let n = topk_idx.len() / NUM_TOPK;
    let x = Tensor::from_host(backend, &vec![bf16::from_f32(value); n * HIDDEN], [n, HIDDEN])?;
    let idx = Tensor::from_host(backend, topk_idx, [n, NUM_TOPK])?;
    let weights = Tensor::from_host(backend, &vec![1.0; topk_idx.len()], [n, NUM_TOPK])?;
    let x = TokensRef::Bf16(x.view());
    let mut pending = ep.dispatch_send(stream, x, idx.view(), weights.view())?;
    ep.dispatch_plan(stream, &mut pending)?;
    Ok(pending)
}

fn dispatch_of_nothing_and_of_everything_to_one_expert<B: Backend>(backend: &B) {
    const NUM_RANKS: usize = 4;
    const ALL: usize = NUM_RANKS * NUM_MAX_TOKENS;
    /// The one that gets everything: the second of rank 2.
    const LOVED: i32 = 5;
    for layout in [
        RecvLayout::Exact { expert_alignment: 16 },
        RecvLayout::Capacity { expert_alignment: 1, num_max_recv_rows: ALL },
        RecvLayout::Masked { max_m: None },
    ] {
        on_ranks(backend, NUM_RANKS, move |backend, world| {
            let stream = backend.stream()?;
            let mut ep = EpBuffer::new(backend, &world, config(8, layout))?;
            let is_loved = world.rank_idx() == 2;
            let nothing = vec![];
            let unselected = vec![-1; NUM_MAX_TOKENS * NUM_TOPK];
            let one = [LOVED, -1].repeat(NUM_MAX_TOKENS);
            for (topk_idx, num_loved) in [(&nothing, 0), (&unselected, 0), (&one, ALL)] {
                let pending = send(backend, &stream, &mut ep, 3.0, topk_idx)?;
                let num_rows = match layout {
                    RecvLayout::Exact { .. } => pending.num_recv_rows(&ep)?,
                    _ => ep.config().sizes(NUM_RANKS, NUM_RANKS)?.num_max_recv_rows,
                };
                let poison = vec![bf16::NAN; num_rows * HIDDEN];
                let mut rows = Tensor::from_host(backend, &poison, [num_rows, HIDDEN])?;
                let handle =
                    ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
                backend.check(&stream)?;
                let counts = handle.num_recv_tokens_per_expert().to_host(backend)?;
                assert_eq!(counts, [0, if is_loved { num_loved as i32 } else { 0 }], "{layout:?}");
                let num_filled = rows.to_host(backend)?.iter().filter(|x| !x.is_nan()).count();
                assert_eq!(num_filled, if is_loved { num_loved * HIDDEN } else { 0 });

                let n = topk_idx.len() / NUM_TOPK;
                let mut out =
                    Tensor::from_host(backend, &vec![bf16::NAN; n * HIDDEN], [n, HIDDEN])?;
                let weights = CombineWeights::Routed;
                let pending = ep.combine_send(&stream, &handle, rows.view(), weights)?;
                ep.combine_recv(&stream, &handle, pending, None, out.view_mut())?;
                let want = bf16::from_f32(if num_loved > 0 { 3.0 } else { 0.0 });
                assert_eq!(out.to_host(backend)?, vec![want; n * HIDDEN], "{layout:?}");
            }
            let load = ep.expert_load().to_host(backend)?;
            assert_eq!(load, [0, if is_loved { ALL as i32 } else { 0 }], "counted over the steps");
            ep.reset_expert_load()?;
            assert_eq!(ep.expert_load().to_host(backend)?, [0, 0]);
            world.close()
        });
    }
}

fn dispatch_says_how_many_rows_it_needs<B: Backend>(backend: &B) {
    on_ranks(backend, 1, |backend, world| {
        let stream = backend.stream()?;
        let exact = RecvLayout::Exact { expert_alignment: 8 };
        let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
        let pending = send(backend, &stream, &mut ep, 0.0, &[0, 1].repeat(3))?;
        let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [15, HIDDEN])?;
        let error = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut())).err();
        let error = error.expect("too few rows").to_string();
        assert_eq!(error, "dispatch: `rows` holds 15 rows, needs 16");
        // The refused step holds nobody up.
        let pending = send(backend, &stream, &mut ep, 3.0, &[0, 1])?;
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
            let pending = send(backend, &stream, &mut ep, 0.0, &[0, 1].repeat(3))?;
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
        let pending = send(backend, &stream, &mut ep, 0.0, &[0, 1, 2, -1])?;
        assert_eq!(pending.num_recv_rows(&ep)?, 2, "the wrong slot is dropped");
        let fault = backend.check(&stream).expect_err("index 2 of 2").to_string();
        assert_eq!(fault, "dispatch: `topk_idx` is 2 (token 1, slot 0), expected -1 to 1");
        world.close()
    });
}

fn a_later_send_makes_a_pending_dispatch_stale<B: Backend>(backend: &B) {
    for ranks_per_node in [None, Some(1)] {
        on_nodes(backend, 2, ranks_per_node, |backend, world| {
            let stream = backend.stream()?;
            let exact = RecvLayout::Exact { expert_alignment: 1 };
            let mut ep = EpBuffer::new(backend, &world, config(2, exact))?;
            let mut rows = Tensor::<B, bf16, 2>::zeros(backend, [2, HIDDEN])?;
            let first = send(backend, &stream, &mut ep, 1.0, &[0, 1])?;
            // Nobody received the first: the second must not wait for that.
            let second = send(backend, &stream, &mut ep, 2.0, &[0, 1])?;
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
            let pending = send(backend, &stream, &mut ep, 1.0, &[0, 1])?;
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
