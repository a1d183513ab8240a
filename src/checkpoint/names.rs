//! The names of an MoE layer's tensors.

/// Names of one layer's tensors, as DeepSeek-V3 has them.
pub(super) struct LayerNames {
    prefix: String,
}

impl LayerNames {
    pub fn new(layer_idx: usize) -> Self {
        Self { prefix: format!("model.layers.{layer_idx}.mlp") }
    }

    /// `[num_experts, hidden]`, BF16.
    pub fn gate(&self) -> String {
        format!("{}.gate.weight", self.prefix)
    }

    /// `[num_experts]`, FP32.
    pub fn gate_bias(&self) -> String {
        format!("{}.gate.e_score_correction_bias", self.prefix)
    }

    pub fn expert(&self, expert_idx: usize) -> FfnNames {
        FfnNames { prefix: format!("{}.experts.{expert_idx}", self.prefix) }
    }

    pub fn shared(&self) -> FfnNames {
        FfnNames { prefix: format!("{}.shared_experts", self.prefix) }
    }
}

/// Names of one expert's matrices.
pub(super) struct FfnNames {
    prefix: String,
}

impl FfnNames {
    /// `[width, hidden]`.
    pub fn gate_proj(&self) -> String {
        format!("{}.gate_proj.weight", self.prefix)
    }

    /// `[width, hidden]`.
    pub fn up_proj(&self) -> String {
        format!("{}.up_proj.weight", self.prefix)
    }

    /// `[hidden, width]`.
    pub fn down_proj(&self) -> String {
        format!("{}.down_proj.weight", self.prefix)
    }
}

/// Name of an FP8 matrix's scales, FP32 `[ceil_div(n, 128), ceil_div(k, 128)]`: what its codes are
/// multiplied with, in spite of "inv".
pub(super) fn scale_of(weight: &str) -> String {
    format!("{weight}_scale_inv")
}
