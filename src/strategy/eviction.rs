//! Chooses the connection to close when the table is full and a new peer wants to connect.
//!
//! One address or network may fill the table while no other peer wants in: many peers behind one router or on one machine are
//! legitimate. When a newcomer finds the table full, the network with the most connections gives one up. Within the fullest IPv4
//! /24 or IPv6 /48, the fullest address or /56 is chosen, in it the fullest /64, and there the connection that has been without
//! block transfer for longest. So idle connections keep nobody out, however many addresses of a network they use and whatever
//! they claim.
//!
//! Unfinished handshakes count on their own: the network that has the most of them gives up its oldest to a network with far fewer
//! connections.
//!
//! If the connections come from as many networks as there are connections, a connection that has never transferred a block is
//! evicted after a short grace period: first one that does not read what we send, then one that had an upload slot and requested
//! nothing. A connection that has transferred blocks may be evicted ten seconds to a minute after the last one; the more it has
//! transferred, the later. A few bytes do not count as a block. An honest peer that waits for its turn looks the same, so such
//! evictions are limited ([`EvictionLimiter`]): to a few per second, to one every few seconds for newcomers of each /16 or IPv6
//! /32, and a network that lost a connection this way causes no such eviction itself for a while.
//!
//! If no connection has exceeded its time, the connection with the least recent traffic is evicted in favour of a network with
//! fewer connections, one every few seconds, unless it is new or busy. So an attacker must transfer as much as honest peers do to
//! hold all places.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::{NETWORK_LEVELS, Network};
use crate::types::PeerKey;

/// A connection that may be evicted.
#[derive(Clone, Copy, Debug)]
pub struct EvictionCandidate {
    /// The connection.
    pub key: PeerKey,
    /// The remote address.
    pub ip: IpAddr,
    /// The state of its handshake.
    pub handshake: HandshakeProgress,
    /// When it was established.
    pub since: Duration,
    /// When it last transferred a block in either direction; initially when it was established.
    pub last_block: Duration,
    /// How useful it has been so far.
    pub usefulness: Usefulness,
    /// Payload bytes transferred since it was established, both directions.
    pub total: u64,
    /// Recent payload bytes per minute, both directions.
    pub recent: u64,
}

/// How useful a connection has been, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usefulness {
    /// The peer does not read what we send.
    Stuck,
    /// The peer had an upload slot and requested nothing or little.
    LeftSlotIdle,
    /// No block has been transferred.
    Unknown,
    /// Blocks have been transferred.
    Transferred,
}

/// The connection to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The connection.
    pub key: PeerKey,
    /// To be passed to [`EvictionLimiter::note`] after the eviction, if evictions of this kind are limited.
    pub limited: Option<LimitedEviction>,
}

/// An eviction that may hit an honest peer, and therefore is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitedEviction {
    /// The network of the evicted connection.
    pub network: Network,
    /// The wider network of the newcomer.
    pub newcomer: Network,
    /// Whether the connection had not exceeded its time and only transferred the least.
    pub is_in_use: bool,
}

/// Limits how often connections are evicted that may belong to honest peers.
#[derive(Debug, Default)]
pub struct EvictionLimiter {
    /// The recent limited evictions with their times, the oldest first.
    evicted: VecDeque<(Duration, LimitedEviction)>,
    /// When a connection in use was last evicted.
    last_in_use_eviction: Option<Duration>,
}

impl EvictionLimiter {
    /// The most limited evictions within each [`EvictionLimiter::SPAN`]; newcomers of each /16 or IPv6 /32 get one of them. Even
    /// in the worst flood of newcomers, a connection keeps its place for about a minute.
    pub const MAX_EVICTIONS: usize = 16;
    /// See [`EvictionLimiter::MAX_EVICTIONS`].
    pub const SPAN: Duration = Duration::from_secs(4);
    /// The time between two evictions of connections in use. Longer than [`GRACE`], so that a newcomer that transfers nothing is
    /// evicted before the next connection in use.
    pub const PAUSE: Duration = Duration::from_secs(8);
    /// How long a network that lost a connection causes no limited eviction itself.
    pub const REST: Duration = Duration::from_secs(60);

    /// Whether a newcomer may evict a connection that has exceeded its time.
    fn allows(&self, newcomer: IpAddr, now: Duration) -> bool {
        let recent = || self.evicted.iter().rev().take_while(|(at, _)| now < *at + EvictionLimiter::SPAN);
        let (network, provider_network) = (Network::subnet(newcomer), provider_network(newcomer));
        recent().count() < EvictionLimiter::MAX_EVICTIONS
            && !recent().any(|(_, eviction)| eviction.newcomer == provider_network)
            && !self
                .evicted
                .iter()
                .any(|(at, eviction)| eviction.network == network && now < *at + EvictionLimiter::REST)
    }

    /// Whether a newcomer may evict a connection in use.
    fn allows_in_use(&self, newcomer: IpAddr, now: Duration) -> bool {
        self.last_in_use_eviction.is_none_or(|at| now >= at + EvictionLimiter::PAUSE) && self.allows(newcomer, now)
    }

    /// Records an eviction; see [`Eviction::limited`].
    pub fn note(&mut self, eviction: LimitedEviction, now: Duration) {
        while self.evicted.front().is_some_and(|(at, _)| now >= *at + EvictionLimiter::REST) {
            self.evicted.pop_front();
        }
        self.evicted.push_back((now, eviction));
        if eviction.is_in_use {
            self.last_in_use_eviction = Some(now);
        }
    }
}

/// The network of a provider, or of someone who rents many addresses: an IPv4 /16 or IPv6 /32.
fn provider_network(ip: IpAddr) -> Network {
    Network::of(ip, 16, 32)
}

/// The progress of a connection's handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandshakeProgress {
    /// No byte has arrived from the remote side.
    Silent,
    /// Some bytes have arrived.
    Begun,
    /// The handshake is complete.
    Done,
}

/// The first bytes of an incoming connection arrive directly after it is established. A connection that has sent nothing for this
/// long may be evicted by any newcomer.
const SILENT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a handshake may take, encrypted over a slow link, before the connection may be evicted.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same in favour of a network with far fewer connections.
const HANDSHAKE_TIMEOUT_FOR_FEWER: Duration = Duration::from_millis(200);
/// How long a connection may be idle before it is evicted in favour of a network with fewer connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle before any newcomer may evict it.
const LONG_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that has never transferred a block may be idle: enough for a peer that is unchoked at once to request
/// and receive one.
const GRACE: Duration = Duration::from_secs(6);
/// How long a connection that has transferred blocks may be idle, at least. The time grows to [`LONG_IDLE_TIMEOUT`] at
/// [`PLENTY_BYTES`] transferred.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const PLENTY_BYTES: u64 = 1 << 20;
/// A connection in use is not evicted within this time after it was established…
const MIN_AGE_IN_USE: Duration = Duration::from_secs(20);
/// … nor while it transfers at least this many bytes per minute, without a pause longer than this.
const BUSY: u64 = 60 * 4096;
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(5);

/// The connection to evict for a newcomer, if any. A network with more than `fair` connections gives one up at any time, but not
/// to the same network.
pub fn choose_eviction(
    newcomer: IpAddr,
    candidates: &[EvictionCandidate],
    fair: usize,
    eviction_limiter: &EvictionLimiter,
    now: Duration,
) -> Option<Eviction> {
    let is_idle = |o: &EvictionCandidate, patience| match o.handshake {
        HandshakeProgress::Silent => now >= o.last_block + SILENT_TIMEOUT,
        HandshakeProgress::Begun => now >= o.last_block + HANDSHAKE_TIMEOUT,
        HandshakeProgress::Done => now >= o.last_block + patience,
    };
    let silent = candidates.iter().filter(|o| o.handshake == HandshakeProgress::Silent && is_idle(o, IDLE_TIMEOUT));
    let (of_fullest, exceeds) = fullest(newcomer, candidates, fair);
    let of_fullest = of_fullest.iter().filter(|o| exceeds.is_some_and(|exceeds| exceeds || is_idle(o, IDLE_TIMEOUT)));
    let evicted = longest_idle(silent).or_else(|| longest_idle(of_fullest));
    if let Some(gone) = evicted.or_else(|| oldest_unfinished(newcomer, candidates, now)) {
        return Some(Eviction { key: gone.key, limited: None });
    }
    // Every other network is within its fair share, or its connections are in use. The newcomer must not evict a connection of a
    // network that has fewer.
    let mut subnets: HashMap<Network, usize> = HashMap::new();
    for candidate in candidates {
        *subnets.entry(Network::subnet(candidate.ip)).or_default() += 1;
    }
    let has = |host| subnets.get(&Network::subnet(host)).copied().unwrap_or_default();
    if candidates.iter().filter(|o| Network::host(o.ip) == Network::host(newcomer)).count() > fair {
        return None;
    }
    let equal: Vec<_> = candidates.iter().filter(|o| has(o.ip) >= has(newcomer)).collect();
    let idle_for_long = equal.iter().copied().filter(|o| is_idle(o, LONG_IDLE_TIMEOUT));
    if let Some(gone) = longest_idle(idle_for_long) {
        return Some(Eviction { key: gone.key, limited: None });
    }
    let eviction = |gone: &EvictionCandidate, is_in_use| Eviction {
        key: gone.key,
        limited: Some(LimitedEviction {
            network: Network::subnet(gone.ip),
            newcomer: provider_network(newcomer),
            is_in_use,
        }),
    };
    let over = equal.iter().copied().filter(|o| is_idle(o, idle_timeout(o)));
    if let Some(gone) =
        over.min_by_key(|o| (o.handshake, o.usefulness.min(Usefulness::Unknown), o.last_block, Reverse(o.key)))
    {
        return eviction_limiter.allows(newcomer, now).then(|| eviction(gone, false));
    }
    let slack = |o: &EvictionCandidate| {
        let is_busy = o.recent >= BUSY && now < o.last_block + MAX_BUSY_PAUSE;
        o.handshake == HandshakeProgress::Done
            && o.usefulness == Usefulness::Transferred
            && now >= o.since + MIN_AGE_IN_USE
            && !is_busy
    };
    let more = equal.iter().copied().filter(|o| has(o.ip) > has(newcomer));
    let least = more.filter(|o| slack(o)).min_by_key(|o| (o.recent, o.last_block, Reverse(o.key)))?;
    eviction_limiter.allows_in_use(newcomer, now).then(|| eviction(least, true))
}

/// How long a connection may be idle before it may be evicted in favour of a network with as many connections or fewer.
fn idle_timeout(o: &EvictionCandidate) -> Duration {
    if o.usefulness < Usefulness::Transferred {
        return GRACE;
    }
    let share = o.total.min(PLENTY_BYTES) as f64 / PLENTY_BYTES as f64;
    MIN_IDLE_TIMEOUT + LONG_IDLE_TIMEOUT.saturating_sub(MIN_IDLE_TIMEOUT).mul_f64(share)
}

/// The connections of the fullest network, narrowed down level by level. The second value is set if that network has at least two
/// more than the newcomer's, and says whether it exceeds the fair share.
fn fullest(newcomer: IpAddr, candidates: &[EvictionCandidate], fair: usize) -> (Vec<EvictionCandidate>, Option<bool>) {
    let mut left = candidates.to_vec();
    let mut exceeds = None;
    for level in NETWORK_LEVELS {
        let mut networks: HashMap<Network, Vec<EvictionCandidate>> = HashMap::new();
        for candidate in &left {
            networks.entry(level(candidate.ip)).or_default().push(*candidate);
        }
        let theirs = networks.get(&level(newcomer)).map_or(0, Vec::len);
        let fullest = networks.into_iter().max_by_key(|(network, members)| (members.len(), *network));
        let Some((network, narrowed)) = fullest else { break };
        left = narrowed;
        if exceeds.is_none() && network != level(newcomer) && left.len() >= theirs + 2 {
            exceeds = Some(left.len() > fair);
        }
    }
    (left, exceeds)
}

/// The oldest connection with an unfinished handshake, in the network that has the most of these, if that has at least twice as many
/// as the newcomer's network would have connections. A few networks that each stay within the fair share, and renew their
/// connections before [`HANDSHAKE_TIMEOUT`], would keep others out otherwise.
fn oldest_unfinished(newcomer: IpAddr, candidates: &[EvictionCandidate], now: Duration) -> Option<&EvictionCandidate> {
    let mut of_network: HashMap<Network, usize> = HashMap::new();
    for candidate in candidates.iter().filter(|o| o.handshake == HandshakeProgress::Begun) {
        *of_network.entry(Network::subnet(candidate.ip)).or_default() += 1;
    }
    let (network, count) = of_network.into_iter().max_by_key(|(network, count)| (*count, *network))?;
    let theirs = candidates.iter().filter(|o| Network::subnet(o.ip) == Network::subnet(newcomer)).count();
    let unfinished =
        |o: &&EvictionCandidate| o.handshake == HandshakeProgress::Begun && Network::subnet(o.ip) == network;
    let oldest = longest_idle(candidates.iter().filter(unfinished))?;
    (count >= 2 * (theirs + 1) && now >= oldest.last_block + HANDSHAKE_TIMEOUT_FOR_FEWER).then_some(oldest)
}

/// The connection that has been idle for longest, among those with the least handshake progress; of several, the newest.
fn longest_idle<'a>(candidates: impl Iterator<Item = &'a EvictionCandidate>) -> Option<&'a EvictionCandidate> {
    candidates.min_by_key(|o| (o.handshake, o.last_block, Reverse(o.key)))
}

#[cfg(test)]
mod tests;
