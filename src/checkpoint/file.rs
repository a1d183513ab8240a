//! One safetensors file: its header read once, its tensors mapped one at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::OP;
use crate::error::{Error, Result};

/// Length of the length of the header.
const PREFIX_BYTES: u64 = 8;
/// What the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open safetensors file.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Position of the first tensor's first byte.
    data_start: u64,
    /// Bytes from there to the end of the file.
    data_bytes: u64,
}

impl TensorFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::io(OP, path, source);
        let malformed = |problem: String| Error::Format {
            path: path.to_owned(),
            format: "safetensors file",
            problem,
        };
        // NOTE: asked before opening, which would wait for ever on a pipe.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(malformed("not a regular file".to_owned()));
        }
        let file = File::open(path).map_err(io)?;
        let num_bytes = file.metadata().map_err(io)?.len();
        let header = read_header(&file, num_bytes).map_err(io)?.map_err(malformed)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| malformed(format!("header: {error}")))?;
        let data_start = PREFIX_BYTES + header.len() as u64;
        let data_bytes = num_bytes - data_start;
        if let Some(rest) = data_bytes.checked_sub(metadata.data_len() as u64).filter(|&n| n > 0) {
            return Err(malformed(format!("{rest} bytes follow the last tensor")));
        }
        Ok(Self { path: path.to_owned(), file, metadata, data_start, data_bytes })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors, in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Finds a tensor; the error is for one whose data end beyond the file.
    pub fn find(&self, name: &str) -> Result<Option<FileTensor<'_>>> {
        let Some(info) = self.metadata.info(name) else {
            return Ok(None);
        };
        let end = info.data_offsets.1 as u64;
        let tensor = FileTensor { file: self, name: name.to_owned(), info };
        if end > self.data_bytes {
            let file_end = self.data_start + self.data_bytes;
            let end = self.data_start.saturating_add(end);
            return Err(tensor.bad(format!(
                "truncated: its data end at byte {end}, the file at byte {file_end}"
            )));
        }
        Ok(Some(tensor))
    }
}

/// Reads the header's bytes; the inner error says why there is none.
fn read_header(file: &File, num_bytes: u64) -> std::io::Result<Result<Vec<u8>, String>> {
    if num_bytes < PREFIX_BYTES {
        return Ok(Err(format!("{num_bytes} bytes are too few for a header")));
    }
    let mut prefix = [0; PREFIX_BYTES as usize];
    file.read_exact_at(&mut prefix, 0)?;
    let header_bytes = u64::from_le_bytes(prefix);
    let most = MAX_HEADER_BYTES.min(num_bytes - PREFIX_BYTES);
    if header_bytes > most {
        return Ok(Err(format!("the header is {header_bytes} bytes long, {most} at most")));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact_at(&mut header, PREFIX_BYTES)?;
    Ok(Ok(header))
}

/// A tensor of a file; its data are within the file.
#[derive(Debug)]
pub(super) struct FileTensor<'a> {
    file: &'a TensorFile,
    name: String,
    info: &'a TensorInfo,
}

impl FileTensor<'_> {
    pub fn dtype(&self) -> Dtype {
        self.info.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    pub fn num_bytes(&self) -> usize {
        self.info.data_offsets.1 - self.info.data_offsets.0
    }

    /// Refuses any dtype but these.
    pub fn expect_dtype(&self, expected: &[Dtype]) -> Result<()> {
        if expected.contains(&self.dtype()) {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(Dtype::to_string).collect();
        Err(self.bad(format!("dtype {}, expected {}", self.dtype(), expected.join(" or "))))
    }

    /// Refuses any other shape.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape() == expected {
            return Ok(());
        }
        Err(self.bad(format!("shape {:?}, expected {expected:?}", self.shape())))
    }

    /// Maps the tensor's bytes; they leave memory again when the map is dropped.
    pub fn map(&self) -> Result<Mmap> {
        let path = self.file.path();
        let io = |source| Error::io(OP, path, source);
        let end = self.file.data_start + self.info.data_offsets.1 as u64;
        // NOTE: asked again, because reading a map beyond the file's end ends the process.
        if self.file.file.metadata().map_err(io)?.len() < end {
            return Err(self.bad("truncated since the checkpoint was opened".to_owned()));
        }
        let start = self.file.data_start + self.info.data_offsets.0 as u64;
        let mut options = MmapOptions::new();
        options.offset(start).len(self.num_bytes());
        // SAFETY: the map is only read, as bytes, of which any are valid; `Checkpoint::open` asks that
        // nobody writes the files meanwhile.
        unsafe { options.map(&self.file.file) }.map_err(io)
    }

    /// An error about this tensor.
    pub fn bad(&self, problem: String) -> Error {
        Error::Checkpoint { path: self.file.path.clone(), tensor: self.name.clone(), problem }
    }
}
