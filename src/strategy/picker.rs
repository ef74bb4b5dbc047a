//! The picker: a state machine that decides which block to request from which peer. All peers share it under one short lock.
//!
//! Reader threads drive it. They [`pick`](Picker::pick) blocks to request. They [`accept`](Picker::accept) each received block
//! before writing it, so that no two threads write the same block and nothing is ever written into a verified piece. After the
//! write they call [`written`](Picker::written). The thread whose block completes a piece hashes it and reports the result with
//! [`piece_hashed`](Picker::piece_hashed).
//!
//! A missing piece is *unbegun* (in `order`, sorted by availability) or *begun* (in `begun`, with a state per block). A begun
//! piece with free blocks is *open*. A begun piece has an owner, the peer that fills it in order, so that a fast peer's data is
//! hashed as it arrives. When the owner chokes us, is late or disconnects, the piece becomes an orphan, which the next peer
//! adopts.
//!
//! `choose` contains the rules of picking, `parole` finds out who spoils pieces, `given_up` makes a peer leave a piece that it
//! gave up to others, `deadlines` takes blocks back from late web seeds, `request_results` handles received, returned and expired
//! blocks, `plan` decides which pieces are wanted, `priorities` and `urgent` which come first, and `restore` takes over partial
//! pieces from an earlier run.

mod begun;
mod choose;
mod deadlines;
mod given_up;
#[cfg(test)]
mod invariants;
mod lost_piece;
mod order;
mod parole;
mod parts;
mod pick_context;
mod pick_within;
mod plan;
mod priorities;
mod request_results;
mod restore;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod urgent;
mod wanted;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::types::{BLOCK_SIZE, Bitfield, BlockInfo, PeerKey, PieceIndex};
use begun::{BegunPiece, BlockState, ListPosition};
use deadlines::PickDeadlines;
use order::AvailabilityOrder;
use parole::Parole;
use parts::{FreeBlocks, PickBuffers, PickerBytes, PieceSequence};
pub use pick_context::{PickContext, Speed};
pub use plan::Plan;
pub use priorities::PiecePriorities;
pub use urgent::MAX_URGENT;
use wanted::{VerifiedCount, WantedBounds};

/// This many pieces are first chosen at random, so that we soon have something that other peers want.
const RANDOM_FIRST: u32 = 4;
/// How many bytes of consecutive pieces one peer is asked for in a row if they are equally rare.
const EXTENT: u32 = 4 << 20;

/// Whether a received block may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockVerdict {
    /// Write it, then call [`Picker::written`].
    Take,
    /// We have it already, another thread is writing it, or it came late and the piece is now exclusive to another peer.
    Duplicate,
    /// It was never requested from this peer, or is not a block of this torrent.
    Unrequested,
}

/// What follows from a piece's hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceVerdict {
    /// Connected peers that now have no piece that we want: send them `not interested`.
    pub no_longer_wanted: Vec<PeerKey>,
    /// The peers that sent blocks of the piece, each once, including disconnected ones.
    pub senders: Vec<PeerKey>,
    /// How many blocks came from an earlier run; their senders are unknown.
    pub restored: u32,
}

/// The sizes of a torrent.
#[derive(Clone, Copy)]
struct Geometry {
    piece_length: u32,
    total: u64,
    pieces: u32,
}

impl Geometry {
    /// The piece's size in bytes; 0 if there is no such piece.
    fn size(self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_length);
        self.total.saturating_sub(start).min(u64::from(self.piece_length)) as u32
    }

    /// How many consecutive pieces a peer is asked for in a row if they are equally rare.
    fn extent(self) -> u32 {
        (EXTENT / self.piece_length).clamp(1, 64)
    }

    fn blocks(self, piece: PieceIndex) -> u32 {
        self.size(piece).div_ceil(BLOCK_SIZE)
    }

    fn block(self, piece: PieceIndex, at: usize) -> BlockInfo {
        let begin = at as u32 * BLOCK_SIZE;
        BlockInfo { piece, begin, length: self.size(piece).saturating_sub(begin).min(BLOCK_SIZE) }
    }

    /// The block's index within its piece; `None` if it is not a block of this torrent.
    fn block_index(self, block: &BlockInfo) -> Option<usize> {
        let at = (block.begin / BLOCK_SIZE) as usize;
        let exists = block.piece.0 < self.pieces && block.begin < self.size(block.piece);
        (exists && self.block(block.piece, at) == *block).then_some(at)
    }
}

/// The picker's state of one connected peer.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct PickerPeer {
    key: PeerKey,
    bits: Bitfield,
    /// Until when it certainly has a piece that we want and lack; see [`WantedBounds`].
    wanted_until: VerifiedCount,
    /// Whether a search found no unbegun piece that it has. Reset when it gets a piece, or when one of its pieces becomes unbegun
    /// again.
    has_no_unbegun: bool,
    /// The parameters of its last pick.
    pick_context: PickContext,
    /// The last piece that was begun for it.
    last: Option<PieceIndex>,
    /// Open pieces that it owns.
    own: Vec<PieceIndex>,
    /// Blocks taken back from it, which are still accepted if they arrive.
    taken_back: HashSet<(PieceIndex, usize)>,
    /// How many blocks it sent us, minus those of others that were discarded for it; see [`Picker::take_over`].
    sent_blocks: u32,
    /// Whether blocks were picked for it and it has not choked us since.
    is_serving: bool,
    /// See [`Picker::mark_web_seed`].
    is_web_seed: bool,
    /// Whether it has lost a piece since its bitfield. Then the order counts it piece by piece, even if it has all pieces again:
    /// a peer that loses and gets a piece again and again would cost a pass over all pieces each time.
    has_lost_piece: bool,
}

/// Decides which block to request from which peer. See the module documentation for the order of calls.
///
/// Unknown peers, pieces and blocks are ignored in all methods.
pub struct Picker {
    geometry: Geometry,
    have: Bitfield,
    /// Pieces that are wanted and not verified.
    unverified_wanted: Bitfield,
    bytes: PickerBytes,
    /// Blocks on disk in unverified pieces.
    received: u64,
    order: AvailabilityOrder,
    sequence: PieceSequence,
    begun: BTreeMap<PieceIndex, BegunPiece>,
    /// Padding-only blocks at the end of a piece, which are never requested.
    padding: HashMap<PieceIndex, u32>,
    free: FreeBlocks,
    /// Sorted by key.
    peers: Vec<PickerPeer>,
    wanted: WantedBounds,
    parole: Parole,
    deadlines: PickDeadlines,
    /// See [`Picker::take_discarded_bytes`].
    discarded_bytes: u64,
    rng: fastrand::Rng,
    buffers: PickBuffers,
}

impl Picker {
    /// A picker for a torrent of `total` bytes in pieces of `piece_length` bytes, of which the pieces in `have` are verified. A
    /// `have` of the wrong length counts as empty. All pieces are wanted until [`Picker::set_plan`] changes that.
    pub fn new(piece_length: u32, total: u64, have: Bitfield, seed: u64) -> Picker {
        let piece_length = piece_length.max(1);
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_length))).unwrap_or(u32::MAX);
        let have = if have.len() == pieces { have } else { Bitfield::new(pieces) };
        let geometry = Geometry { piece_length, total, pieces };
        let order = AvailabilityOrder::new(&have);
        let left = order.unbegun().iter().map(|piece| u64::from(geometry.size(piece))).sum();
        Picker {
            geometry,
            have,
            unverified_wanted: order.unbegun().clone(),
            bytes: PickerBytes { missing_wanted: left, missing: left, wanted: total },
            received: 0,
            order,
            sequence: PieceSequence::default(),
            begun: BTreeMap::new(),
            padding: HashMap::new(),
            free: FreeBlocks::default(),
            peers: Vec::new(),
            wanted: WantedBounds::default(),
            parole: Parole::default(),
            deadlines: PickDeadlines::default(),
            discarded_bytes: 0,
            rng: fastrand::Rng::with_seed(seed),
            buffers: PickBuffers::default(),
        }
    }

    /// Adds a peer without any piece. More than 65,534 peers at once are ignored.
    pub fn add_peer(&mut self, key: PeerKey) {
        if let Err(at) = self.find(key)
            && self.peers.len() + 1 < usize::from(u16::MAX)
        {
            let bits = Bitfield::new(self.geometry.pieces);
            if bits.is_full() {
                self.order.join(&bits, true);
            }
            self.peers.insert(at, PickerPeer::new(key, bits));
        }
    }

    /// Removes a disconnected peer. Blocks that were requested or accepted from it and are not yet `written` become free. Returns
    /// how many these are, so that idle peers can be told to pick.
    pub fn remove_peer(&mut self, key: PeerKey) -> usize {
        let Ok(at) = self.find(key) else { return 0 };
        let peer = self.peers.remove(at);
        self.order.leave(&peer.bits, peer.counts_as_seed());
        let on_parole = self.parole.has_peer(key);
        self.parole.clear(key);
        self.parole.given_up.forget_peer(key);
        self.deadlines.remove(key);
        let mut freed = 0;
        let mut touched = std::mem::take(&mut self.buffers.touched);
        touched.extend(self.begun.keys());
        for piece in touched.drain(..) {
            let Some(begun) = self.begun.get_mut(&piece) else { continue };
            if begun.owner == Some(key) {
                begun.owner = None;
            }
            // The blocks of a peer on parole stay apart.
            if begun.only_peer == Some(key) && !on_parole && !self.parole.is_doubtful(piece) {
                begun.only_peer = None;
            }
            if begun.requested + begun.writing + begun.expired > 0 {
                freed += begun.forget(key);
            }
            self.update_lists(piece);
        }
        self.buffers.touched = touched;
        freed
    }

    /// Replaces the peer's bitfield. A bitfield of the wrong length is ignored.
    pub fn set_bitfield(&mut self, key: PeerKey, bits: Bitfield) {
        let Ok(at) = self.find(key) else { return };
        if bits.len() != self.geometry.pieces {
            return;
        }
        let wanted = common(&bits, &self.unverified_wanted);
        self.order.join(&bits, bits.is_full());
        let peer = &mut self.peers[at];
        (peer.wanted_until, peer.has_no_unbegun) = (self.wanted.bound(key, wanted), false);
        let was_seed = peer.counts_as_seed();
        let before = std::mem::replace(&mut peer.bits, bits);
        peer.has_lost_piece = false;
        self.order.leave(&before, was_seed);
    }

    /// Records that the peer has one more piece. Returns false if that was known, or there is no such piece.
    pub fn peer_has(&mut self, key: PeerKey, piece: PieceIndex) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let peer = &mut self.peers[at];
        if !peer.bits.set(piece) {
            return false;
        }
        if self.unverified_wanted.has(piece) {
            peer.wanted_until = self.wanted.one_more(key, peer.wanted_until);
        }
        peer.has_no_unbegun = false;
        self.order.more(piece);
        if peer.counts_as_seed() {
            self.order.promote();
        }
        true
    }

    /// Whether the peer has a piece that we want and lack.
    pub fn is_interested_in(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| self.wanted.is_wanted(peer.wanted_until))
    }

    /// The peer's bitfield; `None` for an unknown peer.
    pub fn peer_bitfield(&self, key: PeerKey) -> Option<&Bitfield> {
        self.peer(key).map(|peer| &peer.bits)
    }

    /// Whether the peer has every piece.
    pub fn peer_is_seed(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.bits.is_full())
    }

    /// The verified pieces.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The piece's size in bytes; 0 if there is no such piece.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        self.geometry.size(piece)
    }

    /// The peer's index, or the index at which to insert it.
    fn find(&self, key: PeerKey) -> Result<usize, usize> {
        self.peers.binary_search_by_key(&key, |peer| peer.key)
    }

    fn peer(&self, key: PeerKey) -> Option<&PickerPeer> {
        self.find(key).ok().map(|at| &self.peers[at])
    }

    /// Moves a piece from unbegun to begun, for `only_peer`. The caller must request a block of it before `update_lists` runs, or
    /// the piece moves back.
    fn begin(&mut self, piece: PieceIndex, owner: Option<PeerKey>, only_peer: Option<PeerKey>) {
        self.order.remove(piece);
        self.begun.insert(piece, BegunPiece::new(self.blocks_of(piece), owner, only_peer));
    }

    /// Sets how many blocks at the end of each piece are padding. Must be called before any block is requested.
    pub fn set_padding(&mut self, padding: impl IntoIterator<Item = (PieceIndex, u32)>) {
        self.padding = padding.into_iter().collect();
    }

    /// How many blocks of a piece are requested: all but the padding, and at least one.
    fn blocks_of(&self, piece: PieceIndex) -> u32 {
        let padding = self.padding.get(&piece).copied().unwrap_or_default();
        self.geometry.blocks(piece).saturating_sub(padding).max(1)
    }

    /// Moves a piece back from begun to unbegun. It must not be in any list.
    fn unbegin(&mut self, piece: PieceIndex) -> Option<BegunPiece> {
        let begun = self.begun.remove(&piece)?;
        self.order.insert(piece);
        for peer in self.peers.iter_mut().filter(|peer| peer.has_no_unbegun && peer.bits.has(piece)) {
            peer.has_no_unbegun = false;
        }
        Some(begun)
    }

    /// Updates the lists and sums after a change to a begun piece. Must be called after every change.
    fn update_lists(&mut self, piece: PieceIndex) {
        let Some(begun) = self.begun.get_mut(&piece) else { return };
        self.free.expired = self.free.expired - begun.expired_summed + begun.expired;
        begun.expired_summed = begun.expired;
        let untouched = begun.is_untouched();
        let listed = match begun.owner {
            _ if untouched || begun.free == 0 => ListPosition::No,
            Some(owner) => ListPosition::Owned(owner),
            None => ListPosition::Orphan,
        };
        let before = std::mem::replace(&mut begun.listed, listed);
        if before != listed {
            if listed == ListPosition::No {
                let at = begun.open_at;
                self.free.open.swap_remove(at);
                if let Some(moved) = self.free.open.get(at).and_then(|moved| self.begun.get_mut(moved)) {
                    moved.open_at = at;
                }
            } else if before == ListPosition::No {
                begun.open_at = self.free.open.len();
                self.free.open.push(piece);
            }
            self.free.orphans -= u32::from(before == ListPosition::Orphan);
            self.free.orphans += u32::from(listed == ListPosition::Orphan);
            if let ListPosition::Owned(owner) = before
                && let Ok(at) = self.find(owner)
            {
                self.peers[at].own.retain(|&own| own != piece);
            }
            if let ListPosition::Owned(owner) = listed
                && let Ok(at) = self.find(owner)
            {
                self.peers[at].own.push(piece);
            }
        }
        if untouched {
            self.unbegin(piece);
        }
    }
}

/// How many pieces are in both.
fn common(a: &Bitfield, b: &Bitfield) -> u32 {
    a.as_bytes().iter().zip(b.as_bytes()).map(|(a, b)| (a & b).count_ones()).sum()
}
