//! The initiator: which relay to ask for which address. A relay is a connected peer that named the address in peer exchange and
//! said that the peer there supports hole punching. Only addresses that we could not reach are asked for.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::strategy::hole_punch::FIRST_PUNCHED_PORT;
use crate::strategy::hole_punch::allowance::{Allowance, AllowanceLimits};
use crate::types::PeerKey;
use crate::wire::holepunch::HolePunchError;

/// The most addresses that are remembered, with their relays or because dialling them failed.
const MAX_ADDRESSES: usize = 2000;
/// The most relays of one address.
const MAX_RELAYS: usize = 4;
/// The most addresses that wait for their turn.
const MAX_WAITING: usize = 64;
/// The most requests that wait for an answer.
const MAX_OUTSTANDING: usize = 8;
/// How long a relay has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one relay is asked. Relays of our kind answer more often.
const BY_RELAY: AllowanceLimits = AllowanceLimits { burst: 4, interval: Duration::from_secs(6) };
/// How often relays are asked for one address.
const BY_ADDRESS: AllowanceLimits = AllowanceLimits { burst: 3, interval: Duration::from_secs(20 * 60) };
/// An address that could not be reached is asked for when a relay names it within this time.
const FAILURE_MEMORY: Duration = Duration::from_secs(600);

/// What is known of one address.
#[derive(Debug, Default)]
struct UnreachedPeer {
    /// The peers that can introduce us, the next one to ask first.
    relays: VecDeque<PeerKey>,
    asked: Allowance,
    failed_at: Option<Duration>,
}

/// A request that waits for an answer.
#[derive(Clone, Copy, Debug)]
struct OutstandingPunch {
    relay: PeerKey,
    addr: SocketAddr,
    until: Duration,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct PunchRequests {
    addresses: HashMap<SocketAddr, UnreachedPeer>,
    /// The same addresses, those that were added first in front.
    order: VecDeque<SocketAddr>,
    waiting: VecDeque<SocketAddr>,
    outstanding: Vec<OutstandingPunch>,
    /// How often each relay was asked.
    relays: HashMap<PeerKey, Allowance>,
}

impl PunchRequests {
    /// The peer of connection `relay` is connected to the peer at `addr`, and says that it supports hole punching.
    pub fn named(&mut self, now: Duration, relay: PeerKey, addr: SocketAddr) {
        if addr.port() < FIRST_PUNCHED_PORT {
            return;
        }
        let peer = self.entry(addr);
        if !peer.relays.contains(&relay) && peer.relays.len() < MAX_RELAYS {
            peer.relays.push_back(relay);
        }
        if peer.failed_at.is_some_and(|at| now < at + FAILURE_MEMORY) {
            self.enqueue(now, addr);
        }
    }

    /// The peer at `addr` could not be reached.
    pub fn dial_failed(&mut self, now: Duration, addr: SocketAddr) {
        if addr.port() >= FIRST_PUNCHED_PORT {
            self.entry(addr).failed_at = Some(now);
            self.enqueue(now, addr);
        }
    }

    /// There is a connection with `addr`.
    pub fn connected(&mut self, addr: SocketAddr) {
        if let Some(peer) = self.addresses.get_mut(&addr) {
            peer.failed_at = None;
        }
        self.waiting.retain(|waiting| *waiting != addr);
        self.outstanding.retain(|request| request.addr != addr);
    }

    /// The connection has ended.
    pub fn disconnected(&mut self, key: PeerKey) {
        for peer in self.addresses.values_mut() {
            peer.relays.retain(|relay| *relay != key);
        }
        self.relays.remove(&key);
        self.outstanding.retain(|request| request.relay != key);
    }

    /// The next request to send, if one is due: to which relay, and for which address. `can_relay` says whether a peer is connected
    /// and supports hole punching.
    pub fn next_request(
        &mut self,
        now: Duration,
        can_relay: impl Fn(PeerKey) -> bool,
    ) -> Option<(PeerKey, SocketAddr)> {
        self.expire(now);
        let addresses = &self.addresses;
        self.waiting
            .retain(|addr| addresses.get(addr).is_some_and(|peer| peer.relays.iter().any(|key| can_relay(*key))));
        if self.outstanding.len() >= MAX_OUTSTANDING {
            return None;
        }
        let free = |addr: &SocketAddr| {
            let mut relays = addresses.get(addr)?.relays.iter().filter(|relay| can_relay(**relay));
            relays.find(|relay| self.next_for(**relay) <= now).copied()
        };
        let (index, relay) = self.waiting.iter().enumerate().find_map(|(n, addr)| Some((n, free(addr)?)))?;
        let addr = self.waiting.remove(index)?;
        self.relays.entry(relay).or_default().note(now, BY_RELAY);
        let peer = self.addresses.get_mut(&addr)?;
        peer.asked.note(now, BY_ADDRESS);
        self.outstanding.push(OutstandingPunch { relay, addr, until: now + ANSWER_TIMEOUT });
        Some((relay, addr))
    }

    /// When to call [`PunchRequests::next_request`] again, if ever.
    pub fn next_due(&self) -> Option<Duration> {
        let timeout = self.outstanding.iter().map(|request| request.until).min();
        if self.outstanding.len() >= MAX_OUTSTANDING {
            return timeout;
        }
        let relays = self.waiting.iter().filter_map(|addr| self.addresses.get(addr)).flat_map(|peer| &peer.relays);
        relays.map(|relay| self.next_for(*relay)).chain(timeout).min()
    }

    /// The relay tells us to connect to a peer. Returns whether we asked it to; its port may be another one than we know.
    pub fn answered(&mut self, relay: PeerKey, ip: IpAddr) -> bool {
        let asked = self.outstanding.iter().position(|request| request.relay == relay && request.addr.ip() == ip);
        asked.map(|index| self.outstanding.swap_remove(index)).is_some()
    }

    /// The relay cannot introduce us to the peer.
    pub fn refused(&mut self, now: Duration, relay: PeerKey, addr: SocketAddr, error: HolePunchError) {
        let asked = self.outstanding.iter().position(|request| request.relay == relay && request.addr == addr);
        let Some(index) = asked else { return };
        self.outstanding.swap_remove(index);
        if error == HolePunchError::NoSupport
            && let Some(peer) = self.addresses.get_mut(&addr)
        {
            peer.relays.clear();
        }
        self.try_another(now, relay, addr);
    }

    /// Gives up the requests that had no answer in time.
    fn expire(&mut self, now: Duration) {
        let late: Vec<_> = self.outstanding.extract_if(.., |request| request.until <= now).collect();
        for OutstandingPunch { relay, addr, .. } in late {
            self.try_another(now, relay, addr);
        }
    }

    /// The relay is of no use for the address; another one may be.
    fn try_another(&mut self, now: Duration, relay: PeerKey, addr: SocketAddr) {
        if let Some(peer) = self.addresses.get_mut(&addr) {
            peer.relays.retain(|other| *other != relay);
            self.enqueue(now, addr);
        }
    }

    fn enqueue(&mut self, now: Duration, addr: SocketAddr) {
        let Some(peer) = self.addresses.get(&addr) else { return };
        let is_known = self.waiting.contains(&addr) || self.outstanding.iter().any(|request| request.addr == addr);
        let may_ask = !peer.relays.is_empty() && peer.asked.permits(now, BY_ADDRESS);
        if may_ask && !is_known && self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(addr);
        }
    }

    /// When the relay may be asked again.
    fn next_for(&self, relay: PeerKey) -> Duration {
        self.relays.get(&relay).map_or(Duration::ZERO, |allowance| allowance.next(BY_RELAY))
    }

    fn entry(&mut self, addr: SocketAddr) -> &mut UnreachedPeer {
        if !self.addresses.contains_key(&addr) {
            if self.addresses.len() >= MAX_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.addresses.remove(&oldest);
            }
            self.order.push_back(addr);
        }
        self.addresses.entry(addr).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: &str = "8.8.8.8:6881";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// All requests that are sent now.
    fn sent(requests: &mut PunchRequests, second: u64) -> Vec<(u32, SocketAddr)> {
        let next = || requests.next_request(s(second), |_| true).map(|(relay, addr)| (relay.0, addr));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_peer_that_cannot_be_reached_is_asked_of_those_that_named_it() {
        let mut requests = PunchRequests::default();
        requests.named(s(0), PeerKey(1), addr(ADDR));
        assert_eq!((sent(&mut requests, 0), requests.next_due()), (vec![], None), "it may be reachable");
        requests.dial_failed(s(10), addr(ADDR));
        assert_eq!(requests.next_due(), Some(s(0)));
        assert_eq!(sent(&mut requests, 10), [(1, addr(ADDR))]);
        requests.dial_failed(s(11), addr(ADDR));
        assert_eq!(sent(&mut requests, 11), [], "one request at a time");
        assert!(!requests.answered(PeerKey(2), addr(ADDR).ip()), "another peer was not asked");
        assert!(requests.answered(PeerKey(1), addr(ADDR).ip()) && !requests.answered(PeerKey(1), addr(ADDR).ip()));
        assert_eq!(requests.next_due(), None);
    }

    #[test]
    fn a_peer_that_is_named_after_the_failure_is_asked_for_at_once() {
        let mut requests = PunchRequests::default();
        requests.dial_failed(s(0), addr(ADDR));
        assert_eq!(sent(&mut requests, 0), [], "nobody has named it");
        requests.named(s(599), PeerKey(1), addr(ADDR));
        assert_eq!(sent(&mut requests, 599), [(1, addr(ADDR))]);
        let mut requests = PunchRequests::default();
        requests.dial_failed(s(0), addr(ADDR));
        requests.named(s(600), PeerKey(1), addr(ADDR));
        assert_eq!(sent(&mut requests, 600), [], "that was long ago");
        requests.dial_failed(s(700), addr("8.8.8.8:1023"));
        requests.named(s(700), PeerKey(1), addr("8.8.8.8:1023"));
        assert_eq!(sent(&mut requests, 700), [], "a port of another service");
    }

    #[test]
    fn the_next_relay_is_asked_after_an_error_or_silence() {
        let mut requests = PunchRequests::default();
        requests.dial_failed(s(0), addr(ADDR));
        for relay in 1..=6 {
            requests.named(s(0), PeerKey(relay), addr(ADDR));
        }
        assert_eq!(sent(&mut requests, 0), [(1, addr(ADDR))]);
        requests.refused(s(1), PeerKey(2), addr(ADDR), HolePunchError::NoSupport);
        assert_eq!(sent(&mut requests, 1), [], "that one was not asked");
        requests.refused(s(1), PeerKey(1), addr(ADDR), HolePunchError::NotConnected);
        assert_eq!(sent(&mut requests, 1), [(2, addr(ADDR))]);
        assert_eq!(requests.next_due(), Some(s(11)));
        assert_eq!(sent(&mut requests, 11), [(3, addr(ADDR))]);
        assert_eq!(sent(&mut requests, 100), [], "three times are enough");
        requests.dial_failed(s(1211), addr(ADDR));
        assert_eq!(sent(&mut requests, 1211), [(4, addr(ADDR))], "for now; the others were too many");
        requests.refused(s(1211), PeerKey(4), addr(ADDR), HolePunchError::NoSelf);
        requests.dial_failed(s(9999), addr(ADDR));
        assert_eq!(sent(&mut requests, 9999), []);
    }

    #[test]
    fn a_peer_without_support_is_given_up_and_one_that_has_connected_is_not_asked_for() {
        let mut requests = PunchRequests::default();
        for relay in 1..=2 {
            requests.named(s(0), PeerKey(relay), addr(ADDR));
            requests.named(s(0), PeerKey(relay), addr("9.9.9.9:6881"));
        }
        requests.dial_failed(s(0), addr(ADDR));
        requests.dial_failed(s(0), addr("9.9.9.9:6881"));
        requests.connected(addr("9.9.9.9:6881"));
        assert_eq!(sent(&mut requests, 0), [(1, addr(ADDR))]);
        requests.refused(s(1), PeerKey(1), addr(ADDR), HolePunchError::NoSupport);
        assert_eq!(sent(&mut requests, 1), []);
    }

    #[test]
    fn only_connected_peers_that_support_it_are_asked() {
        let mut requests = PunchRequests::default();
        requests.named(s(0), PeerKey(1), addr(ADDR));
        requests.named(s(0), PeerKey(2), addr(ADDR));
        requests.disconnected(PeerKey(1));
        requests.dial_failed(s(0), addr(ADDR));
        assert_eq!(requests.next_request(s(0), |relay| relay != PeerKey(2)), None);
        assert_eq!(requests.next_due(), None);
        requests.dial_failed(s(0), addr(ADDR));
        assert_eq!(sent(&mut requests, 0), [(2, addr(ADDR))]);
        requests.disconnected(PeerKey(2));
        assert_eq!(requests.next_due(), None);
    }

    #[test]
    fn requests_are_few_at_a_time_and_from_one_relay() {
        let mut requests = PunchRequests::default();
        let many = |n: u32| SocketAddr::from(((0x0900_0000 + n).to_be_bytes(), 6881));
        for n in 0..500 {
            requests.dial_failed(s(0), many(n));
            requests.named(s(0), PeerKey(n % 5), many(n));
        }
        assert_eq!(sent(&mut requests, 0).len(), MAX_OUTSTANDING);
        assert!(requests.waiting.len() <= MAX_WAITING);
        let mut one = PunchRequests::default();
        for n in 0..500 {
            one.dial_failed(s(0), many(n));
            one.named(s(0), PeerKey(1), many(n));
        }
        let mut total = 0;
        for second in 0..60 {
            for (relay, addr) in sent(&mut one, second) {
                assert!(one.answered(PeerKey(relay), addr.ip()));
                total += 1;
            }
            assert!(one.next_due().is_some_and(|due| due > s(second)), "nothing is due at once");
        }
        assert_eq!(total, 4 + 9);
    }

    #[test]
    fn memory_is_bounded() {
        let mut requests = PunchRequests::default();
        for n in 0..10_000_u32 {
            let addr = SocketAddr::from(((0x0900_0000 + n).to_be_bytes(), 6881));
            requests.dial_failed(s(0), addr);
            for relay in 0..10 {
                requests.named(s(0), PeerKey(relay), addr);
            }
        }
        assert_eq!((requests.addresses.len(), requests.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert!(requests.addresses.values().all(|peer| peer.relays.len() <= MAX_RELAYS));
        assert!(requests.waiting.len() <= MAX_WAITING && requests.outstanding.len() <= MAX_OUTSTANDING);
    }
}
