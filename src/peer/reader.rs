//! The reader: socket → slab → parse → storage → hash, all on one thread.
//!
//! It receives into one large buffer and parses the frames in place. Blocks received together are handled together by
//! [`BlockReceiver`], requests by the writer; every other message takes effect at once. `requests` handles the peer's requests,
//! `fast` the messages of BEP 6, `extended` those of BEP 10.

mod buffer;
mod deferred;
mod extended;
mod fast;
mod requests;
mod useless_messages;

use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::mse::Rc4;
use crate::peer::block_receiver::{BlockReceiver, BlocksOutcome};
use crate::peer::connection::DisconnectReason;
use crate::peer::deferred_state::MAX_BITFIELD;
use crate::peer::roster::refill_idle_peers;
use crate::peer::state::Peer;
use crate::peer::{PeerEvent, TorrentContext, piece_batch, throttle};
use crate::strategy::hole_punch::Allowance;
use crate::strategy::pex::PexInbox;
use crate::strategy::rate_limiter::Direction;
use crate::types::{Bitfield, BlockInfo, PieceIndex};
use crate::udp::PeerStream;
use crate::util::os_error::reason;
use crate::wire::message::{self, Message};
use buffer::{ReceiveBuffer, SMALL};
use deferred::DeferredMessages;
use requests::PassRequests;
use useless_messages::UselessMessages;

/// The reason given for a bitfield of the wrong length.
const WRONG_BITFIELD_LENGTH: DisconnectReason =
    DisconnectReason::ProtocolViolation("a bitfield that does not fit the torrent");

/// The receiving side of one connection.
pub struct Reader<'a> {
    context: &'a TorrentContext,
    peer: &'a Peer,
    stream: &'a PeerStream,
    buffer: ReceiveBuffer,
    /// The range of the buffer that has not been parsed.
    unread: Range<usize>,
    /// Counts messages without effect.
    useless: UselessMessages,
    /// The requests found in the current pass.
    pass: PassRequests,
    /// See the type's documentation.
    once: OnceMessages,
    /// Takes the received blocks.
    block_receiver: BlockReceiver<'a>,
    /// Starts the thread that watches the deadlines of our requests; `None` once it runs.
    start_deadline_thread: Option<&'a dyn Fn() -> io::Result<()>>,
    /// Decrypts the received bytes, on an encrypted connection.
    cipher: Option<Rc4>,
    /// What the peer says about pieces before the number of pieces is known.
    deferred: DeferredMessages<'a>,
}

/// The messages received that count only once, or up to a limit.
#[derive(Default)]
struct OnceMessages {
    /// Whether the peer has announced which pieces it has.
    has_announced_pieces: bool,
    /// Whether the peer has told us our external address.
    has_told_address: bool,
    /// Limits the peer exchange messages that are accepted; `None` before the first.
    pex: Option<PexInbox>,
    /// Limits the holepunch messages.
    hole_punch: Allowance,
    /// The number of PORT messages.
    port_messages: u32,
}

impl<'a> Reader<'a> {
    /// A reader for a peer that has sent its handshake, followed by `early`, which is decrypted already; `cipher` decrypts what
    /// follows. `start_deadline_thread` starts the deadline thread, once we can request blocks from the peer.
    pub fn new(
        context: &'a TorrentContext,
        peer: &'a Peer,
        stream: &'a PeerStream,
        mut early: Vec<u8>,
        cipher: Option<Rc4>,
        start_deadline_thread: &'a dyn Fn() -> io::Result<()>,
    ) -> Reader<'a> {
        let unread = 0..early.len();
        early.resize(early.len().max(SMALL), 0);
        Reader {
            context,
            peer,
            stream,
            buffer: ReceiveBuffer::Small(early),
            unread,
            pass: PassRequests::default(),
            once: OnceMessages::default(),
            useless: UselessMessages::new(context.now()),
            block_receiver: BlockReceiver::new(context, peer),
            start_deadline_thread: Some(start_deadline_thread),
            cipher,
            deferred: DeferredMessages::new(&context.deferred_bytes, peer.extensions.supports_fast),
        }
    }

    /// Reads until the connection ends; returns the reason.
    pub fn run(&mut self) -> DisconnectReason {
        let mut result = self.process_unread();
        let reason = loop {
            if let Err(reason) = result {
                break reason;
            }
            result = self.read_once();
        };
        // Pieces that are complete count, whatever ended the connection.
        if self.block_receiver.has_unhashed()
            && let Err(failure) = self.block_receiver.hash_batch()
        {
            return failure;
        }
        reason
    }

    /// Reads once and handles the messages received.
    fn read_once(&mut self) -> Result<(), DisconnectReason> {
        self.check_running()?;
        self.make_room();
        if self.context.settings.is_fetching_metadata && !self.wait_readable()? {
            return Ok(());
        }
        // A peer that sends other messages, or a few bytes at a time, must not put it off.
        let receiver = &self.block_receiver;
        if receiver.has_unhashed()
            && (receiver.is_batch_due(self.context.now()) || !self.is_readable_within(piece_batch::IDLE_WAIT))
        {
            self.block_receiver.hash_batch()?;
        }
        let end = self.unread.end + self.receive_limit();
        let room = &mut self.buffer.bytes_mut()[self.unread.end..end];
        let n = match throttle::read(self.context, self.peer, self.stream, room) {
            // Under a limit, a reader that waited for its turn returns with nothing.
            Ok(0) if self.context.shutdown.keeps_connections() => return Err(DisconnectReason::Kept),
            Ok(0) if self.is_closed_by_us() => return Err(DisconnectReason::ClosedByUs),
            Ok(0) => return Err(DisconnectReason::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            // A close with the peer's bytes unread may end in a reset.
            Err(_) if self.is_closed_by_us() => return Err(DisconnectReason::ClosedByUs),
            Err(error) => return Err(DisconnectReason::io(&error)),
        };
        let end = self.unread.end + n;
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut self.buffer.bytes_mut()[self.unread.end..end]);
        }
        self.unread.end = end;
        self.process_unread()
    }

    /// Whether the peer has sent something, or does so within `wait`.
    fn is_readable_within(&self, wait: Duration) -> bool {
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        // An error will show when the socket is read.
        poll(&mut [PollFd::new(self.stream, PollFlags::IN)], Some(&wait)) != Ok(0)
    }

    /// Fails if the rest of the received bytes does not matter: the connection is closed, or the torrent stops. A metadata
    /// phase that has ended leaves the rest to the download.
    fn check_running(&self) -> Result<(), DisconnectReason> {
        if self.is_closed_by_us() { Err(DisconnectReason::ClosedByUs) } else { Ok(()) }
    }

    fn is_closed_by_us(&self) -> bool {
        let ends = self.context.are_connections_ending() && !self.context.shutdown.keeps_connections();
        ends || self.peer.discards_input()
    }

    /// Handles all complete messages in the buffer.
    fn process_unread(&mut self) -> Result<(), DisconnectReason> {
        self.parse_messages()?;
        self.take_rejected()?;
        self.answer_requests()
    }

    /// Parses every complete frame: notes blocks and requests for later, and handles all other messages at once.
    fn parse_messages(&mut self) -> Result<(), DisconnectReason> {
        // The buffer is set aside so that messages can borrow from it while they are handled.
        let buffer = std::mem::replace(&mut self.buffer, ReceiveBuffer::Small(Vec::new()));
        let result = self.parse_messages_in(buffer.bytes());
        self.buffer = buffer;
        result
    }

    fn parse_messages_in(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        loop {
            self.check_running()?;
            let unread = &bytes[self.unread.clone()];
            self.check_bitfield_length(unread)?;
            let Some((message, length)) = message::parse(unread)? else { break };
            let end = self.unread.start + length;
            self.unread.start = end;
            self.count_length(&message, length)?;
            match message {
                early if self.context.settings.is_fetching_metadata => self.handle_before_metadata(&early)?,
                Message::Piece(block, data) => {
                    self.check_range(block)?;
                    self.block_receiver.note(block, end - data.len()..end);
                }
                Message::Request(block) => self.handle_request(block)?,
                Message::Reject(block) if self.peer.extensions.supports_fast => self.pass.rejected.push(block),
                Message::Choke => {
                    // Blocks received before the choke are good and need not be requested again.
                    self.take_blocks(bytes)?;
                    self.on_choked()?;
                }
                other => self.handle_message(&other)?,
            }
        }
        if !self.take_blocks(bytes)? {
            self.block_receiver.note_partial_block(&bytes[self.unread.clone()]);
        }
        Ok(())
    }

    /// Writes the blocks noted so far; returns whether there were any.
    fn take_blocks(&mut self, bytes: &[u8]) -> Result<bool, DisconnectReason> {
        match self.block_receiver.take(bytes)? {
            BlocksOutcome::Nothing => return Ok(false),
            BlocksOutcome::Useful(blocks) => {
                self.useless.reset();
                self.useless.forgive_chokes(blocks);
            }
            BlocksOutcome::Useless(blocks, unrequested_bytes) => {
                self.count_useless(blocks.saturating_add(useless_messages::weight(unrequested_bytes)))?;
            }
        }
        Ok(true)
    }

    fn on_choked(&mut self) -> Result<(), DisconnectReason> {
        if self.peer.choking.peer_choking.is_set() {
            return self.count_choke(0);
        }
        let lost = self.peer.on_choked(self.context);
        refill_idle_peers(self.context);
        self.count_choke(lost)
    }

    /// A bitfield has exactly one valid length. Any other length is refused before its bytes are received.
    fn check_bitfield_length(&self, unread: &[u8]) -> Result<(), DisconnectReason> {
        let Some(&[a, b, c, d, 5]) = unread.first_chunk::<5>() else { return Ok(()) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let expected = self.context.pieces.piece_count().div_ceil(8) + 1;
        let fits = if self.context.settings.is_fetching_metadata {
            length as usize <= MAX_BITFIELD + 1
        } else {
            length == expected
        };
        if fits { Ok(()) } else { Err(WRONG_BITFIELD_LENGTH) }
    }

    /// Checks that a block lies within its piece.
    fn check_range(&self, block: BlockInfo) -> Result<(), DisconnectReason> {
        let end = u64::from(block.begin) + u64::from(block.length);
        let size = self.context.pieces.storage().layout().piece_size(block.piece);
        if end > u64::from(size) {
            Err(DisconnectReason::ProtocolViolation("a block beyond the piece's or the torrent's end"))
        } else {
            Ok(())
        }
    }

    /// Handles all messages except blocks, requests and chokes.
    fn handle_message(&mut self, message: &Message<'_>) -> Result<(), DisconnectReason> {
        let (context, peer) = (self.context, self.peer);
        self.count_useless(1)?;
        match message {
            Message::Unchoke => {
                self.ensure_deadline_thread()?;
                let piece = context.pieces.storage().layout().piece_length();
                {
                    let (peers, limit) =
                        (context.connections.get() as usize, context.settings.throttle.fair_share(Direction::Down));
                    let mut requests = peer.requesting.pipeline.lock();
                    requests.limit_start_by_peers(peers, piece);
                    requests.limit_start_by_rate(peers, limit);
                }
                peer.choking.peer_choking.set(false);
                peer.refill(context);
            }
            Message::Interested | Message::NotInterested => {
                let now = matches!(message, Message::Interested);
                let news = peer.choking.peer_interested.swap(now) != now;
                if news && !peer.choking.interest_reported.swap(true) {
                    context.send_to_main(PeerEvent::InterestChanged { key: peer.key });
                }
            }
            Message::Have(piece) => self.peer_has(*piece)?,
            Message::Bitfield(bits) => self.handle_bitfield(bits)?,
            Message::Cancel(block) => self.handle_cancel(*block)?,
            Message::Extended(id, payload) => self.handle_extended(*id, payload)?,
            Message::Port(port) => self.handle_port(*port)?,
            fast if fast.is_fast() && !peer.extensions.supports_fast => {
                return Err(DisconnectReason::ProtocolViolation(
                    "a message of the fast extension, which was not negotiated",
                ));
            }
            fast if fast.is_fast() => self.handle_fast(fast)?,
            _ => {}
        }
        Ok(())
    }

    /// Handles a bitfield. BEP 3 allows it only as the first message, but aria2 sends another when that is shorter than the
    /// HAVEs it replaces. So a bitfield that takes no piece back is accepted at any time.
    fn handle_bitfield(&mut self, bits: &[u8]) -> Result<(), DisconnectReason> {
        self.count_useless(bits.len() as u32 / 9)?;
        let bits = Bitfield::from_wire(bits, self.context.pieces.piece_count()).ok_or(WRONG_BITFIELD_LENGTH)?;
        self.peer_has_bits(bits)
    }

    /// Starts the thread that watches the deadlines of our requests, unless it has been started.
    fn ensure_deadline_thread(&mut self) -> Result<(), DisconnectReason> {
        let Some(start_deadline_thread) = self.start_deadline_thread.take() else { return Ok(()) };
        start_deadline_thread().map_err(|error| DisconnectReason::NoThread(reason(&error)))
    }

    /// The peer has more pieces than before: requests blocks if the peer is idle.
    fn request_if_idle(&self) {
        self.peer.refresh_interest(self.context);
        if self.peer.can_request_any() && self.peer.requesting.pipeline.lock().is_empty() {
            self.peer.refill(self.context);
        }
    }

    fn peer_has(&mut self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        if piece.0 >= self.context.pieces.piece_count() {
            return Err(DisconnectReason::ProtocolViolation("a HAVE beyond the last piece"));
        }
        self.once.has_announced_pieces = true;
        if self.context.pieces.peer_has(self.peer.key, piece) {
            self.request_if_idle();
        }
        if let Some(super_seeding) = self.context.active_super_seed() {
            super_seeding.has(self.context, self.peer.key, std::iter::once(piece));
        }
        self.disconnect_if_redundant()
    }

    /// Disconnects if neither side needs the other. A super-seed stays connected to learn when other peers have everything.
    fn disconnect_if_redundant(&self) -> Result<(), DisconnectReason> {
        if self.context.active_super_seed().is_none() && self.peer.is_redundant(self.context) {
            Err(DisconnectReason::Redundant)
        } else {
            Ok(())
        }
    }
}
