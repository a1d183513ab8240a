//! Where the rows of every expert land, computed with a view of all ranks at once.

/// The expert-parallel group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// Ranks in the group.
    pub num_ranks: usize,
    /// Physical experts, spread over the ranks in equal consecutive runs.
    pub num_experts: usize,
    /// Capacity of a rank; the base of `src_token_global_idx`.
    pub num_max_tokens_per_rank: usize,
}

impl Ranks {
    /// Returns the experts of one rank.
    pub fn num_local_experts(&self) -> usize {
        assert!(self.num_experts.is_multiple_of(self.num_ranks), "experts per rank are whole");
        self.num_experts / self.num_ranks
    }
}

/// One selected (token, top-k slot): where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowSource {
    /// `src_rank_idx * num_max_tokens_per_rank + token_idx`.
    pub src_token_global_idx: usize,
    /// Position in the token's `topk_idx`.
    pub topk_slot_idx: usize,
}

/// Rows received by one rank, per local expert, ascending by source.
pub type Received = Vec<Vec<RowSource>>;

/// Sends every token to its experts: the rows of each rank's local experts.
///
/// # Shapes
///
/// `topk_idx_per_rank[rank]` INT32 `[num_tokens of that rank, num_topk]`, -1 = not selected.
///
/// # Panics
///
/// When a rank holds more tokens than its capacity, or an index is out of range.
#[track_caller]
pub fn receive(ranks: &Ranks, topk_idx_per_rank: &[Vec<i32>], num_topk: usize) -> Vec<Received> {
    let num_local_experts = ranks.num_local_experts();
    let mut received = vec![vec![vec![]; num_local_experts]; ranks.num_ranks];
    for (src_rank_idx, topk_idx) in topk_idx_per_rank.iter().enumerate() {
        let num_tokens = topk_idx.len() / num_topk;
        assert!(num_tokens <= ranks.num_max_tokens_per_rank, "tokens of rank {src_rank_idx}");
        for (i, &expert_idx) in topk_idx.iter().enumerate() {
            if expert_idx == -1 {
                continue;
            }
            let expert_idx = checked_expert(expert_idx, ranks.num_experts);
            let token_idx = i / num_topk;
            let source = RowSource {
                src_token_global_idx: src_rank_idx * ranks.num_max_tokens_per_rank + token_idx,
                topk_slot_idx: i % num_topk,
            };
            received[expert_idx / num_local_experts][expert_idx % num_local_experts].push(source);
        }
    }
    received
}

/// The contiguous receive layout of one rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contiguous {
    /// `[num_local_experts]`, without padding.
    pub num_recv_tokens_per_expert: Vec<usize>,
    /// `[num_local_experts + 1]`, exclusive prefix sum of the aligned counts.
    pub expert_offsets: Vec<usize>,
    /// INT32 `[expert_offsets.last()]`, local expert of each row, -1 = padding.
    pub grouped_layout: Vec<i32>,
    /// `[expert_offsets.last()]`, `None` = padding.
    pub rows: Vec<Option<RowSource>>,
}

/// Lays the rows of one rank's experts out one after another, each segment padded to the alignment.
pub fn contiguous(received: &Received, expert_alignment: usize) -> Contiguous {
    let mut layout = Contiguous {
        num_recv_tokens_per_expert: vec![],
        expert_offsets: vec![0],
        grouped_layout: vec![],
        rows: vec![],
    };
    for (local_expert_idx, sources) in received.iter().enumerate() {
        let end = layout.rows.len() + sources.len().next_multiple_of(expert_alignment);
        layout.num_recv_tokens_per_expert.push(sources.len());
        layout.grouped_layout.extend(sources.iter().map(|_| local_expert_idx as i32));
        layout.grouped_layout.resize(end, -1);
        layout.rows.extend(sources.iter().map(|&source| Some(source)));
        layout.rows.resize(end, None);
        layout.expert_offsets.push(end);
    }
    layout
}

/// The masked receive layout of one rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// `[num_local_experts]`, valid rows, at most `max_m`.
    pub masked_m: Vec<usize>,
    /// `[num_local_experts]`, rows that were sent; more than `max_m` is an overflow.
    pub num_recv_tokens_per_expert: Vec<usize>,
    /// Rows that may stand in each expert's segment; which ones of an overflow, and in which order,
    /// is open.
    pub sources: Received,
}

/// Describes the masked layout `[num_local_experts, max_m, hidden]`.
pub fn masked(received: &Received, max_m: usize) -> Masked {
    let num_recv_tokens_per_expert: Vec<usize> = received.iter().map(Vec::len).collect();
    Masked {
        masked_m: num_recv_tokens_per_expert.iter().map(|&count| count.min(max_m)).collect(),
        num_recv_tokens_per_expert,
        sources: received.clone(),
    }
}

/// Counts the rows of every expert, all ranks together.
#[track_caller]
pub fn expert_load(topk_idx_per_rank: &[Vec<i32>], num_experts: usize) -> Vec<usize> {
    let mut load = vec![0; num_experts];
    for &expert_idx in topk_idx_per_rank.iter().flatten().filter(|&&idx| idx != -1) {
        load[checked_expert(expert_idx, num_experts)] += 1;
    }
    load
}

/// Counts the distinct tokens that each rank sends to each rank: `[src][dst]`.
///
/// That is what travels when a token with several experts on one rank is sent there once.
#[track_caller]
pub fn num_tokens_sent(
    ranks: &Ranks,
    topk_idx_per_rank: &[Vec<i32>],
    num_topk: usize,
) -> Vec<Vec<usize>> {
    let mut sent = vec![vec![0; ranks.num_ranks]; topk_idx_per_rank.len()];
    for (src_rank_idx, topk_idx) in topk_idx_per_rank.iter().enumerate() {
        for token in topk_idx.chunks(num_topk) {
            for (dst_rank_idx, count) in sent[src_rank_idx].iter_mut().enumerate() {
                let is_home = |&idx: &i32| {
                    idx != -1 && idx as usize / ranks.num_local_experts() == dst_rank_idx
                };
                *count += usize::from(token.iter().any(is_home));
            }
        }
    }
    sent
}

/// Where the replicas of every logical expert stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// INT32 `[num_logical_experts, max_replicas]`, physical expert of each replica, -1 padded.
    pub logical_to_physical_map: Vec<i32>,
    /// INT32 `[num_logical_experts]`, replicas of each.
    pub logical_count: Vec<i32>,
}

impl Replicas {
    /// Inverts a physical-to-logical map, replicas in ascending physical order.
    ///
    /// # Panics
    ///
    /// When an index is out of range or an expert has no replica.
    #[track_caller]
    pub fn from_physical(physical_to_logical_map: &[i32], num_logical_experts: usize) -> Self {
        let mut replicas = vec![vec![]; num_logical_experts];
        for (physical_idx, &logical_idx) in physical_to_logical_map.iter().enumerate() {
            replicas[checked_expert(logical_idx, num_logical_experts)].push(physical_idx as i32);
        }
        assert!(replicas.iter().all(|r| !r.is_empty()), "every logical expert has a replica");
        let logical_count: Vec<i32> = replicas.iter().map(|r| r.len() as i32).collect();
        let max_replicas = replicas.iter().map(Vec::len).max().unwrap_or(0);
        replicas.iter_mut().for_each(|r| r.resize(max_replicas, -1));
        Self { logical_to_physical_map: replicas.concat(), logical_count }
    }

    /// Turns logical choices into physical ones: `replica_idx = src_token_global_idx %
    /// logical_count`.
    ///
    /// `topk_idx` INT32 `[num_tokens, num_topk]` are the choices of one rank, whose first token has
    /// `first_src_token_global_idx`. -1 stays.
    pub fn physical_topk_idx(
        &self,
        topk_idx: &[i32],
        num_topk: usize,
        first_src_token_global_idx: usize,
    ) -> Vec<i32> {
        let num_logical_experts = self.logical_count.len();
        let max_replicas = self.logical_to_physical_map.len() / num_logical_experts;
        let physical = |(i, &logical_idx): (usize, &i32)| {
            if logical_idx == -1 {
                return -1;
            }
            let logical_idx = checked_expert(logical_idx, num_logical_experts);
            let src_token_global_idx = first_src_token_global_idx + i / num_topk;
            let replica_idx = src_token_global_idx % self.logical_count[logical_idx] as usize;
            self.logical_to_physical_map[logical_idx * max_replicas + replica_idx]
        };
        topk_idx.iter().enumerate().map(physical).collect()
    }
}

#[track_caller]
fn checked_expert(expert_idx: i32, num_experts: usize) -> usize {
    let in_range = usize::try_from(expert_idx).ok().filter(|&idx| idx < num_experts);
    in_range.unwrap_or_else(|| panic!("expert {expert_idx} of {num_experts}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_RANKS: Ranks = Ranks { num_ranks: 2, num_experts: 4, num_max_tokens_per_rank: 10 };

    fn row(src_token_global_idx: usize, topk_slot_idx: usize) -> RowSource {
        RowSource { src_token_global_idx, topk_slot_idx }
    }

    fn choices() -> Vec<Vec<i32>> {
        // Rank 0: tokens (0, 3), (-1, 1). Rank 1: token (1, 0).
        vec![vec![0, 3, -1, 1], vec![1, 0]]
    }

    #[test]
    fn rows_go_to_the_rank_of_their_expert_in_source_order() {
        let received = receive(&TWO_RANKS, &choices(), 2);
        assert_eq!(received[0], [vec![row(0, 0), row(10, 1)], vec![row(1, 1), row(10, 0)]]);
        assert_eq!(received[1], [vec![], vec![row(0, 1)]]);
    }

    #[test]
    fn segments_are_padded_and_empty_experts_take_no_rows() {
        // STYLE's example: choices (0, 2), (2, 0), three experts, alignment 4.
        let ranks = Ranks { num_ranks: 1, num_experts: 3, num_max_tokens_per_rank: 2 };
        let received = receive(&ranks, &[vec![0, 2, 2, 0]], 2);
        let layout = contiguous(&received[0], 4);
        assert_eq!(layout.num_recv_tokens_per_expert, [2, 0, 2]);
        assert_eq!(layout.expert_offsets, [0, 4, 4, 8]);
        assert_eq!(layout.grouped_layout, [0, 0, -1, -1, 2, 2, -1, -1]);
        assert_eq!(layout.rows[..3], [Some(row(0, 0)), Some(row(1, 1)), None]);
        assert_eq!(layout.rows[4..6], [Some(row(0, 1)), Some(row(1, 0))]);
    }

    #[test]
    fn alignment_one_leaves_no_gap() {
        let layout = contiguous(&receive(&TWO_RANKS, &choices(), 2)[0], 1);
        assert_eq!(layout.expert_offsets, [0, 2, 4]);
        assert_eq!(layout.grouped_layout, [0, 0, 1, 1]);
    }

    #[test]
    fn a_masked_segment_clips_but_keeps_the_true_count() {
        let layout = masked(&receive(&TWO_RANKS, &choices(), 2)[0], 1);
        assert_eq!(layout.masked_m, [1, 1]);
        assert_eq!(layout.num_recv_tokens_per_expert, [2, 2]);
    }

    #[test]
    fn loads_count_rows_and_sends_count_tokens() {
        assert_eq!(expert_load(&choices(), 4), [2, 2, 0, 1]);
        assert_eq!(num_tokens_sent(&TWO_RANKS, &choices(), 2), [[2, 1], [1, 0]]);
    }

    #[test]
    fn ranks_without_tokens_are_fine() {
        let received = receive(&TWO_RANKS, &[vec![], vec![]], 2);
        assert_eq!(contiguous(&received[0], 128).expert_offsets, [0, 0, 0]);
    }

    #[test]
    fn replicas_take_turns_by_source_token() {
        let replicas = Replicas::from_physical(&[1, 0, 1, 1], 2);
        assert_eq!(replicas.logical_to_physical_map, [1, -1, -1, 0, 2, 3]);
        assert_eq!(replicas.logical_count, [1, 3]);
        let physical = replicas.physical_topk_idx(&[1, 0, 1, -1, 1, 0], 2, 10);
        assert_eq!(physical, [2, 1, 3, -1, 0, 1], "tokens 10, 11, 12 modulo 3 are 1, 2, 0");
    }

    #[test]
    #[should_panic(expected = "expert 4 of 4")]
    fn an_expert_out_of_range_is_refused() {
        receive(&TWO_RANKS, &[vec![4, 0], vec![]], 2);
    }
}
