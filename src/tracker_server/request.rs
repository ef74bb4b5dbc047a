//! Parses HTTP requests and builds responses: `/announce` (BEP 3, 7, 23), `/scrape` (BEP 48) and a status line at `/`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use percent_encoding::percent_decode;
use serde_bencode::value::Value;

use crate::discovery::tracker::http::AnnounceEvent;
use crate::tracker_server::TrackerServerConfig;
use crate::tracker_server::registry::{AnnouncedPeer, Registry, SwarmCounts};
use crate::types::{InfoHash, PeerId};
use crate::util::random;
use crate::util::units::count;
use crate::wire::compact::write_addr;

/// The number of peers for a client that does not specify one.
const DEFAULT_NUMWANT: usize = 50;
/// The most peers for a client that asks for more.
const MAX_NUMWANT: usize = 200;

type Peers = [(SocketAddr, PeerId)];

/// The response to a complete request from a client at `from`.
pub(crate) fn respond(
    request: &[u8],
    from: IpAddr,
    now: Duration,
    config: &TrackerServerConfig,
    registry: &Mutex<Registry>,
) -> Vec<u8> {
    let Some((method, target)) = request_line(request) else {
        return response("400 Bad Request", "text/plain", b"not an HTTP request\n");
    };
    if method != "GET" {
        return response("405 Method Not Allowed", "text/plain", b"only GET\n");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = QueryString::new(query);
    let answer = match path {
        "/announce" => announce(&query, from, now, config, registry),
        "/scrape" => scrape(&query, now, registry),
        "/" => {
            let (torrents, peers) = registry.lock().size();
            let text = format!("a BitTorrent tracker: {}, {}\n", count(torrents, "torrent"), count(peers, "peer"));
            return response("200 OK", "text/plain", text.as_bytes());
        }
        _ => return response("404 Not Found", "text/plain", b"not found: this tracker has /announce and /scrape\n"),
    };
    let answer = answer.unwrap_or_else(|why| dict([("failure reason", why.into())]));
    // Encoding cannot fail for a value built here.
    let body = serde_bencode::to_bytes(&answer).unwrap_or_default();
    response("200 OK", "text/plain", &body)
}

/// The method and target of a request line such as `GET /x HTTP/1.1`.
fn request_line(request: &[u8]) -> Option<(&str, &str)> {
    let line = request.split(|&b| b == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    (version.starts_with("HTTP/1.") && words.next().is_none()).then_some((method, target))
}

fn response(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The decoded query parameters, in order.
struct QueryString<'a>(Vec<(&'a str, Vec<u8>)>);

impl<'a> QueryString<'a> {
    fn new(query: &'a str) -> QueryString<'a> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        QueryString(pairs.map(|(key, value)| (key, percent_decode(value.as_bytes()).collect())).collect())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(k, _)| *k == key).map(|(_, value)| value.as_slice())
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.all(key).next() else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        number.map(Some).ok_or_else(|| format!("{key} is not a number in range"))
    }

    fn bytes20(&self, key: &str) -> Result<[u8; 20], String> {
        let value = self.all(key).next().ok_or_else(|| format!("{key} is missing"))?;
        value.try_into().map_err(|_| format!("{key} is not 20 bytes long"))
    }

    fn has(&self, key: &str, value: &[u8]) -> bool {
        self.all(key).next() == Some(value)
    }

    /// The content of an announce. Ignores the `ip` parameter: it would let a client direct a swarm at a third party.
    fn announced_peer(&self, from: IpAddr) -> Result<AnnouncedPeer, String> {
        let info_hash = InfoHash(self.bytes20("info_hash")?);
        let peer_id = PeerId(self.bytes20("peer_id")?);
        let port = self.number::<u16>("port")?.ok_or("port is missing")?;
        if port == 0 {
            return Err("port 0 is invalid".into());
        }
        let event = match self.all("event").next() {
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
            seed: self.number::<u64>("left")? == Some(0),
            event,
            numwant: numwant.unwrap_or(DEFAULT_NUMWANT).min(MAX_NUMWANT),
            own_family_only: false,
        })
    }
}

fn announce(
    query: &QueryString,
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

fn scrape(query: &QueryString, now: Duration, registry: &Mutex<Registry>) -> Result<Value, String> {
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
fn entry(addr: SocketAddr, id: PeerId, with_id: bool) -> Value {
    let mut entry = vec![("ip", addr.ip().to_string().into()), ("port", int(addr.port().into()))];
    if with_id {
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
