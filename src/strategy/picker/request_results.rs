//! What happens to requested blocks (they arrive and are written, are returned, or expire) and to a piece once it is hashed.

use crate::strategy::picker::{BegunPiece, BlockState, BlockVerdict, Picker, PieceVerdict, Speed, common};
use crate::types::{BlockInfo, PeerKey, PieceIndex};

/// How many blocks taken back from a peer are remembered, so that a late arrival does not count as unrequested.
const MAX_TAKEN_BACK: usize = 4096;

impl BegunPiece {
    /// Takes back all blocks that `key` was asked for, is writing, or let expire. Returns how many become free.
    pub(crate) fn forget(&mut self, key: PeerKey) -> usize {
        let mut freed = 0;
        for at in 0..self.blocks().len() {
            match self.get(at) {
                Some(BlockState::Requested { .. }) => {
                    self.remove_request(at, key, BlockState::Free);
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
    /// Decides whether a block that arrived from the peer may be written. With `Take` this peer's copy is the one to write, and
    /// `cancels` receives the peers that were asked for it too: send them `cancel`. A block that was taken back from this peer is
    /// still accepted if no other copy has arrived.
    pub fn accept(&mut self, key: PeerKey, block: BlockInfo, cancels: &mut Vec<(PeerKey, BlockInfo)>) -> BlockVerdict {
        let piece = block.piece;
        let (Ok(peer), Some(at)) = (self.find(key), self.geometry.block_index(&block)) else {
            return BlockVerdict::Unrequested;
        };
        let taken_back = &mut self.peers[peer].taken_back;
        let late = !taken_back.is_empty() && taken_back.remove(&(piece, at));
        if self.have.has(piece) {
            return BlockVerdict::Duplicate;
        }
        if late && self.order.unbegun().has(piece) {
            self.begin(piece, None, Some(key));
        }
        let is_shut_out = |begun: &BegunPiece| begun.only_peer != Some(key) && self.is_exclusive(piece, begun);
        if late && self.begun.get(&piece).is_some_and(is_shut_out) {
            return BlockVerdict::Duplicate;
        }
        let Some(begun) = self.begun.get_mut(&piece) else { return BlockVerdict::Unrequested };
        match begun.get(at) {
            Some(BlockState::Received(_) | BlockState::Writing(_)) => return BlockVerdict::Duplicate,
            Some(BlockState::Requested { requested_peers, .. }) if late || requested_peers.contains(key) => {
                cancels.extend(requested_peers.keys().iter().filter(|&&k| k != key).map(|&k| (k, block)));
            }
            Some(BlockState::Free | BlockState::Expired(_)) if late => {}
            _ => return BlockVerdict::Unrequested,
        }
        begun.set(at, BlockState::Writing(key));
        begun.only_peer = begun.only_peer.filter(|&only| only == key);
        self.update_lists(piece);
        BlockVerdict::Take
    }

    /// Records that an accepted block is on disk. Returns the piece if all its blocks are now: the caller hashes it and calls
    /// [`Picker::piece_hashed`].
    pub fn written(&mut self, key: PeerKey, block: BlockInfo) -> Option<PieceIndex> {
        let at = self.writing(key, &block)?;
        let begun = self.begun.get_mut(&block.piece)?;
        let has_all_blocks = begun.receive(at, key);
        self.received += 1;
        if let Ok(peer) = self.find(key) {
            self.peers[peer].sent_blocks = self.peers[peer].sent_blocks.saturating_add(1);
        }
        self.update_lists(block.piece);
        has_all_blocks.then_some(block.piece)
    }

    /// The block's index within its piece, if this peer's copy is being written.
    fn writing(&self, key: PeerKey, block: &BlockInfo) -> Option<usize> {
        let at = self.geometry.block_index(block)?;
        let begun = self.begun.get(&block.piece)?;
        matches!(begun.get(at), Some(BlockState::Writing(by)) if by == key).then_some(at)
    }

    /// The sender of each block of a complete piece that has not been hashed yet, with `None` for blocks from an earlier run.
    /// Empty if one peer sent them all.
    pub fn block_senders(&self, piece: PieceIndex) -> Vec<Option<PeerKey>> {
        let shared = self.begun.get(&piece).filter(|begun| begun.senders.len() > 1 || begun.restored > 0);
        shared.and_then(BegunPiece::block_senders).unwrap_or_default()
    }

    /// Records the result of hashing a complete piece. With `is_valid` the piece is verified; otherwise its data is discarded and it is
    /// unbegun again. Does nothing if the piece was not waiting for a result.
    pub fn piece_hashed(&mut self, piece: PieceIndex, is_valid: bool) -> PieceVerdict {
        let mut verdict = PieceVerdict::default();
        if !self.begun.get(&piece).is_some_and(|begun| begun.is_verifying) {
            return verdict;
        }
        self.received -= u64::from(self.blocks_of(piece));
        self.parole.forget_discarded_blocks(piece);
        let begun = if is_valid { self.begun.remove(&piece) } else { self.unbegin(piece) };
        (verdict.senders, verdict.restored) = begun.map(|begun| (begun.senders, begun.restored)).unwrap_or_default();
        if !is_valid {
            if verdict.restored > 0 {
                self.parole.begin(piece, &[]);
            } else if verdict.senders.len() > 1 {
                let connected = verdict.senders.iter().copied().filter(|&key| self.find(key).is_ok());
                self.parole.begin(piece, &connected.collect::<Vec<_>>());
            }
            return verdict;
        }
        self.parole.end(piece);
        if let [sender] = verdict.senders[..]
            && verdict.restored == 0
        {
            self.parole.clear(sender);
        }
        self.have.set(piece);
        self.unverified_wanted.clear(piece);
        if !self.sequence.early.is_empty() {
            self.sequence.early.retain(|&early| early != piece);
        }
        if !self.sequence.urgent.is_empty() {
            self.sequence.urgent.retain(|&urgent| urgent != piece);
        }
        let size = u64::from(self.geometry.size(piece));
        (self.bytes.missing_wanted, self.bytes.missing) = (self.bytes.missing_wanted - size, self.bytes.missing - size);
        verdict.no_longer_wanted = self.peers_without_wanted_pieces();
        verdict
    }

    /// The peers that had wanted pieces until one was verified just now.
    fn peers_without_wanted_pieces(&mut self) -> Vec<PeerKey> {
        self.wanted.note_verified();
        let mut found = Vec::new();
        while let Some(key) = self.wanted.next_due() {
            let Ok(at) = self.find(key) else { continue };
            let peer = &mut self.peers[at];
            if self.wanted.is_wanted(peer.wanted_until) {
                self.wanted.put_back(key, peer.wanted_until);
                continue;
            }
            if !self.wanted.is_reached_now(peer.wanted_until) {
                continue; // left over: it had no wanted piece before either
            }
            let wanted = common(&peer.bits, &self.unverified_wanted);
            peer.wanted_until = self.wanted.bound(key, wanted);
            if wanted == 0 {
                found.push(key);
            }
        }
        // A peer may have had two entries.
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Frees these blocks because the peer choked us, rejected them, or is about to disconnect. The peer loses the pieces that it
    /// owns, so call this even if nothing is outstanding. Returns how many blocks become free.
    pub fn release(&mut self, key: PeerKey, blocks: &[BlockInfo]) -> usize {
        if let Ok(peer) = self.find(key) {
            self.peers[peer].is_serving = false;
        }
        let freed = self.take_back(key, blocks, BlockState::Free);
        let mut touched = std::mem::take(&mut self.buffers.touched);
        touched.extend(self.begun.iter().filter(|(_, begun)| begun.owner == Some(key)).map(|(&piece, _)| piece));
        touched.drain(..).for_each(|piece| self.disown(key, piece));
        self.buffers.touched = touched;
        freed
    }

    /// Expires these requests: other peers are asked for the blocks first, and this peer gets them back only if no other peer has
    /// the piece, or after everything else that it could take (a stalled peer: earlier). Returns how many blocks become free.
    pub fn expire(&mut self, key: PeerKey, blocks: &[BlockInfo]) -> usize {
        self.take_back(key, blocks, BlockState::Expired(key))
    }

    /// Marks a peer as stalled, because it delivers nothing and its requests are taken back. It loses the pieces that it owns,
    /// and later requests to it keep no other peer from requesting the same blocks. Its next pick may clear the mark.
    pub fn mark_stalled(&mut self, key: PeerKey) {
        let Ok(peer) = self.find(key) else { return };
        self.peers[peer].pick_context.speed = Speed::Stalled;
        let owned = self.begun.iter().filter(|(_, begun)| begun.owner == Some(key)).map(|(&piece, _)| piece);
        let owned: Vec<PieceIndex> = owned.collect();
        for piece in owned {
            self.disown(key, piece);
        }
    }

    /// Frees these blocks because we cancelled the requests. The peer remains the one that may send them, if it was the only one.
    pub fn release_cancelled(&mut self, key: PeerKey, blocks: &[BlockInfo]) {
        self.remove_requests(key, blocks, BlockState::Free);
    }

    fn take_back(&mut self, key: PeerKey, blocks: &[BlockInfo], then: BlockState) -> usize {
        let (freed, given_up) = self.remove_requests(key, blocks, then);
        self.record_given_up(key, given_up);
        freed
    }

    /// Takes requests back. Returns how many blocks become free, and the pieces of the blocks.
    fn remove_requests(&mut self, key: PeerKey, blocks: &[BlockInfo], then: BlockState) -> (usize, Vec<PieceIndex>) {
        let (mut freed, mut pieces) = (0, Vec::new());
        for block in blocks {
            let Some(at) = self.geometry.block_index(block) else { continue };
            let Some(begun) = self.begun.get_mut(&block.piece) else { continue };
            if !begun.remove_request(at, key, then) {
                continue;
            }
            freed += usize::from(!matches!(begun.get(at), Some(BlockState::Requested { .. })));
            pieces.push(block.piece);
            self.remember_taken_back(key, block.piece, at);
            self.disown(key, block.piece);
        }
        (freed, pieces)
    }

    /// Remembers that a request was taken back from the peer.
    pub(crate) fn remember_taken_back(&mut self, key: PeerKey, piece: PieceIndex, at: usize) {
        let Ok(peer) = self.find(key) else { return };
        let taken_back = &mut self.peers[peer].taken_back;
        if taken_back.len() >= MAX_TAKEN_BACK {
            taken_back.clear();
        }
        taken_back.insert((piece, at));
    }

    /// Removes the peer as owner of the piece.
    pub(crate) fn disown(&mut self, key: PeerKey, piece: PieceIndex) {
        if let Some(begun) = self.begun.get_mut(&piece)
            && begun.owner == Some(key)
        {
            begun.owner = None;
        }
        self.update_lists(piece);
    }
}
