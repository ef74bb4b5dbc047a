//! The parts of a [`Peer`](super::Peer), each with the threads that write it.

use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::{Condvar, Mutex};

use crate::peer::state::allowed_fast::AllowedFastSet;
use crate::strategy::pipeline::{DEFAULT_REQQ, RequestPipeline};
use crate::strategy::traffic::PeerTraffic;
use crate::util::atomics::{Counter, Flag, Gauge, Port, SharedByte};
use crate::wire::Handshake;

/// Which extensions the peer supports, and what its extension handshake says. Written by the reader.
#[derive(Debug, Default)]
pub struct PeerExtensions {
    /// Whether both sides support the fast extension (BEP 6).
    pub supports_fast: bool,
    /// Whether the peer supports the extension protocol (BEP 10).
    pub supports_extensions: bool,
    /// Whether the peer is a node of the DHT (BEP 5).
    pub is_dht_node: bool,
    /// Name and version of the peer's client, as the first extension handshake has them: unfit for a terminal as they stand.
    pub version: OnceLock<String>,
    /// The TCP port that the peer says it listens on; 0 until it has said one.
    pub listen_port: Port,
    /// Whether another peer turned out to listen on that port of the same IP address. Written by main.
    pub names_false_port: Flag,
    /// The id of `ut_metadata` messages to the peer (BEP 9); 0 where it does not support them.
    pub metadata_id: SharedByte,
    /// The id of `ut_pex` messages to the peer (BEP 11); 0 where it does not support them.
    pub pex_id: SharedByte,
    /// The id of `upload_only` messages to the peer; 0 where it does not support them.
    pub upload_only_id: SharedByte,
    /// The id of `ut_holepunch` messages to the peer (BEP 55); 0 where it does not support them.
    pub holepunch_id: SharedByte,
    /// Whether the connection has come through a hole that both sides punched (BEP 55). Written by main.
    pub is_hole_punched: Flag,
    /// Whether the peer says that it wants nothing more (BEP 21).
    pub upload_only: Flag,
}

impl PeerExtensions {
    /// What the handshake says; nothing of the extension handshake yet.
    pub fn new(peer_handshake: &Handshake) -> PeerExtensions {
        PeerExtensions {
            supports_fast: peer_handshake.supports_fast(), // our handshake always offers it
            supports_extensions: peer_handshake.supports_extensions(),
            is_dht_node: peer_handshake.has_dht_node(),
            ..PeerExtensions::default()
        }
    }
}

/// Which side chokes, and which is interested (BEP 3). The reader writes the peer's side, main `am_choking`,
/// any thread `am_interested`.
#[derive(Debug)]
pub struct ChokeState {
    /// Whether we choke the peer.
    pub am_choking: Flag,
    /// Whether the peer chokes us.
    pub peer_choking: Flag,
    /// Whether we have told the peer that we are interested.
    pub am_interested: Flag,
    /// Whether the peer has told us that it is interested.
    pub peer_interested: Flag,
    /// Whether main has been told that `peer_interested` changed, and has not looked yet.
    pub interest_reported: Flag,
    /// Whether the peer owes us blocks and has sent none for a while, as of the choker's last round.
    pub is_snubbing: Flag,
    /// Whether the peer had an unchoke slot and requested nothing or little, as of the choker's last round.
    pub left_slot_idle: Flag,
    /// The pieces that either side may request although the other chokes it (BEP 6).
    pub allowed_fast: AllowedFastSet,
}

impl Default for ChokeState {
    /// Both sides choke, and neither is interested.
    fn default() -> ChokeState {
        ChokeState {
            am_choking: Flag::new(true),
            peer_choking: Flag::new(true),
            am_interested: Flag::default(),
            peer_interested: Flag::default(),
            interest_reported: Flag::default(),
            is_snubbing: Flag::default(),
            left_slot_idle: Flag::default(),
            allowed_fast: AllowedFastSet::default(),
        }
    }
}

/// Bytes and rates. The reader counts what arrives, the writer what leaves.
#[derive(Debug, Default)]
pub struct PeerRates {
    /// Payload bytes received from the peer, without unrequested blocks.
    pub downloaded: Counter,
    /// Payload bytes sent to the peer.
    pub uploaded: Counter,
    /// As `uploaded`, with the bytes of a write that has begun.
    pub sent_to_kernel: Counter,
    /// When payload last moved either way, in milliseconds of the torrent's clock plus one; 0 for never.
    pub last_payload: Counter,
    /// What moved either way, and how fast.
    pub traffic: Mutex<PeerTraffic>,
    /// Payload bytes a second from the peer, as its request pipeline measures them; 0 until that is known.
    pub download_rate: Counter,
    /// Bytes of all blocks that the peer was asked for, whatever became of the requests.
    pub bytes_requested: Counter,
}

/// Our requests to the peer. Any thread may refill the pipeline or cancel requests in it; the reader, the writer and the deadline
/// thread also take from it.
#[derive(Debug)]
pub struct OurRequests {
    /// What we asked the peer for; the deadline thread waits on `deadline_moved`.
    pub pipeline: Mutex<RequestPipeline>,
    /// Notified when the next deadline may have come nearer, or the connection has ended.
    pub deadline_moved: Condvar,
    /// Requests that the peer did not answer in time, since main last looked.
    pub timed_out: Gauge,
    /// Held by the one thread that picks blocks for this peer, or tells it whether we are interested.
    pub refilling: Mutex<()>,
    /// Whether the writer has been told that there are requests to write, and has not looked yet.
    pub requests_announced: Flag,
    /// Pieces of metadata that we asked the peer for and that it has neither sent nor rejected.
    pub outstanding_metadata: Gauge,
}

impl Default for OurRequests {
    fn default() -> OurRequests {
        OurRequests {
            pipeline: Mutex::new(RequestPipeline::new(DEFAULT_REQQ)),
            deadline_moved: Condvar::new(),
            timed_out: Gauge::default(),
            refilling: Mutex::new(()),
            requests_announced: Flag::default(),
            outstanding_metadata: Gauge::default(),
        }
    }
}

/// What the peer waits for. The reader adds, the writer subtracts.
#[derive(Debug, Default)]
pub struct ServeCounters {
    /// Blocks that the peer requested and that the writer has not sent.
    pub queued_requests: Gauge,
    /// Rejects that wait for the writer.
    pub pending_rejects: Gauge,
    /// Requests for our metadata that wait for the writer.
    pub pending_metadata: Gauge,
}

/// How far the connection is from its end.
#[derive(Debug, Default)]
pub struct Lifecycle {
    /// Whether the connection is over.
    pub ended: Flag,
    /// Whether we have shut the socket.
    pub closed: Flag,
    /// Whether we have shut it because we want nothing more of the peer; shared with the torrent's
    /// [`Connection`](crate::peer::Connection).
    pub discards_input: Arc<Flag>,
}
