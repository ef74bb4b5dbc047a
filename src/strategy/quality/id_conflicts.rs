//! Second connections that were refused because another one from the same IP address had the same peer id.
//!
//! Usually one peer is behind both: the two sides connected to each other at the same time. But a stranger behind the same address
//! can copy the id. Refused for good, the peer itself would then never be admitted.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::types::PeerId;

/// How long two sides may take to find out that they connected to each other at the same time. After this time, a second
/// connection has another reason.
pub const RACE_TIME: Duration = Duration::from_secs(30);
/// How long connections are refused for the same id and address.
const PATIENCE: Duration = Duration::from_secs(60);
/// When a conflict is forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// At most this many are remembered; the oldest goes first.
const MAX_CONFLICTS: usize = 256;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct IdConflicts {
    /// The time of the first refusal for each id and address, the oldest first.
    refused: VecDeque<(Duration, PeerId, IpAddr)>,
}

impl IdConflicts {
    /// A second connection with this id and address wants in. Returns whether to admit it because others have been refused for a
    /// while; otherwise it counts as refused.
    pub fn admits(&mut self, now: Duration, id: PeerId, ip: IpAddr) -> bool {
        while self.refused.front().is_some_and(|(since, ..)| now >= *since + MEMORY) {
            self.refused.pop_front();
        }
        if let Some((since, ..)) = self.refused.iter().find(|(_, of, at)| *of == id && *at == ip) {
            return now >= *since + PATIENCE;
        }
        if self.refused.len() >= MAX_CONFLICTS {
            self.refused.pop_front();
        }
        self.refused.push_back((now, id, ip));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_id_refuses_a_peer_for_a_minute_only() {
        let mut conflicts = IdConflicts::default();
        let (id, ip) = (PeerId([1; 20]), IpAddr::from([192, 0, 2, 1]));
        let admitted = [0, 15, 59, 60, 70, 599].map(|s| conflicts.admits(Duration::from_secs(s), id, ip));
        assert_eq!(admitted, [false, false, false, true, true, true]);
        assert!(!conflicts.admits(Duration::from_secs(599), PeerId([2; 20]), ip));
        assert!(!conflicts.admits(Duration::from_secs(599), id, IpAddr::from([192, 0, 2, 2])));
        assert!(!conflicts.admits(MEMORY, id, ip), "forgotten by now");
    }

    #[test]
    fn few_conflicts_are_remembered() {
        let mut conflicts = IdConflicts::default();
        for n in 0..1000_u32 {
            assert!(!conflicts.admits(Duration::ZERO, PeerId([3; 20]), IpAddr::from(n.to_be_bytes())));
            assert!(conflicts.refused.len() <= MAX_CONFLICTS);
        }
    }
}
