//! The cost of one call of each stage that stays on its rank and multiplies no matrices.
//!
//! Every element of the tensors counts once, whether its row holds a token or padding: which do is
//! not known before the call.

use super::Cost;
use crate::moe::Activation;
use crate::moe::gate::GateArgs;
use crate::moe::plan::PlanArgs;
use crate::moe::quant::{
    DequantizeArgs, PackScalesArgs, QuantizeArgs, QuantizeBlockArgs, QuantizeChannelArgs,
    QuantizeTransposeArgs, RelayoutScalesArgs, UnpackScalesArgs,
};
use crate::moe::swiglu::{CheckedInput, SwigluArgs, SwigluBackwardArgs, SwigluQuantizeArgs};
use crate::tensor::{Element, QuantMut, QuantRef, TensorMut, TensorRef};

/// Bytes that are read or written once.
trait Traffic {
    fn num_bytes(&self) -> usize;
}

impl<B, T: Element, const R: usize> Traffic for TensorRef<'_, B, T, R> {
    fn num_bytes(&self) -> usize {
        self.layout().num_elements() * size_of::<T>()
    }
}

impl<B, T: Element, const R: usize> Traffic for TensorMut<'_, B, T, R> {
    fn num_bytes(&self) -> usize {
        self.layout().num_elements() * size_of::<T>()
    }
}

impl<B, const R: usize> Traffic for QuantRef<'_, B, R> {
    fn num_bytes(&self) -> usize {
        self.values.num_bytes() + self.scales.num_bytes()
    }
}

impl<B, const R: usize> Traffic for QuantMut<'_, B, R> {
    fn num_bytes(&self) -> usize {
        self.values.num_bytes() + self.scales.num_bytes()
    }
}

impl<T: Traffic> Traffic for Option<T> {
    fn num_bytes(&self) -> usize {
        self.as_ref().map_or(0, Traffic::num_bytes)
    }
}

impl<B, T: Activation> Traffic for CheckedInput<'_, B, T> {
    fn num_bytes(&self) -> usize {
        self.gate_up.num_bytes() + self.row_weights.num_bytes()
    }
}

fn traffic(parts: &[&dyn Traffic]) -> Cost {
    let hbm_bytes = parts.iter().map(|part| part.num_bytes() as u64).sum();
    Cost { hbm_bytes, ..Cost::default() }
}

impl<B> GateArgs<'_, B> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.logits, &self.bias, &self.topk_idx, &self.topk_weights])
    }
}

impl<B> PlanArgs<'_, B> {
    /// Traffic; the expert load, if it is counted, is read and written.
    pub fn cost(&self) -> Cost {
        let out = &self.out;
        let counts: [&dyn Traffic; 4] = [
            &out.expert_offsets,
            &out.num_recv_tokens_per_expert,
            &out.expert_load,
            &out.expert_load,
        ];
        let rows: [&dyn Traffic; 4] =
            [&self.topk_idx, &out.grouped_layout, &out.src_info, &out.slot_rows];
        traffic(&counts) + traffic(&rows)
    }
}

impl<B, T: Activation> QuantizeArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.x, &self.out])
    }
}

impl<B, T: Activation> QuantizeBlockArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.x, &self.out])
    }
}

impl<B, T: Activation> QuantizeChannelArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.x, &self.out])
    }
}

impl<B, T: Activation> QuantizeTransposeArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        let counts = [&self.expert_offsets, &self.num_recv_tokens_per_expert];
        traffic(&[&self.x, &self.out, counts[0], counts[1]])
    }
}

impl<B, T: Activation> DequantizeArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.x, &self.out])
    }
}

impl<B> RelayoutScalesArgs<'_, B> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.scales, &self.out])
    }
}

impl<B> PackScalesArgs<'_, B> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.scales, &self.out])
    }
}

impl<B> UnpackScalesArgs<'_, B> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.packed, &self.out])
    }
}

impl<B, T: Activation, U: Activation> SwigluArgs<'_, B, T, U> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.input, &self.out])
    }
}

impl<B, T: Activation> SwigluQuantizeArgs<'_, B, T> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.input, &self.out])
    }
}

impl<B, T: Activation, D: Activation> SwigluBackwardArgs<'_, B, T, D> {
    /// Traffic.
    pub fn cost(&self) -> Cost {
        traffic(&[&self.input, &self.grad_out, &self.grad_gate_up, &self.grad_row_weights])
    }
}
