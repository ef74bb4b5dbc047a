//! What is known about the sending side of a connection: for TCP from the kernel (`net/tcp_diag.rs`), for uTP from the thread that
//! has the connection (`udp/peer_stream.rs`).

use std::time::Duration;

/// The figures of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFigures {
    /// Bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// Bytes written that the peer has not acknowledged.
    pub queued: u64,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The minimum round-trip time: of the last minutes (TCP), or ever (uTP).
    pub min_rtt: Duration,
    /// For how long there were bytes that the peer had not acknowledged; zero for TCP before Linux 4.10.
    pub busy: Duration,
    /// For how much of that the peer's receive window was full, so that nothing could be sent.
    pub window_full: Duration,
}
