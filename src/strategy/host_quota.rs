//! Counts what each host gets of something that peers get whether or not they have an upload slot: a host gets no more of it by
//! opening more connections, or new ones.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::Network;

/// What a host got counts for this long.
const REFILL_INTERVAL: Duration = Duration::from_secs(600);
/// At most this many hosts are remembered.
const MAX_HOSTS: usize = 2048;

/// What one host got.
#[derive(Clone, Copy, Debug)]
struct HostUse {
    since: Duration,
    used: u32,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct HostQuota {
    hosts: HashMap<Network, HostUse>,
}

impl HostQuota {
    /// How much is left to the host of `most`.
    pub fn left(&self, now: Duration, ip: IpAddr, most: u32) -> u32 {
        let host = self.hosts.get(&Network::host(ip)).filter(|host| now < host.since + REFILL_INTERVAL);
        most.saturating_sub(host.map_or(0, |host| host.used))
    }

    /// The host gets one more, unless it has had `most`. Returns whether it may.
    pub fn take(&mut self, now: Duration, ip: IpAddr, most: u32) -> bool {
        if self.left(now, ip, most) == 0 {
            return false;
        }
        if !self.hosts.contains_key(&Network::host(ip)) {
            self.make_room(now);
        }
        let host = self.hosts.entry(Network::host(ip)).or_insert(HostUse { since: now, used: 0 });
        if now >= host.since + REFILL_INTERVAL {
            *host = HostUse { since: now, used: 0 };
        }
        host.used += 1;
        true
    }

    /// The host did not get the last one after all.
    pub fn give_back(&mut self, ip: IpAddr) {
        if let Some(host) = self.hosts.get_mut(&Network::host(ip)) {
            host.used = host.used.saturating_sub(1);
        }
    }

    /// Forgets hosts whose time has passed, or else the one that was first.
    fn make_room(&mut self, now: Duration) {
        if self.hosts.len() < MAX_HOSTS {
            return;
        }
        self.hosts.retain(|_, host| now < host.since + REFILL_INTERVAL);
        while self.hosts.len() >= MAX_HOSTS
            && let Some(first) = self.hosts.iter().min_by_key(|(_, host)| host.since).map(|(network, _)| *network)
        {
            self.hosts.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_host_gets_its_quota_once_in_ten_minutes() {
        let mut quota = HostQuota::default();
        let take = |quota: &mut HostQuota, now, n| (0..1000).filter(|_| quota.take(now, ip(n), 80)).count();
        assert_eq!(take(&mut quota, Duration::ZERO, 1), 80);
        assert_eq!((quota.left(Duration::ZERO, ip(1), 80), quota.left(Duration::ZERO, ip(2), 80)), (0, 80));
        assert_eq!(take(&mut quota, Duration::from_secs(1), 2), 80);
        quota.give_back(ip(1));
        assert_eq!((take(&mut quota, Duration::from_secs(599), 1), take(&mut quota, REFILL_INTERVAL, 1)), (1, 80));
        assert_eq!(take(&mut quota, REFILL_INTERVAL, 2), 0, "its ten minutes began later");
        let of_one_network = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        assert_eq!((0..90).filter(|n| quota.take(Duration::ZERO, of_one_network(*n), 80)).count(), 80);
    }

    #[test]
    fn few_hosts_are_remembered_and_the_first_are_forgotten_first() {
        let mut quota = HostQuota::default();
        for n in 0..3 * MAX_HOSTS as u32 {
            assert!(quota.take(Duration::from_millis(n.into()), ip(n), 20));
            assert!(quota.hosts.len() <= MAX_HOSTS);
        }
        let now = Duration::from_secs(60);
        assert_eq!((quota.left(now, ip(0), 20), quota.left(now, ip(3 * MAX_HOSTS as u32 - 1), 20)), (20, 19));
    }
}
