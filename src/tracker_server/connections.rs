//! The table of open connections: their deadlines, and which one to evict when there are too many. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::net::networks::Network;

/// Connections by number; numbers grow in the order of arrival.
#[derive(Debug)]
pub(crate) struct ConnectionTable<C> {
    all: HashMap<u64, (Network, C)>,
    /// Each connection's deadline, the earliest first. May contain connections that are already removed.
    order: VecDeque<(u64, Duration)>,
    next: u64,
    timeout: Duration,
}

impl<C> ConnectionTable<C> {
    /// Creates an empty table. The first connection gets the number `first`; each must finish within `timeout`.
    pub fn new(first: u64, timeout: Duration) -> ConnectionTable<C> {
        ConnectionTable { all: HashMap::new(), order: VecDeque::new(), next: first, timeout }
    }

    /// The number of open connections.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds a connection and returns its number.
    pub fn add(&mut self, now: Duration, network: Network, connection: C) -> u64 {
        let key = self.next;
        self.next += 1;
        self.all.insert(key, (network, connection));
        self.order.push_back((key, now + self.timeout));
        key
    }

    /// The connection with this number, if it is still open.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut C> {
        self.all.get_mut(&key).map(|(_, connection)| connection)
    }

    /// Removes a connection.
    pub fn remove(&mut self, key: u64) {
        self.all.remove(&key);
        self.trim();
    }

    /// Removes the oldest connection of the network that has the most; among networks with equally many, the oldest of all.
    pub fn evict(&mut self) {
        let mut counts: HashMap<Network, usize> = HashMap::new();
        self.all.values().for_each(|(network, _)| *counts.entry(*network).or_default() += 1);
        let most = counts.values().copied().max().unwrap_or_default();
        let of_the_fullest =
            |key: &u64| self.all.get(key).is_some_and(|(network, _)| counts.get(network) == Some(&most));
        if let Some(key) = self.order.iter().map(|(key, _)| *key).find(|key| of_the_fullest(key)) {
            self.remove(key);
        }
    }

    /// Removes connections past their deadline.
    pub fn drop_expired(&mut self, now: Duration) {
        while let Some((key, late)) = self.order.front().copied().filter(|(_, late)| *late <= now) {
            log::debug!("client {key} was too slow: {late:?}");
            self.all.remove(&key);
            self.order.pop_front();
        }
    }

    /// The next deadline.
    pub fn due(&self) -> Option<Duration> {
        self.order.front().map(|(_, late)| *late)
    }

    /// Drops the deadlines of removed connections: those at the front, and all of them once they outnumber the open ones.
    fn trim(&mut self) {
        while self.order.front().is_some_and(|(key, _)| !self.all.contains_key(key)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.all.len() + 16 {
            self.order.retain(|(key, _)| self.all.contains_key(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn network(n: u8) -> Network {
        Network::host([10, 0, 0, n].into())
    }

    fn keys<C>(open: &ConnectionTable<C>) -> Vec<u64> {
        let mut keys: Vec<_> = open.all.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_oldest_of_the_fullest_network_goes() {
        let mut open = ConnectionTable::new(0, SECOND);
        for n in [1, 2, 2, 1, 2, 3] {
            open.add(Duration::ZERO, network(n), ());
        }
        open.evict();
        assert_eq!(keys(&open), [0, 2, 3, 4, 5]);
        open.evict();
        assert_eq!(keys(&open), [2, 3, 4, 5], "among equals the oldest of all");
        open.evict();
        open.evict();
        assert_eq!(keys(&open), [4, 5]);
    }

    #[test]
    fn late_connections_end_and_ended_ones_are_forgotten() {
        let mut open = ConnectionTable::new(7, SECOND);
        let first = open.add(Duration::ZERO, network(1), 'a');
        let second = open.add(SECOND / 2, network(1), 'b');
        assert_eq!((first, open.due(), open.get_mut(8).copied()), (7, Some(SECOND), Some('b')));
        open.drop_expired(SECOND);
        assert_eq!((keys(&open), open.due()), (vec![second], Some(SECOND * 3 / 2)));
        for _ in 0..1000 {
            let key = open.add(SECOND, network(2), 'c');
            open.remove(key);
        }
        assert!(open.order.len() < 32, "{}", open.order.len());
        open.remove(second);
        assert_eq!((open.len(), open.due()), (0, None));
    }
}
