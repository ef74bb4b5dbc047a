//! The allowed fast set (BEP 6): pieces that a new peer may request while we choke it, so that it soon has something to trade.
//! The set depends only on the peer's network and the torrent, so reconnecting or changing the port yields no further pieces.
//!
//! A connection computes the set once, if the peer supports the fast extension and has fewer than [`SET_SIZE`] pieces.

use std::net::{IpAddr, Ipv4Addr};

use sha1::{Digest, Sha1};

use crate::types::{InfoHash, PieceIndex};

/// How many pieces the set has. A peer that already has this many gets no set.
pub const SET_SIZE: u32 = 10;

/// The address bits that determine the set: all peers of a /24 share one.
const MASK: u32 = 0xffff_ff00;

/// The first `count` pieces that a peer at `ip` may request from a torrent of `pieces` pieces, in the order of BEP 6. Empty for
/// IPv6, for which the BEP defines no set.
pub fn allowed_fast(ip: IpAddr, info_hash: InfoHash, pieces: u32, count: u32) -> Vec<PieceIndex> {
    let IpAddr::V4(ip) = ip.to_canonical() else { return Vec::new() };
    let count = count.min(pieces) as usize;
    let mut set = Vec::with_capacity(count);
    if count == pieces as usize {
        set.extend((0..pieces).map(PieceIndex)); // random draws would take too long to find the last ones
        return set;
    }
    let network = Ipv4Addr::from_bits(ip.to_bits() & MASK).octets();
    let mut hash: [u8; 20] = Sha1::new().chain_update(network).chain_update(info_hash.0).finalize().into();
    while set.len() < count {
        for word in hash.as_chunks::<4>().0 {
            let piece = PieceIndex(u32::from_be_bytes(*word) % pieces);
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ip: [u8; 4], pieces: u32, count: u32) -> Vec<u32> {
        allowed_fast(IpAddr::from(ip), InfoHash([0xaa; 20]), pieces, count).iter().map(|piece| piece.0).collect()
    }

    #[test]
    fn the_examples_of_the_bep() {
        assert_eq!(set([80, 4, 4, 200], 1313, 7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set([80, 4, 4, 200], 1313, 9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn neighbours_share_a_set_and_mapped_addresses_count_as_ipv4() {
        assert_eq!(set([80, 4, 4, 1], 1313, 9), set([80, 4, 4, 200], 1313, 9));
        assert_ne!(set([80, 4, 5, 200], 1313, 9), set([80, 4, 4, 200], 1313, 9));
        let mapped = Ipv4Addr::new(80, 4, 4, 200).to_ipv6_mapped();
        assert_eq!(allowed_fast(mapped.into(), InfoHash([0xaa; 20]), 1313, 7)[0], PieceIndex(1059));
        let other = IpAddr::from([0x20, 1, 0, 0, 0, 0, 0, 1].map(|n: u16| n));
        assert_eq!(allowed_fast(other, InfoHash([0xaa; 20]), 1313, 7), []);
    }

    #[test]
    fn small_torrents_are_allowed_whole() {
        for pieces in 0..30 {
            let mut all = set([80, 4, 4, 200], pieces, SET_SIZE);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len() as u32, pieces.min(SET_SIZE));
            assert!(all.iter().all(|&piece| piece < pieces));
        }
    }
}
