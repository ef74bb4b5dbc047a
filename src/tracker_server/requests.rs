//! Answers HTTP requests: `/announce` (BEP 3, 7, 23), `/scrape` (BEP 48) and a status line at `/`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_bencode::value::Value;

use crate::discovery::tracker::http::AnnounceEvent;
use crate::http_server::{ClientAddress, Handler, QueryString, Request, RequestHead, Response};
use crate::tracker_server::registry::{AnnouncedPeer, Registry, SwarmCounts};
use crate::tracker_server::{ServerShared, TrackerServerConfig};
use crate::types::{InfoHash, PeerId};
use crate::util::random;
use crate::util::units::count;
use crate::wire::compact::write_addr;

/// The number of peers for a client that does not specify one.
const DEFAULT_NUMWANT: usize = 50;
/// The most peers for a client that asks for more.
const MAX_NUMWANT: usize = 200;

type Peers = [(SocketAddr, PeerId)];

/// The type of all answers, as other trackers send it.
const CONTENT_TYPE: &str = "text/plain";

/// Answers the requests of the HTTP server. No answer waits for anything.
#[derive(Debug)]
pub(crate) struct TrackerHandler {
    shared: Arc<ServerShared>,
}

impl TrackerHandler {
    pub fn new(shared: Arc<ServerShared>) -> TrackerHandler {
        TrackerHandler { shared }
    }

    fn respond(&self, head: &RequestHead) -> Response {
        let ClientAddress::Tcp(from) = head.client() else {
            return Response::with_body(403, CONTENT_TYPE, "peers need an address\n");
        };
        let ServerShared { config, registry, .. } = &*self.shared;
        let (from, now) = (from.ip(), self.shared.started.elapsed());
        let query = AnnounceQuery(QueryString::new(head.query().unwrap_or_default()));
        let answer = match head.path() {
            "/announce" => announce(&query, from, now, config, registry),
            "/scrape" => scrape(&query, now, registry),
            "/" => {
                let (torrents, peers) = registry.lock().size();
                let text = format!("a BitTorrent tracker: {}, {}\n", count(torrents, "torrent"), count(peers, "peer"));
                return Response::with_body(200, CONTENT_TYPE, text);
            }
            _ => {
                let text = "not found: this tracker has /announce and /scrape\n";
                return Response::with_body(404, CONTENT_TYPE, text);
            }
        };
        let answer = answer.unwrap_or_else(|why| dict([("failure reason", why.into())]));
        // Encoding cannot fail for a value built here.
        Response::with_body(200, CONTENT_TYPE, serde_bencode::to_bytes(&answer).unwrap_or_default())
    }
}

impl Handler for TrackerHandler {
    fn body_limit(&self, head: &RequestHead) -> Result<usize, Response> {
        if head.method() == "GET" { Ok(0) } else { Err(Response::with_body(405, CONTENT_TYPE, "only GET\n")) }
    }

    fn handle_inline(&self, request: &Request) -> Option<Response> {
        Some(self.respond(&request.head))
    }

    fn handle(&self, request: Request) -> Response {
        self.respond(&request.head)
    }
}

/// The parameters of an announce or a scrape.
struct AnnounceQuery<'a>(QueryString<'a>);

impl AnnounceQuery<'_> {
    fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.0.all(key)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.first(key) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        number.map(Some).ok_or_else(|| format!("{key} is not a number in range"))
    }

    fn bytes20(&self, key: &str) -> Result<[u8; 20], String> {
        let value = self.0.first(key).ok_or_else(|| format!("{key} is missing"))?;
        value.try_into().map_err(|_| format!("{key} is not 20 bytes long"))
    }

    fn has(&self, key: &str, value: &[u8]) -> bool {
        self.0.first(key) == Some(value)
    }

    /// The content of an announce. Ignores the `ip` parameter: it would let a client direct a swarm at a third party.
    fn announced_peer(&self, from: IpAddr) -> Result<AnnouncedPeer, String> {
        let info_hash = InfoHash(self.bytes20("info_hash")?);
        let peer_id = PeerId(self.bytes20("peer_id")?);
        let port = self.number::<u16>("port")?.ok_or("port is missing")?;
        if port == 0 {
            return Err("port 0 is invalid".into());
        }
        let event = match self.0.first("event") {
            Some(b"started") => Some(AnnounceEvent::Started),
            Some(b"completed") => Some(AnnounceEvent::Completed),
            Some(b"stopped") => Some(AnnounceEvent::Stopped),
            _ => None,
        };
        // Some clients send -1 for "no preference".
        let numwant = self.number::<i64>("numwant")?.and_then(|n| usize::try_from(n).ok());
        Ok(AnnouncedPeer {
            info_hash,
            peer_id,
            addr: SocketAddr::new(from, port),
            is_seed: self.number::<u64>("left")? == Some(0),
            event,
            numwant: numwant.unwrap_or(DEFAULT_NUMWANT).min(MAX_NUMWANT),
            wants_own_family_only: false,
        })
    }
}

fn announce(
    query: &AnnounceQuery,
    from: IpAddr,
    now: Duration,
    config: &TrackerServerConfig,
    registry: &Mutex<Registry>,
) -> Result<Value, String> {
    let announced_peer = query.announced_peer(from)?;
    let announced = registry.lock().announce(now, &announced_peer, &mut random::fast_rng());
    let (peers, counts) = announced.map_err(|e| e.to_string())?;
    let mut answer = vec![
        ("interval", int(config.interval.as_secs())),
        ("min interval", int(config.min_interval.as_secs())),
        ("complete", int(counts.complete as u64)),
        ("incomplete", int(counts.incomplete as u64)),
        ("downloaded", int(counts.downloaded)),
    ];
    if query.has("compact", b"0") {
        let with_ids = !query.has("no_peer_id", b"1");
        answer.push(("peers", Value::List(peers.iter().map(|&(addr, id)| entry(addr, id, with_ids)).collect())));
    } else {
        let (four, six) = compact(&peers);
        answer.push(("peers", Value::Bytes(four)));
        if !six.is_empty() {
            answer.push(("peers6", Value::Bytes(six)));
        }
    }
    Ok(dict(answer))
}

fn scrape(query: &AnnounceQuery, now: Duration, registry: &Mutex<Registry>) -> Result<Value, String> {
    let mut files = HashMap::new();
    let mut registry = registry.lock();
    for hash in query.all("info_hash") {
        let hash: [u8; 20] = hash.try_into().map_err(|_| "info_hash is not 20 bytes long")?;
        if let Some(SwarmCounts { complete, incomplete, downloaded }) = registry.scrape(now, &InfoHash(hash)) {
            let counts = [
                ("complete", int(complete as u64)),
                ("downloaded", int(downloaded)),
                ("incomplete", int(incomplete as u64)),
            ];
            files.insert(hash.to_vec(), dict(counts));
        }
    }
    if query.all("info_hash").next().is_none() {
        return Err("info_hash is missing".into());
    }
    Ok(dict([("files", Value::Dict(files))]))
}

/// The peers in compact form, IPv4 (BEP 23) and IPv6 (BEP 7).
fn compact(peers: &Peers) -> (Vec<u8>, Vec<u8>) {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for (addr, _) in peers {
        write_addr(if addr.is_ipv4() { &mut four } else { &mut six }, *addr);
    }
    (four, six)
}

/// A peer as a dictionary (BEP 3).
fn entry(addr: SocketAddr, id: PeerId, has_id: bool) -> Value {
    let mut entry = vec![("ip", addr.ip().to_string().into()), ("port", int(addr.port().into()))];
    if has_id {
        entry.push(("peer id", Value::Bytes(id.0.to_vec())));
    }
    dict(entry)
}

fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn int(n: u64) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}
