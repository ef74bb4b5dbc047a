//! How many peers the process has descriptors for: a connection needs one, a file one.

use crate::util::descriptors::raise_limit;

/// Descriptors for everything else: listening, callers that wait, trackers, the terminal, the program itself.
const RESERVED_DESCRIPTORS: u64 = 40;

/// How many of `wanted` peers there are descriptors for, beside `files` files; and how many there are in all.
pub fn connection_capacity(wanted: usize, files: usize) -> (usize, u64) {
    let have = raise_limit();
    let capacity =
        usize::try_from(have.saturating_sub(files as u64 + RESERVED_DESCRIPTORS)).unwrap_or(usize::MAX).max(1);
    (capacity.min(wanted), have)
}
