//! Limits how many wrong passwords clients may try, by network: a subnet has many addresses, but one limit. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::net::networks::{NETWORK_LEVELS, Network, is_private};

/// Wrong passwords that a network of each of the [`NETWORK_LEVELS`] may try within [`FAILURE_PERIOD`]. Hashing those of a subnet takes a
/// second, so that it does not keep the workers from others.
const MAX_FAILURES: [u32; NETWORK_LEVELS.len()] = [30, 20, 10];
const FAILURE_PERIOD: Duration = Duration::from_secs(60);
/// After them, a network has one more attempt from time to time: the right password may come from the same network.
const NEXT_ATTEMPT: Duration = Duration::from_secs(6);
/// The most networks of each level whose failures are counted. The one that has failed least recently makes room.
const MAX_NETWORKS: usize = 8192;

/// The attempts of a client's networks, those of its host first: what it is compared by with other clients.
pub(super) type AttemptCounts = [u32; NETWORK_LEVELS.len()];

/// The failures of each network since its first one, by level.
#[derive(Debug, Default)]
pub(super) struct PasswordAttempts {
    failures: [HashMap<Network, Failures>; NETWORK_LEVELS.len()],
}

/// The failures of a network.
#[derive(Debug)]
struct Failures {
    count: u32,
    first: Instant,
    last: Instant,
}

impl PasswordAttempts {
    /// Whether a client may try a password now.
    pub(super) fn may_try(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.expire(now);
        // All users may be in one private subnet, so only the host has a limit there.
        let first_level = if is_private(ip) { NETWORK_LEVELS.len() - 1 } else { 0 };
        self.failures.iter().zip(networks(ip)).zip(MAX_FAILURES).skip(first_level).all(|((failures, network), most)| {
            let may_again = |of: &Failures| now.saturating_duration_since(of.last) >= NEXT_ATTEMPT;
            failures.get(&network).is_none_or(|of| of.count < most || may_again(of))
        })
    }

    /// How many attempts of the client's networks have failed, also those of a private subnet.
    pub(super) fn counts(&mut self, ip: IpAddr, now: Instant) -> AttemptCounts {
        self.expire(now);
        let mut counts = AttemptCounts::default();
        for ((count, failures), network) in counts.iter_mut().zip(&self.failures).zip(networks(ip)) {
            *count = failures.get(&network).map_or(0, |of| of.count);
        }
        counts.reverse();
        counts
    }

    fn expire(&mut self, now: Instant) {
        for failures in &mut self.failures {
            failures.retain(|_, of| now.saturating_duration_since(of.first) < FAILURE_PERIOD);
        }
    }

    /// The password that the client tried was wrong, or was not checked because others were.
    pub(super) fn count_failure(&mut self, ip: IpAddr, now: Instant) {
        for (failures, network) in self.failures.iter_mut().zip(networks(ip)) {
            if failures.len() >= MAX_NETWORKS && !failures.contains_key(&network) {
                let oldest = failures.iter().min_by_key(|(_, of)| of.last).map(|(network, _)| *network);
                oldest.and_then(|oldest| failures.remove(&oldest));
            }
            let of = failures.entry(network).or_insert(Failures { count: 0, first: now, last: now });
            (of.count, of.last) = (of.count.saturating_add(1), now);
        }
    }
}

/// The networks of a client, by level.
fn networks(ip: IpAddr) -> [Network; NETWORK_LEVELS.len()] {
    NETWORK_LEVELS.map(|level| level(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `hosts` wrong passwords, each from another address, may be tried.
    fn allowed(attempts: &mut PasswordAttempts, now: Instant, hosts: u16, ip: impl Fn(u16) -> IpAddr) -> usize {
        let mut try_one = |ip| {
            let may_try = attempts.may_try(ip, now);
            if may_try {
                attempts.count_failure(ip, now);
            }
            may_try
        };
        (0..hosts).filter(|host| try_one(ip(*host))).count()
    }

    #[test]
    fn a_subnet_has_few_attempts_and_leaves_others_theirs() {
        let (mut attempts, now) = (PasswordAttempts::default(), Instant::now());
        assert_eq!(allowed(&mut attempts, now, 1000, |_| [192, 0, 2, 1].into()), 10);
        assert_eq!(allowed(&mut attempts, now, 250, |host| [192, 0, 2, host as u8].into()), 20);
        assert_eq!(allowed(&mut attempts, now, 60_000, |host| [0x2001, 0xdb8, 0, host, 0, 0, 0, 1].into()), 30);
        assert!(attempts.may_try([198, 51, 100, 1].into(), now));
        assert_eq!(allowed(&mut attempts, now, 200, |host| [192, 168, 0, host as u8].into()), 200);
        assert_eq!(allowed(&mut attempts, now, 200, |_| [192, 168, 1, 1].into()), 10);
        assert_eq!(attempts.counts([192, 168, 0, 9].into(), now), [1, 1, 200]);
        assert!(attempts.may_try([192, 0, 2, 1].into(), now + FAILURE_PERIOD));
    }

    #[test]
    fn the_networks_counted_are_bounded_and_refuse_nobody_else() {
        let (mut attempts, now) = (PasswordAttempts::default(), Instant::now());
        let ip = |host: u16| IpAddr::from([20, (host >> 8) as u8, host as u8, 1]);
        let networks = MAX_NETWORKS + 100;
        assert_eq!(allowed(&mut attempts, now, networks as u16, ip), networks);
        assert!(attempts.failures.iter().all(|failures| failures.len() == MAX_NETWORKS));
        assert!(attempts.may_try([198, 51, 100, 1].into(), now));
    }

    #[test]
    fn a_network_without_attempts_has_one_more_from_time_to_time() {
        let (mut attempts, now) = (PasswordAttempts::default(), Instant::now());
        let ip = |_| IpAddr::from([192, 0, 2, 1]);
        assert_eq!(allowed(&mut attempts, now, 20, ip), 10);
        for round in 1..9 {
            assert_eq!(allowed(&mut attempts, now + round * NEXT_ATTEMPT, 20, ip), 1, "{round}");
        }
        assert_eq!(allowed(&mut attempts, now + FAILURE_PERIOD, 20, ip), 10);
    }
}
