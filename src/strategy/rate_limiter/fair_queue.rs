//! The connections that wait for bytes of one limit, in two levels of start-time fair queueing: networks take turns by how many
//! bytes each has had, and so do the connections of a network. So a subscriber that opens a hundred connections gets as much as
//! one with a single connection, and the connections of either share evenly.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use crate::net::networks::Network;
use crate::strategy::rate_limiter::FlowId;
use crate::types::PeerKey;

/// A place in a queue: the virtual start time, then the order of arrival.
type QueuePlace = (u64, u64);

/// The position of a network in [`FairQueue::networks`].
type NetworkIndex = usize;

/// One connection.
#[derive(Clone, Copy, Debug)]
struct ConnectionFlow {
    network: NetworkIndex,
    /// The virtual finish time of its last place: the bytes it has had, on its network's virtual clock.
    finish: u64,
    place: Option<QueuePlace>,
    /// Bytes assigned to it and not yet fetched.
    granted: u64,
}

/// One network.
#[derive(Clone, Debug)]
struct NetworkFlow {
    network: Network,
    /// The bytes it has had, on the queue's virtual clock.
    finish: u64,
    /// Its place among the networks, while a connection of it waits.
    turn: Option<QueuePlace>,
    /// Its waiting connections in order, each with the bytes it waits for.
    waiting: BTreeMap<QueuePlace, (PeerKey, u64)>,
    /// Its virtual clock: the start time of the place served last.
    served: u64,
    /// How many connections of it are known.
    connections: usize,
}

impl NetworkFlow {
    fn new(network: Network) -> NetworkFlow {
        NetworkFlow { network, finish: 0, turn: None, waiting: BTreeMap::new(), served: 0, connections: 0 }
    }

    /// Takes a place among the networks, at the virtual time `served` or later.
    fn take_turn(&mut self, served: u64, arrival: u64) -> QueuePlace {
        self.finish = self.finish.max(served);
        let turn = (self.finish, arrival);
        self.turn = Some(turn);
        turn
    }
}

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct FairQueue {
    flows: BTreeMap<PeerKey, ConnectionFlow>,
    networks: Vec<NetworkFlow>,
    /// Where each network with a connection is in `networks`, and which positions are free.
    positions: HashMap<Network, NetworkIndex>,
    free: Vec<NetworkIndex>,
    /// The networks with waiting connections, in order.
    turns: BTreeMap<QueuePlace, NetworkIndex>,
    /// The virtual clock: the start time of the turn served last.
    served: u64,
    arrivals: u64,
}

impl FairQueue {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The number of connections that it knows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.networks.iter().map(|network| network.connections).sum::<usize>(), self.flows.len());
        assert_eq!(self.networks.len() - self.free.len(), self.positions.len());
        assert!(self.positions.len() <= self.flows.len());
        self.flows.len()
    }

    /// Whether the connection waits, or has bytes to fetch.
    pub(super) fn has_place_or_grant(&self, key: PeerKey) -> bool {
        self.flows.get(&key).is_some_and(|flow| flow.granted > 0 || flow.place.is_some())
    }

    /// The connection waits for `bytes`. It must not wait already.
    pub(super) fn enqueue(&mut self, id: FlowId, bytes: u64) {
        self.arrivals += 1;
        let flow = match self.flows.entry(id.key) {
            Entry::Occupied(flow) => flow.into_mut(),
            Entry::Vacant(vacant) => {
                let network = *self.positions.entry(id.network).or_insert_with(|| {
                    let new = NetworkFlow::new(id.network);
                    if let Some(free) = self.free.pop() {
                        self.networks[free] = new;
                        return free;
                    }
                    self.networks.push(new);
                    self.networks.len() - 1
                });
                self.networks[network].connections += 1;
                vacant.insert(ConnectionFlow { network, finish: 0, place: None, granted: 0 })
            }
        };
        let network = &mut self.networks[flow.network];
        let place = (flow.finish.max(network.served), self.arrivals);
        flow.finish = place.0.saturating_add(bytes);
        flow.place = Some(place);
        network.waiting.insert(place, (id.key, bytes));
        if network.turn.is_none() {
            let turn = network.take_turn(self.served, self.arrivals);
            self.turns.insert(turn, flow.network);
        }
    }

    /// How many bytes the first place is for; `None` if nobody waits.
    pub(super) fn next_bytes(&self) -> Option<u64> {
        let (_, network) = self.turns.first_key_value()?;
        let (_, (_, bytes)) = self.networks[*network].waiting.first_key_value()?;
        Some(*bytes)
    }

    /// Grants the first place its bytes.
    pub(super) fn grant_next(&mut self) {
        let Some((turn, id)) = self.turns.pop_first() else { return };
        let network = &mut self.networks[id];
        network.turn = None;
        let Some((place, (key, bytes))) = network.waiting.pop_first() else { return };
        network.served = network.served.max(place.0);
        network.finish = network.finish.saturating_add(bytes);
        self.served = self.served.max(turn.0);
        if !network.waiting.is_empty() {
            self.arrivals += 1;
            self.turns.insert(network.take_turn(self.served, self.arrivals), id);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.place = None;
            flow.granted = bytes;
        }
    }

    /// Takes the bytes that the connection was granted.
    pub(super) fn take_granted(&mut self, key: PeerKey) -> u64 {
        self.flows.get_mut(&key).map_or(0, |flow| std::mem::take(&mut flow.granted))
    }

    /// The connection has not used these bytes.
    pub(super) fn uncharge(&mut self, key: PeerKey, bytes: u64) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.finish = flow.finish.saturating_sub(bytes);
        let network = &mut self.networks[flow.network];
        network.finish = network.finish.saturating_sub(bytes);
    }

    /// Removes a connection. Returns the bytes that it was granted and has not fetched.
    pub(super) fn remove(&mut self, key: PeerKey) -> u64 {
        let Some(flow) = self.flows.remove(&key) else { return 0 };
        let network = &mut self.networks[flow.network];
        if let Some(place) = flow.place {
            network.waiting.remove(&place);
        }
        if network.waiting.is_empty()
            && let Some(turn) = network.turn.take()
        {
            self.turns.remove(&turn);
        }
        network.connections -= 1;
        if network.connections == 0 {
            self.positions.remove(&network.network);
            self.free.push(flow.network);
        }
        flow.granted
    }

    /// No place is for more than `most` bytes from now on.
    pub(super) fn shorten_places(&mut self, most: u64) {
        for (key, bytes) in self.networks.iter_mut().flat_map(|network| network.waiting.values_mut()) {
            let excess = bytes.saturating_sub(most);
            *bytes -= excess;
            if let Some(flow) = self.flows.get_mut(key) {
                flow.finish = flow.finish.saturating_sub(excess);
            }
        }
    }

    /// The bytes of all places up to that of the connection, if nobody takes a place before it; `None` if it does not wait or if
    /// they are more than `most`.
    pub(super) fn bytes_until(&self, key: PeerKey, most: u64) -> Option<u64> {
        let flow = self.flows.get(&key)?;
        let own = &self.networks[flow.network];
        let (place, turn) = (flow.place?, own.turn?);
        let mut bytes = 0_u64;
        let mut last = 0;
        for (_, of_one) in own.waiting.range(..=place).map(|(_, waiting)| waiting) {
            bytes = bytes.saturating_add(*of_one);
            last = *of_one;
            if bytes > most {
                return None;
            }
        }
        // The connection's place comes when its network has had the bytes of those before it.
        let own_start = (turn.0.saturating_add(bytes - last), turn.1);
        for (other, network) in self.turns.range(..own_start).filter(|(_, network)| **network != flow.network) {
            let mut start = other.0;
            for (_, of_one) in self.networks[*network].waiting.values() {
                if (start, other.1) >= own_start {
                    break;
                }
                start = start.saturating_add(*of_one);
                bytes = bytes.saturating_add(*of_one);
                if bytes > most {
                    return None;
                }
            }
        }
        Some(bytes)
    }
}
