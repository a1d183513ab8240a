//! One expert's three matrices in a checkpoint, found and checked, not read yet.

use memmap2::Mmap;
use safetensors::Dtype;

use super::Checkpoint;
use super::file::FileTensor;
use super::names::{FfnNames, scale_of};
use crate::error::Result;
use crate::num::ceil_div;

/// Number format of an expert's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Fp8,
    Bf16,
}

impl Format {
    fn dtype(self) -> Dtype {
        match self {
            Self::Fp8 => Dtype::F8_E4M3,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// A matrix `[n, k]` of a checkpoint.
#[derive(Debug)]
pub(super) struct Matrix<'a> {
    values: FileTensor<'a>,
    /// Of FP8 values only.
    scales: Option<FileTensor<'a>>,
}

/// A matrix's bytes in its file.
pub(super) struct MappedMatrix {
    pub values: Mmap,
    pub scales: Option<Mmap>,
}

impl MappedMatrix {
    /// The scales of FP8 values; empty for others.
    pub fn scales(&self) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(self.scales.as_deref().unwrap_or_default())
    }
}

impl Matrix<'_> {
    /// Maps the bytes.
    pub fn map(&self) -> Result<MappedMatrix> {
        Ok(MappedMatrix {
            values: self.values.map()?,
            scales: self.scales.as_ref().map(FileTensor::map).transpose()?,
        })
    }
}

/// The matrices of one expert.
#[derive(Debug)]
pub(super) struct Projections<'a> {
    pub gate: Matrix<'a>,
    pub up: Matrix<'a>,
    pub down: Matrix<'a>,
}

impl Checkpoint {
    /// The number format of an expert, by its `gate_proj`.
    pub(super) fn format_of(&self, names: &FfnNames) -> Result<Format> {
        let gate = self.require(&names.gate_proj())?;
        gate.expect_dtype(&[Dtype::F8_E4M3, Dtype::BF16])?;
        Ok(if gate.dtype() == Dtype::BF16 { Format::Bf16 } else { Format::Fp8 })
    }

    /// Finds an expert's matrices and checks dtypes and shapes.
    pub(super) fn projections(
        &self,
        names: &FfnNames,
        format: Format,
        width: usize,
    ) -> Result<Projections<'_>> {
        let hidden = self.config.hidden_size;
        Ok(Projections {
            gate: self.matrix(&names.gate_proj(), format, [width, hidden])?,
            up: self.matrix(&names.up_proj(), format, [width, hidden])?,
            down: self.matrix(&names.down_proj(), format, [hidden, width])?,
        })
    }

    fn matrix(&self, name: &str, format: Format, [n, k]: [usize; 2]) -> Result<Matrix<'_>> {
        let values = self.require(name)?;
        values.expect_dtype(&[format.dtype()])?;
        values.expect_shape(&[n, k])?;
        let scales = match format {
            Format::Bf16 => None,
            Format::Fp8 => {
                let scales = self.require(&scale_of(name))?;
                scales.expect_dtype(&[Dtype::F32])?;
                scales.expect_shape(&[ceil_div(n, 128), ceil_div(k, 128)])?;
                Some(scales)
            }
        };
        Ok(Matrix { values, scales })
    }
}
