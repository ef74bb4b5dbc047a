//! How many connections the process has file descriptors for: each open file needs one, and each connection one, or with uTP two,
//! and a third while it is opened.

use crate::client::listener::MAX_WAITING_UTP;
use crate::strategy::dial_rate::MAX_HALF_OPEN;
use crate::util::descriptors::{kept_free, raise_limit};

/// Descriptors kept for everything else: listening, pending handshakes, trackers, the terminal, the program itself.
const RESERVED_DESCRIPTORS: u64 = 40;

/// Of those, what the thread `listen` needs: the TCP socket, its copy for the thread, and the eventfd that wakes the thread.
#[cfg(feature = "internals")]
pub const LISTEN_DESCRIPTORS: u64 = 3;

/// For each address family, uTP needs the UDP socket, its copy for the thread, epoll, and the eventfd that wakes the thread.
const UTP_PER_FAMILY: u64 = 4;
/// For each address family, the DHT beside uTP needs both ends of the pair through which it gets its packets, a copy of the UDP
/// socket, and both ends of the pipe that wakes its thread.
const DHT_PER_FAMILY: u64 = 5;
/// The descriptors of the UDP socket of an address family that uTP and the DHT share.
pub const UDP_PER_FAMILY: u64 = UTP_PER_FAMILY + DHT_PER_FAMILY;

/// What uTP and the DHT need besides connections: the sockets of both families, and both ends of the pairs of the incoming
/// connections that wait for the thread `listen`.
const UDP_DESCRIPTORS: u64 = 2 * UDP_PER_FAMILY + 2 * MAX_WAITING_UTP as u64;

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
    let capacity = if uses_utp { capacity_with_utp(left) } else { left };
    (usize::try_from(capacity).unwrap_or(usize::MAX).max(1), have)
}

/// How many connections `left` descriptors are enough for. Each has both ends of a pair, and a TCP socket too while both transports
/// race to open it.
fn capacity_with_utp(left: u64) -> u64 {
    let if_all_are_half_open = left / 3;
    let if_most_are_open = left.saturating_sub(MAX_HALF_OPEN as u64) / 2;
    if_all_are_half_open.max(if_most_are_open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_need_more_descriptors_than_there_are() {
        let needed = |connections: u64| 2 * connections + connections.min(MAX_HALF_OPEN as u64);
        for left in 0..2000 {
            let capacity = capacity_with_utp(left);
            assert!(needed(capacity) <= left && left < needed(capacity + 1), "{capacity} with {left}");
        }
    }
}
