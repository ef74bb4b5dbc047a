//! What a super-seed knows of one leecher.

use std::collections::HashMap;
use std::time::Duration;

use crate::strategy::super_seed::{FAST_WINDOW, LeecherStanding, SPREAD_TIMEOUT};
use crate::types::{Bitfield, PieceIndex};

#[derive(Debug)]
pub(crate) struct Leecher {
    pub has: Bitfield,
    pub shown: Bitfield,
    /// Pieces that it was sent completely, so that it has them.
    pub given: Bitfield,
    pub offers: Vec<Offer>,
    /// Bytes sent of pieces that were not sent completely.
    pub sent: HashMap<PieceIndex, u32>,
    /// The standing as of the last tick, and since when.
    pub standing: (LeecherStanding, Duration),
    /// Whether it had every piece, and is counted in `SuperSeed::full`.
    pub is_full: bool,
    /// When it last got or was shown a piece.
    pub last_progress: Duration,
    /// How many offers it may have.
    pub window: usize,
    /// When it started the current window, and how many pieces it has been sent completely since.
    round: (Duration, usize),
    /// The value of `SuperSeed::fresh_count` when the leecher was last found to have seen all fresh pieces.
    pub fresh_seen: u64,
}

#[derive(Debug)]
pub(crate) struct Offer {
    pub piece: PieceIndex,
    /// When it was shown, when a part of it was last sent, or when the leecher's standing changed.
    pub since: Duration,
    pub state: OfferState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferState {
    /// Counted in `PieceSpread::offers`.
    Open,
    /// Not taken for too long by a choked leecher, so that the piece may be offered to others.
    Stale,
    /// The leecher has had the piece since this time.
    Taken(Duration),
}

impl Leecher {
    /// A leecher that has none of `pieces` pieces.
    pub fn new(pieces: u32, window: usize, now: Duration) -> Leecher {
        let none = Bitfield::new(pieces);
        Leecher {
            has: none.clone(),
            shown: none.clone(),
            given: none,
            offers: Vec::new(),
            sent: HashMap::new(),
            standing: (LeecherStanding::Waiting, now),
            is_full: false,
            last_progress: now,
            window,
            round: (now, 0),
            fresh_seen: 0,
        }
    }

    /// The pieces that it lacks and was not shown.
    pub fn hidden(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.has.len()).map(PieceIndex).filter(|&piece| !self.has.has(piece) && !self.shown.has(piece))
    }

    /// Whether it may be shown another piece.
    pub fn has_room(&self) -> bool {
        self.offers.len() < self.window
    }

    /// Records that the piece is shown to it.
    pub fn show(&mut self, piece: PieceIndex, now: Duration) {
        if self.offers.iter().all(|offer| offer.state != OfferState::Open) {
            self.round = (now, 0);
        }
        self.shown.set(piece);
        self.offers.push(Offer { piece, since: now, state: OfferState::Open });
        self.last_progress = now;
    }

    /// Marks offers of pieces that the leecher has as taken, and returns those that were open.
    pub fn take(&mut self, now: Duration) -> Vec<PieceIndex> {
        let mut taken = Vec::new();
        for offer in self.offers.iter_mut().filter(|offer| self.has.has(offer.piece)) {
            if offer.state == OfferState::Open {
                taken.push(offer.piece);
            }
            if !matches!(offer.state, OfferState::Taken(_)) {
                offer.state = OfferState::Taken(now);
            }
        }
        taken
    }

    /// Records that it was sent the whole piece, and returns whether that is new. If it took a window in less than
    /// [`FAST_WINDOW`], its window grows up to `most`.
    pub fn give(&mut self, piece: PieceIndex, most: usize, now: Duration) -> bool {
        let news = self.given.set(piece);
        self.round.1 += usize::from(news);
        if self.round.1 >= self.window {
            if now < self.round.0 + FAST_WINDOW {
                self.window = (self.window * 2).min(most);
            }
            self.round = (now, 0);
        }
        news
    }

    /// Withdraws offers that were not taken within `patience`, and drops those that the leecher has kept to itself too long. A
    /// changed standing restarts the time.
    pub fn withdraw(
        &mut self,
        (standing, patience): (LeecherStanding, Duration),
        has_changed: bool,
        now: Duration,
        withdrawn: &mut Vec<PieceIndex>,
    ) {
        self.offers.retain_mut(|offer| {
            if has_changed {
                offer.since = now;
            }
            match offer.state {
                OfferState::Taken(at) => now < at + SPREAD_TIMEOUT,
                OfferState::Open | OfferState::Stale if now < offer.since + patience => true,
                OfferState::Open => {
                    withdrawn.push(offer.piece);
                    offer.state = OfferState::Stale;
                    standing == LeecherStanding::Waiting
                }
                OfferState::Stale => standing == LeecherStanding::Waiting,
            }
        });
    }

    /// Whether it has taken all its offers. If so, they are dropped without waiting until they spread.
    pub fn forget_taken(&mut self) -> bool {
        let drained = self.offers.iter().all(|offer| matches!(offer.state, OfferState::Taken(_)));
        if drained {
            self.offers.clear();
        }
        drained
    }

    /// Records that it has every piece, if `is_full`. Returns 1 if that is new.
    pub fn note_full(&mut self, is_full: bool) -> u32 {
        let news = is_full && !self.is_full;
        self.is_full |= is_full;
        u32::from(news)
    }
}
