//! Writing one file piece by piece.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use super::GenerateOptions;
use super::layout::{PlannedMatrix, Shard};
use super::values::{piece, piece_rows};
use crate::checkpoint::OP;
use crate::error::{Error, Result};

/// Writes a shard; `wrote` gets the bytes of each piece.
pub(super) fn shard(
    path: &Path,
    shard: &Shard,
    options: &GenerateOptions,
    wrote: &mut dyn FnMut(u64),
) -> Result<()> {
    let io = |source| Error::io(OP, path, source);
    let file = File::create_new(path).map_err(io)?;
    let (header, start_of) = header(shard).map_err(io)?;
    file.set_len(header.len() as u64 + shard.num_bytes()).map_err(io)?;
    file.write_all_at(&header, 0).map_err(io)?;
    let writer = MatrixWriter { path, file: &file, start_of: &start_of, options };
    shard.matrices.iter().try_for_each(|matrix| writer.write(matrix, wrote))?;
    file.sync_all().map_err(io)
}

/// The bytes before the tensors, and where each tensor starts in the file.
fn header(shard: &Shard) -> std::io::Result<(Vec<u8>, HashMap<String, u64>)> {
    let mut end = 0;
    let infos: Vec<(String, TensorInfo)> = shard
        .tensors()
        .map(|tensor| {
            let start = end;
            end += tensor.num_bytes() as usize;
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        })
        .collect();
    let starts: Vec<(String, usize)> =
        infos.iter().map(|(name, info)| (name.clone(), info.data_offsets.0)).collect();
    // NOTE: readers of the format's first library want to know which library wrote the file.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(std::io::Error::other)?;
    let mut json = serde_json::to_vec(&metadata)?;
    // NOTE: spaces at the end keep the tensors aligned.
    json.resize(json.len().next_multiple_of(8), b' ');
    let header = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
    let data_start = header.len();
    let start_of = starts.into_iter().map(|(name, start)| (name, (data_start + start) as u64));
    Ok((header, start_of.collect()))
}

struct MatrixWriter<'a> {
    path: &'a Path,
    file: &'a File,
    /// Position of each tensor in the file.
    start_of: &'a HashMap<String, u64>,
    options: &'a GenerateOptions,
}

impl MatrixWriter<'_> {
    fn write(&self, matrix: &PlannedMatrix, wrote: &mut dyn FnMut(u64)) -> Result<()> {
        let io = |source| Error::io(OP, self.path, source);
        let mut values_at = self.start_of[&matrix.values.name];
        let mut scales_at = matrix.scales.as_ref().map_or(0, |scales| self.start_of[&scales.name]);
        let rows = piece_rows(matrix);
        for first_row in (0..matrix.num_rows).step_by(rows) {
            let num_rows = rows.min(matrix.num_rows - first_row);
            let scale_format = self.options.config.scale_format();
            let piece = piece(matrix, self.options.seed, [first_row, num_rows], scale_format)?;
            self.file.write_all_at(&piece.values, values_at).map_err(io)?;
            self.file.write_all_at(&piece.scales, scales_at).map_err(io)?;
            values_at += piece.values.len() as u64;
            scales_at += piece.scales.len() as u64;
            wrote((piece.values.len() + piece.scales.len()) as u64);
        }
        Ok(())
    }
}
