//! Interrupts long reads and writes at shutdown: one request may touch very many files, and another thread waits for this one to
//! exit.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::util::atomics::Flag;

/// The number of files of one read or write between two checks for a stop.
const FILES_PER_STOP_CHECK: usize = 1024;

/// Tells long work on files to end early.
pub trait StopCheck: Sync {
    /// Whether the work has to end.
    fn is_stopped(&self) -> bool;
}

impl StopCheck for AtomicBool {
    fn is_stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

impl StopCheck for Flag {
    fn is_stopped(&self) -> bool {
        self.is_set()
    }
}

/// Whether the torrent stops: [`Storage::set_stop_check`].
impl StopCheck for Storage {
    fn is_stopped(&self) -> bool {
        self.stop_function.0.get().is_some_and(|is_over| is_over())
    }
}

/// Returns whether reads and writes must end.
type IsOver = Box<dyn Fn() -> bool + Send + Sync>;

/// The function to call, if one is set.
#[derive(Default)]
pub(super) struct StopFunction(OnceLock<IsOver>);

impl fmt::Debug for StopFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopFunction").field(&self.0.get().is_some()).finish()
    }
}

impl Storage {
    /// Once `is_over` returns `true`, reads and writes of many files fail as interrupted ([`StorageError::is_interrupted`]).
    pub fn set_stop_check(&self, is_over: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.stop_function.0.set(Box::new(is_over));
    }

    /// Checks for a stop. Called before each file of a read or write; `done` is the number of files already processed.
    pub(super) fn check_stop(&self, operation: Operation, file: usize, done: usize) -> Result<(), StorageError> {
        let is_over = done % FILES_PER_STOP_CHECK == FILES_PER_STOP_CHECK - 1 && self.is_stopped();
        if is_over { Err(self.failed(operation, file, io::ErrorKind::Interrupted.into())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;

    use super::*;
    use crate::storage::layout::{FileSpec, Layout};

    #[test]
    fn reads_and_writes_of_very_many_files_end_with_a_stop_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let count = FILES_PER_STOP_CHECK + 10;
        let files = (0..count).map(|n| FileSpec { path: format!("t/{n}").into(), length: 1, is_pad: false }).collect();
        let storage = Storage::new(dir.path().to_owned(), Layout::new(4096, files).unwrap(), 4);
        storage.prepare().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asks = stop.clone();
        storage.set_stop_check(move || asks.load(Ordering::Relaxed));
        let (bytes, mut buf) = (vec![7; count], vec![0; count]);
        storage.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap();
        storage.read_exact_at(0, &mut buf).unwrap();
        assert_eq!(buf, bytes);
        stop.store(true, Ordering::Relaxed);
        assert!(storage.write_vectored_at(0, &[IoSlice::new(&bytes)]).unwrap_err().is_interrupted());
        assert!(storage.read_exact_at(0, &mut buf).unwrap_err().is_interrupted());
        storage.read_exact_at(0, &mut buf[..100]).unwrap();
        storage.write_vectored_at(100, &[IoSlice::new(&bytes[..100])]).unwrap();
    }
}
