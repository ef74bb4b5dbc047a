//! An HTTP tracker for tests (BEP 3, 23, 48). It records every announce.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::bencode::{bytes, dict, int, list};

/// One announce.
#[derive(Clone, Debug)]
pub struct Announce {
    /// The swarm.
    pub info_hash: Vec<u8>,
    /// The address on which the peer says it listens.
    pub addr: SocketAddr,
    /// `started`, `completed`, `stopped`, or empty.
    pub event: String,
    /// Bytes the peer lacks.
    pub left: u64,
    /// Whether the peer asks for a compact answer.
    compact: bool,
}

/// A tracker that runs until dropped.
pub struct Tracker {
    port: u16,
    log: Arc<Mutex<Vec<Announce>>>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Tracker {
    /// A tracker on every address of the machine. Its answers contain `peers` and the peers that announced. They ask for another
    /// announce soon, so that peers that start at the same time find each other.
    pub fn start(peers: &[SocketAddr]) -> Tracker {
        Tracker::with_interval(peers, 3)
    }

    /// Like [`Tracker::start`], for tests that count announces: none is due again before the test is over.
    pub fn without_repeats(peers: &[SocketAddr]) -> Tracker {
        Tracker::with_interval(peers, 3600)
    }

    fn with_interval(peers: &[SocketAddr], interval: u64) -> Tracker {
        let (port, listener) = bind();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (announces, stopped, peers) = (log.clone(), stop.clone(), peers.to_vec());
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (announces, peers) = (announces.clone(), peers.clone());
                // If an answer fails, the test notices by what the client does not do.
                std::thread::spawn(move || drop(answer(stream, &announces, &peers, interval)));
            }
        });
        Tracker { port, log, stop, acceptor: Some(acceptor) }
    }

    /// A tracker that accepts connections and never answers.
    pub fn unresponsive() -> Tracker {
        let (port, listener) = bind();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let acceptor = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                held.extend(listener.accept());
            }
        });
        Tracker { port, log, stop, acceptor: Some(acceptor) }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The announce URL with this address of the machine.
    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/announce", self.port)
    }

    /// Every announce so far.
    pub fn announces(&self) -> Vec<Announce> {
        self.log.lock().clone()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

/// The number of complete and incomplete peers that a tracker reports in a scrape (BEP 48).
pub fn scrape(announce: &str, info_hash: [u8; 20]) -> Option<(u64, u64)> {
    let address = announce.strip_prefix("http://")?.split('/').next()?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let escaped = info_hash.iter().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
    let request = format!("GET /scrape?info_hash={escaped} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let figure = |key: &str| answer.split_once(key)?.1.split_once('e')?.0.parse().ok();
    Some((figure("8:completei")?, figure("10:incompletei")?))
}

fn bind() -> (u16, TcpListener) {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port for the tracker");
    (listener.local_addr().expect("an address").port(), listener)
}

fn answer(stream: TcpStream, log: &Mutex<Vec<Announce>>, fixed: &[SocketAddr], interval: u64) -> std::io::Result<()> {
    let from = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = match path {
        "/announce" => announce(query, from, log, fixed, interval),
        "/scrape" => scraped(query, log),
        _ => dict([("failure reason", bytes(b"no such page"))]),
    };
    let mut stream = reader.into_inner();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

fn announce(query: &str, from: IpAddr, log: &Mutex<Vec<Announce>>, fixed: &[SocketAddr], interval: u64) -> Vec<u8> {
    let number = |key| value(query, key).and_then(|v| String::from_utf8(v).ok()?.parse::<u64>().ok());
    let (Some(info_hash), Some(port), Some(left)) = (value(query, "info_hash"), number("port"), number("left")) else {
        return dict([("failure reason", bytes(b"info_hash, port or left is missing"))]);
    };
    let event = String::from_utf8(value(query, "event").unwrap_or_default()).unwrap_or_default();
    let compact = number("compact") != Some(0);
    let mut log = log.lock();
    let me = Announce { info_hash, addr: SocketAddr::new(from, port as u16), event, left, compact };
    log.push(me.clone());
    let mut peers: Vec<SocketAddr> = fixed.to_vec();
    peers.extend(latest(&log, &me.info_hash).iter().map(|a| a.addr).filter(|a| *a != me.addr));
    let (complete, incomplete) = figures(&log, &me.info_hash);
    let answer = [
        ("complete", int(complete)),
        ("incomplete", int(incomplete)),
        ("interval", int(interval)),
        ("min interval", int(1)),
        ("peers", if me.compact { compacted(&peers) } else { listed(&peers) }),
    ];
    dict(answer)
}

fn scraped(query: &str, log: &Mutex<Vec<Announce>>) -> Vec<u8> {
    let info_hash = value(query, "info_hash").unwrap_or_default();
    let (complete, incomplete) = figures(&log.lock(), &info_hash);
    let figures = dict([("complete", int(complete)), ("downloaded", int(0)), ("incomplete", int(incomplete))]);
    dict([("files", dict([(info_hash, figures)]))])
}

/// The latest announce of each peer that has not stopped.
fn latest(log: &[Announce], info_hash: &[u8]) -> Vec<Announce> {
    let mut peers: Vec<Announce> = Vec::new();
    for said in log.iter().filter(|a| a.info_hash == info_hash) {
        peers.retain(|p| p.addr != said.addr);
        if said.event != "stopped" {
            peers.push(said.clone());
        }
    }
    peers
}

fn figures(log: &[Announce], info_hash: &[u8]) -> (u64, u64) {
    let peers = latest(log, info_hash);
    let complete = peers.iter().filter(|p| p.left == 0).count() as u64;
    (complete, peers.len() as u64 - complete)
}

fn compacted(peers: &[SocketAddr]) -> Vec<u8> {
    let mut out = Vec::new();
    for peer in peers {
        if let IpAddr::V4(ip) = peer.ip() {
            out.extend(ip.octets());
            out.extend(peer.port().to_be_bytes());
        }
    }
    bytes(&out)
}

fn listed(peers: &[SocketAddr]) -> Vec<u8> {
    let entry = |p: &SocketAddr| dict([("ip", bytes(p.ip().to_string().as_bytes())), ("port", int(p.port().into()))]);
    list(peers.iter().map(entry))
}

/// A query parameter, unescaped.
fn value(query: &str, key: &str) -> Option<Vec<u8>> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(percent_encoding::percent_decode_str(raw).collect())
}
