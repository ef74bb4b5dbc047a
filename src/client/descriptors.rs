//! How many peers the process has descriptors for: a connection needs one, a file one.

use crate::util::descriptors::raise;

/// Descriptors for everything else: listening, callers that wait, trackers, the terminal, the program itself.
const SPARE: u64 = 40;

/// How many of `wanted` peers there are descriptors for, beside `files` files; and how many there are in all.
pub fn room_for_peers(wanted: usize, files: usize) -> (usize, u64) {
    let have = raise();
    let room = usize::try_from(have.saturating_sub(files as u64 + SPARE)).unwrap_or(usize::MAX).max(1);
    (room.min(wanted), have)
}
