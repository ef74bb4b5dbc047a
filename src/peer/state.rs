//! What the three threads of a connection and the rest of the swarm share about one peer: plain data, atomics where threads
//! meet, and the outbox that leads to its writer.

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

/// Under a limit, requests are made for what comes within this time.
const AHEAD: Duration = Duration::from_millis(1200);

/// One connected peer.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, settled by the handshake")]
pub struct Peer {
    /// The connection's name.
    pub key: PeerKey,
    /// The other end.
    pub addr: SocketAddr,
    /// Whether it called us.
    pub incoming: bool,
    /// What it calls itself.
    pub id: PeerId,
    /// Its client's name and version, as it sent them first (BEP 10): not for a terminal as they stand.
    pub version: OnceLock<String>,
    /// Whether the connection is encrypted; settled by the handshake.
    pub encrypted: AtomicBool,
    /// It owes us blocks and has sent none for a while, as the choker last saw it.
    pub is_snubbing: AtomicBool,
    /// It had a slot and asked for nothing, as the choker last saw it.
    pub has_idled: AtomicBool,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Whether it speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// Whether it is a node of the DHT (BEP 5).
    pub dht: bool,
    /// The TCP port that it says it listens on; 0 while it has not said.
    pub listen_port: AtomicU16,
    /// The ids it wants to see on metadata and peer exchange messages; 0 where it knows none.
    pub metadata_id: AtomicU8,
    /// See `metadata_id`.
    pub pex_id: AtomicU8,
    /// The same for the message `upload_only`.
    pub upload_only_id: AtomicU8,
    /// Pieces of metadata that we asked it for and that it has neither sent nor rejected.
    pub asked_metadata: AtomicU32,
    /// Its requests for our metadata that wait for the writer.
    pub pending_metadata: AtomicU32,
    /// It wants nothing more (BEP 21).
    pub upload_only: AtomicBool,
    /// What may be asked for despite a choke, by either side (BEP 6).
    pub allowed: AllowedFastSet,
    /// We do not serve it.
    pub am_choking: AtomicBool,
    /// It does not serve us.
    pub peer_choking: AtomicBool,
    /// It has something that we lack, and knows that we want it.
    pub am_interested: AtomicBool,
    /// It wants something of us.
    pub peer_interested: AtomicBool,
    /// The session has been told of a change of that, and has not looked yet.
    pub interest_reported: AtomicBool,
    /// Payload bytes from it.
    pub downloaded: AtomicU64,
    /// Payload bytes to it.
    pub uploaded: AtomicU64,
    /// The same with those of a write that has begun.
    pub sent_to_kernel: AtomicU64,
    /// When payload last went either way, in milliseconds of the session's clock plus one; 0 for never.
    last_payload: AtomicU64,
    /// What went either way.
    traffic: Mutex<Traffic>,
    /// Payload bytes per second from it, as its requests see it; 0 until that is known.
    pub flow: AtomicU64,
    /// How many blocks it waits for.
    pub queued_requests: AtomicU32,
    /// Requests that it did not answer in time, since the session last looked.
    pub timed_out: AtomicU32,
    /// How many rejects wait for its writer.
    pub pending_rejects: AtomicU32,
    /// When the connection was made, on the session's clock.
    pub since: Duration,
    /// What we asked it for; the deadline thread waits on `deadline_moved`.
    pub requests: Mutex<RequestPipeline>,
    /// The next deadline may have come nearer, or the connection ended.
    pub deadline_moved: Condvar,
    /// The connection is over.
    ended: AtomicBool,
    /// We have shut its socket.
    closed: AtomicBool,
    /// We did so because we want no more of it; shared with the session's [`Connection`](crate::peer::Connection).
    pub(super) dismissed: Arc<AtomicBool>,
    /// Bytes of all blocks that it was asked for, whatever became of the requests.
    pub requested: AtomicU64,
    /// Only one thread at a time picks blocks for this peer, or says whether we are interested.
    refilling: Mutex<()>,
    /// Pieces that it is to be told of.
    haves: Mutex<Vec<PieceIndex>>,
    /// The writer has been told that there are requests to write, and has not looked yet.
    asking: AtomicBool,
    outbox: Outbox,
    stream: Arc<TcpStream>,
}

impl Peer {
    /// A peer whose handshake is done; both sides choke and want nothing, as BEP 3 has it.
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
            fast: theirs.fast(), // as we do
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

    /// Hands something to the writer, which may be gone. A peer that has let the queue fill up is disconnected.
    pub fn send(&self, out: WriterCommand) {
        if !self.outbox.push(out) {
            self.close();
        }
    }

    /// Whether the peer made us answer and did not read the answers, until too many of them waited.
    pub fn has_overrun(&self) -> bool {
        self.outbox.has_overrun()
    }

    /// The bytes, payload or not, that it has acknowledged, where `kernel` tells.
    pub fn acknowledged(&self, kernel: &TcpDiag) -> Option<u64> {
        kernel.of(&self.stream)
    }

    /// Ends the connection, of which we want no more: its threads wake up and end, and what the socket has received is not read.
    pub fn close(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.shut_socket();
    }

    /// Shuts the socket of a connection that cannot go on, such as one whose peer is gone: blocks that it sent before are read.
    pub fn shut_socket(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Whether what the socket has received, or a buffer has, need not be looked at. Linux hands out what was received before a
    /// socket was shut, which a peer may have made megabytes of expensive messages.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// Whether we have shut its socket.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the connection is over.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The reader is done: the deadline thread is woken to end as well.
    pub fn end(&self) {
        let _requests = self.requests.lock();
        self.ended.store(true, Ordering::Release);
        self.deadline_moved.notify_all();
    }

    /// Notes that so many payload bytes flowed.
    pub fn note_payload(&self, now: Duration, bytes: u64) {
        self.traffic.lock().moved(now, bytes);
        self.last_payload.store(now.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// When payload last flowed, either way.
    pub fn last_payload(&self) -> Option<Duration> {
        self.last_payload.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    /// What has flowed, both ways together.
    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock()
    }

    /// Whether payload flowed within the last ten seconds.
    pub fn is_active(&self, now: Duration) -> bool {
        self.last_payload().is_some_and(|last| now < last + Duration::from_secs(10))
    }

    /// Whether blocks can be asked of it.
    pub fn can_request(&self) -> bool {
        !self.peer_choking.load(Ordering::Acquire) && self.am_interested.load(Ordering::Acquire)
    }

    /// Whether blocks of all its pieces, or of a few although it chokes us, can be asked of it.
    pub fn can_request_any(&self) -> bool {
        self.can_request() || (self.allowed.any() && self.am_interested.load(Ordering::Acquire))
    }

    /// The address under which others can call it; `None` where it called us and has not said.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        match self.listen_port.load(Ordering::Acquire) {
            0 if self.incoming => None,
            port if self.incoming => Some(SocketAddr::new(self.addr.ip(), port)),
            _ => Some(self.addr),
        }
    }

    /// Whether neither side needs the other any more: see `PieceManager::is_redundant`.
    pub fn is_redundant(&self, shared: &TorrentContext) -> bool {
        shared.pieces.is_redundant(self.key, self.upload_only.load(Ordering::Acquire))
    }

    /// Tells the peer of a piece: with its writer's next write, at the latest a moment later.
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

    /// What the peer is to be told of now.
    pub fn take_haves(&self) -> Vec<PieceIndex> {
        std::mem::take(&mut *self.haves.lock())
    }

    /// Says whether we are interested, where that is news. Look, note and message are one step, so that they cannot pass those of
    /// another thread.
    pub fn refresh_interest(&self, shared: &TorrentContext) {
        let _only = self.refilling.lock();
        let wants = shared.pieces.wants(self.key);
        if self.am_interested.swap(wants, Ordering::AcqRel) != wants {
            self.send(WriterCommand::Interested(wants));
        }
    }

    /// Chokes or unchokes the peer, where that is news.
    pub fn set_choke(&self, choked: bool) {
        if self.am_choking.swap(choked, Ordering::AcqRel) != choked {
            self.send(WriterCommand::Choke(choked));
        }
    }

    /// The peer chokes us: what it was asked for is lost, and free for others; of a fast peer (BEP 6) only what it rejects is, and
    /// what has not been written yet.
    pub fn choked(&self, shared: &TorrentContext) {
        self.peer_choking.store(true, Ordering::Release);
        let lost = {
            let _only = self.refilling.lock();
            let mut requests = self.requests.lock();
            if self.fast { requests.pause() } else { requests.drain() }
        };
        shared.pieces.release(self.key, &lost);
    }

    /// Takes back all that it was asked for: the session pauses.
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

    /// Makes room for `n` more blocks that the peer asks for; false where its queue is full.
    pub fn admit_requests(&self, n: u32) -> bool {
        let room = self.queued_requests.fetch_add(n, Ordering::AcqRel) + n <= OUR_REQUEST_QUEUE;
        if !room {
            self.queued_requests.fetch_sub(n, Ordering::AcqRel);
        }
        room
    }

    /// Asks the peer for more blocks where its pipeline has room. Any thread may call this, holding no lock.
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

    /// How many of `want` requests to make where `outstanding` are made: under a limit no more than comes within a second or so, as a
    /// pause would have to wait for the rest.
    fn within_limit(&self, shared: &TorrentContext, now: Duration, want: usize, outstanding: usize) -> usize {
        let limit = shared.throttle.fair_share(Direction::Down);
        if limit == 0 {
            return want;
        }
        let ahead = limit as f64 * shared.share_of(self, now) * AHEAD.as_secs_f64() / f64::from(BLOCK_SIZE);
        want.min((ahead as usize).max(1).saturating_sub(outstanding))
    }

    /// The requests to write now, oldest first; for the writer. Their clocks start.
    pub fn take_requests(&self, now: Duration, out: &mut Vec<BlockRequest>) {
        self.asking.store(false, Ordering::Release); // before the look: what comes after it is told of again
        let old = out.len();
        if self.requests.lock().take_unwritten(now, out) {
            self.deadline_moved.notify_all();
        }
        let bytes = out[old..].iter().map(|block| u64::from(block.length)).sum();
        self.requested.fetch_add(bytes, Ordering::Relaxed);
    }
}
