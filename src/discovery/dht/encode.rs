//! Encodes KRPC packets (BEP 5, 32, 33, 42, 43, 44, 51).

use std::net::SocketAddr;

use crate::bencode::encode::{bytes as put, int, list};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::{FoundItem, ItemPut};
use crate::discovery::dht::message::{Contact, Family, KrpcBody, KrpcMessage, KrpcResponse, Query, Want};
use crate::wire::compact::{V6_LENGTH, write_addr};

/// The client version (BEP 5): the client's two letters (BEP 20) and a two-byte version number.
const VERSION: &[u8] = b"BY\0\x01";

impl KrpcMessage {
    /// The encoded packet, with sorted keys.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(Some(VERSION))
    }

    /// The same without the name and version of this client.
    pub fn encode_anonymously(&self) -> Vec<u8> {
        self.encode_with(None)
    }

    fn encode_with(&self, version: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(b'd');
        if let KrpcBody::Query { id, query, .. } = &self.body {
            key(&mut out, "a");
            put_arguments(&mut out, *id, query);
        }
        if let KrpcBody::Error(code, text) = &self.body {
            key(&mut out, "e");
            out.push(b'l');
            int(&mut out, code);
            put(&mut out, text.as_bytes());
            out.push(b'e');
        }
        if let Some(ip) = self.ip {
            key(&mut out, "ip");
            put(&mut out, &compact(ip));
        }
        if let KrpcBody::Query { query, .. } = &self.body {
            key(&mut out, "q");
            put(&mut out, query.method().as_bytes());
        }
        if let KrpcBody::Response(response) = &self.body {
            key(&mut out, "r");
            put_response(&mut out, response);
        }
        if let KrpcBody::Query { is_read_only: true, .. } = &self.body {
            out.extend_from_slice(b"2:roi1e");
        }
        key(&mut out, "t");
        put(&mut out, &self.transaction);
        if let Some(version) = version {
            key(&mut out, "v");
            put(&mut out, version);
        }
        let kind: &[u8] = match &self.body {
            KrpcBody::Query { .. } => b"1:y1:qe",
            KrpcBody::Response(_) => b"1:y1:re",
            KrpcBody::Error(..) | KrpcBody::Invalid { .. } => b"1:y1:ee",
        };
        out.extend_from_slice(kind);
        out
    }
}

impl Query {
    fn method(&self) -> &'static str {
        match self {
            Query::Ping => "ping",
            Query::FindNode { .. } => "find_node",
            Query::GetPeers { .. } => "get_peers",
            Query::AnnouncePeer { .. } => "announce_peer",
            Query::SampleInfohashes { .. } => "sample_infohashes",
            Query::Get { .. } => "get",
            Query::Put { .. } => "put",
        }
    }
}

pub(crate) fn key(out: &mut Vec<u8>, key: &str) {
    put(out, key.as_bytes());
}

fn put_arguments(out: &mut Vec<u8>, id: NodeId, query: &Query) {
    out.push(b'd');
    if let Query::Put { put: item, .. } = query
        && let ItemPut { cas: Some(cas), .. } = **item
    {
        key(out, "cas");
        int(out, cas);
    }
    key(out, "id");
    put(out, &id.0);
    match query {
        Query::Ping => {}
        Query::FindNode { target, want } | Query::SampleInfohashes { target, want } => {
            put_target(out, *target, *want);
        }
        Query::GetPeers { info_hash, want, scrape } => {
            key(out, "info_hash");
            put(out, &info_hash.0);
            put_flag(out, "noseed", scrape.wants_no_seeds);
            put_flag(out, "scrape", scrape.wants_filters);
            put_want(out, *want);
        }
        Query::AnnouncePeer { info_hash, port, is_port_implied, is_seed, token } => {
            key(out, "implied_port");
            int(out, u8::from(*is_port_implied));
            key(out, "info_hash");
            put(out, &info_hash.0);
            // Nodes that do not know `implied_port` use this port.
            key(out, "port");
            int(out, port);
            put_flag(out, "seed", *is_seed);
            key(out, "token");
            put(out, token);
        }
        Query::Get { target, seq, want } => {
            if let Some(seq) = seq {
                key(out, "seq");
                int(out, seq);
            }
            put_target(out, *target, *want);
        }
        Query::Put { token, put: item } => {
            if let Some(signed) = &item.signed {
                key(out, "k");
                put(out, &signed.key);
                if !signed.salt.is_empty() {
                    key(out, "salt");
                    put(out, &signed.salt);
                }
                put_sequence_number(out, signed.seq);
                key(out, "sig");
                put(out, &signed.signature);
            }
            key(out, "token");
            put(out, token);
            key(out, "v");
            out.extend_from_slice(&item.value);
        }
    }
    out.push(b'e');
}

fn put_target(out: &mut Vec<u8>, target: NodeId, want: Want) {
    key(out, "target");
    put(out, &target.0);
    put_want(out, want);
}

fn put_flag(out: &mut Vec<u8>, name: &str, is_set: bool) {
    if is_set {
        key(out, name);
        int(out, 1);
    }
}

fn put_sequence_number(out: &mut Vec<u8>, seq: i64) {
    key(out, "seq");
    int(out, seq);
}

fn put_want(out: &mut Vec<u8>, want: Want) {
    if want == Want::default() {
        return;
    }
    out.extend_from_slice(b"4:wantl");
    for (wanted, name) in [(want.wants_v4, "n4"), (want.wants_v6, "n6")] {
        if wanted {
            key(out, name);
        }
    }
    out.push(b'e');
}

fn put_response(out: &mut Vec<u8>, response: &KrpcResponse) {
    let signed = match &response.item {
        Some(FoundItem::Mutable(_, signed)) => Some(signed),
        _ => None,
    };
    out.push(b'd');
    if let Some(filters) = &response.filters {
        key(out, "BFpe");
        put(out, filters.others.as_bytes());
        key(out, "BFsd");
        put(out, filters.seeds.as_bytes());
    }
    key(out, "id");
    put(out, &response.id.0);
    if let Some(samples) = &response.samples {
        key(out, "interval");
        int(out, samples.interval);
    }
    if let Some(signed) = signed {
        key(out, "k");
        put(out, &signed.key);
    }
    put_nodes(out, &response.nodes);
    if let Some(samples) = &response.samples {
        key(out, "num");
        int(out, samples.count);
        key(out, "samples");
        put(out, &samples.samples.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
    }
    match &response.item {
        Some(FoundItem::NotNewer(seq)) => put_sequence_number(out, *seq),
        Some(FoundItem::Mutable(_, signed)) => {
            put_sequence_number(out, signed.seq);
            key(out, "sig");
            put(out, &signed.signature);
        }
        Some(FoundItem::Immutable(_)) | None => {}
    }
    if let Some(token) = &response.token {
        key(out, "token");
        put(out, token);
    }
    if let Some(FoundItem::Immutable(value) | FoundItem::Mutable(value, _)) = &response.item {
        key(out, "v");
        out.extend_from_slice(value);
    }
    if !response.values.is_empty() {
        key(out, "values");
        list(out, &response.values, |out, value| put(out, &compact(*value)));
    }
    out.push(b'e');
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[Contact]) {
    for (family, name) in [(Family::V4, "nodes"), (Family::V6, "nodes6")] {
        let nodes = nodes.iter().filter(|node| Family::of(node.addr.ip()) == family);
        let nodes: Vec<u8> = nodes.flat_map(|node| node.id.0.into_iter().chain(compact(node.addr))).collect();
        if !nodes.is_empty() {
            key(out, name);
            put(out, &nodes);
        }
    }
}

/// Compact address and port: 6 or 18 bytes.
pub(crate) fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(V6_LENGTH);
    write_addr(&mut out, addr);
    out
}
