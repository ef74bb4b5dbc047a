//! What the conductor does at each round of choking beside giving slots: it notes who let requests run out of time, and where the
//! table is full while somebody waits to be called, drops a peer of little use ([`Turnover`](crate::strategy::quality::Turnover)).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::strategy::choker::Candidate;
use crate::strategy::quality::Occupant;
use crate::strategy::quality::twins::{Twin, surplus};
use crate::torrent::transfer::Conductor;

impl Conductor<'_> {
    /// Puts on record how many requests each peer left unanswered since the last look.
    pub(crate) fn note_timeouts(&mut self) {
        for peer in self.shared.roster.all() {
            let late = peer.timed_out.swap(0, Ordering::Relaxed);
            if late > 0
                && let Some(record) = self.contacts.book.record(peer.addr)
            {
                record.timed_out(late);
            }
        }
    }

    /// Drops somebody where there is no room and somebody else could be called.
    pub(crate) fn turn_over(&mut self, now: Duration, candidates: &[Candidate]) {
        if self.contacts.lines.len() < self.contacts.seat.room() || self.contacts.book.callable(now, 1).is_empty() {
            return;
        }
        let occupants: Vec<_> = candidates.iter().filter_map(|c| self.occupant(c)).collect();
        if let Some(key) = self.turnover.pick(now, self.whole_since.is_some(), &occupants) {
            self.contacts.drop_line(key);
        }
    }

    /// Ends all but one of the connections to a peer that we reached over several of its addresses, where that is up to us.
    pub(crate) fn merge_twins(&mut self, candidates: &[Candidate]) {
        let twin = |c: &Candidate| {
            let id = self.shared.roster.get(c.key)?.id;
            Some(Twin { key: c.key, id, rate: c.down_rate.saturating_add(c.up_rate) })
        };
        let connections: Vec<_> = candidates.iter().filter_map(twin).collect();
        for (key, stays) in surplus(self.shared.peer_id, &connections) {
            log::debug!("two connections to one peer: one of them ends");
            self.contacts.end_twin(key, stays);
        }
    }

    /// A connected peer as the turnover sees it; `None` where it has just left.
    fn occupant(&self, c: &Candidate) -> Option<Occupant> {
        let peer = self.shared.roster.get(c.key)?;
        Some(Occupant {
            key: c.key,
            since: c.since,
            interesting: peer.am_interested.load(Ordering::Acquire),
            interested: c.interested,
            down_rate: c.down_rate,
            up_rate: c.up_rate,
        })
    }
}
