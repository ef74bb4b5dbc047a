//! Parole (libtorrent's term): how the picker finds out which peer spoils pieces that have blocks of several peers.
//!
//! A piece that failed with blocks of several peers is *doubtful*, and these peers are *on parole*. A doubtful piece has one
//! sender, so that the next failure names the culprit and a success shows which blocks were wrong before. A peer on parole gets
//! only pieces that no other peer sends blocks of. Its parole ends when one of these pieces is verified, or when the doubtful
//! pieces are, because then the culprits are known.
//!
//! A slow peer cannot keep such a piece for ever: another peer takes it over and downloads the other peer's blocks again. A peer
//! that gave the piece up (see `given_up`) gets it back only after the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::strategy::picker::choose::Pick;
use crate::strategy::picker::given_up::GivenUp;
use crate::strategy::picker::{BegunPiece, BlockState, Picker, PickerPeer};
use crate::types::{PeerKey, PieceIndex};

/// A peer takes a piece over from peers that are busy with it only if they need more than this many times as long as it does.
const TAKE_OVER_FACTOR: u32 = 2;
/// How soon an idle peer looks again whether it may take a piece over, in ticks.
const LOOK_AGAIN: u32 = 100;

/// Which pieces are doubtful and which connected peers are on parole.
#[derive(Default)]
pub(super) struct Parole {
    /// Each doubtful piece with the connected peers that sent blocks of it.
    doubtful: BTreeMap<PieceIndex, Vec<PeerKey>>,
    /// In how many of these lists each peer is.
    peers: HashMap<PeerKey, u32>,
    pub(super) given_up: GivenUp,
    /// Unverified pieces that were taken over. The discarded blocks still lie on the disk, although they are to be requested.
    discarded: HashSet<PieceIndex>,
}

impl Parole {
    /// A piece failed with blocks of these peers; none of them if it also had blocks of an earlier run.
    pub(super) fn begin(&mut self, piece: PieceIndex, senders: &[PeerKey]) {
        let listed = self.doubtful.entry(piece).or_default();
        for &sender in senders {
            if !listed.contains(&sender) {
                listed.push(sender);
                *self.peers.entry(sender).or_default() += 1;
            }
        }
    }

    /// The piece is verified.
    pub(super) fn end(&mut self, piece: PieceIndex) {
        self.given_up.forget_piece(piece);
        for sender in self.doubtful.remove(&piece).unwrap_or_default() {
            if let Some(count) = self.peers.get_mut(&sender) {
                *count -= 1;
                if *count == 0 {
                    self.peers.remove(&sender);
                }
            }
        }
    }

    /// The peer sent a whole piece that is right, or has disconnected.
    pub(super) fn clear(&mut self, key: PeerKey) {
        if self.peers.remove(&key).is_some() {
            self.doubtful.values_mut().for_each(|senders| senders.retain(|&sender| sender != key));
        }
    }

    /// The piece was hashed: its blocks are verified, or overwritten with zeros.
    pub(super) fn forget_discarded_blocks(&mut self, piece: PieceIndex) {
        self.discarded.remove(&piece);
    }

    pub(super) fn has_discarded_blocks(&self, piece: PieceIndex) -> bool {
        self.discarded.contains(&piece)
    }

    pub(super) fn is_doubtful(&self, piece: PieceIndex) -> bool {
        !self.doubtful.is_empty() && self.doubtful.contains_key(&piece)
    }

    pub(super) fn has_peer(&self, key: PeerKey) -> bool {
        !self.peers.is_empty() && self.peers.contains_key(&key)
    }
}

impl BegunPiece {
    /// Forgets all blocks and requests except those of `key`. Returns the blocks that were on disk, and the requests to other
    /// peers.
    fn keep_only(&mut self, key: PeerKey) -> (Vec<usize>, Vec<(PeerKey, usize)>) {
        let (mut discarded, mut taken_back) = (Vec::new(), Vec::new());
        for at in 0..self.blocks().len() {
            match self.get(at) {
                Some(BlockState::Received(by)) if by != Some(key) => {
                    discarded.push(at);
                    self.set(at, BlockState::Free);
                }
                Some(BlockState::Expired(_)) => self.set(at, BlockState::Free),
                Some(BlockState::Requested { requested_peers, .. }) => {
                    for &other in requested_peers.keys().iter().filter(|&&other| other != key) {
                        self.remove_request(at, other, BlockState::Free);
                        taken_back.push((other, at));
                    }
                }
                _ => {}
            }
        }
        self.senders.retain(|&sender| sender == key);
        (self.restored, self.only_peer) = (0, Some(key));
        (discarded, taken_back)
    }
}

impl PickerPeer {
    /// Whether it has the piece and serves us.
    pub(crate) fn could_send(&self, piece: PieceIndex) -> bool {
        self.is_serving && !self.pick_context.is_stalled() && self.bits.has(piece)
    }
}

impl Picker {
    /// Whether blocks of this begun piece may be requested from the peer: not if only another peer may send them, or if the
    /// peer is on parole and another peer's blocks are there.
    pub(crate) fn may_join(&self, piece: PieceIndex, begun: &BegunPiece, key: PeerKey) -> bool {
        match begun.only_peer {
            Some(only) if only == key => true,
            Some(_) if self.is_exclusive(piece, begun) => false,
            _ => !self.parole.has_peer(key),
        }
    }

    /// Whether the piece has blocks of one peer and may not have blocks of another.
    pub(crate) fn is_exclusive(&self, piece: PieceIndex, begun: &BegunPiece) -> bool {
        let on_parole = |only| self.parole.has_peer(only) || self.find(only).is_err();
        begun.only_peer.is_some_and(|only| self.parole.is_doubtful(piece) || on_parole(only))
    }

    /// Begins doubtful pieces, for a peer that has answered requests: the sooner they are verified, the sooner the culprits are
    /// known. A plan's order comes first.
    pub(crate) fn take_doubtful(&mut self, pick: &mut Pick) {
        let sequence = &self.sequence;
        let is_planned = !sequence.early.is_empty() || sequence.is_sequential || sequence.priorities.is_some();
        if pick.is_full() || self.parole.doubtful.is_empty() || is_planned || !pick.context.is_proven() {
            return;
        }
        let bits = &self.peers[pick.peer].bits;
        let unbegun = self.parole.doubtful.keys().filter(|&&piece| self.order.unbegun().has(piece) && bits.has(piece));
        for piece in unbegun.copied().collect::<Vec<_>>() {
            if pick.is_full() {
                return;
            }
            if self.must_leave(piece, pick.key) {
                continue;
            }
            self.begin(piece, Some(pick.key), Some(pick.key));
            self.take_free(pick, piece, false);
        }
    }

    /// Takes over pieces that this peer may not join. If nobody is busy with such a piece, any peer may take it over that need
    /// not leave it to another. Otherwise only an idle peer that is much faster may, and it must have sent us at least as many
    /// blocks as are discarded: so a hostile peer cannot discard more data than it sends. How much faster doubles each time that
    /// it gives the piece up.
    pub(crate) fn take_over(&mut self, pick: &mut Pick) {
        while !pick.is_full()
            && let Some(piece) = self.piece_to_take_over(pick)
        {
            let owner = Some(pick.key).filter(|_| !pick.context.is_stalled());
            let Some(begun) = self.begun.get_mut(&piece) else { return };
            begun.owner = owner;
            let (discarded, taken_back) = begun.keep_only(pick.key);
            if !discarded.is_empty() {
                self.parole.discarded.insert(piece);
            }
            self.received -= discarded.len() as u64;
            self.discarded_bytes +=
                discarded.iter().map(|&at| u64::from(self.geometry.block(piece, at).length)).sum::<u64>();
            let peer = &mut self.peers[pick.peer];
            peer.sent_blocks = peer.sent_blocks.saturating_sub(discarded.len() as u32);
            for (other, at) in taken_back {
                self.remember_taken_back(other, piece, at);
            }
            self.take_free(pick, piece, false);
        }
    }

    fn piece_to_take_over(&self, pick: &mut Pick) -> Option<PieceIndex> {
        let peer = &self.peers[pick.peer];
        let may_continue =
            |piece: &PieceIndex| self.begun.get(piece).is_some_and(|b| self.may_join(*piece, b, pick.key));
        let is_idle = pick.is_empty() && !peer.own.iter().any(may_continue);
        let per_block = Some(pick.context.per_block).filter(|time| pick.context.is_proven() && !time.is_zero());
        let (key, mut best, mut waits) = (pick.key, None, false);
        for (&piece, begun) in &self.begun {
            let is_quiet = begun.writing == 0 && !begun.is_verifying;
            if !is_quiet || !peer.bits.has(piece) || self.may_join(piece, begun, key) {
                continue;
            }
            let Some(left) = self.time_left(begun, key, pick.context.ticks()) else {
                if self.must_leave(piece, key) {
                    waits |= is_idle;
                    continue;
                }
                return Some(piece);
            };
            if !is_idle {
                continue;
            }
            waits = true;
            let given_up = self.extra_given_up(piece, key);
            let factor = TAKE_OVER_FACTOR.saturating_mul(1_u32.checked_shl(given_up).unwrap_or(u32::MAX));
            let whole = per_block.map(|time| time.saturating_mul((begun.blocks().len() as u32).saturating_mul(factor)));
            // The speed of a peer that has not sent anything yet is no reason to give the piece back.
            let whole = whole.filter(|_| given_up == 0 || left < Duration::MAX);
            let may_take_over = begun.received <= peer.sent_blocks && whole.is_some_and(|whole| whole < left);
            if may_take_over && best.is_none_or(|(longest, _)| left > longest) {
                best = Some((left, piece));
            }
        }
        if waits {
            pick.look_again_at(pick.context.ticks().saturating_add(LOOK_AGAIN));
        }
        best.map(|(_, piece)| piece)
    }

    /// How long the peers other than `key` that have requests in the piece and are not stalled need for the rest; `None` if there
    /// are none. Peers of unknown speed count as endlessly slow, and so do peers all of whose requests there are overdue: they do
    /// not deliver as fast as they did.
    fn time_left(&self, begun: &BegunPiece, key: PeerKey, now: u32) -> Option<Duration> {
        // Each busy peer, and whether it is on time.
        let mut busy: Vec<(PeerKey, bool)> = Vec::new();
        for block in begun.blocks() {
            let BlockState::Requested { requested_peers, due } = block else { continue };
            for &other in requested_peers.keys().iter().filter(|&&other| other != key) {
                match busy.iter_mut().find(|(known, _)| *known == other) {
                    Some((_, is_on_time)) => *is_on_time |= *due > now,
                    None if !self.is_stalled(other) => busy.push((other, *due > now)),
                    None => {}
                }
            }
        }
        if busy.is_empty() {
            return None;
        }
        let on_time = busy.iter().filter(|(_, is_on_time)| *is_on_time);
        let contexts = on_time.filter_map(|&(key, _)| self.peer(key)).map(|peer| &peer.pick_context);
        let per_second: f64 =
            contexts.filter(|context| !context.per_block.is_zero()).map(|c| c.per_block.as_secs_f64().recip()).sum();
        let seconds = f64::from(begun.missing()) / per_second;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The bytes on disk that were discarded because a piece was taken over since the last call.
    pub fn take_discarded_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.discarded_bytes)
    }
}
