//! KRPC (BEP 5): the DHT's packets, bytes ↔ values, with the additions of BEP 32 (both families), 42 (`ip`) and 43 (`ro`).
//! A packet comes from a stranger: its bencode is checked first, every length afterwards. What is wrong in one entry of a
//! list costs that entry only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_bencode::value::Value;

use crate::bencode::guard;
use crate::bencode::values::{Dict, bytes, dictionary, int, list};
use crate::discovery::dht::id::NodeId;
use crate::types::InfoHash;

/// No packet of ours is longer, in bytes (BEP 32).
pub const MAX_PACKET: usize = 1024;
/// A longer packet is not looked at, in bytes.
pub const MAX_RECEIVED: usize = 4096;
/// Nodes read from one list of a response at most; eight are right.
const MAX_CONTACTS: usize = 16;
/// Peers read from one response at most.
const MAX_VALUES: usize = 200;
/// A longer transaction id is not echoed, in bytes.
const MAX_TRANSACTION: usize = 20;
/// A longer token is not sent back, in bytes.
const MAX_TOKEN: usize = 64;
/// "A generic error" and "malformed packet, invalid arguments, or bad token" (BEP 5).
pub const PROTOCOL_ERROR: i64 = 203;
/// "Method unknown" (BEP 5).
pub const METHOD_UNKNOWN: i64 = 204;

/// Which of the two networks (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Its id.
    pub id: NodeId,
    /// Its address and UDP port.
    pub addr: SocketAddr,
}

/// Of which families nodes are asked for (BEP 32); neither means that of the packet itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `n4`
    pub v4: bool,
    /// `n6`
    pub v6: bool,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Are you there?
    Ping,
    /// Whom do you know close to this id?
    FindNode {
        /// The id.
        target: NodeId,
        /// Of which families.
        want: Want,
    },
    /// Which peers does this torrent have, and whom do you know close to it?
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Nodes of which families.
        want: Want,
    },
    /// There is a peer of this torrent at my address.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// The peer's TCP port; `None` where it is the port that the packet comes from (`implied_port`).
        port: Option<u16>,
        /// What the asked node answered [`Query::GetPeers`] with.
        token: Vec<u8>,
    },
}

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who answers.
    pub id: NodeId,
    /// Nodes close to what was asked for, of both families; those of ours, of one.
    pub nodes: Vec<Contact>,
    /// Peers of the torrent.
    pub values: Vec<SocketAddr>,
    /// To be given back in an announce.
    pub token: Option<Vec<u8>>,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A question.
    Query {
        /// Who asks.
        id: NodeId,
        /// What.
        query: Query,
        /// Whether it answers no questions itself (BEP 43).
        read_only: bool,
    },
    /// A question that we do not understand; found when reading, never sent.
    Invalid {
        /// The error to answer with.
        code: i64,
        /// In words.
        why: &'static str,
    },
    /// An answer.
    Response(Response),
    /// A refusal: its code and text.
    Error(i64, String),
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrpcMessage {
    /// Chosen by who asks, echoed by who answers.
    pub transaction: Vec<u8>,
    /// In answers: the address at which the asked node sees the asking one (BEP 42).
    pub ip: Option<SocketAddr>,
    /// The rest.
    pub body: Body,
}

/// Why a packet is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KrpcError {
    /// More than [`MAX_RECEIVED`] bytes.
    #[error("not a DHT packet: {0} bytes are too many")]
    TooLong(usize),
    /// Not bencode.
    #[error(transparent)]
    Bencode(#[from] guard::BencodeError),
    /// A required key is missing or has a value of the wrong form.
    #[error("not a DHT packet: `{0}` is missing or malformed")]
    Key(&'static str),
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The length of an address, in bytes.
    pub(crate) fn width(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

impl KrpcMessage {
    /// Reads a packet.
    ///
    /// # Errors
    /// Where it is not bencode, too long, or lacks what every packet of its kind has.
    pub fn decode(packet: &[u8]) -> Result<KrpcMessage, KrpcError> {
        if packet.len() > MAX_RECEIVED {
            return Err(KrpcError::TooLong(packet.len()));
        }
        let dict = dictionary(packet)?.ok_or(KrpcError::Key("d"))?;
        let transaction = bytes(&dict, "t").filter(|t| (1..=MAX_TRANSACTION).contains(&t.len()));
        let transaction = transaction.ok_or(KrpcError::Key("t"))?.to_vec();
        let body = match bytes(&dict, "y") {
            Some(b"q") => query(&dict).unwrap_or_else(|(code, why)| Body::Invalid { code, why }),
            Some(b"r") => Body::Response(response(&dict).ok_or(KrpcError::Key("r"))?),
            Some(b"e") => error(&dict),
            _ => return Err(KrpcError::Key("y")),
        };
        Ok(KrpcMessage { transaction, ip: bytes(&dict, "ip").and_then(addr), body })
    }
}

/// An address in network order, by its length.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// The reverse of [`compact`].
fn addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    Some(SocketAddr::new(ip(address)?, u16::from_be_bytes(*port)))
}

/// Nodes of one family, [`compact`] behind their ids; impossible ones and a torn last one are left out.
pub(crate) fn contacts(bytes: &[u8], family: Family) -> impl Iterator<Item = Contact> + '_ {
    bytes.chunks_exact(20 + family.width() + 2).filter_map(|entry| {
        let (id, at) = entry.split_first_chunk::<20>()?;
        Some(Contact { id: NodeId(*id), addr: addr(at).filter(|a| is_usable(*a))? })
    })
}

/// Whether anybody can be at this address at all.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let never = match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some(),
    };
    addr.port() != 0 && !never
}

fn hash(dict: &Dict, key: &str) -> Option<[u8; 20]> {
    bytes(dict, key)?.try_into().ok()
}

fn query(dict: &Dict) -> Result<Body, (i64, &'static str)> {
    let Some(Value::Dict(a)) = dict.get(b"a".as_slice()) else { return Err((PROTOCOL_ERROR, "no arguments")) };
    let id = NodeId(hash(a, "id").ok_or((PROTOCOL_ERROR, "no id"))?);
    let info_hash = hash(a, "info_hash").map(InfoHash).ok_or((PROTOCOL_ERROR, "no info_hash"));
    let wants = |name: &[u8]| list(a, "want").iter().any(|w| matches!(w, Value::Bytes(w) if w == name));
    let want = Want { v4: wants(b"n4"), v6: wants(b"n6") };
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
    Ok(Body::Query { id, query, read_only: int(dict, "ro") == Some(1) })
}

fn response(dict: &Dict) -> Option<Response> {
    let Some(Value::Dict(r)) = dict.get(b"r".as_slice()) else { return None };
    let of = |key, family| contacts(bytes(r, key).unwrap_or_default(), family).take(MAX_CONTACTS);
    let value = |value: &Value| match value {
        Value::Bytes(bytes) => addr(bytes).filter(|a| is_usable(*a)),
        _ => None,
    };
    Some(Response {
        id: NodeId(hash(r, "id")?),
        nodes: of("nodes", Family::V4).chain(of("nodes6", Family::V6)).collect(),
        values: list(r, "values").iter().filter_map(value).take(MAX_VALUES).collect(),
        token: bytes(r, "token").filter(|t| t.len() <= MAX_TOKEN).map(<[u8]>::to_vec),
    })
}

fn error(dict: &Dict) -> Body {
    let (code, text) = match list(dict, "e") {
        [Value::Int(code), Value::Bytes(text), ..] => (*code, String::from_utf8_lossy(text)),
        _ => (0, "".into()),
    };
    Body::Error(code, crate::metainfo::printable(&text.chars().take(100).collect::<String>()))
}

#[cfg(test)]
mod tests;
