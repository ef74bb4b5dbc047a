//! Which connection ends when the table is full and somebody else wants in. Pure.
//!
//! One address or network may fill the table as long as nobody else wants in: many peers behind one router, or all of them on one
//! machine, are nothing bad. When a newcomer finds no place, the network with the most connections gives one up: of the fullest IPv4
//! /24 or IPv6 /48 the fullest address or /56, of that the fullest /64, and there the connection that has moved no block for longest.
//! So nobody keeps others out with connections that do nothing, however many addresses of a network it has, and whatever the
//! connections say.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::Network;
use crate::types::PeerKey;

/// A connection that may have to end.
#[derive(Clone, Copy, Debug)]
pub struct Occupant {
    /// The connection.
    pub key: PeerKey,
    /// The other end.
    pub host: IpAddr,
    /// Its handshake.
    pub handshake: Handshake,
    /// When it last moved a block, either way; when it was made, where it has moved none.
    pub moved: Duration,
}

/// How far a connection's handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// Not a byte has come from the other end.
    Silent,
    /// Some bytes have come.
    Begun,
    /// It is done.
    Done,
}

/// A caller's first bytes follow right behind its connection. One that has sent none for so long makes room for any other.
const SILENCE: Duration = Duration::from_millis(200);
/// So long a handshake may take, over a slow line and encrypted, before it gives way.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// So long a connection may do nothing before it gives way to a network that has fewer.
const IDLE: Duration = Duration::from_secs(10);
/// So long it may do nothing before it gives way to anybody.
const LONG_IDLE: Duration = Duration::from_secs(60);

/// By these networks connections are counted, one inside the other.
const LEVELS: [fn(IpAddr) -> Network; 3] = [Network::block, Network::site, Network::host];

/// The connection that makes room for one from `newcomer`, where there is one. A network that has more than `fair` of them gives up one
/// at any time, but not to the same network.
pub fn evicted(newcomer: IpAddr, occupants: &[Occupant], fair: usize, now: Duration) -> Option<PeerKey> {
    let is_idle = |o: &Occupant, patience| match o.handshake {
        Handshake::Silent => now >= o.moved + SILENCE,
        Handshake::Begun => now >= o.moved + HANDSHAKE,
        Handshake::Done => now >= o.moved + patience,
    };
    let silent = occupants.iter().filter(|o| o.handshake == Handshake::Silent && is_idle(o, IDLE));
    if let Some(silent) = longest_idle(silent) {
        return Some(silent);
    }
    let (crowd, exceeds) = fullest(newcomer, occupants, fair);
    if let Some(exceeds) = exceeds {
        let gives_way = |o: &&Occupant| exceeds || is_idle(o, IDLE);
        return longest_idle(crowd.iter().filter(gives_way));
    }
    // No network has more than the newcomer's would have. That one must not push out others that have fewer.
    let mut blocks: HashMap<Network, usize> = HashMap::new();
    for occupant in occupants {
        *blocks.entry(Network::block(occupant.host)).or_default() += 1;
    }
    let has = |host| blocks.get(&Network::block(host)).copied().unwrap_or_default();
    let idle_for_long = occupants.iter().filter(|o| is_idle(o, LONG_IDLE) && has(o.host) >= has(newcomer));
    let neighbours = occupants.iter().filter(|o| Network::host(o.host) == Network::host(newcomer)).count();
    if neighbours > fair { None } else { longest_idle(idle_for_long) }
}

/// The connections of the fullest network, narrowed down level by level; and where they are more than the newcomer's network there
/// would have, whether they exceed the fair part.
fn fullest(newcomer: IpAddr, occupants: &[Occupant], fair: usize) -> (Vec<Occupant>, Option<bool>) {
    let mut crowd = occupants.to_vec();
    let mut exceeds = None;
    for level in LEVELS {
        let mut networks: HashMap<Network, Vec<Occupant>> = HashMap::new();
        for occupant in &crowd {
            networks.entry(level(occupant.host)).or_default().push(*occupant);
        }
        let theirs = networks.get(&level(newcomer)).map_or(0, Vec::len);
        let fullest = networks.into_iter().max_by_key(|(network, crowd)| (crowd.len(), *network));
        let Some((network, narrowed)) = fullest else { break };
        crowd = narrowed;
        if exceeds.is_none() && network != level(newcomer) && crowd.len() >= theirs + 2 {
            exceeds = Some(crowd.len() > fair);
        }
    }
    (crowd, exceeds)
}

/// The one that has moved no block for longest, of those whose handshake has come the least far; of several the last to come.
fn longest_idle<'a>(occupants: impl Iterator<Item = &'a Occupant>) -> Option<PeerKey> {
    occupants.min_by_key(|o| (o.handshake, o.moved, Reverse(o.key))).map(|o| o.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn at(key: u32, host: &str, idle: u64) -> Occupant {
        let host = host.parse().expect("an address");
        Occupant {
            key: PeerKey(key),
            host,
            handshake: Handshake::Done,
            moved: NOW.saturating_sub(Duration::from_secs(idle)),
        }
    }

    fn goes(newcomer: &str, occupants: &[Occupant], fair: usize) -> Option<u32> {
        evicted(newcomer.parse().expect("an address"), occupants, fair, NOW).map(|key| key.0)
    }

    /// A table of so many connections, of addresses made by `host`, all idle for so long.
    fn table(size: u32, idle: u64, host: impl Fn(u32) -> String) -> Vec<Occupant> {
        (0..size).map(|n| at(n, &host(n), idle)).collect()
    }

    /// So far have all of these come, so long ago.
    fn all(occupants: &mut [Occupant], handshake: Handshake, idle: Duration) {
        for occupant in occupants {
            (occupant.handshake, occupant.moved) = (handshake, NOW.saturating_sub(idle));
        }
    }

    #[test]
    fn idle_connections_of_few_addresses_keep_nobody_out() {
        // Three addresses share the table, none of them more than its fair part.
        let full = table(225, 11, |n| format!("203.0.{}.1", n % 3));
        assert!(goes("198.51.100.1", &full, 75).is_some());
        // Thirteen, in one network and in many.
        for third in [0, 1] {
            let full = table(225, 11, |n| format!("203.0.{}.{}", n % 13 * third, n % 13));
            assert!(goes("198.51.100.1", &full, 75).is_some());
        }
    }

    #[test]
    fn idle_connections_of_one_ipv6_network_keep_nobody_out() {
        let networks: [fn(u32) -> String; 3] = [
            |n| format!("2001:db8:7::{n:x}"),
            |n| format!("2001:db8:7:{n:x}::1"),
            |n| format!("2001:db8:7:{:x}::1", n << 8),
        ];
        for host in networks {
            // At once: one /48 has more than its part.
            assert!(goes("2001:db8:8::1", &table(225, 0, host), 75).is_some());
            assert!(goes("198.51.100.1", &table(225, 0, host), 75).is_some());
        }
    }

    /// Within the fullest network the fullest part of it, and there the connection that did nothing for longest.
    #[test]
    fn the_fullest_network_gives_up_the_longest_idle() {
        let mut full = vec![
            at(1, "2001:db8:7:101::1", 500),
            at(2, "2001:db8:7:201::1", 20),
            at(3, "2001:db8:7:202::1", 90),
            at(4, "2001:db8:7:202::2", 30),
            at(5, "2001:db8:7:202::3", 40),
            at(6, "192.0.2.1", 900),
            at(7, "192.0.2.2", 800),
            at(8, "192.0.2.2", 700),
        ];
        assert_eq!(goes("198.51.100.1", &full, 9), Some(3));
        full.retain(|o| o.host.is_ipv4());
        assert_eq!(goes("198.51.100.1", &full, 9), Some(7), "the address with the most, then the longest idle");
        assert_eq!(goes("192.0.2.3", &full, 9), Some(7), "also for one of the same /24, that has fewer");
    }

    #[test]
    fn peers_that_exchange_blocks_stay() {
        let busy = table(8, 3, |n| format!("203.0.113.{}", n % 2));
        assert_eq!(goes("198.51.100.1", &busy, 8), None);
        assert!(goes("198.51.100.1", &busy, 7).is_some(), "unless their network has more than its part");
    }

    #[test]
    fn nobody_is_pushed_out_by_its_own_network() {
        let full = table(8, 30, |_| "203.0.113.1".into());
        assert_eq!(goes("203.0.113.1", &full, 2), None);
        let mixed = [table(4, 30, |_| "203.0.113.1".into()), table(4, 70, |n| format!("192.0.{n}.1"))].concat();
        assert_eq!(goes("203.0.113.1", &mixed, 2), None, "nor by one that has more than its part");
        let full = table(8, 61, |_| "203.0.113.1".into());
        assert!(goes("203.0.113.1", &full, 8).is_some(), "who does nothing for a minute gives way");
        let rotating = [table(17, 5, |_| "203.0.113.1".into()), table(17, 5, |_| "198.51.100.1".into())].concat();
        let full = [rotating, vec![at(99, "192.0.2.1", 900)]].concat();
        assert_eq!(goes("203.0.113.1", &full, 20), None, "though the other has done nothing for longest");
        assert_eq!(goes("203.0.113.1", &[], 0), None);
    }

    #[test]
    fn where_all_networks_are_alike_a_minute_without_a_block_is_enough() {
        let mut full = table(225, 59, |n| format!("203.{n}.1.1"));
        assert_eq!(goes("198.51.100.1", &full, 75), None);
        full[7].moved -= Duration::from_secs(1);
        assert_eq!(goes("198.51.100.1", &full, 75), Some(7));
    }

    /// Silent connections are evicted before one that has begun its handshake, whatever their networks.
    #[test]
    fn silent_callers_go_first() {
        let mut full = table(128, 0, |n| format!("203.{n}.1.1"));
        all(&mut full, Handshake::Silent, SILENCE);
        all(&mut full[3..4], Handshake::Begun, HANDSHAKE * 2);
        all(&mut full[90..91], Handshake::Silent, SILENCE * 2);
        assert_eq!(goes("203.3.1.1", &full, 32), Some(90));
        all(&mut full, Handshake::Silent, Duration::ZERO);
        assert_eq!(goes("203.3.1.1", &full, 32), None, "their first bytes may be on their way");
        all(&mut full, Handshake::Begun, HANDSHAKE);
        assert!(goes("198.51.100.1", &full, 32).is_some(), "nor is one byte enough");
        let mut full = table(128, 0, |_| "203.0.113.1".into());
        all(&mut full, Handshake::Silent, Duration::ZERO);
        all(&mut full[3..4], Handshake::Begun, Duration::ZERO);
        assert!(goes("203.3.1.1", &full, 32).is_some_and(|key| key != 3), "one network has too many");
    }
}
