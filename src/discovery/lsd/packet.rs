//! The datagrams of local discovery (BEP 14), which resemble HTTP. Pure.

use std::net::SocketAddr;

use crate::types::InfoHash;

/// The longest datagram, in bytes (BEP 14); longer ones would be fragmented.
pub const MAX_PACKET: usize = 1400;
/// The most swarms in one datagram, so that it stays within [`MAX_PACKET`].
const MAX_SWARMS: usize = 20;
/// The longest cookie read, in bytes.
const MAX_COOKIE: usize = 64;

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
                "infohash" => swarms.extend(InfoHash::from_hex(value).filter(|hash| !swarms.contains(hash))),
                "cookie" if value.len() <= MAX_COOKIE => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        port.filter(|_| !swarms.is_empty()).map(|port| LocalAnnounce { port, swarms, cookie })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: InfoHash = InfoHash([0xa1; 20]);
    const B: InfoHash = InfoHash([0xb2; 20]);

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

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,60}") {
            let _ = LocalAnnounce::parse(&bytes);
            let _ = LocalAnnounce::parse(format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {text}").as_bytes());
        }
    }
}
