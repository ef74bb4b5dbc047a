//! The relay: which peers we introduce to each other. We name only addresses of peers that are connected to us.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::net::networks::is_private;
use crate::strategy::hole_punch::allowance::{Allowance, AllowanceLimits};
use crate::types::PeerKey;
use crate::wire::compact::is_usable;
use crate::wire::holepunch::HolePunchError;

/// How often one peer may ask for introductions, whatever becomes of them.
const BY_INITIATOR: AllowanceLimits = AllowanceLimits { burst: 8, interval: Duration::from_secs(5) };
/// How often one peer is introduced to others that ask for it.
const BY_TARGET: AllowanceLimits = AllowanceLimits { burst: 8, interval: Duration::from_secs(5) };
/// The introductions of a torrent.
const IN_ALL: AllowanceLimits = AllowanceLimits { burst: 32, interval: Duration::from_millis(500) };

/// A peer that is connected to us.
#[derive(Clone, Copy, Debug)]
pub struct IntroduciblePeer {
    /// Its connection.
    pub key: PeerKey,
    /// Where other peers reach it through a hole: the address of its uTP connection, or the port that it listens on; `None` if that
    /// is unknown.
    pub addr: Option<SocketAddr>,
    /// Whether it supports hole punching.
    pub supports_hole_punch: bool,
}

/// What to do about a request for an introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntroductionVerdict {
    /// Nothing.
    Ignore,
    /// Tell the initiator why not.
    Refuse(HolePunchError),
    /// Tell each of the two to connect to the other.
    Introduce {
        /// The address of the peer that asked.
        initiator: SocketAddr,
        /// The address of the peer that it asked for.
        target: SocketAddr,
    },
}

/// What each peer asked for lately.
#[derive(Debug, Default)]
pub struct Introductions {
    /// By the connection that asked; at most one for each connection.
    initiators: HashMap<PeerKey, Allowance>,
    /// By the connection that was asked for; likewise.
    targets: HashMap<PeerKey, Allowance>,
    all: Allowance,
}

impl Introductions {
    /// The connection has ended.
    pub fn disconnected(&mut self, key: PeerKey) {
        self.initiators.remove(&key);
        self.targets.remove(&key);
    }

    /// `from` asks to be introduced to the peer at `wanted`, which is our own address (`is_ours`), or that of `target`, if there is
    /// such a peer.
    pub fn decide(
        &mut self,
        now: Duration,
        from: &IntroduciblePeer,
        wanted: SocketAddr,
        is_ours: bool,
        target: Option<&IntroduciblePeer>,
    ) -> IntroductionVerdict {
        // BEP 55: a peer that does not support it gets no answer. Neither does one that asks too often.
        if !from.supports_hole_punch || !self.initiators.entry(from.key).or_default().take(now, BY_INITIATOR) {
            return IntroductionVerdict::Ignore;
        }
        if is_ours {
            return IntroductionVerdict::Refuse(HolePunchError::NoSelf);
        }
        let Some(target) = target.filter(|_| is_usable(wanted)) else {
            let is_possible = is_usable(wanted);
            let error = if is_possible { HolePunchError::NotConnected } else { HolePunchError::NoSuchPeer };
            return IntroductionVerdict::Refuse(error);
        };
        if target.key == from.key {
            return IntroductionVerdict::Refuse(HolePunchError::NoSuchPeer);
        }
        if !target.supports_hole_punch {
            return IntroductionVerdict::Refuse(HolePunchError::NoSupport);
        }
        let both = from.addr.zip(target.addr);
        // A peer outside of our network can neither know nor reach one inside.
        let both = both.filter(|(one, other)| is_private(one.ip()) == is_private(other.ip()));
        let Some((initiator, target_addr)) = both.filter(|(one, other)| one.is_ipv4() == other.is_ipv4()) else {
            return IntroductionVerdict::Refuse(HolePunchError::NotConnected);
        };
        if !self.all.permits(now, IN_ALL) || !self.targets.entry(target.key).or_default().take(now, BY_TARGET) {
            return IntroductionVerdict::Ignore;
        }
        self.all.note(now, IN_ALL);
        IntroductionVerdict::Introduce { initiator, target: target_addr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IntroductionVerdict::{Ignore, Introduce, Refuse};

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn peer(key: u32, at: &str) -> IntroduciblePeer {
        IntroduciblePeer { key: PeerKey(key), addr: Some(addr(at)), supports_hole_punch: true }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What a relay that has done nothing yet decides.
    fn first(from: &IntroduciblePeer, wanted: &str, target: Option<&IntroduciblePeer>) -> IntroductionVerdict {
        Introductions::default().decide(s(0), from, addr(wanted), false, target)
    }

    #[test]
    fn two_connected_peers_are_introduced_at_the_addresses_that_we_see() {
        let (one, mut other) = (peer(1, "8.8.8.8:6881"), peer(2, "9.9.9.9:40000"));
        let expected = Introduce { initiator: addr("8.8.8.8:6881"), target: addr("9.9.9.9:40000") };
        assert_eq!(first(&one, "9.9.9.9:6881", Some(&other)), expected, "its router uses another port than it says");
        other.addr = None;
        assert_eq!(first(&one, "9.9.9.9:6881", Some(&other)), Refuse(HolePunchError::NotConnected));
        assert_eq!(first(&other, "8.8.8.8:6881", Some(&one)), Refuse(HolePunchError::NotConnected));
    }

    #[test]
    fn errors_are_those_of_the_specification() {
        let (one, two) = (peer(1, "8.8.8.8:6881"), peer(2, "9.9.9.9:6881"));
        assert_eq!(first(&one, "7.7.7.7:6881", None), Refuse(HolePunchError::NotConnected), "a stranger's address");
        assert_eq!(first(&one, "224.0.0.1:6881", None), Refuse(HolePunchError::NoSuchPeer));
        assert_eq!(first(&one, "7.7.7.7:0", None), Refuse(HolePunchError::NoSuchPeer));
        assert_eq!(first(&one, "8.8.8.8:6881", Some(&one)), Refuse(HolePunchError::NoSuchPeer), "itself");
        let deaf = IntroduciblePeer { supports_hole_punch: false, ..two };
        assert_eq!(first(&one, "9.9.9.9:6881", Some(&deaf)), Refuse(HolePunchError::NoSupport));
        assert_eq!(first(&deaf, "8.8.8.8:6881", Some(&one)), Ignore, "it would not understand the answer");
        let ours = Introductions::default().decide(s(0), &one, addr("1.1.1.1:6881"), true, None);
        assert_eq!(ours, Refuse(HolePunchError::NoSelf));
    }

    #[test]
    fn peers_inside_and_outside_of_our_network_are_not_introduced() {
        let (inside, outside) = (peer(1, "192.168.1.2:6881"), peer(2, "9.9.9.9:6881"));
        let refused = Refuse(HolePunchError::NotConnected);
        assert_eq!(first(&inside, "9.9.9.9:6881", Some(&outside)), refused);
        assert_eq!(first(&outside, "192.168.1.2:6881", Some(&inside)), refused);
        assert_eq!(
            first(&outside, "[2001:db8::1]:6881", Some(&peer(3, "[2001:db8::1]:6881"))),
            refused,
            "two families"
        );
        let neighbour = peer(3, "192.168.1.3:6881");
        assert!(matches!(first(&inside, "192.168.1.3:6881", Some(&neighbour)), Introduce { .. }));
    }

    #[test]
    fn neither_one_peer_nor_many_make_us_send_much() {
        let mut relay = Introductions::default();
        let target = peer(1000, "9.9.9.9:6881");
        // One peer, as fast as it can, for ten minutes.
        let answers = |relay: &mut Introductions, from: u32, second: u64| {
            let from = peer(from, "8.8.8.8:6881");
            relay.decide(s(second), &from, addr("9.9.9.9:6881"), false, Some(&target)) != Ignore
        };
        let count = (0..60_000).filter(|n| answers(&mut relay, 1, n / 100)).count();
        assert!((120..=130).contains(&count), "{count}");
        // A thousand peers, all about one target.
        let count = (0..60_000_u32).filter(|n| answers(&mut relay, n % 1000, 1000 + u64::from(*n) / 100)).count();
        assert!((120..=130).contains(&count), "{count}");
        // A thousand peers, each about another one.
        let mut relay = Introductions::default();
        let count = (0..60_000_u32).filter(|n| {
            let (from, target) = (peer(n % 1000, "8.8.8.8:6881"), peer(2000 + n % 1000, "9.9.9.9:6881"));
            relay.decide(s(u64::from(*n) / 100), &from, addr("9.9.9.9:6881"), false, Some(&target)) != Ignore
        });
        assert!((1200..=1240).contains(&count.count()));
    }

    #[test]
    fn nothing_is_kept_of_peers_that_have_gone() {
        let (mut relay, two) = (Introductions::default(), peer(2, "9.9.9.9:6881"));
        for key in 3..1000 {
            relay.decide(s(0), &peer(key, "8.8.8.8:6881"), addr("9.9.9.9:6881"), false, Some(&two));
            relay.disconnected(PeerKey(key));
        }
        relay.disconnected(PeerKey(2));
        assert!(relay.initiators.is_empty() && relay.targets.is_empty());
    }
}
