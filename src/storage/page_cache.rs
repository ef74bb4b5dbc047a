//! Drops what was read from the page cache: a check of more data than fits into memory must not evict the files of other programs.

use std::num::NonZero;

use rustix::fs::{Advice, fadvise};

use crate::storage::files::Storage;
use crate::storage::placement::Location;

impl Storage {
    /// Drops a range that was just read from the page cache. If the system cannot, nothing happens: it is a hint.
    pub(super) fn drop_from_cache(&self, offset: u64, len: u64) {
        let Ok(runs) = self.runs(offset, len) else { return };
        for run in runs {
            if let Location::At { file_index, offset } = run.location
                && let Ok(handle) = self.handle(file_index, false)
            {
                let _ = fadvise(&handle.file, offset, NonZero::new(run.len), Advice::DontNeed);
            }
        }
    }
}
