//! The client against scripted trackers.

use std::thread::{self, JoinHandle};

use super::*;
use crate::discovery::tracker::udp::packet::{UdpRequest, UdpResponse, parse_request, response};

/// Ample time for operations that end by themselves.
const PATIENT: Duration = Duration::from_secs(60);
/// The deadline for operations that never end by themselves: without it, the test would hang.
const SHORT: Duration = Duration::from_millis(300);

/// A tracker's answer to a request: datagrams, each with whether it comes from another socket than the request was sent to.
type ScriptedReply = Vec<(bool, Vec<u8>)>;

/// A tracker that sends what `say` returns for each request, until a packet of one byte ends it. Its thread returns the number of
/// connect requests received.
struct Scripted {
    addr: SocketAddr,
    thread: JoinHandle<usize>,
}

impl Scripted {
    fn start(say: impl FnMut(u32, UdpRequest) -> ScriptedReply + Send + 'static) -> Scripted {
        Scripted::on(UdpSocket::bind("127.0.0.1:0").unwrap(), say)
    }

    fn on(socket: UdpSocket, mut say: impl FnMut(u32, UdpRequest) -> ScriptedReply + Send + 'static) -> Scripted {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut buffer, mut connects) = ([0; 2048], 0);
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                if length == 1 {
                    return connects;
                }
                let (transaction, request) = parse_request(&buffer[..length]).unwrap();
                connects += usize::from(request == UdpRequest::Connect);
                for (strange, datagram) in say(transaction, request) {
                    let by = if strange { &stranger } else { &socket };
                    by.send_to(&datagram, from).unwrap();
                }
            }
        });
        Scripted { addr, thread }
    }

    fn end(self) -> usize {
        let ip = if self.addr.is_ipv4() { "127.0.0.1" } else { "::1" };
        UdpSocket::bind((ip, 0)).unwrap().send_to(&[0], self.addr).unwrap();
        self.thread.join().unwrap()
    }

    fn url(&self) -> String {
        format!("udp://{}/announce", self.addr)
    }
}

/// The answer of a correct tracker.
fn honest(transaction: u32, request: &UdpRequest) -> Vec<u8> {
    let answer = match request {
        UdpRequest::Connect => UdpResponse::Connected(5),
        UdpRequest::Announce(5, _) => {
            UdpResponse::Announced { interval: 900, leechers: 1, seeders: 2, peers: &[9, 9, 9, 9, 0x1a, 0xe1, 7] }
        }
        UdpRequest::Scrape(5, _) => UdpResponse::Scraped(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        _ => UdpResponse::Error(b"connection id"),
    };
    response(transaction, &answer)
}

fn ask(tracker: &Scripted, deadline: Duration) -> Result<AnnounceResponse, TrackerError> {
    UdpTracker::new().announce(&tracker.url(), &Announce::of_port(1, 1, None), deadline)
}

#[test]
fn hostile_datagrams_do_not_disturb_an_honest_answer() {
    let tracker = Scripted::start(|transaction, request| {
        let right = honest(transaction, &request);
        let refusal = |transaction| response(transaction, &UdpResponse::Error(b"go away"));
        vec![
            (false, refusal(transaction.wrapping_add(1))),
            (true, refusal(transaction)),
            (false, vec![]),
            (false, vec![0, 0, 0, 3, 0]),
            (false, vec![0xff; 3000]),
            (false, right.clone()),
            (false, right),
        ]
    });
    let answer = ask(&tracker, PATIENT).unwrap();
    assert_eq!(answer.peers, ["9.9.9.9:6881".parse().unwrap()]);
    assert_eq!((answer.complete, answer.incomplete, answer.interval.as_secs()), (Some(2), Some(1), 900));
    tracker.end();
}

#[test]
fn nothing_but_hostile_datagrams_ends_at_the_deadline() {
    let tracker = Scripted::start(|transaction, request| {
        let right = honest(transaction, &request);
        // A correct answer from another sender, and one with a wrong transaction id.
        vec![(true, right), (false, honest(!transaction, &request)), (false, b"garbage".to_vec())]
    });
    assert_eq!(ask(&tracker, SHORT), Err(TrackerError::Timeout));
    tracker.end();
    let silent = Scripted::start(|_, _| Vec::new());
    assert_eq!(ask(&silent, SHORT), Err(TrackerError::Timeout));
    silent.end();
}

#[test]
fn refusals_and_torn_answers_are_told() {
    let refusing = Scripted::start(|transaction, _| vec![(false, response(transaction, &UdpResponse::Error(b"no\n")))]);
    assert!(matches!(ask(&refusing, PATIENT), Err(TrackerError::Refused(words)) if !words.contains('\n')));
    refusing.end();
    let torn = Scripted::start(|transaction, request| {
        let mut bytes = honest(transaction, &request);
        bytes.truncate(if request == UdpRequest::Connect { 16 } else { 19 });
        vec![(false, bytes)]
    });
    assert!(matches!(ask(&torn, PATIENT), Err(TrackerError::Malformed(_))));
    torn.end();
}

/// An address at which nobody is, and what keeps others away from it: a socket that hears its own peer only.
fn closed() -> (SocketAddr, [UdpSocket; 2]) {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets[0].connect(sockets[1].local_addr().unwrap()).unwrap();
    (sockets[0].local_addr().unwrap(), sockets)
}

#[test]
fn nobody_there_is_told_at_once() {
    let (closed, _kept) = closed();
    let asked =
        UdpTracker::new().announce(&format!("udp://{closed}/announce"), &Announce::of_port(1, 1, None), PATIENT);
    assert!(matches!(asked, Err(TrackerError::Connect(_))), "{asked:?}");
}

#[test]
fn a_connection_id_serves_the_next_announce_too() {
    let tracker = Scripted::start(|transaction, request| vec![(false, honest(transaction, &request))]);
    let client = UdpTracker::new();
    for _ in 0..3 {
        client.clone().announce(&tracker.url(), &Announce::of_port(1, 1, None), PATIENT).unwrap();
    }
    let scraped = client.scrape(&tracker.url(), &[InfoHash([1; 20]), InfoHash([2; 20])], PATIENT).unwrap();
    assert_eq!(scraped, [Some(ScrapeCounts { complete: 1, downloaded: 2, incomplete: 3 }), None]);
    assert_eq!(tracker.end(), 1);
}

#[test]
fn an_id_that_is_refused_is_renewed() {
    let mut given = 4;
    let tracker = Scripted::start(move |transaction, request| {
        // Each id is valid only once.
        let answer = match request {
            UdpRequest::Connect => {
                given += 1;
                UdpResponse::Connected(given)
            }
            UdpRequest::Announce(id, _) if id == given => {
                given += 1;
                UdpResponse::Announced { interval: 900, leechers: 0, seeders: 0, peers: &[] }
            }
            _ => UdpResponse::Error(b"connection id"),
        };
        vec![(false, response(transaction, &answer))]
    });
    let client = UdpTracker::new();
    for _ in 0..2 {
        assert!(client.announce(&tracker.url(), &Announce::of_port(1, 1, None), PATIENT).is_ok());
    }
    assert_eq!(tracker.end(), 2);
}

#[test]
fn a_local_address_is_asked_for_announces_only() {
    let tracker = Scripted::start(|_, _| panic!("this must not be asked"));
    let port = tracker.addr.port();
    for path in ["/x?announce", "/announce/../x", "/%2e%2e/announce", "/announcements", "/x;announce"] {
        let url = format!("udp://localhost:{port}{path}");
        let asked = UdpTracker::new().announce(&url, &Announce::of_port(1, 1, None), PATIENT);
        assert_eq!(asked, Err(TrackerError::Local), "{url}");
    }
    tracker.end();
}

#[test]
fn a_public_address_goes_before_a_local_one_and_one_of_each_family_is_asked() {
    let chosen = |is_local: fn(IpAddr) -> bool, host: &str| {
        let client = UdpTracker::with(is_local);
        let url = format!("udp://{host}:9/announce");
        client.addresses(&UdpUrl::parse(&url).unwrap(), false, client.now() + PATIENT).map(|families| families.concat())
    };
    assert_eq!(chosen(is_local, "192.0.2.1").unwrap(), ["192.0.2.1:9".parse().unwrap()]);
    assert_eq!(chosen(is_local, "[::ffff:127.0.0.1]").unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    let both = chosen(is_local, "localhost").unwrap();
    for url in ["udp://127.0.0.1:9", "udp://127.0.0.1:9/", "udp://127.0.0.1:9/announce?k=1"] {
        let client = UdpTracker::new();
        let asked = client.addresses(&UdpUrl::parse(url).unwrap(), false, client.now() + PATIENT);
        assert_eq!(asked.map(|families| families.concat()), Ok(vec!["127.0.0.1:9".parse().unwrap()]), "{url}");
    }
    assert!(both.iter().filter(|a| a.is_ipv4()).count() <= 1 && both.iter().filter(|a| a.is_ipv6()).count() <= 1);
    if both.len() == 2 {
        assert_eq!(chosen(|ip| ip.is_ipv6(), "localhost").unwrap(), ["127.0.0.1:9".parse().unwrap()]);
    }
    // A label of 64 characters is invalid, so the name is rejected without a query to a name server.
    let nowhere = chosen(is_local, &format!("{}.invalid", "a".repeat(64)));
    assert!(matches!(nowhere, Err(TrackerError::NameLookup { .. })), "{nowhere:?}");
}

#[test]
fn an_address_that_is_silent_or_closed_is_not_waited_for_alone() {
    let (silent, good) = (Scripted::start(|_, _| Vec::new()), Scripted::start(|t, r| vec![(false, honest(t, &r))]));
    let (closed, _kept) = closed();
    for first in [vec![closed], vec![silent.addr], vec![closed, silent.addr]] {
        let client = UdpTracker::new();
        let report = Announce::of_port(1, 1, None);
        let addresses = [first.as_slice(), &[good.addr]].concat();
        let replies = client
            .run_exchanges(&[addresses], TrackerQuery::Announce(&report, "/announce"), client.now() + PATIENT)
            .unwrap();
        assert_eq!(replies.len(), 1, "{first:?}");
    }
    silent.end();
    good.end();
}

#[test]
fn two_addresses_give_one_answer() {
    let answer = |peers: &[&str], interval, seeds| AnnounceResponse {
        peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
        private_dropped: 0,
        names: Vec::new(),
        interval: Duration::from_secs(interval),
        min_interval: None,
        complete: seeds,
        incomplete: None,
        warning: None,
        tracker_id: None,
        external_ip: None,
    };
    let both = answer(&["1.2.3.4:5"], 60, Some(1)).merged(answer(&["[2001:db8::1]:5", "1.2.3.4:5"], 90, Some(2)));
    assert_eq!(both, answer(&["1.2.3.4:5", "[2001:db8::1]:5"], 90, Some(2)));
}

/// Treats each address as a family of its own.
fn each(addresses: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    addresses.iter().map(|addr| vec![*addr]).collect()
}

/// Sends to all `addresses` at once, with a deadline of an hour: a test that waits for it hangs.
fn talk(addresses: &[SocketAddr]) -> Result<Vec<Reply>, TrackerError> {
    let client = UdpTracker::new();
    client.run_exchanges(
        &each(addresses),
        TrackerQuery::Announce(&Announce::of_port(1, 1, None), ""),
        client.now() + Duration::from_secs(3600),
    )
}

#[test]
fn an_address_that_answers_does_not_wait_for_one_that_does_not() {
    let willing = Scripted::start(|transaction, request| vec![(false, honest(transaction, &request))]);
    let silent = Scripted::start(|_, _| Vec::new());
    let (closed, _kept) = closed();
    assert_eq!(talk(&[silent.addr, willing.addr, closed]).map(|replies| replies.len()), Ok(1));
    silent.end();
    let second = Scripted::start(|transaction, request| vec![(false, honest(transaction, &request))]);
    assert_eq!(talk(&[second.addr, willing.addr]).map(|replies| replies.len()), Ok(2));
    second.end();
    willing.end();
    let refusing = Scripted::start(|transaction, _| vec![(false, response(transaction, &UdpResponse::Error(b"no")))]);
    assert_eq!(talk(&[closed, refusing.addr]), Err(TrackerError::Refused("no".into())), "its word is worth more");
    refusing.end();
}

#[test]
fn a_failed_send_is_not_waited_for() {
    let tracker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (client, addr) = (UdpTracker::new(), tracker.local_addr().unwrap());
    let socket = connected(addr, &Bind::Any).unwrap();
    socket2::SockRef::from(&socket).shutdown(std::net::Shutdown::Write).unwrap();
    client.keep(addr, socket, Some(ConnectionId { id: 1, since: client.now() }));
    let end = client.now() + Duration::from_secs(3600);
    let replies = client.run_exchanges(&each(&[addr]), TrackerQuery::Announce(&Announce::of_port(1, 1, None), ""), end);
    assert!(matches!(replies, Err(TrackerError::Connect(_))), "{replies:?}");
}

#[test]
fn stopping_at_one_tracker_forgets_only_its_connection() {
    let [one, other] =
        [(); 2].map(|()| Scripted::start(|transaction, request| vec![(false, honest(transaction, &request))]));
    let client = UdpTracker::new();
    let announce =
        |tracker: &Scripted, event| client.announce(&tracker.url(), &Announce::of_port(1, 1, event), PATIENT).unwrap();
    for tracker in [&one, &other] {
        announce(tracker, Some(AnnounceEvent::Started));
    }
    announce(&one, Some(AnnounceEvent::Stopped));
    assert_eq!(client.connections.lock().keys().copied().collect::<Vec<_>>(), [other.addr]);
    announce(&other, None);
    assert_eq!((one.end(), other.end()), (1, 1), "connection ids");
}

#[test]
fn both_families_are_asked_at_once() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        eprintln!("not run: there is no IPv6 loopback here");
        return;
    };
    let answers = |transaction, request: UdpRequest| vec![(false, honest(transaction, &request))];
    let (four, six) = (Scripted::start(answers), Scripted::on(socket, answers));
    assert_eq!(talk(&[four.addr, six.addr]).map(|replies| replies.len()), Ok(2));
    assert_eq!((four.end(), six.end()), (1, 1), "connection ids");
}
