//! What the threads of a torrent tell main, through one bounded channel.

use std::net::{IpAddr, SocketAddr};

use crate::discovery::tracker::announce::AnnounceResponse;
use crate::discovery::tracker::error::TrackerError;
use crate::peer::DisconnectReason;
use crate::peer::encryption::StreamState;
use crate::storage::StorageError;
use crate::types::{PeerKey, PieceIndex};
use crate::udp::PeerStream;
use crate::wire::holepunch::HolePunchMessage;
use crate::wire::pex::PexFlags;

/// A message to main.
#[derive(Debug)]
pub enum TorrentMessage {
    /// From a connection.
    Peer(PeerEvent),
    /// From a thread that announces.
    Tracker(TrackerEvent),
    /// From the torrent's handle, or from the thread that fetches metadata by URL.
    Command(TorrentCommand),
}

/// An event from a connection.
#[derive(Debug)]
pub enum PeerEvent {
    /// The handshake succeeded, and the peer is on the roster.
    Connected {
        /// The connection.
        key: PeerKey,
        /// The peer's address.
        addr: SocketAddr,
        /// Whether the peer connected to us.
        is_incoming: bool,
    },
    /// The connection has ended; its thread is about to end.
    Disconnected {
        /// The connection.
        key: PeerKey,
        /// The peer's address.
        addr: SocketAddr,
        /// The reason.
        why: DisconnectReason,
    },
    /// The peer became interested or lost interest, so it may want an upload slot.
    InterestChanged {
        /// The connection.
        key: PeerKey,
    },
    /// A peer reported our external address (BEP 10).
    OurAddress(IpAddr),
    /// A piece failed its hash check.
    PieceFailed {
        /// The piece.
        piece: PieceIndex,
        /// The connections that sent blocks of it; some may have ended.
        senders: Vec<PeerKey>,
        /// Whether it contains blocks from an earlier run, whose senders are unknown.
        has_resumed_blocks: bool,
    },
    /// A piece that failed before has now passed its hash check, which shows who sent the wrong blocks.
    CorruptSendersFound {
        /// The piece.
        piece: PieceIndex,
        /// The connections that sent wrong blocks, and no others; some may have ended.
        senders: Vec<PeerKey>,
    },
    /// The peer announced that it has the metadata, and the size (BEP 9).
    HasMetadata {
        /// The connection.
        key: PeerKey,
        /// The size of the metadata in bytes.
        size: u32,
    },
    /// A peer answered a request for a piece of metadata.
    Metadata {
        /// The connection.
        key: PeerKey,
        /// The piece's index.
        piece: u32,
        /// The size of the whole metadata as the peer claims it.
        total_size: u32,
        /// The piece's bytes; `None` if the peer rejected the request.
        bytes: Option<Vec<u8>>,
    },
    /// A peer sent addresses of other peers (BEP 11).
    PexPeers {
        /// The connection.
        key: PeerKey,
        /// The addresses, with what the peer says of them.
        peers: Vec<(SocketAddr, PexFlags)>,
    },
    /// A peer sent a holepunch message (BEP 55).
    HolePunch {
        /// The connection.
        key: PeerKey,
        /// The message.
        message: HolePunchMessage,
    },
    /// A peer is a node of the DHT (BEP 5).
    DhtNode(SocketAddr),
    /// A web seed has ended before the download was complete.
    WebSeedEnded {
        /// The web seed.
        key: PeerKey,
        /// The reason.
        why: String,
    },
    /// All wanted pieces are verified.
    Complete,
    /// There is no file descriptor left to open a file; a connection has to give up its own.
    OutOfDescriptors,
    /// A read or write of the torrent's files failed, and the torrent cannot go on.
    Storage(StorageError),
}

/// The result of an announce.
#[derive(Debug)]
pub enum TrackerEvent {
    /// A tracker answered, or the announce failed.
    Announced {
        /// The tracker's URL.
        url: String,
        /// The response or the error.
        result: Box<Result<AnnounceResponse, TrackerError>>,
    },
    /// Further peers from a tracker that has answered already, from an announce over its other address family.
    SecondFamilyPeers {
        /// The peers' addresses.
        peers: Vec<SocketAddr>,
    },
}

/// What main is asked to do.
#[derive(Debug)]
pub enum TorrentCommand {
    /// A request to stop the torrent.
    Stop,
    /// The program added peers.
    AddPeers,
    /// The torrent was paused or resumed.
    PauseChanged,
    /// A setting has changed that main looks at in each turn.
    SettingsChanged,
    /// The info dictionary from a URL of the magnet link, with the right hash.
    UseMetadata(Vec<u8>),
}

/// What was received of an incoming connection to learn which torrent it is for.
#[derive(Debug)]
pub struct IncomingHandshake {
    /// The handshake in plain text, at least up to the info-hash, and the ciphers for what follows.
    pub stream_state: StreamState,
}

/// An accepted connection, on its way to its torrent.
#[derive(Debug)]
pub struct IncomingConnection {
    /// The socket.
    pub stream: PeerStream,
    /// The peer's address.
    pub addr: SocketAddr,
    /// The bytes received to learn which torrent the connection is for; `None` if the client has only one.
    pub handshake: Option<Box<IncomingHandshake>>,
}

impl From<PeerEvent> for TorrentMessage {
    fn from(event: PeerEvent) -> TorrentMessage {
        TorrentMessage::Peer(event)
    }
}

impl From<TrackerEvent> for TorrentMessage {
    fn from(event: TrackerEvent) -> TorrentMessage {
        TorrentMessage::Tracker(event)
    }
}

impl From<TorrentCommand> for TorrentMessage {
    fn from(command: TorrentCommand) -> TorrentMessage {
        TorrentMessage::Command(command)
    }
}
