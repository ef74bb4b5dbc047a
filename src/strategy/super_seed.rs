//! Super-seeding (BEP 16): a first seeder that shows each leecher a few pieces only, and others once those have spread.
//!
//! A seeder that shows all it has gives the same pieces to many while others wait for their first copy. One that shows piece by
//! piece, to one leecher each, gets away with little more than one copy of everything: who wants to see more must pass on what
//! it got. What is shown cannot be taken back, so a leecher may ask for it at any time; the rest is not served to it.
//!
//! An *offer* is a piece shown to a leecher and not yet seen to have spread. It has spread once another leecher has it, or when
//! nobody else lacks it (a leecher that is alone). The next one is shown then, or when the leecher has kept the piece to itself
//! for [`SPREAD_TIMEOUT`]. A leecher has a piece once it says so or has been sent all of it: some clients send no HAVE to a peer that has the
//! piece. An offer that a leecher does not take in time is withdrawn, and its place is free for another. Only pieces that nobody has
//! and that are offered to nobody are *fresh*, and shown to whoever has room; a leecher to whom nothing came for [`SPREAD_TIMEOUT`] sees the
//! rarest of the others. It is over when two leechers have had everything. How many offers a leecher may have (its *window*) doubles
//! while it takes them all in less than two seconds.
//!
//! Others may say that they have what they have not, take what they are shown and say nothing, or leave and come back, so nobody waits
//! for them while our upload is idle (`idle`): who has taken all that it was shown then sees more, first what is fresh, next what we
//! have sent to nobody who is there and offer to nobody, whatever anybody says of it, and where it got nothing for [`LONG`] any other.
//! An idle seeder helps less than one that sends a piece twice.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

mod idle;
mod leecher;

use idle::UploadMeter;
use leecher::{Leecher, OfferState};

use crate::types::{PeerKey, PieceIndex};

/// How long a leecher may keep a piece to itself, or get nothing at all, before it is shown another.
pub const SPREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// An offer is withdrawn from a leecher that is unchoked and was sent nothing of the piece for so long.
pub const STALE_TIMEOUT: Duration = Duration::from_secs(60);
/// An offer is withdrawn from a leecher that is not interested for so long: it has the piece from elsewhere, or does not want it.
pub const UNWANTED_TIMEOUT: Duration = Duration::from_secs(10);
/// Offers a leecher, in bytes; small pieces are shown by several, so that the way there and back costs little.
const WINDOW: u32 = 512 * 1024;
/// No leecher has more offers than this, in bytes.
const LARGEST_WINDOW: u32 = 8 << 20;
/// A leecher that takes a whole window in less time is shown twice as much: it was the window that it waited for.
const FAST: Duration = Duration::from_secs(2);
/// Our upload is idle for so long: who has taken all that it was shown sees more, though that has not spread.
pub const QUIET: Duration = Duration::from_secs(1);
/// A leecher got nothing for so long while our upload is idle: it is shown what others were sent or shown.
pub const LONG: Duration = Duration::from_secs(5);
/// So many leechers with everything, and the seeder is no longer the only one.
const TARGET_COPIES: u32 = 2;

/// What is to be told: to whom, of which piece.
pub type HavesToSend = Vec<(PeerKey, PieceIndex)>;

/// How a leecher stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeecherStanding {
    /// It is interested, and unchoked.
    Served,
    /// It is interested, and choked.
    Waiting,
    /// It wants nothing that it has been shown.
    Uninterested,
}

/// Decides what to show to whom. Leechers and pieces that do not exist are ignored everywhere.
#[derive(Debug)]
pub struct SuperSeed {
    /// Offers a leecher, at first and at most.
    windows: (usize, usize),
    leechers: BTreeMap<PeerKey, Leecher>,
    /// For each piece, how it has spread among those who are there.
    spread: Vec<PieceSpread>,
    /// Pieces that nobody has and that are offered to nobody.
    fresh: u32,
    /// How often a piece became fresh.
    freshened: u64,
    upload: UploadMeter,
    /// Leechers that had everything, those who left included.
    full: u32,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct PieceSpread {
    /// Leechers that have it, or say so.
    holders: u32,
    /// Leechers that it is offered to.
    offers: u32,
    /// Leechers that we have sent all of it.
    given: u32,
}

impl SuperSeed {
    /// For a torrent of so many pieces of so many bytes, with nobody to show them to yet.
    pub fn new(pieces: u32, piece_length: u32, seed: u64) -> SuperSeed {
        let first = (WINDOW / piece_length.max(1)).clamp(2, 8) as usize;
        SuperSeed {
            windows: (first, first.max((LARGEST_WINDOW / piece_length.max(1)) as usize)),
            leechers: BTreeMap::new(),
            spread: vec![PieceSpread::default(); pieces as usize],
            fresh: pieces,
            freshened: 1,
            upload: UploadMeter::default(),
            full: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether others have copies enough, so that everything may be shown to everybody.
    pub fn is_over(&self) -> bool {
        self.full >= TARGET_COPIES
    }

    /// A leecher that has nothing yet.
    pub fn join(&mut self, key: PeerKey, now: Duration, out: &mut HavesToSend) {
        let leecher = Leecher::new(self.spread.len() as u32, self.windows.0, now);
        self.leechers.entry(key).or_insert(leecher);
        self.fill(key, now, out);
    }

    /// The leecher is gone, and with it what only it had.
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
        self.next(now, out);
    }

    /// The leecher has these pieces, those that were known included.
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
        leecher.news = now;
        self.full += leecher.note_full(leecher.has.is_full());
        let taken = leecher.take(now);
        for piece in gained {
            self.count(piece, |spread| spread.holders += 1);
        }
        for piece in taken {
            self.count(piece, |spread| spread.offers -= 1);
        }
        self.next(now, out);
    }

    /// The leecher was sent so many bytes of a piece of `size` bytes. Once it was sent all of them it has the piece.
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

    /// Time has passed: offers that are not taken are withdrawn, and a leecher that keeps all to itself, or is short of everything,
    /// is shown something else, at once where our upload is idle. Once a second is often enough. Leechers that `standings` does not name are taken to wait.
    pub fn tick(&mut self, now: Duration, standings: &HashMap<PeerKey, LeecherStanding>, out: &mut HavesToSend) {
        let mut withdrawn = Vec::new();
        for (key, leecher) in &mut self.leechers {
            let standing = standings.get(key).copied().unwrap_or(LeecherStanding::Waiting);
            let changed = leecher.standing.0 != standing;
            if changed {
                leecher.standing = (standing, now);
            }
            // One that sends no HAVE of what it was shown is known to have everything when it no longer wants any of it.
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
        self.next(now, out);
        if self.upload.idle(now) >= QUIET {
            self.fill_idle_upload(now, out);
        }
        let starving = |l: &Leecher| l.offers.is_empty() && now >= l.news + SPREAD_TIMEOUT;
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
        self.leechers.get(&key).into_iter().flat_map(Leecher::hidden)
    }

    /// Strikes out the offers that have spread, and makes others.
    fn next(&mut self, now: Duration, out: &mut HavesToSend) {
        let all = self.leechers.len() as u32;
        let mut needless = Vec::new();
        for leecher in self.leechers.values_mut() {
            leecher.offers.retain(|offer| {
                let holders = self.spread[offer.piece.at()].holders;
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
                self.fill(key, now, out);
            }
        }
    }

    /// Our upload is idle: who has taken all that it was shown sees more, and what others were sent or shown where it got nothing
    /// for [`LONG`].
    fn fill_idle_upload(&mut self, now: Duration, out: &mut HavesToSend) {
        let drained = |(&key, leecher): (&PeerKey, &mut Leecher)| leecher.forget_taken().then_some(key);
        let mut keys: Vec<_> = self.leechers.iter_mut().filter_map(drained).collect();
        for &key in &keys {
            self.fill(key, now, out);
        }
        keys.retain(|key| self.leechers[key].offers.is_empty());
        if keys.is_empty() {
            return;
        }
        let mut rarest: Vec<_> = (0..self.spread.len() as u32).map(PieceIndex).collect();
        self.rng.shuffle(&mut rarest);
        rarest.sort_by_key(|piece| self.spread[piece.at()]);
        for key in keys {
            let leecher = &self.leechers[&key];
            let mut its = Vec::new();
            let again = now >= leecher.news + LONG;
            let shows = |piece: PieceIndex| {
                let spread = self.spread[piece.at()];
                let hidden = !leecher.has.has(piece) && !leecher.shown.has(piece);
                hidden && (again || (spread.offers == 0 && spread.given == 0))
            };
            rarest.retain(|&piece| {
                let chosen = its.len() < leecher.window && shows(piece);
                its.extend(chosen.then_some(piece));
                !chosen
            });
            // The next one is shown others, as far as there are any.
            rarest.extend(&its);
            for piece in its {
                self.offer(key, piece, now, out);
            }
        }
    }

    /// Shows the leecher fresh pieces, taken at random, as far as it has room.
    fn fill(&mut self, key: PeerKey, now: Duration, out: &mut HavesToSend) {
        let pieces = self.spread.len() as u32;
        while self.fresh > 0
            && let Some(leecher) = self.leechers.get_mut(&key).filter(|l| l.has_room() && l.searched < self.freshened)
        {
            let start = self.rng.u32(..pieces);
            let fresh = |p: &PieceIndex| self.spread[p.at()] == PieceSpread::default() && !leecher.shown.has(*p);
            let Some(piece) = (start..pieces).chain(0..start).map(PieceIndex).find(fresh) else {
                leecher.searched = self.freshened;
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

    /// Changes what is known of a piece.
    fn count(&mut self, piece: PieceIndex, change: impl FnOnce(&mut PieceSpread)) {
        let Some(spread) = self.spread.get_mut(piece.at()) else { return };
        self.fresh -= u32::from(*spread == PieceSpread::default());
        change(spread);
        let fresh = *spread == PieceSpread::default();
        self.fresh += u32::from(fresh);
        self.freshened += u64::from(fresh);
    }
}

#[cfg(test)]
mod tests;
