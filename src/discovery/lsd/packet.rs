//! The datagrams of local discovery (BEP 14), which resemble HTTP, and the filter for received ones. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::networks::Network;
use crate::types::InfoHash;
use crate::wire::compact;

/// The longest datagram, in bytes (BEP 14); longer ones would be fragmented.
pub const MAX_PACKET: usize = 1400;
/// The most swarms in one datagram, so that it stays within [`MAX_PACKET`].
const MAX_SWARMS: usize = 20;
/// The longest cookie read, in bytes.
const MAX_COOKIE: usize = 64;
/// The minimum time between two reports of the same peer.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The most peers reported within [`REPORT_INTERVAL`], which bounds the effect of a malicious host.
const MAX_REPORTED: usize = 200;
/// The same for hosts in our own networks: at least one port of each address of a /24, so that forged addresses keep nobody out
/// there.
const MAX_NEAR: usize = 512;
/// The most ports reported per host and swarm, so that one host cannot use up the limit for all.
const MAX_PORTS: usize = 8;
/// Once this many peers are reported, each host gets only one port per swarm, to leave room for hosts not seen before.
const MANY_REPORTED: usize = MAX_REPORTED / 2;

/// The content of one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnnounce {
    /// The TCP port on which the sender accepts peers.
    pub port: u16,
    /// The sender's swarms, without duplicates.
    pub swarms: Vec<InfoHash>,
    /// Lets the sender recognize its own datagrams.
    pub cookie: Option<String>,
}

/// Builds the datagrams that announce `swarms` to `group`.
pub fn announces(group: SocketAddr, port: u16, swarms: &[InfoHash], cookie: &str) -> Vec<Vec<u8>> {
    let one = |part: &[InfoHash]| {
        let hashes = part.iter().map(|swarm| format!("Infohash: {swarm}\r\n")).collect::<Vec<_>>().concat();
        format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {port}\r\n{hashes}cookie: {cookie}\r\n\r\n\r\n")
    };
    swarms.chunks(MAX_SWARMS).map(|part| one(part).into_bytes()).collect()
}

impl LocalAnnounce {
    /// Parses a datagram; `None` if it is not an announce. Ignores unknown headers and invalid hashes.
    pub fn parse(datagram: &[u8]) -> Option<LocalAnnounce> {
        let text = std::str::from_utf8(datagram.get(..MAX_PACKET).unwrap_or(datagram)).ok()?;
        let mut lines = text.lines();
        let mut first = lines.next()?.split_ascii_whitespace();
        if first.next() != Some("BT-SEARCH") || first.next() != Some("*") || !first.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let (mut port, mut swarms, mut cookie) = (None, Vec::new(), None);
        for (key, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "port" => port = value.parse().ok().filter(|&port: &u16| port != 0),
                "infohash" => swarms.extend(hash(value).filter(|hash| !swarms.contains(hash))),
                "cookie" if value.len() <= MAX_COOKIE => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        port.filter(|_| !swarms.is_empty()).map(|port| LocalAnnounce { port, swarms, cookie })
    }
}

fn near_network(ip: IpAddr) -> Network {
    Network::of(ip, 24, 64)
}

fn hash(text: &str) -> Option<InfoHash> {
    let mut hash = [0; 20];
    if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(InfoHash(hash))
}

/// Decides which peers to report, from the datagrams received so far.
#[derive(Debug)]
pub struct PeerFilter {
    swarms: Vec<InfoHash>,
    cookie: String,
    /// The networks of our interfaces.
    near: Vec<Network>,
    reported: HashMap<(InfoHash, SocketAddr), Duration>,
}

impl PeerFilter {
    /// Creates a filter for peers of `swarms`; `cookie` is our own.
    pub fn new(swarms: Vec<InfoHash>, cookie: String) -> PeerFilter {
        PeerFilter { swarms, cookie, near: Vec::new(), reported: HashMap::new() }
    }

    /// Sets our own addresses. Hosts of the same networks (/24, or /64 of IPv6) have a limit of their own, which hosts elsewhere do
    /// not use up.
    pub fn set_own_addresses(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.near = own.filter(|ip| !ip.is_unspecified()).map(near_network).collect();
    }

    fn is_near(&self, ip: IpAddr) -> bool {
        self.near.contains(&near_network(ip))
    }

    /// Reports peers of `swarm`, too.
    pub fn add(&mut self, swarm: InfoHash) {
        if !self.swarms.contains(&swarm) {
            self.swarms.push(swarm);
        }
    }

    /// Stops reporting peers of `swarm`.
    pub fn remove(&mut self, swarm: InfoHash) {
        self.swarms.retain(|known| *known != swarm);
        self.reported.retain(|(known, _), _| *known != swarm);
    }

    /// The swarms whose peers are reported.
    pub fn swarms(&self) -> &[InfoHash] {
        &self.swarms
    }

    /// The peers to report from a datagram: those in our swarms, except ourselves, each at most once a minute.
    pub fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Vec<(InfoHash, SocketAddr)> {
        let Some(said) = LocalAnnounce::parse(datagram) else { return Vec::new() };
        let mut addr = from;
        addr.set_port(said.port);
        if said.cookie.as_ref() == Some(&self.cookie) || !compact::is_usable(addr) {
            return Vec::new();
        }
        let is_near = self.is_near(addr.ip());
        let (most, many) = if is_near { (MAX_NEAR, MAX_NEAR / 2) } else { (MAX_REPORTED, MANY_REPORTED) };
        let mut found = Vec::new();
        for swarm in said.swarms.into_iter().filter(|swarm| self.swarms.contains(swarm)) {
            self.reported.retain(|_, at| now.saturating_sub(*at) < REPORT_INTERVAL);
            let known = self.reported.contains_key(&(swarm, addr));
            let ports = self.reported.keys().filter(|(of, other)| *of == swarm && other.ip() == addr.ip()).count();
            let count = self.reported.keys().filter(|(_, other)| self.is_near(other.ip()) == is_near).count();
            let may_have = if count < many { MAX_PORTS } else { 1 };
            if !known && count < most && ports < may_have {
                self.reported.insert((swarm, addr), now);
                found.push((swarm, addr));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: InfoHash = InfoHash([0xa1; 20]);
    const B: InfoHash = InfoHash([0xb2; 20]);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn group() -> SocketAddr {
        "[ff15::efc0:988f]:6771".parse().unwrap()
    }

    fn one(port: u16, swarms: &[InfoHash], cookie: &str) -> Vec<u8> {
        announces(group(), port, swarms, cookie).remove(0)
    }

    #[test]
    fn an_announce_lies_as_the_bep_says_and_is_read_again() {
        let sent = one(6881, &[A, B], "me");
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: [ff15::efc0:988f]:6771\r\nPort: 6881\r\nInfohash: {A}\r\nInfohash: {B}\r\n\
             cookie: me\r\n\r\n\r\n"
        );
        assert_eq!(sent, text.as_bytes());
        let read = LocalAnnounce { port: 6881, swarms: vec![A, B], cookie: Some("me".into()) };
        assert_eq!(LocalAnnounce::parse(&sent), Some(read));
    }

    #[test]
    fn many_swarms_take_several_datagrams_that_fit() {
        let swarms: Vec<InfoHash> = (0..50).map(|n| InfoHash([n; 20])).collect();
        let sent = announces(group(), 65535, &swarms, &"c".repeat(MAX_COOKIE));
        assert!(sent.len() == 3 && sent.iter().all(|datagram| datagram.len() <= MAX_PACKET));
        let read: Vec<InfoHash> = sent.iter().flat_map(|d| LocalAnnounce::parse(d).unwrap().swarms).collect();
        assert_eq!(read, swarms);
        assert!(announces(group(), 1, &[], "c").is_empty());
    }

    #[test]
    fn others_ways_are_read_and_nonsense_is_not() {
        let said = LocalAnnounce::parse(
            format!("BT-SEARCH * HTTP/1.1\nHOST:x\nport:  1 \nINFOHASH: {}\nInfohash: xyz\n", A.hex().to_uppercase())
                .as_bytes(),
        );
        assert_eq!(said, Some(LocalAnnounce { port: 1, swarms: vec![A], cookie: None }));
        let with = |port: &str, hash: &str| format!("BT-SEARCH * HTTP/1.1\r\nPort: {port}\r\nInfohash: {hash}\r\n\r\n");
        for (port, hash) in
            [("0", A.hex()), ("65536", A.hex()), ("", A.hex()), ("1", "é".repeat(20)), ("1", String::new())]
        {
            assert_eq!(LocalAnnounce::parse(with(port, &hash).as_bytes()), None, "{port} {hash}");
        }
        for bad in ["", "\r\n", "M-SEARCH * HTTP/1.1\r\n", "BT-SEARCH", "BT-SEARCH *"] {
            assert_eq!(LocalAnnounce::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn ourselves_and_other_swarms_are_not_heard() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into());
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[A], "me")), []);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B], "you")), []);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B, A], "you")), [(A, "192.168.1.2:5".parse().unwrap())]);
    }

    #[test]
    fn swarms_come_and_go() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into());
        peer_filter.add(B);
        peer_filter.add(A);
        assert_eq!(peer_filter.swarms(), [A, B]);
        assert_eq!(peer_filter.receive(s(0), from, &one(5, &[B, A], "you")).len(), 2);
        peer_filter.remove(A);
        assert_eq!(peer_filter.receive(s(1), from, &one(5, &[A], "you")), []);
        peer_filter.add(A);
        assert_eq!(
            peer_filter.receive(s(2), from, &one(5, &[A, B], "you")).len(),
            1,
            "whoever asks anew has heard nothing yet"
        );
    }

    #[test]
    fn nobody_is_told_more_than_once_a_minute_and_a_flood_has_an_end() {
        let from: SocketAddr = "192.168.1.2:6771".parse().unwrap();
        let mut peer_filter = PeerFilter::new(vec![A], "me".into());
        let times = [0, 1, 59, 60, 61].map(|at| peer_filter.receive(s(at), from, &one(5, &[A], "you")).len());
        assert_eq!(times, [1, 0, 0, 1, 0]);
        let flood = |peer_filter: &mut PeerFilter, at| -> usize {
            (1..=1000).map(|port| peer_filter.receive(s(at), from, &one(port, &[A], "you")).len()).sum()
        };
        assert_eq!(flood(&mut peer_filter, 200), MAX_PORTS);
        assert_eq!((flood(&mut peer_filter, 259), flood(&mut peer_filter, 260)), (0, MAX_PORTS));
        // Many hosts together stay within the limit for all, and a host that announces late is still reported.
        let mut many = |ports: std::ops::RangeInclusive<u16>, hosts: std::ops::RangeInclusive<u8>| -> usize {
            let all = hosts.flat_map(|host| ports.clone().map(move |port| ([10, 0, 0, host], port)));
            all.map(|(ip, port)| peer_filter.receive(s(400), (ip, 6771).into(), &one(port, &[A], "you")).len()).sum()
        };
        assert_eq!(many(1..=1000, 1..=100), MANY_REPORTED + 87);
        assert_eq!((many(1..=1, 200..=200), many(1..=1, 101..=250)), (1, MAX_REPORTED - MANY_REPORTED - 88));
    }

    #[test]
    fn forged_hosts_keep_no_host_of_our_network_out() {
        let mut peer_filter = PeerFilter::new(vec![A], "me".into());
        peer_filter.set_own_addresses(["10.0.0.7".parse().unwrap(), "0.0.0.0".parse().unwrap()].into_iter());
        let mut reported = |ip: [u8; 4]| peer_filter.receive(s(0), (ip, 6771).into(), &one(5, &[A], "you")).len();
        let far: usize = (0..=1000u16).map(|n| reported([45, 5, (n >> 8) as u8, n as u8])).sum();
        assert_eq!(far, MAX_REPORTED);
        let near: usize = (1..=254).map(|host| reported([10, 0, 0, host])).sum();
        assert_eq!((near, reported([10, 0, 1, 1])), (254, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,60}") {
            let _ = LocalAnnounce::parse(&bytes);
            let _ = LocalAnnounce::parse(format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {text}").as_bytes());
        }
    }
}
