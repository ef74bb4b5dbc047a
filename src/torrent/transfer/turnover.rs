//! What main does at each choke round besides choking: records requests that timed out and, if the table is full while
//! there are peers to dial, drops a peer of little use ([`Turnover`](crate::strategy::quality::Turnover)).

use std::time::Duration;

use crate::strategy::choker::ChokeCandidate;
use crate::strategy::quality::TurnoverCandidate;
use crate::strategy::quality::duplicates::DuplicateConnection;
use crate::torrent::transfer::Transfer;

impl Transfer<'_, '_> {
    /// Records how many requests each peer left unanswered since the last call.
    pub(crate) fn note_timeouts(&mut self) {
        for peer in self.context.roster.all() {
            let late = peer.requesting.timed_out.take();
            if late > 0
                && let Some(record) = self.peer_manager.peer_list.record(peer.addr)
            {
                record.timed_out(late);
            }
        }
    }

    /// Drops a peer of little use if there is no room and another peer could be dialled.
    pub(crate) fn drop_useless_peer(&mut self, now: Duration, candidates: &[ChokeCandidate]) {
        if self.peer_manager.connections.len() < self.peer_manager.registration.capacity()
            || self.peer_manager.peer_list.dial_candidates(now, 1).is_empty()
        {
            return;
        }
        let turnover_candidates: Vec<_> = candidates.iter().filter_map(|c| self.turnover_candidate(c)).collect();
        if let Some(key) = self.turnover.pick(now, self.complete_since.is_some(), &turnover_candidates) {
            self.peer_manager.drop_connection(key);
        }
    }

    /// Closes the slower connections to a peer that we reached at several addresses, if that is up to us.
    pub(crate) fn close_duplicates(&mut self, now: Duration, candidates: &[ChokeCandidate]) {
        let connections: Vec<_> = candidates.iter().filter_map(|c| self.duplicate_connection(c)).collect();
        for (key, stays) in self.duplicate_trials.round(now, self.context.settings.peer_id, &connections) {
            log::debug!("two connections to one peer: one of them ends");
            self.peer_manager.close_duplicate(key, stays);
        }
    }

    /// A connected peer as [`DuplicateTrials`](crate::strategy::quality::duplicates::DuplicateTrials) sees it; `None` if it has
    /// just left.
    fn duplicate_connection(&self, c: &ChokeCandidate) -> Option<DuplicateConnection> {
        let peer = self.context.roster.get(c.key)?;
        let is_interesting = peer.choking.am_interested.is_set();
        Some(DuplicateConnection {
            key: c.key,
            id: peer.id,
            is_from_user: peer.listen_addr().is_some_and(|addr| self.peer_manager.peer_list.is_from_user(&addr)),
            is_interesting,
            is_unchoked: if is_interesting { c.owes_blocks } else { c.is_unchoked && c.is_interested },
            received: c.received,
            sent: c.sent,
        })
    }

    /// A connected peer as [`Turnover`](crate::strategy::quality::Turnover) sees it; `None` if it has just left.
    fn turnover_candidate(&self, c: &ChokeCandidate) -> Option<TurnoverCandidate> {
        let peer = self.context.roster.get(c.key)?;
        Some(TurnoverCandidate {
            key: c.key,
            since: c.since,
            is_interesting: peer.choking.am_interested.is_set(),
            is_interested: c.is_interested,
            down_rate: c.down_rate,
            up_rate: c.up_rate,
        })
    }
}
