//! The reader: socket → slab → parse → hash → storage, on one thread and without a hand-over.
//!
//! It receives into one large buffer and walks the frames where they lie. Blocks and requests found in one go are taken together,
//! by [`BlockReceiver`] and by the writer; every other message acts at once. `fast` has what BEP 6 adds, `extended` BEP 10.

mod buffer;
mod deferred;
mod extended;
mod fast;
mod useless_messages;

use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::mse::Rc4;
use crate::peer::block_receiver::{BlockReceiver, BlocksOutcome};
use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::remembered::MAX_BITFIELD;
use crate::peer::roster::refill_idle_peers;
use crate::peer::state::Peer;
use crate::peer::{PeerEvent, TorrentContext, throttle};
use crate::strategy::pex::PexInbox;
use crate::strategy::rate_limiter::Direction;
use crate::types::{Bitfield, BlockRequest, PieceIndex};
use crate::util::os_error::reason;
use crate::wire::message::{self, MAX_REQUEST, Message};
use buffer::{Buffer, SMALL};
use deferred::DeferredMessages;
use useless_messages::{CHOKE, UselessMessages};

/// Why a bitfield ends the connection.
const WRONG_BITFIELD_LENGTH: DisconnectReason =
    DisconnectReason::ProtocolViolation("a bitfield that does not fit the torrent");

/// One connection's receiving side.
pub struct Reader<'a> {
    shared: &'a TorrentContext,
    peer: &'a Peer,
    stream: &'a TcpStream,
    buffer: Buffer,
    /// The unread bytes.
    unread: Range<usize>,
    /// Messages without effect.
    useless: UselessMessages,
    /// Requests of the peer found in the current walk.
    requested: Vec<BlockRequest>,
    /// Those of them that will not be answered.
    refused: Vec<BlockRequest>,
    /// Requests of ours that the peer rejected in the current walk.
    rejected: Vec<BlockRequest>,
    /// The peer has said what it has.
    has_announced_pieces: bool,
    /// It has said what our address is.
    has_told_address: bool,
    /// What it told of others.
    pex: Option<PexInbox>,
    /// How many PORT messages it sent.
    nodes: u32,
    /// Blocks that it may still have while it is choked.
    allowed_fast_left: u32,
    /// Where blocks go.
    block_receiver: BlockReceiver<'a>,
    /// Starts the thread that watches the deadlines of our requests, until that was done.
    watch_deadlines: Option<&'a dyn Fn() -> io::Result<()>>,
    /// What makes sense of the bytes, where they are encrypted.
    cipher: Option<Rc4>,
    /// What it says of pieces while nobody knows how many there are.
    deferred: DeferredMessages<'a>,
}

impl<'a> Reader<'a> {
    /// A reader whose peer has sent its handshake, and `early` behind it. What follows is for `cipher` where there is one.
    /// `watch_deadlines` starts its request-timeout thread, which is done once it may be asked for something.
    pub fn new(
        shared: &'a TorrentContext,
        peer: &'a Peer,
        stream: &'a TcpStream,
        mut early: Vec<u8>,
        cipher: Option<Rc4>,
        watch_deadlines: &'a dyn Fn() -> io::Result<()>,
    ) -> Reader<'a> {
        let unread = 0..early.len();
        early.resize(early.len().max(SMALL), 0);
        Reader {
            shared,
            peer,
            stream,
            buffer: Buffer::Small(early),
            unread,
            useless: UselessMessages::new(shared.now()),
            requested: Vec::new(),
            refused: Vec::new(),
            rejected: Vec::new(),
            has_announced_pieces: false,
            has_told_address: false,
            pex: None,
            nodes: 0,
            allowed_fast_left: 0,
            block_receiver: BlockReceiver::new(shared, peer),
            watch_deadlines: Some(watch_deadlines),
            cipher,
            deferred: DeferredMessages::new(&shared.remembered, peer.fast),
        }
    }

    /// Reads until the connection ends; says why it did.
    pub fn run(&mut self) -> DisconnectReason {
        if let Err(gone) = self.process_unread() {
            return gone;
        }
        loop {
            if let Err(gone) = self.read_once() {
                return gone;
            }
        }
    }

    /// One read and all that follows from it.
    fn read_once(&mut self) -> Result<(), DisconnectReason> {
        self.check_running()?;
        self.make_room();
        if self.shared.wants_info && !self.wait_readable()? {
            return Ok(());
        }
        let end = self.unread.end + self.receive_limit();
        let room = &mut self.buffer.bytes_mut()[self.unread.end..end];
        let n = match throttle::read(self.shared, self.peer, self.stream, room) {
            // Under a limit, a reader that waits for its turn comes back with nothing.
            Ok(0) if self.shared.wake_pipe.has_woken() => return Err(DisconnectReason::Kept),
            Ok(0) => return Err(DisconnectReason::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(DisconnectReason::io(&error)),
        };
        let end = self.unread.end + n;
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut self.buffer.bytes_mut()[self.unread.end..end]);
        }
        self.unread.end = end;
        self.process_unread()
    }

    /// Fails where what is left in the buffer and in the socket is of no interest: the connection is closed, or the session stops. A
    /// metadata stage that is over leaves the rest to the download.
    fn check_running(&self) -> Result<(), DisconnectReason> {
        let stops = self.shared.is_stopping() && !self.shared.wake_pipe.has_woken();
        if stops || self.peer.is_dismissed() { Err(DisconnectReason::Closed) } else { Ok(()) }
    }

    /// All that follows from the unread bytes.
    fn process_unread(&mut self) -> Result<(), DisconnectReason> {
        self.parse_messages()?;
        self.take_rejected()?;
        self.answer_requests()
    }

    /// Takes every whole frame: blocks and requests are noted for what follows, the rest acts at once.
    fn parse_messages(&mut self) -> Result<(), DisconnectReason> {
        // The buffer is set aside so that messages may borrow from it while they act.
        let buffer = std::mem::replace(&mut self.buffer, Buffer::Small(Vec::new()));
        let result = self.parse_messages_in(buffer.bytes());
        self.buffer = buffer;
        result
    }

    fn parse_messages_in(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        loop {
            self.check_running()?;
            let unread = &bytes[self.unread.clone()];
            self.check_bitfield_length(unread)?;
            let Some((message, length)) = message::split(unread)? else { break };
            let end = self.unread.start + length;
            self.unread.start = end;
            self.count_length(&message, length)?;
            match message {
                early if self.shared.wants_info => self.handle_before_metadata(&early)?,
                Message::Piece(block, data) => {
                    self.check_range(block)?;
                    self.block_receiver.note(block, end - data.len()..end);
                }
                Message::Request(block) => self.handle_request(block)?,
                Message::Reject(block) if self.peer.fast => self.rejected.push(block),
                Message::Choke => {
                    // What came before the choke is good, and need not be asked for again.
                    self.take_blocks(bytes)?;
                    self.count_useless(CHOKE)?;
                    self.choked();
                }
                other => self.handle_message(&other)?,
            }
        }
        if !self.take_blocks(bytes)? {
            self.block_receiver.note_partial_block(&bytes[self.unread.clone()]);
        }
        Ok(())
    }

    /// Blocks noted so far go to the disk; whether there were any.
    fn take_blocks(&mut self, bytes: &[u8]) -> Result<bool, DisconnectReason> {
        match self.block_receiver.take(bytes)? {
            BlocksOutcome::Nothing => return Ok(false),
            BlocksOutcome::Useful => self.useless.reset(),
            BlocksOutcome::Useless(blocks, unrequested_bytes) => {
                self.count_useless(blocks.saturating_add(useless_messages::weight(unrequested_bytes)))?;
            }
        }
        Ok(true)
    }

    fn choked(&mut self) {
        if !self.peer.peer_choking.load(Ordering::Acquire) {
            self.peer.choked(self.shared);
            refill_idle_peers(self.shared);
        }
    }

    /// A bitfield has one possible length; another is refused before its bytes are waited for.
    fn check_bitfield_length(&self, unread: &[u8]) -> Result<(), DisconnectReason> {
        let Some(&[a, b, c, d, 5]) = unread.first_chunk::<5>() else { return Ok(()) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let expected = self.shared.pieces.count().div_ceil(8) + 1;
        let fits = if self.shared.wants_info { length as usize <= MAX_BITFIELD + 1 } else { length == expected };
        if fits { Ok(()) } else { Err(WRONG_BITFIELD_LENGTH) }
    }

    /// Whether a block lies within the torrent.
    fn check_range(&self, block: BlockRequest) -> Result<(), DisconnectReason> {
        let end = u64::from(block.begin) + u64::from(block.length);
        let size = self.shared.pieces.storage().layout().piece_size(block.piece);
        if end > u64::from(size) {
            Err(DisconnectReason::ProtocolViolation("a block beyond the piece's or the torrent's end"))
        } else {
            Ok(())
        }
    }

    /// Everything but blocks, requests and chokes.
    fn handle_message(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        let (shared, peer) = (self.shared, self.peer);
        self.count_useless(1)?;
        match message {
            Message::Unchoke => {
                self.start_deadline_thread()?;
                let piece = shared.pieces.storage().layout().piece_length();
                {
                    let (peers, limit) = (
                        shared.connections.load(Ordering::Relaxed) as usize,
                        shared.throttle.fair_share(Direction::Down),
                    );
                    let mut requests = peer.requests.lock();
                    requests.limit_start_by_peers(peers, piece);
                    requests.limit_start_by_rate(peers, limit);
                }
                peer.peer_choking.store(false, Ordering::Release);
                peer.refill(shared);
            }
            Message::Interested | Message::NotInterested => {
                let now = matches!(message, Message::Interested);
                let news = peer.peer_interested.swap(now, Ordering::AcqRel) != now;
                if news && !peer.interest_reported.swap(true, Ordering::AcqRel) {
                    shared.report(PeerEvent::InterestChanged { key: peer.key });
                }
            }
            Message::Have(piece) => self.peer_has(*piece)?,
            Message::Bitfield(bits) => self.handle_bitfield(bits)?,
            Message::Cancel(block) => {
                self.check_range(*block)?;
                if let Some(at) = self.requested.iter().position(|b| b == block) {
                    self.requested.remove(at);
                    self.refused.push(*block);
                } else if peer.queued_requests.load(Ordering::Acquire) > 0 {
                    peer.send(WriterCommand::Withdraw(*block));
                }
            }
            Message::Extended(id, payload) => self.extended(*id, payload)?,
            Message::Port(port) => self.node(*port)?,
            fast if fast.is_fast() && !peer.fast => {
                return Err(DisconnectReason::ProtocolViolation(
                    "a message of the fast extension, which was not agreed on",
                ));
            }
            fast if fast.is_fast() => self.handle_fast(fast)?,
            _ => {}
        }
        Ok(())
    }

    /// A bitfield. BEP 3 has it first or not at all, but aria2 sends another where that is shorter than the HAVEs it stands for:
    /// one that takes nothing back is welcome at any time.
    fn handle_bitfield(&mut self, bits: &[u8]) -> Result<(), DisconnectReason> {
        self.count_useless(bits.len() as u32 / 9)?;
        let bits = Bitfield::from_wire(bits, self.shared.pieces.count()).ok_or(WRONG_BITFIELD_LENGTH)?;
        self.peer_has_bits(bits)
    }

    /// Starts the thread that watches the deadlines of our requests, unless that was done.
    fn start_deadline_thread(&mut self) -> Result<(), DisconnectReason> {
        let Some(watch_deadlines) = self.watch_deadlines.take() else { return Ok(()) };
        watch_deadlines().map_err(|error| DisconnectReason::NoThread(reason(&error)))
    }

    /// The peer has more than before: it may be worth asking.
    fn request_if_idle(&self) {
        self.peer.refresh_interest(self.shared);
        if self.peer.can_request_any() && self.peer.requests.lock().is_empty() {
            self.peer.refill(self.shared);
        }
    }

    fn peer_has(&mut self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        if piece.0 >= self.shared.pieces.count() {
            return Err(DisconnectReason::ProtocolViolation("a HAVE beyond the last piece"));
        }
        self.has_announced_pieces = true;
        if self.shared.pieces.peer_has(self.peer.key, piece) {
            self.request_if_idle();
        }
        if let Some(super_seeding) = self.shared.active_super_seed() {
            super_seeding.has(self.shared, self.peer.key, std::iter::once(piece));
        }
        self.disconnect_if_redundant()
    }

    /// Two that have all they want need no connection; a super-seed wants to know how long others have everything.
    fn disconnect_if_redundant(&self) -> Result<(), DisconnectReason> {
        if self.shared.active_super_seed().is_none() && self.peer.is_redundant(self.shared) {
            Err(DisconnectReason::Redundant)
        } else {
            Ok(())
        }
    }

    /// Checks a request and keeps it for the writer.
    fn handle_request(&mut self, block: BlockRequest) -> Result<(), DisconnectReason> {
        self.check_range(block)?;
        if block.length == 0 || block.length > MAX_REQUEST {
            return Err(DisconnectReason::ProtocolViolation("a request for less or more than a block"));
        }
        // What is asked while we choke is refused, unless it is one of a few pieces (BEP 6).
        if !self.peer.am_choking.load(Ordering::Acquire) || self.use_allowed_fast(&block) {
            self.requested.push(block);
        } else if self.peer.fast {
            self.refused.push(block);
        }
        Ok(())
    }

    /// Hands the requests of this turn to the writer, as far as its queue has room.
    fn answer_requests(&mut self) -> Result<(), DisconnectReason> {
        if self.requested.is_empty() && self.refused.is_empty() {
            return Ok(());
        }
        self.shared.pieces.retain_servable(&mut self.requested, &mut self.refused);
        if let Some(super_seeding) = self.shared.active_super_seed() {
            super_seeding.retain_shown(self.peer.key, &mut self.requested, &mut self.refused);
        }
        let mut batch = std::mem::take(&mut self.requested);
        while !batch.is_empty() && !self.peer.admit_requests(batch.len() as u32) {
            self.refused.extend(batch.pop());
        }
        if !batch.is_empty() {
            self.useless.reset();
            self.peer.send(WriterCommand::Serve(batch));
        }
        self.send_rejects()
    }
}
