//! Which block to ask of which peer: the picker, a pure state machine that all peers share under one short lock.
//!
//! Reader threads own the flow. They [`pick`](Picker::pick) blocks to request; as bytes arrive they
//! [`accept`](Picker::accept) each block before it may be written, so that no two threads write the same block and nothing is
//! ever written into a verified piece; after the write comes [`written`](Picker::written), which tells the thread whose block
//! made the piece whole to hash it and to report with [`verified`](Picker::verified).
//!
//! Missing pieces are *unbegun* (in `order`, by availability) or *begun* (see `begun`, a state a block). A begun piece with
//! free blocks is *open*. A begun piece has an owner, the peer that fills it in order, so that a fast peer hashes as it reads;
//! an owner that is choked, late or gone leaves an orphan, which the next one adopts.
//!
//! `choose` has the rules of picking, `arrive` what happens to blocks after that, `plan` what is wanted at all, `recall` what an
//! earlier session left of pieces.

mod arrive;
mod asking;
mod begun;
mod choose;
#[cfg(test)]
mod invariants;
mod order;
mod plan;
#[cfg(test)]
mod plan_tests;
mod restore;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod swarm_tests;
#[cfg(test)]
mod tests;
mod within;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::types::{BLOCK_SIZE, Bitfield, BlockRequest, PeerKey, PieceIndex};
pub use asking::{Asking, Speed};
use begun::{Begun, BlockState, ListPosition};
use order::Order;
pub use plan::Plan;

/// The first pieces are taken at random, so that a newcomer soon has something that others want.
const RANDOM_FIRST: u32 = 4;
/// Bytes of neighbouring pieces that one peer is asked for in a row where they are equally rare.
const EXTENT: u32 = 4 << 20;

/// Whether a block that arrived may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Write it, then call [`Picker::written`] or [`Picker::write_failed`].
    Take,
    /// It is there already, or somebody is writing it.
    Duplicate,
    /// It was never asked of this peer, or is no block of this torrent.
    Unasked,
}

/// One cell of the piece map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it asked for or received.
    Missing,
    /// The same or begun, and none of the connected peers, of which some have something, has it.
    Unavailable,
    /// Not there, and not to be fetched.
    Unwanted,
    /// Some of it asked for or received.
    Begun,
    /// Whole and verified.
    Have,
}

/// What follows from a piece's hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceVerdict {
    /// Connected peers that have nothing any more that we lack: send them `not interested`.
    pub no_longer_wanted: Vec<PeerKey>,
    /// Whose blocks were in the piece, each once, those who left included.
    pub senders: Vec<PeerKey>,
    /// How many blocks an earlier session received: nobody knows any more who sent them.
    pub restored: u32,
}

/// The measures of a torrent.
#[derive(Clone, Copy)]
struct Geometry {
    piece_length: u32,
    total: u64,
    pieces: u32,
}

impl Geometry {
    /// The piece's size in bytes, 0 where there is no such piece.
    fn size(self, piece: PieceIndex) -> u32 {
        let start = u64::from(piece.0) * u64::from(self.piece_length);
        self.total.saturating_sub(start).min(u64::from(self.piece_length)) as u32
    }

    /// How many neighbouring pieces a peer is asked for in a row where they are equally rare.
    fn extent(self) -> u32 {
        (EXTENT / self.piece_length).clamp(1, 64)
    }

    fn blocks(self, piece: PieceIndex) -> u32 {
        self.size(piece).div_ceil(BLOCK_SIZE)
    }

    fn block(self, piece: PieceIndex, at: usize) -> BlockRequest {
        let begin = at as u32 * BLOCK_SIZE;
        BlockRequest { piece, begin, length: self.size(piece).saturating_sub(begin).min(BLOCK_SIZE) }
    }

    /// Which block of its piece this is; `None` where it is no block of this torrent.
    fn at(self, block: &BlockRequest) -> Option<usize> {
        let at = (block.begin / BLOCK_SIZE) as usize;
        let exists = block.piece.0 < self.pieces && block.begin < self.size(block.piece);
        (exists && self.block(block.piece, at) == *block).then_some(at)
    }
}

/// What is known of one connected peer.
struct PickerPeer {
    key: PeerKey,
    bits: Bitfield,
    /// Pieces that it has and we lack: those that are wanted, here and everywhere.
    wanted: u32,
    /// It was found to have no unbegun piece; forgotten when it gets one, or one of its pieces is unbegun again.
    dry: bool,
    /// What its last pick said.
    asking: Asking,
    /// The last piece that was begun for it.
    last: Option<PieceIndex>,
    /// Open pieces that it owns.
    own: Vec<PieceIndex>,
    /// Blocks taken back from it that may still arrive, and are then welcome.
    lost: HashSet<(PieceIndex, usize)>,
}

/// Decides which block to ask of which peer. See the module's head for the order of calls.
///
/// Peers that are not known, pieces and blocks that do not exist are ignored everywhere.
pub struct Picker {
    geometry: Geometry,
    have: Bitfield,
    /// Pieces that are wanted and not verified.
    lacks: Bitfield,
    /// Bytes in those pieces, in all that are not verified, and in all that are wanted.
    left: u64,
    missing: u64,
    wanted: u64,
    /// Blocks on disk in pieces that are not verified.
    received: u64,
    order: Order,
    /// Lacking pieces that come before all others, and whether the rest comes in order.
    early: Vec<PieceIndex>,
    sequential: bool,
    begun: BTreeMap<PieceIndex, Begun>,
    /// Blocks at the end of a piece that hold nothing but padding and are never asked for.
    padding: HashMap<PieceIndex, u32>,
    /// Begun pieces with free blocks, in no order.
    open: Vec<PieceIndex>,
    /// How many of them have no owner.
    orphans: u32,
    /// Expired blocks in all begun pieces.
    expired: u32,
    /// By key.
    peers: Vec<PickerPeer>,
    /// Pieces that were wrong with blocks of several peers: one peer alone is to fill them, so that the next failure has one author.
    doubtful: HashSet<PieceIndex>,
    rng: fastrand::Rng,
    /// Room for the candidates of a pick, kept for the next one.
    scratch: Vec<choose::DuplicateCandidate>,
    touched: Vec<PieceIndex>,
}

impl Picker {
    /// For a torrent of `total` bytes in pieces of `piece_length` bytes, of which `have` are there and verified. A `have` of
    /// another length counts as empty. All pieces are wanted until [`Picker::set_plan`] says otherwise.
    pub fn new(piece_length: u32, total: u64, have: Bitfield, seed: u64) -> Picker {
        let piece_length = piece_length.max(1);
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_length))).unwrap_or(u32::MAX);
        let have = if have.len() == pieces { have } else { Bitfield::new(pieces) };
        let geometry = Geometry { piece_length, total, pieces };
        let order = Order::new(&have);
        let left = order.unbegun().iter().map(|piece| u64::from(geometry.size(piece))).sum();
        Picker {
            geometry,
            have,
            lacks: order.unbegun().clone(),
            left,
            missing: left,
            wanted: total,
            received: 0,
            order,
            early: Vec::new(),
            sequential: false,
            begun: BTreeMap::new(),
            padding: HashMap::new(),
            open: Vec::new(),
            orphans: 0,
            expired: 0,
            peers: Vec::new(),
            doubtful: HashSet::new(),
            rng: fastrand::Rng::with_seed(seed),
            scratch: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// A peer that has nothing yet. More than 65,534 at once are not taken.
    pub fn add_peer(&mut self, key: PeerKey) {
        if let Err(at) = self.find(key)
            && self.peers.len() + 1 < usize::from(u16::MAX)
        {
            let bits = Bitfield::new(self.geometry.pieces);
            if bits.is_full() {
                self.order.join(&bits);
            }
            let (own, lost) = (Vec::new(), HashSet::new());
            let asking = Asking::unproven(Duration::ZERO, Speed::Fast);
            self.peers.insert(at, PickerPeer { key, bits, wanted: 0, dry: false, asking, last: None, own, lost });
        }
    }

    /// The peer is gone: what was asked of it or accepted from it and is not yet `written` is free again. Returns how many
    /// blocks that are, so that idle peers can be told to pick.
    pub fn remove_peer(&mut self, key: PeerKey) -> usize {
        let Ok(at) = self.find(key) else { return 0 };
        let peer = self.peers.remove(at);
        self.order.leave(&peer.bits);
        let mut freed = 0;
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(self.begun.keys());
        for piece in touched.drain(..) {
            let Some(begun) = self.begun.get_mut(&piece) else { continue };
            if begun.owner == Some(key) {
                begun.owner = None;
            }
            if begun.asked + begun.writing + begun.expired > 0 {
                freed += begun.forget(key);
            }
            self.settle(piece);
        }
        self.touched = touched;
        freed
    }

    /// What the peer says it has, in place of what was known. A bitfield of another length is ignored.
    pub fn set_bitfield(&mut self, key: PeerKey, bits: Bitfield) {
        let Ok(at) = self.find(key) else { return };
        if bits.len() != self.geometry.pieces {
            return;
        }
        let wanted = common(&bits, &self.lacks);
        self.order.join(&bits);
        let peer = &mut self.peers[at];
        (peer.wanted, peer.dry) = (wanted, false);
        let before = std::mem::replace(&mut peer.bits, bits);
        self.order.leave(&before);
    }

    /// The peer has one more piece. False where that was known, or there is no such piece.
    pub fn peer_has(&mut self, key: PeerKey, piece: PieceIndex) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let peer = &mut self.peers[at];
        if !peer.bits.set(piece) {
            return false;
        }
        peer.wanted += u32::from(self.lacks.has(piece));
        peer.dry = false;
        self.order.more(piece);
        if peer.bits.is_full() {
            self.order.promote();
        }
        true
    }

    /// Whether the peer has a piece that we lack.
    pub fn wants(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.wanted > 0)
    }

    /// What the peer has; `None` for a peer that is not known.
    pub fn peer_bitfield(&self, key: PeerKey) -> Option<&Bitfield> {
        self.peer(key).map(|peer| &peer.bits)
    }

    /// Whether the peer has everything.
    pub fn peer_is_seed(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.bits.is_full())
    }

    /// The verified pieces.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The piece's size in bytes, 0 where there is no such piece.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        self.geometry.size(piece)
    }

    /// How many pieces are begun and not yet verified.
    pub fn begun_pieces(&self) -> usize {
        self.begun.len()
    }

    /// Where the peer stands, or would.
    fn find(&self, key: PeerKey) -> Result<usize, usize> {
        self.peers.binary_search_by_key(&key, |peer| peer.key)
    }

    fn peer(&self, key: PeerKey) -> Option<&PickerPeer> {
        self.find(key).ok().map(|at| &self.peers[at])
    }

    /// Moves a piece from unbegun to begun. Ask for a block of it before `settle` sees it, or it moves back.
    fn begin(&mut self, piece: PieceIndex, owner: Option<PeerKey>) {
        self.order.remove(piece);
        self.begun.insert(piece, Begun::new(self.blocks_of(piece), owner));
    }

    /// Says how many blocks at the end of which pieces are padding. To be called before anything is asked for.
    pub fn set_padding(&mut self, padding: impl IntoIterator<Item = (PieceIndex, u32)>) {
        self.padding = padding.into_iter().collect();
    }

    /// How many blocks of a piece are asked for: all but those of padding, and one at least.
    fn blocks_of(&self, piece: PieceIndex) -> u32 {
        let padding = self.padding.get(&piece).copied().unwrap_or_default();
        self.geometry.blocks(piece).saturating_sub(padding).max(1)
    }

    /// Moves a piece back from begun to unbegun. It must stand in no list.
    fn unbegin(&mut self, piece: PieceIndex) -> Option<Begun> {
        let begun = self.begun.remove(&piece)?;
        self.order.insert(piece);
        for peer in self.peers.iter_mut().filter(|peer| peer.dry && peer.bits.has(piece)) {
            peer.dry = false;
        }
        Some(begun)
    }

    /// Brings lists and sums in line with a begun piece; to be called after every change to one.
    fn settle(&mut self, piece: PieceIndex) {
        let Some(begun) = self.begun.get_mut(&piece) else { return };
        self.expired = self.expired - begun.expired_summed + begun.expired;
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
                self.open.swap_remove(at);
                if let Some(moved) = self.open.get(at).and_then(|moved| self.begun.get_mut(moved)) {
                    moved.open_at = at;
                }
            } else if before == ListPosition::No {
                begun.open_at = self.open.len();
                self.open.push(piece);
            }
            self.orphans -= u32::from(before == ListPosition::Orphan);
            self.orphans += u32::from(listed == ListPosition::Orphan);
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
