//! What came of looking for peers, so that whoever waits in vain learns why: who was asked and said what, who was called and did
//! not answer, whether anybody could call us. Plain figures; the words are the terminal's business.

use crate::peer::DisconnectReason;

/// Trackers that are kept in mind at most.
const MAX_TRACKERS: usize = 50;

/// The figures since the session began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSearch {
    /// Each tracker that was asked, by its public name, and what it said last.
    pub trackers: Vec<(String, TrackerState)>,
    /// Nodes of the DHT that we know; `None` where we take no part.
    pub dht_nodes: Option<usize>,
    /// Addresses that were new to us when the DHT named them.
    pub dht_peers: usize,
    /// Network interfaces that local discovery uses; `None` where we take no part.
    pub lsd_interfaces: Option<usize>,
    /// Addresses that were new to us when local discovery named them.
    pub lsd_peers: usize,
    /// The same of peer exchange.
    pub pex_peers: usize,
    /// Calls that reached a peer of the swarm.
    pub reached: usize,
    /// Calls that could not be made: refused or unreachable.
    pub refused: usize,
    /// Calls that were taken, but nobody spoke.
    pub silent: usize,
    /// Calls that found something else: another torrent, ourselves, something that does not speak the protocol.
    pub strange: usize,
    /// Peers that called us.
    pub incoming_connections: usize,
}

/// What a tracker said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerState {
    /// So many peers.
    Answered {
        /// How many.
        peers: usize,
    },
    /// Nothing, or a refusal.
    Failed {
        /// One line: why.
        reason: String,
    },
}

impl PeerSearch {
    /// A tracker answered, or did not.
    pub fn tracker(&mut self, name: &str, state: TrackerState) {
        if let Some((_, last)) = self.trackers.iter_mut().find(|(known, _)| known == name) {
            *last = state;
        } else if self.trackers.len() < MAX_TRACKERS {
            self.trackers.push((name.to_owned(), state));
        }
    }

    /// A handshake succeeded.
    pub fn reached(&mut self, incoming: bool) {
        *(if incoming { &mut self.incoming_connections } else { &mut self.reached }) += 1;
    }

    /// A call came to nothing.
    pub fn note_failed_dial(&mut self, why: &DisconnectReason) {
        let count = match why {
            DisconnectReason::Ourselves | DisconnectReason::Duplicate(_) => return, // whatever named our own address
            DisconnectReason::Unreachable(_) => &mut self.refused,
            DisconnectReason::Silent
            | DisconnectReason::Unanswered
            | DisconnectReason::Closed
            | DisconnectReason::Lost(_) => &mut self.silent,
            _ => &mut self.strange,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_tracker_counts() {
        let mut search = PeerSearch::default();
        let failed = TrackerState::Failed { reason: "down".to_owned() };
        search.tracker("a", failed.clone());
        search.tracker("b", failed.clone());
        search.tracker("a", TrackerState::Answered { peers: 3 });
        assert_eq!(search.trackers, [("a".to_owned(), TrackerState::Answered { peers: 3 }), ("b".to_owned(), failed)]);
        (0..1000).for_each(|n| search.tracker(&n.to_string(), TrackerState::Answered { peers: 0 }));
        assert_eq!(search.trackers.len(), MAX_TRACKERS);
    }

    #[test]
    fn calls_in_vain_are_told_apart() {
        let mut search = PeerSearch::default();
        let reasons = [
            DisconnectReason::Unreachable("refused".into()),
            DisconnectReason::Unanswered,
            DisconnectReason::Closed,
            DisconnectReason::Flood,
            DisconnectReason::Ourselves,
        ];
        for why in reasons {
            search.note_failed_dial(&why);
        }
        search.reached(true);
        assert_eq!((search.refused, search.silent, search.strange), (1, 2, 1));
        assert_eq!((search.incoming_connections, search.reached), (1, 0));
    }
}
