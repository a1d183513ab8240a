//! How expert-parallel dispatch and combine are set up, and what that takes in memory.

use super::ep_layout::EpLayout;
use crate::error::{Error, Result};
use crate::num::{E4M3, bf16, ceil_div};
use crate::tensor::check;
use crate::topology::Topology;

/// What the errors of the configuration and of the buffer name.
pub(super) const OP: &str = "expert-parallel buffer";
/// Rows, slots and experts are counted in INT32.
const MAX_COUNT: usize = i32::MAX as usize;
/// So that no size in bytes leaves 64 bits.
const MAX_HIDDEN: usize = 1 << 24;

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

/// Configuration of an [`EpBuffer`](super::EpBuffer); equal on all ranks.
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
    /// [`Error::Alignment`] unless `num_experts % num_ranks == 0` and `hidden % 16 == 0`;
    /// [`Error::Value`] if an extent is 0, `hidden` is above 2^24, or the experts, the slots of all
    /// ranks' tokens or the rows of one rank are more than INT32 counts.
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
        let num_tokens = num_ranks.saturating_mul(self.num_max_tokens_per_rank);
        match self.layout {
            RecvLayout::Exact { expert_alignment } => {
                // Each slot takes a row at most, and each used expert pads less than the alignment.
                let num_slots = num_tokens.saturating_mul(self.num_topk);
                let padding = num_local.min(num_slots).saturating_mul(expert_alignment - 1);
                num_slots.saturating_add(padding)
            }
            RecvLayout::Capacity { num_max_recv_rows, .. } => num_max_recv_rows,
            RecvLayout::Masked { max_m } => num_local.saturating_mul(max_m.unwrap_or(num_tokens)),
        }
    }

    pub(super) fn check(&self, num_ranks: usize) -> Result<()> {
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
            RecvLayout::Capacity { expert_alignment, .. } if expert_alignment > MAX_COUNT => {
                let expected = format!("at most {MAX_COUNT}");
                return Err(Error::value(OP, "expert_alignment", expected, expert_alignment));
            }
            RecvLayout::Masked { max_m: Some(0) } => {
                return Err(Error::value(OP, "max_m", "at least 1", 0));
            }
            _ => {}
        }
        if self.hidden > MAX_HIDDEN {
            return Err(Error::value(OP, "hidden", format!("at most {MAX_HIDDEN}"), self.hidden));
        }
        let num_slots =
            num_ranks.saturating_mul(self.num_max_tokens_per_rank).saturating_mul(self.num_topk);
        let (rows_arg, rows_of) = match self.layout {
            RecvLayout::Exact { expert_alignment } => ("expert_alignment", expert_alignment),
            RecvLayout::Capacity { num_max_recv_rows, .. } => {
                ("num_max_recv_rows", num_max_recv_rows)
            }
            RecvLayout::Masked { max_m } => ("max_m", max_m.unwrap_or(num_slots / self.num_topk)),
        };
        let num_rows = self.num_max_recv_rows(num_ranks);
        let counts = [
            ("num_experts", self.num_experts, "experts", self.num_experts),
            ("num_max_tokens_per_rank", self.num_max_tokens_per_rank, "slots in all", num_slots),
            (rows_arg, rows_of, "rows on a rank", num_rows),
        ];
        for (arg, value, what, count) in counts {
            if count > MAX_COUNT {
                let expected = format!("at most {MAX_COUNT} {what}");
                return Err(Error::value(OP, arg, expected, format!("{value}, {count} {what}")));
            }
        }
        Ok(())
    }
}
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::num::align;

    pub(in crate::moe) fn config() -> EpConfig {
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
    fn extents_beyond_int32_are_refused_and_never_wrap() {
        let refused = |bad: EpConfig, part: &str| {
            let error = bad.sizes(4, 4).expect_err("too large").to_string();
            assert!(error.contains(part), "{error}");
        };
        for num_max_tokens_per_rank in [1 << 28, 1 << 62, usize::MAX] {
            refused(EpConfig { num_max_tokens_per_rank, ..config() }, "slots in all");
        }
        refused(EpConfig { num_topk: usize::MAX, ..config() }, "slots in all");
        refused(EpConfig { num_experts: usize::MAX - 3, ..config() }, "experts");
        refused(EpConfig { hidden: usize::MAX - 15, ..config() }, "`hidden`");
        let layouts = [
            RecvLayout::Exact { expert_alignment: usize::MAX },
            RecvLayout::Capacity { expert_alignment: 1, num_max_recv_rows: usize::MAX },
            RecvLayout::Masked { max_m: Some(usize::MAX) },
            RecvLayout::Masked { max_m: Some(1 << 30) },
        ];
        for layout in layouts {
            refused(EpConfig { layout, ..config() }, "rows on a rank");
        }
        let layout =
            RecvLayout::Capacity { expert_alignment: usize::MAX, num_max_recv_rows: 1 << 10 };
        refused(EpConfig { layout, ..config() }, "`expert_alignment`");
        // The largest that INT32 counts, each: sizes stay far below 2^64.
        let largest = EpConfig {
            num_max_tokens_per_rank: (1 << 29) - 1,
            hidden: 1 << 24,
            num_topk: 1,
            layout: RecvLayout::Capacity { expert_alignment: 1, num_max_recv_rows: MAX_COUNT },
            ..config()
        };
        let sizes = largest.sizes(4, 1).expect("in range");
        assert!(sizes.symmetric_bytes > 4 << 53 && sizes.recv_bytes > 1 << 54);
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
