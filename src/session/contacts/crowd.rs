//! Which connection ends when the table is full and somebody else wants in. Pure.
//!
//! One address or network may fill the table as long as nobody else wants in: many peers behind one router, or all of them on one
//! machine, are nothing bad. When a newcomer finds no place, the network with the most connections gives one up: of the fullest IPv4
//! /24 or IPv6 /48 the fullest address or /56, of that the fullest /64, and there the connection that has moved no block for longest.
//! So nobody keeps others out with connections that do nothing, however many addresses of a network it has, and whatever the
//! connections say.
//!
//! Where the connections come from as many networks as there are connections, a connection that has never moved a block gives way
//! after a short grace, first one that had an upload slot and asked for nothing. An honest peer that waits for its turn looks the same,
//! so there are only a few such evictions a second, and a network whose connection was evicted in this way evicts nobody itself for a
//! while ([`Churn`]). A connection that has moved blocks is evicted only after a minute without one.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
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
    /// What it has made of its place so far.
    pub merit: Merit,
}

/// What a connection has made of its place, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Merit {
    /// It had an upload slot and asked for nothing.
    Idled,
    /// No block has ever moved.
    Unknown,
    /// It has moved blocks.
    Moved,
}

/// The connection to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Which.
    pub key: PeerKey,
    /// Its network, where it is evicted only because it has never moved a block: [`Churn::note`] must hear of it.
    pub unproven: Option<Network>,
}

/// Bounds how often connections that have never moved a block are evicted.
#[derive(Debug, Default)]
pub struct Churn {
    /// When each of the last of them was evicted, and its network; the oldest first.
    evicted: VecDeque<(Duration, Network)>,
}

impl Churn {
    /// Such evictions in each [`Churn::SPAN`] at most: a place is kept for about a minute in the fullest flood of newcomers.
    pub const MOST: usize = 16;
    /// See [`Churn::MOST`].
    pub const SPAN: Duration = Duration::from_secs(4);
    /// A network that lost a connection evicts no other for so long.
    pub const REST: Duration = Duration::from_secs(60);

    /// Whether a newcomer may take the place of a connection that has never moved a block.
    fn allows(&self, newcomer: IpAddr, now: Duration) -> bool {
        let lately = self.evicted.iter().rev().take_while(|(at, _)| now < *at + Churn::SPAN).count();
        let network = Network::block(newcomer);
        lately < Churn::MOST && !self.evicted.iter().any(|(at, gone)| *gone == network && now < *at + Churn::REST)
    }

    /// A connection was evicted; see [`Eviction::unproven`].
    pub fn note(&mut self, network: Network, now: Duration) {
        while self.evicted.front().is_some_and(|(at, _)| now >= *at + Churn::REST) {
            self.evicted.pop_front();
        }
        self.evicted.push_back((now, network));
    }
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
/// The same for a connection that has never moved a block: long enough for a peer that is served at once to ask and to get one.
const GRACE: Duration = Duration::from_secs(6);

/// By these networks connections are counted, one inside the other.
const LEVELS: [fn(IpAddr) -> Network; 3] = [Network::block, Network::site, Network::host];

/// The connection that makes room for one from `newcomer`, where there is one. A network that has more than `fair` of them gives up one
/// at any time, but not to the same network.
pub fn evicted(
    newcomer: IpAddr,
    occupants: &[Occupant],
    fair: usize,
    churn: &Churn,
    now: Duration,
) -> Option<Eviction> {
    let is_idle = |o: &Occupant, patience| match o.handshake {
        Handshake::Silent => now >= o.moved + SILENCE,
        Handshake::Begun => now >= o.moved + HANDSHAKE,
        Handshake::Done => now >= o.moved + patience,
    };
    let silent = occupants.iter().filter(|o| o.handshake == Handshake::Silent && is_idle(o, IDLE));
    let (crowd, exceeds) = fullest(newcomer, occupants, fair);
    let crowded = crowd.iter().filter(|o| exceeds.is_some_and(|exceeds| exceeds || is_idle(o, IDLE)));
    if let Some(gone) = longest_idle(silent).or_else(|| longest_idle(crowded)) {
        return Some(Eviction { key: gone.key, unproven: None });
    }
    // No other network has more than its part, or what it has is in use. The newcomer's must not push out others that have fewer.
    let mut blocks: HashMap<Network, usize> = HashMap::new();
    for occupant in occupants {
        *blocks.entry(Network::block(occupant.host)).or_default() += 1;
    }
    let has = |host| blocks.get(&Network::block(host)).copied().unwrap_or_default();
    if occupants.iter().filter(|o| Network::host(o.host) == Network::host(newcomer)).count() > fair {
        return None;
    }
    let equal: Vec<_> = occupants.iter().filter(|o| has(o.host) >= has(newcomer)).collect();
    let idle_for_long = equal.iter().copied().filter(|o| is_idle(o, LONG_IDLE));
    if let Some(gone) = longest_idle(idle_for_long) {
        return Some(Eviction { key: gone.key, unproven: None });
    }
    let unproven = equal.iter().copied().filter(|o| o.merit < Merit::Moved && is_idle(o, GRACE));
    let gone = unproven.min_by_key(|o| (o.handshake, o.merit, o.moved, Reverse(o.key)))?;
    let eviction = Eviction { key: gone.key, unproven: Some(Network::block(gone.host)) };
    churn.allows(newcomer, now).then_some(eviction)
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
fn longest_idle<'a>(occupants: impl Iterator<Item = &'a Occupant>) -> Option<&'a Occupant> {
    occupants.min_by_key(|o| (o.handshake, o.moved, Reverse(o.key)))
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
            merit: Merit::Moved,
        }
    }

    fn goes(newcomer: &str, occupants: &[Occupant], fair: usize) -> Option<u32> {
        let newcomer = newcomer.parse().expect("an address");
        evicted(newcomer, occupants, fair, &Churn::default(), NOW).map(|gone| gone.key.0)
    }

    /// The same connections, none of which has moved a block.
    fn unproven(mut occupants: Vec<Occupant>) -> Vec<Occupant> {
        for occupant in &mut occupants {
            occupant.merit = Merit::Unknown;
        }
        occupants
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

    #[test]
    fn idle_connections_of_many_networks_keep_nobody_out() {
        let mut full = unproven(table(225, 5, |n| format!("203.{n}.1.1")));
        assert_eq!(goes("198.51.100.1", &full, 75), None, "they get a moment to ask for something");
        for occupant in &mut full {
            occupant.moved -= Duration::from_secs(1);
        }
        assert!(goes("198.51.100.1", &full, 75).is_some());
        full[9].moved -= Duration::from_secs(1);
        assert_eq!(goes("198.51.100.1", &full, 75), Some(9), "the one that has been idle for longest");
        full[7].merit = Merit::Idled;
        assert_eq!(goes("198.51.100.1", &full, 75), Some(7), "or had a slot and asked for nothing");
        for occupant in &mut full {
            occupant.merit = Merit::Moved;
        }
        assert_eq!(goes("198.51.100.1", &full, 75), None, "peers that have moved a block stay");
        let six: Vec<_> = unproven(table(225, 6, |n| format!("2001:db8:{n:x}::1")));
        assert!(goes("2001:db8:ffff::1", &six, 75).is_some());
    }

    /// Two busy connections of one network do not cover for the idle ones of all others.
    #[test]
    fn a_network_with_two_busy_connections_covers_for_nobody() {
        let mut full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
        for (n, occupant) in full.iter_mut().take(2).enumerate() {
            *occupant = at(n as u32, "192.0.2.1", 0);
        }
        assert!(goes("198.51.100.1", &full, 75).is_some_and(|key| key > 1));
    }

    /// A flood of newcomers of ever new networks, sixty a second for two minutes: how long the connections that it evicts had lasted,
    /// and how many it evicts.
    #[test]
    fn a_flood_of_newcomers_evicts_few_and_none_that_has_moved_a_block() {
        let mut full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
        full[..100].iter_mut().for_each(|o| (o.merit, o.moved) = (Merit::Moved, NOW + Duration::from_secs(100)));
        let (mut churn, mut evictions) = (Churn::default(), 0);
        for n in 0..120 * 60u32 {
            let now = NOW + Duration::from_millis(u64::from(n) * 1000 / 60);
            let newcomer = IpAddr::from([100, (n >> 8) as u8, n as u8, 1]);
            let Some(gone) = evicted(newcomer, &full, 75, &churn, now) else { continue };
            churn.note(gone.unproven.expect("only such are evicted"), now);
            let place = full.iter_mut().find(|o| o.key == gone.key).expect("a connection");
            assert_eq!(place.merit, Merit::Unknown);
            (place.key, place.host, place.moved) = (PeerKey(1000 + n), newcomer, now);
            evictions += 1;
        }
        assert!((400..=500).contains(&evictions), "{evictions}");
    }

    #[test]
    fn a_network_whose_idle_connection_was_evicted_evicts_nobody_for_a_minute() {
        let full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
        let (mut churn, newcomer) = (Churn::default(), |n: u8| IpAddr::from([198, 51, n, 1]));
        let gone = evicted(newcomer(1), &full, 75, &churn, NOW).expect("a connection");
        churn.note(Network::block(newcomer(2)), NOW);
        assert!(evicted(newcomer(2), &full, 75, &churn, NOW).is_none());
        assert_eq!(evicted(newcomer(3), &full, 75, &churn, NOW), Some(gone));
        assert!(evicted(newcomer(2), &full, 75, &churn, NOW + Churn::REST).is_some());
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
