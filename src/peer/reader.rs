//! The reader: socket → slab → parse → hash → storage, on one thread and without a hand-over.
//!
//! It receives into one large buffer and walks the frames where they lie. The blocks found in one go are taken together: one
//! short lock to learn which may be written (and what to ask for next), one `pwritev` for each run of neighbours, the running
//! SHA-1 of the piece, one short lock to note them. Only pieces whose blocks came out of order, or from several peers, are read
//! back to be hashed.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::Ordering;

use sha1::{Digest, Sha1};

use super::connection::Gone;
use super::state::{Out, Peer, feed_the_hungry};
use super::{Report, SLAB, Shared};
use crate::pieces::Accepted;
use crate::storage::PooledSlab;
use crate::storage::hash_range;
use crate::types::{Bitfield, BlockRequest, PieceIndex};
use crate::wire::extension::{ExtensionHandshake, HANDSHAKE_ID};
use crate::wire::message::{self, MAX_REQUEST, Message};

/// The buffer of a connection on which no blocks arrive.
const SMALL: usize = 4096;
/// With less room than this behind the unread bytes, they are moved to the front of the buffer.
const ROOM: usize = 64 * 1024;
/// Messages in a row that we have no use for, before the peer is taken for a flood.
const MAX_IDLE_TALK: u32 = 10_000;
/// Running hashes kept at most; a peer that answers in order needs one.
const MAX_HASHES: usize = 8;

/// One connection's receiving side.
pub struct Reader<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    stream: &'a TcpStream,
    buffer: Buffer,
    /// The unread bytes.
    unread: Range<usize>,
    /// The bitfield may come now and never again.
    bitfield_allowed: bool,
    /// Messages without effect since the last useful one.
    idle_talk: u32,
    /// Blocks found in the current walk, and where their bytes lie.
    blocks: Vec<(BlockRequest, Range<usize>)>,
    /// Requests of the peer found in the current walk.
    asked: Vec<BlockRequest>,
    accepted: Accepted,
    whole: Vec<PieceIndex>,
    hashes: HashMap<PieceIndex, Running>,
}

/// The hash of a piece's first `upto` bytes.
struct Running {
    sha: Sha1,
    upto: u32,
}

/// A small buffer while little is said, a slab while blocks arrive.
enum Buffer {
    Small(Vec<u8>),
    Slab(PooledSlab),
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Small(bytes) => bytes,
            Buffer::Slab(slab) => slab,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Small(bytes) => bytes,
            Buffer::Slab(slab) => slab,
        }
    }
}

impl<'a> Reader<'a> {
    /// A reader whose peer has sent nothing but its handshake.
    pub fn new(shared: &'a Shared, peer: &'a Peer, stream: &'a TcpStream) -> Reader<'a> {
        Reader {
            shared,
            peer,
            stream,
            buffer: Buffer::Small(vec![0; SMALL]),
            unread: 0..0,
            bitfield_allowed: true,
            idle_talk: 0,
            blocks: Vec::new(),
            asked: Vec::new(),
            accepted: Accepted::default(),
            whole: Vec::new(),
            hashes: HashMap::new(),
        }
    }

    /// Reads until the connection ends; says why it did.
    pub fn run(&mut self) -> Gone {
        loop {
            if let Err(gone) = self.turn() {
                return gone;
            }
        }
    }

    /// One read and all that follows from it.
    fn turn(&mut self) -> Result<(), Gone> {
        self.make_room();
        let mut stream = self.stream;
        let n = match stream.read(&mut self.buffer.bytes_mut()[self.unread.end..]) {
            Ok(0) => return Err(Gone::Closed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Gone::io(&error)),
        };
        self.unread.end += n;
        self.walk()?;
        self.take_blocks()?;
        self.answer_requests();
        Ok(())
    }

    /// Picks the buffer that fits what is going on, and sees that the frame under way fits into it.
    fn make_room(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        let flowing = self.peer.gives();
        let needed = message::needed(&self.buffer.bytes()[self.unread.clone()]).max(self.unread.len() + 1);
        match &self.buffer {
            Buffer::Small(_) if flowing && needed <= SLAB => {
                let slab = self.shared.slabs.take();
                self.move_to(Buffer::Slab(slab));
            }
            Buffer::Slab(_) if !flowing && self.unread.is_empty() => self.buffer = Buffer::Small(vec![0; SMALL]),
            _ => {}
        }
        let size = self.buffer.bytes().len();
        if needed > size {
            // Bitfields of large torrents and extension messages; `split` has bounded the frame. The buffer grows with what is
            // there, never by what is claimed.
            let grown = (2 * size).min(message::MAX_FRAME + 4).max(self.unread.len() + SMALL);
            self.move_to(Buffer::Small(vec![0; grown]));
        } else if self.unread.start > 0
            && (size - self.unread.end < ROOM.min(size / 2) || self.unread.start + needed > size)
        {
            let unread = self.unread.clone();
            self.unread = 0..unread.len();
            self.buffer.bytes_mut().copy_within(unread, 0);
        }
    }

    fn move_to(&mut self, mut buffer: Buffer) {
        let unread = &self.buffer.bytes()[self.unread.clone()];
        buffer.bytes_mut()[..unread.len()].copy_from_slice(unread);
        self.unread = 0..unread.len();
        self.buffer = buffer;
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
        while let Some((message, length)) = message::split(&bytes[self.unread.clone()])? {
            let end = self.unread.start + length;
            self.unread.start = end;
            match message {
                Message::Piece(block, data) => self.blocks.push((block, end - data.len()..end)),
                Message::Request(block) => self.note_request(block)?,
                other => self.act(&other)?,
            }
        }
        Ok(())
    }

    /// Everything but blocks and requests.
    fn act(&mut self, message: &Message<'_>) -> Result<(), Gone> {
        let (shared, peer) = (self.shared, self.peer);
        let first = self.bitfield_allowed;
        // Some send their extension handshake before their bitfield.
        self.bitfield_allowed &= matches!(message, Message::Extended(..));
        self.idle_talk += 1;
        if self.idle_talk > MAX_IDLE_TALK + shared.pieces.count() {
            return Err(Gone::Flood);
        }
        match message {
            Message::Choke if !peer.peer_choking.load(Ordering::Acquire) => {
                // Blocks that came before the choke are still good.
                peer.choked(shared);
                feed_the_hungry(shared);
            }
            Message::Unchoke => {
                peer.peer_choking.store(false, Ordering::Release);
                peer.refill(shared);
            }
            Message::Interested | Message::NotInterested => {
                let now = matches!(message, Message::Interested);
                if peer.peer_interested.swap(now, Ordering::AcqRel) != now {
                    shared.report(Report::Interest { key: peer.key });
                }
            }
            Message::Have(piece) => self.peer_has(*piece)?,
            Message::Bitfield(bits) => {
                if !first {
                    return Err(Gone::Broke("a bitfield that was not the first message"));
                }
                let bits = Bitfield::from_wire(bits, shared.pieces.count())
                    .ok_or(Gone::Broke("a bitfield that does not fit the torrent"))?;
                peer.set_interest(shared.pieces.bitfield(peer.key, bits));
                self.leave_if_useless()?;
            }
            Message::Cancel(block) => peer.send(Out::Withdraw(*block)),
            Message::Extended(HANDSHAKE_ID, payload) => {
                if let Some(said) = ExtensionHandshake::parse(payload)
                    && let Some(reqq) = said.reqq
                {
                    peer.requests.lock().set_limit(reqq);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn peer_has(&mut self, piece: PieceIndex) -> Result<(), Gone> {
        if piece.0 >= self.shared.pieces.count() {
            return Err(Gone::Broke("a HAVE beyond the last piece"));
        }
        let wanted = self.shared.pieces.peer_has(self.peer.key, piece);
        if wanted {
            self.peer.set_interest(true);
            if self.peer.gives() && self.peer.requests.lock().is_empty() {
                self.peer.refill(self.shared);
            }
        }
        self.leave_if_useless()
    }

    /// Two that have everything need no connection.
    fn leave_if_useless(&self) -> Result<(), Gone> {
        if self.shared.pieces.both_whole(self.peer.key) { Err(Gone::BothWhole) } else { Ok(()) }
    }

    /// Checks a request and keeps it for the writer.
    fn note_request(&mut self, block: BlockRequest) -> Result<(), Gone> {
        let layout = self.shared.pieces.storage().layout();
        self.bitfield_allowed = false;
        if block.piece.0 >= self.shared.pieces.count() || block.length == 0 || block.length > MAX_REQUEST {
            return Err(Gone::Broke("a request for what cannot be"));
        }
        let end = u64::from(block.begin) + u64::from(block.length);
        if end > u64::from(layout.piece_size(block.piece)) {
            return Err(Gone::Broke("a request beyond the piece's end"));
        }
        // What is asked while we choke is passed over: BEP 3 has no word for "no".
        if !self.peer.am_choking.load(Ordering::Acquire) {
            self.asked.push(block);
        }
        Ok(())
    }

    /// Hands the requests of this turn to the writer, as far as its queue has room.
    fn answer_requests(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        self.shared.pieces.keep_servable(&mut self.asked);
        let mut batch = std::mem::take(&mut self.asked);
        while !batch.is_empty() && !self.peer.admit_requests(batch.len() as u32) {
            batch.pop();
        }
        if !batch.is_empty() {
            self.idle_talk = 0;
            self.peer.send(Out::Serve(batch));
        }
    }

    /// Writes and hashes the blocks of this turn.
    fn take_blocks(&mut self) -> Result<(), Gone> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        self.bitfield_allowed = false;
        let now = self.shared.now();
        let mut bytes = 0;
        {
            let mut requests = self.peer.requests.lock();
            for (block, _) in &self.blocks {
                requests.take(now, block);
                bytes += u64::from(block.length);
            }
            requests.received(now, self.blocks.len(), bytes);
        }
        self.idle_talk = 0;
        self.peer.downloaded.fetch_add(bytes, Ordering::Relaxed);
        self.shared.downloaded.fetch_add(bytes, Ordering::Relaxed);
        self.peer.touch(now);

        self.shared.pieces.accept(self.peer.key, self.blocks.iter().map(|(b, _)| *b), &mut self.accepted);
        self.cancel_elsewhere();
        self.peer.refill(self.shared); // before the disk: the peer need not wait for it
        let mut take = self.accepted.take.iter();
        self.blocks.retain(|_| take.next().copied().unwrap_or(false));
        self.write()?;
        self.hash();
        self.shared.pieces.written(self.peer.key, self.blocks.iter().map(|(b, _)| *b), &mut self.whole);
        self.blocks.clear();
        for piece in std::mem::take(&mut self.whole) {
            self.finish(piece)?;
        }
        Ok(())
    }

    /// Others were asked for the same blocks at the end of the download: they need not send them.
    fn cancel_elsewhere(&mut self) {
        for (key, block) in self.accepted.cancels.drain(..) {
            if let Some(other) = self.shared.roster.get(key)
                && other.requests.lock().remove(&block)
            {
                other.send(Out::Cancel(block));
                other.refill(self.shared);
            }
        }
    }

    /// One write for each run of blocks that are neighbours on disk.
    fn write(&mut self) -> Result<(), Gone> {
        let storage = self.shared.pieces.storage();
        let layout = storage.layout();
        let bytes = self.buffer.bytes();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(self.blocks.len());
        let mut blocks = self.blocks.iter().peekable();
        let mut start = 0;
        let mut end = 0;
        while let Some((block, range)) = blocks.next() {
            let offset = layout.offset(block.piece, block.begin);
            if slices.is_empty() {
                start = offset;
            }
            slices.push(IoSlice::new(&bytes[range.clone()]));
            end = offset + u64::from(block.length);
            let joins = blocks.peek().is_some_and(|(next, _)| layout.offset(next.piece, next.begin) == end);
            if !joins {
                if let Err(error) = storage.write_vectored_at(start, &slices) {
                    self.shared.report(Report::Storage(error));
                    return Err(Gone::Disk);
                }
                slices.clear();
            }
        }
        debug_assert!(end >= start);
        Ok(())
    }

    /// Feeds the blocks that continue a piece's running hash.
    fn hash(&mut self) {
        for (block, range) in &self.blocks {
            if block.begin == 0 && self.hashes.len() < MAX_HASHES {
                self.hashes.insert(block.piece, Running { sha: Sha1::new(), upto: 0 });
            }
            if let Some(running) = self.hashes.get_mut(&block.piece)
                && running.upto == block.begin
            {
                running.sha.update(&self.buffer.bytes()[range.clone()]);
                running.upto += block.length;
            }
        }
    }

    /// A piece is whole: hashes what has not been hashed as it came, and settles it.
    fn finish(&mut self, piece: PieceIndex) -> Result<(), Gone> {
        let storage = self.shared.pieces.storage();
        let size = storage.layout().piece_size(piece);
        let running = self.hashes.remove(&piece).unwrap_or(Running { sha: Sha1::new(), upto: 0 });
        let sum = if running.upto == size {
            running.sha.finalize().into()
        } else {
            let mut slab = self.shared.slabs.take();
            match hash_range(storage, piece, running.upto, running.sha, &mut slab) {
                Ok(sum) => sum,
                Err(error) => {
                    self.shared.report(Report::Storage(error));
                    return Err(Gone::Disk);
                }
            }
        };
        let right = self.shared.pieces.hash(piece) == Some(sum);
        let verdict = self.shared.pieces.settle(piece, right);
        if !right {
            self.shared.report(Report::Failed { piece, senders: verdict.senders });
            feed_the_hungry(self.shared);
            return Ok(());
        }
        for other in self.shared.roster.pick(&verdict.lacking) {
            other.push_have(piece);
        }
        for other in self.shared.roster.pick(&verdict.no_longer_wanted) {
            other.set_interest(false);
        }
        if self.shared.pieces.is_complete() {
            self.shared.report(Report::Whole);
        }
        Ok(())
    }
}
