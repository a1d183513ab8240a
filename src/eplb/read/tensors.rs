//! Loads and traces in safetensors.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Trace, check_capacity, steps_from};
use crate::eplb::ExpertLoad;
use crate::{Error, Result};

pub(super) fn load(path: &Path, bytes: &[u8]) -> Result<ExpertLoad> {
    let (values, shape) = values::<2>("read_load", "weight", path, bytes)?;
    check_capacity("read_load", "load", &shape)?;
    ExpertLoad::new(values.chunks_exact(shape[1].max(1)).map(|row| row.iter().copied()))
}

pub(super) fn trace(path: &Path, bytes: &[u8]) -> Result<Trace> {
    let (values, [num_steps, num_layers, num_experts]) =
        values::<3>("read_trace", "trace", path, bytes)?;
    check_capacity("read_trace", "trace", &[num_steps, num_layers, num_experts])?;
    if values.is_empty() {
        return Err(Error::value("read_trace", "trace", "at least one value", "none"));
    }
    steps_from(&values, [num_layers, num_experts])
}

/// Returns the values and extents of the tensor `name`, or of the only tensor.
fn values<const NDIM: usize>(
    op: &'static str,
    name: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<(Vec<f64>, [usize; NDIM])> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::Format {
        path: path.into(),
        format: "safetensors",
        problem: error.to_string(),
    })?;
    let names = file.names();
    let found = match names[..] {
        [only] => only,
        _ => name,
    };
    let problem = |problem: String| Error::Checkpoint {
        path: path.into(),
        tensor: found.to_owned(),
        problem,
    };
    let tensor = file.tensor(found).map_err(|error| problem(error.to_string()))?;
    let shape = <[usize; NDIM]>::try_from(tensor.shape()).map_err(|_| {
        problem(format!("{op} expects {NDIM} dimensions, its shape is {:?}", tensor.shape()))
    })?;
    let values = numbers(&tensor).ok_or_else(|| {
        problem(format!("dtype {:?}, expected F32, F64, I32 or I64", tensor.dtype()))
    })?;
    Ok((values, shape))
}

fn numbers(tensor: &TensorView<'_>) -> Option<Vec<f64>> {
    fn decode<const N: usize>(bytes: &[u8], to_f64: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&bytes| to_f64(bytes)).collect()
    }
    let bytes = tensor.data();
    Some(match tensor.dtype() {
        Dtype::F32 => decode(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))),
        Dtype::F64 => decode(bytes, f64::from_le_bytes),
        Dtype::I32 => decode(bytes, |bytes| f64::from(i32::from_le_bytes(bytes))),
        Dtype::I64 => decode(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
        _ => return None,
    })
}
