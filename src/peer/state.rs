//! The state of one peer that its connection's three threads share with the rest of the torrent: plain data, atomics, and the
//! outbox of its writer.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::net::tcp_diag::TcpDiag;
use crate::peer::TorrentContext;
use crate::peer::fast::AllowedFastSet;
use crate::peer::outbox::{Outbox, WriterCommand};
use crate::strategy::Traffic;
use crate::strategy::pipeline::{LIMIT_UNSTATED, RequestPipeline};
use crate::strategy::rate_limiter::Direction;
use crate::types::{BLOCK_SIZE, BlockRequest, PeerId, PeerKey, PieceIndex};
use crate::wire::Handshake;
use crate::wire::extension::OUR_REQUEST_QUEUE;

/// Under a download limit, requests cover the blocks that can arrive within this time.
const AHEAD: Duration = Duration::from_millis(1200);

/// One connected peer.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, settled by the handshake")]
pub struct Peer {
    /// The connection's key.
    pub key: PeerKey,
    /// The peer's address.
    pub addr: SocketAddr,
    /// Whether the peer connected to us.
    pub incoming: bool,
    /// The peer's id.
    pub id: PeerId,
    /// The name and version of its client, as first sent (BEP 10). Unfiltered: do not print it to a terminal as it is.
    pub version: OnceLock<String>,
    /// Whether the connection is encrypted; decided by the handshake.
    pub encrypted: AtomicBool,
    /// The peer owes us blocks and has sent none for a while, as of the last choker round.
    pub is_snubbing: AtomicBool,
    /// The peer had an upload slot and requested nothing, as of the last choker round.
    pub has_idled: AtomicBool,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Whether the peer speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// Whether the peer is a node of the DHT (BEP 5).
    pub dht: bool,
    /// The TCP port that the peer says it listens on; 0 if unknown.
    pub listen_port: AtomicU16,
    /// The message id that the peer chose for metadata messages (BEP 10); 0 if it does not support them.
    pub metadata_id: AtomicU8,
    /// See `metadata_id`; for peer exchange messages.
    pub pex_id: AtomicU8,
    /// See `metadata_id`; for `upload_only` messages.
    pub upload_only_id: AtomicU8,
    /// Pieces of metadata that we requested and that the peer has neither sent nor rejected.
    pub asked_metadata: AtomicU32,
    /// The peer's requests for our metadata that wait for the writer.
    pub pending_metadata: AtomicU32,
    /// The peer says that it downloads nothing more (BEP 21).
    pub upload_only: AtomicBool,
    /// Pieces that either side may request although it is choked (BEP 6).
    pub allowed: AllowedFastSet,
    /// Whether we choke the peer.
    pub am_choking: AtomicBool,
    /// Whether the peer chokes us.
    pub peer_choking: AtomicBool,
    /// Whether the peer has a piece that we want and has been told so.
    pub am_interested: AtomicBool,
    /// Whether the peer is interested in our pieces.
    pub peer_interested: AtomicBool,
    /// The torrent's loop has been told that `peer_interested` changed, and has not looked at it yet.
    pub interest_reported: AtomicBool,
    /// Payload bytes received from the peer.
    pub downloaded: AtomicU64,
    /// Payload bytes sent to the peer.
    pub uploaded: AtomicU64,
    /// The same, including the bytes of a write in progress.
    pub sent_to_kernel: AtomicU64,
    /// When payload last flowed in either direction, in milliseconds of the torrent's clock plus one; 0 for never.
    last_payload: AtomicU64,
    /// The recent traffic in both directions.
    traffic: Mutex<Traffic>,
    /// Payload bytes per second from the peer, as the request pipeline measures it; 0 if unknown.
    pub flow: AtomicU64,
    /// The number of blocks that the peer waits for.
    pub queued_requests: AtomicU32,
    /// Requests that the peer did not answer in time, since the torrent's loop last read this.
    pub timed_out: AtomicU32,
    /// The number of rejects that wait for the peer's writer.
    pub pending_rejects: AtomicU32,
    /// When the connection was established, on the torrent's clock.
    pub since: Duration,
    /// Our requests to the peer; the deadline thread waits on `deadline_moved` with this lock.
    pub requests: Mutex<RequestPipeline>,
    /// Signalled when the next deadline may be earlier, or the connection has ended.
    pub deadline_moved: Condvar,
    /// Whether the connection has ended.
    ended: AtomicBool,
    /// Whether we have shut down the socket.
    closed: AtomicBool,
    /// Whether we shut it down because we want nothing more from the peer; shared with the torrent's
    /// [`Connection`](crate::peer::Connection).
    pub(super) dismissed: Arc<AtomicBool>,
    /// Bytes of all blocks ever requested from the peer, whatever became of the requests.
    pub requested: AtomicU64,
    /// Held while a thread picks blocks for this peer or updates our interest, so that only one does at a time.
    refilling: Mutex<()>,
    /// Pieces that the peer has to be told of.
    haves: Mutex<Vec<PieceIndex>>,
    /// The writer has been told that there are requests to write, and has not taken them yet.
    asking: AtomicBool,
    outbox: Outbox,
    stream: Arc<TcpStream>,
}

impl Peer {
    /// A peer after the handshake: both sides choke and neither is interested, as BEP 3 requires.
    pub fn new(
        key: PeerKey,
        addr: SocketAddr,
        incoming: bool,
        theirs: &Handshake,
        since: Duration,
        stream: Arc<TcpStream>,
        outbox: Outbox,
    ) -> Peer {
        Peer {
            key,
            addr,
            incoming,
            id: theirs.peer_id,
            version: OnceLock::new(),
            encrypted: AtomicBool::new(false),
            is_snubbing: AtomicBool::new(false),
            has_idled: AtomicBool::new(false),
            fast: theirs.fast(), // we always do
            extended: theirs.extended(),
            dht: theirs.dht(),
            listen_port: AtomicU16::new(0),
            metadata_id: AtomicU8::new(0),
            pex_id: AtomicU8::new(0),
            upload_only_id: AtomicU8::new(0),
            asked_metadata: AtomicU32::new(0),
            pending_metadata: AtomicU32::new(0),
            upload_only: AtomicBool::new(false),
            allowed: AllowedFastSet::default(),
            am_choking: AtomicBool::new(true),
            peer_choking: AtomicBool::new(true),
            am_interested: AtomicBool::new(false),
            peer_interested: AtomicBool::new(false),
            interest_reported: AtomicBool::new(false),
            downloaded: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
            sent_to_kernel: AtomicU64::new(0),
            last_payload: AtomicU64::new(0),
            traffic: Mutex::default(),
            flow: AtomicU64::new(0),
            queued_requests: AtomicU32::new(0),
            timed_out: AtomicU32::new(0),
            pending_rejects: AtomicU32::new(0),
            since,
            requests: Mutex::new(RequestPipeline::new(LIMIT_UNSTATED)),
            deadline_moved: Condvar::new(),
            ended: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            dismissed: Arc::default(),
            requested: AtomicU64::new(0),
            refilling: Mutex::new(()),
            haves: Mutex::new(Vec::new()),
            asking: AtomicBool::new(false),
            outbox,
            stream,
        }
    }

    /// Queues a command for the writer, which may have ended. Disconnects the peer if its queue is full.
    pub fn send(&self, out: WriterCommand) {
        if !self.outbox.push(out) {
            self.close();
        }
    }

    /// Whether the peer made us send answers but did not read them, until its queue was full.
    pub fn has_overrun(&self) -> bool {
        self.outbox.has_overrun()
    }

    /// The bytes, payload or not, that the peer's TCP has acknowledged, if `kernel` provides the figure.
    pub fn acknowledged(&self, kernel: &TcpDiag) -> Option<u64> {
        kernel.of(&self.stream)
    }

    /// Ends the connection because we want nothing more from the peer: its threads exit, and received bytes are not read any
    /// more.
    pub fn close(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.shut_socket();
    }

    /// Shuts down the socket of a connection that cannot continue, for example because the peer is gone. Blocks received before
    /// are still read.
    pub fn shut_socket(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Whether to ignore the rest of the received bytes, in the socket and in the buffer. Linux still delivers what was
    /// received before the socket was shut down, which can be megabytes of messages that are expensive to handle.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// Whether we have shut down the socket.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The reader has ended: wakes the deadline thread so that it ends too.
    pub fn end(&self) {
        let _requests = self.requests.lock();
        self.ended.store(true, Ordering::Release);
        self.deadline_moved.notify_all();
    }

    /// Records `bytes` payload bytes, in either direction.
    pub fn note_payload(&self, now: Duration, bytes: u64) {
        self.traffic.lock().moved(now, bytes);
        self.last_payload.store(now.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// When payload last flowed in either direction.
    pub fn last_payload(&self) -> Option<Duration> {
        self.last_payload.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    /// The traffic, both directions together.
    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock()
    }

    /// Whether payload flowed within the last ten seconds.
    pub fn is_active(&self, now: Duration) -> bool {
        self.last_payload().is_some_and(|last| now < last + Duration::from_secs(10))
    }

    /// Whether we can request blocks: the peer does not choke us, and we are interested.
    pub fn can_request(&self) -> bool {
        !self.peer_choking.load(Ordering::Acquire) && self.am_interested.load(Ordering::Acquire)
    }

    /// Whether we can request blocks of any of its pieces, or at least of its allowed fast pieces while it chokes us.
    pub fn can_request_any(&self) -> bool {
        self.can_request() || (self.allowed.any() && self.am_interested.load(Ordering::Acquire))
    }

    /// The address at which others can connect to the peer; `None` if the peer connected to us and has not told its port.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        match self.listen_port.load(Ordering::Acquire) {
            0 if self.incoming => None,
            port if self.incoming => Some(SocketAddr::new(self.addr.ip(), port)),
            _ => Some(self.addr),
        }
    }

    /// Whether neither side needs the other any more; see `PieceManager::is_redundant`.
    pub fn is_redundant(&self, shared: &TorrentContext) -> bool {
        shared.pieces.is_redundant(self.key, self.upload_only.load(Ordering::Acquire))
    }

    /// Queues a HAVE for the peer. It leaves with the writer's next write, or shortly afterwards at the latest.
    pub fn queue_have(&self, piece: PieceIndex) {
        let first = {
            let mut haves = self.haves.lock();
            haves.push(piece);
            haves.len() == 1
        };
        if first {
            self.send(WriterCommand::Haves);
        }
    }

    /// Takes the pieces that the peer has to be told of now.
    pub fn take_haves(&self) -> Vec<PieceIndex> {
        std::mem::take(&mut *self.haves.lock())
    }

    /// Tells the peer whether we are interested, if that changed. The check, the change and the message happen under one lock,
    /// so that they cannot overtake those of another thread.
    pub fn refresh_interest(&self, shared: &TorrentContext) {
        let _only = self.refilling.lock();
        let wants = shared.pieces.wants(self.key);
        if self.am_interested.swap(wants, Ordering::AcqRel) != wants {
            self.send(WriterCommand::Interested(wants));
        }
    }

    /// Chokes or unchokes the peer, if that is a change.
    pub fn set_choke(&self, choked: bool) {
        if self.am_choking.swap(choked, Ordering::AcqRel) != choked {
            self.send(WriterCommand::Choke(choked));
        }
    }

    /// The peer chokes us: the requests are lost, and other peers can get their blocks. A fast peer (BEP 6) rejects requests
    /// one by one, so only those that have not been written yet are lost.
    pub fn choked(&self, shared: &TorrentContext) {
        self.peer_choking.store(true, Ordering::Release);
        let lost = {
            let _only = self.refilling.lock();
            let mut requests = self.requests.lock();
            if self.fast { requests.pause() } else { requests.drain() }
        };
        shared.pieces.release(self.key, &lost);
    }

    /// Cancels all requests, because the torrent pauses.
    pub fn cancel_all(&self, shared: &TorrentContext) {
        let lost = {
            let _only = self.refilling.lock();
            self.requests.lock().cancel_all()
        };
        for block in &lost {
            self.send(WriterCommand::Cancel(*block));
        }
        shared.pieces.release(self.key, &lost);
    }

    /// Reserves room for `n` more blocks that the peer requests; false if its queue is full.
    pub fn admit_requests(&self, n: u32) -> bool {
        let room = self.queued_requests.fetch_add(n, Ordering::AcqRel) + n <= OUR_REQUEST_QUEUE;
        if !room {
            self.queued_requests.fetch_sub(n, Ordering::AcqRel);
        }
        room
    }

    /// Requests more blocks from the peer if its pipeline has room. Any thread may call this, without holding a lock.
    pub fn refill(&self, shared: &TorrentContext) {
        let _only = self.refilling.lock();
        if !self.can_request_any() || self.has_ended() || shared.is_paused() {
            return;
        }
        let now = shared.now();
        let (want, asking, pipeline_depth) = {
            let requests = self.requests.lock();
            (
                requests.want(),
                requests.asking(now, shared.pieces.storage().layout().piece_length()),
                requests.pipeline_depth(),
            )
        };
        let want = self.within_limit(shared, now, want, pipeline_depth.outstanding);
        if want == 0 {
            return;
        }
        let mut batch = Vec::with_capacity(want);
        let again = if self.can_request() {
            shared.pieces.pick(self.key, want, asking, pipeline_depth, shared.share_of(self, now), &mut batch)
        } else {
            shared.pieces.pick_within(self.key, want, asking, &self.allowed.pieces(), &mut batch);
            None
        };
        {
            let mut requests = self.requests.lock();
            let watched = requests.next_deadline();
            requests.set_repick_at(again);
            requests.enqueue(now, &batch);
            if requests.next_deadline().is_some_and(|next| watched.is_none_or(|watched| next < watched)) {
                self.deadline_moved.notify_all();
            }
        }
        if !batch.is_empty() && !self.asking.swap(true, Ordering::AcqRel) {
            self.send(WriterCommand::SendRequests);
        }
    }

    /// How many of `want` requests to make when `outstanding` are made already. Under a limit, only as many as can arrive
    /// within about a second, because a pause would have to wait for the rest.
    fn within_limit(&self, shared: &TorrentContext, now: Duration, want: usize, outstanding: usize) -> usize {
        let limit = shared.throttle.fair_share(Direction::Down);
        if limit == 0 {
            return want;
        }
        let ahead = limit as f64 * shared.share_of(self, now) * AHEAD.as_secs_f64() / f64::from(BLOCK_SIZE);
        want.min((ahead as usize).max(1).saturating_sub(outstanding))
    }

    /// Takes the requests to write now, oldest first, and starts their timeouts. For the writer.
    pub fn take_requests(&self, now: Duration, out: &mut Vec<BlockRequest>) {
        self.asking.store(false, Ordering::Release); // first: requests added later are announced again
        let old = out.len();
        if self.requests.lock().take_unwritten(now, out) {
            self.deadline_moved.notify_all();
        }
        let bytes = out[old..].iter().map(|block| u64::from(block.length)).sum();
        self.requested.fetch_add(bytes, Ordering::Relaxed);
    }
}
