//! Decodes KRPC packets. They are untrusted: the bencode is validated first, then every length. A malformed list entry is dropped
//! without affecting the rest.

use serde_bencode::value::Value;

use crate::bencode::scan::{Scanner, ValueStart};
use crate::bencode::validate::MESSAGE_DEPTH;
use crate::bencode::values::{Dict, bytes, dictionary, int, list};
use crate::discovery::dht::bloom::{BloomFilter, SwarmFilters};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::{FoundItem, ItemPut, MAX_ITEM_VALUE, MAX_SALT, SignedFields};
use crate::discovery::dht::message::{
    Family, InfohashSamples, KrpcBody, KrpcError, KrpcMessage, KrpcResponse, MAX_RECEIVED, MAX_TRANSACTION,
    METHOD_UNKNOWN, PROTOCOL_ERROR, Query, SALT_TOO_BIG, ScrapeOptions, VALUE_TOO_BIG, Want, addr, contacts, is_usable,
};
use crate::types::InfoHash;

/// The most nodes read from one list of a response; eight are usual.
const MAX_CONTACTS: usize = 16;
/// The most peers read from one response.
const MAX_VALUES: usize = 200;
/// The most info-hashes read from one response.
const MAX_SAMPLES: usize = 200;
/// The longest token sent back, in bytes.
const MAX_TOKEN: usize = 64;

/// The error code and text with which to answer an invalid query.
type QueryRefusal = (i64, &'static str);

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
            Some(b"q") => query(packet, &dict).unwrap_or_else(|(code, why)| KrpcBody::Invalid { code, why }),
            Some(b"r") => KrpcBody::Response(response(packet, &dict).ok_or(KrpcError::Key("r"))?),
            Some(b"e") => error(&dict),
            _ => return Err(KrpcError::Key("y")),
        };
        Ok(KrpcMessage { transaction, ip: bytes(&dict, "ip").and_then(addr), body })
    }
}

fn hash(dict: &Dict, key: &str) -> Option<[u8; 20]> {
    bytes(dict, key)?.try_into().ok()
}

fn query(packet: &[u8], dict: &Dict) -> Result<KrpcBody, QueryRefusal> {
    let Some(Value::Dict(a)) = dict.get(b"a".as_slice()) else { return Err((PROTOCOL_ERROR, "no arguments")) };
    let id = NodeId(hash(a, "id").ok_or((PROTOCOL_ERROR, "no id"))?);
    let info_hash = hash(a, "info_hash").map(InfoHash).ok_or((PROTOCOL_ERROR, "no info_hash"));
    let wants = |name: &[u8]| list(a, "want").iter().any(|w| matches!(w, Value::Bytes(w) if w == name));
    let want = Want { wants_v4: wants(b"n4"), wants_v6: wants(b"n6") };
    let query = match bytes(dict, "q").unwrap_or_default() {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode { target: target(a)?, want },
        b"get_peers" => {
            let scrape = ScrapeOptions { wants_filters: is_set(a, "scrape"), wants_no_seeds: is_set(a, "noseed") };
            Query::GetPeers { info_hash: info_hash?, want, scrape }
        }
        b"announce_peer" => {
            let token = token(a)?;
            let is_port_implied = is_set(a, "implied_port");
            let port = int(a, "port").and_then(|p| u16::try_from(p).ok()).filter(|p| is_port_implied || *p != 0);
            let port =
                if is_port_implied { port.unwrap_or_default() } else { port.ok_or((PROTOCOL_ERROR, "no port"))? };
            Query::AnnouncePeer { info_hash: info_hash?, port, is_port_implied, is_seed: is_set(a, "seed"), token }
        }
        b"sample_infohashes" => Query::SampleInfohashes { target: target(a)?, want },
        b"get" => Query::Get { target: target(a)?, seq: int(a, "seq"), want },
        b"put" => Query::Put { token: token(a)?, put: Box::new(put(packet, a)?) },
        _ => return Err((METHOD_UNKNOWN, "method unknown")),
    };
    Ok(KrpcBody::Query { id, query, is_read_only: int(dict, "ro") == Some(1) })
}

fn is_set(dict: &Dict, key: &str) -> bool {
    int(dict, key).is_some_and(|value| value != 0)
}

fn target(arguments: &Dict) -> Result<NodeId, QueryRefusal> {
    hash(arguments, "target").map(NodeId).ok_or((PROTOCOL_ERROR, "no target"))
}

fn token(arguments: &Dict) -> Result<Vec<u8>, QueryRefusal> {
    let token = bytes(arguments, "token").filter(|t| t.len() <= MAX_TOKEN);
    token.map(<[u8]>::to_vec).ok_or((PROTOCOL_ERROR, "no token"))
}

/// The item of a `put` query.
fn put(packet: &[u8], arguments: &Dict) -> Result<ItemPut, QueryRefusal> {
    let value = raw_value(packet, b"a", b"v").ok_or((PROTOCOL_ERROR, "no value"))?;
    if value.len() > MAX_ITEM_VALUE {
        return Err((VALUE_TOO_BIG, "the value is too big"));
    }
    if !arguments.contains_key(b"k".as_slice()) {
        return Ok(ItemPut { value: value.to_vec(), signed: None, cas: None });
    }
    let salt = bytes(arguments, "salt").unwrap_or_default();
    if salt.len() > MAX_SALT {
        return Err((SALT_TOO_BIG, "the salt is too big"));
    }
    let signed = SignedFields {
        key: array(arguments, "k").ok_or((PROTOCOL_ERROR, "no key"))?,
        salt: salt.to_vec(),
        seq: sequence_number(arguments).ok_or((PROTOCOL_ERROR, "no sequence number"))?,
        signature: array(arguments, "sig").ok_or((PROTOCOL_ERROR, "no signature"))?,
    };
    Ok(ItemPut { value: value.to_vec(), signed: Some(signed), cas: int(arguments, "cas") })
}

fn sequence_number(dict: &Dict) -> Option<i64> {
    int(dict, "seq").filter(|seq| *seq >= 0)
}

fn array<const N: usize>(dict: &Dict, key: &str) -> Option<[u8; N]> {
    bytes(dict, key)?.try_into().ok()
}

/// The item of a response; its signature is not checked here.
fn found_item(packet: &[u8], answer: &Dict) -> Option<FoundItem> {
    let seq = sequence_number(answer);
    let Some(value) = raw_value(packet, b"r", b"v") else { return seq.map(FoundItem::NotNewer) };
    if value.len() > MAX_ITEM_VALUE {
        return None;
    }
    match (array(answer, "k"), array(answer, "sig"), seq) {
        (Some(key), Some(signature), Some(seq)) => {
            let signed = SignedFields { key, salt: Vec::new(), seq, signature };
            Some(FoundItem::Mutable(value.to_vec(), Box::new(signed)))
        }
        (None, None, None) => Some(FoundItem::Immutable(value.to_vec())),
        _ => None,
    }
}

fn filters(answer: &Dict) -> Option<Box<SwarmFilters>> {
    let filter = |key| array(answer, key).map(BloomFilter::from_bytes);
    Some(Box::new(SwarmFilters { seeds: filter("BFsd")?, others: filter("BFpe")? }))
}

fn samples(answer: &Dict) -> Option<InfohashSamples> {
    let samples = bytes(answer, "samples")?.chunks_exact(20).take(MAX_SAMPLES);
    Some(InfohashSamples {
        interval: int(answer, "interval").and_then(|seconds| u16::try_from(seconds).ok())?,
        count: int(answer, "num").and_then(|count| u32::try_from(count).ok())?,
        samples: samples.filter_map(|hash| hash.try_into().ok().map(InfoHash)).collect(),
    })
}

/// The bytes of the value at `key` of the dictionary at `outer`. Items are hashed and signed as they were sent.
fn raw_value<'a>(packet: &'a [u8], outer: &[u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut scanner = Scanner::new(packet, MESSAGE_DEPTH);
    for wanted in [outer, key] {
        let ValueStart::Dict = scanner.value().ok()? else { return None };
        while scanner.key().ok()?? != wanted {
            let value = scanner.value().ok()?;
            scanner.skip(value).ok()?;
        }
    }
    let start = scanner.position();
    let value = scanner.value().ok()?;
    scanner.skip(value).ok()?;
    packet.get(start..scanner.position())
}

fn response(packet: &[u8], dict: &Dict) -> Option<KrpcResponse> {
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
        filters: filters(r),
        samples: samples(r),
        item: found_item(packet, r),
    })
}

fn error(dict: &Dict) -> KrpcBody {
    let (code, text) = match list(dict, "e") {
        [Value::Int(code), Value::Bytes(text), ..] => (*code, String::from_utf8_lossy(text)),
        _ => (0, "".into()),
    };
    KrpcBody::Error(code, crate::metainfo::printable(&text.chars().take(100).collect::<String>()))
}
