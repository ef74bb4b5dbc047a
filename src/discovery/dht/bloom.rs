//! The sets of peers' addresses in scrapes of the DHT (BEP 33): bloom filters, which can be joined and counted without showing the
//! addresses.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// The length of a filter in bits.
const BITS: usize = 2048;

/// A set of IP addresses: a bloom filter of 256 bytes and two hash functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BloomFilter([u8; BITS / 8]);

/// The addresses of a torrent's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmFilters {
    /// Those of seeds (`BFsd`).
    pub seeds: BloomFilter,
    /// Those of other peers (`BFpe`).
    pub others: BloomFilter,
}

impl Default for BloomFilter {
    /// The empty set.
    fn default() -> BloomFilter {
        BloomFilter([0; BITS / 8])
    }
}

impl BloomFilter {
    /// A filter from its bytes.
    pub fn from_bytes(bytes: [u8; BITS / 8]) -> BloomFilter {
        BloomFilter(bytes)
    }

    /// The filter's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds an address.
    pub fn add(&mut self, ip: IpAddr) {
        let hash: [u8; 20] = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()).into(),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()).into(),
        };
        let [a, b, c, d, ..] = hash;
        for index in [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])] {
            let index = usize::from(index) % BITS;
            if let Some(byte) = self.0.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        }
    }

    /// About how many addresses it contains.
    #[cfg(test)]
    pub fn estimate(&self) -> u32 {
        let zeros = self.0.iter().map(|byte| byte.count_zeros()).sum::<u32>().max(1);
        let (bits, hashes) = (BITS as f64, 2.0);
        ((f64::from(zeros) / bits).ln() / (hashes * (1.0 - 1.0 / bits).ln())).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::hex::hex;

    /// The example of BEP 33.
    #[test]
    fn the_example_of_bep_33_to_the_bit() {
        let mut filter = BloomFilter::default();
        assert_eq!(filter.estimate(), 0);
        (0..=255).for_each(|host| filter.add(IpAddr::from([192, 0, 2, host])));
        (0..1000).for_each(|host| filter.add(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])));
        let all: [u8; 20] = Sha1::digest(filter.as_bytes()).into();
        assert!(filter.as_bytes().starts_with(&[0xf6, 0xc3, 0xf5, 0xea, 0xa0, 0x7f, 0xfd, 0x91]));
        assert!(filter.as_bytes().ends_with(&[0xfe, 0xee, 0x76, 0xb6, 0xfd, 0x8f, 0x72, 0xef]));
        assert_eq!(hex(&all), "e4dabf3c822dcd0030ee21df8369bfef2594b52b");
        assert!((1200..1250).contains(&filter.estimate()), "BEP 33 estimates 1,224: {}", filter.estimate());
    }

    #[test]
    fn a_full_filter_has_a_finite_estimate() {
        assert!(BloomFilter::from_bytes([0xff; 256]).estimate() > 5000);
    }
}
