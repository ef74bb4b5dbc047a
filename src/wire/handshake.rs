//! The 68-byte handshake that opens a connection (BEP 3), and the reserved bits that announce extensions.

use crate::types::{InfoHash, PeerId};

/// The length of a handshake, in bytes.
pub const LENGTH: usize = 68;
/// The length of the part that ends with the info-hash, in bytes. The receiver needs no more to choose the torrent and answer.
pub const INFO_HASH_END: usize = 48;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Reserved byte and bit of the extension protocol (BEP 10).
const EXTENDED: (usize, u8) = (5, 0x10);
/// Reserved byte and bit of the DHT (BEP 5).
const DHT: (usize, u8) = (7, 0x01);
/// Reserved byte and bit of the fast extension (BEP 6).
const FAST: (usize, u8) = (7, 0x04);

/// The first message in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The eight reserved bytes.
    pub reserved: [u8; 8],
    /// The torrent that the connection is for.
    pub info_hash: InfoHash,
    /// The sender's peer id.
    pub peer_id: PeerId,
}

impl Handshake {
    /// Our handshake. It announces the extension protocol and the fast extension, and the DHT if `supports_dht` is set.
    pub fn ours(info_hash: InfoHash, peer_id: PeerId, supports_dht: bool) -> Handshake {
        let mut reserved = [0; 8];
        reserved[EXTENDED.0] |= EXTENDED.1;
        reserved[FAST.0] |= FAST.1;
        if supports_dht {
            reserved[DHT.0] |= DHT.1;
        }
        Handshake { reserved, info_hash, peer_id }
    }

    /// Whether the sender supports the extension protocol (BEP 10).
    pub fn supports_extensions(&self) -> bool {
        self.reserved[EXTENDED.0] & EXTENDED.1 != 0
    }

    /// Whether the sender supports the fast extension (BEP 6).
    pub fn supports_fast(&self) -> bool {
        self.reserved[FAST.0] & FAST.1 != 0
    }

    /// Whether the sender runs a DHT node (BEP 5).
    pub fn has_dht_node(&self) -> bool {
        self.reserved[DHT.0] & DHT.1 != 0
    }

    /// Encodes the handshake.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads the info-hash before the peer id, which may arrive later. Returns `None` if the bytes belong to another protocol.
    pub fn decode_info_hash(head: &[u8; INFO_HASH_END]) -> Option<InfoHash> {
        let (protocol, rest) = head.split_first_chunk::<20>()?;
        let info_hash = rest.last_chunk::<20>()?;
        (protocol == PROTOCOL).then_some(InfoHash(*info_hash))
    }

    /// Parses a handshake; `None` if the bytes belong to another protocol.
    pub fn decode(bytes: &[u8; LENGTH]) -> Option<Handshake> {
        let (protocol, rest) = bytes.split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        let peer_id = rest.first_chunk::<20>()?;
        (protocol == PROTOCOL).then_some(Handshake {
            reserved: *reserved,
            info_hash: InfoHash(*info_hash),
            peer_id: PeerId(*peer_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_handshake_is_decoded() {
        let ours = Handshake::ours(InfoHash([7; 20]), PeerId([9; 20]), false);
        let bytes = ours.encode();
        assert_eq!(Handshake::decode(&bytes), Some(ours));
        assert!(ours.supports_extensions() && ours.supports_fast());
        assert_eq!(ours.reserved, [0, 0, 0, 0, 0, 0x10, 0, 4]);
        assert_eq!(bytes.first_chunk().and_then(Handshake::decode_info_hash), Some(ours.info_hash));
        let mut other = bytes;
        other[3] ^= 1;
        assert_eq!(Handshake::decode(&other), None);
        assert_eq!(other.first_chunk().and_then(Handshake::decode_info_hash), None);
    }
}
