//! Why a connection is over.

use std::io;

use crate::mse::MseError;
use crate::types::PeerKey;
use crate::util::os_error::reason;
use crate::wire::WireError;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// It could not be made.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The other end closed it.
    #[error("closed by the peer")]
    Closed,
    /// Nothing came for too long.
    #[error("silent for too long")]
    Silent,
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No handshake of this protocol and swarm came.
    #[error("handshake failed: {0}")]
    Handshake(&'static str),
    /// The encrypted handshake went wrong.
    #[error("encrypted handshake failed: {0}")]
    Encryption(#[from] MseError),
    /// We connected, and no handshake came back.
    #[error("hung up or silent during the handshake")]
    Unanswered,
    /// We connected to ourselves.
    #[error("that is ourselves")]
    Ourselves,
    /// There is a connection to this peer already: this one.
    #[error("already connected to this peer")]
    Duplicate(PeerKey),
    /// Its bytes make no sense.
    #[error("not understood: {0}")]
    Wire(#[from] WireError),
    /// It does not keep to the protocol.
    #[error("broke the protocol: {0}")]
    ProtocolViolation(&'static str),
    /// Far too many messages without use.
    #[error("flooded us with useless messages")]
    Flood,
    /// The peer made us answer and did not read, so its queue filled up.
    #[error("did not read what we sent")]
    QueueOverrun,
    /// The connection is not over: its threads have ended with the metadata stage, and the download goes on with the socket.
    #[error("kept for the download")]
    Kept,
    /// Neither side needs anything.
    #[error("neither side needs anything")]
    Redundant,
    /// We cannot write or read our files.
    #[error("our disk failed")]
    Disk,
    /// A thread could not be started.
    #[error("no thread to be had: {0}")]
    NoThread(String),
    /// A thread of the connection panicked; it costs this connection only.
    #[error("a fault of ours")]
    Bug,
}

impl DisconnectReason {
    /// What a failed read or write says of the connection.
    pub fn io(error: &io::Error) -> DisconnectReason {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => DisconnectReason::Silent,
            io::ErrorKind::UnexpectedEof => DisconnectReason::Closed,
            _ => DisconnectReason::Lost(reason(error)),
        }
    }

    /// Whether the peer misbehaved, so that we do not connect to it again for a while.
    pub fn is_offence(&self) -> bool {
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
