//! Which connection ends when the table is full and somebody else wants in. Pure.
//!
//! One address or network may fill the table as long as nobody else wants in: many peers behind one router, or all of them on one
//! machine, are nothing bad. When a newcomer finds no place, the network with the most connections gives one up: of the fullest IPv4
//! /24 or IPv6 /48 the fullest address or /56, of that the fullest /64, and there the connection that has moved no block for longest.
//! So nobody keeps others out with connections that do nothing, however many addresses of a network it has, and whatever the
//! connections say.
//!
//! Where the connections come from as many networks as there are connections, a connection that has never moved a block gives way
//! after a short grace, first one that does not read what we send, then one that had an upload slot and asked for nothing. A
//! connection that has moved blocks is evicted ten seconds to a minute after the last one, the later the more it has moved; a few bytes
//! are no block. An honest peer that waits for its turn looks the same, so there are only a few such evictions a second, one in a few
//! seconds for callers of each /16 or IPv6 /32, and a network whose connection was evicted in this way evicts nobody itself for a while ([`Churn`]).
//!
//! Where nobody has run out of time, the connection that has moved the least of late gives way to a network that has fewer, one every
//! few seconds, unless it is new or busy. Whoever wants to hold all places must move as much as honest peers do.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::Network;
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
    /// When it was made.
    pub since: Duration,
    /// When it last moved a block, either way; when it was made, where it has moved none.
    pub moved: Duration,
    /// What it has made of its place so far.
    pub merit: Merit,
    /// The payload bytes that it has ever moved.
    pub total: u64,
    /// The payload bytes that it moves in a minute, of late.
    pub lately: u64,
}

/// What a connection has made of its place, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Merit {
    /// It does not read what we send.
    Stuck,
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
    /// What [`Churn::note`] must hear of, where evictions of this kind are bounded.
    pub bounded: Option<Bounded>,
}

/// An eviction of a connection that an honest peer could have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Its network.
    pub network: Network,
    /// The wider network of the newcomer.
    pub newcomer: Network,
    /// It had not run out of time: it only moved the least.
    pub in_use: bool,
}

/// Bounds how often connections are evicted that an honest peer could have made.
#[derive(Debug, Default)]
pub struct Churn {
    /// When each of the last of them was evicted; the oldest first.
    evicted: VecDeque<(Duration, Bounded)>,
    /// When the last one was evicted that was in use.
    in_use: Option<Duration>,
}

impl Churn {
    /// Such evictions in each [`Churn::SPAN`] at most, and one for newcomers of each /16 or IPv6 /32: a place is kept for about a minute in the fullest flood of newcomers.
    pub const MOST: usize = 16;
    /// See [`Churn::MOST`].
    pub const SPAN: Duration = Duration::from_secs(4);
    /// Between two evictions of connections that are in use. More than [`GRACE`]: the newcomer, if it does nothing, goes before the next.
    pub const PAUSE: Duration = Duration::from_secs(8);
    /// A network that lost a connection evicts no other for so long.
    pub const REST: Duration = Duration::from_secs(60);

    /// Whether a newcomer may take the place of a connection that has run out of time.
    fn allows(&self, newcomer: IpAddr, now: Duration) -> bool {
        let lately = || self.evicted.iter().rev().take_while(|(at, _)| now < *at + Churn::SPAN);
        let (network, wider) = (Network::block(newcomer), wider(newcomer));
        lately().count() < Churn::MOST
            && !lately().any(|(_, gone)| gone.newcomer == wider)
            && !self.evicted.iter().any(|(at, gone)| gone.network == network && now < *at + Churn::REST)
    }

    /// Whether it may take that of a connection that is in use.
    fn allows_in_use(&self, newcomer: IpAddr, now: Duration) -> bool {
        self.in_use.is_none_or(|at| now >= at + Churn::PAUSE) && self.allows(newcomer, now)
    }

    /// A connection was evicted; see [`Eviction::bounded`].
    pub fn note(&mut self, gone: Bounded, now: Duration) {
        while self.evicted.front().is_some_and(|(at, _)| now >= *at + Churn::REST) {
            self.evicted.pop_front();
        }
        self.evicted.push_back((now, gone));
        if gone.in_use {
            self.in_use = Some(now);
        }
    }
}

/// What a provider has, or somebody who rents many addresses: an IPv4 /16 or an IPv6 /32.
fn wider(ip: IpAddr) -> Network {
    Network::of(ip, 16, 32)
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
/// The same for a connection that has moved blocks: so long after the last one at least, and up to [`LONG_IDLE`] where it has moved
/// [`PLENTY`].
const SHORT_PATIENCE: Duration = Duration::from_secs(10);
const PLENTY: u64 = 1 << 20;
/// A connection in use is safe in its first seconds …
const SETTLED: Duration = Duration::from_secs(20);
/// … and while it moves blocks, at so many bytes a minute and with no longer pause.
const BUSY: u64 = 60 * 4096;
const PAUSE_OF_BUSY: Duration = Duration::from_secs(5);

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
        return Some(Eviction { key: gone.key, bounded: None });
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
        return Some(Eviction { key: gone.key, bounded: None });
    }
    let eviction = |gone: &Occupant, in_use| Eviction {
        key: gone.key,
        bounded: Some(Bounded { network: Network::block(gone.host), newcomer: wider(newcomer), in_use }),
    };
    let over = equal.iter().copied().filter(|o| is_idle(o, patience_with(o)));
    if let Some(gone) = over.min_by_key(|o| (o.handshake, o.merit.min(Merit::Unknown), o.moved, Reverse(o.key))) {
        return churn.allows(newcomer, now).then(|| eviction(gone, false));
    }
    let slack = |o: &Occupant| {
        let is_busy = o.lately >= BUSY && now < o.moved + PAUSE_OF_BUSY;
        o.handshake == Handshake::Done && o.merit == Merit::Moved && now >= o.since + SETTLED && !is_busy
    };
    let more = equal.iter().copied().filter(|o| has(o.host) > has(newcomer));
    let least = more.filter(|o| slack(o)).min_by_key(|o| (o.lately, o.moved, Reverse(o.key)))?;
    churn.allows_in_use(newcomer, now).then(|| eviction(least, true))
}

/// For how long a connection may move no block before it gives way to one of a network that has no more of them.
fn patience_with(o: &Occupant) -> Duration {
    if o.merit < Merit::Moved {
        return GRACE;
    }
    let share = o.total.min(PLENTY) as f64 / PLENTY as f64;
    SHORT_PATIENCE + LONG_IDLE.saturating_sub(SHORT_PATIENCE).mul_f64(share)
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
mod tests;
