//! The path of received blocks, whoever sends them: accept → storage → hash → complete piece.
//!
//! Blocks received together are handled together: one short lock to learn which of them may be written, one `pwritev` for each
//! run of adjacent blocks, an update of the piece's running SHA-1, and one short lock to record them. Hashing comes first only if
//! another thread is writing to the same file. Pieces are read back for hashing if their blocks came out of order or from several
//! sources, or if the source is so fast that several complete pieces can be hashed at once.

use std::collections::HashMap;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

use crate::hash::{LANE_BYTES, PieceBytes, PieceLanes, Sha1Stream};
use crate::peer::connection::DisconnectReason;
use crate::peer::outbox::WriterCommand;
use crate::peer::piece_batch::PieceBatch;
use crate::peer::roster::refill_idle_peers;
use crate::peer::{BATCH_SLABS, PeerEvent, SLAB, TorrentContext};
use crate::pieces::BlockDecisions;
use crate::storage::{StorageError, hash_blocks, hash_range};
use crate::types::{BlockInfo, PeerKey, PieceIndex, Sha1Hash};

/// At most this many running hashes are kept; a peer that answers in order needs one.
const MAX_HASHES: usize = 8;
/// How many times a thread yields to others before it waits for a file that another thread is writing.
const YIELDS: usize = 8;

/// The block path of one source: a connection or a web seed.
pub struct BlockSink<'a> {
    context: &'a TorrentContext,
    key: PeerKey,
    /// Blocks noted since the last `store`, with the position of their bytes in the buffer.
    pub(super) blocks: Vec<(BlockInfo, Range<usize>)>,
    pub(super) decisions: BlockDecisions,
    /// Pieces of which all blocks are on disk, to be hashed.
    unverified_pieces: Vec<PieceIndex>,
    hashes: HashMap<PieceIndex, RunningHash>,
    /// Complete pieces that wait to be hashed together.
    batch: PieceBatch,
    /// How many pieces of this source to hash together; `None` if each block is hashed when it arrives.
    pub(super) batch_size: Option<usize>,
    /// How often blocks had been discarded when `hashes` was last valid.
    discards: u64,
}

/// The hash of the first `upto` bytes of a piece.
struct RunningHash {
    sha: Sha1Stream,
    upto: u32,
}

impl<'a> BlockSink<'a> {
    /// A sink that has received nothing yet.
    pub fn new(context: &'a TorrentContext, key: PeerKey) -> BlockSink<'a> {
        BlockSink {
            context,
            key,
            blocks: Vec::new(),
            decisions: BlockDecisions::default(),
            unverified_pieces: Vec::new(),
            hashes: HashMap::new(),
            batch: PieceBatch::default(),
            batch_size: None,
            discards: 0,
        }
    }

    /// Notes a block whose bytes are at `range` of the buffer that `store` will get.
    pub fn note(&mut self, block: BlockInfo, range: Range<usize>) {
        self.blocks.push((block, range));
    }

    /// Sets how fast the source is, in bytes a second.
    pub fn set_rate(&mut self, rate: u64) {
        self.batch_size = PieceBatch::size_for(rate, self.context.pieces.storage().layout().piece_length());
    }

    /// Writes and hashes those noted blocks that are to be written; call [`BlockSink::accept`] before.
    ///
    /// # Errors
    /// If the disk fails; main has then been told.
    pub fn store(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
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
        self.context.pieces.written(self.key, self.blocks.iter().map(|(b, _)| *b), &mut self.unverified_pieces);
        self.blocks.clear();
        for piece in std::mem::take(&mut self.unverified_pieces) {
            self.finish(piece)?;
        }
        Ok(())
    }

    /// Whether complete pieces should wait no longer for others.
    pub fn is_batch_due(&self, now: Duration) -> bool {
        self.batch.is_due(now, self.batch_size)
    }

    /// Whether complete pieces wait to be hashed.
    pub fn has_unhashed(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Asks the piece manager which blocks to write. Near the end of the download, the same blocks were requested from other
    /// sources too: cancels those requests.
    pub fn accept(&mut self) {
        self.context.pieces.accept(self.key, self.blocks.iter().map(|(b, _)| *b), &mut self.decisions);
        if self.discards != self.decisions.discards {
            // Blocks were discarded, so a running hash may no longer match the data on disk.
            self.discards = self.decisions.discards;
            self.hashes.clear();
        }
        for (key, block) in self.decisions.cancels.drain(..) {
            let Some(other) = self.context.roster.get(key) else {
                self.context.web_seeds.cancel(key, block);
                continue;
            };
            if other.requesting.pipeline.lock().remove(&block) {
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
                lanes.push(piece.0, PieceBytes::v1(start..start + u64::from(layout.piece_size(piece))));
            }
            if lanes.is_empty() {
                return Ok(());
            }
            for left in lanes.advance(&mut slab, |offset, part| storage.read_exact_at(offset, part)) {
                let hash = self.or_disconnect(left.result)?.sha1.unwrap_or_default();
                self.settle(PieceIndex(left.piece), hash)?;
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
