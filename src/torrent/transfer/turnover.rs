//! What the conductor does at each round of choking beside giving slots: it notes who let requests run out of time, and where the
//! table is full while somebody waits to be called, drops a peer of little use ([`Turnover`](crate::strategy::quality::Turnover)).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::strategy::choker::Candidate;
use crate::strategy::quality::TurnoverCandidate;
use crate::strategy::quality::duplicates::{DuplicateConnection, surplus_duplicates};
use crate::torrent::transfer::Transfer;

impl Transfer<'_> {
    /// Puts on record how many requests each peer left unanswered since the last look.
    pub(crate) fn note_timeouts(&mut self) {
        for peer in self.shared.roster.all() {
            let late = peer.timed_out.swap(0, Ordering::Relaxed);
            if late > 0
                && let Some(record) = self.peer_manager.peer_list.record(peer.addr)
            {
                record.timed_out(late);
            }
        }
    }

    /// Drops somebody where there is no room and somebody else could be called.
    pub(crate) fn drop_useless_peer(&mut self, now: Duration, candidates: &[Candidate]) {
        if self.peer_manager.connections.len() < self.peer_manager.registration.capacity()
            || self.peer_manager.peer_list.dial_candidates(now, 1).is_empty()
        {
            return;
        }
        let occupants: Vec<_> = candidates.iter().filter_map(|c| self.occupant(c)).collect();
        if let Some(key) = self.turnover.pick(now, self.complete_since.is_some(), &occupants) {
            self.peer_manager.drop_connection(key);
        }
    }

    /// Ends all but one of the connections to a peer that we reached over several of its addresses, where that is up to us.
    pub(crate) fn merge_twins(&mut self, candidates: &[Candidate]) {
        let twin = |c: &Candidate| {
            let id = self.shared.roster.get(c.key)?.id;
            Some(DuplicateConnection { key: c.key, id, rate: c.down_rate.saturating_add(c.up_rate) })
        };
        let connections: Vec<_> = candidates.iter().filter_map(twin).collect();
        for (key, stays) in surplus_duplicates(self.shared.peer_id, &connections) {
            log::debug!("two connections to one peer: one of them ends");
            self.peer_manager.end_twin(key, stays);
        }
    }

    /// A connected peer as the turnover sees it; `None` where it has just left.
    fn occupant(&self, c: &Candidate) -> Option<TurnoverCandidate> {
        let peer = self.shared.roster.get(c.key)?;
        Some(TurnoverCandidate {
            key: c.key,
            since: c.since,
            interesting: peer.am_interested.load(Ordering::Acquire),
            interested: c.interested,
            down_rate: c.down_rate,
            up_rate: c.up_rate,
        })
    }
}
