//! KRPC (BEP 5), the DHT's protocol, with the extensions of BEP 32 (both families), 33 (scrapes), 42 (`ip`), 43 (`ro`), 44 (items)
//! and 51 (samples of info-hashes). `decode` and `encode` convert packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bencode::validate;
use crate::discovery::dht::bloom::SwarmFilters;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::{FoundItem, ItemPut};
use crate::types::InfoHash;
use crate::wire::compact;

/// The largest response without an item, in bytes (BEP 32). An item (BEP 44) can make a packet about 200 bytes longer.
pub const MAX_PACKET: usize = 1024;
/// The largest packet that btsync decodes, in bytes.
pub const MAX_RECEIVED: usize = 4096;
/// The longest transaction id echoed, in bytes.
pub(super) const MAX_TRANSACTION: usize = 20;
/// The error code for malformed packets, invalid arguments and bad tokens (BEP 5).
pub const PROTOCOL_ERROR: i64 = 203;
/// The error code for unknown methods (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;
/// The error code for requests that a node cannot serve (BEP 5): here, too much was stored.
pub const SERVER_ERROR: i64 = 202;
/// The error code for items with more than 1,000 bytes (BEP 44).
pub const VALUE_TOO_BIG: i64 = 205;
/// The error code for items with a wrong signature (BEP 44).
pub const INVALID_SIGNATURE: i64 = 206;
/// The error code for a salt of more than 64 bytes (BEP 44).
pub const SALT_TOO_BIG: i64 = 207;
/// The error code for a stored item that is another one than the sender expects (BEP 44).
pub const CAS_MISMATCH: i64 = 301;
/// The error code for items that are older than the stored one (BEP 44).
pub const SEQUENCE_NUMBER_TOO_LOW: i64 = 302;

/// The address family of a DHT network (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A node's id and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// The node's id.
    pub id: NodeId,
    /// The node's IP address and UDP port.
    pub addr: SocketAddr,
}

/// The families of nodes that a query requests (BEP 32). If neither is set, the family of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Whether the query wants IPv4 nodes (the value `n4`).
    pub wants_v4: bool,
    /// Whether the query wants IPv6 nodes (the value `n6`).
    pub wants_v6: bool,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Checks that the node responds.
    Ping,
    /// Requests the nodes closest to an id.
    FindNode {
        /// The id.
        target: NodeId,
        /// The requested families.
        want: Want,
    },
    /// Requests the peers of a torrent and the nodes closest to it.
    GetPeers {
        /// The torrent's info-hash.
        info_hash: InfoHash,
        /// The requested families of nodes.
        want: Want,
        /// Which peers the response should contain.
        scrape: ScrapeOptions,
    },
    /// Announces a peer of a torrent at the sender's IP address.
    AnnouncePeer {
        /// The torrent's info-hash.
        info_hash: InfoHash,
        /// The peer's port. May be 0 if the port is implied.
        port: u16,
        /// Whether the peer's port is the source port of the packet instead (`implied_port`).
        is_port_implied: bool,
        /// Whether the peer is a seed (BEP 33).
        is_seed: bool,
        /// The token from the receiver's response to [`Query::GetPeers`].
        token: Vec<u8>,
    },
    /// Requests info-hashes that the node stores peers of (BEP 51).
    SampleInfohashes {
        /// The response also contains the nodes closest to this id.
        target: NodeId,
        /// The requested families of nodes.
        want: Want,
    },
    /// Requests an item (BEP 44).
    Get {
        /// The item's id.
        target: NodeId,
        /// The item is not sent unless its sequence number is higher than this.
        seq: Option<i64>,
        /// The requested families of nodes.
        want: Want,
    },
    /// Stores an item (BEP 44).
    Put {
        /// The token from the receiver's response to [`Query::Get`].
        token: Vec<u8>,
        /// The item.
        put: Box<ItemPut>,
    },
}

/// The arguments of a `get_peers` query that BEP 33 adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeOptions {
    /// Whether the response should contain [`KrpcResponse::filters`].
    pub wants_filters: bool,
    /// Whether the response should contain no seeds.
    pub wants_no_seeds: bool,
}

/// Info-hashes that a node stores peers of (BEP 51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfohashSamples {
    /// For how many seconds the node gives the same samples.
    pub interval: u16,
    /// How many torrents the node stores.
    pub count: u32,
    /// Some of them.
    pub samples: Vec<InfoHash>,
}

/// The response to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrpcResponse {
    /// The responding node's id.
    pub id: NodeId,
    /// Nodes close to the requested id, possibly of both families. Responses that btsync sends contain one family only.
    pub nodes: Vec<Contact>,
    /// Peers of the torrent.
    pub values: Vec<SocketAddr>,
    /// The token required to announce to this node, or to store an item.
    pub token: Option<Vec<u8>>,
    /// The addresses of the torrent's peers, as sets that can be counted (BEP 33).
    pub filters: Option<Box<SwarmFilters>>,
    /// Torrents that the node knows.
    pub samples: Option<InfohashSamples>,
    /// The item with the requested id.
    pub item: Option<FoundItem>,
}

impl KrpcResponse {
    /// A response with the responding node's id and nothing else.
    pub fn new(id: NodeId) -> KrpcResponse {
        KrpcResponse {
            id,
            nodes: Vec::new(),
            values: Vec::new(),
            token: None,
            filters: None,
            samples: None,
            item: None,
        }
    }
}

/// The main part of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KrpcBody {
    /// A query.
    Query {
        /// The sender's id.
        id: NodeId,
        /// The query.
        query: Query,
        /// Whether the sender does not answer queries (BEP 43).
        is_read_only: bool,
    },
    /// An invalid query; results from decoding only, and is never sent.
    Invalid {
        /// The error code to respond with.
        code: i64,
        /// The error text to respond with.
        why: &'static str,
    },
    /// A response.
    Response(KrpcResponse),
    /// An error: code and text.
    Error(i64, String),
}

/// A KRPC packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrpcMessage {
    /// The transaction id: chosen by the querying node, echoed in the response.
    pub transaction: Vec<u8>,
    /// In responses: the querying node's address as the responding node sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// The query, response or error.
    pub body: KrpcBody,
}

/// Why a packet cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KrpcError {
    /// The packet has more than [`MAX_RECEIVED`] bytes.
    #[error("not a DHT packet: {0} bytes are too many")]
    TooLong(usize),
    /// The packet is not bencode.
    #[error(transparent)]
    Bencode(#[from] validate::BencodeError),
    /// A required key is missing or has an invalid value.
    #[error("not a DHT packet: `{0}` is missing or malformed")]
    Key(&'static str),
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The length of an IP address, in bytes.
    pub(crate) fn width(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

/// An IP address in network byte order; the length determines the family.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// The inverse of [`compact`].
pub(super) fn addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    Some(SocketAddr::new(ip(address)?, u16::from_be_bytes(*port)))
}

/// Decodes nodes of one family, each an id and a [`compact`] address. Skips unusable addresses and a truncated last node.
pub(crate) fn contacts(bytes: &[u8], family: Family) -> impl Iterator<Item = Contact> + '_ {
    bytes.chunks_exact(20 + family.width() + 2).filter_map(|entry| {
        let (id, at) = entry.split_first_chunk::<20>()?;
        Some(Contact { id: NodeId(*id), addr: addr(at).filter(|a| is_usable(*a))? })
    })
}

/// Whether a host can have this address at all.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let is_mapped = matches!(addr.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    compact::is_usable(addr) && !is_mapped
}

#[cfg(test)]
mod tests;
