//! Super-seeding (BEP 16): a first seeder that shows each leecher a few pieces only, and others once those have spread.
//!
//! A seeder that shows all it has gives the same pieces to many while others wait for their first copy. One that shows piece by
//! piece, to one leecher each, gets away with little more than one copy of everything: who wants to see more must pass on what
//! it got. What is shown cannot be taken back, so a leecher may ask for it at any time; the rest is not served to it.
//!
//! An *offer* is a piece shown to a leecher and not yet seen to have spread. It has spread once another leecher has it, or when
//! nobody else lacks it (a leecher that is alone). The next one is shown then, or when the leecher has kept the piece to itself
//! for [`SPREAD`]. Only pieces that nobody has and that are offered to nobody are *fresh*, and shown to whoever has room; a
//! leecher to whom nothing came for [`SPREAD`] sees the rarest of the others. It is over when two leechers have had everything. Who claims to have what it has not costs us copies, nothing else.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::types::{Bitfield, PeerKey, PieceIndex};

/// How long a leecher may keep a piece to itself, or get nothing at all, before it is shown another.
pub const SPREAD: Duration = Duration::from_secs(30);
/// An offer that a leecher does not take for so long, although it is served, no longer keeps the piece from others; that of one
/// that is choked does so for [`SPREAD`] only.
pub const STALE: Duration = Duration::from_secs(600);
/// Offers a leecher, in bytes; small pieces are shown by several, so that the way there and back costs little.
const WINDOW: u32 = 512 * 1024;
/// So many leechers with everything, and the seeder is no longer the only one.
const COPIES: u32 = 2;

/// What is to be told: to whom, of which piece.
pub type Shown = Vec<(PeerKey, PieceIndex)>;

/// Decides what to show to whom. Leechers and pieces that do not exist are ignored everywhere.
#[derive(Debug)]
pub struct SuperSeed {
    /// Offers a leecher.
    window: usize,
    leechers: BTreeMap<PeerKey, Leecher>,
    /// For each piece, how many leechers have it and to how many it is offered.
    spread: Vec<Spread>,
    /// Pieces that nobody has and that are offered to nobody.
    fresh: u32,
    /// Leechers that had everything, those who left included.
    full: u32,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Spread {
    holders: u32,
    offers: u32,
}

#[derive(Debug)]
struct Leecher {
    has: Bitfield,
    shown: Bitfield,
    offers: Vec<Offer>,
    /// When it last got or was shown something.
    news: Duration,
}

#[derive(Debug)]
struct Offer {
    piece: PieceIndex,
    since: Duration,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Counted in `Spread::offers`.
    Open,
    /// Not taken for too long.
    Stale,
    /// The leecher has it, since then.
    Taken(Duration),
}

impl SuperSeed {
    /// For a torrent of so many pieces of so many bytes, with nobody to show them to yet.
    pub fn new(pieces: u32, piece_length: u32, seed: u64) -> SuperSeed {
        SuperSeed {
            window: (WINDOW / piece_length.max(1)).clamp(2, 8) as usize,
            leechers: BTreeMap::new(),
            spread: vec![Spread::default(); pieces as usize],
            fresh: pieces,
            full: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether others have copies enough, so that everything may be shown to everybody.
    pub fn is_over(&self) -> bool {
        self.full >= COPIES
    }

    /// A leecher that has nothing yet.
    pub fn join(&mut self, key: PeerKey, now: Duration, out: &mut Shown) {
        let none = Bitfield::new(self.spread.len() as u32);
        let leecher = Leecher { has: none.clone(), shown: none, offers: Vec::new(), news: now };
        self.leechers.entry(key).or_insert(leecher);
        self.fill(key, now, out);
    }

    /// The leecher is gone, and with it what only it had.
    pub fn leave(&mut self, key: PeerKey, now: Duration, out: &mut Shown) {
        let Some(gone) = self.leechers.remove(&key) else { return };
        for piece in gone.has.iter() {
            self.count(piece, |spread| spread.holders -= 1);
        }
        for offer in gone.offers.iter().filter(|offer| offer.state == State::Open) {
            self.count(offer.piece, |spread| spread.offers -= 1);
        }
        self.next(now, out);
    }

    /// The leecher has these pieces, those that were known included.
    pub fn has(&mut self, key: PeerKey, pieces: impl Iterator<Item = PieceIndex>, now: Duration, out: &mut Shown) {
        let Some(leecher) = self.leechers.get_mut(&key) else { return };
        let was_full = leecher.has.is_full();
        let gained: Vec<_> = pieces.filter(|&piece| leecher.has.set(piece)).collect();
        if gained.is_empty() {
            return;
        }
        leecher.news = now;
        self.full += u32::from(!was_full && leecher.has.is_full());
        let mut taken = Vec::new();
        for offer in leecher.offers.iter_mut().filter(|offer| leecher.has.has(offer.piece)) {
            if offer.state == State::Open {
                taken.push(offer.piece);
            }
            if !matches!(offer.state, State::Taken(_)) {
                offer.state = State::Taken(now);
            }
        }
        for piece in gained {
            self.count(piece, |spread| spread.holders += 1);
        }
        for piece in taken {
            self.count(piece, |spread| spread.offers -= 1);
        }
        self.next(now, out);
    }

    /// Time has passed: who keeps all to itself, or is short of everything, is shown something else. Every few seconds is enough.
    /// Those in `served` are not choked.
    pub fn tick(&mut self, now: Duration, served: &HashSet<PeerKey>, out: &mut Shown) {
        let mut stale = Vec::new();
        for (key, leecher) in &mut self.leechers {
            let patience = if served.contains(key) { STALE } else { SPREAD };
            leecher.offers.retain(|offer| !matches!(offer.state, State::Taken(at) if now >= at + SPREAD));
            for offer in &mut leecher.offers {
                if offer.state == State::Open && now >= offer.since + patience {
                    offer.state = State::Stale;
                    stale.push(offer.piece);
                }
            }
        }
        for piece in stale {
            self.count(piece, |spread| spread.offers -= 1);
        }
        self.next(now, out);
        let starving = |l: &Leecher| l.offers.is_empty() && now >= l.news + SPREAD;
        let starving: Vec<_> = self.leechers.iter().filter(|(_, l)| starving(l)).map(|(&key, _)| key).collect();
        for key in starving {
            let rarest = self.hidden(key).min_by_key(|piece| self.spread[piece.at()]);
            if let Some(piece) = rarest {
                self.offer(key, piece, now, out);
            }
        }
    }

    /// Whether the piece has been shown to the leecher.
    pub fn is_shown(&self, key: PeerKey, piece: PieceIndex) -> bool {
        self.leechers.get(&key).is_some_and(|leecher| leecher.shown.has(piece))
    }

    /// The pieces that the leecher lacks and has not been shown.
    pub fn hidden(&self, key: PeerKey) -> impl Iterator<Item = PieceIndex> + '_ {
        let leecher = self.leechers.get(&key);
        let of = move |leecher: &'_ Leecher, piece| !leecher.has.has(piece) && !leecher.shown.has(piece);
        (0..self.spread.len() as u32).map(PieceIndex).filter(move |&piece| leecher.is_some_and(|l| of(l, piece)))
    }

    /// Strikes out the offers that have spread, and makes others.
    fn next(&mut self, now: Duration, out: &mut Shown) {
        let all = self.leechers.len() as u32;
        let mut needless = Vec::new();
        for leecher in self.leechers.values_mut() {
            leecher.offers.retain(|offer| {
                let holders = self.spread[offer.piece.at()].holders;
                let taken = matches!(offer.state, State::Taken(_));
                let spread = holders > u32::from(taken) || (taken && holders >= all);
                if spread && offer.state == State::Open {
                    needless.push(offer.piece);
                }
                !spread
            });
        }
        for piece in needless {
            self.count(piece, |spread| spread.offers -= 1);
        }
        let room = |leecher: &Leecher| leecher.offers.len() < self.window;
        if self.fresh > 0 {
            let keys: Vec<_> = self.leechers.iter().filter(|(_, l)| room(l)).map(|(&key, _)| key).collect();
            for key in keys {
                self.fill(key, now, out);
            }
        }
    }

    /// Shows the leecher fresh pieces, taken at random, as far as it has room.
    fn fill(&mut self, key: PeerKey, now: Duration, out: &mut Shown) {
        let pieces = self.spread.len() as u32;
        while self.fresh > 0
            && let Some(leecher) = self.leechers.get(&key).filter(|l| l.offers.len() < self.window)
        {
            let start = self.rng.u32(..pieces);
            let fresh = |p: &PieceIndex| self.spread[p.at()] == Spread::default() && !leecher.shown.has(*p);
            let Some(piece) = (start..pieces).chain(0..start).map(PieceIndex).find(fresh) else { return };
            self.offer(key, piece, now, out);
        }
    }

    fn offer(&mut self, key: PeerKey, piece: PieceIndex, now: Duration, out: &mut Shown) {
        let Some(leecher) = self.leechers.get_mut(&key) else { return };
        leecher.shown.set(piece);
        leecher.offers.push(Offer { piece, since: now, state: State::Open });
        leecher.news = now;
        out.push((key, piece));
        self.count(piece, |spread| spread.offers += 1);
    }

    /// Changes what is known of a piece.
    fn count(&mut self, piece: PieceIndex, change: impl FnOnce(&mut Spread)) {
        let Some(spread) = self.spread.get_mut(piece.at()) else { return };
        self.fresh -= u32::from(*spread == Spread::default());
        change(spread);
        self.fresh += u32::from(*spread == Spread::default());
    }
}

#[cfg(test)]
#[path = "superseed_tests.rs"]
mod tests;
