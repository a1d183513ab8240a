//! Experts' weights in the other number format.

use super::ep_config::WireFormat;
use super::quant::{DequantizeArgs, Granularity, QuantizeBlockArgs, ScaleFormat};
use super::weights::{ExpertMatrices, ExpertWeights, MoeWeights};
use crate::backend::Backend;
use crate::error::Result;
use crate::num::ceil_div;
use crate::tensor::{QuantTensor, Tensor};

impl<B: Backend> MoeWeights<B> {
    /// Converts the routed and shared experts to `format`; matrices that are in it already stay.
    ///
    /// # Numerics
    ///
    /// To BF16: [`Backend::dequantize`]. To FP8: [`Backend::quantize_block`] with scales as
    /// `scale_format` says.
    ///
    /// # Errors
    ///
    /// [`crate::Error::OutOfMemory`]; those of the driver.
    pub fn into_format(
        self,
        backend: &B,
        stream: &B::Stream,
        format: WireFormat,
        scale_format: ScaleFormat,
    ) -> Result<Self> {
        let target = Target { backend, stream, format, scale_format };
        Ok(Self {
            routed: target.experts(self.routed)?,
            shared: self.shared.map(|shared| target.experts(shared)).transpose()?,
            ..self
        })
    }
}

struct Target<'a, B: Backend> {
    backend: &'a B,
    stream: &'a B::Stream,
    format: WireFormat,
    scale_format: ScaleFormat,
}

impl<B: Backend> Target<'_, B> {
    fn experts(&self, experts: ExpertWeights<B>) -> Result<ExpertWeights<B>> {
        Ok(ExpertWeights {
            gate_up: self.matrices(experts.gate_up)?,
            down: self.matrices(experts.down)?,
        })
    }

    fn matrices(&self, matrices: ExpertMatrices<B>) -> Result<ExpertMatrices<B>> {
        let shape = matrices.shape();
        match (matrices, self.format) {
            (ExpertMatrices::Fp8(from), WireFormat::Bf16) => {
                let mut to = Tensor::zeros(self.backend, shape)?;
                let (x, out) = (from.view(), to.view_mut());
                let args = DequantizeArgs::new(x, out, Granularity::PerBlock)?;
                self.backend.dequantize(self.stream, args)?;
                self.backend.check(self.stream)?;
                Ok(ExpertMatrices::Bf16(to))
            }
            (ExpertMatrices::Bf16(from), WireFormat::Fp8) => {
                let [num_experts, n, k] = shape;
                let mut to = QuantTensor {
                    values: Tensor::zeros(self.backend, shape)?,
                    scales: Tensor::zeros(
                        self.backend,
                        [num_experts, ceil_div(n, 128), ceil_div(k, 128)],
                    )?,
                };
                let args = QuantizeBlockArgs::new(from.view(), to.view_mut(), self.scale_format)?;
                self.backend.quantize_block(self.stream, args)?;
                self.backend.check(self.stream)?;
                Ok(ExpertMatrices::Fp8(to))
            }
            (same, _) => Ok(same),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::num::bf16;

    #[test]
    fn weights_go_to_fp8_and_back_where_fp8_holds_them() {
        let cpu = Cpu::new();
        let stream = cpu.stream().expect("a stream");
        // 448 in each block, so that every scale is 1.
        let values: Vec<bf16> = (0..2 * 16 * 16)
            .map(|idx| bf16::from_f32(if idx % 2 == 0 { 448.0 } else { 1.5 }))
            .collect();
        let matrices = || {
            ExpertMatrices::Bf16(Tensor::from_host(&cpu, &values, [2, 16, 16]).expect("512 values"))
        };
        let weights = MoeWeights {
            gate: Tensor::zeros(&cpu, [2, 16]).expect("gate"),
            gate_bias: None,
            routed: ExpertWeights { gate_up: matrices(), down: matrices() },
            shared: None,
        };
        let convert = |weights: MoeWeights<Cpu>, format| {
            weights.into_format(&cpu, &stream, format, ScaleFormat::Fp32).expect("converted")
        };
        let weights = convert(weights, WireFormat::Fp8);
        assert!(matches!(weights.routed.gate_up, ExpertMatrices::Fp8(_)));
        let weights = convert(convert(weights, WireFormat::Bf16), WireFormat::Bf16);
        let ExpertMatrices::Bf16(down) = &weights.routed.down else { panic!("BF16 was asked for") };
        assert_eq!(down.to_host(&cpu).expect("values"), values);
    }
}
