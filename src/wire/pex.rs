//! The message of peer exchange (BEP 11), as payload of an extension message: the peers that the sender connected to and
//! disconnected from, as compact addresses of both families. An invalid key does not affect the other keys.

use std::net::SocketAddr;

use crate::bencode::encode;
use crate::bencode::values::{Dict, bytes, small_dictionary};
use crate::wire::compact;

/// The most peers that a message adds, both families together; the same limit applies to dropped peers.
pub const MAX_PEERS: usize = 50;
/// The longest message that we parse, in bytes. Some clients exceed [`MAX_PEERS`] in their first message.
const MAX_LENGTH: usize = 16 * 1024;
/// The most values in a message that we parse; real messages have seven.
const MAX_VALUES: usize = 64;

/// Flags that describe a peer (BEP 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// The peer prefers encrypted connections.
    pub const ENCRYPTION: PexFlags = PexFlags(0x01);
    /// The peer wants nothing: it is a seed or a partial seed (BEP 21).
    pub const UPLOAD_ONLY: PexFlags = PexFlags(0x02);
    /// The peer supports uTP.
    pub const UTP: PexFlags = PexFlags(0x04);
    /// The peer supports hole punching (BEP 55).
    pub const HOLE_PUNCH: PexFlags = PexFlags(0x08);
    /// An outgoing connection to the peer has succeeded, so it accepts incoming connections.
    pub const REACHABLE: PexFlags = PexFlags(0x10);

    /// The union of both sets of flags.
    #[must_use]
    pub fn with(self, other: PexFlags) -> PexFlags {
        PexFlags(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub fn has(self, other: PexFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One peer exchange message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexMessage {
    /// Peers that the sender has connected to since its last message.
    pub added: Vec<(SocketAddr, PexFlags)>,
    /// Peers that the sender has disconnected from.
    pub dropped: Vec<SocketAddr>,
}

/// The payload is not a bencoded dictionary, or is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer exchange message is malformed")]
pub struct PexError;

impl PexMessage {
    /// Parses a payload. Keeps at most [`MAX_PEERS`] added and as many dropped peers, and only those with a usable address.
    ///
    /// # Errors
    /// [`PexError`] if the payload is not a bencoded dictionary or is too long.
    pub fn parse(payload: &[u8]) -> Result<PexMessage, PexError> {
        if payload.len() > MAX_LENGTH {
            return Err(PexError);
        }
        let dict = small_dictionary(payload, MAX_VALUES).ok().flatten().ok_or(PexError)?;
        let of = |key| bytes(&dict, key).unwrap_or_default();
        let four = compact::parse_v4(of("added")).zip(flags(&dict, "added.f"));
        let six = compact::parse_v6(of("added6")).zip(flags(&dict, "added6.f"));
        let usable = |(addr, _): &(SocketAddr, PexFlags)| compact::is_usable(*addr);
        let gone = compact::parse_v4(of("dropped")).chain(compact::parse_v6(of("dropped6")));
        Ok(PexMessage {
            added: four.chain(six).filter(usable).take(MAX_PEERS).collect(),
            dropped: gone.filter(|&addr| compact::is_usable(addr)).take(MAX_PEERS).collect(),
        })
    }

    /// Whether the message adds and drops nothing; an empty message must not be sent.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }

    /// Encodes the payload with sorted keys, without the empty ones.
    pub fn encode(&self) -> Vec<u8> {
        let added = |four: bool| self.added.iter().filter(move |(addr, _)| addr.is_ipv4() == four);
        let flags = |four| added(four).map(|(_, flags)| flags.0).collect::<Vec<u8>>();
        let list = |addrs: &mut dyn Iterator<Item = SocketAddr>| {
            let mut out = Vec::new();
            addrs.for_each(|addr| compact::write_addr(&mut out, addr));
            out
        };
        let came = |four| list(&mut added(four).map(|(addr, _)| *addr));
        let went = |four: bool| list(&mut self.dropped.iter().copied().filter(|addr| addr.is_ipv4() == four));
        let entries = [
            ("added", came(true)),
            ("added.f", flags(true)),
            ("added6", came(false)),
            ("added6.f", flags(false)),
            ("dropped", went(true)),
            ("dropped6", went(false)),
        ];
        let mut out = b"d".to_vec();
        for (key, value) in entries.iter().filter(|(_, value)| !value.is_empty()) {
            encode::bytes(&mut out, key.as_bytes());
            encode::bytes(&mut out, value);
        }
        out.push(b'e');
        out
    }
}

/// The flags in the order of their peers; no flags for peers beyond the end of the list.
fn flags<'a>(dict: &'a Dict, key: &str) -> impl Iterator<Item = PexFlags> + use<'a> {
    bytes(dict, key)
        .unwrap_or_default()
        .iter()
        .map(|&bits| PexFlags(bits))
        .chain(std::iter::repeat(PexFlags::default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_families_there_and_back() {
        let seed = PexFlags::UPLOAD_ONLY.with(PexFlags::REACHABLE);
        assert!(seed.has(PexFlags::REACHABLE) && !seed.has(PexFlags::UTP));
        let message = PexMessage {
            added: vec![(addr("1.2.3.4:5"), seed), (addr("[2001:db8::1]:6"), PexFlags::ENCRYPTION)],
            dropped: vec![addr("5.6.7.8:9"), addr("[2001:db8::2]:7")],
        };
        let sent = message.encode();
        let start = b"d5:added6:\x01\x02\x03\x04\x00\x057:added.f1:\x126:added618:";
        assert_eq!(sent.get(..start.len()), Some(&start[..]));
        assert_eq!(PexMessage::parse(&sent), Ok(message));
        assert_eq!(PexMessage::default().encode(), b"de");
        assert!(PexMessage::default().is_empty());
    }

    #[test]
    fn a_mistake_costs_only_its_key_or_entry() {
        let read = |bytes: &[u8]| PexMessage::parse(bytes).unwrap();
        assert_eq!(read(b"d5:addedi5e7:dropped6:\x01\x02\x03\x04\x00\x05e").dropped, [addr("1.2.3.4:5")]);
        assert_eq!(read(b"d5:added8:\x01\x02\x03\x04\x00\x05xye").added, [(addr("1.2.3.4:5"), PexFlags(0))]);
        let impossible = b"d5:added12:\x01\x02\x03\x04\x00\x00\xe0\x02\x03\x04\x00\x057:added.f9:123456789e";
        assert!(read(impossible).is_empty());
        // The flags must stay with their peers when an unusable address is removed.
        let second = b"d5:added12:\x01\x02\x03\x04\x00\x00\x05\x06\x07\x08\x00\x097:added.f2:\x01\x02e";
        assert_eq!(read(second).added, [(addr("5.6.7.8:9"), PexFlags(2))]);
        for bad in [&b"le"[..], b"", b"d", b"i1e", &b"l".repeat(10_000), &b"x".repeat(MAX_LENGTH + 1)] {
            assert_eq!(PexMessage::parse(bad), Err(PexError));
        }
    }

    #[test]
    fn fifty_are_taken_and_no_more() {
        let many = |n: u8| (0..n).map(|n| SocketAddr::from(([9, 9, 9, n], 1))).collect::<Vec<_>>();
        let message =
            PexMessage { added: many(200).into_iter().map(|addr| (addr, PexFlags(1))).collect(), dropped: many(200) };
        let read = PexMessage::parse(&message.encode()).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (MAX_PEERS, MAX_PEERS));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = PexMessage::parse(&tail);
            for key in ["5:added", "7:added.f", "6:added6", "7:dropped"] {
                let _ = PexMessage::parse(&[format!("d{key}{}:", tail.len()).as_bytes(), &tail, b"e"].concat());
            }
        }
    }
}
