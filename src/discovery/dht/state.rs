//! The data that a node saves between runs (BEP 5, 42): its ids by external address, and good nodes. Encoded as bencode.

use std::net::{IpAddr, SocketAddr};

use crate::bencode::encode::bytes as put;
use crate::bencode::values::{Dict, bytes, dictionary};
use crate::discovery::dht::encode::{compact, key};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{Contact, Family, KrpcError, contacts, ip};

/// The most nodes saved per family.
pub const MAX_NODES: usize = 200;
/// The most ids saved per family, one for each external address.
pub const MAX_IDS: usize = 8;
/// The largest state that btsync reads, in bytes.
pub const MAX_STATE: usize = 64 * 1024;

/// The saved ids and nodes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtState {
    /// Our ids, each with the external address for which it was created, the latest last. The address is unspecified if it was
    /// not known.
    pub ids: Vec<(IpAddr, NodeId)>,
    /// Known nodes, the best first.
    pub nodes: Vec<Contact>,
}

impl DhtState {
    /// Decodes the output of [`DhtState::encode`]; skips invalid entries.
    ///
    /// # Errors
    /// If it is too long or not bencode.
    pub fn decode(kept: &[u8]) -> Result<DhtState, KrpcError> {
        if kept.len() > MAX_STATE {
            return Err(KrpcError::TooLong(kept.len()));
        }
        let dict = dictionary(kept)?.ok_or(KrpcError::Key("d"))?;
        let mut state = DhtState::default();
        for (family, ids, nodes) in NAMES {
            state.ids.extend(read_ids(&dict, ids, family));
            state.nodes.extend(contacts(bytes(&dict, nodes).unwrap_or_default(), family).take(MAX_NODES));
        }
        Ok(state)
    }

    /// Whether the bytes are an encoded state rather than another dictionary.
    pub fn is_encoded(kept: &[u8]) -> bool {
        let mut head = vec![b'd'];
        key(&mut head, NAMES[0].1);
        kept.starts_with(&head) && DhtState::decode(kept).is_ok()
    }

    /// Encodes the state.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![b'd'];
        for (family, name, _) in NAMES {
            let ids = self.ids.iter().filter(|(ip, _)| Family::of(*ip) == family);
            let skip = ids.clone().count().saturating_sub(MAX_IDS);
            key(&mut out, name);
            put(&mut out, &ids.skip(skip).flat_map(|(ip, id)| of_id(*ip, *id)).collect::<Vec<u8>>());
        }
        for (family, _, name) in NAMES {
            let nodes = self.nodes.iter().filter(|node| Family::of(node.addr.ip()) == family).take(MAX_NODES);
            key(&mut out, name);
            put(&mut out, &nodes.flat_map(|node| node.id.0.into_iter().chain(compact(node.addr))).collect::<Vec<u8>>());
        }
        out.push(b'e');
        out
    }
}

/// The keys of each family: ids and nodes.
const NAMES: [(Family, &str, &str); 2] = [(Family::V4, "ids", "nodes"), (Family::V6, "ids6", "nodes6")];

/// Encodes an id followed by its address.
fn of_id(address: IpAddr, id: NodeId) -> Vec<u8> {
    let mut out = id.0.to_vec();
    out.extend(compact(SocketAddr::new(address, 0)).split_last_chunk::<2>().map_or(&[][..], |(address, _)| address));
    out
}

fn read_ids(dict: &Dict, name: &str, family: Family) -> Vec<(IpAddr, NodeId)> {
    let entry = |entry: &[u8]| {
        let (id, address) = entry.split_first_chunk::<20>()?;
        Some((ip(address)?, NodeId(*id)))
    };
    let ids = bytes(dict, name).unwrap_or_default();
    ids.chunks_exact(20 + family.width()).filter_map(entry).take(MAX_IDS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(nodes: u16, ids: u8) -> DhtState {
        let mut rng = fastrand::Rng::with_seed(nodes.into());
        let mut state = DhtState::default();
        for n in 1..=ids {
            state.ids.push(([90, 0, 0, n].into(), NodeId::random(&mut rng)));
        }
        for n in 1..=ids {
            state.ids.push(([0x2001, 1, 0, 0, 0, 0, 0, u16::from(n)].into(), NodeId::random(&mut rng)));
        }
        for n in 1..=nodes {
            state
                .nodes
                .push(Contact { id: NodeId::random(&mut rng), addr: ([91, 0, (n >> 8) as u8, n as u8], n).into() });
        }
        for n in 1..=nodes {
            state.nodes.push(Contact { id: NodeId::random(&mut rng), addr: ([0x2001, 2, 0, 0, 0, 0, 0, n], n).into() });
        }
        state
    }

    #[test]
    fn the_latest_ids_and_the_best_nodes_are_kept_within_the_limits() {
        let big = state(500, 50);
        let bytes = big.encode();
        assert!(bytes.len() <= MAX_STATE);
        let kept = DhtState::decode(&bytes).unwrap();
        assert_eq!((kept.ids.len(), kept.nodes.len()), (2 * MAX_IDS, 2 * MAX_NODES));
        assert_eq!(kept.nodes.first(), big.nodes.first());
        assert!(kept.ids.contains(&big.ids[49]) && kept.ids.contains(&big.ids[99]));
    }

    proptest! {
        #[test]
        fn round_trip(nodes in 0_u16..100, ids in 0_u8..8) {
            let state = state(nodes, ids);
            prop_assert_eq!(DhtState::decode(&state.encode()), Ok(state));
        }

        #[test]
        fn a_damaged_state_is_read_or_refused(at: prop::sample::Index, byte: u8) {
            let mut bytes = state(20, 3).encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = DhtState::decode(&bytes) {
                prop_assert!(read.nodes.len() <= 40 && read.ids.len() <= 6);
            }
        }
    }
}
