//! How many connections the process has file descriptors for: each connection and each open file needs one.

use crate::util::descriptors::{kept_free, raise_limit};

/// Descriptors kept for everything else: listening, pending handshakes, trackers, the terminal, the program itself.
const RESERVED_DESCRIPTORS: u64 = 40;

/// How many connections there are descriptors for, besides `files` open files; and the process's descriptor limit. Raises the limit
/// first.
pub fn connection_capacity(files: usize) -> (usize, u64) {
    let have = raise_limit();
    let capacity = usize::try_from(have.saturating_sub(files as u64 + RESERVED_DESCRIPTORS + kept_free(have)))
        .unwrap_or(usize::MAX)
        .max(1);
    (capacity, have)
}
