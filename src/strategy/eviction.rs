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
//! seconds for callers of each /16 or IPv6 /32, and a network whose connection was evicted in this way evicts nobody itself for a while ([`EvictionLimiter`]).
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
pub struct EvictionCandidate {
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
    pub usefulness: Usefulness,
    /// The payload bytes that it has ever moved.
    pub total: u64,
    /// The payload bytes that it moves in a minute, of late.
    pub recent: u64,
}

/// What a connection has made of its place, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usefulness {
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
    /// What [`EvictionLimiter::note`] must hear of, where evictions of this kind are bounded.
    pub limited: Option<LimitedEviction>,
}

/// An eviction of a connection that an honest peer could have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitedEviction {
    /// Its network.
    pub network: Network,
    /// The wider network of the newcomer.
    pub newcomer: Network,
    /// It had not run out of time: it only moved the least.
    pub in_use: bool,
}

/// Bounds how often connections are evicted that an honest peer could have made.
#[derive(Debug, Default)]
pub struct EvictionLimiter {
    /// When each of the last of them was evicted; the oldest first.
    evicted: VecDeque<(Duration, LimitedEviction)>,
    /// When the last one was evicted that was in use.
    in_use: Option<Duration>,
}

impl EvictionLimiter {
    /// Such evictions in each [`EvictionLimiter::SPAN`] at most, and one for newcomers of each /16 or IPv6 /32: a place is kept for about a minute in the fullest flood of newcomers.
    pub const MAX_EVICTIONS: usize = 16;
    /// See [`EvictionLimiter::MAX_EVICTIONS`].
    pub const SPAN: Duration = Duration::from_secs(4);
    /// Between two evictions of connections that are in use. More than [`GRACE`]: the newcomer, if it does nothing, goes before the next.
    pub const PAUSE: Duration = Duration::from_secs(8);
    /// A network that lost a connection evicts no other for so long.
    pub const REST: Duration = Duration::from_secs(60);

    /// Whether a newcomer may take the place of a connection that has run out of time.
    fn allows(&self, newcomer: IpAddr, now: Duration) -> bool {
        let recent = || self.evicted.iter().rev().take_while(|(at, _)| now < *at + EvictionLimiter::SPAN);
        let (network, provider_network) = (Network::block(newcomer), provider_network(newcomer));
        recent().count() < EvictionLimiter::MAX_EVICTIONS
            && !recent().any(|(_, gone)| gone.newcomer == provider_network)
            && !self.evicted.iter().any(|(at, gone)| gone.network == network && now < *at + EvictionLimiter::REST)
    }

    /// Whether it may take that of a connection that is in use.
    fn allows_in_use(&self, newcomer: IpAddr, now: Duration) -> bool {
        self.in_use.is_none_or(|at| now >= at + EvictionLimiter::PAUSE) && self.allows(newcomer, now)
    }

    /// A connection was evicted; see [`Eviction::limited`].
    pub fn note(&mut self, gone: LimitedEviction, now: Duration) {
        while self.evicted.front().is_some_and(|(at, _)| now >= *at + EvictionLimiter::REST) {
            self.evicted.pop_front();
        }
        self.evicted.push_back((now, gone));
        if gone.in_use {
            self.in_use = Some(now);
        }
    }
}

/// What a provider has, or somebody who rents many addresses: an IPv4 /16 or an IPv6 /32.
fn provider_network(ip: IpAddr) -> Network {
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
const SILENT_TIMEOUT: Duration = Duration::from_millis(200);
/// So long a handshake may take, over a slow line and encrypted, before it gives way.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// So long a connection may do nothing before it gives way to a network that has fewer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// So long it may do nothing before it gives way to anybody.
const LONG_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a connection that has never moved a block: long enough for a peer that is served at once to ask and to get one.
const GRACE: Duration = Duration::from_secs(6);
/// The same for a connection that has moved blocks: so long after the last one at least, and up to [`LONG_IDLE_TIMEOUT`] where it has moved
/// [`PLENTY_BYTES`].
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const PLENTY_BYTES: u64 = 1 << 20;
/// A connection in use is safe in its first seconds …
const MIN_AGE_IN_USE: Duration = Duration::from_secs(20);
/// … and while it moves blocks, at so many bytes a minute and with no longer pause.
const BUSY: u64 = 60 * 4096;
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(5);

/// By these networks connections are counted, one inside the other.
const LEVELS: [fn(IpAddr) -> Network; 3] = [Network::block, Network::site, Network::host];

/// The connection that makes room for one from `newcomer`, where there is one. A network that has more than `fair` of them gives up one
/// at any time, but not to the same network.
pub fn evicted(
    newcomer: IpAddr,
    occupants: &[EvictionCandidate],
    fair: usize,
    eviction_limiter: &EvictionLimiter,
    now: Duration,
) -> Option<Eviction> {
    let is_idle = |o: &EvictionCandidate, patience| match o.handshake {
        Handshake::Silent => now >= o.moved + SILENT_TIMEOUT,
        Handshake::Begun => now >= o.moved + HANDSHAKE_TIMEOUT,
        Handshake::Done => now >= o.moved + patience,
    };
    let silent = occupants.iter().filter(|o| o.handshake == Handshake::Silent && is_idle(o, IDLE_TIMEOUT));
    let (crowd, exceeds) = fullest(newcomer, occupants, fair);
    let crowded = crowd.iter().filter(|o| exceeds.is_some_and(|exceeds| exceeds || is_idle(o, IDLE_TIMEOUT)));
    if let Some(gone) = longest_idle(silent).or_else(|| longest_idle(crowded)) {
        return Some(Eviction { key: gone.key, limited: None });
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
    let idle_for_long = equal.iter().copied().filter(|o| is_idle(o, LONG_IDLE_TIMEOUT));
    if let Some(gone) = longest_idle(idle_for_long) {
        return Some(Eviction { key: gone.key, limited: None });
    }
    let eviction = |gone: &EvictionCandidate, in_use| Eviction {
        key: gone.key,
        limited: Some(LimitedEviction {
            network: Network::block(gone.host),
            newcomer: provider_network(newcomer),
            in_use,
        }),
    };
    let over = equal.iter().copied().filter(|o| is_idle(o, idle_timeout(o)));
    if let Some(gone) =
        over.min_by_key(|o| (o.handshake, o.usefulness.min(Usefulness::Unknown), o.moved, Reverse(o.key)))
    {
        return eviction_limiter.allows(newcomer, now).then(|| eviction(gone, false));
    }
    let slack = |o: &EvictionCandidate| {
        let is_busy = o.recent >= BUSY && now < o.moved + MAX_BUSY_PAUSE;
        o.handshake == Handshake::Done
            && o.usefulness == Usefulness::Moved
            && now >= o.since + MIN_AGE_IN_USE
            && !is_busy
    };
    let more = equal.iter().copied().filter(|o| has(o.host) > has(newcomer));
    let least = more.filter(|o| slack(o)).min_by_key(|o| (o.recent, o.moved, Reverse(o.key)))?;
    eviction_limiter.allows_in_use(newcomer, now).then(|| eviction(least, true))
}

/// For how long a connection may move no block before it gives way to one of a network that has no more of them.
fn idle_timeout(o: &EvictionCandidate) -> Duration {
    if o.usefulness < Usefulness::Moved {
        return GRACE;
    }
    let share = o.total.min(PLENTY_BYTES) as f64 / PLENTY_BYTES as f64;
    MIN_IDLE_TIMEOUT + LONG_IDLE_TIMEOUT.saturating_sub(MIN_IDLE_TIMEOUT).mul_f64(share)
}

/// The connections of the fullest network, narrowed down level by level; and where they are more than the newcomer's network there
/// would have, whether they exceed the fair part.
fn fullest(newcomer: IpAddr, occupants: &[EvictionCandidate], fair: usize) -> (Vec<EvictionCandidate>, Option<bool>) {
    let mut crowd = occupants.to_vec();
    let mut exceeds = None;
    for level in LEVELS {
        let mut networks: HashMap<Network, Vec<EvictionCandidate>> = HashMap::new();
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
fn longest_idle<'a>(occupants: impl Iterator<Item = &'a EvictionCandidate>) -> Option<&'a EvictionCandidate> {
    occupants.min_by_key(|o| (o.handshake, o.moved, Reverse(o.key)))
}

#[cfg(test)]
mod tests;
