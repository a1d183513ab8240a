//! Plan: which row of the receive buffer each routed token takes.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::{TensorMut, TensorRef};

const OP: &str = "plan";

/// How the rows of a rank's experts lie in one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLayout {
    /// Experts one after another, each starting at a multiple of `expert_alignment`.
    Contiguous {
        /// Every `block_m` in use divides it; at least 1.
        expert_alignment: usize,
    },
    /// `max_m` rows for each expert, the valid ones first.
    Masked {
        /// Rows of each expert.
        max_m: usize,
    },
}

/// What [`Backend::plan`] writes.
#[derive(Debug)]
pub struct PlanOut<'a, B> {
    /// INT32 `[num_local_experts + 1]`: first row of each expert, then the end; clipped to the rows.
    pub expert_offsets: TensorMut<'a, B, i32, 1>,
    /// INT32 `[num_local_experts]`: tokens routed to each expert, unaligned and never clipped.
    pub num_recv_tokens_per_expert: TensorMut<'a, B, i32, 1>,
    /// INT32 `[num_local_experts]`: `num_recv_tokens_per_expert` is added to it, saturating.
    pub expert_load: Option<TensorMut<'a, B, i32, 1>>,
    /// INT32 `[num_rows]`: local expert of each row; -1 marks padding.
    pub grouped_layout: TensorMut<'a, B, i32, 1>,
    /// INT32 `[num_rows]`: `src_token_global_idx * num_topk + topk slot` of each row; -1 marks padding.
    pub src_info: TensorMut<'a, B, i32, 1>,
    /// INT32 `[num_tokens, num_topk]`: row of each routed slot; -1 where the expert is not local,
    /// not selected, or the row was clipped.
    pub slot_rows: TensorMut<'a, B, i32, 2>,
}

/// Arguments of [`Backend::plan`].
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `topk_idx` | INT32 | `[num_tokens, num_topk]` | row-major; physical expert, -1 = not selected; row = `src_token_global_idx` |
///
/// The outputs are described at [`PlanOut`].
///
/// # Errors
///
/// By [`PlanArgs::new`]; at [`Backend::check`]: [`Error::Capacity`] if a row did not fit (rows are
/// clipped, counts stay true), [`Error::Value`] if an index is outside `-1..num_experts` (the slot
/// is treated as not selected).
///
/// # Source
///
/// DeepEP `dispatch` with `expert_alignment` and `get_fused_mapping` of TileKernels. Differs: the
/// rows of an expert always ascend by `src_token_global_idx`.
///
/// # Examples
///
/// Two tokens of two slots, three experts, each expert's rows from a multiple of 2 on.
///
/// ```
/// use moekit::moe::plan::{PlanArgs, PlanOut, RowLayout};
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let topk_idx = Tensor::from_host(&cpu, &[0, 2, 2, -1], [2, 2])?;
/// let (mut expert_offsets, mut counts) = (Tensor::zeros(&cpu, [4])?, Tensor::zeros(&cpu, [3])?);
/// let (mut grouped_layout, mut src_info) = (Tensor::zeros(&cpu, [4])?, Tensor::zeros(&cpu, [4])?);
/// let mut slot_rows = Tensor::zeros(&cpu, [2, 2])?;
/// let out = PlanOut {
///     expert_offsets: expert_offsets.view_mut(),
///     num_recv_tokens_per_expert: counts.view_mut(),
///     expert_load: None,
///     grouped_layout: grouped_layout.view_mut(),
///     src_info: src_info.view_mut(),
///     slot_rows: slot_rows.view_mut(),
/// };
/// let layout = RowLayout::Contiguous { expert_alignment: 2 };
/// cpu.plan(&stream, PlanArgs::new(topk_idx.view(), 3, 0..3, layout, out)?)?;
/// cpu.check(&stream)?;
/// assert_eq!(expert_offsets.to_host(&cpu)?, [0, 2, 2, 4]);
/// assert_eq!(counts.to_host(&cpu)?, [1, 0, 2]);
/// assert_eq!(grouped_layout.to_host(&cpu)?, [0, -1, 2, 2]);
/// assert_eq!(src_info.to_host(&cpu)?, [0, -1, 1, 2]);
/// assert_eq!(slot_rows.to_host(&cpu)?, [0, 2, 3, -1]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct PlanArgs<'a, B> {
    pub(crate) topk_idx: TensorRef<'a, B, i32, 2>,
    pub(crate) num_experts: usize,
    pub(crate) local_experts: std::ops::Range<usize>,
    pub(crate) layout: RowLayout,
    pub(crate) out: PlanOut<'a, B>,
    pub(crate) weights: Option<PlanWeights<'a, B>>,
}

/// Weights by slot, and where they go by row.
#[derive(Debug)]
pub(crate) struct PlanWeights<'a, B> {
    pub(crate) topk_weights: TensorRef<'a, B, f32, 2>,
    pub(crate) row_weights: TensorMut<'a, B, f32, 1>,
}

impl<'a, B: Backend> PlanArgs<'a, B> {
    /// Checks the metadata.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `local_experts` lies in `0..num_experts` and the layout's extent is
    /// at least 1 and fits INT32; [`Error::Shape`] or [`Error::Stride`] unless every tensor is as
    /// stated; [`Error::Value`] if rows or slots do not fit INT32.
    pub fn new(
        topk_idx: TensorRef<'a, B, i32, 2>,
        num_experts: usize,
        local_experts: std::ops::Range<usize>,
        layout: RowLayout,
        out: PlanOut<'a, B>,
    ) -> Result<Self> {
        if local_experts.start > local_experts.end || local_experts.end > num_experts {
            let expected = format!("a range within 0..{num_experts}");
            return Err(Error::value(OP, "local_experts", expected, format!("{local_experts:?}")));
        }
        let [num_tokens, num_topk] = topk_idx.shape();
        let [num_rows] = out.src_info.shape();
        let num_local = local_experts.len();
        match layout {
            RowLayout::Contiguous { expert_alignment } => {
                if !(1..=i32::MAX as usize).contains(&expert_alignment) {
                    let expected = format!("1 to {}", i32::MAX);
                    return Err(Error::value(OP, "expert_alignment", expected, expert_alignment));
                }
            }
            RowLayout::Masked { max_m } => {
                check_shape("src_info", &[num_local.saturating_mul(max_m)], &[num_rows])?;
            }
        }
        let num_slots = num_tokens.saturating_mul(num_topk);
        if num_slots > i32::MAX as usize || num_rows > i32::MAX as usize {
            let got = format!("{num_tokens} x {num_topk} slots, {num_rows} rows");
            return Err(Error::value(OP, "topk_idx", "at most 2^31 - 1 slots and rows", got));
        }
        check_shape("expert_offsets", &[num_local + 1], &out.expert_offsets.shape())?;
        let counts = out.num_recv_tokens_per_expert.shape();
        check_shape("num_recv_tokens_per_expert", &[num_local], &counts)?;
        if let Some(load) = &out.expert_load {
            check_shape("expert_load", &[num_local], &load.shape())?;
            check_contiguous("expert_load", load.layout())?;
        }
        check_shape("grouped_layout", &[num_rows], &out.grouped_layout.shape())?;
        check_shape("slot_rows", &[num_tokens, num_topk], &out.slot_rows.shape())?;
        check_contiguous("topk_idx", topk_idx.layout())?;
        check_contiguous("expert_offsets", out.expert_offsets.layout())?;
        check_contiguous("num_recv_tokens_per_expert", out.num_recv_tokens_per_expert.layout())?;
        check_contiguous("grouped_layout", out.grouped_layout.layout())?;
        check_contiguous("src_info", out.src_info.layout())?;
        check_contiguous("slot_rows", out.slot_rows.layout())?;
        Ok(Self { topk_idx, num_experts, local_experts, layout, out, weights: None })
    }

    /// Also gives each row the weight of its slot: FP32 `topk_weights` `[num_tokens, num_topk]` to `row_weights`
    /// `[num_rows]`, both contiguous; 0 in padding rows. They are what products and activations take as weights of rows.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Stride`] unless the tensors are as stated.
    pub fn with_row_weights(
        self,
        topk_weights: TensorRef<'a, B, f32, 2>,
        row_weights: TensorMut<'a, B, f32, 1>,
    ) -> Result<Self> {
        check_shape("topk_weights", &self.topk_idx.shape(), &topk_weights.shape())?;
        check_shape("row_weights", &self.out.src_info.shape(), &row_weights.shape())?;
        check_contiguous("topk_weights", topk_weights.layout())?;
        check_contiguous("row_weights", row_weights.layout())?;
        Ok(Self { weights: Some(PlanWeights { topk_weights, row_weights }), ..self })
    }
}

fn check_shape(arg: &'static str, expected: &[usize], got: &[usize]) -> Result<()> {
    crate::tensor::check::shape(OP, arg, expected, got)
}

fn check_contiguous<const R: usize>(
    arg: &'static str,
    layout: crate::tensor::Layout<R>,
) -> Result<()> {
    crate::tensor::check::contiguous(OP, arg, layout)
}
