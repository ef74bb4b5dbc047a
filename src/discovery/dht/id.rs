//! Node ids: the XOR metric (BEP 5), and ids derived from an IP address (BEP 42), so that an attacker cannot choose an id close
//! to a torrent that it wants to observe or hide.

use std::fmt;
use std::net::IpAddr;

use crate::net::networks::is_private;
use crate::types::InfoHash;
use crate::util::hex::hex;

/// The id of a DHT node, in the same 160-bit space as info-hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// The length of an id in bits.
    pub const BITS: usize = 160;

    /// A random id.
    pub fn random(rng: &mut fastrand::Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill(&mut id);
        NodeId(id)
    }

    /// A random id that BEP 42 allows for a node with this external address.
    pub fn for_ip(ip: IpAddr, rng: &mut fastrand::Rng) -> NodeId {
        let NodeId(mut id) = NodeId::random(rng);
        let crc = prefix(ip, id[19]).to_be_bytes();
        id[0] = crc[0];
        id[1] = crc[1];
        id[2] = (crc[2] & 0xf8) | (id[2] & 0x07);
        NodeId(id)
    }

    /// Whether BEP 42 allows this id at this address; private addresses may have any id.
    pub fn fits(self, ip: IpAddr) -> bool {
        let [a, b, c, .., last] = self.0;
        // BEP 42 exempts private networks, where many nodes may share an address.
        is_private(ip) || (prefix(ip, last) ^ u32::from_be_bytes([a, b, c, 0])) >> 11 == 0
    }

    /// The XOR of both ids. Compared as a number, smaller is closer.
    pub fn distance(self, other: NodeId) -> [u8; 20] {
        let mut distance = self.0;
        for (mine, theirs) in distance.iter_mut().zip(other.0) {
            *mine ^= theirs;
        }
        distance
    }

    /// The length of the common prefix in bits; 160 for equal ids.
    pub fn shared_bits(self, other: NodeId) -> usize {
        let distance = self.distance(other);
        match distance.iter().position(|byte| *byte != 0) {
            Some(at) => at * 8 + distance.get(at).map_or(0, |byte| byte.leading_zeros() as usize),
            None => NodeId::BITS,
        }
    }

    /// A random id that shares the first `bits` bits with this one; with `is_exact`, no more than these.
    #[must_use]
    pub fn near(self, bits: usize, is_exact: bool, rng: &mut fastrand::Rng) -> NodeId {
        let NodeId(mut id) = NodeId::random(rng);
        for (at, (byte, own)) in id.iter_mut().zip(self.0).enumerate() {
            let kept = bits.saturating_sub(at * 8);
            let mask = if kept >= 8 { 0xff } else { !(0xff_u8 >> kept) };
            *byte = (own & mask) | (*byte & !mask);
            if is_exact && kept < 8 && bits >= at * 8 {
                let next = 0x80 >> kept;
                *byte = (*byte & !next) | (!own & next);
            }
        }
        NodeId(id)
    }
}

impl From<InfoHash> for NodeId {
    fn from(info_hash: InfoHash) -> NodeId {
        NodeId(info_hash.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", hex(&self.0))
    }
}

/// The CRC of BEP 42; an id must start with its first 21 bits. Uses only the lowest three bits of `random`.
fn prefix(ip: IpAddr, random: u8) -> u32 {
    let salt = (random & 0x07) << 5;
    match ip {
        IpAddr::V4(ip) => {
            let mut masked = (u32::from(ip) & 0x030f_3fff).to_be_bytes();
            masked[0] |= salt;
            crc32c(&masked)
        }
        IpAddr::V6(ip) => {
            let mut masked = ((u128::from(ip) >> 64) as u64 & 0x0103_070f_1f3f_7fff).to_be_bytes();
            masked[0] |= salt;
            crc32c(&masked)
        }
    }
}

/// CRC-32C (Castagnoli), bit by bit: four or eight bytes do not justify a table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc32c_of_the_usual_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The test vectors of BEP 42.
    #[test]
    fn vectors_of_bep_42() {
        for (ip, random, [a, b, c]) in [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut id = [7; 20];
            (id[0], id[1], id[2], id[19]) = (a, b, c, random);
            assert!(NodeId(id).fits(ip), "{ip}");
            id[2] ^= 0x07;
            assert!(NodeId(id).fits(ip), "the last three bits of the third byte are free");
            id[2] ^= 0x08;
            assert!(!NodeId(id).fits(ip), "the 21st bit is not");
        }
    }

    #[test]
    fn local_addresses_may_have_any_id() {
        for ip in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.0.1", "127.0.0.1", "::1", "fd00::1", "fe80::1"] {
            assert!(NodeId([0; 20]).fits(ip.parse().unwrap()), "{ip}");
        }
        assert!(!NodeId([0; 20]).fits("8.8.8.8".parse().unwrap()));
        assert!(!NodeId([0; 20]).fits("2001:4860::8".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn an_id_for_an_address_fits_it(v4: u32, v6: u128, seed: u64) {
            let mut rng = fastrand::Rng::with_seed(seed);
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                prop_assert!(NodeId::for_ip(ip, &mut rng).fits(ip));
            }
        }

        #[test]
        fn near_shares_the_stated_number_of_bits(seed: u64, bits in 0_usize..160) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let id = NodeId::random(&mut rng);
            prop_assert_eq!(id.shared_bits(id.near(bits, true, &mut rng)), bits);
            prop_assert!(id.shared_bits(id.near(bits, false, &mut rng)) >= bits);
            prop_assert_eq!(id.shared_bits(id), 160);
        }
    }
}
