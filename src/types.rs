//! The types that all modules share: hashes, IDs, pieces and blocks, each its own type so that they cannot be confused.

mod bitfield;
mod partial_piece;

use std::fmt;

use crate::util::hex::{from_hex, hex};
use crate::util::random::{self, Random};

pub use bitfield::Bitfield;
pub use partial_piece::PartialPiece;

/// The length of a block, the unit of requests, in bytes (BEP 3; every client uses 16 KiB).
pub const BLOCK_SIZE: u32 = 16 * 1024;

/// What identifies a swarm: the SHA-1 of a torrent's exact info dictionary (BEP 3), or its SHA-256 shortened to 20 bytes (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; 20]);

/// The SHA-256 of a v2 torrent's exact info dictionary (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHashV2(pub [u8; 32]);

/// A peer's ID in its handshake (BEP 20): 20 arbitrary bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 20]);

/// The expected SHA-1 of a piece.
pub type Sha1Hash = [u8; 20];

/// A SHA-256 in a tree of BitTorrent v2 (BEP 52).
pub type Sha256Hash = [u8; 32];

/// The index of a piece in its torrent, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(pub u32);

/// The state of one piece, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PieceState {
    /// Not verified, and no block requested or received.
    Missing,
    /// Missing or in progress, and no connected peer has it, although some connected peers have other pieces.
    Unavailable,
    /// Missing and not wanted.
    Unwanted,
    /// Some blocks are requested or received.
    InProgress,
    /// Complete, and its hash is right.
    Verified,
}

/// A range of bytes within a piece, as in the messages `request` and `piece` (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockInfo {
    /// The piece that contains the block.
    pub piece: PieceIndex,
    /// The start of the block within the piece, in bytes.
    pub begin: u32,
    /// The length of the block in bytes.
    pub length: u32,
}

/// Identifies one connection of a client; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u32);

/// The differentiated services code point (DSCP) of our packets, 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// No class: default forwarding.
    pub const NONE: Dscp = Dscp(0);
    /// Lower effort than best effort (RFC 8622): routers send other traffic first.
    pub const LOWER_EFFORT: Dscp = Dscp(1);

    /// The value of the IP header's traffic class or type-of-service byte.
    pub fn byte(self) -> u32 {
        u32::from(self.0) << 2
    }
}

impl Default for Dscp {
    fn default() -> Dscp {
        Dscp::LOWER_EFFORT
    }
}

impl std::str::FromStr for Dscp {
    type Err = ();

    /// A number, or a name: `le`, `none`, `ef`, `cs0` to `cs7`, `af11` to `af43`.
    fn from_str(text: &str) -> Result<Dscp, ()> {
        let text = text.to_ascii_lowercase();
        let number = |text: &str, range: std::ops::RangeInclusive<u8>| text.parse().ok().filter(|n| range.contains(n));
        let value = match text.as_str() {
            "none" | "be" | "df" => Some(0),
            "le" => Some(1),
            "ef" => Some(46),
            _ => match (text.strip_prefix("cs"), text.strip_prefix("af")) {
                (Some(class), _) => number(class, 0..=7).map(|class| class * 8),
                (_, Some(class)) => {
                    let class: Option<u8> = number(class, 11..=43).filter(|class| (1..=3).contains(&(class % 10)));
                    class.map(|class| class / 10 * 8 + class % 10 * 2)
                }
                _ => number(&text, 0..=63),
            },
        };
        value.map(Dscp).ok_or(())
    }
}

/// What carries a connection between peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// uTP (BEP 29), which gives way to other traffic.
    Utp,
}

impl Transport {
    /// The other one.
    pub(crate) fn other(self) -> Transport {
        match self {
            Transport::Tcp => Transport::Utp,
            Transport::Utp => Transport::Tcp,
        }
    }
}

/// What carries the connections between peers, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// TCP and uTP, whichever connects.
    #[default]
    Both,
    /// Only TCP.
    Tcp,
    /// Only uTP.
    Utp,
}

impl Transports {
    /// Whether this one is used.
    pub fn includes(self, transport: Transport) -> bool {
        match transport {
            Transport::Tcp => self != Transports::Utp,
            Transport::Utp => self != Transports::Tcp,
        }
    }
}

/// Whether connections use message stream encryption (MSE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Both plain and encrypted connections; btsync starts plain, and tries the other kind if one fails.
    #[default]
    Allow,
    /// Always, and for the payload too.
    Require,
    /// Never.
    Off,
}

/// How an outgoing connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialMode {
    /// With the handshake of BEP 3.
    Plain,
    /// With message stream encryption.
    Encrypted,
}

impl Encryption {
    /// How to dial a peer of unknown preference: unencrypted if allowed, because that costs least.
    pub fn dial_mode(self) -> DialMode {
        if self == Encryption::Require { DialMode::Encrypted } else { DialMode::Plain }
    }

    /// How to dial a peer again after it did not respond to `tried`; `None` if there is no other way.
    pub fn fallback(self, tried: DialMode) -> Option<DialMode> {
        match (self, tried) {
            (Encryption::Allow, DialMode::Plain) => Some(DialMode::Encrypted),
            (Encryption::Allow, DialMode::Encrypted) => Some(DialMode::Plain),
            _ => None,
        }
    }
}

impl PieceIndex {
    /// The index as `usize`.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl InfoHash {
    /// The info-hash of 40 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<InfoHash> {
        from_hex(text).map(InfoHash)
    }

    /// 40 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl InfoHashV2 {
    /// The info-hash of 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<InfoHashV2> {
        from_hex(text).map(InfoHashV2)
    }

    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// What identifies the swarm to trackers, the DHT and peers: the first 20 bytes.
    pub fn truncated(&self) -> InfoHash {
        let mut hash = [0; 20];
        hash.copy_from_slice(&self.0[..20]);
        InfoHash(hash)
    }
}

impl PeerId {
    /// Whether both IDs look like the same client program, of any version (BEP 20).
    pub fn is_same_client(&self, other: &PeerId) -> bool {
        self.0.first_chunk::<3>() == other.0.first_chunk::<3>()
    }

    /// A new ID for this client: Azureus style (BEP 20), `-BY` with our version and 12 random digits. No other client is known to
    /// use `BY`: it is in neither BEP 20 nor the tables of libtorrent, Transmission and `WebTorrent`.
    pub fn generate() -> PeerId {
        PeerId::with_prefix(client_prefix(env!("CARGO_PKG_VERSION")))
    }

    /// A random ID that names no client.
    pub fn anonymous() -> PeerId {
        PeerId(random::bytes())
    }

    /// An ID with this prefix and 12 random digits.
    pub fn with_prefix(prefix: [u8; 8]) -> PeerId {
        let (mut id, mut random) = ([0; 20], Random::system());
        id[..8].copy_from_slice(&prefix);
        for digit in &mut id[8..] {
            *digit = b'0' + random.up_to(9) as u8;
        }
        PeerId(id)
    }
}

/// The prefix of our IDs: one digit each for major, minor and patch version, letters from ten on, as other clients write and
/// parse it.
fn client_prefix(version: &str) -> [u8; 8] {
    let mut prefix = *b"-BY0000-";
    for (place, number) in prefix[3..6].iter_mut().zip(version.split(['.', '-', '+'])) {
        let figure = number.parse().ok().and_then(|n| char::from_digit(n, 36)).unwrap_or('Z');
        *place = figure.to_ascii_uppercase() as u8;
    }
    prefix
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({})", self.hex())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.0.escape_ascii())
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashV2({})", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_have_names_and_numbers() {
        let byte = |text: &str| text.parse::<Dscp>().map(Dscp::byte);
        let bytes =
            [("le", 4), ("LE", 4), ("none", 0), ("ef", 184), ("cs1", 32), ("af11", 40), ("af43", 152), ("63", 252)];
        for (text, right) in bytes {
            assert_eq!(byte(text), Ok(right), "{text}");
        }
        for bad in ["", "64", "-1", "cs8", "af14", "af50", "best"] {
            assert_eq!(byte(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn our_id_is_azureus_style() {
        let id = PeerId::generate().0;
        assert_eq!(&id[..8], &client_prefix(env!("CARGO_PKG_VERSION")));
        assert_eq!(&PeerId::with_prefix(*b"-qB4650-").0[..8], b"-qB4650-");
        for (version, prefix) in
            [("0.1.0", b"-BY0100-"), ("1.12.35", b"-BY1CZ0-"), ("2.0.0-rc1", b"-BY2000-"), ("1.36.0", b"-BY1Z00-")]
        {
            assert_eq!(&client_prefix(version), prefix);
        }
        assert!(id[8..].iter().all(u8::is_ascii_digit));
    }

    #[test]
    fn only_forty_digits_are_an_info_hash() {
        assert_eq!(InfoHash::from_hex(&"Ff".repeat(20)), Some(InfoHash([255; 20])));
        for bad in ["", "ff", &"g0".repeat(20), &"ff".repeat(21), "é"] {
            assert_eq!(InfoHash::from_hex(bad), None, "{bad}");
        }
    }
}
