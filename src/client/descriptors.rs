//! How many connections the process has file descriptors for: each open file needs one, and each connection one, or two with uTP.

use crate::util::descriptors::{kept_free, raise_limit};

/// Descriptors kept for everything else: listening, pending handshakes, trackers, the terminal, the program itself.
const RESERVED_DESCRIPTORS: u64 = 40;

/// Descriptors of the UDP sockets of both address families: each has a socket, its copy, epoll and an eventfd.
const UDP_DESCRIPTORS: u64 = 8;

/// With fewer descriptors than this, uTP would leave too few connections.
const MIN_FOR_UTP: u64 = 256;

/// Whether there are enough descriptors to use uTP beside TCP. Raises the limit first.
pub fn suffice_for_utp() -> bool {
    raise_limit() >= MIN_FOR_UTP
}

/// How many connections there are descriptors for, besides `files` open files; and the process's descriptor limit. Any of the
/// connections may use uTP if that is on. Raises the limit first.
pub fn connection_capacity(files: usize, uses_utp: bool) -> (usize, u64) {
    let have = raise_limit();
    let reserved = RESERVED_DESCRIPTORS + if uses_utp { UDP_DESCRIPTORS } else { 0 };
    let left = have.saturating_sub(files as u64 + reserved + kept_free(have));
    let capacity = usize::try_from(if uses_utp { left / 2 } else { left }).unwrap_or(usize::MAX).max(1);
    (capacity, have)
}
