//! Either side: whether we dial an address that a relay names. A relay may name any address, so we send few packets, and to each
//! host only now and then, however many relays name it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::networks::{Network, may_name_address};
use crate::strategy::hole_punch::FIRST_PUNCHED_PORT;
use crate::strategy::hole_punch::allowance::{Allowance, AllowanceLimits};
use crate::types::PeerKey;
use crate::wire::compact::is_usable;

/// How often we dial at the word of one relay, if we did not ask it.
const BY_RELAY: AllowanceLimits = AllowanceLimits { burst: 4, interval: Duration::from_secs(15) };
/// How often we dial at the word of all relays.
const IN_ALL: AllowanceLimits = AllowanceLimits { burst: 8, interval: Duration::from_secs(4) };
/// A host is not dialled again for this long, at any port.
const HOST_PAUSE: Duration = Duration::from_secs(60);
/// A connection with an address that began so soon after we dialled it has come through the hole.
const HOLE_LIFE: Duration = Duration::from_secs(20);

/// A relay tells us to connect to a peer.
#[derive(Clone, Copy, Debug)]
pub struct PunchRequest {
    /// The relay's connection.
    pub relay: PeerKey,
    /// The relay's address.
    pub relay_ip: IpAddr,
    /// The peer's address.
    pub addr: SocketAddr,
    /// Whether we asked the relay for it.
    pub is_answer: bool,
}

/// The addresses that were dialled lately.
#[derive(Debug, Default)]
pub struct PunchDials {
    relays: HashMap<PeerKey, Allowance>,
    all: Allowance,
    /// At most as many as `IN_ALL` allows in [`HOST_PAUSE`].
    hosts: HashMap<Network, (SocketAddr, Duration)>,
}

impl PunchDials {
    /// The connection has ended.
    pub fn disconnected(&mut self, key: PeerKey) {
        self.relays.remove(&key);
    }

    /// Whether to dial the address; if so, that is noted.
    pub fn admit(&mut self, now: Duration, request: &PunchRequest) -> bool {
        let PunchRequest { relay, relay_ip, addr, is_answer } = *request;
        if addr.port() < FIRST_PUNCHED_PORT || !is_usable(addr) || !may_name_address(relay_ip, addr.ip()) {
            return false;
        }
        self.hosts.retain(|_, (_, at)| now < *at + HOST_PAUSE);
        let host = Network::host(addr.ip());
        if self.hosts.contains_key(&host) || !self.all.permits(now, IN_ALL) {
            return false;
        }
        if !is_answer && !self.relays.entry(relay).or_default().take(now, BY_RELAY) {
            return false;
        }
        self.all.note(now, IN_ALL);
        self.hosts.insert(host, (addr, now));
        true
    }

    /// Whether a connection with this address that has just begun has come through a hole that we punched.
    pub fn is_through_hole(&self, now: Duration, addr: SocketAddr) -> bool {
        let dialled = self.hosts.get(&Network::host(addr.ip()));
        dialled.is_some_and(|(punched, at)| *punched == addr && now < *at + HOLE_LIFE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(7, 7, 7, 7));

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn request(relay: u32, addr: &str) -> PunchRequest {
        PunchRequest {
            relay: PeerKey(relay),
            relay_ip: RELAY,
            addr: addr.parse().expect("an address"),
            is_answer: false,
        }
    }

    #[test]
    fn addresses_that_no_public_relay_may_name_are_not_dialled() {
        for addr in [
            "192.168.1.1:6881",
            "127.0.0.1:6881",
            "10.0.0.1:6881",
            "100.64.0.1:6881",
            "169.254.169.254:6881",
            "[fd00::1]:6881",
            "[fe80::1]:6881",
            "[::1]:6881",
            "[2002:7f00:1::1]:6881",
            "224.0.0.1:6881",
            "255.255.255.255:6881",
            "8.8.8.8:0",
            "8.8.8.8:53",
            "8.8.8.8:1023",
        ] {
            assert!(!PunchDials::default().admit(s(0), &request(1, addr)), "{addr}");
            let answer = PunchRequest { is_answer: true, ..request(1, addr) };
            assert!(!PunchDials::default().admit(s(0), &answer), "{addr}, although we asked");
        }
        assert!(PunchDials::default().admit(s(0), &request(1, "8.8.8.8:1024")));
        let near = PunchRequest { relay_ip: [192, 168, 1, 9].into(), ..request(1, "192.168.1.1:6881") };
        assert!(PunchDials::default().admit(s(0), &near));
    }

    #[test]
    fn a_host_is_dialled_once_a_minute_whoever_names_it() {
        let mut dials = PunchDials::default();
        let mut dialled = 0;
        for second in 0..3600 {
            for port in 0..10_u16 {
                let relay = second as u32 * 10 + u32::from(port);
                dialled += usize::from(dials.admit(s(second), &request(relay, &format!("8.8.8.8:{}", 5000 + port))));
            }
        }
        assert_eq!(dialled, 60);
        // One subscriber has all addresses of an IPv6 /64.
        let mut dials = PunchDials::default();
        let six = (1..100).filter(|n| dials.admit(s(0), &request(*n, &format!("[2001:db8::{n:x}]:6881"))));
        assert_eq!(six.count(), 1);
    }

    #[test]
    fn a_flood_leads_to_few_dials_and_takes_little_memory() {
        for relays in [1, 1000] {
            let mut dials = PunchDials::default();
            let mut dialled = 0;
            for n in 0..60_000_u32 {
                let host = format!("{}.{}.{}.1:6881", 20 + n % 100, n / 100 % 250, n / 25_000);
                dialled += usize::from(dials.admit(s(u64::from(n) / 100), &request(n % relays, &host)));
                assert!(dials.hosts.len() <= 24);
            }
            let most = if relays == 1 { 45 } else { 159 };
            assert!((most - 3..=most).contains(&dialled), "{relays} relays: {dialled} in ten minutes");
        }
    }

    #[test]
    fn a_relay_that_floods_keeps_others_from_little() {
        let mut dials = PunchDials::default();
        for n in 0..100 {
            dials.admit(s(0), &request(1, &format!("20.0.{n}.1:6881")));
        }
        assert!(dials.admit(s(0), &request(2, "30.0.0.1:6881")));
        let answer = PunchRequest { is_answer: true, ..request(1, "30.0.0.2:6881") };
        assert!(dials.admit(s(0), &answer), "we asked for it");
        dials.disconnected(PeerKey(1));
        dials.disconnected(PeerKey(2));
        assert!(dials.relays.is_empty());
    }

    #[test]
    fn a_connection_through_the_hole_is_known_by_its_address() {
        let mut dials = PunchDials::default();
        let punched = request(1, "8.8.8.8:6881");
        assert!(!dials.is_through_hole(s(0), punched.addr));
        assert!(dials.admit(s(0), &punched));
        assert!(dials.is_through_hole(s(19), punched.addr) && !dials.is_through_hole(s(20), punched.addr));
        assert!(!dials.is_through_hole(s(0), "8.8.8.8:6882".parse().expect("an address")));
    }
}
