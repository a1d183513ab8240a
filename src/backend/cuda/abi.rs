//! The structs of `csrc/abi`, as bindgen sees them. Made by `cargo xtask abi`; not to be edited.

#[repr(u32)]
#[doc = " What is wrong; within one launch the lower kind is told first. `values` are those of FaultRecord."]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum FaultKind {
    #[doc = " a logit or a score is NaN; position = 2 * token, + 1 if no logit is"]
    GateLogits = 0,
    #[doc = " rows were clipped; values = {needed, capacity, 1 if masked}"]
    PlanCapacity = 1,
    #[doc = " an expert out of range; position = slot, values = {expert, num_experts, -}"]
    PlanIndex = 2,
    #[doc = " offsets break their rule; values = {offset, index, m}"]
    TransposeOffsets = 3,
    #[doc = " no power of two; position in the order of tiles, values = {bits, group * 2^32 + row, block}"]
    PackScales = 4,
    #[doc = " no group; position = row, values = {group, row, num_groups}"]
    GroupedLayout = 5,
    #[doc = " offsets or counts break their rule; position = group, values = {value, group, m}"]
    GroupedOffsets = 6,
    #[doc = " fewer rows than none; position = group, values = {rows, group, -}"]
    MaskedRows = 7,
}
pub const NUM_FAULT_KINDS: u32 = 8;
#[doc = " The first fault of one kind since the last check."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct FaultRecord {
    #[doc = " launch_idx * 2^32 + position of the first fault; all bits set = none"]
    pub order: u64,
    #[doc = " what the error tells"]
    pub values: [i64; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of FaultRecord"][::core::mem::size_of::<FaultRecord>() - 32usize];
    ["Alignment of FaultRecord"][::core::mem::align_of::<FaultRecord>() - 8usize];
    ["Offset of field: FaultRecord::order"][::core::mem::offset_of!(FaultRecord, order) - 0usize];
    ["Offset of field: FaultRecord::values"][::core::mem::offset_of!(FaultRecord, values) - 8usize];
};
#[doc = " Where a launch leaves its faults."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct FaultSink {
    #[doc = " [kNumFaultKinds], in device memory"]
    pub records: *mut FaultRecord,
    #[doc = " ascends along the stream"]
    pub launch_idx: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of FaultSink"][::core::mem::size_of::<FaultSink>() - 16usize];
    ["Alignment of FaultSink"][::core::mem::align_of::<FaultSink>() - 8usize];
    ["Offset of field: FaultSink::records"][::core::mem::offset_of!(FaultSink, records) - 0usize];
    ["Offset of field: FaultSink::launch_idx"]
        [::core::mem::offset_of!(FaultSink, launch_idx) - 8usize];
    ["Offset of field: FaultSink::reserved"]
        [::core::mem::offset_of!(FaultSink, reserved) - 12usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum Scoring {
    Softmax = 0,
    Sigmoid = 1,
}
#[doc = " kernels/gate/lanes.cuh and kernels/gate/shared.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct GateParams {
    #[doc = " FP32 [num_tokens, num_experts]"]
    pub logits: *const f32,
    pub logits_row_stride: u64,
    #[doc = " FP32 [num_experts]; null = 0"]
    pub bias: *const f32,
    #[doc = " INT32 [num_tokens, num_topk]"]
    pub topk_idx: *mut i32,
    #[doc = " FP32 [num_tokens, num_topk]"]
    pub topk_weights: *mut f32,
    pub faults: FaultSink,
    pub num_tokens: u32,
    pub num_experts: u32,
    pub num_topk: u32,
    pub num_expert_groups: u32,
    pub num_topk_groups: u32,
    pub scoring: Scoring,
    pub renormalize: u32,
    pub routed_scaling_factor: f32,
    #[doc = " 1 if every row of logits starts at a multiple of 16 bytes; lanes.cuh: if what each lane has of logits and bias\n does"]
    pub is_aligned: u32,
    #[doc = " shared.cuh: shared memory of one token, 12 * align(num_experts, 4)"]
    pub token_bytes: u32,
    #[doc = " lanes.cuh: the power of two, at most 32 / num_expert_groups; of a group's experts each lane has so many."]
    pub lanes_per_group: u32,
    #[doc = " lanes.cuh: the power of two, at most 32 / num_expert_groups; of a group's experts each lane has so many."]
    pub experts_per_lane: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GateParams"][::core::mem::size_of::<GateParams>() - 104usize];
    ["Alignment of GateParams"][::core::mem::align_of::<GateParams>() - 8usize];
    ["Offset of field: GateParams::logits"][::core::mem::offset_of!(GateParams, logits) - 0usize];
    ["Offset of field: GateParams::logits_row_stride"]
        [::core::mem::offset_of!(GateParams, logits_row_stride) - 8usize];
    ["Offset of field: GateParams::bias"][::core::mem::offset_of!(GateParams, bias) - 16usize];
    ["Offset of field: GateParams::topk_idx"]
        [::core::mem::offset_of!(GateParams, topk_idx) - 24usize];
    ["Offset of field: GateParams::topk_weights"]
        [::core::mem::offset_of!(GateParams, topk_weights) - 32usize];
    ["Offset of field: GateParams::faults"][::core::mem::offset_of!(GateParams, faults) - 40usize];
    ["Offset of field: GateParams::num_tokens"]
        [::core::mem::offset_of!(GateParams, num_tokens) - 56usize];
    ["Offset of field: GateParams::num_experts"]
        [::core::mem::offset_of!(GateParams, num_experts) - 60usize];
    ["Offset of field: GateParams::num_topk"]
        [::core::mem::offset_of!(GateParams, num_topk) - 64usize];
    ["Offset of field: GateParams::num_expert_groups"]
        [::core::mem::offset_of!(GateParams, num_expert_groups) - 68usize];
    ["Offset of field: GateParams::num_topk_groups"]
        [::core::mem::offset_of!(GateParams, num_topk_groups) - 72usize];
    ["Offset of field: GateParams::scoring"]
        [::core::mem::offset_of!(GateParams, scoring) - 76usize];
    ["Offset of field: GateParams::renormalize"]
        [::core::mem::offset_of!(GateParams, renormalize) - 80usize];
    ["Offset of field: GateParams::routed_scaling_factor"]
        [::core::mem::offset_of!(GateParams, routed_scaling_factor) - 84usize];
    ["Offset of field: GateParams::is_aligned"]
        [::core::mem::offset_of!(GateParams, is_aligned) - 88usize];
    ["Offset of field: GateParams::token_bytes"]
        [::core::mem::offset_of!(GateParams, token_bytes) - 92usize];
    ["Offset of field: GateParams::lanes_per_group"]
        [::core::mem::offset_of!(GateParams, lanes_per_group) - 96usize];
    ["Offset of field: GateParams::experts_per_lane"]
        [::core::mem::offset_of!(GateParams, experts_per_lane) - 100usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum RowsKind {
    All = 0,
    PerRow = 1,
    Offsets = 2,
    Masked = 3,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct RowsParams {
    #[doc = " kPerRow: INT32 [num_groups * m], negative = padding. kMasked: INT32 [num_groups], tokens of each group.\n kOffsets: INT32 [num_experts + 1], first row of each segment, ascending. kAll: null."]
    pub values: *const i32,
    #[doc = " kOffsets: INT32 [num_experts], tokens of each segment"]
    pub num_recv_tokens_per_expert: *const i32,
    pub kind: RowsKind,
    #[doc = " kOffsets: segments"]
    pub num_experts: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RowsParams"][::core::mem::size_of::<RowsParams>() - 24usize];
    ["Alignment of RowsParams"][::core::mem::align_of::<RowsParams>() - 8usize];
    ["Offset of field: RowsParams::values"][::core::mem::offset_of!(RowsParams, values) - 0usize];
    ["Offset of field: RowsParams::num_recv_tokens_per_expert"]
        [::core::mem::offset_of!(RowsParams, num_recv_tokens_per_expert) - 8usize];
    ["Offset of field: RowsParams::kind"][::core::mem::offset_of!(RowsParams, kind) - 16usize];
    ["Offset of field: RowsParams::num_experts"]
        [::core::mem::offset_of!(RowsParams, num_experts) - 20usize];
};
#[doc = " A BF16 number as its bits."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct Bf16 {
    pub bits: u16,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Bf16"][::core::mem::size_of::<Bf16>() - 2usize];
    ["Alignment of Bf16"][::core::mem::align_of::<Bf16>() - 2usize];
    ["Offset of field: Bf16::bits"][::core::mem::offset_of!(Bf16, bits) - 0usize];
};
#[doc = " [num_groups, m, k] for reading."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct StackIn {
    pub data: *const ::core::ffi::c_void,
    pub group_stride: u64,
    pub row_stride: u64,
    #[doc = " 1 if every row starts at a multiple of 16 bytes"]
    pub is_aligned: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StackIn"][::core::mem::size_of::<StackIn>() - 32usize];
    ["Alignment of StackIn"][::core::mem::align_of::<StackIn>() - 8usize];
    ["Offset of field: StackIn::data"][::core::mem::offset_of!(StackIn, data) - 0usize];
    ["Offset of field: StackIn::group_stride"]
        [::core::mem::offset_of!(StackIn, group_stride) - 8usize];
    ["Offset of field: StackIn::row_stride"]
        [::core::mem::offset_of!(StackIn, row_stride) - 16usize];
    ["Offset of field: StackIn::is_aligned"]
        [::core::mem::offset_of!(StackIn, is_aligned) - 24usize];
    ["Offset of field: StackIn::reserved"][::core::mem::offset_of!(StackIn, reserved) - 28usize];
};
#[doc = " [num_groups, m, k] for writing."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct StackOut {
    pub data: *mut ::core::ffi::c_void,
    pub group_stride: u64,
    pub row_stride: u64,
    #[doc = " 1 if every row starts at a multiple of 16 bytes"]
    pub is_aligned: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of StackOut"][::core::mem::size_of::<StackOut>() - 32usize];
    ["Alignment of StackOut"][::core::mem::align_of::<StackOut>() - 8usize];
    ["Offset of field: StackOut::data"][::core::mem::offset_of!(StackOut, data) - 0usize];
    ["Offset of field: StackOut::group_stride"]
        [::core::mem::offset_of!(StackOut, group_stride) - 8usize];
    ["Offset of field: StackOut::row_stride"]
        [::core::mem::offset_of!(StackOut, row_stride) - 16usize];
    ["Offset of field: StackOut::is_aligned"]
        [::core::mem::offset_of!(StackOut, is_aligned) - 24usize];
    ["Offset of field: StackOut::reserved"][::core::mem::offset_of!(StackOut, reserved) - 28usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum ScaleFormat {
    Fp32 = 0,
    Ue8m0 = 1,
}
#[doc = " E4M3 [num_groups, m, k] with FP32 [num_groups, m, ceil_div(k, 128)] scales of any strides."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct QuantOut {
    pub values: StackOut,
    pub scales: *mut f32,
    pub scales_group_stride: u64,
    pub scales_row_stride: u64,
    pub scales_block_stride: u64,
    pub format: ScaleFormat,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of QuantOut"][::core::mem::size_of::<QuantOut>() - 72usize];
    ["Alignment of QuantOut"][::core::mem::align_of::<QuantOut>() - 8usize];
    ["Offset of field: QuantOut::values"][::core::mem::offset_of!(QuantOut, values) - 0usize];
    ["Offset of field: QuantOut::scales"][::core::mem::offset_of!(QuantOut, scales) - 32usize];
    ["Offset of field: QuantOut::scales_group_stride"]
        [::core::mem::offset_of!(QuantOut, scales_group_stride) - 40usize];
    ["Offset of field: QuantOut::scales_row_stride"]
        [::core::mem::offset_of!(QuantOut, scales_row_stride) - 48usize];
    ["Offset of field: QuantOut::scales_block_stride"]
        [::core::mem::offset_of!(QuantOut, scales_block_stride) - 56usize];
    ["Offset of field: QuantOut::format"][::core::mem::offset_of!(QuantOut, format) - 64usize];
    ["Offset of field: QuantOut::reserved"][::core::mem::offset_of!(QuantOut, reserved) - 68usize];
};
#[doc = " What the driver encodes of a tensor for TMA (CUtensorMap)."]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone)]
pub struct TensorMap {
    pub words: [u64; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TensorMap"][::core::mem::size_of::<TensorMap>() - 128usize];
    ["Alignment of TensorMap"][::core::mem::align_of::<TensorMap>() - 64usize];
    ["Offset of field: TensorMap::words"][::core::mem::offset_of!(TensorMap, words) - 0usize];
};
#[doc = " FP32 [num_groups, num_rows, num_blocks] with any strides, in elements."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ScalesIn {
    pub data: *const f32,
    pub group_stride: u64,
    pub row_stride: u64,
    pub block_stride: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScalesIn"][::core::mem::size_of::<ScalesIn>() - 32usize];
    ["Alignment of ScalesIn"][::core::mem::align_of::<ScalesIn>() - 8usize];
    ["Offset of field: ScalesIn::data"][::core::mem::offset_of!(ScalesIn, data) - 0usize];
    ["Offset of field: ScalesIn::group_stride"]
        [::core::mem::offset_of!(ScalesIn, group_stride) - 8usize];
    ["Offset of field: ScalesIn::row_stride"]
        [::core::mem::offset_of!(ScalesIn, row_stride) - 16usize];
    ["Offset of field: ScalesIn::block_stride"]
        [::core::mem::offset_of!(ScalesIn, block_stride) - 24usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum GemmOut {
    Bf16 = 0,
    F32 = 1,
    F32Accumulate = 2,
}
#[repr(u32)]
#[doc = " What the CTAs of a cluster share: an operand that two load once for both, B if their blocks lie one below the other,\n A if side by side; or the block of D itself, of which each of two, four or eight sums a part of K."]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum ClusterShares {
    Nothing = 0,
    A = 1,
    B = 2,
    D = 3,
}
#[repr(u32)]
#[doc = " Which scales lie side by side, so that TMA can load them: none, those of neighbouring rows in a block of K, or those\n of neighbouring blocks in a row."]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum ScaleOrder {
    Any = 0,
    Rows = 1,
    Blocks = 2,
}
#[doc = " kernels/gemm"]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone)]
pub struct GemmParams {
    #[doc = " E4M3 or BF16 [num_a_groups, m, k]"]
    pub a: TensorMap,
    #[doc = " E4M3 or BF16 [num_groups, n, k]"]
    pub b: TensorMap,
    #[doc = " BF16 [num_a_groups, m, n]; used if `stores_by_tma`"]
    pub d: TensorMap,
    #[doc = " as below, inner extent first as the order says; used if both have one; of\n gated weights [num_groups, n / 128, 2, ceil_div(k, 128)]"]
    pub a_scale_map: TensorMap,
    #[doc = " as below, inner extent first as the order says; used if both have one; of\n gated weights [num_groups, n / 128, 2, ceil_div(k, 128)]"]
    pub b_scale_map: TensorMap,
    #[doc = " E4M3 only: [num_a_groups, m, ceil_div(k, 128)]"]
    pub a_scales: ScalesIn,
    #[doc = " E4M3 only: [num_groups, ceil_div(n, 128), ceil_div(k, 128)]"]
    pub b_scales: ScalesIn,
    #[doc = " BF16 or FP32 [num_a_groups, m, n]"]
    pub out: StackOut,
    #[doc = " kMasked: num_a_groups = num_groups; otherwise 1"]
    pub rows: RowsParams,
    pub faults: FaultSink,
    #[doc = " FP32 [num_a_groups * m]; null = 1"]
    pub row_weights: *const f32,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub num_groups: u32,
    #[doc = " of the ring in shared memory"]
    pub num_stages: u32,
    #[doc = " blocks along M that are walked together along N, so that B stays in the L2 cache"]
    pub band_width: u32,
    pub kind: GemmOut,
    pub cluster_shares: ClusterShares,
    pub stores_by_tma: u32,
    #[doc = " both kAny, or neither; then blocks of K come in fours"]
    pub a_scale_order: ScaleOrder,
    #[doc = " both kAny, or neither; then blocks of K come in fours"]
    pub b_scale_order: ScaleOrder,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GemmParams"][::core::mem::size_of::<GemmParams>() - 832usize];
    ["Alignment of GemmParams"][::core::mem::align_of::<GemmParams>() - 64usize];
    ["Offset of field: GemmParams::a"][::core::mem::offset_of!(GemmParams, a) - 0usize];
    ["Offset of field: GemmParams::b"][::core::mem::offset_of!(GemmParams, b) - 128usize];
    ["Offset of field: GemmParams::d"][::core::mem::offset_of!(GemmParams, d) - 256usize];
    ["Offset of field: GemmParams::a_scale_map"]
        [::core::mem::offset_of!(GemmParams, a_scale_map) - 384usize];
    ["Offset of field: GemmParams::b_scale_map"]
        [::core::mem::offset_of!(GemmParams, b_scale_map) - 512usize];
    ["Offset of field: GemmParams::a_scales"]
        [::core::mem::offset_of!(GemmParams, a_scales) - 640usize];
    ["Offset of field: GemmParams::b_scales"]
        [::core::mem::offset_of!(GemmParams, b_scales) - 672usize];
    ["Offset of field: GemmParams::out"][::core::mem::offset_of!(GemmParams, out) - 704usize];
    ["Offset of field: GemmParams::rows"][::core::mem::offset_of!(GemmParams, rows) - 736usize];
    ["Offset of field: GemmParams::faults"][::core::mem::offset_of!(GemmParams, faults) - 760usize];
    ["Offset of field: GemmParams::row_weights"]
        [::core::mem::offset_of!(GemmParams, row_weights) - 776usize];
    ["Offset of field: GemmParams::m"][::core::mem::offset_of!(GemmParams, m) - 784usize];
    ["Offset of field: GemmParams::n"][::core::mem::offset_of!(GemmParams, n) - 788usize];
    ["Offset of field: GemmParams::k"][::core::mem::offset_of!(GemmParams, k) - 792usize];
    ["Offset of field: GemmParams::num_groups"]
        [::core::mem::offset_of!(GemmParams, num_groups) - 796usize];
    ["Offset of field: GemmParams::num_stages"]
        [::core::mem::offset_of!(GemmParams, num_stages) - 800usize];
    ["Offset of field: GemmParams::band_width"]
        [::core::mem::offset_of!(GemmParams, band_width) - 804usize];
    ["Offset of field: GemmParams::kind"][::core::mem::offset_of!(GemmParams, kind) - 808usize];
    ["Offset of field: GemmParams::cluster_shares"]
        [::core::mem::offset_of!(GemmParams, cluster_shares) - 812usize];
    ["Offset of field: GemmParams::stores_by_tma"]
        [::core::mem::offset_of!(GemmParams, stores_by_tma) - 816usize];
    ["Offset of field: GemmParams::a_scale_order"]
        [::core::mem::offset_of!(GemmParams, a_scale_order) - 820usize];
    ["Offset of field: GemmParams::b_scale_order"]
        [::core::mem::offset_of!(GemmParams, b_scale_order) - 824usize];
    ["Offset of field: GemmParams::reserved"]
        [::core::mem::offset_of!(GemmParams, reserved) - 828usize];
};
#[doc = " kernels/gemm/swiglu_gemm.cuh"]
#[repr(C)]
#[repr(align(64))]
#[derive(Debug, Copy, Clone)]
pub struct GemmSwigluParams {
    #[doc = " B has 2 * n rows in each group: gate, then up; `d`, `out` and `row_weights` are not used,\n `kind` is kBf16"]
    pub product: GemmParams,
    #[doc = " [num_a_groups, m, n], n % 128 == 0"]
    pub act: QuantOut,
    #[doc = " FP32 [num_a_groups * m]; null = 1"]
    pub row_weights: *const f32,
    #[doc = " at least 0; infinity = none"]
    pub limit: f32,
    pub reserved: [u32; 11usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of GemmSwigluParams"][::core::mem::size_of::<GemmSwigluParams>() - 960usize];
    ["Alignment of GemmSwigluParams"][::core::mem::align_of::<GemmSwigluParams>() - 64usize];
    ["Offset of field: GemmSwigluParams::product"]
        [::core::mem::offset_of!(GemmSwigluParams, product) - 0usize];
    ["Offset of field: GemmSwigluParams::act"]
        [::core::mem::offset_of!(GemmSwigluParams, act) - 832usize];
    ["Offset of field: GemmSwigluParams::row_weights"]
        [::core::mem::offset_of!(GemmSwigluParams, row_weights) - 904usize];
    ["Offset of field: GemmSwigluParams::limit"]
        [::core::mem::offset_of!(GemmSwigluParams, limit) - 912usize];
    ["Offset of field: GemmSwigluParams::reserved"]
        [::core::mem::offset_of!(GemmSwigluParams, reserved) - 916usize];
};
#[repr(u32)]
#[derive(Debug, Copy, Clone, Hash, PartialEq, Eq)]
pub enum RowLayout {
    Contiguous = 0,
    Masked = 1,
}
#[doc = " kernels/plan/plan.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct PlanParams {
    #[doc = " INT32 [num_slots]; physical expert, -1 = not selected"]
    pub topk_idx: *const i32,
    #[doc = " INT32 [num_local_experts + 1]"]
    pub expert_offsets: *mut i32,
    #[doc = " INT32 [num_local_experts]"]
    pub num_recv_tokens_per_expert: *mut i32,
    #[doc = " INT32 [num_local_experts], added to; null = none"]
    pub expert_load: *mut i32,
    #[doc = " INT32 [num_rows]"]
    pub grouped_layout: *mut i32,
    #[doc = " INT32 [num_rows]"]
    pub src_info: *mut i32,
    #[doc = " INT32 [num_slots]"]
    pub slot_rows: *mut i32,
    #[doc = " FP32 [num_slots]; used if `row_weights` is not null"]
    pub topk_weights: *const f32,
    #[doc = " FP32 [num_rows]; null = not wanted"]
    pub row_weights: *mut f32,
    pub faults: FaultSink,
    #[doc = " contiguous layout: at least 1"]
    pub expert_alignment: u64,
    pub layout: RowLayout,
    #[doc = " masked layout: rows of each expert"]
    pub max_m: u32,
    #[doc = " below 2^31"]
    pub num_slots: u32,
    #[doc = " below 2^31"]
    pub num_rows: u32,
    #[doc = " of all ranks, at most 2^31"]
    pub num_experts: u32,
    pub first_local_expert: u32,
    pub num_local_experts: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PlanParams"][::core::mem::size_of::<PlanParams>() - 128usize];
    ["Alignment of PlanParams"][::core::mem::align_of::<PlanParams>() - 8usize];
    ["Offset of field: PlanParams::topk_idx"]
        [::core::mem::offset_of!(PlanParams, topk_idx) - 0usize];
    ["Offset of field: PlanParams::expert_offsets"]
        [::core::mem::offset_of!(PlanParams, expert_offsets) - 8usize];
    ["Offset of field: PlanParams::num_recv_tokens_per_expert"]
        [::core::mem::offset_of!(PlanParams, num_recv_tokens_per_expert) - 16usize];
    ["Offset of field: PlanParams::expert_load"]
        [::core::mem::offset_of!(PlanParams, expert_load) - 24usize];
    ["Offset of field: PlanParams::grouped_layout"]
        [::core::mem::offset_of!(PlanParams, grouped_layout) - 32usize];
    ["Offset of field: PlanParams::src_info"]
        [::core::mem::offset_of!(PlanParams, src_info) - 40usize];
    ["Offset of field: PlanParams::slot_rows"]
        [::core::mem::offset_of!(PlanParams, slot_rows) - 48usize];
    ["Offset of field: PlanParams::topk_weights"]
        [::core::mem::offset_of!(PlanParams, topk_weights) - 56usize];
    ["Offset of field: PlanParams::row_weights"]
        [::core::mem::offset_of!(PlanParams, row_weights) - 64usize];
    ["Offset of field: PlanParams::faults"][::core::mem::offset_of!(PlanParams, faults) - 72usize];
    ["Offset of field: PlanParams::expert_alignment"]
        [::core::mem::offset_of!(PlanParams, expert_alignment) - 88usize];
    ["Offset of field: PlanParams::layout"][::core::mem::offset_of!(PlanParams, layout) - 96usize];
    ["Offset of field: PlanParams::max_m"][::core::mem::offset_of!(PlanParams, max_m) - 100usize];
    ["Offset of field: PlanParams::num_slots"]
        [::core::mem::offset_of!(PlanParams, num_slots) - 104usize];
    ["Offset of field: PlanParams::num_rows"]
        [::core::mem::offset_of!(PlanParams, num_rows) - 108usize];
    ["Offset of field: PlanParams::num_experts"]
        [::core::mem::offset_of!(PlanParams, num_experts) - 112usize];
    ["Offset of field: PlanParams::first_local_expert"]
        [::core::mem::offset_of!(PlanParams, first_local_expert) - 116usize];
    ["Offset of field: PlanParams::num_local_experts"]
        [::core::mem::offset_of!(PlanParams, num_local_experts) - 120usize];
    ["Offset of field: PlanParams::reserved"]
        [::core::mem::offset_of!(PlanParams, reserved) - 124usize];
};
#[doc = " kernels/quant/token.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct QuantizeParams {
    #[doc = " BF16 or FP32 [num_groups, m, k]"]
    pub x: StackIn,
    #[doc = " E4M3 and FP32, per token x 128"]
    pub out: QuantOut,
    pub rows: RowsParams,
    pub num_groups: u32,
    pub m: u32,
    pub k: u32,
    #[doc = " ceil_div(k, 128); num_groups * m * num_blocks < 2^32"]
    pub num_blocks: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of QuantizeParams"][::core::mem::size_of::<QuantizeParams>() - 144usize];
    ["Alignment of QuantizeParams"][::core::mem::align_of::<QuantizeParams>() - 8usize];
    ["Offset of field: QuantizeParams::x"][::core::mem::offset_of!(QuantizeParams, x) - 0usize];
    ["Offset of field: QuantizeParams::out"]
        [::core::mem::offset_of!(QuantizeParams, out) - 32usize];
    ["Offset of field: QuantizeParams::rows"]
        [::core::mem::offset_of!(QuantizeParams, rows) - 104usize];
    ["Offset of field: QuantizeParams::num_groups"]
        [::core::mem::offset_of!(QuantizeParams, num_groups) - 128usize];
    ["Offset of field: QuantizeParams::m"][::core::mem::offset_of!(QuantizeParams, m) - 132usize];
    ["Offset of field: QuantizeParams::k"][::core::mem::offset_of!(QuantizeParams, k) - 136usize];
    ["Offset of field: QuantizeParams::num_blocks"]
        [::core::mem::offset_of!(QuantizeParams, num_blocks) - 140usize];
};
#[doc = " kernels/quant/transpose.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct QuantizeTransposeParams {
    #[doc = " BF16 or FP32 [1, m, num_features], m % 128 == 0"]
    pub x: StackIn,
    #[doc = " INT32 [num_groups + 1]"]
    pub expert_offsets: *const i32,
    #[doc = " INT32 [num_groups]"]
    pub num_recv_tokens_per_expert: *const i32,
    #[doc = " E4M3 [num_features * m]"]
    pub values: *mut u8,
    #[doc = " FP32 [num_features * m / 128]"]
    pub scales: *mut f32,
    pub faults: FaultSink,
    pub m: u32,
    pub num_features: u32,
    pub num_groups: u32,
    #[doc = " CTAs side by side; (m / 128) * num_feature_tiles < 2^31"]
    pub num_feature_tiles: u32,
    pub format: ScaleFormat,
    #[doc = " 1 if `values` is aligned to 16 bytes"]
    pub is_aligned: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of QuantizeTransposeParams"]
        [::core::mem::size_of::<QuantizeTransposeParams>() - 104usize];
    ["Alignment of QuantizeTransposeParams"]
        [::core::mem::align_of::<QuantizeTransposeParams>() - 8usize];
    ["Offset of field: QuantizeTransposeParams::x"]
        [::core::mem::offset_of!(QuantizeTransposeParams, x) - 0usize];
    ["Offset of field: QuantizeTransposeParams::expert_offsets"]
        [::core::mem::offset_of!(QuantizeTransposeParams, expert_offsets) - 32usize];
    ["Offset of field: QuantizeTransposeParams::num_recv_tokens_per_expert"]
        [::core::mem::offset_of!(QuantizeTransposeParams, num_recv_tokens_per_expert) - 40usize];
    ["Offset of field: QuantizeTransposeParams::values"]
        [::core::mem::offset_of!(QuantizeTransposeParams, values) - 48usize];
    ["Offset of field: QuantizeTransposeParams::scales"]
        [::core::mem::offset_of!(QuantizeTransposeParams, scales) - 56usize];
    ["Offset of field: QuantizeTransposeParams::faults"]
        [::core::mem::offset_of!(QuantizeTransposeParams, faults) - 64usize];
    ["Offset of field: QuantizeTransposeParams::m"]
        [::core::mem::offset_of!(QuantizeTransposeParams, m) - 80usize];
    ["Offset of field: QuantizeTransposeParams::num_features"]
        [::core::mem::offset_of!(QuantizeTransposeParams, num_features) - 84usize];
    ["Offset of field: QuantizeTransposeParams::num_groups"]
        [::core::mem::offset_of!(QuantizeTransposeParams, num_groups) - 88usize];
    ["Offset of field: QuantizeTransposeParams::num_feature_tiles"]
        [::core::mem::offset_of!(QuantizeTransposeParams, num_feature_tiles) - 92usize];
    ["Offset of field: QuantizeTransposeParams::format"]
        [::core::mem::offset_of!(QuantizeTransposeParams, format) - 96usize];
    ["Offset of field: QuantizeTransposeParams::is_aligned"]
        [::core::mem::offset_of!(QuantizeTransposeParams, is_aligned) - 100usize];
};
#[doc = " kernels/quant/tiles.cuh, `quantize_block` and `quantize_channel`"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct QuantizeTilesParams {
    #[doc = " BF16 or FP32 [num_groups, m, n]"]
    pub x: StackIn,
    #[doc = " E4M3 [num_groups, m, n]; the scales' rows are tiles of 128 rows, their blocks columns of tiles"]
    pub out: QuantOut,
    pub num_groups: u32,
    pub m: u32,
    pub n: u32,
    #[doc = " num_groups * num_row_tiles * num_column_tiles < 2^31"]
    pub num_row_tiles: u32,
    #[doc = " num_groups * num_row_tiles * num_column_tiles < 2^31"]
    pub num_column_tiles: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of QuantizeTilesParams"][::core::mem::size_of::<QuantizeTilesParams>() - 128usize];
    ["Alignment of QuantizeTilesParams"][::core::mem::align_of::<QuantizeTilesParams>() - 8usize];
    ["Offset of field: QuantizeTilesParams::x"]
        [::core::mem::offset_of!(QuantizeTilesParams, x) - 0usize];
    ["Offset of field: QuantizeTilesParams::out"]
        [::core::mem::offset_of!(QuantizeTilesParams, out) - 32usize];
    ["Offset of field: QuantizeTilesParams::num_groups"]
        [::core::mem::offset_of!(QuantizeTilesParams, num_groups) - 104usize];
    ["Offset of field: QuantizeTilesParams::m"]
        [::core::mem::offset_of!(QuantizeTilesParams, m) - 108usize];
    ["Offset of field: QuantizeTilesParams::n"]
        [::core::mem::offset_of!(QuantizeTilesParams, n) - 112usize];
    ["Offset of field: QuantizeTilesParams::num_row_tiles"]
        [::core::mem::offset_of!(QuantizeTilesParams, num_row_tiles) - 116usize];
    ["Offset of field: QuantizeTilesParams::num_column_tiles"]
        [::core::mem::offset_of!(QuantizeTilesParams, num_column_tiles) - 120usize];
    ["Offset of field: QuantizeTilesParams::reserved"]
        [::core::mem::offset_of!(QuantizeTilesParams, reserved) - 124usize];
};
#[doc = " kernels/quant/dequantize.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct DequantizeParams {
    #[doc = " E4M3 [num_groups, m, k]"]
    pub values: StackIn,
    #[doc = " BF16 or FP32 [num_groups, m, k]"]
    pub out: StackOut,
    #[doc = " FP32 [num_groups, ceil_div(m, tile_rows), ceil_div(k, tile_columns)]"]
    pub scales: *const f32,
    pub scales_group_stride: u64,
    pub scales_row_stride: u64,
    pub scales_column_stride: u64,
    pub num_groups: u32,
    pub m: u32,
    pub k: u32,
    #[doc = " of one scale; tile_columns is 1 or a multiple of 16"]
    pub tile_rows: u32,
    #[doc = " of one scale; tile_columns is 1 or a multiple of 16"]
    pub tile_columns: u32,
    #[doc = " ceil_div(k, 16); num_groups * m * num_pieces < 2^32"]
    pub num_pieces: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of DequantizeParams"][::core::mem::size_of::<DequantizeParams>() - 120usize];
    ["Alignment of DequantizeParams"][::core::mem::align_of::<DequantizeParams>() - 8usize];
    ["Offset of field: DequantizeParams::values"]
        [::core::mem::offset_of!(DequantizeParams, values) - 0usize];
    ["Offset of field: DequantizeParams::out"]
        [::core::mem::offset_of!(DequantizeParams, out) - 32usize];
    ["Offset of field: DequantizeParams::scales"]
        [::core::mem::offset_of!(DequantizeParams, scales) - 64usize];
    ["Offset of field: DequantizeParams::scales_group_stride"]
        [::core::mem::offset_of!(DequantizeParams, scales_group_stride) - 72usize];
    ["Offset of field: DequantizeParams::scales_row_stride"]
        [::core::mem::offset_of!(DequantizeParams, scales_row_stride) - 80usize];
    ["Offset of field: DequantizeParams::scales_column_stride"]
        [::core::mem::offset_of!(DequantizeParams, scales_column_stride) - 88usize];
    ["Offset of field: DequantizeParams::num_groups"]
        [::core::mem::offset_of!(DequantizeParams, num_groups) - 96usize];
    ["Offset of field: DequantizeParams::m"]
        [::core::mem::offset_of!(DequantizeParams, m) - 100usize];
    ["Offset of field: DequantizeParams::k"]
        [::core::mem::offset_of!(DequantizeParams, k) - 104usize];
    ["Offset of field: DequantizeParams::tile_rows"]
        [::core::mem::offset_of!(DequantizeParams, tile_rows) - 108usize];
    ["Offset of field: DequantizeParams::tile_columns"]
        [::core::mem::offset_of!(DequantizeParams, tile_columns) - 112usize];
    ["Offset of field: DequantizeParams::num_pieces"]
        [::core::mem::offset_of!(DequantizeParams, num_pieces) - 116usize];
};
#[doc = " [num_groups, num_rows, num_columns] with any strides, in elements."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct Strides {
    pub group: u64,
    pub row: u64,
    pub column: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Strides"][::core::mem::size_of::<Strides>() - 24usize];
    ["Alignment of Strides"][::core::mem::align_of::<Strides>() - 8usize];
    ["Offset of field: Strides::group"][::core::mem::offset_of!(Strides, group) - 0usize];
    ["Offset of field: Strides::row"][::core::mem::offset_of!(Strides, row) - 8usize];
    ["Offset of field: Strides::column"][::core::mem::offset_of!(Strides, column) - 16usize];
};
#[doc = " kernels/quant/scales.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct ScalesParams {
    #[doc = " FP32 [num_groups, num_rows, num_blocks], or four UE8M0 bytes a word"]
    pub source: *const ::core::ffi::c_void,
    #[doc = " FP32 [num_groups, num_rows, num_blocks]"]
    pub destination: *mut f32,
    pub source_strides: Strides,
    pub destination_strides: Strides,
    pub num_groups: u32,
    pub num_rows: u32,
    pub num_blocks: u32,
    #[doc = " scales, below 2^32"]
    pub num_units: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScalesParams"][::core::mem::size_of::<ScalesParams>() - 80usize];
    ["Alignment of ScalesParams"][::core::mem::align_of::<ScalesParams>() - 8usize];
    ["Offset of field: ScalesParams::source"]
        [::core::mem::offset_of!(ScalesParams, source) - 0usize];
    ["Offset of field: ScalesParams::destination"]
        [::core::mem::offset_of!(ScalesParams, destination) - 8usize];
    ["Offset of field: ScalesParams::source_strides"]
        [::core::mem::offset_of!(ScalesParams, source_strides) - 16usize];
    ["Offset of field: ScalesParams::destination_strides"]
        [::core::mem::offset_of!(ScalesParams, destination_strides) - 40usize];
    ["Offset of field: ScalesParams::num_groups"]
        [::core::mem::offset_of!(ScalesParams, num_groups) - 64usize];
    ["Offset of field: ScalesParams::num_rows"]
        [::core::mem::offset_of!(ScalesParams, num_rows) - 68usize];
    ["Offset of field: ScalesParams::num_blocks"]
        [::core::mem::offset_of!(ScalesParams, num_blocks) - 72usize];
    ["Offset of field: ScalesParams::num_units"]
        [::core::mem::offset_of!(ScalesParams, num_units) - 76usize];
};
#[doc = " kernels/quant/pack.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct PackScalesParams {
    #[doc = " FP32 [num_groups, num_rows, num_blocks]"]
    pub scales: *const f32,
    #[doc = " four UE8M0 bytes each [num_groups, num_rows, ceil_div(num_blocks, 4)]"]
    pub out: *mut u32,
    pub in_strides: Strides,
    pub out_strides: Strides,
    pub faults: FaultSink,
    pub num_groups: u32,
    pub num_rows: u32,
    pub num_blocks: u32,
    #[doc = " tiles of 32 x 32 words, less than 2^20 in all groups"]
    pub num_row_tiles: u32,
    #[doc = " tiles of 32 x 32 words, less than 2^20 in all groups"]
    pub num_word_tiles: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PackScalesParams"][::core::mem::size_of::<PackScalesParams>() - 104usize];
    ["Alignment of PackScalesParams"][::core::mem::align_of::<PackScalesParams>() - 8usize];
    ["Offset of field: PackScalesParams::scales"]
        [::core::mem::offset_of!(PackScalesParams, scales) - 0usize];
    ["Offset of field: PackScalesParams::out"]
        [::core::mem::offset_of!(PackScalesParams, out) - 8usize];
    ["Offset of field: PackScalesParams::in_strides"]
        [::core::mem::offset_of!(PackScalesParams, in_strides) - 16usize];
    ["Offset of field: PackScalesParams::out_strides"]
        [::core::mem::offset_of!(PackScalesParams, out_strides) - 40usize];
    ["Offset of field: PackScalesParams::faults"]
        [::core::mem::offset_of!(PackScalesParams, faults) - 64usize];
    ["Offset of field: PackScalesParams::num_groups"]
        [::core::mem::offset_of!(PackScalesParams, num_groups) - 80usize];
    ["Offset of field: PackScalesParams::num_rows"]
        [::core::mem::offset_of!(PackScalesParams, num_rows) - 84usize];
    ["Offset of field: PackScalesParams::num_blocks"]
        [::core::mem::offset_of!(PackScalesParams, num_blocks) - 88usize];
    ["Offset of field: PackScalesParams::num_row_tiles"]
        [::core::mem::offset_of!(PackScalesParams, num_row_tiles) - 92usize];
    ["Offset of field: PackScalesParams::num_word_tiles"]
        [::core::mem::offset_of!(PackScalesParams, num_word_tiles) - 96usize];
    ["Offset of field: PackScalesParams::reserved"]
        [::core::mem::offset_of!(PackScalesParams, reserved) - 100usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SwigluInput {
    #[doc = " BF16 or FP32 [num_groups, m, 2 * half]: gate, then up"]
    pub gate_up: StackIn,
    #[doc = " FP32 [num_groups * m]; null = 1"]
    pub row_weights: *const f32,
    pub rows: RowsParams,
    #[doc = " at least 0; infinity = none"]
    pub limit: f32,
    #[doc = " half = intermediate_hidden"]
    pub num_groups: u32,
    #[doc = " half = intermediate_hidden"]
    pub m: u32,
    #[doc = " half = intermediate_hidden"]
    pub half: u32,
    #[doc = " 1 if gate and up of every row start at multiples of 16 bytes"]
    pub is_half_aligned: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SwigluInput"][::core::mem::size_of::<SwigluInput>() - 88usize];
    ["Alignment of SwigluInput"][::core::mem::align_of::<SwigluInput>() - 8usize];
    ["Offset of field: SwigluInput::gate_up"]
        [::core::mem::offset_of!(SwigluInput, gate_up) - 0usize];
    ["Offset of field: SwigluInput::row_weights"]
        [::core::mem::offset_of!(SwigluInput, row_weights) - 32usize];
    ["Offset of field: SwigluInput::rows"][::core::mem::offset_of!(SwigluInput, rows) - 40usize];
    ["Offset of field: SwigluInput::limit"][::core::mem::offset_of!(SwigluInput, limit) - 64usize];
    ["Offset of field: SwigluInput::num_groups"]
        [::core::mem::offset_of!(SwigluInput, num_groups) - 68usize];
    ["Offset of field: SwigluInput::m"][::core::mem::offset_of!(SwigluInput, m) - 72usize];
    ["Offset of field: SwigluInput::half"][::core::mem::offset_of!(SwigluInput, half) - 76usize];
    ["Offset of field: SwigluInput::is_half_aligned"]
        [::core::mem::offset_of!(SwigluInput, is_half_aligned) - 80usize];
    ["Offset of field: SwigluInput::reserved"]
        [::core::mem::offset_of!(SwigluInput, reserved) - 84usize];
};
#[doc = " kernels/swiglu/forward.cuh, `swiglu`"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SwigluParams {
    pub input: SwigluInput,
    #[doc = " BF16 or FP32 [num_groups, m, half]"]
    pub out: StackOut,
    #[doc = " ceil_div(half, 16); num_groups * m * num_pieces < 2^32"]
    pub num_pieces: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SwigluParams"][::core::mem::size_of::<SwigluParams>() - 128usize];
    ["Alignment of SwigluParams"][::core::mem::align_of::<SwigluParams>() - 8usize];
    ["Offset of field: SwigluParams::input"][::core::mem::offset_of!(SwigluParams, input) - 0usize];
    ["Offset of field: SwigluParams::out"][::core::mem::offset_of!(SwigluParams, out) - 88usize];
    ["Offset of field: SwigluParams::num_pieces"]
        [::core::mem::offset_of!(SwigluParams, num_pieces) - 120usize];
    ["Offset of field: SwigluParams::reserved"]
        [::core::mem::offset_of!(SwigluParams, reserved) - 124usize];
};
#[doc = " kernels/swiglu/forward.cuh, `swiglu_quantize`"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SwigluQuantizeParams {
    pub input: SwigluInput,
    pub out: QuantOut,
    #[doc = " ceil_div(half, 128); num_groups * m * num_blocks < 2^32"]
    pub num_blocks: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SwigluQuantizeParams"][::core::mem::size_of::<SwigluQuantizeParams>() - 168usize];
    ["Alignment of SwigluQuantizeParams"][::core::mem::align_of::<SwigluQuantizeParams>() - 8usize];
    ["Offset of field: SwigluQuantizeParams::input"]
        [::core::mem::offset_of!(SwigluQuantizeParams, input) - 0usize];
    ["Offset of field: SwigluQuantizeParams::out"]
        [::core::mem::offset_of!(SwigluQuantizeParams, out) - 88usize];
    ["Offset of field: SwigluQuantizeParams::num_blocks"]
        [::core::mem::offset_of!(SwigluQuantizeParams, num_blocks) - 160usize];
    ["Offset of field: SwigluQuantizeParams::reserved"]
        [::core::mem::offset_of!(SwigluQuantizeParams, reserved) - 164usize];
};
#[doc = " kernels/swiglu/backward.cuh"]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct SwigluBackwardParams {
    pub input: SwigluInput,
    #[doc = " BF16 or FP32 [num_groups, m, half]"]
    pub grad_out: StackIn,
    #[doc = " as grad_out, [num_groups, m, 2 * half]"]
    pub grad_gate_up: StackOut,
    #[doc = " FP32 [num_groups * m]; null = not wanted"]
    pub grad_row_weights: *mut f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SwigluBackwardParams"][::core::mem::size_of::<SwigluBackwardParams>() - 160usize];
    ["Alignment of SwigluBackwardParams"][::core::mem::align_of::<SwigluBackwardParams>() - 8usize];
    ["Offset of field: SwigluBackwardParams::input"]
        [::core::mem::offset_of!(SwigluBackwardParams, input) - 0usize];
    ["Offset of field: SwigluBackwardParams::grad_out"]
        [::core::mem::offset_of!(SwigluBackwardParams, grad_out) - 88usize];
    ["Offset of field: SwigluBackwardParams::grad_gate_up"]
        [::core::mem::offset_of!(SwigluBackwardParams, grad_gate_up) - 120usize];
    ["Offset of field: SwigluBackwardParams::grad_row_weights"]
        [::core::mem::offset_of!(SwigluBackwardParams, grad_row_weights) - 152usize];
};
