//! In which order pieces are downloaded, and who is told of verified ones.

use std::ops::Range;

use crate::pieces::PieceManager;
use crate::strategy::picker::PiecePriorities;
use crate::types::{BLOCK_SIZE, BlockInfo, PeerKey, PieceIndex};

/// How many pieces are looked at in one call, so that the picker's lock is held for microseconds.
const MAX_SCAN: usize = 4096;

impl PieceManager {
    /// Calls `hook` for each piece that is verified from now on, without a lock held. Only the first call has an effect.
    pub fn on_verified(&self, hook: impl Fn(PieceIndex) + Send + Sync + 'static) {
        let _ = self.verified_hook.set(Box::new(hook));
    }

    /// Sets whether pieces of the same priority are downloaded in ascending order.
    pub fn set_sequential(&self, is_sequential: bool) {
        self.picker.lock().set_sequential(is_sequential);
    }

    /// Sets which pieces come before others.
    pub fn set_priorities(&self, priorities: Option<PiecePriorities>) {
        self.picker.lock().set_priorities(priorities);
    }

    /// Sets the pieces that all peers work on first, most urgent first.
    pub fn set_urgent(&self, pieces: impl IntoIterator<Item = PieceIndex>) {
        self.picker.lock().set_urgent(pieces);
    }

    /// Records a seek: a stream needs other pieces than before, and waits for the first of them. They have been set as urgent.
    pub fn note_seek(&self) {
        self.seeks.add(1);
    }

    /// How often [`PieceManager::note_seek`] was called.
    pub fn seek_count(&self) -> u64 {
        self.seeks.get()
    }

    /// The urgent pieces, if the peer has one of them; otherwise none.
    pub fn most_urgent_for(&self, peer: PeerKey) -> Vec<PieceIndex> {
        self.picker.lock().most_urgent_for(peer)
    }

    /// Frees blocks whose requests we cancelled. Unlike [`PieceManager::release`], it keeps the owners of the pieces.
    pub fn release_cancelled(&self, peer: PeerKey, blocks: &[BlockInfo]) {
        self.picker.lock().release_cancelled(peer, blocks);
    }

    /// Writes to `out` how many connected peers have each piece.
    pub fn availability(&self, out: &mut Vec<u16>) {
        self.picker.lock().availability(out);
    }

    /// Bytes on disk in wanted pieces that are not verified.
    pub fn unverified_bytes(&self) -> u64 {
        let picker = self.picker.lock();
        (picker.received_blocks() * u64::from(BLOCK_SIZE)).min(picker.missing_wanted_bytes())
    }

    /// How many pieces from the start of the range on are verified without a gap. Looks at 4,096 pieces at most.
    pub fn verified_run(&self, pieces: Range<u32>) -> u32 {
        let picker = self.picker.lock();
        let run = pieces.take(MAX_SCAN).map(PieceIndex).take_while(|&piece| picker.have().has(piece));
        run.count() as u32
    }

    /// The first `most` pieces of the range that are wanted and not verified. Looks at 4,096 pieces at most.
    pub fn missing_wanted_in(&self, pieces: Range<u32>, most: usize) -> Vec<PieceIndex> {
        let picker = self.picker.lock();
        let missing = pieces.take(MAX_SCAN).map(PieceIndex).filter(|&piece| picker.is_missing_wanted(piece));
        missing.take(most).collect()
    }
}
