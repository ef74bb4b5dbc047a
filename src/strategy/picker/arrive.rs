//! What becomes of blocks that were asked for: they arrive and are written, are given back, or run out of time; and what
//! becomes of a piece once it is hashed.

use crate::strategy::picker::{Accept, Begun, BlockState, Picker, PieceVerdict, Speed};
use crate::types::{BlockRequest, PeerKey, PieceIndex};

/// So many blocks taken back from a peer are remembered, so that a late arrival is not taken for an unasked one.
const MAX_LOST: usize = 4096;

impl Begun {
    /// Takes back whatever `key` was asked for, is writing, or let expire. Returns how many blocks are free for that.
    pub(crate) fn forget(&mut self, key: PeerKey) -> usize {
        let mut freed = 0;
        for at in 0..self.blocks().len() {
            match self.get(at) {
                Some(BlockState::Asked { .. }) => {
                    self.unask(at, key, BlockState::Free);
                }
                Some(BlockState::Writing(by) | BlockState::Expired(by)) if by == key => self.set(at, BlockState::Free),
                _ => continue,
            }
            freed += usize::from(matches!(self.get(at), Some(BlockState::Free)));
        }
        freed
    }
}

impl Picker {
    /// A block arrived from the peer: may it be written? `Take` makes it this peer's to write, and appends to `cancels` those
    /// that were asked for it too: send them `cancel`. A block that was taken back from this peer and comes late is welcome
    /// while nobody else has it.
    pub fn accept(&mut self, key: PeerKey, block: BlockRequest, cancels: &mut Vec<(PeerKey, BlockRequest)>) -> Accept {
        let piece = block.piece;
        let (Ok(peer), Some(at)) = (self.find(key), self.geometry.at(&block)) else { return Accept::Unasked };
        let lost = &mut self.peers[peer].lost;
        let late = !lost.is_empty() && lost.remove(&(piece, at));
        if self.have.has(piece) {
            return Accept::Duplicate;
        }
        if late && self.order.unbegun().has(piece) {
            self.begin(piece, None);
        }
        let Some(begun) = self.begun.get_mut(&piece) else { return Accept::Unasked };
        match begun.get(at) {
            Some(BlockState::Received(_) | BlockState::Writing(_)) => return Accept::Duplicate,
            Some(BlockState::Asked { askers, .. }) if late || askers.contains(key) => {
                cancels.extend(askers.keys().iter().filter(|&&k| k != key).map(|&k| (k, block)));
            }
            Some(BlockState::Free | BlockState::Expired(_)) if late => {}
            _ => return Accept::Unasked,
        }
        begun.set(at, BlockState::Writing(key));
        self.settle(piece);
        Accept::Take
    }

    /// An accepted block is on disk. Names the piece where that made it whole: the caller hashes it and calls
    /// [`Picker::verified`].
    pub fn written(&mut self, key: PeerKey, block: BlockRequest) -> Option<PieceIndex> {
        let at = self.writing(key, &block)?;
        let begun = self.begun.get_mut(&block.piece)?;
        let whole = begun.receive(at, key);
        self.received += 1;
        self.settle(block.piece);
        whole.then_some(block.piece)
    }

    /// An accepted block could not be written: it is free again.
    pub fn write_failed(&mut self, key: PeerKey, block: BlockRequest) {
        if let Some(at) = self.writing(key, &block)
            && let Some(begun) = self.begun.get_mut(&block.piece)
        {
            begun.set(at, BlockState::Free);
            self.settle(block.piece);
        }
    }

    /// Which block of its piece this is, where it is this peer's to write.
    fn writing(&self, key: PeerKey, block: &BlockRequest) -> Option<usize> {
        let at = self.geometry.at(block)?;
        let begun = self.begun.get(&block.piece)?;
        matches!(begun.get(at), Some(BlockState::Writing(by)) if by == key).then_some(at)
    }

    /// Who sent each block of a piece that is whole and not yet `verified`, `None` standing for a peer of an earlier session;
    /// empty where one peer sent them all.
    pub fn block_senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        let shared = self.begun.get(&piece).filter(|begun| begun.senders.len() > 1 || begun.restored > 0);
        shared.and_then(Begun::block_senders).unwrap_or_default()
    }

    /// A whole piece was hashed. With `ok` it is ours; otherwise it is thrown away, missing and unbegun again. A piece that was
    /// not waiting for this changes nothing.
    pub fn verified(&mut self, piece: PieceIndex, ok: bool) -> PieceVerdict {
        let mut verdict = PieceVerdict::default();
        if !self.begun.get(&piece).is_some_and(|begun| begun.verifying) {
            return verdict;
        }
        self.received -= u64::from(self.blocks_of(piece));
        let begun = if ok { self.begun.remove(&piece) } else { self.unbegin(piece) };
        (verdict.senders, verdict.restored) = begun.map(|begun| (begun.senders, begun.restored)).unwrap_or_default();
        if !ok {
            if verdict.senders.len() > 1 || verdict.restored > 0 {
                self.doubtful.insert(piece);
            }
            return verdict;
        }
        self.doubtful.remove(&piece);
        self.have.set(piece);
        self.lacks.clear(piece);
        if !self.early.is_empty() {
            self.early.retain(|&early| early != piece);
        }
        let size = u64::from(self.geometry.size(piece));
        (self.left, self.missing) = (self.left - size, self.missing - size);
        // Without a branch on what the peer has, which is as good as random: it would cost more than the rest.
        for peer in &mut self.peers {
            let has = peer.bits.is_full() || peer.bits.has(piece);
            peer.wanted -= u32::from(has);
            if peer.wanted == 0 && has {
                verdict.no_longer_wanted.push(peer.key);
            }
        }
        verdict
    }

    /// The peer choked us, rejected these, or is about to go: what was asked of it is free again, and so are the pieces that it
    /// owned; call it even when nothing is outstanding. Returns how many blocks are free for that.
    pub fn release(&mut self, key: PeerKey, blocks: &[BlockRequest]) -> usize {
        let freed = self.take_back(key, blocks, BlockState::Free);
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(self.begun.iter().filter(|(_, begun)| begun.owner == Some(key)).map(|(&piece, _)| piece));
        touched.drain(..).for_each(|piece| self.disown(key, piece));
        self.touched = touched;
        freed
    }

    /// The time of these ran out: free again, and first in line for others; this peer gets them back only where it is alone.
    /// Returns how many blocks are free for that.
    pub fn expire(&mut self, key: PeerKey, blocks: &[BlockRequest]) -> usize {
        for block in blocks {
            self.doubtful.remove(&block.piece);
        }
        self.take_back(key, blocks, BlockState::Expired(key))
    }

    /// Nothing comes from the peer any more, and what it was asked for is taken back: it owns nothing, and keeps nobody from asking
    /// for what it is asked for from now on. Its next pick may say otherwise.
    pub fn snub(&mut self, key: PeerKey) {
        let Ok(peer) = self.find(key) else { return };
        self.peers[peer].asking.speed = Speed::Snubbed;
        let owned = self.begun.iter().filter(|(_, begun)| begun.owner == Some(key)).map(|(&piece, _)| piece);
        let owned: Vec<PieceIndex> = owned.collect();
        for piece in owned {
            self.disown(key, piece);
        }
    }

    fn take_back(&mut self, key: PeerKey, blocks: &[BlockRequest], then: BlockState) -> usize {
        let Ok(peer) = self.find(key) else { return 0 };
        let mut freed = 0;
        for block in blocks {
            let Some(at) = self.geometry.at(block) else { continue };
            let Some(begun) = self.begun.get_mut(&block.piece) else { continue };
            if !begun.unask(at, key, then) {
                continue;
            }
            freed += usize::from(!matches!(begun.get(at), Some(BlockState::Asked { .. })));
            let lost = &mut self.peers[peer].lost;
            if lost.len() >= MAX_LOST {
                lost.clear();
            }
            lost.insert((block.piece, at));
            self.disown(key, block.piece);
        }
        freed
    }

    /// The peer no longer owns the piece.
    fn disown(&mut self, key: PeerKey, piece: PieceIndex) {
        if let Some(begun) = self.begun.get_mut(&piece)
            && begun.owner == Some(key)
        {
            begun.owner = None;
        }
        self.settle(piece);
    }
}
