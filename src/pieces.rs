//! The piece manager: one short lock around the picker, beside the storage and the hashes.
//!
//! Reader threads come here a few times per slab of received bytes, never once per block: *accept* (which of these blocks may be
//! written, and what to ask for next), *written* (is a piece whole now), and *settle* at a piece's end. Neither disk nor hash
//! is touched while the lock is held; who completes a piece hashes it, on the thread that received it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::storage::{Storage, StorageError};
use crate::strategy::picker::{Accept, Asking, Picker, PieceVerdict, Plan, Progress};
use crate::strategy::pipeline::PipelineDepth;
use crate::strategy::smart_ban::SmartBan;
use crate::types::{BLOCK_SIZE, Bitfield, BlockRequest, PartialPiece, PeerKey, PieceHash, PieceIndex};
use crate::util::random;

/// The torrent's pieces: which are there, which are under way, who may write what.
pub struct PieceManager {
    picker: Mutex<Picker>,
    /// Changed under the picker's lock only.
    failures: AtomicU64,
    storage: Arc<Storage>,
    hashes: Vec<PieceHash>,
    wasted: AtomicU64,
    /// What was in pieces that were wrong with blocks of several peers.
    smart_ban: Mutex<SmartBan>,
}

/// What became of a batch of received blocks.
#[derive(Default)]
pub struct Accepted {
    /// For each block, in order, whether it is to be written.
    pub take: Vec<bool>,
    /// Requests of other peers that have become needless.
    pub cancels: Vec<(PeerKey, BlockRequest)>,
    /// How many pieces were wrong so far. Where this has grown, a running hash may be of bytes that were thrown away.
    pub failures: u64,
}

impl PieceManager {
    /// For a torrent of which the pieces in `have` are on disk and right. All others are wanted.
    pub fn new(storage: Arc<Storage>, hashes: Vec<PieceHash>, have: Bitfield) -> PieceManager {
        let all = Plan::all(hashes.len() as u32);
        PieceManager::with_plan(storage, hashes, have, all)
    }

    /// The same, where only some pieces are wanted, or some before others. Those that are there are served in any case.
    pub fn with_plan(storage: Arc<Storage>, hashes: Vec<PieceHash>, have: Bitfield, plan: Plan) -> PieceManager {
        let layout = storage.layout();
        let mut picker = Picker::new(layout.piece_length(), layout.total(), have, random::u64());
        picker.set_plan(plan);
        picker.set_padding(layout.padding());
        PieceManager {
            picker: Mutex::new(picker),
            failures: AtomicU64::new(0),
            storage,
            hashes,
            wasted: AtomicU64::new(0),
            smart_ban: Mutex::new(SmartBan::default()),
        }
    }

    /// The files.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// See [`Storage::recheck_changed`].
    ///
    /// # Errors
    /// As there.
    pub fn recheck_changed(&self, stop: &AtomicBool) -> Result<(), StorageError> {
        self.storage.recheck_changed(&self.hashes, stop)
    }

    /// How many pieces there are.
    pub fn count(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// The hash that a piece must have.
    pub fn hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.hashes.get(piece.at()).copied()
    }

    /// Payload bytes that came in vain.
    pub fn wasted(&self) -> u64 {
        self.wasted.load(Ordering::Relaxed)
    }

    /// Counts payload bytes that were of no use.
    pub fn waste(&self, bytes: u64) {
        self.wasted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes in pieces that are wanted and still to be verified.
    pub fn left(&self) -> u64 {
        self.picker.lock().left_bytes()
    }

    /// The bytes in all pieces that are not verified, wanted or not: what a tracker calls `left`.
    pub fn missing(&self) -> u64 {
        self.picker.lock().missing_bytes()
    }

    /// The bytes in pieces that are wanted, verified or not.
    pub fn wanted(&self) -> u64 {
        self.picker.lock().wanted_bytes()
    }

    /// Whether every piece that is wanted is there: we are done.
    pub fn is_complete(&self) -> bool {
        self.picker.lock().is_complete()
    }

    /// Whether every piece of the torrent is there: we are a seed.
    pub fn is_seed(&self) -> bool {
        self.picker.lock().is_seed()
    }

    /// Whether we are done without being a seed (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        let picker = self.picker.lock();
        picker.is_complete() && !picker.is_seed()
    }

    /// How many pieces are there.
    pub fn have_count(&self) -> u32 {
        self.picker.lock().have().count()
    }

    /// The pieces that are there.
    pub fn have(&self) -> Bitfield {
        self.picker.lock().have().clone()
    }

    /// Whether this piece is there and may be served.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.picker.lock().have().has(piece)
    }

    /// Takes up what an earlier session received of pieces that are not complete, and left on disk. To be called before there are
    /// peers.
    pub fn restore(&self, partial: &[PartialPiece]) {
        let mut picker = self.picker.lock();
        for partial in partial {
            picker.restore(partial);
        }
    }

    /// What the resume data has of the pieces, at one moment: those that are there, and the blocks on disk of those that are begun.
    pub fn to_resume(&self) -> (Bitfield, Vec<PartialPiece>) {
        let picker = self.picker.lock();
        (picker.have().clone(), picker.partial_pieces())
    }

    /// How many pieces are there, and how many blocks are on disk of those that are begun.
    pub fn progress_count(&self) -> (u32, u64) {
        let picker = self.picker.lock();
        (picker.have().count(), picker.received_blocks())
    }

    /// Keeps of what a peer asks for that which may be served: nothing unverified ever is. The rest goes to `refused`.
    pub fn retain_servable(&self, requested: &mut Vec<BlockRequest>, refused: &mut Vec<BlockRequest>) {
        let picker = self.picker.lock();
        let have = picker.have();
        refused.extend(requested.extract_if(.., |block| !have.has(block.piece)));
    }

    /// Keeps of these pieces those that are there.
    pub fn retain_owned(&self, pieces: &mut Vec<PieceIndex>) {
        let picker = self.picker.lock();
        pieces.retain(|piece| picker.have().has(*piece));
    }

    /// Our bitfield as it travels, or `None` while we have nothing. The peer is entered in the same breath, so that no HAVE
    /// falls between.
    pub fn join(&self, peer: PeerKey) -> Option<Vec<u8>> {
        let mut picker = self.picker.lock();
        picker.add_peer(peer);
        let have = picker.have();
        (have.count() > 0).then(|| have.as_bytes().to_vec())
    }

    /// The peer is gone: what it was asked for is free again.
    pub fn leave(&self, peer: PeerKey) {
        self.picker.lock().remove_peer(peer);
    }

    /// The peer's bitfield; false, and nothing changes, where it lacks a piece that the peer has claimed before.
    pub fn bitfield(&self, peer: PeerKey, bits: Bitfield) -> bool {
        let mut picker = self.picker.lock();
        let keeps = picker.peer_bitfield(peer).is_none_or(|before| before.is_within(&bits));
        if keeps {
            picker.set_bitfield(peer, bits);
        }
        keeps
    }

    /// The peer has got a piece; whether it has something that we want.
    pub fn peer_has(&self, peer: PeerKey, piece: PieceIndex) -> bool {
        let mut picker = self.picker.lock();
        picker.peer_has(peer, piece);
        picker.wants(peer)
    }

    /// Whether the peer has something that we want.
    pub fn wants(&self, peer: PeerKey) -> bool {
        self.picker.lock().wants(peer)
    }

    /// Whether both sides have all that they want, so that the connection serves nobody: we are done, and the peer has
    /// everything or said that it wants nothing (`upload_only`, BEP 21).
    pub fn is_redundant(&self, peer: PeerKey, upload_only: bool) -> bool {
        let picker = self.picker.lock();
        picker.is_complete() && (upload_only || picker.peer_is_seed(peer))
    }

    /// Whether the peer has everything.
    pub fn peer_is_seed(&self, peer: PeerKey) -> bool {
        self.picker.lock().peer_is_seed(peer)
    }

    /// How much of the torrent the peer has, 0 to 1.
    pub fn share(&self, peer: PeerKey) -> f64 {
        let picker = self.picker.lock();
        picker.peer_bitfield(peer).map_or(0.0, |b| f64::from(b.count()) / f64::from(b.len().max(1)))
    }

    /// Picks up to `n` blocks to ask this peer for. Where not much is left, a peer that brings `share` (0 to 1) of all that comes is
    /// asked for its part of it. Returns when to pick again for a peer that has nothing to do; see [`Picker::pick`].
    pub fn pick(
        &self,
        peer: PeerKey,
        n: usize,
        asking: Asking,
        pipeline_depth: PipelineDepth,
        share: f64,
        out: &mut Vec<BlockRequest>,
    ) -> Option<Duration> {
        let mut picker = self.picker.lock();
        let n = pipeline_depth.limit(n, picker.lacking_blocks(), share);
        picker.pick(peer, n, asking, out)
    }

    /// Picks up to `n` blocks of these pieces, which the peer lets us have although it chokes us (BEP 6).
    pub fn pick_within(
        &self,
        peer: PeerKey,
        n: usize,
        asking: Asking,
        pieces: &[PieceIndex],
        out: &mut Vec<BlockRequest>,
    ) {
        self.picker.lock().pick_within(peer, n, asking, pieces, out);
    }

    /// Decides which received blocks are to be written; nobody else writes those until `written` or `leave`.
    pub fn accept(&self, peer: PeerKey, blocks: impl Iterator<Item = BlockRequest>, accepted: &mut Accepted) {
        accepted.take.clear();
        accepted.cancels.clear();
        let mut wasted = 0;
        {
            let mut picker = self.picker.lock();
            accepted.failures = self.failures.load(Ordering::Relaxed);
            for block in blocks {
                let take = picker.accept(peer, block, &mut accepted.cancels) == Accept::Take;
                accepted.take.push(take);
                wasted += if take { 0 } else { u64::from(block.length) };
            }
        }
        if wasted > 0 {
            self.waste(wasted);
        }
    }

    /// The blocks are on disk; the pieces that are whole now are to be hashed by the caller, then settled.
    pub fn written(&self, peer: PeerKey, blocks: impl Iterator<Item = BlockRequest>, whole: &mut Vec<PieceIndex>) {
        let mut picker = self.picker.lock();
        whole.extend(blocks.filter_map(|block| picker.written(peer, block)));
    }

    /// Who sent each block of a piece that is whole and not yet settled, `None` standing for a peer of an earlier session; empty
    /// where one peer sent them all.
    pub fn block_senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        self.picker.lock().block_senders(piece)
    }

    /// A piece was wrong: `block_senders` sent its blocks, whose SHA-1 are `block_hashes`. To be called before it is settled, so that nobody
    /// has it right before this is known.
    pub fn record_failed_blocks(
        &self,
        piece: PieceIndex,
        block_senders: &[Option<PeerKey>],
        block_hashes: &[PieceHash],
    ) {
        self.smart_ban.lock().record_failure(piece, block_senders, block_hashes);
    }

    /// Whether the piece was wrong with blocks of several peers, so that its blocks are to be compared once it is right.
    pub fn is_suspected(&self, piece: PieceIndex) -> bool {
        self.failures.load(Ordering::Relaxed) > 0 && self.smart_ban.lock().has_failed(piece)
    }

    /// The piece is right, and these are the SHA-1 of its blocks: who sent others before, each once.
    pub fn find_liars(&self, piece: PieceIndex, block_hashes: &[PieceHash]) -> Vec<PeerKey> {
        self.smart_ban.lock().find_liars(piece, block_hashes)
    }

    /// A piece was hashed: says whom to tell.
    pub fn settle(&self, piece: PieceIndex, is_valid: bool) -> PieceVerdict {
        let mut picker = self.picker.lock();
        let verdict = picker.verified(piece, is_valid);
        self.failures.fetch_add(u64::from(!is_valid), Ordering::Relaxed);
        let restored = u64::from(verdict.restored) * u64::from(BLOCK_SIZE);
        let size = u64::from(picker.piece_size(piece)).saturating_sub(restored);
        drop(picker);
        if !is_valid {
            self.waste(size);
        }
        verdict
    }

    /// The peer will not answer these (it chokes us): they are free for others.
    pub fn release(&self, peer: PeerKey, blocks: &[BlockRequest]) {
        self.picker.lock().release(peer, blocks);
    }

    /// The peer did not answer these in time: other peers are asked for them first. `snubbed`: it answers no request at all.
    pub fn expire(&self, peer: PeerKey, blocks: &[BlockRequest], snubbed: bool) {
        let mut picker = self.picker.lock();
        picker.expire(peer, blocks);
        if snubbed {
            picker.snub(peer);
        }
    }

    /// The state of every piece, for a view.
    pub fn progress(&self, out: &mut Vec<Progress>) {
        self.picker.lock().piece_states(out);
    }
}

#[cfg(test)]
mod tests;
