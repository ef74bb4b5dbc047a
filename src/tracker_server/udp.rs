//! The UDP tracker protocol (BEP 15): one thread that answers each datagram at once, on the same port as HTTP.
//!
//! A connection id is a keyed hash of the client's address and the time, valid for one to two minutes. Thus the server stores
//! nothing per client. A client with a forged source address cannot enter the registry, and can only trigger answers no longer
//! than its requests.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, PipeReader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::discovery::tracker::udp::packet::{self, AnnounceRequest, UdpRequest, UdpResponse};
use crate::net::datagrams::AnsweringSocket;
use crate::tracker_server::ServerShared;
use crate::tracker_server::registry::AnnouncedPeer;
use crate::types::InfoHash;
use crate::util::random;
use crate::wire::compact;

/// How often the connection id of a client changes; the previous one stays valid.
const CONNECTION_ID_PERIOD: Duration = Duration::from_secs(60);
/// The most datagrams answered before checking for shutdown.
const MAX_DATAGRAMS_PER_TURN: usize = 64;
/// The number of peers for a client that does not specify one.
const DEFAULT_NUMWANT: usize = 50;
/// The most bytes of peer addresses in an answer: small enough for one packet on any network.
const MAX_PEER_BYTES: usize = 1200;

/// Binds a UDP socket that serves the same addresses as the TCP listener at `listen`.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<AnsweringSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, None)?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&listen.into())?;
    AnsweringSocket::from_socket(socket.into())
}

/// Answers datagrams until the other end of `shutdown_pipe` is closed.
pub(crate) fn serve(socket: &mut AnsweringSocket, shutdown_pipe: &PipeReader, shared: &ServerShared) {
    let keys = RandomState::new();
    loop {
        for _ in 0..MAX_DATAGRAMS_PER_TURN {
            match answer_next(socket, &keys, shared) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // Some systems report a client's unreachable port here.
                Err(e) => log::debug!("datagrams: {e}"),
            }
        }
        let timeout = socket.has_buffered().then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut fds = [PollFd::new(&*socket, PollFlags::IN), PollFd::new(shutdown_pipe, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return log::error!("from now on, the tracker answers over HTTP only: {error}"),
        }
        if fds.get(1).is_some_and(|shutdown_pipe| !shutdown_pipe.revents().is_empty()) {
            return;
        }
    }
}

fn answer_next(socket: &mut AnsweringSocket, keys: &RandomState, shared: &ServerShared) -> io::Result<()> {
    let request = socket.receive()?;
    let (from, to) = (request.from, request.to);
    let client = SocketAddr::new(from.ip().to_canonical(), from.port());
    if let Some(answer) = respond(request.bytes, client, shared.started.elapsed(), keys, shared)
        && let Err(e) = socket.send(to, from, &answer)
    {
        log::debug!("answering {client}: {e}");
    }
    Ok(())
}

/// The answer to one datagram; none if it is malformed or its connection id is not valid.
fn respond(
    bytes: &[u8],
    from: SocketAddr,
    now: Duration,
    keys: &RandomState,
    shared: &ServerShared,
) -> Option<Vec<u8>> {
    let epoch = now.as_secs() / CONNECTION_ID_PERIOD.as_secs();
    let id = |epoch: u64| keys.hash_one((from, epoch));
    let (transaction, request) = packet::parse_request(bytes)?;
    let is_ours = |claimed: u64| claimed == id(epoch) || (epoch > 0 && claimed == id(epoch - 1));
    match request {
        UdpRequest::Connect => Some(packet::response(transaction, &UdpResponse::Connected(id(epoch)))),
        UdpRequest::Announce(claimed, a) if is_ours(claimed) => Some(announce(transaction, &a, from.ip(), now, shared)),
        UdpRequest::Scrape(claimed, swarms) if is_ours(claimed) => Some(scrape(transaction, swarms, now, shared)),
        _ => None,
    }
}

fn announce(transaction: u32, a: &AnnounceRequest, from: IpAddr, now: Duration, shared: &ServerShared) -> Vec<u8> {
    let refuse = |words: &str| packet::response(transaction, &UdpResponse::Error(words.as_bytes()));
    if a.port == 0 {
        return refuse("port 0 is invalid");
    }
    let room = MAX_PEER_BYTES / if from.is_ipv4() { compact::V4_LENGTH } else { compact::V6_LENGTH };
    let report = AnnouncedPeer {
        info_hash: a.info_hash,
        peer_id: a.peer_id,
        addr: SocketAddr::new(from, a.port),
        is_seed: a.left == 0,
        event: a.event,
        numwant: usize::try_from(a.numwant).unwrap_or(DEFAULT_NUMWANT).min(room),
        wants_own_family_only: true,
    };
    let announced = shared.registry.lock().announce(now, &report, &mut random::fast_rng());
    let (found, counts) = match announced {
        Ok(announced) => announced,
        Err(full) => return refuse(&full.to_string()),
    };
    let mut peers = Vec::new();
    for (addr, _) in found {
        compact::write_addr(&mut peers, addr);
    }
    let answer = UdpResponse::Announced {
        interval: u32::try_from(shared.config.interval.as_secs()).unwrap_or(u32::MAX),
        leechers: counts.incomplete as u32,
        seeders: counts.complete as u32,
        peers: &peers,
    };
    packet::response(transaction, &answer)
}

fn scrape(transaction: u32, swarms: &[u8], now: Duration, shared: &ServerShared) -> Vec<u8> {
    let mut registry = shared.registry.lock();
    let mut figures = Vec::new();
    for swarm in swarms.as_chunks::<20>().0.iter().take(packet::MAX_SCRAPE) {
        let counts = registry.scrape(now, &InfoHash(*swarm)).unwrap_or_default();
        for number in [counts.complete as u32, counts.downloaded as u32, counts.incomplete as u32] {
            figures.extend_from_slice(&number.to_be_bytes());
        }
    }
    packet::response(transaction, &UdpResponse::Scraped(&figures))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use parking_lot::Mutex;

    use super::*;
    use crate::tracker_server::TrackerServerConfig;
    use crate::tracker_server::registry::{Registry, RegistryLimits};

    /// The length of a scrape answer before its counts, and of an announce answer before its peers.
    const SCRAPED: usize = 8;
    const ANNOUNCED: usize = 20;

    fn shared() -> ServerShared {
        let limits = RegistryLimits {
            expiry: Duration::from_secs(3600),
            max_peers: 1000,
            max_per_network: 1000,
            max_per_network_in_swarm: 1000,
        };
        let registry = Mutex::new(Registry::new(limits));
        ServerShared { config: TrackerServerConfig::default(), started: Instant::now(), registry }
    }

    fn from(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 1000).into()
    }

    /// An announce with port `port` and connection id `id`, padded to the length that the protocol requires.
    fn announce_request(id: &[u8], port: u16) -> Vec<u8> {
        let (action, transaction) = (1u32.to_be_bytes(), 7u32.to_be_bytes());
        // Downloaded, left, uploaded.
        let figures = [0u64, 1, 0].map(u64::to_be_bytes).concat();
        let (event, ip, key, numwant) = ([0; 4], [0; 4], [0; 4], i32::MAX.to_be_bytes());
        let who = [[1; 20].as_slice(), &[2; 18], &port.to_be_bytes()].concat();
        [id, &action, &transaction, &who, &figures, &event, &ip, &key, &numwant, &port.to_be_bytes()].concat()
    }

    fn scrape_request(id: &[u8], swarms: usize) -> Vec<u8> {
        [id, &2u32.to_be_bytes(), &7u32.to_be_bytes(), &[1; 20].repeat(swarms)].concat()
    }

    /// Requests a connection id.
    fn connect(client: SocketAddr, now: Duration, keys: &RandomState, shared: &ServerShared) -> Vec<u8> {
        let answer = respond(&packet::connect_request(7), client, now, keys, shared).expect("an id");
        assert_eq!(answer.len(), 16);
        answer[8..].to_vec()
    }

    #[test]
    fn a_connection_id_is_good_for_its_address_and_for_two_minutes_at_most() {
        let (keys, shared) = (RandomState::new(), shared());
        let begin = 10 * CONNECTION_ID_PERIOD;
        let id = connect(from(1), begin, &keys, &shared);
        let answered = |client, now| {
            let both = [announce_request(&id, 5), scrape_request(&id, 1)];
            both.map(|request| respond(&request, client, now, &keys, &shared).is_some())
        };
        assert_eq!(answered(from(1), begin), [true, true]);
        assert_eq!(answered(from(1), begin + CONNECTION_ID_PERIOD), [true, true]);
        assert_eq!(answered(from(1), begin + 2 * CONNECTION_ID_PERIOD), [false, false], "it has expired");
        assert_eq!(answered(from(2), begin), [false, false], "it is somebody else's");
        let other_port = SocketAddr::new(from(1).ip(), 1001);
        assert_eq!(answered(other_port, begin), [false, false]);
    }

    #[test]
    fn answers_fit_into_a_packet_however_much_is_asked_for() {
        let (keys, shared) = (RandomState::new(), shared());
        let id = connect(from(1), CONNECTION_ID_PERIOD, &keys, &shared);
        let ask =
            |request: &[u8]| respond(request, from(1), CONNECTION_ID_PERIOD, &keys, &shared).expect("an answer").len();
        let longest = (1..=500).map(|port| ask(&announce_request(&id, port))).max();
        assert_eq!(longest, Some(ANNOUNCED + MAX_PEER_BYTES));
        assert_eq!(ask(&scrape_request(&id, 100)), SCRAPED + 12 * packet::MAX_SCRAPE);
    }
}
