//! The tracker's UDP side (BEP 15): one thread that answers each datagram at once, on the port of the HTTP side.
//!
//! A connection id is a keyed hash of the client's address and the time, good for one to two minutes: nothing is remembered of
//! clients, and nobody gets an answer longer than the question, or into the registry, under an address that is not its own.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::Shared;
use crate::sources::registry::Report;
use crate::sources::udp::packet::{self, AnnounceRequest, Request, Response};
use crate::types::InfoHash;
use crate::wire::compact;

/// Connection ids change so often; the last one still serves.
const EPOCH: Duration = Duration::from_secs(60);
/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 2048;
/// Peers for a client that does not say how many.
const DEFAULT_NUMWANT: usize = 50;
/// The addresses of an answer take no more than this, in bytes: it fits into one packet of any network.
const MAX_PEER_BYTES: usize = 1200;

/// A datagram socket for all that the TCP listener at `listen` takes.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, None)?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// Answers until the server stops; a datagram of any kind wakes it to see that.
pub(super) fn serve(socket: &UdpSocket, shared: &Arc<Shared>) {
    let keys = RandomState::new();
    let mut buffer = [0; MAX_REQUEST];
    while !shared.stop.load(Ordering::SeqCst) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // One client's unreachable port is told here on some systems.
            Err(e) => {
                log::debug!("receiving: {e}");
                // Should it go on like that: not as fast as it can.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let client = SocketAddr::new(from.ip().to_canonical(), from.port());
        let request = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = respond(request, client, shared.started.elapsed(), &keys, shared)
            && let Err(e) = socket.send_to(&answer, from)
        {
            log::debug!("answering {client}: {e}");
        }
    }
}

/// The answer to one datagram; none to what is no request, or comes without a connection id.
fn respond(bytes: &[u8], from: SocketAddr, now: Duration, keys: &RandomState, shared: &Shared) -> Option<Vec<u8>> {
    let epoch = now.as_secs() / EPOCH.as_secs();
    let id = |epoch: u64| keys.hash_one((from, epoch));
    let (transaction, request) = packet::parse_request(bytes)?;
    let is_ours = |claimed: u64| claimed == id(epoch) || (epoch > 0 && claimed == id(epoch - 1));
    match request {
        Request::Connect => Some(packet::response(transaction, &Response::Connected(id(epoch)))),
        Request::Announce(claimed, a) if is_ours(claimed) => Some(announce(transaction, &a, from.ip(), now, shared)),
        Request::Scrape(claimed, swarms) if is_ours(claimed) => Some(scrape(transaction, swarms, now, shared)),
        _ => None,
    }
}

fn announce(transaction: u32, a: &AnnounceRequest, from: IpAddr, now: Duration, shared: &Shared) -> Vec<u8> {
    let refuse = |words: &str| packet::response(transaction, &Response::Error(words.as_bytes()));
    if a.port == 0 {
        return refuse("port 0 reaches nobody");
    }
    let room = MAX_PEER_BYTES / if from.is_ipv4() { compact::FOUR } else { compact::SIX };
    let report = Report {
        info_hash: a.info_hash,
        peer_id: a.peer_id,
        addr: SocketAddr::new(from, a.port),
        seed: a.left == 0,
        event: a.event,
        // Those of the other family are left out below, so there must be some more to choose from.
        numwant: usize::try_from(a.numwant).unwrap_or(DEFAULT_NUMWANT).min(room).saturating_mul(2),
    };
    let announced = shared.registry.lock().announce(now, &report, &mut fastrand::Rng::new());
    let (found, counts) = match announced {
        Ok(announced) => announced,
        Err(full) => return refuse(&full.to_string()),
    };
    let mut peers = Vec::new();
    let wanted = report.numwant / 2;
    let same = found.iter().map(|(addr, _)| *addr).filter(|addr| addr.is_ipv4() == from.is_ipv4());
    same.take(wanted).for_each(|addr| compact::write(&mut peers, addr));
    let answer = Response::Announced {
        interval: u32::try_from(shared.config.interval.as_secs()).unwrap_or(u32::MAX),
        leechers: counts.incomplete as u32,
        seeders: counts.complete as u32,
        peers: &peers,
    };
    packet::response(transaction, &answer)
}

fn scrape(transaction: u32, swarms: &[u8], now: Duration, shared: &Shared) -> Vec<u8> {
    let mut registry = shared.registry.lock();
    let mut figures = Vec::new();
    for swarm in swarms.as_chunks::<20>().0.iter().take(packet::MAX_SCRAPE) {
        let counts = registry.scrape(now, &InfoHash(*swarm)).unwrap_or_default();
        for number in [counts.complete as u32, counts.downloaded as u32, counts.incomplete as u32] {
            figures.extend_from_slice(&number.to_be_bytes());
        }
    }
    packet::response(transaction, &Response::Scraped(&figures))
}
