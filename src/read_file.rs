//! Whole files, up to a size.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Reads a file of at most `max_bytes`; pipes and devices too, which may have no end.
pub(crate) fn read_file(op: &'static str, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let io = |source| Error::io(op, path, source);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(max_bytes + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max_bytes {
        let problem = format!("more than the {max_bytes} bytes that are read at most");
        return Err(io(io::Error::new(ErrorKind::FileTooLarge, problem)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), b"12345").expect("written");
        assert_eq!(read_file("test", file.path(), 5).expect("it fits"), b"12345");
        let error = read_file("test", file.path(), 4).expect_err("too large").to_string();
        assert!(error.contains("more than the 4 bytes"), "{error}");
        read_file("test", Path::new("/dev/zero"), 100).expect_err("endless");
        read_file("test", Path::new("/"), 100).expect_err("a folder");
    }
}
