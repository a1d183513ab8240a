//! Where everything lies in a rank's symmetric memory.

use super::ep_config::{EpConfig, WireFormat};
use crate::num::{E4M3, align, bf16, ceil_div};

/// Every region of symmetric memory starts at a multiple of this.
const REGION_ALIGN: usize = 256;

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
    pub fn new(config: &EpConfig, node_of: Vec<usize>) -> Self {
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
#[cfg(test)]
mod tests {
    use super::*;
    use crate::moe::ep_config::tests::config;

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
}
