//! Several connections to one peer, over different addresses of it: which one stays. Pure.
//!
//! Only the peer id says that two connections lead to the same peer, and an id is easily copied: whoever connects to a peer knows it.
//! So a connection never loses its place to one that only claims the same id; it loses it to one that has moved blocks.

use std::collections::HashMap;

use crate::types::{PeerId, PeerKey};

/// The part of an id that names the client (BEP 20), without its version.
const CLIENT: usize = 3;

/// A connection whose handshake is done.
#[derive(Clone, Copy, Debug)]
pub struct DuplicateConnection {
    /// The connection.
    pub key: PeerKey,
    /// What the peer calls itself.
    pub id: PeerId,
    /// Bytes per second that it moves, both ways, over the last rounds.
    pub rate: u64,
}

/// Connections to end, each with the one that stays: of those with the same id all but the one that moves most, once one moves
/// anything at all.
///
/// Both sides see the same connections and must not end different ones, or none is left. Of two btsyncs the one with the greater
/// id decides. Other clients decide by their own rules when a connection is made, or not at all: what is left is up to us.
pub fn surplus_duplicates(ours: PeerId, connections: &[DuplicateConnection]) -> Vec<(PeerKey, PeerKey)> {
    let mut peers: HashMap<PeerId, Vec<DuplicateConnection>> = HashMap::new();
    for twin in connections.iter().filter(|twin| ours > twin.id || ours.0[..CLIENT] != twin.id.0[..CLIENT]) {
        peers.entry(twin.id).or_default().push(*twin);
    }
    let mut ending = Vec::new();
    for twins in peers.into_values().filter(|twins| twins.len() > 1) {
        let best =
            twins.iter().max_by_key(|twin| (twin.rate, std::cmp::Reverse(twin.key))).filter(|best| best.rate > 0);
        if let Some(best) = best {
            ending.extend(twins.iter().filter(|twin| twin.key != best.key).map(|twin| (twin.key, best.key)));
        }
    }
    ending.sort_unstable();
    ending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: &str, n: u8) -> PeerId {
        let mut id = [n; 20];
        id[..CLIENT].copy_from_slice(client.as_bytes());
        PeerId(id)
    }

    fn twin(key: u32, id: PeerId, rate: u64) -> DuplicateConnection {
        DuplicateConnection { key: PeerKey(key), id, rate }
    }

    #[test]
    fn the_connection_that_moves_most_stays() {
        let (ours, theirs, other) = (id("-BY", 9), id("-BY", 1), id("-BY", 2));
        let all =
            [twin(1, theirs, 10), twin(2, theirs, 20), twin(3, theirs, 0), twin(4, other, 0), twin(5, theirs, 20)];
        let ends = surplus_duplicates(ours, &all);
        assert_eq!(ends, [1, 3, 5].map(|key| (PeerKey(key), PeerKey(2))), "of equal ones the older");
    }

    #[test]
    fn a_copied_id_pushes_nobody_out() {
        let (ours, honest) = (id("-BY", 9), id("-LT", 1));
        assert_eq!(
            surplus_duplicates(ours, &[twin(1, honest, 0), twin(2, honest, 0)]),
            [],
            "nobody has shown what it is good for"
        );
        assert_eq!(surplus_duplicates(ours, &[twin(1, honest, 0), twin(2, honest, 5)]), [(PeerKey(1), PeerKey(2))]);
    }

    /// Both ends may see other rates and other keys: one of them decides.
    #[test]
    fn one_side_decides() {
        for (ours, theirs) in [(id("-BY", 1), id("-BY", 2)), (id("-BY", 2), id("-BY", 1))] {
            let here = surplus_duplicates(ours, &[twin(1, theirs, 10), twin(2, theirs, 11)]);
            let there = surplus_duplicates(theirs, &[twin(7, ours, 11), twin(8, ours, 10)]);
            assert_eq!(here.len() + there.len(), 1);
        }
        let (ours, others) = (id("-BY", 1), id("-qB", 2));
        assert_eq!(
            surplus_duplicates(ours, &[twin(1, others, 10), twin(2, others, 11)]).len(),
            1,
            "others may never decide"
        );
    }
}
