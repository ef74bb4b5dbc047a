//! Threads with real sockets on the loopback interface.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::net::block_list::{AddressRange, RangeSetBuilder};
use crate::net::datagrams::ReceivedDatagram;
use crate::types::Transport;
use crate::util::atomics::Flag;
use crate::utp::{UtpDial, UtpTime};

/// Longer than any step takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Host {
    service: UdpService,
    incoming: Receiver<(PeerStream, SocketAddr)>,
    addr: SocketAddr,
}

impl Host {
    fn new(last: u8) -> Host {
        Host::filtered(last, &Arc::default())
    }

    fn filtered(last: u8, filter: &Arc<AddressFilter>) -> Host {
        let (sender, incoming) = unbounded();
        let accept: AcceptUtp = Arc::new(move |stream, addr| sender.send((stream, addr)).is_ok());
        let bind = Bind::Address(Ipv4Addr::new(127, 0, 0, last).into());
        let sockets = UdpSockets::bind(0, &bind).expect("a socket");
        let service = UdpService::start(sockets, filter, &accept).expect("a thread");
        let addr = service.threads[0].socket.local_addr().expect("an address");
        Host { service, incoming, addr }
    }

    /// A connection from this host to another: both streams.
    fn connect(&self, other: &Host) -> (PeerStream, PeerStream) {
        self.connect_to(other.addr, &other.incoming)
    }

    /// A connection from this host to an address: both streams.
    fn connect_to(&self, addr: SocketAddr, incoming: &Receiver<(PeerStream, SocketAddr)>) -> (PeerStream, PeerStream) {
        let mut ours = self.service.connect(addr, UtpDial::Direct).expect("a pair");
        assert_eq!(outcome(&ours), Ok(()));
        // Only now does the other host know that the address is not forged.
        ours.write_all(b"!").expect("a byte");
        let (mut theirs, from) = incoming.recv_timeout(PATIENCE).expect("a connection");
        assert_eq!(from, self.addr);
        for stream in [&ours, &theirs] {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        }
        theirs.read_exact(&mut [0]).expect("a byte");
        (ours, theirs)
    }
}

fn outcome(stream: &PeerStream) -> Result<(), UtpDialError> {
    poll(&mut [PollFd::new(stream, PollFlags::IN)], None).expect("a socket");
    UdpService::outcome(stream)
}

#[test]
fn streams_of_both_directions_arrive_whole_and_end() {
    let (one, other) = (Host::new(1), Host::new(2));
    let (mut ours, mut theirs) = one.connect(&other);
    assert_eq!((ours.transport(), theirs.transport()), (Transport::Utp, Transport::Utp));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    std::thread::scope(|scope| {
        let mut sends = ours.try_clone().expect("a descriptor");
        let (bytes, theirs) = (&bytes, &mut theirs);
        scope.spawn(move || sends.write_all(bytes).expect("all of it"));
        scope.spawn(move || {
            let mut received = vec![0; bytes.len()];
            theirs.read_exact(&mut received).expect("all of it");
            assert!(received == *bytes);
            theirs.write_all(&received).expect("all of it");
        });
        let mut back = vec![0; bytes.len()];
        ours.read_exact(&mut back).expect("all of it");
        assert!(back == *bytes);
    });
    ours.write_all(b"bye").expect("a few bytes");
    drop(ours);
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"bye");
}

#[test]
fn a_reader_that_pauses_stops_the_writer() {
    let (one, other) = (Host::new(1), Host::new(2));
    let (mut ours, mut theirs) = one.connect(&other);
    ours.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let mut sent = 0_usize;
    let chunk = vec![7; 1 << 16];
    while let Ok(count) = ours.write(&chunk) {
        sent += count;
        assert!(sent < 64 << 20, "the queues are bounded");
    }
    ours.shutdown(std::net::Shutdown::Both).expect("a socket");
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).expect("the end");
    assert_eq!(received.len(), sent);
}

/// A service at all addresses, of which one was asked: a host that asks it, and what it sees as the sender of the answers.
#[test]
fn a_connection_and_the_dht_answer_from_the_address_that_was_asked() {
    let (sender, incoming) = unbounded();
    let accept: AcceptUtp = Arc::new(move |stream, addr| sender.send((stream, addr)).is_ok());
    let sockets = UdpSockets::bind(0, &Bind::Any).expect("a port");
    let everywhere = UdpService::start(sockets, &Arc::default(), &accept).expect("a thread");
    let port = everywhere.threads[0].socket.local_addr().expect("an address").port();
    // Before the connection: once that is open, the thread certainly has the link, and loses no packet for it.
    let mut link = everywhere.attach_dht().expect("a link").remove(0);
    let asked = SocketAddr::from(([127, 0, 0, 9], port));
    // An answer from another address would be none for this connection.
    let host = Host::new(1);
    let (mut ours, mut theirs) = host.connect_to(asked, &incoming);
    theirs.write_all(b"answer").expect("a few bytes");
    let mut buffer = [0; 100];
    ours.read_exact(&mut buffer[..6]).expect("an answer");
    assert_eq!(&buffer[..6], b"answer");

    let node = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    node.set_read_timeout(Some(PATIENCE)).expect("a socket");
    node.send_to(b"d1:y1:qe", asked).expect("sent");
    poll(&mut [PollFd::new(&link, PollFlags::IN)], None).expect("a socket");
    let ReceivedDatagram { from, to, .. } = link.receive(&mut buffer).expect("a packet");
    link.send(to, from, b"d1:y1:re").expect("sent");
    assert_eq!(node.recv_from(&mut buffer).expect("a packet"), (8, asked));
    // A packet of no connection is answered by a RESET.
    node.send_to(&[[0x01, 0].as_slice(), &[7; 18]].concat(), asked).expect("sent");
    assert_eq!(node.recv_from(&mut buffer).expect("a packet"), (20, asked));
}

#[test]
fn the_owner_learns_what_the_peer_has_acknowledged_and_whether_its_window_is_full() {
    let (one, other) = (Host::new(1), Host::new(2));
    let (ours, theirs) = one.connect(&other);
    ours.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let figures = || ours.utp_figures().expect("figures");
    let (mut written, chunk) = (1, vec![7; 1 << 16]);
    while let Ok(count) = (&ours).write(&chunk) {
        written += count as u64;
    }
    let full = figures();
    assert!((1..written).contains(&full.acknowledged) && full.acknowledged + full.queued == written, "{full:?}");
    assert!(full.min_rtt <= full.rtt && full.window_full <= full.busy, "{full:?}");
    while figures().window_full == full.window_full {
        std::thread::yield_now(); // the peer reads nothing, so its window stays full
    }
    let (mut left, mut buffer) = (written - 1, vec![0; 1 << 16]);
    while left > 0 {
        left -= (&theirs).read(&mut buffer).expect("bytes") as u64;
    }
    while figures().acknowledged != written {
        std::thread::yield_now(); // the last acknowledgement may be on its way
    }
    assert_eq!(figures().queued, 0);
}

#[test]
fn a_port_at_which_nobody_listens_refuses_at_once() {
    let one = Host::new(1);
    let gone = Host::new(2).addr;
    assert_eq!(outcome(&one.service.connect(gone, UtpDial::Direct).expect("a pair")), Err(UtpDialError::Refused));
}

#[test]
fn nobody_wants_the_connection() {
    let (one, other) = (Host::new(1), Host::new(2));
    let Host { service: _service, incoming, addr } = other;
    drop(incoming);
    let mut ours = one.service.connect(addr, UtpDial::Direct).expect("a pair");
    // The peer may have accepted before it resets.
    if outcome(&ours).is_ok() {
        ours.write_all(b"!").expect("a byte");
        assert_eq!(ours.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn blocked_addresses_exchange_nothing() {
    let filter = Arc::new(AddressFilter::default());
    let mut ranges = RangeSetBuilder::default();
    let blocked = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    ranges.add(AddressRange::V4(blocked, blocked));
    filter.set(ranges.build(), &Flag::default());
    let (one, other) = (Host::filtered(1, &filter), Host::new(2));
    assert_eq!(
        outcome(&one.service.connect(other.addr, UtpDial::Direct).expect("a pair")),
        Err(UtpDialError::ClosedByUs)
    );
    let link = one.service.attach_dht().expect("a link").remove(0);
    for last in [2, 3] {
        let node = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).expect("a socket");
        node.send_to(&[b'd', last], one.addr).expect("sent");
    }
    poll(&mut [PollFd::new(&link, PollFlags::IN)], None).expect("a socket");
    assert_eq!(
        link.receive(&mut [0; 100]).expect("a packet").bytes,
        [b'd', 3],
        "what the blocked host sent was dropped"
    );
    assert!(other.incoming.is_empty());
}

#[test]
fn the_end_of_the_service_ends_its_connections_and_frees_the_port() {
    let (one, other) = (Host::new(1), Host::new(2));
    let (mut ours, mut theirs) = one.connect(&other);
    let (_idle, _their_idle) = one.connect(&other);
    ours.write_all(b"last words").expect("a few bytes");
    drop(ours);
    let addr = one.addr;
    drop(one);
    UdpSocket::bind(addr).expect("the port is free");
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"last words");
}

#[test]
fn packets_of_the_dht_reach_its_link_and_no_others() {
    let host = Host::new(1);
    let mut link = host.service.attach_dht().expect("a link").remove(0);
    let node = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).expect("a socket");
    node.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut buffer = [0; 100];
    for packet in [&b"\x21no packet of the DHT"[..], b"d1:y1:qe"] {
        node.send_to(packet, host.addr).expect("sent");
    }
    poll(&mut [PollFd::new(&link, PollFlags::IN)], None).expect("a socket");
    let from = node.local_addr().expect("an address");
    let received = link.receive(&mut buffer).expect("a packet");
    assert_eq!(received, ReceivedDatagram { from, to: Some(host.addr.ip()), bytes: b"d1:y1:qe" });
    assert!(link.receive(&mut buffer).is_err(), "no other");
    link.send(None, from, b"d1:y1:re").expect("sent");
    let (size, sender) = node.recv_from(&mut buffer).expect("a packet");
    assert_eq!((&buffer[..size], sender), (&b"d1:y1:re"[..], host.addr));
}

/// Gives each endpoint what the other sends, until neither sends anything.
fn exchange(one: &mut (&mut UtpEndpoint, SocketAddr), other: &mut (&mut UtpEndpoint, SocketAddr), now: UtpTime) {
    let mut out = Vec::new();
    loop {
        let mut is_quiet = true;
        for (from, to) in [(0, 1), (1, 0)] {
            let mut ends = [(&mut *one.0, one.1), (&mut *other.0, other.1)];
            out.clear();
            while let Some(transmit) = ends[from].0.transmit(now, &mut out) {
                is_quiet = false;
                let sender = ends[from].1;
                out.chunks(transmit.segment).for_each(|datagram| ends[to].0.receive(now, sender, None, datagram));
                out.clear();
            }
        }
        if is_quiet {
            return;
        }
    }
}

#[test]
fn the_end_of_an_owner_is_noticed_although_the_peer_takes_nothing() {
    let now = UtpTime(1);
    let endpoint = || UtpEndpoint::new(UtpConfig::new(false), Random::seeded(3));
    let addr = |last| SocketAddr::from(([127, 0, 0, last], 1000));
    let (mut ours, mut theirs) = (endpoint(), endpoint());
    let key = ours.connect(now, addr(2)).expect("a place");
    exchange(&mut (&mut ours, addr(1)), &mut (&mut theirs, addr(2)), now);
    let (mut owner, end) = bridge::pair().expect("descriptors");
    let mut stream = bridge::SocketBridge::new(key, end, Arc::new(UtpLink::new(Instant::now())), true);
    owner.set_nonblocking(true).expect("a socket");
    let mut turn = bridge::BridgeTurn { endpoint: &mut ours, now, chunk: &mut vec![0; 65_536] };
    // The peer's owner reads nothing, so that its window becomes 0, and then the pair fills up.
    while owner.write(&vec![7; 65_536]).is_ok() {
        assert_eq!(stream.copy_from_owner(&mut turn), bridge::BridgeState::Open);
        exchange(&mut (&mut *turn.endpoint, addr(1)), &mut (&mut theirs, addr(2)), now);
    }
    drop(owner);
    assert_eq!(stream.copy_rest(&mut turn), bridge::BridgeState::Over);
    assert_eq!(ours.addr(key), None);
}
