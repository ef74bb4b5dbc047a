//! Figures about the search for peers, which explain why a torrent has none: trackers and their answers, dials that failed, and
//! whether any peer connected to us. Only figures; the user interface provides the words.

use crate::discovery::port_mapping::status::PortMappingStatus;
use crate::discovery::tracker::error::TrackerError;
use crate::net::address_filter::BlockListStats;
use crate::peer::DisconnectReason;

/// At most this many trackers are recorded.
const MAX_TRACKERS: usize = 50;

/// The figures since the torrent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct PeerSearchStats {
    /// Each tracker that was contacted, by its public name, with its last result.
    pub trackers: Vec<(String, TrackerState)>,
    /// DHT nodes that we know; `None` if the DHT does not run.
    pub dht_nodes: Option<usize>,
    /// New addresses from the DHT.
    pub dht_peers: usize,
    /// Network interfaces that local discovery uses; `None` if it does not run.
    pub lsd_interfaces: Option<usize>,
    /// New addresses from local discovery.
    pub lsd_peers: usize,
    /// New addresses from peer exchange.
    pub pex_peers: usize,
    /// Dials that reached a peer of the swarm.
    pub dials_succeeded: usize,
    /// Dials that were refused or did not reach the address.
    pub unreachable: usize,
    /// Dials that were accepted but got no handshake.
    pub unanswered: usize,
    /// Dials that reached something else: another torrent, ourselves, another protocol.
    pub wrong_handshake: usize,
    /// Peers that connected to us.
    pub incoming_connections: usize,
    /// Why the proxy does not work, if there is one and it does not.
    pub proxy_failure: Option<String>,
    /// The client's block list; `None` without one.
    pub block_list: Option<BlockListStats>,
    /// What the router said when it was asked to forward our port; `None` if it is not asked.
    pub port_mapping: Option<PortMappingStatus>,
}

/// The last result from a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerState {
    /// It answered.
    Answered {
        /// The number of peers in its answer.
        peers: usize,
    },
    /// It did not answer, or refused.
    Failed {
        /// The reason.
        error: TrackerError,
    },
}

impl PeerSearchStats {
    /// Records a tracker's result.
    pub fn tracker(&mut self, name: &str, state: TrackerState) {
        if let Some((_, last)) = self.trackers.iter_mut().find(|(known, _)| known == name) {
            *last = state;
        } else if self.trackers.len() < MAX_TRACKERS {
            self.trackers.push((name.to_owned(), state));
        }
    }

    /// Counts a handshake that succeeded.
    pub fn note_handshake(&mut self, is_incoming: bool) {
        *(if is_incoming { &mut self.incoming_connections } else { &mut self.dials_succeeded }) += 1;
    }

    /// Counts a dial that failed.
    pub(crate) fn note_failed_dial(&mut self, why: &DisconnectReason) {
        let count = match why {
            // Our own address, another connection to the same peer, or a dial that we gave up: no peer is missing.
            DisconnectReason::Ourselves
            | DisconnectReason::Duplicate(_)
            | DisconnectReason::ClosedByUs
            | DisconnectReason::Proxy(_) => return,
            DisconnectReason::Unreachable(_) => &mut self.unreachable,
            DisconnectReason::Silent
            | DisconnectReason::Unanswered
            | DisconnectReason::Closed
            | DisconnectReason::Lost(_) => &mut self.unanswered,
            _ => &mut self.wrong_handshake,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_tracker_counts() {
        let mut search = PeerSearchStats::default();
        let failed = TrackerState::Failed { error: TrackerError::Timeout };
        search.tracker("a", failed.clone());
        search.tracker("b", failed.clone());
        search.tracker("a", TrackerState::Answered { peers: 3 });
        assert_eq!(search.trackers, [("a".to_owned(), TrackerState::Answered { peers: 3 }), ("b".to_owned(), failed)]);
        (0..1000).for_each(|n| search.tracker(&n.to_string(), TrackerState::Answered { peers: 0 }));
        assert_eq!(search.trackers.len(), MAX_TRACKERS);
    }

    #[test]
    fn failed_dials_are_told_apart() {
        let mut search = PeerSearchStats::default();
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
        search.note_handshake(true);
        assert_eq!((search.unreachable, search.unanswered, search.wrong_handshake), (1, 2, 1));
        assert_eq!((search.incoming_connections, search.dials_succeeded), (1, 0));
    }
}
