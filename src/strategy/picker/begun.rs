//! One begun piece: the state of each block, its owner, and the senders.

use crate::types::PeerKey;

/// The most peers that a block is requested from at the same time.
pub(crate) const MAX_PEERS_PER_BLOCK: usize = 3;

/// The peers that a block was requested from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedPeers {
    keys: [PeerKey; MAX_PEERS_PER_BLOCK],
    count: u8,
}

impl RequestedPeers {
    fn one(key: PeerKey) -> RequestedPeers {
        RequestedPeers { keys: [key; MAX_PEERS_PER_BLOCK], count: 1 }
    }

    pub(crate) fn keys(&self) -> &[PeerKey] {
        self.keys.get(..usize::from(self.count)).unwrap_or(&[])
    }

    pub(crate) fn contains(&self, key: PeerKey) -> bool {
        self.keys().contains(&key)
    }

    fn add(&mut self, key: PeerKey) {
        if let Some(slot) = self.keys.get_mut(usize::from(self.count)) {
            *slot = key;
            self.count += 1;
        }
    }

    fn remove(&mut self, key: PeerKey) {
        if let Some(at) = self.keys().iter().position(|&k| k == key) {
            self.keys.copy_within(at + 1.., at);
            self.count -= 1;
        }
    }
}

/// The state of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BlockState {
    /// To be requested.
    Free,
    /// To be requested before all others; this peer let its request expire.
    Expired(PeerKey),
    /// Requested; the answer is overdue at `due`, in ticks.
    Requested { requested_peers: RequestedPeers, due: u32 },
    /// This peer's copy is being written.
    Writing(PeerKey),
    /// On disk; sent by this peer, or in an earlier run if `None`.
    Received(Option<PeerKey>),
}

/// The picker's list that contains a piece, so that the piece can be removed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListPosition {
    /// Not open: no block is free.
    No,
    /// Open, without an owner.
    Orphan,
    /// Open, in its owner's list.
    Owned(PeerKey),
}

/// A begun piece. The counts are derived from `blocks`, so every change to a block must go through [`BegunPiece::set`].
#[derive(Debug)]
pub(crate) struct BegunPiece {
    blocks: Box<[BlockState]>,
    /// The peer that fills it in order.
    pub(crate) owner: Option<PeerKey>,
    /// The only peer that blocks of it were requested from; `None` if there were several, or some are from an earlier run. Also
    /// `None` once that peer has left, unless the piece stays exclusive (`Picker::is_exclusive`).
    pub(crate) only_peer: Option<PeerKey>,
    /// Free and expired blocks.
    pub(crate) free: u32,
    pub(crate) expired: u32,
    pub(crate) requested: u32,
    pub(crate) writing: u32,
    pub(crate) received: u32,
    /// No block before this one is `Free`.
    low: usize,
    /// No block from this one on is `Free`.
    high: usize,
    /// The senders of its blocks, including disconnected ones.
    pub(crate) senders: Vec<PeerKey>,
    /// Blocks from an earlier run.
    pub(crate) restored: u32,
    /// Whether it is complete and being hashed.
    pub(crate) is_verifying: bool,
    pub(crate) listed: ListPosition,
    /// Its index in the picker's open list, unless `listed` is `No`.
    pub(crate) open_at: usize,
    /// The part of `expired` that the picker's sum includes.
    pub(crate) expired_summed: u32,
}

impl BegunPiece {
    pub(crate) fn new(blocks: u32, owner: Option<PeerKey>, only_peer: Option<PeerKey>) -> BegunPiece {
        BegunPiece {
            blocks: vec![BlockState::Free; blocks as usize].into_boxed_slice(),
            owner,
            only_peer,
            free: blocks,
            expired: 0,
            requested: 0,
            writing: 0,
            received: 0,
            low: 0,
            high: blocks as usize,
            senders: Vec::new(),
            restored: 0,
            is_verifying: false,
            listed: ListPosition::No,
            open_at: 0,
            expired_summed: 0,
        }
    }

    pub(crate) fn blocks(&self) -> &[BlockState] {
        &self.blocks
    }

    pub(crate) fn get(&self, at: usize) -> Option<BlockState> {
        self.blocks.get(at).copied()
    }

    /// How many blocks are not yet on disk.
    pub(crate) fn missing(&self) -> u32 {
        self.blocks.len() as u32 - self.received
    }

    /// Whether it has no more state than an unbegun piece.
    pub(crate) fn is_untouched(&self) -> bool {
        self.free as usize == self.blocks.len() && self.expired == 0
    }

    pub(crate) fn set(&mut self, at: usize, to: BlockState) {
        let Some(block) = self.blocks.get_mut(at) else { return };
        let from = std::mem::replace(block, to);
        *self.count(from) -= 1;
        *self.count(to) += 1;
        self.expired -= u32::from(matches!(from, BlockState::Expired(_)));
        self.expired += u32::from(matches!(to, BlockState::Expired(_)));
        if matches!(to, BlockState::Free) {
            self.low = self.low.min(at);
            self.high = self.high.max(at + 1);
        }
    }

    fn count(&mut self, block: BlockState) -> &mut u32 {
        match block {
            BlockState::Free | BlockState::Expired(_) => &mut self.free,
            BlockState::Requested { .. } => &mut self.requested,
            BlockState::Writing(_) => &mut self.writing,
            BlockState::Received(_) => &mut self.received,
        }
    }

    /// Requests the block from `key`, in addition to other peers; the answer is overdue at `due`.
    pub(crate) fn request(&mut self, at: usize, key: PeerKey, due: u32) {
        self.only_peer = self.only_peer.filter(|&only| only == key);
        let requested = match self.get(at) {
            Some(BlockState::Requested { mut requested_peers, .. }) => {
                requested_peers.add(key);
                BlockState::Requested { requested_peers, due }
            }
            _ => BlockState::Requested { requested_peers: RequestedPeers::one(key), due },
        };
        self.set(at, requested);
    }

    /// Takes the request back from `key`. If the block is requested from no other peer, it becomes `then`. Returns false if it was not
    /// requested from `key`.
    pub(crate) fn remove_request(&mut self, at: usize, key: PeerKey, then: BlockState) -> bool {
        let Some(BlockState::Requested { mut requested_peers, due }) = self.get(at) else { return false };
        if !requested_peers.contains(key) {
            return false;
        }
        requested_peers.remove(key);
        self.set(
            at,
            if requested_peers.keys().is_empty() { then } else { BlockState::Requested { requested_peers, due } },
        );
        true
    }

    /// The first block that is free and not expired.
    pub(crate) fn first_free(&mut self) -> Option<usize> {
        let span = self.blocks.get(self.low..self.high)?;
        let found = span.iter().position(|b| matches!(b, BlockState::Free)).map(|at| at + self.low);
        self.low = found.unwrap_or(self.high);
        found
    }

    /// The last block that is free and not expired.
    pub(crate) fn last_free(&mut self) -> Option<usize> {
        let span = self.blocks.get(self.low..self.high)?;
        let found = span.iter().rposition(|b| matches!(b, BlockState::Free)).map(|at| at + self.low);
        self.high = found.map_or(self.low, |at| at + 1);
        found
    }

    /// Records that a block from `key` is on disk. Returns true if it was the last one.
    pub(crate) fn receive(&mut self, at: usize, key: PeerKey) -> bool {
        self.set(at, BlockState::Received(Some(key)));
        if !self.senders.contains(&key) {
            self.senders.push(key);
        }
        self.is_verifying = self.received as usize == self.blocks.len();
        self.is_verifying
    }

    /// The blocks on disk.
    pub(crate) fn received_blocks(&self) -> impl Iterator<Item = usize> + '_ {
        let blocks = self.blocks.iter().enumerate();
        blocks.filter(|(_, block)| matches!(block, BlockState::Received(_))).map(|(at, _)| at)
    }

    /// Marks a block as on disk from an earlier run.
    pub(crate) fn restore(&mut self, at: usize) {
        self.set(at, BlockState::Received(None));
        self.restored += 1;
    }

    /// The sender of each block in order, if all are on disk; `None` within stands for an earlier run.
    pub(crate) fn block_senders(&self) -> Option<Vec<Option<PeerKey>>> {
        let author = |block: &BlockState| if let BlockState::Received(key) = block { Some(*key) } else { None };
        self.blocks.iter().map(author).collect()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        let count = |want: fn(&BlockState) -> bool| self.blocks.iter().filter(|b| want(b)).count() as u32;
        assert_eq!(self.free, count(|b| matches!(b, BlockState::Free | BlockState::Expired(_))));
        assert_eq!(self.expired, count(|b| matches!(b, BlockState::Expired(_))));
        assert_eq!(self.requested, count(|b| matches!(b, BlockState::Requested { .. })));
        assert_eq!(self.writing, count(|b| matches!(b, BlockState::Writing(_))));
        assert_eq!(self.received, count(|b| matches!(b, BlockState::Received(_))));
        assert_eq!(self.restored, count(|b| matches!(b, BlockState::Received(None))));
        assert_eq!(self.is_verifying, self.received as usize == self.blocks.len());
        assert!(!self.is_untouched(), "an untouched piece stayed begun");
        if let Some(only) = self.only_peer {
            assert!(self.senders.iter().all(|&sender| sender == only) && self.restored == 0, "blocks of another peer");
        }
        for (at, block) in self.blocks.iter().enumerate() {
            match block {
                BlockState::Free => assert!((self.low..self.high).contains(&at), "a free block is out of sight"),
                BlockState::Requested { requested_peers, .. } => {
                    let keys = requested_peers.keys();
                    assert!(!keys.is_empty() && (1..keys.len()).all(|i| !keys[i..].contains(&keys[i - 1])));
                }
                _ => {}
            }
        }
    }
}
