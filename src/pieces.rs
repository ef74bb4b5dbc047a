//! The piece manager: the picker behind one short lock, together with the storage and the piece hashes.
//!
//! Reader threads lock the picker a few times per slab of received bytes, never once per block: *accept* (which blocks to write),
//! *pick* (what to request next), *written* (which pieces are complete now), and *piece hashed* (whether the hash is right).
//! Nobody does disk I/O or hashing while holding the lock. The thread that receives the last block of a piece hashes it.

mod content;
mod order;
mod peers;
mod serving;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::storage::{StopCheck, Storage, StorageError};
use crate::strategy::picker::{BlockVerdict, PickContext, Picker, PieceVerdict, Plan};
use crate::strategy::pipeline::EndGameLimit;
use crate::strategy::smart_ban::SmartBan;
use crate::types::{BLOCK_SIZE, Bitfield, BlockInfo, PartialPiece, PeerKey, PieceIndex, PieceState, Sha1Hash};
use crate::util::atomics::Counter;
use crate::util::random;

/// The torrent's pieces: which ones we have, which ones are being downloaded, and which peer may write which block.
pub struct PieceManager {
    picker: Mutex<Picker>,
    /// How often blocks on disk were discarded, because a piece failed verification or another peer took it over. Changed only
    /// while the picker's lock is held.
    discards: Counter,
    storage: Arc<Storage>,
    hashes: Vec<Sha1Hash>,
    wasted: Counter,
    /// The block hashes of failed pieces with blocks from several peers.
    smart_ban: Mutex<SmartBan>,
    /// Pieces with blocks that were on disk when another program changed the time of their file, so that it may have edited them.
    possibly_edited: Mutex<HashSet<PieceIndex>>,
    /// How often a stream seeked to pieces that are not verified.
    seeks: Counter,
    /// Told of each piece that is verified.
    verified_hook: OnceLock<Box<dyn Fn(PieceIndex) + Send + Sync>>,
}

/// The picker's decision about a batch of received blocks.
#[derive(Default)]
pub struct BlockDecisions {
    /// For each block, in order, whether to write it.
    pub take: Vec<bool>,
    /// Requests to other peers that this batch made redundant.
    pub cancels: Vec<(PeerKey, BlockInfo)>,
    /// How often blocks on disk have been discarded so far. If the number has grown, a running hash may cover them.
    pub discards: u64,
}

impl PieceManager {
    /// Creates a manager for a torrent whose pieces in `have` are on disk and verified. All other pieces are wanted.
    pub fn new(storage: Arc<Storage>, hashes: Vec<Sha1Hash>, have: Bitfield) -> PieceManager {
        let all = Plan::all(hashes.len() as u32);
        PieceManager::with_plan(storage, hashes, have, all)
    }

    /// Like [`PieceManager::new`], with a plan that deselects pieces or orders them by priority. We serve verified pieces whether
    /// they are wanted or not.
    pub fn with_plan(storage: Arc<Storage>, hashes: Vec<Sha1Hash>, have: Bitfield, plan: Plan) -> PieceManager {
        let layout = storage.layout();
        let mut picker = Picker::new(layout.piece_length(), layout.total(), have, random::u64());
        picker.set_plan(plan);
        picker.set_padding(layout.padding());
        PieceManager {
            picker: Mutex::new(picker),
            discards: Counter::default(),
            storage,
            hashes,
            wasted: Counter::default(),
            smart_ban: Mutex::new(SmartBan::default()),
            possibly_edited: Mutex::default(),
            seeks: Counter::default(),
            verified_hook: OnceLock::new(),
        }
    }

    /// The torrent's files.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// See [`Storage::recheck_changed`].
    ///
    /// # Errors
    /// As [`Storage::recheck_changed`].
    pub fn recheck_changed(&self, stop: &dyn StopCheck) -> Result<(), StorageError> {
        self.storage.recheck_changed(&self.hashes, stop)
    }

    /// The number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// The piece's expected hash.
    pub fn hash(&self, piece: PieceIndex) -> Option<Sha1Hash> {
        self.hashes.get(piece.as_usize()).copied()
    }

    /// Wasted payload bytes so far: duplicate, unwanted or failed data.
    pub fn wasted(&self) -> u64 {
        self.wasted.get()
    }

    /// The first of these pieces that is wanted and not verified.
    pub fn first_missing_wanted(&self, pieces: Range<u32>) -> Option<PieceIndex> {
        let picker = self.picker.lock();
        pieces.map(PieceIndex).find(|&piece| picker.is_missing_wanted(piece))
    }

    /// Adds to the count of wasted payload bytes.
    pub fn add_wasted(&self, bytes: u64) {
        self.wasted.add(bytes);
    }

    /// Bytes in wanted pieces that are not yet verified.
    pub fn missing_wanted_bytes(&self) -> u64 {
        self.picker.lock().missing_wanted_bytes()
    }

    /// Bytes in all unverified pieces, wanted or not: a tracker's `left`.
    pub fn missing_bytes(&self) -> u64 {
        self.picker.lock().missing_bytes()
    }

    /// Bytes in wanted pieces, verified or not.
    pub fn wanted_bytes(&self) -> u64 {
        self.picker.lock().wanted_bytes()
    }

    /// Whether every wanted piece is verified.
    pub fn is_complete(&self) -> bool {
        self.picker.lock().is_complete()
    }

    /// Whether every piece of the torrent is verified.
    pub fn is_seed(&self) -> bool {
        self.picker.lock().is_seed()
    }

    /// Whether we are complete without being a seed (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        let picker = self.picker.lock();
        picker.is_complete() && !picker.is_seed()
    }

    /// The verified pieces.
    #[cfg(any(test, feature = "internals"))]
    pub fn have(&self) -> Bitfield {
        self.picker.lock().have().clone()
    }

    /// Whether this piece is verified, so that we may serve it.
    #[cfg(any(test, feature = "internals"))]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.picker.lock().have().has(piece)
    }

    /// Restores partial pieces that an earlier run left on disk. Must be called before any peer is added.
    pub fn restore(&self, partial: &[PartialPiece]) {
        let mut picker = self.picker.lock();
        for partial in partial {
            picker.restore(partial);
        }
    }

    /// A consistent snapshot for the resume data: the verified pieces, and the blocks on disk of the partial pieces.
    pub fn to_resume(&self) -> (Bitfield, Vec<PartialPiece>) {
        let picker = self.picker.lock();
        (picker.have().clone(), picker.partial_pieces())
    }

    /// The number of verified pieces, and the number of blocks on disk in partial pieces.
    pub fn progress_count(&self) -> (u32, u64) {
        let picker = self.picker.lock();
        (picker.have().count(), picker.received_blocks())
    }

    /// Keeps the requests that we may serve, and moves those for unverified pieces to `refused`.
    pub fn retain_servable(&self, requested: &mut Vec<BlockInfo>, refused: &mut Vec<BlockInfo>) {
        let picker = self.picker.lock();
        let have = picker.have();
        refused.extend(requested.extract_if(.., |block| !have.has(block.piece)));
    }

    /// Keeps the pieces that we have verified.
    pub fn retain_verified(&self, pieces: &mut Vec<PieceIndex>) {
        let picker = self.picker.lock();
        pieces.retain(|piece| picker.have().has(*piece));
    }

    /// Picks up to `n` blocks to request from this peer. Near the end of the download, a peer that delivers `share` (0 to 1) of
    /// all incoming data gets only that share of the remaining blocks. Returns when to pick again for an idle peer; see
    /// [`Picker::pick`].
    pub fn pick(
        &self,
        peer: PeerKey,
        n: usize,
        pick_context: PickContext,
        end_game_limit: EndGameLimit,
        share: f64,
        out: &mut Vec<BlockInfo>,
    ) -> Option<Duration> {
        let mut picker = self.picker.lock();
        let n = end_game_limit.limit(n, picker.missing_wanted_blocks(), share);
        let again = picker.pick(peer, n, pick_context, out);
        let discarded = picker.take_discarded_bytes();
        if discarded > 0 {
            self.discards.add(1);
            self.add_wasted(discarded);
        }
        again
    }

    /// Picks up to `n` blocks from these pieces, which the peer serves even while it chokes us (allowed fast, BEP 6).
    pub fn pick_within(
        &self,
        peer: PeerKey,
        n: usize,
        pick_context: PickContext,
        pieces: &[PieceIndex],
        out: &mut Vec<BlockInfo>,
    ) {
        self.picker.lock().pick_within(peer, n, pick_context, pieces, out);
    }

    /// Decides which received blocks to write. Until [`PieceManager::written`], or until the peer is removed, no
    /// other peer's copy of an accepted block is written.
    pub fn accept(&self, peer: PeerKey, blocks: impl Iterator<Item = BlockInfo>, decisions: &mut BlockDecisions) {
        decisions.take.clear();
        decisions.cancels.clear();
        let mut wasted = 0;
        {
            let mut picker = self.picker.lock();
            decisions.discards = self.discards.get();
            for block in blocks {
                let take = picker.accept(peer, block, &mut decisions.cancels) == BlockVerdict::Take;
                decisions.take.push(take);
                wasted += if take { 0 } else { u64::from(block.length) };
            }
        }
        if wasted > 0 {
            self.add_wasted(wasted);
        }
    }

    /// Records that the blocks are on disk. The caller must hash each piece put into `unverified_pieces`, then call
    /// [`PieceManager::piece_hashed`].
    pub fn written(
        &self,
        peer: PeerKey,
        blocks: impl Iterator<Item = BlockInfo>,
        unverified_pieces: &mut Vec<PieceIndex>,
    ) {
        let mut picker = self.picker.lock();
        unverified_pieces.extend(blocks.filter_map(|block| picker.written(peer, block)));
    }

    /// The sender of each block of a complete piece whose hash has not been checked, with `None` for blocks from an earlier run. Empty if one peer
    /// sent them all.
    pub fn block_senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        self.picker.lock().block_senders(piece)
    }

    /// Records the blocks of a piece that failed verification: their senders and their SHA-1. Must be called before
    /// `piece_hashed`, so that no other thread verifies the piece before the evidence is stored.
    pub fn record_failed_blocks(
        &self,
        piece: PieceIndex,
        block_senders: &[Option<PeerKey>],
        block_hashes: &[Sha1Hash],
    ) {
        self.smart_ban.lock().record_failure(piece, block_senders, block_hashes);
    }

    /// Whether this piece failed before with blocks from several peers, so that its blocks must be compared once it verifies.
    pub fn has_failed_before(&self, piece: PieceIndex) -> bool {
        self.discards.get() > 0 && self.smart_ban.lock().has_failed(piece)
    }

    /// Compares the blocks of a verified piece with those recorded when it failed. Returns each peer that sent different data,
    /// once.
    pub fn find_corrupt_senders(&self, piece: PieceIndex, block_hashes: &[Sha1Hash]) -> Vec<PeerKey> {
        self.smart_ban.lock().find_corrupt_senders(piece, block_hashes)
    }

    /// Records the result of hashing a piece. The verdict lists the peers to notify.
    pub fn piece_hashed(&self, piece: PieceIndex, is_valid: bool) -> PieceVerdict {
        let mut picker = self.picker.lock();
        let verdict = picker.piece_hashed(piece, is_valid);
        self.discards.add(u64::from(!is_valid));
        let restored = u64::from(verdict.restored) * u64::from(BLOCK_SIZE);
        let size = u64::from(picker.piece_size(piece)).saturating_sub(restored);
        drop(picker);
        if !is_valid {
            self.add_wasted(size);
        } else if let Some(hook) = self.verified_hook.get() {
            hook(piece);
        }
        verdict
    }

    /// Frees blocks that the peer will not deliver because it chokes us.
    pub fn release(&self, peer: PeerKey, blocks: &[BlockInfo]) {
        self.picker.lock().release(peer, blocks);
    }

    /// Records that the peer did not deliver these blocks in time, so that other peers are asked first. `is_stalled`: see
    /// [`RequestPipeline::is_stalled`](crate::strategy::RequestPipeline::is_stalled).
    pub fn expire(&self, peer: PeerKey, blocks: &[BlockInfo], is_stalled: bool) {
        let mut picker = self.picker.lock();
        picker.expire(peer, blocks);
        if is_stalled {
            picker.mark_stalled(peer);
        }
    }

    /// When the web seed's pick is late; `None` if it has none.
    pub fn deadline(&self, web_seed: PeerKey) -> Option<Duration> {
        self.picker.lock().deadline(web_seed)
    }

    /// Takes the blocks of late web seeds back. Returns whether this web seed should still receive these blocks, because no other
    /// source has been asked for all of them.
    pub fn take_back_late(&self, now: Duration, web_seed: PeerKey, blocks: &[BlockInfo]) -> bool {
        let mut picker = self.picker.lock();
        picker.take_back_late(now);
        picker.are_left_to(web_seed, blocks)
    }

    /// Writes the state of every piece to `out`, for display.
    pub fn piece_states(&self, out: &mut Vec<PieceState>) {
        self.picker.lock().piece_states(out);
    }
}

#[cfg(test)]
mod tests;
