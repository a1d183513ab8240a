//! Plan: counts, offsets, padding, and which row each slot takes.

use moekit::moe::plan::{PlanArgs, PlanOut, RowLayout};
use moekit::tensor::{Tensor, TensorMut};
use moekit::{Backend, Error, Result};

use crate::case::on_every_backend;

on_every_backend![
    plan_pads_each_expert_to_the_alignment,
    plan_skips_experts_of_other_ranks_and_unselected_slots,
    plan_gives_each_expert_max_m_rows_when_masked,
    plan_keeps_true_counts_when_rows_are_clipped,
    plan_reports_an_index_out_of_range,
    plan_of_no_tokens_is_empty,
    plan_orders_many_tokens_by_source,
    plan_gives_rows_the_weights_of_their_slots,
    plan_refuses_outputs_of_the_wrong_shape,
];

/// All that plan writes, on the host.
#[derive(Debug)]
struct Planned {
    expert_offsets: Vec<i32>,
    num_recv: Vec<i32>,
    grouped_layout: Vec<i32>,
    src_info: Vec<i32>,
    slot_rows: Vec<i32>,
    checked: Result<()>,
}

struct PlanCase {
    topk_idx: Vec<i32>,
    num_topk: usize,
    num_experts: usize,
    local_experts: std::ops::Range<usize>,
    layout: RowLayout,
    num_rows: usize,
}

impl PlanCase {
    fn run<B: Backend>(&self, backend: &B) -> Result<Planned> {
        let stream = backend.stream()?;
        let num_tokens = self.topk_idx.len() / self.num_topk;
        let num_local = self.local_experts.len();
        let topk_shape = [num_tokens, self.num_topk];
        let topk_idx = Tensor::from_host(backend, &self.topk_idx, topk_shape)?;
        let mut memory = PlanMemory::new(backend, topk_shape, num_local, self.num_rows)?;
        let mut load = Tensor::from_host(backend, &vec![100; num_local], [num_local])?;
        let args = PlanArgs::new(
            topk_idx.view(),
            self.num_experts,
            self.local_experts.clone(),
            self.layout,
            memory.out(Some(load.view_mut())),
        )?;
        backend.plan(&stream, args)?;
        let added = load.to_host(backend)?.iter().map(|load| load - 100).collect::<Vec<_>>();
        assert_eq!(added, memory.num_recv.to_host(backend)?, "the load grows by the counts");
        Ok(Planned {
            checked: backend.check(&stream),
            expert_offsets: memory.offsets.to_host(backend)?,
            num_recv: memory.num_recv.to_host(backend)?,
            grouped_layout: memory.grouped_layout.to_host(backend)?,
            src_info: memory.src_info.to_host(backend)?,
            slot_rows: memory.slot_rows.to_host(backend)?,
        })
    }
}

/// Outputs of a plan, which start as a value that no plan writes.
struct PlanMemory<B: Backend> {
    offsets: Tensor<B, i32, 1>,
    num_recv: Tensor<B, i32, 1>,
    grouped_layout: Tensor<B, i32, 1>,
    src_info: Tensor<B, i32, 1>,
    slot_rows: Tensor<B, i32, 2>,
}

impl<B: Backend> PlanMemory<B> {
    fn new(backend: &B, topk_shape: [usize; 2], num_local: usize, num_rows: usize) -> Result<Self> {
        let poison = |len: usize| vec![2_147_480_000; len];
        let new = |len: usize| Tensor::from_host(backend, &poison(len), [len]);
        let num_slots = topk_shape[0] * topk_shape[1];
        Ok(Self {
            offsets: new(num_local + 1)?,
            num_recv: new(num_local)?,
            grouped_layout: new(num_rows)?,
            src_info: new(num_rows)?,
            slot_rows: Tensor::from_host(backend, &poison(num_slots), topk_shape)?,
        })
    }

    fn out<'a>(&'a mut self, expert_load: Option<TensorMut<'a, B, i32, 1>>) -> PlanOut<'a, B> {
        PlanOut {
            expert_offsets: self.offsets.view_mut(),
            num_recv_tokens_per_expert: self.num_recv.view_mut(),
            expert_load,
            grouped_layout: self.grouped_layout.view_mut(),
            src_info: self.src_info.view_mut(),
            slot_rows: self.slot_rows.view_mut(),
        }
    }
}

fn plan_pads_each_expert_to_the_alignment<B: Backend>(backend: &B) {
    let case = PlanCase {
        topk_idx: vec![0, 2, 2, 0],
        num_topk: 2,
        num_experts: 3,
        local_experts: 0..3,
        layout: RowLayout::Contiguous { expert_alignment: 4 },
        num_rows: 10,
    };
    let plan = case.run(backend).expect("plan");
    plan.checked.expect("no fault");
    assert_eq!(plan.expert_offsets, [0, 4, 4, 8]);
    assert_eq!(plan.num_recv, [2, 0, 2]);
    assert_eq!(plan.grouped_layout, [0, 0, -1, -1, 2, 2, -1, -1, -1, -1]);
    assert_eq!(plan.src_info, [0, 3, -1, -1, 1, 2, -1, -1, -1, -1]);
    assert_eq!(plan.slot_rows, [0, 4, 5, 1]);
}

fn plan_skips_experts_of_other_ranks_and_unselected_slots<B: Backend>(backend: &B) {
    let case = PlanCase {
        topk_idx: vec![5, -1, 4, 0, -1, -1, 7, 5],
        num_topk: 2,
        num_experts: 8,
        local_experts: 4..6,
        layout: RowLayout::Contiguous { expert_alignment: 1 },
        num_rows: 3,
    };
    let plan = case.run(backend).expect("plan");
    plan.checked.expect("no fault");
    assert_eq!(plan.expert_offsets, [0, 1, 3]);
    assert_eq!(plan.grouped_layout, [0, 1, 1]);
    assert_eq!(plan.src_info, [2, 0, 7]);
    assert_eq!(plan.slot_rows, [1, -1, 0, -1, -1, -1, -1, 2]);
}

fn plan_gives_each_expert_max_m_rows_when_masked<B: Backend>(backend: &B) {
    let case = PlanCase {
        topk_idx: vec![1, 1, 0, -1],
        num_topk: 1,
        num_experts: 2,
        local_experts: 0..2,
        layout: RowLayout::Masked { max_m: 3 },
        num_rows: 6,
    };
    let plan = case.run(backend).expect("plan");
    plan.checked.expect("no fault");
    assert_eq!(plan.expert_offsets, [0, 3, 6]);
    assert_eq!(plan.num_recv, [1, 2]);
    assert_eq!(plan.grouped_layout, [0, -1, -1, 1, 1, -1]);
    assert_eq!(plan.src_info, [2, -1, -1, 0, 1, -1]);
    assert_eq!(plan.slot_rows, [3, 4, 0, -1]);
}

fn plan_keeps_true_counts_when_rows_are_clipped<B: Backend>(backend: &B) {
    let contiguous = PlanCase {
        topk_idx: vec![0, 1, 1, 1],
        num_topk: 1,
        num_experts: 2,
        local_experts: 0..2,
        layout: RowLayout::Contiguous { expert_alignment: 2 },
        num_rows: 3,
    };
    let plan = contiguous.run(backend).expect("plan");
    let fault = plan.checked.expect_err("rows were clipped").to_string();
    assert_eq!(fault, "plan: `num_max_recv_rows` holds 3 rows, needs 6");
    assert_eq!(plan.num_recv, [1, 3]);
    assert_eq!(plan.expert_offsets, [0, 2, 3]);
    assert_eq!(plan.slot_rows, [0, 2, -1, -1]);

    let masked = PlanCase { layout: RowLayout::Masked { max_m: 2 }, num_rows: 4, ..contiguous };
    let plan = masked.run(backend).expect("plan");
    let fault = plan.checked.expect_err("rows were clipped").to_string();
    assert_eq!(fault, "plan: `max_m` holds 2 rows, needs 3");
    assert_eq!(plan.num_recv, [1, 3]);
    assert_eq!(plan.slot_rows, [0, 2, 3, -1]);
}

fn plan_reports_an_index_out_of_range<B: Backend>(backend: &B) {
    for bad in [4, -2, i32::MAX, i32::MIN] {
        let case = PlanCase {
            topk_idx: vec![3, bad],
            num_topk: 1,
            num_experts: 4,
            local_experts: 2..4,
            layout: RowLayout::Contiguous { expert_alignment: 1 },
            num_rows: 2,
        };
        let plan = case.run(backend).expect("plan");
        let fault = plan.checked.expect_err("an index is wrong").to_string();
        assert_eq!(fault, format!("plan: `topk_idx` is {bad}, expected -1 to 3"));
        assert_eq!(plan.slot_rows, [0, -1]);
    }
}

fn plan_of_no_tokens_is_empty<B: Backend>(backend: &B) {
    let case = PlanCase {
        topk_idx: vec![],
        num_topk: 8,
        num_experts: 4,
        local_experts: 0..4,
        layout: RowLayout::Contiguous { expert_alignment: 128 },
        num_rows: 0,
    };
    let plan = case.run(backend).expect("plan");
    plan.checked.expect("no fault");
    assert_eq!(plan.expert_offsets, [0; 5]);
    assert_eq!(plan.num_recv, [0; 4]);
}

fn plan_orders_many_tokens_by_source<B: Backend>(backend: &B) {
    let (num_tokens, num_topk, num_experts) = (20_011, 3, 7);
    let topk_idx: Vec<i32> = (0..num_tokens * num_topk)
        .map(|i| ((i * 2_654_435_761) >> 7) % (num_experts + 1))
        .map(|choice| choice as i32 - 1)
        .collect();
    let case = PlanCase {
        topk_idx: topk_idx.clone(),
        num_topk,
        num_experts,
        local_experts: 0..num_experts,
        layout: RowLayout::Contiguous { expert_alignment: 16 },
        num_rows: num_tokens * num_topk + num_experts * 15,
    };
    let plan = case.run(backend).expect("plan");
    plan.checked.expect("no fault");
    let mut row = 0;
    for expert in 0..num_experts {
        assert_eq!(plan.expert_offsets[expert], row as i32, "expert {expert}");
        for (slot, _) in topk_idx.iter().enumerate().filter(|(_, idx)| **idx == expert as i32) {
            assert_eq!(plan.src_info[row], slot as i32, "row {row}");
            assert_eq!(plan.slot_rows[slot], row as i32, "slot {slot}");
            assert_eq!(plan.grouped_layout[row], expert as i32, "row {row}");
            row += 1;
        }
        while row % 16 != 0 {
            assert_eq!((plan.src_info[row], plan.grouped_layout[row]), (-1, -1), "row {row}");
            row += 1;
        }
    }
}

fn plan_gives_rows_the_weights_of_their_slots<B: Backend>(backend: &B) {
    let stream = backend.stream().expect("stream");
    let (num_tokens, num_topk, num_experts) = (1_009, 3, 6);
    let topk_idx: Vec<i32> = (0..num_tokens * num_topk)
        .map(|i| ((i * 2_654_435_761) >> 7) % 7)
        .map(|i| i as i32 - 1)
        .collect();
    let topk_weights: Vec<f32> = (1..=topk_idx.len()).map(|i| 1.0 / i as f32).collect();
    let topk_shape = [num_tokens, num_topk];
    let idx = Tensor::from_host(backend, &topk_idx, topk_shape).expect("topk_idx");
    let weights = Tensor::from_host(backend, &topk_weights, topk_shape).expect("topk_weights");
    // Of the last layout some rows are clipped.
    for (layout, num_rows) in [
        (RowLayout::Contiguous { expert_alignment: 1 }, 2_000),
        (RowLayout::Contiguous { expert_alignment: 40 }, 2_003),
        (RowLayout::Masked { max_m: 501 }, 3 * 501),
        (RowLayout::Masked { max_m: 64 }, 3 * 64),
    ] {
        let mut row_weights =
            Tensor::from_host(backend, &vec![f32::NAN; num_rows], [num_rows]).expect("row_weights");
        let mut memory = PlanMemory::new(backend, topk_shape, 3, num_rows).expect("memory");
        let args = PlanArgs::new(idx.view(), num_experts, 2..5, layout, memory.out(None));
        let args = args.and_then(|it| it.with_row_weights(weights.view(), row_weights.view_mut()));
        backend.plan(&stream, args.expect("args")).expect("plan");
        let is_clipped = backend.check(&stream).is_err();
        assert_eq!(is_clipped, num_rows == 3 * 64, "{layout:?}");
        let src_info = memory.src_info.to_host(backend).expect("src_info");
        let want = src_info.iter().map(|&slot| topk_weights.get(slot as usize).copied());
        let want: Vec<f32> = want.map(Option::unwrap_or_default).collect();
        assert!(want.contains(&0.0) || is_clipped, "{layout:?} has padding");
        assert_eq!(row_weights.to_host(backend).expect("weights"), want, "{layout:?}");
    }
}

fn plan_refuses_outputs_of_the_wrong_shape<B: Backend>(backend: &B) {
    let case = PlanCase {
        topk_idx: vec![0; 4],
        num_topk: 2,
        num_experts: 3,
        local_experts: 0..3,
        layout: RowLayout::Masked { max_m: 4 },
        num_rows: 11,
    };
    let error = case.run(backend).expect_err("11 rows are not 3 x 4");
    assert!(matches!(error, Error::Shape { op: "plan", arg: "src_info", .. }), "{error}");
    let case = PlanCase { layout: RowLayout::Contiguous { expert_alignment: 0 }, ..case };
    let error = case.run(backend).expect_err("no alignment").to_string();
    assert_eq!(error, "plan: `expert_alignment` is 0, expected 1 to 2147483647");
    let case = PlanCase {
        local_experts: 1..4,
        layout: RowLayout::Contiguous { expert_alignment: 1 },
        ..case
    };
    let error = case.run(backend).expect_err("expert 3 of 3").to_string();
    assert_eq!(error, "plan: `local_experts` is 1..4, expected a range within 0..3");
}
