//! The rules of picking, in order: expired blocks (last for a very slow peer); the peer's own pieces; orphans and shared pieces;
//! doubtful pieces, unless a plan gives an order; new pieces (those that the plan wants early, then the rarest, or the next ones
//! in sequential mode); help for other owners; pieces taken over from peers that may not be helped (`parole`); blocks that the
//! peer itself let expire; and blocks that stalled peers are asked for or, in the end-game, any peers.

use std::time::Duration;

use crate::strategy::picker::begun::MAX_PEERS_PER_BLOCK;
use crate::strategy::picker::{BlockState, PickContext, Picker, RANDOM_FIRST, pick_context};
use crate::types::{BlockInfo, PeerKey, PieceIndex};

/// The most blocks per pick that are requested from a further peer in the end-game.
const MAX_DUPLICATES: usize = 16;
/// How many open pieces there may be, per peer and in addition, before helping takes precedence over beginning another piece.
const OPEN_PER_PEER: usize = 2;
const OPEN_AT_LEAST: usize = 8;

/// A candidate piece, in the order of picking: pieces of slow owners first, then the smallest rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RankedPiece {
    is_owner_fast: bool,
    rank: u32,
    piece: PieceIndex,
}

/// A candidate block that other peers are asked for, in the order of picking: fewest requests first, then those of slow peers,
/// then the earliest due time. A web seed cannot be asked to leave a block out, but its response can be cut short: its blocks come
/// last, from the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RankedBlock {
    requested_peers: usize,
    is_owner_fast: bool,
    is_from_web_seed: bool,
    /// The due time, or how much sooner than never that is.
    order: u32,
    due: u32,
    piece: PieceIndex,
    at: usize,
}

/// One call of `pick`.
pub(crate) struct Pick<'a> {
    pub(crate) key: PeerKey,
    /// The peer's index in `peers`.
    pub(crate) peer: usize,
    pub(crate) context: PickContext,
    /// The length of `out` at the start, and the length to reach.
    from: usize,
    goal: usize,
    pub(crate) out: &'a mut Vec<BlockInfo>,
    /// When to pick again for this peer, in ticks.
    again: Option<u32>,
}

impl Pick<'_> {
    /// A pick of up to `n` blocks.
    pub(crate) fn new(key: PeerKey, peer: usize, context: PickContext, n: usize, out: &mut Vec<BlockInfo>) -> Pick<'_> {
        let (from, goal) = (out.len(), out.len().saturating_add(n));
        Pick { key, peer, context, from, goal, out, again: None }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= self.goal
    }

    /// Limits the pick to `n` more blocks. Returns the length to reach without that, for [`Pick::restore_limit`].
    pub(super) fn limit_to(&mut self, n: usize) -> usize {
        let goal = self.out.len().saturating_add(n).min(self.goal);
        std::mem::replace(&mut self.goal, goal)
    }

    /// Ends a limit.
    pub(super) fn restore_limit(&mut self, goal: usize) {
        self.goal = goal;
    }

    /// Whether nothing has been picked.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.len() == self.from
    }

    /// Asks for another pick at this time, in ticks.
    pub(crate) fn look_again_at(&mut self, at: u32) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }

    /// When the next block of the pick is overdue, in ticks.
    pub(super) fn due(&self) -> u32 {
        self.context.due(self.out.len() - self.from)
    }
}

impl Picker {
    /// Appends up to `n` blocks to `out` that are to be requested from the peer, and counts them as requested. Fast peers get
    /// pieces of their own, slow peers share pieces block by block, and a stalled peer gets the rest.
    ///
    /// Never chooses a block that we have, that is being written, or that was requested from this peer. A block that was
    /// requested from other peers is chosen only if the peer has no free block, and only in two cases: all those other peers are
    /// stalled; or, in the end-game (no connected peer has an unbegun piece), they are late or much slower. Returns when to
    /// pick again for this peer: when such a block becomes overdue, when it may be able to take a piece over, or when a web seed
    /// is late.
    pub fn pick(
        &mut self,
        key: PeerKey,
        n: usize,
        pick_context: PickContext,
        out: &mut Vec<BlockInfo>,
    ) -> Option<Duration> {
        let peer = self.find(key).ok()?;
        // A web seed picks again only once its last pick has ended.
        self.deadlines.remove(key);
        self.take_back_late(pick_context.now);
        (self.peers[peer].pick_context, self.peers[peer].is_serving) = (pick_context, true);
        if n == 0 || !self.wanted.is_wanted(self.peers[peer].wanted_until) {
            return None;
        }
        let mut pick = Pick::new(key, peer, pick_context, n, out);
        if pick_context.is_stalled() {
            // A stalled peer may keep its blocks for long: it gets the last blocks of pieces that others began, and no
            // duplicates.
            self.take_from_other_owners(&mut pick);
            self.take_new(&mut pick);
            self.take_expired(&mut pick, true);
            self.take_over(&mut pick);
            return None;
        }
        if !self.sequence.urgent.is_empty() {
            self.take_urgent(&mut pick);
        }
        if !pick_context.is_very_slow() {
            self.take_expired(&mut pick, false);
        }
        self.take_own(&mut pick);
        self.take_shared(&mut pick);
        if self.free.open.len() >= OPEN_AT_LEAST + OPEN_PER_PEER * self.peers.len() {
            self.take_from_other_owners(&mut pick);
        }
        self.take_doubtful(&mut pick);
        self.take_new(&mut pick);
        self.take_from_other_owners(&mut pick);
        self.take_over(&mut pick);
        self.take_expired(&mut pick, true);
        if !pick.is_full() {
            self.take_duplicates(&mut pick, None);
        }
        self.look_again_at_deadline(&mut pick);
        self.begin_deadline(&pick, false);
        pick.again.map(pick_context::time_of)
    }

    /// Takes expired blocks, of the fullest pieces first. Blocks that this peer itself let expire are taken only with
    /// `takes_own`, if no other peer has the piece, or if only this peer may send it.
    fn take_expired(&mut self, pick: &mut Pick, takes_own: bool) {
        if self.free.expired == 0 || pick.is_full() {
            return;
        }
        let mut touched = std::mem::take(&mut self.buffers.touched);
        let key = |piece: PieceIndex| {
            let begun = self.begun.get(&piece).filter(|begun| begun.expired > 0)?;
            if !self.may_join(piece, begun, pick.key) {
                return None;
            }
            Some(RankedPiece { is_owner_fast: false, rank: begun.missing(), piece })
        };
        for RankedPiece { piece, .. } in self.ranked(pick, key) {
            let is_exclusive = self.begun.get(&piece).is_some_and(|begun| self.is_exclusive(piece, begun));
            let Some(begun) = self.begun.get_mut(&piece) else { continue };
            let takes_own = takes_own || is_exclusive || self.order.holders(piece) <= 1;
            for at in 0..begun.blocks().len() {
                if !pick.is_full()
                    && matches!(begun.get(at), Some(BlockState::Expired(by)) if takes_own || by != pick.key)
                {
                    begun.request(at, pick.key, pick.due());
                    pick.out.push(self.geometry.block(piece, at));
                }
            }
            touched.push(piece);
        }
        touched.drain(..).for_each(|piece| self.update_lists(piece));
        self.buffers.touched = touched;
    }

    /// Takes free blocks of one piece, from its start or from its end.
    pub(crate) fn take_free(&mut self, pick: &mut Pick, piece: PieceIndex, starts_at_end: bool) {
        let Some(begun) = self.begun.get_mut(&piece) else { return };
        while !pick.is_full()
            && let Some(at) = if starts_at_end { begun.last_free() } else { begun.first_free() }
        {
            begun.request(at, pick.key, pick.due());
            pick.out.push(self.geometry.block(piece, at));
        }
        self.update_lists(piece);
    }

    /// Takes blocks of the peer's own pieces, the oldest first, in order, so that the reader can hash as it reads.
    fn take_own(&mut self, pick: &mut Pick) {
        let mut at = 0;
        while !pick.is_full()
            && let Some(&piece) = self.peers[pick.peer].own.get(at)
        {
            if self.begun.get(&piece).is_some_and(|begun| !self.may_join(piece, begun, pick.key)) {
                at += 1;
                continue;
            }
            self.take_free(pick, piece, false);
            // A piece that is no longer open has been removed from the list.
            at += usize::from(self.peers[pick.peer].own.get(at) == Some(&piece));
        }
    }

    /// Takes blocks of orphans, the fullest first, which the peer adopts; for a slow peer also of pieces that other slow peers
    /// own.
    fn take_shared(&mut self, pick: &mut Pick) {
        if pick.is_full() || (pick.context.is_fast() && self.free.orphans == 0) {
            return;
        }
        let slow = |owner: PeerKey| !self.is_fast(owner);
        let key = |piece: PieceIndex| {
            let begun = self.begun.get(&piece).filter(|begun| begun.free > begun.expired)?;
            let shared = begun.owner.is_none_or(|owner| !pick.context.is_fast() && owner != pick.key && slow(owner));
            (shared && self.may_join(piece, begun, pick.key)).then(|| RankedPiece {
                is_owner_fast: false,
                rank: begun.missing(),
                piece,
            })
        };
        for candidate in self.ranked(pick, key) {
            if pick.is_full() {
                break;
            }
            if let Some(begun) = self.begun.get_mut(&candidate.piece) {
                begun.owner.get_or_insert(pick.key);
            }
            self.take_free(pick, candidate.piece, false);
        }
    }

    /// This peer is a web seed. From now on, its picks continue with the pieces after the first new one, however rare they are: each
    /// gap costs a web seed another request.
    pub fn mark_web_seed(&mut self, key: PeerKey) {
        if let Ok(at) = self.find(key) {
            self.peers[at].is_web_seed = true;
        }
    }

    /// Begins new pieces: as the plan says, otherwise the rarest, with ties broken at random or, among seeds, next to the peer's
    /// last piece. The first few pieces are random.
    fn take_new(&mut self, pick: &mut Pick) {
        if pick.is_full() || self.peers[pick.peer].has_no_unbegun {
            return;
        }
        let allowed = self.allowed_bits(pick.peer);
        let mut continues = false;
        while !pick.is_full() {
            let any = self.have.count() as usize + self.begun.len() < RANDOM_FIRST as usize;
            // If all connected peers are seeds, nobody gains from our having rare pieces.
            let runs = !any && self.order.seeds() == self.peers.len();
            let early = self.early(pick.peer, allowed.as_ref());
            let preferred = self.preferred(pick.peer, allowed.as_ref());
            let is_sequential = self.sequence.is_sequential;
            let peer = &mut self.peers[pick.peer];
            let bits = preferred.as_ref().or(allowed.as_ref()).unwrap_or(&peer.bits);
            let planned = early
                .or_else(|| if is_sequential { self.order.first(bits) } else { None })
                .or_else(|| if continues { self.order.next_after(peer.last, bits) } else { None });
            let chosen = planned.or_else(|| self.order.choose(bits, peer.bits.is_full(), any, &mut self.rng));
            let Some(mut piece) = chosen else {
                // The search was exhaustive and need not be repeated, unless some pieces are left to others for a time.
                peer.has_no_unbegun = allowed.is_none();
                return;
            };
            if runs && planned.is_none() {
                let extent = if peer.is_web_seed { u32::MAX } else { self.geometry.extent() };
                piece = self.order.adjacent_to(piece, peer.last, extent, bits);
            }
            continues = peer.is_web_seed;
            peer.last = Some(piece);
            self.begin(piece, Some(pick.key).filter(|_| !pick.context.is_stalled()), Some(pick.key));
            self.take_free(pick, piece, false);
        }
    }

    /// Takes free blocks of any open piece, those of slow owners first, from the end backwards, so that the owner can continue in
    /// order as long as possible.
    fn take_from_other_owners(&mut self, pick: &mut Pick) {
        if pick.is_full() || self.free.open.is_empty() {
            return;
        }
        let key = |piece: PieceIndex| {
            let begun = self.begun.get(&piece).filter(|begun| begun.free > begun.expired)?;
            let is_owner_fast = begun.owner.is_some_and(|owner| self.is_fast(owner));
            if !self.may_join(piece, begun, pick.key) {
                return None;
            }
            // The piece with the most free blocks first: there the helper stays away from the owner longest.
            Some(RankedPiece { is_owner_fast, rank: u32::MAX - begun.free, piece })
        };
        for candidate in self.ranked(pick, key) {
            if pick.is_full() {
                break;
            }
            self.take_free(pick, candidate.piece, true);
        }
    }

    fn is_fast(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.pick_context.is_fast())
    }

    pub(crate) fn is_stalled(&self, key: PeerKey) -> bool {
        self.peer(key).is_none_or(|peer| peer.pick_context.is_stalled())
    }

    /// The open pieces that the peer has and for which `key` returns a sort key, in the order of the keys.
    fn ranked(&self, pick: &Pick, key: impl Fn(PieceIndex) -> Option<RankedPiece>) -> Vec<RankedPiece> {
        let bits = &self.peers[pick.peer].bits;
        let mut ranked: Vec<RankedPiece> =
            self.free.open.iter().filter(|&&piece| bits.has(piece)).filter_map(|&piece| key(piece)).collect();
        ranked.sort_unstable();
        ranked
    }

    /// Takes blocks that are requested from other peers: those of stalled peers at any time, and also those that this peer is
    /// likely to deliver sooner, in the end-game and of the pieces in `urgent`. With `urgent`, takes only blocks of these pieces.
    /// The last request slot of a block is reserved for a peer that has proven that it answers.
    pub(super) fn take_duplicates(&mut self, pick: &mut Pick, urgent: Option<&[PieceIndex]>) {
        let mut candidates = std::mem::take(&mut self.buffers.duplicates);
        candidates.clear();
        self.find_duplicates(pick, urgent, &mut candidates);
        let room = pick.goal.saturating_sub(pick.out.len()).min(MAX_DUPLICATES);
        if candidates.len() > room {
            candidates.select_nth_unstable(room);
            candidates.truncate(room);
        }
        candidates.sort_unstable();
        for candidate in &candidates {
            // If the others are late, this peer's due time applies.
            let late = candidate.due <= pick.context.ticks();
            let due = if late { pick.due() } else { pick.due().min(candidate.due) };
            if let Some(begun) = self.begun.get_mut(&candidate.piece) {
                begun.request(candidate.at, pick.key, due);
                pick.out.push(self.geometry.block(candidate.piece, candidate.at));
            }
        }
        self.buffers.duplicates = candidates;
    }

    /// Finds the blocks of [`Picker::take_duplicates`], in any order.
    fn find_duplicates(&self, pick: &mut Pick, urgent: Option<&[PieceIndex]>, candidates: &mut Vec<RankedBlock>) {
        let (bits, end) = (&self.peers[pick.peer].bits, urgent.is_some() || self.order.is_exhausted());
        let is_meant = |piece: &PieceIndex| urgent.is_none_or(|urgent| urgent.contains(piece)) && bits.has(*piece);
        let places = MAX_PEERS_PER_BLOCK - usize::from(!pick.context.is_proven());
        let mut again = u32::MAX;
        for (&piece, begun) in self.begun.iter().filter(|(piece, begun)| begun.requested > 0 && is_meant(piece)) {
            if !self.may_join(piece, begun, pick.key) {
                continue;
            }
            for (at, block) in begun.blocks().iter().enumerate() {
                let BlockState::Requested { requested_peers, due } = block else { continue };
                let keys = requested_peers.keys();
                if keys.len() >= places || keys.contains(&pick.key) {
                    continue;
                }
                if !keys.iter().all(|&other| self.is_stalled(other)) {
                    if !end {
                        continue;
                    }
                    if !pick.context.is_sooner_than(*due) {
                        again = again.min(*due);
                        continue;
                    }
                }
                let is_owner_fast = keys.iter().any(|&other| self.is_fast(other));
                let is_from_web_seed = keys.iter().any(|&other| self.peer(other).is_some_and(|peer| peer.is_web_seed));
                let order = if is_from_web_seed { u32::MAX - *due } else { *due };
                let requested_peers = keys.len();
                candidates.push(RankedBlock {
                    requested_peers,
                    is_owner_fast,
                    is_from_web_seed,
                    order,
                    due: *due,
                    piece,
                    at,
                });
            }
        }
        if again < u32::MAX {
            pick.look_again_at(again);
        }
    }
}
