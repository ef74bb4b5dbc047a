//! Why a connection is over.

use std::io;

use crate::mse::MseError;
use crate::types::PeerKey;
use crate::util::os_error::reason;
use crate::wire::WireError;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// The connection could not be established.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The proxy does not work; the peer may.
    #[error("the proxy: {0}")]
    Proxy(String),
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// We closed it, or are closing all connections.
    #[error("closed by btsync")]
    ClosedByUs,
    /// The peer sent nothing for too long.
    #[error("silent for too long")]
    Silent,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The peer sent no handshake, or one for another protocol or torrent.
    #[error("handshake failed: {0}")]
    Handshake(&'static str),
    /// The encrypted handshake failed.
    #[error("encrypted handshake failed: {0}")]
    Encryption(#[from] MseError),
    /// We connected, and the peer sent no handshake.
    #[error("no answer to the handshake")]
    Unanswered,
    /// We connected to ourselves.
    #[error("connected to ourselves")]
    Ourselves,
    /// There is another connection to this peer, with this key.
    #[error("already connected to this peer")]
    Duplicate(PeerKey),
    /// The peer's bytes cannot be parsed.
    #[error("malformed message: {0}")]
    Wire(#[from] WireError),
    /// The peer broke the protocol.
    #[error("violated the protocol: {0}")]
    ProtocolViolation(&'static str),
    /// The peer sent far too many useless messages.
    #[error("flooded us with useless messages")]
    Flood,
    /// The peer made us send answers but did not read them, so its queue filled up.
    #[error("did not read what we sent")]
    QueueOverrun,
    /// The connection has not ended: only its threads have, with the metadata phase, and the download continues on the same
    /// socket.
    #[error("kept open for the download")]
    Kept,
    /// Neither side needs anything from the other.
    #[error("neither side needs anything")]
    Redundant,
    /// A read or write of our files failed.
    #[error("our disk failed")]
    Disk,
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    NoThread(String),
    /// A thread of the connection panicked; only this connection ends.
    #[error("internal error")]
    Bug,
}

impl DisconnectReason {
    /// The reason that a failed read or write of the socket gives.
    pub fn io(error: &io::Error) -> DisconnectReason {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => DisconnectReason::Silent,
            io::ErrorKind::UnexpectedEof => DisconnectReason::Closed,
            _ => DisconnectReason::Lost(reason(error)),
        }
    }

    /// Whether the peer misbehaved, so that we do not connect to it again for a while.
    pub fn is_violation(&self) -> bool {
        matches!(
            self,
            DisconnectReason::Wire(_)
                | DisconnectReason::ProtocolViolation(_)
                | DisconnectReason::Flood
                | DisconnectReason::Handshake(_)
                | DisconnectReason::Encryption(_)
        )
    }
}
