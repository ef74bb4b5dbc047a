//! Encodes KRPC packets (BEP 5, 32, 42, 43).

use std::net::SocketAddr;

use crate::bencode::encode::{bytes as put, int, list};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{Family, KrpcBody, KrpcMessage, KrpcResponse, Query, Want};
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
        }
    }
}

pub(crate) fn key(out: &mut Vec<u8>, key: &str) {
    put(out, key.as_bytes());
}

fn put_arguments(out: &mut Vec<u8>, id: NodeId, query: &Query) {
    out.push(b'd');
    key(out, "id");
    put(out, &id.0);
    match query {
        Query::Ping => {}
        Query::FindNode { target, want } => {
            key(out, "target");
            put(out, &target.0);
            put_want(out, *want);
        }
        Query::GetPeers { info_hash, want } => {
            key(out, "info_hash");
            put(out, &info_hash.0);
            put_want(out, *want);
        }
        Query::AnnouncePeer { info_hash, port, token } => {
            key(out, "implied_port");
            int(out, u8::from(port.is_none()));
            key(out, "info_hash");
            put(out, &info_hash.0);
            // With `implied_port` set, this port is ignored, but some nodes require it to be present and not 0.
            key(out, "port");
            int(out, port.unwrap_or(1));
            key(out, "token");
            put(out, token);
        }
    }
    out.push(b'e');
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
    out.push(b'd');
    key(out, "id");
    put(out, &response.id.0);
    for (family, name) in [(Family::V4, "nodes"), (Family::V6, "nodes6")] {
        let nodes: Vec<u8> = response
            .nodes
            .iter()
            .filter(|node| Family::of(node.addr.ip()) == family)
            .flat_map(|node| node.id.0.into_iter().chain(compact(node.addr)))
            .collect();
        if !nodes.is_empty() {
            key(out, name);
            put(out, &nodes);
        }
    }
    if let Some(token) = &response.token {
        key(out, "token");
        put(out, token);
    }
    if !response.values.is_empty() {
        key(out, "values");
        list(out, &response.values, |out, value| put(out, &compact(*value)));
    }
    out.push(b'e');
}

/// Compact address and port: 6 or 18 bytes.
pub(crate) fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(V6_LENGTH);
    write_addr(&mut out, addr);
    out
}
