//! The path of received blocks, on the reader's thread: accept → request more → storage → hash → complete piece.
//!
//! Blocks received together are handled together: one short lock to learn which of them may be written, one `pwritev` for each
//! run of adjacent blocks, an update of the piece's running SHA-1, and one short lock to record them. Hashing comes first only if
//! another thread is writing to the same file. Pieces are read back for hashing if their blocks came out of order or from several
//! peers, or if the peer is so fast that several complete pieces can be hashed at once.

use std::collections::HashMap;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

use crate::hash::{LANE_BYTES, PieceLanes, Sha1Stream};
use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::piece_batch::PieceBatch;
use crate::peer::roster::refill_idle_peers;
use crate::peer::state::Peer;
use crate::peer::{BATCH_SLABS, PeerEvent, SLAB, TorrentContext};
use crate::pieces::BlockDecisions;
use crate::storage::{StorageError, hash_blocks, hash_range};
use crate::types::{BlockInfo, PieceIndex, Sha1Hash};
use crate::wire::message::PIECE_HEADER_LENGTH;

/// The message id of PIECE, which carries a block.
const PIECE_ID: u8 = 7;
/// At most this many running hashes are kept; a peer that answers in order needs one.
const MAX_HASHES: usize = 8;
/// How many times a thread yields to others before it waits for a file that another thread is writing.
const YIELDS: usize = 8;

/// The block path of one connection.
pub struct BlockReceiver<'a> {
    context: &'a TorrentContext,
    peer: &'a Peer,
    /// Blocks noted since the last `take`, with the position of their bytes in the buffer.
    blocks: Vec<(BlockInfo, Range<usize>)>,
    /// The block noted last.
    last: Option<BlockInfo>,
    decisions: BlockDecisions,
    /// Pieces of which all blocks are on disk, to be hashed.
    unverified_pieces: Vec<PieceIndex>,
    hashes: HashMap<PieceIndex, RunningHash>,
    /// Complete pieces that wait to be hashed together.
    batch: PieceBatch,
    /// How many pieces of this peer to hash together; `None` if each block is hashed when it arrives.
    batch_size: Option<usize>,
    /// Bytes of all blocks received.
    received: u64,
    /// How often blocks had been discarded when `hashes` was last valid.
    discards: u64,
}

/// The hash of the first `upto` bytes of a piece.
struct RunningHash {
    sha: Sha1Stream,
    upto: u32,
}

/// The result of one `take`.
pub enum BlocksOutcome {
    /// There were no blocks.
    Nothing,
    /// How many blocks had been requested, at least one.
    Useful(u32),
    /// No block had been requested: how many blocks there were, and how many of their bytes exceed everything ever requested
    /// from the peer.
    Useless(u32, u64),
}

impl<'a> BlockReceiver<'a> {
    /// A receiver that has received nothing yet.
    pub fn new(context: &'a TorrentContext, peer: &'a Peer) -> BlockReceiver<'a> {
        BlockReceiver {
            context,
            peer,
            blocks: Vec::new(),
            last: None,
            decisions: BlockDecisions::default(),
            unverified_pieces: Vec::new(),
            hashes: HashMap::new(),
            batch: PieceBatch::default(),
            batch_size: None,
            received: 0,
            discards: 0,
        }
    }

    /// Notes a block whose bytes are at `range` of the buffer that `take` will get.
    pub fn note(&mut self, block: BlockInfo, range: Range<usize>) {
        self.last = Some(block);
        self.blocks.push((block, range));
    }

    /// The offset in the torrent at which the next block starts if it follows the last one; `None` before the first block.
    pub fn next_offset(&self) -> Option<u64> {
        let layout = self.context.pieces.storage().layout();
        self.last.map(|last| layout.offset(last.piece, last.begin) + u64::from(last.length))
    }

    /// Writes and hashes the noted blocks.
    ///
    /// # Errors
    /// If the disk fails; main has then been told.
    pub fn take(&mut self, bytes: &[u8]) -> Result<BlocksOutcome, DisconnectReason> {
        if self.blocks.is_empty() {
            return Ok(BlocksOutcome::Nothing);
        }
        self.accept();
        self.cancel_elsewhere();
        let unrequested_bytes = self.unrequested_bytes();
        let useful = self.count();
        self.peer.refill(self.context); // before the disk, so that the peer need not wait for it
        let taken = if useful > 0 {
            BlocksOutcome::Useful(useful)
        } else {
            BlocksOutcome::Useless(self.blocks.len() as u32, unrequested_bytes)
        };
        let mut take = self.decisions.take.iter();
        self.blocks.retain(|_| take.next().copied().unwrap_or(false));
        let hashed = self.is_file_busy();
        if hashed {
            self.hash(bytes);
            for _ in 0..YIELDS {
                if !self.is_file_busy() {
                    break;
                }
                std::thread::yield_now();
            }
        }
        self.write(bytes)?;
        if !hashed {
            self.hash(bytes);
        }
        self.context.pieces.written(self.peer.key, self.blocks.iter().map(|(b, _)| *b), &mut self.unverified_pieces);
        self.blocks.clear();
        for piece in std::mem::take(&mut self.unverified_pieces) {
            self.finish(piece)?;
        }
        Ok(taken)
    }

    /// Whether complete pieces should wait no longer for others. They do not if nothing is outstanding, as after a choke.
    pub fn is_batch_due(&self, now: Duration) -> bool {
        let is_last = || self.peer.requesting.pipeline.lock().is_empty();
        self.batch.is_due(now, self.batch_size) || (!self.batch.is_empty() && is_last())
    }

    /// Whether complete pieces wait to be hashed.
    pub fn has_unhashed(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Asks the piece manager which blocks to write.
    fn accept(&mut self) {
        self.context.pieces.accept(self.peer.key, self.blocks.iter().map(|(b, _)| *b), &mut self.decisions);
        if self.discards != self.decisions.discards {
            // Blocks were discarded, so a running hash may no longer match the data on disk.
            self.discards = self.decisions.discards;
            self.hashes.clear();
        }
    }

    /// The bytes of these blocks that exceed everything ever requested from the peer. A block that came late, or was cancelled
    /// while it was on its way, had been requested.
    fn unrequested_bytes(&mut self) -> u64 {
        let bytes = self.blocks.iter().map(|(block, _)| u64::from(block.length)).sum();
        self.received += bytes;
        self.received.saturating_sub(self.peer.rates.bytes_requested.get()).min(bytes)
    }

    /// Counts the received blocks. Returns how many of them had been requested: only those extend the requests' deadline.
    fn count(&mut self) -> u32 {
        let now = self.context.now();
        let (mut blocks, mut bytes, mut all) = (0, 0, 0);
        {
            let mut requests = self.peer.requesting.pipeline.lock();
            let deadline = requests.next_deadline();
            for ((block, _), take) in self.blocks.iter().zip(&self.decisions.take) {
                let asked = requests.take(now, block).is_some();
                all += u64::from(block.length);
                if asked || *take {
                    blocks += 1;
                    bytes += u64::from(block.length);
                }
            }
            requests.received(now, blocks, bytes);
            let rate = requests.round_rate().unwrap_or_default() as u64;
            self.peer.rates.download_rate.set(rate);
            self.batch_size = PieceBatch::size_for(rate, self.context.pieces.storage().layout().piece_length());
            if requests.next_deadline() < deadline {
                self.peer.requesting.deadline_moved.notify_all(); // earlier than the deadline thread expects
            }
        }
        self.context.payload.downloaded.add(all);
        if blocks > 0 {
            self.context.settings.throttle.client.uplink.note_download();
            self.peer.rates.downloaded.add(bytes);
            self.peer.note_received(now, bytes);
        }
        blocks as u32
    }

    /// Only the start of a frame has arrived. If it is a block, its bytes so far show that the peer is not silent.
    pub fn note_partial_block(&self, frame: &[u8]) {
        if frame.len() <= PIECE_HEADER_LENGTH || frame[4] != PIECE_ID {
            return;
        }
        let mut requests = self.peer.requesting.pipeline.lock();
        let deadline = requests.next_deadline();
        requests.note_partial_block(self.context.now(), (frame.len() - PIECE_HEADER_LENGTH) as u64);
        if requests.next_deadline() < deadline {
            self.peer.requesting.deadline_moved.notify_all();
        }
    }

    /// Near the end of the download, the same blocks were requested from other peers too: cancels those requests.
    fn cancel_elsewhere(&mut self) {
        for (key, block) in self.decisions.cancels.drain(..) {
            if let Some(other) = self.context.roster.get(key)
                && other.requesting.pipeline.lock().remove(&block)
            {
                other.send(WriterCommand::Cancel(block));
                other.refill(self.context);
            }
        }
    }

    /// Whether another thread is writing to the file of the first block.
    fn is_file_busy(&self) -> bool {
        let storage = self.context.pieces.storage();
        let first = self.blocks.first();
        first.is_some_and(|(b, _)| storage.is_being_written(storage.layout().offset(b.piece, b.begin)))
    }

    /// Writes each run of blocks that are adjacent on disk in one call.
    fn write(&self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        let storage = self.context.pieces.storage();
        let layout = storage.layout();
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(self.blocks.len());
        let mut blocks = self.blocks.iter().peekable();
        let (mut start, mut end) = (0, 0);
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
                    self.context.send_to_main(PeerEvent::Storage(error));
                    return Err(DisconnectReason::Disk);
                }
                slices.clear();
            }
        }
        debug_assert!(end >= start);
        Ok(())
    }

    /// Updates the running hashes with the blocks that continue them.
    fn hash(&mut self, bytes: &[u8]) {
        for (block, range) in &self.blocks {
            if block.begin == 0 && self.batch_size.is_none() {
                if self.hashes.len() >= MAX_HASHES {
                    self.hashes.clear(); // left over from pieces that other connections completed
                }
                self.hashes.insert(block.piece, RunningHash { sha: Sha1Stream::new(), upto: 0 });
            }
            if let Some(running) = self.hashes.get_mut(&block.piece)
                && running.upto == block.begin
            {
                running.sha.update(&bytes[range.clone()]);
                running.upto += block.length;
            }
        }
    }

    /// All blocks of a piece are written: hashes the bytes that the running hash does not cover, and settles the piece. Or lets it
    /// wait for others.
    fn finish(&mut self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        let storage = self.context.pieces.storage();
        let size = storage.layout().piece_size(piece);
        let running = self.hashes.remove(&piece);
        let hash = match running {
            Some(running) if running.upto == size => running.sha.finish(),
            _ if self.batch_size.is_some() => {
                self.batch.push(self.context.now(), piece);
                return Ok(());
            }
            running => {
                let running = running.unwrap_or(RunningHash { sha: Sha1Stream::new(), upto: 0 });
                let mut slab = self.context.slabs.take();
                self.or_disconnect(hash_range(storage, piece, running.upto, running.sha, &mut slab))?
            }
        };
        self.settle(piece, hash)
    }

    /// Reads the waiting pieces back, hashes them together and settles them.
    ///
    /// # Errors
    /// If the disk fails; main has then been told.
    pub fn hash_batch(&mut self) -> Result<(), DisconnectReason> {
        let storage = self.context.pieces.storage();
        let layout = storage.layout();
        let pieces = self.batch.take();
        // With many fast peers at once, most get a small buffer, so that memory does not grow with their number.
        let large = self.context.batch_slabs.take_within(BATCH_SLABS);
        let most = if large.is_some() { pieces.len() } else { SLAB / LANE_BYTES };
        let mut slab = large.unwrap_or_else(|| self.context.slabs.take());
        let mut lanes = PieceLanes::new(most);
        let mut waiting = pieces.into_iter();
        loop {
            while lanes.has_room()
                && let Some(piece) = waiting.next()
            {
                let start = layout.offset(piece, 0);
                lanes.push(piece.0, start..start + u64::from(layout.piece_size(piece)));
            }
            if lanes.is_empty() {
                return Ok(());
            }
            for left in lanes.advance(&mut slab, |offset, part| storage.read_exact_at(offset, part)) {
                self.settle(PieceIndex(left.piece), self.or_disconnect(left.result)?)?;
            }
        }
    }

    /// Compares the hash of a complete piece, and tells everybody concerned.
    fn settle(&self, piece: PieceIndex, hash: Sha1Hash) -> Result<(), DisconnectReason> {
        let is_valid = self.context.pieces.hash(piece) == Some(hash);
        if !is_valid {
            self.or_disconnect(self.context.pieces.check_not_edited(piece))?;
            self.record_failed_blocks(piece)?;
            self.or_disconnect(self.context.pieces.storage().erase_piece(piece))?;
        }
        let verdict = self.context.pieces.piece_hashed(piece, is_valid);
        if !is_valid {
            let has_resumed_blocks = verdict.restored > 0;
            self.context.send_to_main(PeerEvent::PieceFailed { piece, senders: verdict.senders, has_resumed_blocks });
            refill_idle_peers(self.context);
            return Ok(());
        }
        // Seeds get HAVEs too: other clients show our progress by them, and ban tools take a peer without progress for a
        // cheater.
        for other in self.context.roster.all() {
            other.queue_have(piece);
        }
        for other in self.context.roster.get_all(&verdict.no_longer_wanted) {
            other.refresh_interest(self.context);
        }
        self.find_corrupt_senders(piece)?;
        if self.context.pieces.is_complete() {
            self.context.send_to_main(PeerEvent::Complete);
        }
        Ok(())
    }

    /// A piece with blocks of several peers failed: records who sent which block, before the piece can be written again.
    fn record_failed_blocks(&self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        let pieces = &self.context.pieces;
        let block_senders = pieces.block_senders(piece);
        if !block_senders.is_empty() {
            pieces.record_failed_blocks(piece, &block_senders, &self.block_hashes(piece)?);
        }
        Ok(())
    }

    /// A piece passed its hash check. If it had failed before, the comparison shows who sent wrong blocks.
    fn find_corrupt_senders(&self, piece: PieceIndex) -> Result<(), DisconnectReason> {
        let pieces = &self.context.pieces;
        if pieces.has_failed_before(piece) {
            let senders = pieces.find_corrupt_senders(piece, &self.block_hashes(piece)?);
            if !senders.is_empty() {
                self.context.send_to_main(PeerEvent::CorruptSendersFound { piece, senders });
            }
        }
        Ok(())
    }

    /// The SHA-1 of each block of a piece, read from disk.
    fn block_hashes(&self, piece: PieceIndex) -> Result<Vec<Sha1Hash>, DisconnectReason> {
        self.or_disconnect(hash_blocks(self.context.pieces.storage(), piece, &mut self.context.slabs.take()))
    }

    /// If the disk failed, tells main and ends the connection.
    fn or_disconnect<T>(&self, result: Result<T, StorageError>) -> Result<T, DisconnectReason> {
        result.map_err(|error| {
            self.context.send_to_main(PeerEvent::Storage(error));
            DisconnectReason::Disk
        })
    }
}

#[cfg(test)]
mod tests;
