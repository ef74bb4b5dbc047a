//! Super-seeding (BEP 16): the first seed announces only a few pieces to each leecher, and others once those have spread.
//!
//! A seed that announces everything uploads the same pieces to many leechers while others wait for their first copy. A seed that
//! announces piece by piece, each to one leecher, uploads little more than one copy of the torrent, because a leecher must pass
//! its pieces on before it is shown more. An announcement cannot be taken back, so a leecher may request a shown piece at any
//! time; other pieces are not served to it.
//!
//! An *offer* is a piece that was shown to a leecher and has not spread yet. It has spread once another leecher has it, or when
//! no other leecher lacks it (the leecher is alone). Then the next piece is offered, or when the leecher has kept the piece to
//! itself for [`SPREAD_TIMEOUT`]. A leecher has a piece once it says so or was sent all of it: some clients send no HAVE to a
//! peer that has the piece. An offer that a leecher does not take in time is withdrawn, and the piece may be offered to another.
//! Pieces that nobody has and that are offered to nobody are *fresh*; only these are offered to leechers with room. A leecher
//! that has received nothing for [`SPREAD_TIMEOUT`] is shown the rarest other piece. Super-seeding is over when two leechers have
//! had every piece. The number of offers per leecher (its *window*) doubles while it takes a whole window in less than two
//! seconds.
//!
//! Leechers may lie about their pieces, take what they are shown without passing it on, or reconnect. So nobody waits for them
//! while our upload is idle (`idle`): a leecher that has taken all its offers is then shown more. First fresh pieces, next pieces
//! that no connected leecher was sent or offered, whatever anybody claims about them, and if it has received nothing for
//! [`STARVED_AFTER`], any other piece. An idle seed helps less than one that uploads a piece twice.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

mod idle;
mod leecher;

use idle::UploadMeter;
use leecher::{Leecher, OfferState};

use crate::types::{PeerKey, PieceIndex};

/// How long a leecher may keep a piece to itself, or receive nothing at all, before it is shown another piece.
pub const SPREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// An offer to an unchoked leecher is withdrawn if none of the piece was sent for this long.
pub const STALE_TIMEOUT: Duration = Duration::from_secs(60);
/// An offer to an uninterested leecher is withdrawn after this time: it has the piece from elsewhere, or does not want it.
pub const UNWANTED_TIMEOUT: Duration = Duration::from_secs(10);
/// The offers per leecher, in bytes. Several small pieces are offered at once to hide the round trip.
const WINDOW: u32 = 512 * 1024;
/// The most offers per leecher, in bytes.
const LARGEST_WINDOW: u32 = 8 << 20;
/// A leecher that takes a whole window in less time was limited by the window, which is then doubled.
const FAST_WINDOW: Duration = Duration::from_secs(2);
/// After our upload has been idle for this long, leechers that have taken all their offers are shown more, although those have
/// not spread.
pub const IDLE_AFTER: Duration = Duration::from_secs(1);
/// While our upload is idle, a leecher that has received nothing for this long is shown pieces that others were sent or shown.
pub const STARVED_AFTER: Duration = Duration::from_secs(5);
/// Once this many leechers have had every piece, the seed is no longer the only one.
const TARGET_COPIES: u32 = 2;

/// HAVEs to send: the leecher and the piece.
pub type HavesToSend = Vec<(PeerKey, PieceIndex)>;

/// A leecher's state on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeecherStanding {
    /// Interested and unchoked.
    Served,
    /// Interested and choked.
    Waiting,
    /// Not interested in any piece that it was shown.
    Uninterested,
}

/// Decides which pieces to show to which leecher. Unknown leechers and pieces are ignored in all methods.
#[derive(Debug)]
pub struct SuperSeed {
    /// The initial and the largest number of offers per leecher.
    windows: (usize, usize),
    leechers: BTreeMap<PeerKey, Leecher>,
    /// For each piece, how far it has spread among the connected leechers.
    spread: Vec<PieceSpread>,
    /// The number of fresh pieces.
    fresh: u32,
    /// How many times a piece has become fresh.
    fresh_count: u64,
    upload: UploadMeter,
    /// How many leechers have had every piece, including those that left.
    full: u32,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct PieceSpread {
    /// Leechers that have the piece, or say so.
    holders: u32,
    /// Leechers that it is offered to.
    offers: u32,
    /// Leechers that we have sent the whole piece.
    given: u32,
}

impl SuperSeed {
    /// For a torrent of `pieces` pieces of `piece_length` bytes, without any leecher yet.
    pub fn new(pieces: u32, piece_length: u32, seed: u64) -> SuperSeed {
        let first = (WINDOW / piece_length.max(1)).clamp(2, 8) as usize;
        SuperSeed {
            windows: (first, first.max((LARGEST_WINDOW / piece_length.max(1)) as usize)),
            leechers: BTreeMap::new(),
            spread: vec![PieceSpread::default(); pieces as usize],
            fresh: pieces,
            fresh_count: 1,
            upload: UploadMeter::default(),
            full: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether enough other copies exist, so that every piece may be shown to everyone.
    pub fn is_over(&self) -> bool {
        self.full >= TARGET_COPIES
    }

    /// Adds a leecher without any piece.
    pub fn join(&mut self, key: PeerKey, now: Duration, out: &mut HavesToSend) {
        let leecher = Leecher::new(self.spread.len() as u32, self.windows.0, now);
        self.leechers.entry(key).or_insert(leecher);
        self.offer_fresh(key, now, out);
    }

    /// Removes a leecher. Pieces that only it had are fresh again.
    pub fn leave(&mut self, key: PeerKey, now: Duration, out: &mut HavesToSend) {
        let Some(gone) = self.leechers.remove(&key) else { return };
        for piece in gone.has.iter() {
            self.count(piece, |spread| spread.holders -= 1);
        }
        for piece in gone.given.iter() {
            self.count(piece, |spread| spread.given -= 1);
        }
        for offer in gone.offers.iter().filter(|offer| offer.state == OfferState::Open) {
            self.count(offer.piece, |spread| spread.offers -= 1);
        }
        self.update_offers(now, out);
    }

    /// Records that the leecher has these pieces; known ones may be included.
    pub fn has(
        &mut self,
        key: PeerKey,
        pieces: impl Iterator<Item = PieceIndex>,
        now: Duration,
        out: &mut HavesToSend,
    ) {
        let Some(leecher) = self.leechers.get_mut(&key) else { return };
        let gained: Vec<_> = pieces.filter(|&piece| leecher.has.set(piece)).collect();
        if gained.is_empty() {
            return;
        }
        leecher.last_progress = now;
        self.full += leecher.note_full(leecher.has.is_full());
        let taken = leecher.take(now);
        for piece in gained {
            self.count(piece, |spread| spread.holders += 1);
        }
        for piece in taken {
            self.count(piece, |spread| spread.offers -= 1);
        }
        self.update_offers(now, out);
    }

    /// Records that the leecher was sent `bytes` of a piece of `size` bytes. It has the piece once it was sent all of it.
    pub fn sent(
        &mut self,
        key: PeerKey,
        (piece, size): (PieceIndex, u32),
        bytes: u32,
        now: Duration,
        out: &mut HavesToSend,
    ) {
        self.upload.sent(bytes);
        let Some(leecher) = self.leechers.get_mut(&key).filter(|leecher| !leecher.given.has(piece)) else { return };
        leecher.offers.iter_mut().filter(|offer| offer.piece == piece).for_each(|offer| offer.since = now);
        let sent = leecher.sent.entry(piece).or_default();
        *sent = sent.saturating_add(bytes);
        if *sent >= size {
            leecher.sent.remove(&piece);
            if leecher.give(piece, self.windows.1, now) {
                self.count(piece, |spread| spread.given += 1);
            }
            self.has(key, std::iter::once(piece), now, out);
        }
    }

    /// Advances the time; once per second is enough. Withdraws offers that were not taken. Shows another piece to leechers that
    /// keep theirs to themselves or lack everything, at once if our upload is idle. Leechers that are missing from `standings`
    /// count as waiting.
    pub fn tick(&mut self, now: Duration, standings: &HashMap<PeerKey, LeecherStanding>, out: &mut HavesToSend) {
        let mut withdrawn = Vec::new();
        for (key, leecher) in &mut self.leechers {
            let standing = standings.get(key).copied().unwrap_or(LeecherStanding::Waiting);
            let changed = leecher.standing.0 != standing;
            if changed {
                leecher.standing = (standing, now);
            }
            // A leecher that sends no HAVE for shown pieces evidently has everything once it wants none of them any more.
            let idle = standing == LeecherStanding::Uninterested && now >= leecher.standing.1 + UNWANTED_TIMEOUT;
            self.full += leecher.note_full(idle && !leecher.is_full && leecher.hidden().next().is_none());
            let patience = match standing {
                LeecherStanding::Served => STALE_TIMEOUT,
                LeecherStanding::Waiting => SPREAD_TIMEOUT,
                LeecherStanding::Uninterested => UNWANTED_TIMEOUT,
            };
            leecher.withdraw((standing, patience), changed, now, &mut withdrawn);
        }
        for piece in withdrawn {
            self.count(piece, |spread| spread.offers -= 1);
        }
        self.update_offers(now, out);
        if self.upload.idle(now) >= IDLE_AFTER {
            self.fill_idle_upload(now, out);
        }
        let starving = |l: &Leecher| l.offers.is_empty() && now >= l.last_progress + SPREAD_TIMEOUT;
        let starving: Vec<_> = self.leechers.iter().filter(|(_, l)| starving(l)).map(|(&key, _)| key).collect();
        for key in starving {
            let rarest = self.hidden(key).min_by_key(|piece| self.spread[piece.as_usize()]);
            if let Some(piece) = rarest {
                self.offer(key, piece, now, out);
            }
        }
    }

    /// Whether the piece was shown to the leecher.
    pub fn is_shown(&self, key: PeerKey, piece: PieceIndex) -> bool {
        self.leechers.get(&key).is_some_and(|leecher| leecher.shown.has(piece))
    }

    /// The pieces that the leecher lacks and was not shown.
    pub fn hidden(&self, key: PeerKey) -> impl Iterator<Item = PieceIndex> + '_ {
        self.leechers.get(&key).into_iter().flat_map(Leecher::hidden)
    }

    /// Removes offers that have spread, and makes new ones.
    fn update_offers(&mut self, now: Duration, out: &mut HavesToSend) {
        let all = self.leechers.len() as u32;
        let mut needless = Vec::new();
        for leecher in self.leechers.values_mut() {
            leecher.offers.retain(|offer| {
                let holders = self.spread[offer.piece.as_usize()].holders;
                let taken = matches!(offer.state, OfferState::Taken(_));
                let spread = holders > u32::from(taken) || (taken && holders >= all);
                if spread && offer.state == OfferState::Open {
                    needless.push(offer.piece);
                }
                !spread
            });
        }
        for piece in needless {
            self.count(piece, |spread| spread.offers -= 1);
        }
        if self.fresh > 0 {
            let keys: Vec<_> = self.leechers.iter().filter(|(_, l)| l.has_room()).map(|(&key, _)| key).collect();
            for key in keys {
                self.offer_fresh(key, now, out);
            }
        }
    }

    /// While our upload is idle, shows more to leechers that have taken all their offers: also what others were sent or shown, if
    /// they have received nothing for [`STARVED_AFTER`].
    fn fill_idle_upload(&mut self, now: Duration, out: &mut HavesToSend) {
        let drained = |(&key, leecher): (&PeerKey, &mut Leecher)| leecher.forget_taken().then_some(key);
        let mut keys: Vec<_> = self.leechers.iter_mut().filter_map(drained).collect();
        for &key in &keys {
            self.offer_fresh(key, now, out);
        }
        keys.retain(|key| self.leechers[key].offers.is_empty());
        if keys.is_empty() {
            return;
        }
        let mut rarest: Vec<_> = (0..self.spread.len() as u32).map(PieceIndex).collect();
        self.rng.shuffle(&mut rarest);
        rarest.sort_by_key(|piece| self.spread[piece.as_usize()]);
        for key in keys {
            let leecher = &self.leechers[&key];
            let mut its = Vec::new();
            let again = now >= leecher.last_progress + STARVED_AFTER;
            let shows = |piece: PieceIndex| {
                let spread = self.spread[piece.as_usize()];
                let hidden = !leecher.has.has(piece) && !leecher.shown.has(piece);
                hidden && (again || (spread.offers == 0 && spread.given == 0))
            };
            rarest.retain(|&piece| {
                let chosen = its.len() < leecher.window && shows(piece);
                its.extend(chosen.then_some(piece));
                !chosen
            });
            // The next leecher is shown other pieces, as long as there are any.
            rarest.extend(&its);
            for piece in its {
                self.offer(key, piece, now, out);
            }
        }
    }

    /// Offers fresh pieces to the leecher in random order, up to its window.
    fn offer_fresh(&mut self, key: PeerKey, now: Duration, out: &mut HavesToSend) {
        let pieces = self.spread.len() as u32;
        while self.fresh > 0
            && let Some(leecher) =
                self.leechers.get_mut(&key).filter(|l| l.has_room() && l.fresh_seen < self.fresh_count)
        {
            let start = self.rng.u32(..pieces);
            let fresh = |p: &PieceIndex| self.spread[p.as_usize()] == PieceSpread::default() && !leecher.shown.has(*p);
            let Some(piece) = (start..pieces).chain(0..start).map(PieceIndex).find(fresh) else {
                leecher.fresh_seen = self.fresh_count;
                return;
            };
            self.offer(key, piece, now, out);
        }
    }

    fn offer(&mut self, key: PeerKey, piece: PieceIndex, now: Duration, out: &mut HavesToSend) {
        let Some(leecher) = self.leechers.get_mut(&key) else { return };
        leecher.show(piece, now);
        out.push((key, piece));
        self.count(piece, |spread| spread.offers += 1);
    }

    /// Changes the counts of a piece, and keeps `fresh` up to date.
    fn count(&mut self, piece: PieceIndex, change: impl FnOnce(&mut PieceSpread)) {
        let Some(spread) = self.spread.get_mut(piece.as_usize()) else { return };
        self.fresh -= u32::from(*spread == PieceSpread::default());
        change(spread);
        let fresh = *spread == PieceSpread::default();
        self.fresh += u32::from(fresh);
        self.fresh_count += u64::from(fresh);
    }
}

#[cfg(test)]
mod tests;
