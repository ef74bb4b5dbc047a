//! Chooses which connection stays if several lead to the same peer over different addresses.
//!
//! Only the peer id shows that two connections lead to the same peer, and every peer's id is known to all that connect to it and
//! can be copied. So a connection never loses its place to one that merely claims the same id, only to one that has transferred
//! blocks.

use std::collections::HashMap;

use crate::types::{PeerId, PeerKey};

/// The length of the peer id's prefix that names the client (BEP 20), without its version.
const CLIENT: usize = 3;

/// A connection with a complete handshake.
#[derive(Clone, Copy, Debug)]
pub struct DuplicateConnection {
    /// The connection.
    pub key: PeerKey,
    /// The peer's id.
    pub id: PeerId,
    /// The rate over the last rounds, both directions together, in bytes per second.
    pub rate: u64,
}

/// The connections to close, each with the one that stays. Of the connections with the same peer id only the fastest stays, as
/// soon as one of them transfers anything.
///
/// Both sides see the same connections, and would lose all of them if they closed different ones. Between two btsync clients, the
/// one with the greater id decides. Other clients decide by their own rules when a connection is established, or not at all, so
/// we decide about the connections that are left.
pub fn surplus_duplicates(ours: PeerId, connections: &[DuplicateConnection]) -> Vec<(PeerKey, PeerKey)> {
    let mut peers: HashMap<PeerId, Vec<DuplicateConnection>> = HashMap::new();
    for duplicate in
        connections.iter().filter(|duplicate| ours > duplicate.id || ours.0[..CLIENT] != duplicate.id.0[..CLIENT])
    {
        peers.entry(duplicate.id).or_default().push(*duplicate);
    }
    let mut ending = Vec::new();
    for duplicates in peers.into_values().filter(|duplicates| duplicates.len() > 1) {
        let best = duplicates
            .iter()
            .max_by_key(|duplicate| (duplicate.rate, std::cmp::Reverse(duplicate.key)))
            .filter(|best| best.rate > 0);
        if let Some(best) = best {
            ending.extend(
                duplicates
                    .iter()
                    .filter(|duplicate| duplicate.key != best.key)
                    .map(|duplicate| (duplicate.key, best.key)),
            );
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

    fn duplicate(key: u32, id: PeerId, rate: u64) -> DuplicateConnection {
        DuplicateConnection { key: PeerKey(key), id, rate }
    }

    #[test]
    fn the_connection_that_moves_most_stays() {
        let (ours, theirs, other) = (id("-BY", 9), id("-BY", 1), id("-BY", 2));
        let all = [
            duplicate(1, theirs, 10),
            duplicate(2, theirs, 20),
            duplicate(3, theirs, 0),
            duplicate(4, other, 0),
            duplicate(5, theirs, 20),
        ];
        let ends = surplus_duplicates(ours, &all);
        assert_eq!(ends, [1, 3, 5].map(|key| (PeerKey(key), PeerKey(2))), "of equal ones the older");
    }

    #[test]
    fn a_copied_id_pushes_nobody_out() {
        let (ours, honest) = (id("-BY", 9), id("-LT", 1));
        assert_eq!(
            surplus_duplicates(ours, &[duplicate(1, honest, 0), duplicate(2, honest, 0)]),
            [],
            "nobody has shown what it is good for"
        );
        assert_eq!(
            surplus_duplicates(ours, &[duplicate(1, honest, 0), duplicate(2, honest, 5)]),
            [(PeerKey(1), PeerKey(2))]
        );
    }

    /// The sides may see different rates and keys, so only one of them decides.
    #[test]
    fn one_side_decides() {
        for (ours, theirs) in [(id("-BY", 1), id("-BY", 2)), (id("-BY", 2), id("-BY", 1))] {
            let here = surplus_duplicates(ours, &[duplicate(1, theirs, 10), duplicate(2, theirs, 11)]);
            let there = surplus_duplicates(theirs, &[duplicate(7, ours, 11), duplicate(8, ours, 10)]);
            assert_eq!(here.len() + there.len(), 1);
        }
        let (ours, others) = (id("-BY", 1), id("-qB", 2));
        assert_eq!(
            surplus_duplicates(ours, &[duplicate(1, others, 10), duplicate(2, others, 11)]).len(),
            1,
            "others may never decide"
        );
    }
}
