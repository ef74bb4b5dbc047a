//! A position in the bytes of several slices, which are written with one system call where possible.

use std::io::IoSlice;

/// Slices per `pwritev`: 1 MiB of blocks, well below any system's `IOV_MAX`.
pub(super) const MAX_SLICES: usize = 64;

/// A cursor over the bytes of several slices.
pub(super) struct SliceCursor<'a> {
    pub bufs: &'a [IoSlice<'a>],
    /// The current slice.
    pub first: usize,
    /// The number of its bytes already consumed.
    pub skip: usize,
}

impl<'a> SliceCursor<'a> {
    /// The next bytes, at most `limit`, as slices in `batch`.
    pub fn next<'b>(&self, batch: &'b mut [IoSlice<'a>; MAX_SLICES], limit: u64) -> &'b [IoSlice<'a>] {
        let mut skip = self.skip;
        let mut room = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut count = 0;
        for (slot, buf) in batch.iter_mut().zip(self.bufs.get(self.first..).unwrap_or_default()) {
            if room == 0 {
                break;
            }
            let rest = buf.get(skip..).unwrap_or_default();
            let part = rest.get(..room).unwrap_or(rest);
            *slot = IoSlice::new(part);
            room -= part.len();
            skip = 0;
            count += 1;
        }
        batch.get(..count).unwrap_or_default()
    }

    /// Skips `count` bytes, and the empty slices that follow.
    pub fn advance(&mut self, count: u64) {
        let mut count = usize::try_from(count).unwrap_or(usize::MAX);
        while let Some(buf) = self.bufs.get(self.first) {
            let rest = buf.len() - self.skip;
            if count < rest {
                self.skip += count;
                return;
            }
            count -= rest;
            self.skip = 0;
            self.first += 1;
        }
    }
}
