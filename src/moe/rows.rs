//! Which rows of a receive buffer hold tokens.

use crate::error::Result;
use crate::tensor::{TensorRef, check};

/// Which rows hold tokens; the others are padding, and are never read.
///
/// A stage with a `Rows` argument writes a padding row's output as if its input were zeros, so the
/// result depends on tokens alone. Rows of a stack `[num_groups, max_m, k]` are counted through:
/// row `i` of group `g` is row `g * max_m + i`. Values are not checked: a count beyond its segment
/// means the whole segment, offsets are taken as they come.
///
/// # Shapes
///
/// | variant | dtype | shape | values |
/// | --- | --- | --- | --- |
/// | `PerRow` | INT32 | `[m]` | group of the row, negative = padding (`grouped_layout`) |
/// | `Offsets` | INT32 | `[num_groups + 1]`, `[num_groups]` | rows `expert_offsets[g]..` hold `num_recv_tokens_per_expert[g]` tokens |
/// | `Masked` | INT32 | `[num_groups]` | the first `masked_m[g]` rows of group `g` hold tokens |
pub enum Rows<'a, B> {
    /// Every row.
    All,
    /// Rows whose `grouped_layout` is not negative.
    PerRow(TensorRef<'a, B, i32, 1>),
    /// The front of each expert's segment.
    Offsets {
        /// First row of each segment, ascending, and the end of the last; rows from there on are
        /// padding.
        expert_offsets: TensorRef<'a, B, i32, 1>,
        /// Tokens in each segment, from its first row on.
        num_recv_tokens_per_expert: TensorRef<'a, B, i32, 1>,
    },
    /// The first `masked_m[g]` rows of each group.
    Masked(TensorRef<'a, B, i32, 1>),
}

impl<B> Clone for Rows<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Rows<'_, B> {}

impl<B> std::fmt::Debug for Rows<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => write!(f, "All"),
            Self::PerRow(layout) => write!(f, "PerRow({layout:?})"),
            Self::Offsets { num_recv_tokens_per_expert, .. } => {
                write!(f, "Offsets({num_recv_tokens_per_expert:?})")
            }
            Self::Masked(masked_m) => write!(f, "Masked({masked_m:?})"),
        }
    }
}

impl<B> Rows<'_, B> {
    pub(crate) fn check(&self, op: &'static str, [num_groups, m]: [usize; 2]) -> Result<()> {
        match self {
            Self::All => Ok(()),
            Self::PerRow(layout) => {
                check::shape(op, "grouped_layout", &[num_groups * m], &layout.shape())?;
                check::contiguous(op, "grouped_layout", layout.layout())
            }
            Self::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
                let [num_experts] = num_recv_tokens_per_expert.shape();
                check::shape(op, "expert_offsets", &[num_experts + 1], &expert_offsets.shape())?;
                check::contiguous(op, "expert_offsets", expert_offsets.layout())?;
                check::contiguous(
                    op,
                    "num_recv_tokens_per_expert",
                    num_recv_tokens_per_expert.layout(),
                )
            }
            Self::Masked(masked_m) => {
                check::shape(op, "masked_m", &[num_groups], &masked_m.shape())?;
                check::contiguous(op, "masked_m", masked_m.layout())
            }
        }
    }
}
