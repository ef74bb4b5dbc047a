//! One connection and its three threads: a reader, a writer fed by a channel, and one that watches the deadlines of requests.
//!
//! They know the pieces and each other's outboxes, but not the session: what it must hear goes up as a [`PeerEvent`].

pub mod block_receiver;
pub mod connection;
pub mod deadline;
mod disconnect_reason;
pub mod encryption;
mod established;
pub mod fast;
pub mod outbox;
pub mod reader;
mod remembered;
pub mod roster;
pub mod send_gate;
pub mod state;
pub mod super_seed;
pub mod throttle;
pub mod uplink;
mod wake_pipe;
pub mod writer;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use parking_lot::Mutex;

use crate::discovery::tracker::announce::{AnnounceEvent, AnnounceResponse, TrackerError};
use crate::net::bind::Bind;
use crate::pieces::PieceManager;
use crate::storage::SlabPool;
use crate::storage::StorageError;
use crate::types::{BLOCK_SIZE, Dscp, Encryption, InfoHash, PeerId, PeerKey, PieceIndex};
use crate::wire::pex::PexFlags;

pub use connection::{Connection, DisconnectReason, IncomingHandshake};
pub use roster::Roster;
pub use state::Peer;
pub use throttle::Throttle;
use wake_pipe::WakePipe;

/// Reports that may wait for the session. The largest, a piece of metadata, has 16 KiB.
pub const MAX_QUEUED_EVENTS: usize = 512;

/// The type of a channel that carries no message and serves only to be disconnected.
type ShutdownSignal = std::convert::Infallible;

/// Bytes that a reader receives into, and that a writer serves from, at a time: sixteen blocks with their heads, in whole pages.
pub const SLAB: usize = (256 + 4) * 1024;

/// The sum of the peers' rates is found anew after so many milliseconds.
const FLOW_CACHE_MS: u64 = 100;

/// What all connections of one torrent share.
pub struct TorrentContext {
    /// The swarm.
    pub info_hash: InfoHash,
    /// What we call ourselves.
    pub peer_id: PeerId,
    /// Whether connections are disguised.
    pub encryption: Encryption,
    /// The port we listen on, 0 while none.
    pub port: AtomicU16,
    /// Our UDP port in the DHT, 0 where we take no part.
    pub dht_port: AtomicU16,
    /// Whether peers may tell us of others, and we them (BEP 11); not in private torrents.
    pub pex: bool,
    /// Whether these connections are there to fetch the metadata, and nothing else can be asked for yet.
    pub wants_info: bool,
    /// What our sockets are tied to.
    pub bind: Bind,
    /// The DSCP class of our packets.
    pub dscp: Dscp,
    /// What peers are told that our client is called (BEP 10).
    pub client: String,
    /// The info dictionary as it is hashed, for peers that ask for it; empty while it is not known.
    pub info: OnceLock<Vec<u8>>,
    /// The piece manager.
    pub pieces: PieceManager,
    /// Who is connected.
    pub roster: Roster,
    /// Large buffers, lent while bytes flow.
    pub slabs: SlabPool,
    /// The limits on what is received and sent, over all torrents of the process that share them.
    pub throttle: Arc<Throttle>,
    /// Payload bytes received and sent by all.
    pub downloaded: AtomicU64,
    /// See `downloaded`.
    pub uploaded: AtomicU64,
    /// Nothing is asked for or served while this is set.
    pub paused: AtomicBool,
    /// Set once, by [`TorrentContext::stop`].
    stopping: AtomicBool,
    /// How the metadata stage's threads end without their connections.
    wake_pipe: WakePipe,
    /// Bytes remembered of what peers have said of pieces, beyond what each of them may have.
    remembered: AtomicUsize,
    /// Where reports go.
    events: Sender<PeerEvent>,
    /// Nothing is ever sent here: [`TorrentContext::stop`] disconnects it, which wakes the threads that wait to report.
    shutdown: Receiver<ShutdownSignal>,
    shutdown_sender: Mutex<Option<Sender<ShutdownSignal>>>,
    /// How many connections there are, those that are being made included.
    pub connections: AtomicU32,
    /// What a super-seed has shown to whom; in other sessions nothing is hidden.
    pub super_seeding: OnceLock<super_seed::SuperSeeding>,
    started: Instant,
    /// Payload bytes per second from all peers, and when that was found, in milliseconds of the clock.
    flow: AtomicU64,
    flow_updated_at: AtomicU64,
}

/// What is settled before the first connection.
#[derive(Clone)]
pub struct ContextSettings {
    /// The swarm.
    pub info_hash: InfoHash,
    /// What we call ourselves.
    pub peer_id: PeerId,
    /// Whether connections are disguised.
    pub encryption: Encryption,
    /// See [`TorrentContext::pex`].
    pub pex: bool,
    /// See [`TorrentContext::wants_info`].
    pub wants_info: bool,
    /// See [`TorrentContext::bind`].
    pub bind: Bind,
    /// See [`TorrentContext::dscp`].
    pub dscp: Dscp,
    /// See [`TorrentContext::client`].
    pub client: String,
    /// When the session began.
    pub started: Instant,
    /// See [`TorrentContext::throttle`].
    pub throttle: Arc<Throttle>,
}

impl ContextSettings {
    /// What btsync is called.
    pub const CLIENT: &str = concat!("btsync ", env!("CARGO_PKG_VERSION"));
}

/// What a connection tells the session.
#[derive(Debug)]
pub enum PeerEvent {
    /// A handshake succeeded, and the peer is on the roster.
    Connected {
        /// Which connection.
        key: PeerKey,
        /// The other end.
        addr: SocketAddr,
        /// Whether it called us.
        incoming: bool,
    },
    /// The connection is over; its thread is about to end.
    Disconnected {
        /// Which connection.
        key: PeerKey,
        /// The other end.
        addr: SocketAddr,
        /// Why.
        why: DisconnectReason,
    },
    /// The peer is interested, or no longer, and may want a slot.
    InterestChanged {
        /// Which connection.
        key: PeerKey,
    },
    /// A peer says what our address is (BEP 10).
    OurAddress(IpAddr),
    /// A piece was wrong; who sent blocks of it.
    PieceFailed {
        /// Which.
        piece: PieceIndex,
        /// The connections, some of them perhaps gone by now.
        senders: Vec<PeerKey>,
        /// Whether it has blocks that an earlier session received, from nobody knows whom.
        restored: bool,
    },
    /// A piece that was wrong before is right now: who had sent wrong blocks of it, and nobody else.
    LiarsFound {
        /// Which.
        piece: PieceIndex,
        /// The connections, some of them perhaps gone by now.
        senders: Vec<PeerKey>,
    },
    /// The peer says that it has the metadata, and how long that is (BEP 9).
    HasMetadata {
        /// Which connection.
        key: PeerKey,
        /// In bytes.
        size: u32,
    },
    /// A peer answered a request for a piece of metadata.
    Metadata {
        /// Which connection.
        key: PeerKey,
        /// Which piece.
        piece: u32,
        /// How long it says that all of it is.
        total_size: u32,
        /// The piece; `None` where the peer rejects.
        bytes: Option<Vec<u8>>,
    },
    /// The info dictionary that a URL of the magnet link brought; its hash is right.
    MetadataFromUrl(Vec<u8>),
    /// A peer told of others (BEP 11).
    PexPeers(Vec<(SocketAddr, PexFlags)>),
    /// A peer is a node of the DHT (BEP 5).
    DhtNode(SocketAddr),
    /// The last piece that is wanted is there.
    Complete,
    /// There is no descriptor for a file; a connection has to give up its own.
    OutOfDescriptors,
    /// The disk refused; nothing can go on.
    Storage(StorageError),
    /// An incoming connection was accepted; what it said, where it had to be asked which torrent it means.
    Incoming(std::net::TcpStream, SocketAddr, Option<Box<IncomingHandshake>>),
    /// Somebody wants the session to end.
    Stop,
    /// Somebody wants it to pause, or to go on.
    Pause,
    /// A tracker answered or did not.
    Announced {
        /// Its URL.
        url: String,
        /// What came of it.
        result: Box<Result<AnnounceResponse, TrackerError>>,
    },
    /// A tracker that has answered named these as well, over its second family of addresses.
    SecondFamilyPeers {
        /// The peers.
        peers: Vec<SocketAddr>,
    },
}

impl TorrentContext {
    /// What connections share, for a torrent that starts now.
    pub fn new(terms: ContextSettings, pieces: PieceManager, events: Sender<PeerEvent>) -> Arc<TorrentContext> {
        let (shutdown_sender, shutdown) = bounded(0);
        Arc::new(TorrentContext {
            info_hash: terms.info_hash,
            peer_id: terms.peer_id,
            encryption: terms.encryption,
            port: AtomicU16::new(0),
            dht_port: AtomicU16::new(0),
            pex: terms.pex,
            wants_info: terms.wants_info,
            bind: terms.bind,
            dscp: terms.dscp,
            client: terms.client,
            info: OnceLock::new(),
            pieces,
            roster: Roster::default(),
            slabs: SlabPool::new(SLAB, 8),
            throttle: terms.throttle,
            downloaded: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            wake_pipe: if terms.wants_info { WakePipe::new() } else { WakePipe::default() },
            remembered: AtomicUsize::new(0),
            events,
            shutdown,
            shutdown_sender: Mutex::new(Some(shutdown_sender)),
            super_seeding: OnceLock::new(),
            started: terms.started,
            connections: AtomicU32::new(0),
            flow: AtomicU64::new(0),
            flow_updated_at: AtomicU64::new(0),
        })
    }

    /// The time since the session began: the clock of every state machine.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The part, 0 to 1, that a peer has in all that comes; an equal one while its rate is unknown.
    pub fn share_of(&self, peer: &Peer, now: Duration) -> f64 {
        let equal = 1.0 / self.roster.count().max(1) as f64;
        let flow = peer.flow.load(Ordering::Relaxed);
        if flow == 0 {
            return equal;
        }
        let ms = now.as_millis() as u64;
        let found = self.flow_updated_at.load(Ordering::Relaxed);
        if ms >= found + FLOW_CACHE_MS
            && self.flow_updated_at.compare_exchange(found, ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let flows = self
                .roster
                .all()
                .into_iter()
                .filter(|peer| peer.can_request())
                .map(|peer| peer.flow.load(Ordering::Relaxed));
            self.flow.store(flows.sum(), Ordering::Relaxed);
        }
        let all = self.flow.load(Ordering::Relaxed).max(flow);
        flow as f64 / all as f64
    }

    /// Bytes of the whole torrent still missing, as trackers want to know it; some, while nobody knows how many.
    pub fn left(&self) -> u64 {
        if self.wants_info { u64::from(BLOCK_SIZE) } else { self.pieces.missing() }
    }

    /// What an announce says: the event that is due, or else that we are a partial seed, where we are one (BEP 21).
    pub fn event(&self, due: Option<AnnounceEvent>) -> Option<AnnounceEvent> {
        due.or_else(|| self.pieces.is_partial_seed().then_some(AnnounceEvent::Paused))
    }

    /// A name for a new connection, which no other has that is under the same limits.
    pub fn new_key(&self) -> PeerKey {
        self.throttle.new_key()
    }

    /// Reports to the session. Blocks while the channel is full, which holds up the connection that causes the reports; once the session
    /// is stopping, a report for which there is no room is dropped. Not to be called with a lock held.
    pub fn report(&self, report: PeerEvent) {
        let Err(TrySendError::Full(report)) = self.events.try_send(report) else { return };
        select! {
            send(self.events, report) -> _ => {}
            recv(self.shutdown) -> _ => {}
        }
    }

    /// The same for a report that a stopping session still reads, such as the last one of a thread that it joins only after that.
    pub fn report_always(&self, report: PeerEvent) {
        let _ = self.events.send(report); // fails where the session is over
    }

    /// Ends all connections; no thread waits any longer to report.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.shutdown_sender.lock().take());
    }

    /// The metadata is there: the threads of all connections end, and the connections of those that have shaken hands do not.
    pub fn detach_connections(&self) {
        self.wake_pipe.wake_all();
        self.stop();
    }

    /// Whether nothing is to be asked for or served.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether everybody is to go home.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
