//! The state of one peer that its connection's three threads share with the rest of the torrent: plain data, atomics, and the
//! outbox of its writer.

mod allowed_fast;
mod lost_piece;
mod parts;
mod stream_seeks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::net::link_figures::LinkFigures;
use crate::net::tcp_diag::TcpDiag;
use crate::peer::TorrentContext;
use crate::peer::outbox::{Outbox, WriterCommand};
use crate::strategy::Traffic;
use crate::strategy::rate_limiter::{Direction, FlowId};
use crate::types::{BLOCK_SIZE, BlockInfo, PeerId, PeerKey, PieceIndex, Transport};
use crate::udp::PeerStream;
use crate::util::atomics::Flag;
use crate::wire::Handshake;
use crate::wire::extension::OUR_REQUEST_QUEUE;
use parts::{ChokeState, Lifecycle, OurRequests, PeerExtensions, PeerRates, ServeCounters};
pub use stream_seeks::refill_for_seek;

/// Under a download limit, requests cover the blocks that can arrive within this time.
const AHEAD: Duration = Duration::from_millis(1200);

/// One connected peer.
pub struct Peer {
    /// The connection's key.
    pub key: PeerKey,
    /// The other end.
    pub addr: SocketAddr,
    /// Whether the peer connected to us.
    pub is_incoming: bool,
    /// What carries the connection.
    pub transport: Transport,
    /// The peer's id.
    pub id: PeerId,
    /// When the connection was made, on the torrent's clock.
    pub since: Duration,
    /// Whether the connection is encrypted; set by the handshake.
    pub encrypted: Flag,
    /// Which extensions the peer supports.
    pub extensions: PeerExtensions,
    /// Which side chokes, and which is interested.
    pub choking: ChokeState,
    /// Bytes and rates.
    pub rates: PeerRates,
    /// Our requests to the peer.
    pub requesting: OurRequests,
    /// The peer's requests to us.
    pub serving: ServeCounters,
    pub(super) lifecycle: Lifecycle,
    /// Pieces for which the writer has to send HAVE.
    haves: Mutex<Vec<PieceIndex>>,
    outbox: Outbox,
    stream: Arc<PeerStream>,
}

impl Peer {
    /// A peer after the handshake: both sides choke and neither is interested, as BEP 3 requires.
    pub fn new(
        key: PeerKey,
        addr: SocketAddr,
        is_incoming: bool,
        peer_handshake: &Handshake,
        since: Duration,
        stream: Arc<PeerStream>,
        outbox: Outbox,
    ) -> Peer {
        Peer {
            key,
            addr,
            is_incoming,
            transport: stream.transport(),
            id: peer_handshake.peer_id,
            since,
            encrypted: Flag::default(),
            extensions: PeerExtensions::new(peer_handshake),
            choking: ChokeState::default(),
            rates: PeerRates::default(),
            requesting: OurRequests::default(),
            serving: ServeCounters::default(),
            lifecycle: Lifecycle::default(),
            haves: Mutex::new(Vec::new()),
            outbox,
            stream,
        }
    }

    /// The connection as the rate limits know it.
    pub fn flow(&self) -> FlowId {
        FlowId::new(self.key, self.addr.ip())
    }

    /// Queues a command for the writer, which may have ended. Disconnects the peer if its queue is full.
    pub fn send(&self, command: WriterCommand) {
        if !self.outbox.push(command) {
            self.close();
        }
    }

    /// Whether the peer made us send answers but did not read them, until its queue was full.
    pub fn has_overrun(&self) -> bool {
        self.outbox.has_overrun()
    }

    /// What the UDP thread knows about the connection, or else `kernel`, if it reports that.
    pub fn link_figures(&self, kernel: Option<&TcpDiag>) -> Option<LinkFigures> {
        self.stream.utp_figures().or_else(|| kernel?.figures(&self.stream))
    }

    /// Ends the connection because we want nothing more from the peer: its threads exit, and received bytes are not read any
    /// more.
    pub fn close(&self) {
        self.lifecycle.discards_input.set(true);
        self.shut_socket();
    }

    /// Shuts down the socket of a connection that cannot continue, for example because the peer is gone. Blocks received before
    /// are still read.
    pub fn shut_socket(&self) {
        self.lifecycle.closed.set(true);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Whether to ignore the rest of the received bytes, in the socket and in the buffer. Linux still delivers what was
    /// received before the socket was shut down, which can be megabytes of messages that are expensive to handle.
    pub fn discards_input(&self) -> bool {
        self.lifecycle.discards_input.is_set()
    }

    /// Whether we have shut down the socket.
    pub fn is_closed(&self) -> bool {
        self.lifecycle.closed.is_set()
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.lifecycle.ended.is_set()
    }

    /// The reader has ended: wakes the deadline thread so that it ends too.
    pub fn end(&self) {
        let _requests = self.requesting.pipeline.lock();
        self.lifecycle.ended.set(true);
        self.requesting.deadline_moved.notify_all();
    }

    /// Records payload bytes that have been received.
    pub fn note_received(&self, now: Duration, bytes: u64) {
        self.note_payload(now, Direction::Down, bytes);
    }

    /// Records payload bytes that have been sent.
    pub fn note_sent(&self, now: Duration, bytes: u64) {
        self.note_payload(now, Direction::Up, bytes);
    }

    fn note_payload(&self, now: Duration, direction: Direction, bytes: u64) {
        self.rates.traffic.lock().moved(now, direction, bytes);
        self.rates.last_payload.set(now.as_millis() as u64 + 1);
    }

    /// When payload last flowed in either direction.
    pub fn last_payload(&self) -> Option<Duration> {
        self.rates.last_payload.get().checked_sub(1).map(Duration::from_millis)
    }

    /// The traffic, both directions together.
    pub fn traffic(&self) -> Traffic {
        self.rates.traffic.lock().both()
    }

    /// Payload bytes per second over the last five seconds.
    pub fn rate(&self, direction: Direction, now: Duration) -> u64 {
        self.rates.traffic.lock().rate(direction, now)
    }

    /// Whether payload flowed within the last ten seconds.
    pub fn is_active(&self, now: Duration) -> bool {
        self.last_payload().is_some_and(|last| now < last + Duration::from_secs(10))
    }

    /// Whether we can request blocks: the peer does not choke us, and we are interested.
    pub fn can_request(&self) -> bool {
        !self.choking.peer_choking.is_set() && self.choking.am_interested.is_set()
    }

    /// Whether we can request blocks of any of its pieces, or at least of its allowed fast pieces while it chokes us.
    pub fn can_request_any(&self) -> bool {
        self.can_request() || (self.choking.allowed_fast.has_pieces() && self.choking.am_interested.is_set())
    }

    /// The address at which others can connect to the peer; `None` if the peer connected to us and has not told its port, or a
    /// false one.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        match self.extensions.listen_port.get() {
            0 if self.is_incoming => None,
            _ if self.is_incoming && self.extensions.names_false_port.is_set() => None,
            port if self.is_incoming => Some(SocketAddr::new(self.addr.ip(), port)),
            _ => Some(self.addr),
        }
    }

    /// Whether neither side needs the other any more; see `PieceManager::is_redundant`.
    pub fn is_redundant(&self, context: &TorrentContext) -> bool {
        context.pieces.is_redundant(self.key, self.extensions.upload_only.is_set())
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
    pub fn refresh_interest(&self, context: &TorrentContext) {
        let _only = self.requesting.refilling.lock();
        let is_interested = context.pieces.is_interested_in(self.key);
        if self.choking.am_interested.swap(is_interested) != is_interested {
            self.send(WriterCommand::SetInterest { is_interested });
        }
    }

    /// Chokes or unchokes the peer, if that is a change.
    pub fn set_choke(&self, is_choked: bool) {
        if self.choking.am_choking.swap(is_choked) != is_choked {
            self.send(WriterCommand::SetChoke { is_choked });
        }
    }

    /// The peer chokes us: the requests are lost, and other peers can get their blocks. A fast peer (BEP 6) rejects requests
    /// one by one, so only those that have not been written yet are lost.
    ///
    /// Returns how many are lost.
    pub fn on_choked(&self, context: &TorrentContext) -> u32 {
        self.choking.peer_choking.set(true);
        let lost = {
            let _only = self.requesting.refilling.lock();
            let mut requests = self.requesting.pipeline.lock();
            requests.on_choked(self.extensions.supports_fast)
        };
        context.pieces.release(self.key, &lost);
        lost.len() as u32
    }

    /// Cancels all requests, because the torrent pauses.
    pub fn cancel_all(&self, context: &TorrentContext) {
        let lost = {
            let _only = self.requesting.refilling.lock();
            self.requesting.pipeline.lock().cancel_all()
        };
        for block in &lost {
            self.send(WriterCommand::Cancel(*block));
        }
        context.pieces.release(self.key, &lost);
    }

    /// Reserves room for `n` more blocks that the peer requests; false if its queue is full.
    pub fn admit_requests(&self, n: u32) -> bool {
        let room = self.serving.queued_requests.add(n) + n <= OUR_REQUEST_QUEUE;
        if !room {
            self.serving.queued_requests.sub(n);
        }
        room
    }

    /// Requests more blocks from the peer if its pipeline has room. Any thread may call this, without holding a lock.
    pub fn refill(&self, context: &TorrentContext) {
        let _only = self.requesting.refilling.lock();
        if !self.can_request_any() || self.has_ended() || context.is_paused() {
            return;
        }
        let now = context.now();
        self.follow_seeks(context, now);
        let (want, pick_context, end_game_limit) = {
            let requests = self.requesting.pipeline.lock();
            (
                requests.want(),
                requests.pick_context(now, context.pieces.storage().layout().piece_length()),
                requests.end_game_limit(),
            )
        };
        let want = self.within_limit(context, now, want, end_game_limit.outstanding);
        if want == 0 {
            return;
        }
        let mut batch = Vec::with_capacity(want);
        let again = if self.can_request() {
            context.pieces.pick(self.key, want, pick_context, end_game_limit, context.share_of(self, now), &mut batch)
        } else {
            context.pieces.pick_within(self.key, want, pick_context, &self.choking.allowed_fast.pieces(), &mut batch);
            None
        };
        {
            let mut requests = self.requesting.pipeline.lock();
            let watched = requests.next_deadline();
            requests.set_repick_at(again);
            requests.enqueue(now, &batch);
            if requests.next_deadline().is_some_and(|next| watched.is_none_or(|watched| next < watched)) {
                self.requesting.deadline_moved.notify_all();
            }
        }
        if !batch.is_empty() {
            self.announce_requests();
        }
    }

    /// Tells the writer that there are requests or cancels to write.
    fn announce_requests(&self) {
        if !self.requesting.requests_announced.swap(true) {
            self.send(WriterCommand::SendRequests);
        }
    }

    /// How many of `want` requests to make when `outstanding` are made already. Under a limit, only as many as can arrive
    /// within about a second, because a pause would have to wait for the rest.
    fn within_limit(&self, context: &TorrentContext, now: Duration, want: usize, outstanding: usize) -> usize {
        let limit = context.settings.throttle.fair_share(Direction::Down);
        if limit == 0 {
            return want;
        }
        let ahead = limit as f64 * context.share_of(self, now) * AHEAD.as_secs_f64() / f64::from(BLOCK_SIZE);
        want.min((ahead as usize).max(1).saturating_sub(outstanding))
    }

    /// Takes the requests to write now, oldest first, and starts their timeouts. `cancels` receives the requests to cancel before
    /// that. For the writer.
    pub fn take_requests(&self, now: Duration, cancels: &mut Vec<BlockInfo>, out: &mut Vec<BlockInfo>) {
        self.requesting.requests_announced.set(false); // first: requests added later are announced again
        let old = out.len();
        {
            let mut requests = self.requesting.pipeline.lock();
            cancels.append(&mut requests.take_cancels());
            if requests.take_unwritten(now, out) {
                self.requesting.deadline_moved.notify_all();
            }
        }
        let bytes = out[old..].iter().map(|block| u64::from(block.length)).sum();
        self.rates.bytes_requested.add(bytes);
    }
}
