//! The table of open connections: their deadlines, and which one to evict when there are too many. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::{Network, heaviest_users};

/// The connections that count together: those of a network, or with `None` those over Unix sockets.
type ClientOrigin = Option<Network>;

/// The smallest of these networks: the host at the other end.
fn host(client: Option<IpAddr>) -> ClientOrigin {
    client.map(Network::host)
}

/// Connections by number; numbers grow in the order of arrival.
#[derive(Debug)]
pub(super) struct ConnectionTable<C> {
    all: HashMap<u64, TableEntry<C>>,
    /// The number of connections of each host.
    counts: HashMap<ClientOrigin, usize>,
    /// The deadlines, the earliest first.
    deadlines: BTreeSet<(Duration, u64)>,
}

#[derive(Debug)]
struct TableEntry<C> {
    client: Option<IpAddr>,
    deadline: Option<Duration>,
    connection: C,
}

impl<C> ConnectionTable<C> {
    pub(super) fn new() -> ConnectionTable<C> {
        ConnectionTable { all: HashMap::new(), counts: HashMap::new(), deadlines: BTreeSet::new() }
    }

    /// The number of open connections.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of open connections of a client's host.
    pub(super) fn count(&self, client: Option<IpAddr>) -> usize {
        self.counts.get(&host(client)).copied().unwrap_or_default()
    }

    /// Adds a connection with a new number; `client` is `None` for those over Unix sockets.
    pub(super) fn add(&mut self, key: u64, client: Option<IpAddr>, connection: C) {
        *self.counts.entry(host(client)).or_default() += 1;
        self.all.insert(key, TableEntry { client, deadline: None, connection });
    }

    /// The connection with this number, if it is still open.
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut C> {
        self.all.get_mut(&key).map(|entry| &mut entry.connection)
    }

    /// Changes the deadline of a connection.
    pub(super) fn set_deadline(&mut self, key: u64, deadline: Option<Duration>) {
        let Some(entry) = self.all.get_mut(&key).filter(|entry| entry.deadline != deadline) else { return };
        if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(old, key));
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, key)));
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A connection whose deadline has passed.
    pub(super) fn expired(&self, now: Duration) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| *key)
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, key: u64) -> Option<C> {
        let TableEntry { client, deadline, connection } = self.all.remove(&key)?;
        if let Some(count) = self.counts.get_mut(&host(client)) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&host(client));
            }
        }
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, key));
        }
        Some(connection)
    }

    /// The connection to evict: of the subnet that has the most, within it of the site and then of the host that has the most, the
    /// one of the lowest priority, the oldest of these.
    pub(super) fn to_evict(&self, priority: impl Fn(&C) -> u8) -> Option<u64> {
        let candidates = heaviest_users(&self.all, |(_, entry)| entry.client, |_| 1);
        candidates.into_iter().map(|(key, entry)| (priority(&entry.connection), *key)).min().map(|(_, key)| key)
    }

    /// The same among the connections that have a priority.
    pub(super) fn to_evict_among(&self, priority: impl Fn(&C) -> Option<u8>) -> Option<u64> {
        let rated = self.all.iter().filter_map(|(key, entry)| Some((entry.client, priority(&entry.connection)?, *key)));
        let candidates = heaviest_users(rated, |(client, ..)| *client, |_| 1);
        candidates.into_iter().map(|(_, priority, key)| (priority, key)).min().map(|(_, key)| key)
    }

    /// The connection of this client's host to evict: the one of the lowest priority, the oldest of these.
    pub(super) fn to_evict_of(&self, client: Option<IpAddr>, priority: impl Fn(&C) -> u8) -> Option<u64> {
        let meant = self.all.iter().filter(|(_, entry)| host(entry.client) == host(client));
        meant.map(|(key, entry)| (priority(&entry.connection), *key)).min().map(|(_, key)| key)
    }

    /// Of the subnet that uses the most of something, and within it of the site and the host that use the most, the connection that
    /// uses the most of it.
    pub(super) fn heaviest(&self, used: impl Fn(&C) -> usize) -> Option<u64> {
        let candidates = heaviest_users(&self.all, |(_, entry)| entry.client, |(_, entry)| used(&entry.connection));
        let users = candidates.into_iter().map(|(key, entry)| (used(&entry.connection), *key));
        users.filter(|(used, _)| *used > 0).max().map(|(_, key)| key)
    }

    /// All connections with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &C)> {
        self.all.iter().map(|(key, entry)| (*key, &entry.connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn keys<C>(open: &ConnectionTable<C>) -> Vec<u64> {
        let mut keys: Vec<_> = open.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_oldest_of_the_fullest_network_goes() {
        let mut open = ConnectionTable::new();
        for (key, n) in (0..).zip([1, 2, 2, 1, 2, 3]) {
            open.add(key, Some(client(n)), ());
        }
        let mut evict = |left: &[u64], why| {
            let key = open.to_evict(|()| 0).unwrap();
            open.remove(key);
            assert_eq!(keys(&open), left, "{why}");
        };
        evict(&[0, 2, 3, 4, 5], "of the fullest");
        evict(&[2, 3, 4, 5], "among equals the oldest of all");
        evict(&[3, 4, 5], "of the fullest again");
        evict(&[4, 5], "and among equals again");
        assert_eq!((open.count(Some(client(1))), open.count(Some(client(2))), open.len()), (0, 1, 2));
        assert_eq!(open.to_evict_of(Some(client(3)), |()| 0), Some(5));
        assert_eq!(open.to_evict_of(Some(client(1)), |()| 0), None);
    }

    #[test]
    fn the_least_valuable_connection_goes_first() {
        let mut open = ConnectionTable::new();
        for (key, (origin, priority)) in (0..).zip([(None, 3), (None, 1), (None, 0), (None, 0), (Some(client(1)), 0)]) {
            open.add(key, origin, priority);
        }
        assert_eq!(open.to_evict(|priority| *priority), Some(2));
        assert_eq!(open.to_evict_of(Some(client(1)), |priority| *priority), Some(4));
        assert_eq!(open.heaviest(|priority| usize::from(*priority)), Some(0));
        let rated = |priority: &u8| (*priority > 0).then_some(*priority);
        assert_eq!(open.to_evict_among(rated), Some(1), "only those that have a priority count");
        assert_eq!(open.to_evict_among(|_| None), None);
        assert_eq!(open.heaviest(|_| 0), None);
        open.add(9, Some(client(1)), 5);
        assert_eq!(open.heaviest(|priority| usize::from(*priority)), Some(9), "its network uses the most");
    }

    /// One user has all addresses of a subnet, and uses each of them for one connection.
    #[test]
    fn many_hosts_of_one_subnet_push_no_other_out() {
        let mut open = ConnectionTable::new();
        open.add(0, Some(client(1)), 9);
        for key in 1..100 {
            let v6 = [0x2001, 0xdb8, 0, key as u16, 0, 0, 0, 1];
            open.add(key, Some(if key % 2 == 0 { v6.into() } else { [192, 0, 2, key as u8].into() }), 1);
        }
        assert_eq!(open.heaviest(|used| *used), Some(99), "their sum is greater");
        for _ in 1..98 {
            let key = open.to_evict(|_| 0).unwrap();
            assert_ne!(key, 0);
            open.remove(key);
        }
        assert_eq!(open.heaviest(|used| *used), Some(0));
    }

    #[test]
    fn deadlines_pass_in_order() {
        let mut open = ConnectionTable::new();
        (0..3).for_each(|key| open.add(key, None, ()));
        open.set_deadline(0, Some(3 * SECOND));
        open.set_deadline(1, Some(SECOND));
        open.set_deadline(2, Some(2 * SECOND));
        open.set_deadline(1, Some(4 * SECOND));
        assert_eq!((open.next_deadline(), open.expired(SECOND)), (Some(2 * SECOND), None));
        assert_eq!(open.expired(2 * SECOND), Some(2));
        open.remove(2);
        open.set_deadline(0, None);
        open.set_deadline(2, Some(SECOND));
        assert_eq!((open.next_deadline(), open.expired(5 * SECOND)), (Some(4 * SECOND), Some(1)));
        open.remove(1);
        assert_eq!((open.next_deadline(), open.len(), open.remove(1)), (None, 1, None));
    }
}
