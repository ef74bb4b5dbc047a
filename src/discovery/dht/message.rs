//! KRPC (BEP 5), the DHT's protocol, with the extensions of BEP 32 (both families), 42 (`ip`) and 43 (`ro`). Decodes packets;
//! `encode` does the reverse. Packets are untrusted: the bencode is validated first, then every length. A malformed list entry is
//! dropped without affecting the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_bencode::value::Value;

use crate::bencode::validate;
use crate::bencode::values::{Dict, bytes, dictionary, int, list};
use crate::discovery::dht::id::NodeId;
use crate::types::InfoHash;
use crate::wire::compact;

/// The largest packet that btsync sends, in bytes (BEP 32).
pub const MAX_PACKET: usize = 1024;
/// The largest packet that btsync decodes, in bytes.
pub const MAX_RECEIVED: usize = 4096;
/// The most nodes read from one list of a response; eight are usual.
const MAX_CONTACTS: usize = 16;
/// The most peers read from one response.
const MAX_VALUES: usize = 200;
/// The longest transaction id echoed, in bytes.
const MAX_TRANSACTION: usize = 20;
/// The longest token sent back, in bytes.
const MAX_TOKEN: usize = 64;
/// The error code for malformed packets, invalid arguments and bad tokens (BEP 5).
pub const PROTOCOL_ERROR: i64 = 203;
/// The error code for unknown methods (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;

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
    },
    /// Announces a peer of a torrent at the sender's IP address.
    AnnouncePeer {
        /// The torrent's info-hash.
        info_hash: InfoHash,
        /// The peer's TCP port; `None` to use the source port of the packet (`implied_port`).
        port: Option<u16>,
        /// The token from the receiver's response to [`Query::GetPeers`].
        token: Vec<u8>,
    },
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
    /// The token required to announce to this node.
    pub token: Option<Vec<u8>>,
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

impl KrpcMessage {
    /// Decodes a packet.
    ///
    /// # Errors
    /// If it is too long, is not bencode, or lacks a required key.
    pub fn decode(packet: &[u8]) -> Result<KrpcMessage, KrpcError> {
        if packet.len() > MAX_RECEIVED {
            return Err(KrpcError::TooLong(packet.len()));
        }
        let dict = dictionary(packet)?.ok_or(KrpcError::Key("d"))?;
        let transaction = bytes(&dict, "t").filter(|t| (1..=MAX_TRANSACTION).contains(&t.len()));
        let transaction = transaction.ok_or(KrpcError::Key("t"))?.to_vec();
        let body = match bytes(&dict, "y") {
            Some(b"q") => query(&dict).unwrap_or_else(|(code, why)| KrpcBody::Invalid { code, why }),
            Some(b"r") => KrpcBody::Response(response(&dict).ok_or(KrpcError::Key("r"))?),
            Some(b"e") => error(&dict),
            _ => return Err(KrpcError::Key("y")),
        };
        Ok(KrpcMessage { transaction, ip: bytes(&dict, "ip").and_then(addr), body })
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
fn addr(bytes: &[u8]) -> Option<SocketAddr> {
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

fn hash(dict: &Dict, key: &str) -> Option<[u8; 20]> {
    bytes(dict, key)?.try_into().ok()
}

fn query(dict: &Dict) -> Result<KrpcBody, (i64, &'static str)> {
    let Some(Value::Dict(a)) = dict.get(b"a".as_slice()) else { return Err((PROTOCOL_ERROR, "no arguments")) };
    let id = NodeId(hash(a, "id").ok_or((PROTOCOL_ERROR, "no id"))?);
    let info_hash = hash(a, "info_hash").map(InfoHash).ok_or((PROTOCOL_ERROR, "no info_hash"));
    let wants = |name: &[u8]| list(a, "want").iter().any(|w| matches!(w, Value::Bytes(w) if w == name));
    let want = Want { wants_v4: wants(b"n4"), wants_v6: wants(b"n6") };
    let query = match bytes(dict, "q").unwrap_or_default() {
        b"ping" => Query::Ping,
        b"find_node" => {
            Query::FindNode { target: NodeId(hash(a, "target").ok_or((PROTOCOL_ERROR, "no target"))?), want }
        }
        b"get_peers" => Query::GetPeers { info_hash: info_hash?, want },
        b"announce_peer" => {
            let token = bytes(a, "token").filter(|t| t.len() <= MAX_TOKEN).ok_or((PROTOCOL_ERROR, "no token"))?;
            let port = int(a, "port").and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            let port = match int(a, "implied_port") {
                Some(implied) if implied != 0 => None,
                _ => Some(port.ok_or((PROTOCOL_ERROR, "no port"))?),
            };
            Query::AnnouncePeer { info_hash: info_hash?, port, token: token.to_vec() }
        }
        _ => return Err((METHOD_UNKNOWN, "method unknown")),
    };
    Ok(KrpcBody::Query { id, query, is_read_only: int(dict, "ro") == Some(1) })
}

fn response(dict: &Dict) -> Option<KrpcResponse> {
    let Some(Value::Dict(r)) = dict.get(b"r".as_slice()) else { return None };
    let of = |key, family| contacts(bytes(r, key).unwrap_or_default(), family).take(MAX_CONTACTS);
    let value = |value: &Value| match value {
        Value::Bytes(bytes) => addr(bytes).filter(|a| is_usable(*a)),
        _ => None,
    };
    Some(KrpcResponse {
        id: NodeId(hash(r, "id")?),
        nodes: of("nodes", Family::V4).chain(of("nodes6", Family::V6)).collect(),
        values: list(r, "values").iter().filter_map(value).take(MAX_VALUES).collect(),
        token: bytes(r, "token").filter(|t| t.len() <= MAX_TOKEN).map(<[u8]>::to_vec),
    })
}

fn error(dict: &Dict) -> KrpcBody {
    let (code, text) = match list(dict, "e") {
        [Value::Int(code), Value::Bytes(text), ..] => (*code, String::from_utf8_lossy(text)),
        _ => (0, "".into()),
    };
    KrpcBody::Error(code, crate::metainfo::printable(&text.chars().take(100).collect::<String>()))
}

#[cfg(test)]
mod tests;
