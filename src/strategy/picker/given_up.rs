//! Which peers gave up pieces that have one sender. A peer that requests such a piece and chokes again and again would otherwise
//! keep it from all others.

use std::collections::BTreeMap;

use crate::strategy::picker::Picker;
use crate::types::{Bitfield, PeerKey, PieceIndex};

/// The most peers and pieces that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// How often each connected peer gave up each doubtful or exclusive piece.
#[derive(Default)]
pub(super) struct GivenUp(BTreeMap<(PieceIndex, PeerKey), u32>);

impl GivenUp {
    fn count(&self, piece: PieceIndex, key: PeerKey) -> u32 {
        self.0.get(&(piece, key)).copied().unwrap_or_default()
    }

    fn record(&mut self, piece: PieceIndex, key: PeerKey) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        *self.0.entry((piece, key)).or_default() += 1;
    }

    pub(super) fn forget_peer(&mut self, key: PeerKey) {
        self.0.retain(|(_, peer), _| *peer != key);
    }

    pub(super) fn forget_piece(&mut self, piece: PieceIndex) {
        self.0.retain(|(of, _), _| *of != piece);
    }
}

impl Picker {
    /// Records that the peer choked us, rejected requests or was late in these pieces, once per piece.
    pub(crate) fn record_given_up(&mut self, key: PeerKey, mut pieces: Vec<PieceIndex>) {
        pieces.sort_unstable();
        pieces.dedup();
        for piece in pieces {
            let is_exclusive = self.begun.get(&piece).is_some_and(|begun| self.is_exclusive(piece, begun));
            if is_exclusive || self.parole.is_doubtful(piece) {
                self.parole.given_up.record(piece, key);
            }
        }
    }

    /// How much more often this peer gave the piece up than the best other peer that could send it now.
    pub(crate) fn extra_given_up(&self, piece: PieceIndex, key: PeerKey) -> u32 {
        let own = self.parole.given_up.count(piece, key);
        if own == 0 {
            return 0;
        }
        let others = self.peers.iter().filter(|peer| peer.key != key && peer.could_send(piece));
        others.map(|peer| own.saturating_sub(self.parole.given_up.count(piece, peer.key))).max().unwrap_or_default()
    }

    /// Whether another peer that could send the piece goes first: one that gave it up less often, or as often and, unlike this
    /// peer, is not on parole or sent us as many blocks as would be discarded.
    pub(crate) fn must_leave(&self, piece: PieceIndex, key: PeerKey) -> bool {
        let discarded = self.begun.get(&piece).map_or(0, |begun| begun.received);
        let rank = |key, sent_blocks| {
            (self.parole.given_up.count(piece, key), discarded > sent_blocks && self.parole.has_peer(key))
        };
        let own = rank(key, self.peer(key).map_or(0, |peer| peer.sent_blocks));
        let mut others = self.peers.iter().filter(|peer| peer.key != key && peer.could_send(piece));
        own > (0, false) && others.any(|peer| rank(peer.key, peer.sent_blocks) < own)
    }

    /// The peer's bitfield without the pieces that it has to leave to others; `None` if there are none of these.
    pub(crate) fn bits_without_left(&self, peer: usize) -> Option<Bitfield> {
        let peer = &self.peers[peer];
        let given_up = self.parole.given_up.0.keys().filter(|(_, key)| *key == peer.key);
        let left: Vec<PieceIndex> =
            given_up.map(|(piece, _)| *piece).filter(|&piece| self.must_leave(piece, peer.key)).collect();
        let mut bits = (!left.is_empty()).then(|| peer.bits.clone())?;
        for piece in left {
            bits.clear(piece);
        }
        Some(bits)
    }
}
