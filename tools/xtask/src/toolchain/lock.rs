//! One installer at a time, over all processes on the machine.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Holds the lock until dropped; the system drops it too when the process dies.
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits up to `limit` for the lock on `path`.
    pub fn acquire(path: &Path, limit: Duration) -> Result<Self> {
        let file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(Error::io("open the lock file", path))?;
        let start = Instant::now();
        let mut is_announced = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, path: path.into() }),
                Err(TryLockError::Error(source)) => {
                    return Err(Error::io("lock", path)(source));
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= limit => {
                    return Err(Error::Unexpected {
                        what: format!("lock on {}", path.display()),
                        expected: format!("to be free within {limit:?}"),
                        got: "another installer still holds it: end it and try again".to_owned(),
                    });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if !is_announced {
                eprintln!("==> another installer is at work; waiting for it (up to {limit:?})");
                is_announced = true;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// A handle for a child's standard input (there is nothing to read). The lock stays held while
    /// the child lives: one whose parent was killed still finishes before the next installer.
    pub fn share(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::io("share the lock", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_only_so_long_and_a_dropped_one_is_free() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let path = scratch.path().join("lock");
        let held = Lock::acquire(&path, Duration::ZERO).expect("the lock is free");
        let error = Lock::acquire(&path, Duration::ZERO).err().expect("the lock is held");
        assert!(error.to_string().contains("another installer"), "{error}");
        drop(held);
        Lock::acquire(&path, Duration::ZERO).expect("the lock is free again");
    }

    #[test]
    fn a_shared_lock_is_held_until_the_child_ends() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let path = scratch.path().join("lock");
        let held = Lock::acquire(&path, Duration::ZERO).expect("the lock is free");
        let mut child = Command::new("sh")
            .args(["-c", "while :; do sleep 0.01; done"])
            .stdin(held.share().expect("a handle"))
            .spawn()
            .expect("sh starts");
        drop(held);
        assert!(Lock::acquire(&path, Duration::ZERO).is_err(), "the child holds the lock");
        child.kill().expect("kill the child");
        child.wait().expect("wait for the child");
        // The child's last `sleep` may outlive it by a moment.
        Lock::acquire(&path, Duration::from_secs(30)).expect("the lock is free again");
    }
}
