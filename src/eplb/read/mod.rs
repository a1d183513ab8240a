//! Expert loads and traces from files: JSON, CSV or safetensors, by extension; placements from JSON.

mod csv;
mod json;
mod tensors;

use std::path::Path;

use super::{ExpertLoad, Placement};
use crate::read_file::read_file;
use crate::{Error, Result};

/// Most values that a file may hold: bounds the memory that a malformed file can ask for.
const MAX_VALUES: usize = 1 << 26;
/// Most bytes of a file: that many values with all their digits.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// Expert counts step by step: `[num_steps][num_layers, num_logical_experts]`.
pub type Trace = Vec<ExpertLoad>;

/// Reads one expert load.
///
/// # Shapes
///
/// | format | content |
/// | --- | --- |
/// | `.json` | `{"weight": [[..], ..]}` or `[[..], ..]`, `[num_layers, num_logical_experts]` |
/// | `.csv` | one line a layer, one column an expert; a first line without numbers is skipped |
/// | `.safetensors` | the tensor `weight`, or the only one, `[num_layers, num_logical_experts]` F32, F64, I32 or I64 |
///
/// Any other extension is read as JSON.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read, [`Error::Format`] if it does not parse,
/// [`Error::Value`] for loads that [`ExpertLoad::new`] refuses, [`Error::Capacity`] above 2^26
/// values.
pub fn read_load(path: impl AsRef<Path>) -> Result<ExpertLoad> {
    let path = path.as_ref();
    let bytes = read_file("read_load", path, MAX_FILE_BYTES)?;
    match format_of(path) {
        Format::Csv => csv::load(path, &bytes),
        Format::Safetensors => tensors::load(path, &bytes),
        Format::Json => json::load(path, &bytes),
    }
}

/// Reads a trace of expert counts, one load a step.
///
/// # Shapes
///
/// | format | content |
/// | --- | --- |
/// | `.json` | `{"trace": [[[..]]]}` or `[[[..]]]`, `[num_steps][num_layers][num_logical_experts]` |
/// | `.csv` | a line `step,layer,expert,count` and such records, missing ones 0; or a line `step,layer,<one name an expert>` and one record a step and layer, missing ones 0 |
/// | `.safetensors` | the tensor `trace`, or the only one, `[num_steps, num_layers, num_logical_experts]` F32, F64, I32 or I64 |
///
/// Any other extension is read as JSON.
///
/// # Errors
///
/// Those of [`read_load`].
pub fn read_trace(path: impl AsRef<Path>) -> Result<Trace> {
    let path = path.as_ref();
    let bytes = read_file("read_trace", path, MAX_FILE_BYTES)?;
    match format_of(path) {
        Format::Csv => csv::trace(path, &bytes),
        Format::Safetensors => tensors::trace(path, &bytes),
        Format::Json => json::trace(path, &bytes),
    }
}

/// Reads a placement.
///
/// # Shapes
///
/// JSON: `{"physical_to_logical_map": [[..], ..]}` or `[[..], ..]`,
/// `[num_layers][num_physical_experts]`, -1 = empty slot. With `"logical_to_physical_map"` beside it,
/// `[num_layers][num_logical_experts][max_replicas]`, padded with -1, replicas keep their order;
/// without, they ascend by slot. Other keys are ignored.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read, [`Error::Format`] if it does not parse,
/// [`Error::Value`] for maps that [`Placement::new`] or [`Placement::from_maps`] refuses, or of another
/// number of experts.
pub fn read_placement(path: impl AsRef<Path>, num_logical_experts: usize) -> Result<Placement> {
    let path = path.as_ref();
    let bytes = read_file("read_placement", path, MAX_FILE_BYTES)?;
    json::placement(path, &bytes, num_logical_experts)
}

enum Format {
    Json,
    Csv,
    Safetensors,
}

fn format_of(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("safetensors") => Format::Safetensors,
        _ => Format::Json,
    }
}

/// Splits `[num_steps, num_layers, num_experts]` values into loads.
fn steps_from(values: &[f64], [num_layers, num_experts]: [usize; 2]) -> Result<Trace> {
    let step_len = (num_layers * num_experts).max(1);
    let steps = values.chunks_exact(step_len).map(|step| {
        ExpertLoad::new(step.chunks_exact(num_experts).map(|layer| layer.iter().copied()))
    });
    let steps = steps.collect::<Result<Trace>>()?;
    check_steps(steps)
}

/// Checks that there is a step and that all have one shape.
fn check_steps(steps: Trace) -> Result<Trace> {
    let shape = |load: &ExpertLoad| vec![load.num_layers(), load.num_logical_experts()];
    let Some(first) = steps.first() else {
        return Err(Error::value("read_trace", "trace", "at least one step", "no step"));
    };
    if let Some(other) = steps.iter().find(|step| shape(step) != shape(first)) {
        let (expected, got) = (shape(first), shape(other));
        return Err(Error::Shape { op: "read_trace", arg: "trace", expected, got });
    }
    Ok(steps)
}

fn check_capacity(op: &'static str, arg: &'static str, extents: &[usize]) -> Result<usize> {
    let product = extents.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    match product {
        Some(needed) if needed <= MAX_VALUES => Ok(needed),
        _ => Err(Error::Capacity {
            op,
            arg,
            needed: product.unwrap_or(usize::MAX),
            capacity: MAX_VALUES,
            unit: "values",
        }),
    }
}

#[cfg(test)]
mod tests;
