//! Loading one rank's weights of one layer.

use safetensors::Dtype;

use super::names::LayerNames;
use super::projections::Projections;
use super::stacked::{StackShape, write};
use super::{Checkpoint, OP};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::moe::weights::{ExpertWeights, MoeConfig, MoeWeights};
use crate::num::{bf16, round_bf16};
use crate::tensor::Tensor;

impl Checkpoint {
    /// The shape of an MoE layer.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if the layer has no experts.
    pub fn moe_config(&self, layer_idx: usize) -> Result<MoeConfig> {
        let layers = self.config.moe_layers();
        if !layers.contains(&layer_idx) {
            let expected = if layers.is_empty() {
                "a layer with experts, of which there are none".to_owned()
            } else {
                format!("a layer with experts: {} to {}", layers.start, layers.end - 1)
            };
            return Err(Error::value(OP, "layer", expected, layer_idx));
        }
        Ok(self.config.to_moe_config())
    }

    /// Loads one rank's weights of a layer: the router, the shared expert, and the routed experts that
    /// `physical_experts` names. Of the other experts nothing is read.
    ///
    /// # Shapes
    ///
    /// | name | dtype | shape | values |
    /// | --- | --- | --- | --- |
    /// | `physical_experts` | INT32 | `[num_local_experts]` | logical expert of each; -1 = unused, stays zero |
    ///
    /// The result has the shapes of [`MoeWeights`], and the number format of the file.
    ///
    /// # Numerics
    ///
    /// The bits of the file, with two exceptions: an FP32 `gate.weight` is rounded to BF16; and where
    /// `intermediate_hidden % 128 != 0` the FP8 blocks of `gate_proj`'s last rows and of `up_proj` do not
    /// line up with those of the stacked matrix, so these rows are multiplied out in FP32 and quantised
    /// again, which rounds each value once more (at most 1/16 of it, or 1/1024 of the block's scale).
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] naming the file and tensor that is missing, truncated, or of another dtype or
    /// shape; [`Error::Format`] if a header does not parse; [`Error::Value`] if the layer has no experts or
    /// an entry of `physical_experts` is out of range; [`Error::Io`], [`Error::OutOfMemory`].
    pub fn load_moe_layer<B: Backend>(
        &self,
        backend: &B,
        layer_idx: usize,
        physical_experts: &[i32],
    ) -> Result<MoeWeights<B>> {
        let config = self.moe_config(layer_idx)?;
        let logical = check_experts(physical_experts, config.gate.num_experts)?;
        let names = LayerNames::new(layer_idx);
        Ok(MoeWeights {
            gate: self.load_gate(backend, &names, &config)?,
            gate_bias: self.load_gate_bias(backend, &names, &config)?,
            routed: self.load_routed(backend, &names, &config, &logical)?,
            shared: self.load_shared(backend, &names, &config)?,
        })
    }

    fn load_gate<B: Backend>(
        &self,
        backend: &B,
        names: &LayerNames,
        config: &MoeConfig,
    ) -> Result<Tensor<B, bf16, 2>> {
        let shape = [config.gate.num_experts, config.hidden];
        let tensor = self.require(&names.gate())?;
        tensor.expect_dtype(&[Dtype::BF16, Dtype::F32])?;
        tensor.expect_shape(&shape)?;
        let bytes = tensor.map()?;
        if tensor.dtype() == Dtype::F32 {
            let (values, _) = bytes.as_chunks::<4>();
            let rounded: Vec<bf16> =
                values.iter().map(|&value| round_bf16(f32::from_le_bytes(value))).collect();
            return Tensor::from_host(backend, &rounded, shape);
        }
        let mut gate = Tensor::zeros(backend, shape)?;
        write(backend, &mut gate, 0, &bytes)?;
        Ok(gate)
    }

    fn load_gate_bias<B: Backend>(
        &self,
        backend: &B,
        names: &LayerNames,
        config: &MoeConfig,
    ) -> Result<Option<Tensor<B, f32, 1>>> {
        let name = names.gate_bias();
        let found = if self.config.needs_gate_bias() {
            Some(self.require(&name)?)
        } else {
            self.find(&name)?
        };
        let Some(tensor) = found else {
            return Ok(None);
        };
        tensor.expect_dtype(&[Dtype::F32])?;
        tensor.expect_shape(&[config.gate.num_experts])?;
        let mut bias = Tensor::zeros(backend, [config.gate.num_experts])?;
        write(backend, &mut bias, 0, &tensor.map()?)?;
        Ok(Some(bias))
    }

    fn load_routed<B: Backend>(
        &self,
        backend: &B,
        names: &LayerNames,
        config: &MoeConfig,
        logical: &[Option<usize>],
    ) -> Result<ExpertWeights<B>> {
        let width = config.intermediate_hidden;
        let some_expert = logical.iter().flatten().next().copied().unwrap_or(0);
        let format = self.format_of(&names.expert(some_expert))?;
        let find = |expert: &Option<usize>| -> Result<Option<Projections<'_>>> {
            expert.map(|idx| self.projections(&names.expert(idx), format, width)).transpose()
        };
        let experts: Vec<_> = logical.iter().map(find).collect::<Result<_>>()?;
        let shape = StackShape {
            num_experts: experts.len(),
            width,
            hidden: config.hidden,
            format,
            scale_format: self.config.scale_format(),
        };
        shape.load(backend, &experts)
    }

    fn load_shared<B: Backend>(
        &self,
        backend: &B,
        names: &LayerNames,
        config: &MoeConfig,
    ) -> Result<Option<ExpertWeights<B>>> {
        let width = config.shared_intermediate_hidden();
        if width == 0 {
            return Ok(None);
        }
        let names = names.shared();
        let format = self.format_of(&names)?;
        let expert = self.projections(&names, format, width)?;
        let shape = StackShape {
            num_experts: 1,
            width,
            hidden: config.hidden,
            format,
            scale_format: self.config.scale_format(),
        };
        shape.load(backend, &[Some(expert)]).map(Some)
    }
}

/// Logical expert of each physical one; `None` = unused.
fn check_experts(physical_experts: &[i32], num_experts: usize) -> Result<Vec<Option<usize>>> {
    let check = |(physical_idx, &logical): (usize, &i32)| match usize::try_from(logical) {
        Ok(logical) if logical < num_experts => Ok(Some(logical)),
        Err(_) if logical == -1 => Ok(None),
        _ => {
            let expected = format!("-1 to {}", num_experts as i64 - 1);
            let got = format!("{logical} at position {physical_idx}");
            Err(Error::value(OP, "physical_experts", expected, got))
        }
    };
    physical_experts.iter().enumerate().map(check).collect()
}
