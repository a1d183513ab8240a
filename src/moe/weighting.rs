//! Where the experts' outputs are multiplied by their routing weights.

use super::combine::CombineWeights;

/// Which stage of a layer multiplies the experts' outputs by their routing weights.
///
/// Either way a row is rounded to BF16 once before combine adds it in FP32: the output, or the output times its weight.
/// Errors are of the same size and bits differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weighting {
    /// Combine, by fused multiply-adds: `acc = fma(w, bf16(sum), acc)`.
    #[default]
    Combine,
    /// The second grouped product, before it rounds ([`GroupedGemmArgs::with_row_weights`]); combine adds rows as they
    /// are: `acc = acc + bf16(w * sum)`.
    ///
    /// [`GroupedGemmArgs::with_row_weights`]: crate::gemm::GroupedGemmArgs::with_row_weights
    Down,
}

impl Weighting {
    /// What is left to combine.
    pub(super) fn of_combine(self) -> CombineWeights {
        match self {
            Self::Combine => CombineWeights::Routed,
            Self::Down => CombineWeights::Ones,
        }
    }
}
