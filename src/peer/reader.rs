//! The reader: socket → slab → parse → hash → storage, on one thread and without a hand-over.
//!
//! It receives into one large buffer and walks the frames where they lie. Blocks and requests found in one go are taken together,
//! by [`Intake`] and by the writer; every other message acts at once. `fast` has what BEP 6 adds, `extended` BEP 10.

mod buffer;
mod extended;
mod fast;
mod memory;
mod useless_messages;

use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::mse::Rc4;
use crate::peer::connection::Gone;
use crate::peer::intake::{Intake, Taken};
use crate::peer::outbox::Out;
use crate::peer::remembered::MAX_BITFIELD;
use crate::peer::roster::feed_the_hungry;
use crate::peer::state::Peer;
use crate::peer::{Report, Shared, throttle};
use crate::strategy::pex::PexInbox;
use crate::strategy::rate_limiter::Direction;
use crate::types::{Bitfield, BlockRequest, PieceIndex};
use crate::util::os_error::reason;
use crate::wire::message::{self, MAX_REQUEST, Message};
use buffer::{Buffer, SMALL};
use memory::StageMemory;
use useless_messages::{CHOKE, Talk};

/// Why a bitfield ends the connection.
const MISFIT: Gone = Gone::Broke("a bitfield that does not fit the torrent");

/// One connection's receiving side.
pub struct Reader<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    stream: &'a TcpStream,
    buffer: Buffer,
    /// The unread bytes.
    unread: Range<usize>,
    /// Messages without effect.
    idle: Talk,
    /// Requests of the peer found in the current walk.
    asked: Vec<BlockRequest>,
    /// Those of them that will not be answered.
    refused: Vec<BlockRequest>,
    /// Requests of ours that the peer rejected in the current walk.
    rejected: Vec<BlockRequest>,
    /// The peer has said what it has.
    told: bool,
    /// It has said what our address is.
    address_told: bool,
    /// What it told of others.
    pex: Option<PexInbox>,
    /// How many PORT messages it sent.
    nodes: u32,
    /// Blocks that it may still have while it is choked.
    gift: u32,
    /// Where blocks go.
    intake: Intake<'a>,
    /// Starts the thread that watches the deadlines of our requests, until that was done.
    watch: Option<&'a dyn Fn() -> io::Result<()>>,
    /// What makes sense of the bytes, where they are encrypted.
    cipher: Option<Rc4>,
    /// What it says of pieces while nobody knows how many there are.
    memory: StageMemory<'a>,
}

impl<'a> Reader<'a> {
    /// A reader whose peer has sent its handshake, and `early` behind it. What follows is for `cipher` where there is one.
    /// `watch` starts its request-timeout thread, which is done once it may be asked for something.
    pub fn new(
        shared: &'a Shared,
        peer: &'a Peer,
        stream: &'a TcpStream,
        mut early: Vec<u8>,
        cipher: Option<Rc4>,
        watch: &'a dyn Fn() -> io::Result<()>,
    ) -> Reader<'a> {
        let unread = 0..early.len();
        early.resize(early.len().max(SMALL), 0);
        Reader {
            shared,
            peer,
            stream,
            buffer: Buffer::Small(early),
            unread,
            idle: Talk::new(shared.now()),
            asked: Vec::new(),
            refused: Vec::new(),
            rejected: Vec::new(),
            told: false,
            address_told: false,
            pex: None,
            nodes: 0,
            gift: 0,
            intake: Intake::new(shared, peer),
            watch: Some(watch),
            cipher,
            memory: StageMemory::new(&shared.remembered, peer.fast),
        }
    }

    /// Reads until the connection ends; says why it did.
    pub fn run(&mut self) -> Gone {
        if let Err(gone) = self.digest() {
            return gone;
        }
        loop {
            if let Err(gone) = self.turn() {
                return gone;
            }
        }
    }

    /// One read and all that follows from it.
    fn turn(&mut self) -> Result<(), Gone> {
        self.go_on()?;
        self.make_room();
        if self.shared.wants_info && !self.may_read()? {
            return Ok(());
        }
        let end = self.unread.end + self.reach();
        let room = &mut self.buffer.bytes_mut()[self.unread.end..end];
        let n = match throttle::read(self.shared, self.peer, self.stream, room) {
            // Under a limit, a reader that waits for its turn comes back with nothing.
            Ok(0) if self.shared.parking.has_begun() => return Err(Gone::Kept),
            Ok(0) => return Err(Gone::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Gone::io(&error)),
        };
        let end = self.unread.end + n;
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut self.buffer.bytes_mut()[self.unread.end..end]);
        }
        self.unread.end = end;
        self.digest()
    }

    /// Fails where what is left in the buffer and in the socket is of no interest: the connection is closed, or the session stops. A
    /// metadata stage that is over leaves the rest to the download.
    fn go_on(&self) -> Result<(), Gone> {
        let stops = self.shared.is_stopping() && !self.shared.parking.has_begun();
        if stops || self.peer.is_dismissed() { Err(Gone::Closed) } else { Ok(()) }
    }

    /// All that follows from the unread bytes.
    fn digest(&mut self) -> Result<(), Gone> {
        self.walk()?;
        self.take_rejected()?;
        self.answer_requests()
    }

    /// Takes every whole frame: blocks and requests are noted for what follows, the rest acts at once.
    fn walk(&mut self) -> Result<(), Gone> {
        // The buffer is set aside so that messages may borrow from it while they act.
        let buffer = std::mem::replace(&mut self.buffer, Buffer::Small(Vec::new()));
        let result = self.walk_in(buffer.bytes());
        self.buffer = buffer;
        result
    }

    fn walk_in(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        loop {
            self.go_on()?;
            let unread = &bytes[self.unread.clone()];
            self.check_bitfield_length(unread)?;
            let Some((message, length)) = message::split(unread)? else { break };
            let end = self.unread.start + length;
            self.unread.start = end;
            self.weigh(&message, length)?;
            match message {
                early if self.shared.wants_info => self.act_before_info(&early)?,
                Message::Piece(block, data) => {
                    self.check_range(block)?;
                    self.intake.note(block, end - data.len()..end);
                }
                Message::Request(block) => self.note_request(block)?,
                Message::Reject(block) if self.peer.fast => self.rejected.push(block),
                Message::Choke => {
                    // What came before the choke is good, and need not be asked for again.
                    self.take_blocks(bytes)?;
                    self.talk(CHOKE)?;
                    self.choked();
                }
                other => self.act(&other)?,
            }
        }
        if !self.take_blocks(bytes)? {
            self.intake.arriving(&bytes[self.unread.clone()]);
        }
        Ok(())
    }

    /// Blocks noted so far go to the disk; whether there were any.
    fn take_blocks(&mut self, bytes: &[u8]) -> Result<bool, Gone> {
        match self.intake.take(bytes)? {
            Taken::Nothing => return Ok(false),
            Taken::Useful => self.idle.forgive(),
            Taken::Useless(blocks, beyond) => self.talk(blocks.saturating_add(useless_messages::weight(beyond)))?,
        }
        Ok(true)
    }

    fn choked(&mut self) {
        if !self.peer.peer_choking.load(Ordering::Acquire) {
            self.peer.choked(self.shared);
            feed_the_hungry(self.shared);
        }
    }

    /// A bitfield has one possible length; another is refused before its bytes are waited for.
    fn check_bitfield_length(&self, unread: &[u8]) -> Result<(), Gone> {
        let Some(&[a, b, c, d, 5]) = unread.first_chunk::<5>() else { return Ok(()) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let expected = self.shared.pieces.count().div_ceil(8) + 1;
        let fits = if self.shared.wants_info { length as usize <= MAX_BITFIELD + 1 } else { length == expected };
        if fits { Ok(()) } else { Err(MISFIT) }
    }

    /// Whether a block lies within the torrent.
    fn check_range(&self, block: BlockRequest) -> Result<(), Gone> {
        let end = u64::from(block.begin) + u64::from(block.length);
        let size = self.shared.pieces.storage().layout().piece_size(block.piece);
        if end > u64::from(size) { Err(Gone::Broke("a block beyond the piece's or the torrent's end")) } else { Ok(()) }
    }

    /// Everything but blocks, requests and chokes.
    fn act(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let (shared, peer) = (self.shared, self.peer);
        self.talk(1)?;
        match message {
            Message::Unchoke => {
                self.start_watch()?;
                let piece = shared.pieces.storage().layout().piece_length();
                {
                    let (peers, limit) =
                        (shared.lines.load(Ordering::Relaxed) as usize, shared.throttle.part(Direction::Down));
                    let mut requests = peer.requests.lock();
                    requests.share_start(peers, piece);
                    requests.limit_start(peers, limit);
                }
                peer.peer_choking.store(false, Ordering::Release);
                peer.refill(shared);
            }
            Message::Interested | Message::NotInterested => {
                let now = matches!(message, Message::Interested);
                let news = peer.peer_interested.swap(now, Ordering::AcqRel) != now;
                if news && !peer.interest_reported.swap(true, Ordering::AcqRel) {
                    shared.report(Report::Interest { key: peer.key });
                }
            }
            Message::Have(piece) => self.peer_has(*piece)?,
            Message::Bitfield(bits) => self.peer_has_all_of(bits)?,
            Message::Cancel(block) => {
                self.check_range(*block)?;
                if let Some(at) = self.asked.iter().position(|b| b == block) {
                    self.asked.remove(at);
                    self.refused.push(*block);
                } else if peer.serving.load(Ordering::Acquire) > 0 {
                    peer.send(Out::Withdraw(*block));
                }
            }
            Message::Extended(id, payload) => self.extended(*id, payload)?,
            Message::Port(port) => self.node(*port)?,
            fast if fast.is_fast() && !peer.fast => {
                return Err(Gone::Broke("a message of the fast extension, which was not agreed on"));
            }
            fast if fast.is_fast() => self.act_fast(fast)?,
            _ => {}
        }
        Ok(())
    }

    /// A bitfield. BEP 3 has it first or not at all, but aria2 sends another where that is shorter than the HAVEs it stands for:
    /// one that takes nothing back is welcome at any time.
    fn peer_has_all_of(&mut self, bits: &[u8]) -> Result<(), Gone> {
        self.talk(bits.len() as u32 / 9)?;
        let bits = Bitfield::from_wire(bits, self.shared.pieces.count()).ok_or(MISFIT)?;
        self.peer_has_bits(bits)
    }

    /// Starts the thread that watches the deadlines of our requests, unless that was done.
    fn start_watch(&mut self) -> Result<(), Gone> {
        let Some(watch) = self.watch.take() else { return Ok(()) };
        watch().map_err(|error| Gone::NoThread(reason(&error)))
    }

    /// The peer has more than before: it may be worth asking.
    fn newly_wanted(&self) {
        self.peer.refresh_interest(self.shared);
        if self.peer.is_askable() && self.peer.requests.lock().is_empty() {
            self.peer.refill(self.shared);
        }
    }

    fn peer_has(&mut self, piece: PieceIndex) -> Result<(), Gone> {
        if piece.0 >= self.shared.pieces.count() {
            return Err(Gone::Broke("a HAVE beyond the last piece"));
        }
        self.told = true;
        if self.shared.pieces.peer_has(self.peer.key, piece) {
            self.newly_wanted();
        }
        if let Some(reveal) = self.shared.revealing() {
            reveal.has(self.shared, self.peer.key, std::iter::once(piece));
        }
        self.leave_if_useless()
    }

    /// Two that have all they want need no connection; a super-seed wants to know how long others have everything.
    fn leave_if_useless(&self) -> Result<(), Gone> {
        if self.shared.revealing().is_none() && self.peer.is_needless(self.shared) {
            Err(Gone::BothWhole)
        } else {
            Ok(())
        }
    }

    /// Checks a request and keeps it for the writer.
    fn note_request(&mut self, block: BlockRequest) -> Result<(), Gone> {
        self.check_range(block)?;
        if block.length == 0 || block.length > MAX_REQUEST {
            return Err(Gone::Broke("a request for less or more than a block"));
        }
        // What is asked while we choke is refused, unless it is one of a few pieces (BEP 6).
        if !self.peer.am_choking.load(Ordering::Acquire) || self.takes_gift(&block) {
            self.asked.push(block);
        } else if self.peer.fast {
            self.refused.push(block);
        }
        Ok(())
    }

    /// Hands the requests of this turn to the writer, as far as its queue has room.
    fn answer_requests(&mut self) -> Result<(), Gone> {
        if self.asked.is_empty() && self.refused.is_empty() {
            return Ok(());
        }
        self.shared.pieces.keep_servable(&mut self.asked, &mut self.refused);
        if let Some(reveal) = self.shared.revealing() {
            reveal.keep_shown(self.peer.key, &mut self.asked, &mut self.refused);
        }
        let mut batch = std::mem::take(&mut self.asked);
        while !batch.is_empty() && !self.peer.admit_requests(batch.len() as u32) {
            self.refused.extend(batch.pop());
        }
        if !batch.is_empty() {
            self.idle.forgive();
            self.peer.send(Out::Serve(batch));
        }
        self.refuse()
    }
}
