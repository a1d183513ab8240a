//! The expert-parallel buffer: its configuration, its layout in symmetric memory, its size.

use std::sync::Arc;

use super::ExpertMap;
use super::handle::HandlePool;
use crate::backend::Backend;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::num::{E4M3, align, bf16, ceil_div};
use crate::tensor::{Tensor, TensorRef, check};
use crate::topology::Topology;

const OP: &str = "expert-parallel buffer";
/// Every region of symmetric memory starts at a multiple of this.
const REGION_ALIGN: usize = 256;

/// Number format of tokens between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFormat {
    /// BF16 values.
    Bf16,
    /// E4M3 values with FP32 scales per 128 of `hidden`.
    Fp8,
}

impl WireFormat {
    /// Bytes of a row of `len` activations, scales included.
    pub(crate) fn row_bytes(self, len: usize) -> usize {
        match self {
            Self::Bf16 => len * size_of::<bf16>(),
            Self::Fp8 => len * size_of::<E4M3>() + ceil_div(len, 128) * size_of::<f32>(),
        }
    }
}

/// How a rank's received rows lie, and who knows their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvLayout {
    /// Contiguous; the host learns the number of rows before it provides the memory. Cannot be captured.
    Exact {
        /// Each expert starts at a multiple of this.
        expert_alignment: usize,
    },
    /// Contiguous in memory of fixed size; the counts stay on the device. Can be captured.
    Capacity {
        /// Each expert starts at a multiple of this.
        expert_alignment: usize,
        /// Rows of the receive memory.
        num_max_recv_rows: usize,
    },
    /// `[num_local_experts, max_m, hidden]`; the counts stay on the device. Can be captured.
    Masked {
        /// Rows of each expert; `None` = `num_ranks * num_max_tokens_per_rank`, which cannot overflow.
        max_m: Option<usize>,
    },
}

/// How combine adds the experts' outputs of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduce {
    /// One BF16 row per (token, slot) returns; FP32 sum in slot order. The same bits for any
    /// number of ranks.
    #[default]
    BySlot,
    /// Each rank adds its slots in FP32 and returns one BF16 row per (token, rank); the owner adds
    /// these by ascending rank. Fewer bytes; the bits depend on the placement of experts.
    ByRank,
}

/// Configuration of an [`EpBuffer`]; equal on all ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpConfig {
    /// Capacity in tokens of each rank and call.
    pub num_max_tokens_per_rank: usize,
    /// Elements of a token; a multiple of 16.
    pub hidden: usize,
    /// Experts per token.
    pub num_topk: usize,
    /// Physical experts of all ranks; a multiple of the number of ranks.
    pub num_experts: usize,
    /// Number format of tokens between ranks.
    pub wire: WireFormat,
    /// How received rows lie.
    pub layout: RecvLayout,
    /// How combine adds.
    pub reduce: Reduce,
}

/// Bytes and rows that an [`EpConfig`] needs on each rank; exact.
///
/// # Examples
///
/// ```
/// use moekit::moe::{EpConfig, RecvLayout, Reduce, WireFormat};
/// let config = EpConfig {
///     num_max_tokens_per_rank: 128,
///     hidden: 7168,
///     num_topk: 8,
///     num_experts: 256,
///     wire: WireFormat::Fp8,
///     layout: RecvLayout::Masked { max_m: None },
///     reduce: Reduce::BySlot,
/// };
/// let sizes = config.sizes(8, 8)?;
/// assert_eq!(sizes.num_max_recv_rows, 32 * 8 * 128);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpSizes {
    /// Bytes of symmetric memory.
    pub symmetric_bytes: usize,
    /// Bytes of one handle (the routing of one dispatch).
    pub handle_bytes: usize,
    /// Most rows that one dispatch can deliver.
    pub num_max_recv_rows: usize,
    /// Bytes of the received values and scales at that many rows.
    pub recv_bytes: usize,
}

impl EpConfig {
    /// Returns what `num_ranks` ranks in nodes of `ranks_per_node` need, each.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] or [`Error::Alignment`] for extents that no buffer can have.
    pub fn sizes(&self, num_ranks: usize, ranks_per_node: usize) -> Result<EpSizes> {
        self.check(num_ranks)?;
        if ranks_per_node == 0 {
            return Err(Error::value(OP, "ranks_per_node", "at least 1", 0));
        }
        let node_of = (0..num_ranks).map(|rank_idx| rank_idx / ranks_per_node).collect();
        let layout = EpLayout::new(self, node_of);
        let num_rows = self.num_max_recv_rows(num_ranks);
        let num_local = self.num_experts / num_ranks;
        let num_slots = num_ranks * self.num_max_tokens_per_rank * self.num_topk;
        let own_slots = self.num_max_tokens_per_rank * self.num_topk;
        // Own routing (idx, weights), received (idx, weights, row of each slot), two per row, counts.
        let handle_words = 2 * own_slots + 3 * num_slots + 2 * num_rows + 2 * num_local + 1;
        Ok(EpSizes {
            symmetric_bytes: layout.num_bytes,
            handle_bytes: handle_words * size_of::<i32>(),
            num_max_recv_rows: num_rows,
            recv_bytes: num_rows * (layout.mailbox.value_bytes + layout.mailbox.scale_bytes),
        })
    }

    /// Rows that one dispatch can deliver to a rank.
    pub(crate) fn num_max_recv_rows(&self, num_ranks: usize) -> usize {
        let num_local = self.num_experts / num_ranks;
        let num_tokens = num_ranks * self.num_max_tokens_per_rank;
        match self.layout {
            RecvLayout::Exact { expert_alignment } => {
                // Each slot takes a row at most, and each used expert pads less than the alignment.
                let num_slots = num_tokens * self.num_topk;
                num_slots + num_local.min(num_slots) * (expert_alignment - 1)
            }
            RecvLayout::Capacity { num_max_recv_rows, .. } => num_max_recv_rows,
            RecvLayout::Masked { max_m } => num_local * max_m.unwrap_or(num_tokens),
        }
    }

    fn check(&self, num_ranks: usize) -> Result<()> {
        Topology::new(0, num_ranks, self.num_experts)?;
        check::multiple(OP, "hidden", 16, self.hidden)?;
        let positive = [
            ("num_max_tokens_per_rank", self.num_max_tokens_per_rank),
            ("hidden", self.hidden),
            ("num_topk", self.num_topk),
        ];
        for (arg, value) in positive {
            if value == 0 {
                return Err(Error::value(OP, arg, "at least 1", 0));
            }
        }
        match self.layout {
            RecvLayout::Exact { expert_alignment: 0 }
            | RecvLayout::Capacity { expert_alignment: 0, .. } => {
                return Err(Error::value(OP, "expert_alignment", "at least 1", 0));
            }
            RecvLayout::Masked { max_m: Some(0) } => {
                return Err(Error::value(OP, "max_m", "at least 1", 0));
            }
            _ => {}
        }
        let num_slots = num_ranks * self.num_max_tokens_per_rank * self.num_topk;
        let num_rows = self.num_max_recv_rows(num_ranks);
        if num_slots > i32::MAX as usize || num_rows > i32::MAX as usize {
            let got = format!("{num_slots} slots, {num_rows} rows");
            return Err(Error::value(
                OP,
                "num_max_tokens_per_rank",
                "at most 2^31 - 1 slots and rows over all ranks",
                got,
            ));
        }
        Ok(())
    }
}

/// Offsets of one rank's outgoing tokens within its mailbox, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxLayout {
    /// INT32 `[num_max_tokens_per_rank, num_topk]`, physical experts.
    pub topk_idx: usize,
    /// FP32 `[num_max_tokens_per_rank, num_topk]`.
    pub topk_weights: usize,
    /// Values, `value_bytes` per token.
    pub values: usize,
    /// FP32 scales, `scale_bytes` per token.
    pub scales: usize,
    pub value_bytes: usize,
    pub scale_bytes: usize,
    /// The header, a [`MailboxHeader`], lies at 0.
    pub num_bytes: usize,
}

/// Start of a mailbox.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct MailboxHeader {
    pub num_tokens: u64,
    pub epoch: u64,
}

/// Where everything lies in a rank's symmetric memory.
#[derive(Debug, Clone)]
pub(crate) struct EpLayout {
    pub mailbox: MailboxLayout,
    /// `[num_ranks]`: node of each rank.
    node_of: Vec<usize>,
    /// BF16 `[num_max_tokens_per_rank, num_topk, hidden]`: rows that come back.
    pub returned: usize,
    pub num_bytes: usize,
}

/// Signal words of an [`EpBuffer`]; each counts epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The source's outbox of this epoch can be read.
    Dispatched,
    /// The source has read this rank's tokens.
    DispatchRead,
    /// The source has returned all rows of this epoch.
    Combined,
    /// The source has read the rows that this rank returned.
    CombineRead,
}

impl Signal {
    pub const COUNT: usize = 4;

    pub const fn idx(self) -> usize {
        self as usize
    }
}

impl EpLayout {
    fn new(config: &EpConfig, node_of: Vec<usize>) -> Self {
        let num_tokens = config.num_max_tokens_per_rank;
        let (value_bytes, scale_bytes) = match config.wire {
            WireFormat::Bf16 => (config.hidden * size_of::<bf16>(), 0),
            WireFormat::Fp8 => {
                (config.hidden * size_of::<E4M3>(), ceil_div(config.hidden, 128) * size_of::<f32>())
            }
        };
        let mut end = 0;
        let mut region = |num_bytes: usize| {
            let start = end;
            end = align(start + num_bytes, REGION_ALIGN);
            start
        };
        region(size_of::<MailboxHeader>());
        let slot_bytes = num_tokens * config.num_topk * size_of::<i32>();
        let topk_idx = region(slot_bytes);
        let topk_weights = region(slot_bytes);
        let values = region(num_tokens * value_bytes);
        let scales = region(num_tokens * scale_bytes);
        let mailbox = MailboxLayout {
            topk_idx,
            topk_weights,
            values,
            scales,
            value_bytes,
            scale_bytes,
            num_bytes: end,
        };
        // A mailbox for what goes out, and one for each rank of another node.
        let num_remote = |node| node_of.iter().filter(|&&other| other != node).count();
        let num_inboxes = node_of.iter().map(|&node| num_remote(node)).max().unwrap_or(0);
        let returned = mailbox.num_bytes * (1 + num_inboxes);
        let returned_bytes = num_tokens * config.num_topk * config.hidden * size_of::<bf16>();
        let num_bytes = align(returned + returned_bytes, REGION_ALIGN);
        Self { mailbox, node_of, returned, num_bytes }
    }

    /// Offset, in `dst`'s memory, of the mailbox that holds what `src` of another node sent.
    pub fn inbox(&self, src_rank_idx: usize, dst_rank_idx: usize) -> usize {
        let dst_node = self.node_of[dst_rank_idx];
        let idx = self.node_of[..src_rank_idx].iter().filter(|&&node| node != dst_node).count();
        self.mailbox.num_bytes * (1 + idx)
    }
}

/// One rank's end of expert-parallel dispatch and combine.
///
/// `dispatch` brings every token to the ranks of its experts, `combine` brings the experts' outputs
/// back and adds them. Both are split into a send and a receive half; between the halves a caller can
/// do other work. All ranks call the same halves in the same order.
pub struct EpBuffer<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: EpConfig,
    pub(crate) topology: Topology,
    pub(crate) expert_map: ExpertMap,
    pub(crate) layout: EpLayout,
    pub(crate) symmetric: B::Symmetric,
    /// INT32 `[num_local_experts]`: tokens received since the start or the last reset.
    pub(crate) expert_load: Tensor<B, i32, 1>,
    pub(crate) active: Vec<bool>,
    pub(crate) dispatch_epoch: u64,
    pub(crate) combine_epoch: u64,
    pub(crate) pool: Arc<HandlePool<B>>,
}

impl<B: Backend> EpBuffer<B> {
    /// Allocates the buffer; collective.
    ///
    /// # Errors
    ///
    /// Those of [`EpConfig::sizes`]; [`Error::OutOfMemory`]; [`Error::Timeout`] or
    /// [`Error::PeerDied`] if a rank does not take part.
    pub fn new(backend: &B, world: &World, config: EpConfig) -> Result<Self> {
        let num_ranks = world.num_ranks();
        config.check(num_ranks)?;
        let node_of = (0..num_ranks).map(|rank_idx| world.node_of(rank_idx)).collect();
        let layout = EpLayout::new(&config, node_of);
        let topology = Topology::new(world.rank_idx(), num_ranks, config.num_experts)?;
        let symmetric = backend.alloc_symmetric(world, layout.num_bytes, Signal::COUNT)?;
        Ok(Self {
            backend: backend.clone(),
            expert_map: ExpertMap::identity(config.num_experts),
            config,
            topology,
            layout,
            symmetric,
            expert_load: Tensor::zeros(backend, [topology.num_local_experts()])?,
            active: vec![true; num_ranks],
            dispatch_epoch: 0,
            combine_epoch: 0,
            pool: Arc::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &EpConfig {
        &self.config
    }

    /// Which experts this rank holds.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Routes logical experts to these physical replicas from the next dispatch on; all ranks set
    /// the same map.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless the map has `num_experts` physical experts.
    pub fn set_expert_map(&mut self, map: ExpertMap) -> Result<()> {
        map.check_physical(self.config.num_experts)?;
        self.expert_map = map;
        Ok(())
    }

    /// Leaves ranks out from the next dispatch on: slots routed to them are dropped and counted
    /// ([`super::Handle::num_masked_slots`]), and nothing waits for them. All active ranks set the
    /// same mask, and the world's ([`World::set_rank_mask`]).
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless there is one entry per rank; [`Error::Value`] if this rank is left out.
    pub fn set_rank_mask(&mut self, active: &[bool]) -> Result<()> {
        check::shape(OP, "active", &[self.topology.num_ranks()], &[active.len()])?;
        if !active[self.topology.rank_idx()] {
            return Err(Error::value(OP, "active", "this rank active", "this rank left out"));
        }
        self.active.copy_from_slice(active);
        Ok(())
    }

    /// INT32 `[num_local_experts]`: tokens that each of this rank's experts received since the start
    /// or the last [`EpBuffer::reset_expert_load`]; what expert balancing needs.
    pub fn expert_load(&self) -> TensorRef<'_, B, i32, 1> {
        self.expert_load.view()
    }

    /// Starts the count of [`EpBuffer::expert_load`] anew.
    ///
    /// # Errors
    ///
    /// Those of the backend's copy.
    pub fn reset_expert_load(&mut self) -> Result<()> {
        let zeros = vec![0; self.topology.num_local_experts()];
        self.expert_load.view_mut().copy_from_host(&self.backend, &zeros)
    }

    /// Ranks that take part, in order.
    pub(crate) fn active_ranks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.active.len()).filter(|&rank_idx| self.active[rank_idx])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EpConfig {
        EpConfig {
            num_max_tokens_per_rank: 10,
            hidden: 144,
            num_topk: 3,
            num_experts: 16,
            wire: WireFormat::Fp8,
            layout: RecvLayout::Exact { expert_alignment: 4 },
            reduce: Reduce::BySlot,
        }
    }

    #[test]
    fn sizes_are_the_sum_of_the_regions() {
        let sizes = config().sizes(4, 4).expect("sizes");
        let mailbox = 256 + 256 + 256 + 1536 + 256;
        assert_eq!(sizes.symmetric_bytes, mailbox + align(10 * 3 * 144 * 2, 256));
        assert_eq!(sizes.num_max_recv_rows, 4 * 10 * 3 + 4 * 3);
        assert_eq!(sizes.recv_bytes, (4 * 10 * 3 + 4 * 3) * (144 + 8));
    }

    #[test]
    fn ranks_of_other_nodes_have_distinct_inboxes() {
        let layout = EpLayout::new(&config(), (0..8).map(|rank_idx| rank_idx / 3).collect());
        for dst in 0..8usize {
            let mut seen = Vec::new();
            for src in (0..8).filter(|src| src / 3 != dst / 3) {
                let inbox = layout.inbox(src, dst);
                assert!(inbox + layout.mailbox.num_bytes <= layout.returned, "{src} -> {dst}");
                assert!(inbox >= layout.mailbox.num_bytes && !seen.contains(&inbox));
                seen.push(inbox);
            }
        }
    }

    #[test]
    fn impossible_extents_are_refused_by_name() {
        let bad = EpConfig { hidden: 100, ..config() };
        let error = bad.sizes(4, 4).expect_err("hidden").to_string();
        assert_eq!(error, "expert-parallel buffer: `hidden` is 100, expected a multiple of 16");
        let bad = EpConfig { num_experts: 15, ..config() };
        let error = bad.sizes(4, 4).expect_err("experts").to_string();
        assert_eq!(error, "topology: `num_experts` is 15, expected a multiple of 4");
    }
}
