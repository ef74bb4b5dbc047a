//! The exchange, driven by a simulated clock.

use super::*;
use crate::discovery::tracker::udp::packet::{UdpRequest, parse_request, response};
use crate::types::PeerId;

const FOREVER: Duration = Duration::from_secs(100_000);
const PEERS: [u8; 6] = [9, 9, 9, 9, 0x1a, 0xe1];
const ANSWER: UdpResponse<'static> = UdpResponse::Announced { interval: 900, leechers: 2, seeders: 3, peers: &PEERS };

const A: Announce<'static> = Announce {
    info_hash: InfoHash([1; 20]),
    peer_id: PeerId([2; 20]),
    port: 1,
    uploaded: 0,
    downloaded: 0,
    left: 1,
    key: 0,
    numwant: 1,
    event: None,
    tracker_id: None,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tracker() -> SocketAddr {
    "192.0.2.1:6969".parse().unwrap()
}

fn exchange(old: Option<ConnectionId>, deadline: Duration) -> Exchange<'static> {
    Exchange::begin(s(0), tracker(), TrackerQuery::Announce(&A, ""), old, deadline, Random::seeded(1))
}

/// The due datagram: its transaction id, and its connection id if it is an announce.
fn send(e: &mut Exchange, now: Duration) -> Option<(u32, Option<u64>)> {
    let sent = e.next_datagram(now)?;
    match parse_request(&sent).unwrap() {
        (transaction, UdpRequest::Connect) => Some((transaction, None)),
        (transaction, UdpRequest::Announce(id, _)) => Some((transaction, Some(id))),
        (_, UdpRequest::Scrape(..)) => panic!("nobody asked for a scrape"),
    }
}

/// Advances the exchange until it has announced with connection id 7.
fn announced(now: Duration, deadline: Duration) -> (Exchange<'static>, u32) {
    let mut e = exchange(None, deadline);
    let (transaction, None) = send(&mut e, now).unwrap() else { panic!("no connect request") };
    assert!(e.receive(now, tracker(), &response(transaction, &UdpResponse::Connected(7))).is_none());
    let (transaction, id) = send(&mut e, now).unwrap();
    assert_eq!(id, Some(7));
    (e, transaction)
}

#[test]
fn a_connection_id_then_an_answer() {
    let (mut e, transaction) = announced(s(0), FOREVER);
    let Some(Ok(Reply::Announced(answer))) = e.receive(s(1), tracker(), &response(transaction, &ANSWER)) else {
        panic!()
    };
    assert_eq!(answer.peers, ["9.9.9.9:6881".parse().unwrap()]);
    assert_eq!((answer.interval, answer.complete, answer.incomplete), (s(900), Some(3), Some(2)));
    assert_eq!(e.connection(), Some(ConnectionId { id: 7, since: s(0) }));
}

#[test]
fn over_ipv6_the_addresses_are_ipv6() {
    let six: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let old = Some(ConnectionId { id: 7, since: s(0) });
    let mut e = Exchange::begin(s(0), six, TrackerQuery::Announce(&A, ""), old, FOREVER, Random::seeded(1));
    let (transaction, _) = send(&mut e, s(0)).unwrap();
    let mut peers = Vec::new();
    compact::write_addr(&mut peers, "[2001:db8::2]:6881".parse().unwrap());
    let bytes = response(transaction, &UdpResponse::Announced { interval: 0, leechers: 0, seeders: 0, peers: &peers });
    let Some(Ok(Reply::Announced(answer))) = e.receive(s(1), six, &bytes) else { panic!() };
    assert_eq!(answer.peers, ["[2001:db8::2]:6881".parse().unwrap()]);
    assert_eq!(answer.interval, announce::DEFAULT_INTERVAL);
}

#[test]
fn the_schedule_is_that_of_the_bep_after_an_early_repetition() {
    // The example "Connect times out" in BEP 15.
    let mut e = exchange(None, FOREVER);
    for at in [0, 3, 18, 48, 108] {
        assert_eq!(e.due(), s(at));
        assert!(at == 0 || send(&mut e, s(at).saturating_sub(Duration::from_millis(1))).is_none());
        assert_eq!(send(&mut e, s(at)).unwrap().1, None);
    }
    // The example "Announce times out", two seconds later than in the BEP.
    let (mut e, first) = announced(s(0), FOREVER);
    for at in [3, 18, 48] {
        assert_eq!(e.due(), s(at));
        assert_eq!(send(&mut e, s(at)), Some((first, Some(7))), "a repetition has the same transaction id");
    }
    assert_eq!(e.due(), s(108));
    let (second, None) = send(&mut e, s(108)).unwrap() else { panic!("the connection id has expired") };
    assert_ne!(first, second);
    assert_eq!(e.due(), s(228));
}

#[test]
fn the_wait_stops_growing() {
    let mut e = exchange(None, FOREVER);
    let mut before = s(0);
    for n in 0..14 {
        let at = e.due();
        assert!(n == 0 || at <= before + s(3840));
        before = at;
        assert!(send(&mut e, at).is_some());
    }
    assert_eq!(e.due(), before + s(3840));
}

#[test]
fn the_deadline_ends_the_exchange() {
    let mut e = exchange(None, s(30));
    assert!(send(&mut e, s(0)).is_some() && send(&mut e, s(15)).is_some());
    assert_eq!(e.due(), s(30));
    assert!(e.is_over(s(30)) && send(&mut e, s(45)).is_none());
}

#[test]
fn strangers_and_wrong_ids_are_not_heard() {
    let (mut e, transaction) = announced(s(0), FOREVER);
    let right = response(transaction, &ANSWER);
    for from in ["192.0.2.2:6969", "192.0.2.1:6970", "[2001:db8::1]:6969"] {
        assert!(e.receive(s(1), from.parse().unwrap(), &right).is_none(), "{from}");
    }
    let refusal = response(transaction.wrapping_add(1), &UdpResponse::Error(b"no"));
    for wrong in [response(!transaction, &ANSWER), refusal, right[..7].to_vec(), vec![], vec![0xff; 100]] {
        assert!(e.receive(s(1), tracker(), &wrong).is_none());
    }
    assert!(e.receive(s(1), tracker(), &right).is_some_and(|reply| reply.is_ok()));
}

#[test]
fn nothing_is_heard_before_something_was_sent() {
    let mut e = exchange(None, FOREVER);
    let transaction = e.transaction;
    assert!(e.receive(s(0), tracker(), &response(transaction, &UdpResponse::Error(b"no"))).is_none());
}

#[test]
fn nonsense_under_the_right_id_ends_the_exchange() {
    let torn = |transaction: u32| response(transaction, &ANSWER)[..19].to_vec();
    let scraped = |transaction: u32| response(transaction, &UdpResponse::Scraped(&[0; 12]));
    let connected = |transaction: u32| response(transaction, &UdpResponse::Connected(8));
    for bytes in [torn, scraped, connected] {
        let (mut e, transaction) = announced(s(0), FOREVER);
        let heard = e.receive(s(1), tracker(), &bytes(transaction));
        assert!(matches!(heard, Some(Err(TrackerError::Malformed(_)))), "{heard:?}");
    }
    let mut e = exchange(None, FOREVER);
    let (transaction, _) = send(&mut e, s(0)).unwrap();
    let heard = e.receive(s(1), tracker(), &response(transaction, &ANSWER));
    assert!(matches!(heard, Some(Err(TrackerError::Malformed(_)))), "an answer before the question");
}

#[test]
fn a_refusal_is_told_in_clean_words() {
    let (mut e, transaction) = announced(s(0), FOREVER);
    let heard = e.receive(s(1), tracker(), &response(transaction, &UdpResponse::Error(b"no\x1b[31m\n")));
    let Some(Err(TrackerError::Refused(words))) = heard else { panic!("{heard:?}") };
    assert!(words.starts_with("no") && !words.contains(['\x1b', '\n']), "{words:?}");
}

#[test]
fn an_old_id_serves_within_its_minute() {
    let old = |since| Some(ConnectionId { id: 9, since });
    let mut e = Exchange::begin(s(59), tracker(), TrackerQuery::Announce(&A, ""), old(s(0)), FOREVER, Random::system());
    assert_eq!(send(&mut e, s(59)).unwrap().1, Some(9));
    let mut e = Exchange::begin(s(60), tracker(), TrackerQuery::Announce(&A, ""), old(s(0)), FOREVER, Random::system());
    assert_eq!(send(&mut e, s(60)).unwrap().1, None);
}

#[test]
fn an_old_id_that_the_tracker_has_forgotten_is_renewed_once() {
    let old = Some(ConnectionId { id: 9, since: s(0) });
    // The tracker reports it.
    let mut e = exchange(old, FOREVER);
    let (transaction, _) = send(&mut e, s(0)).unwrap();
    assert!(e.receive(s(1), tracker(), &response(transaction, &UdpResponse::Error(b"connection id"))).is_none());
    let (transaction, None) = send(&mut e, s(1)).unwrap() else { panic!("no connect request") };
    e.receive(s(1), tracker(), &response(transaction, &UdpResponse::Connected(10)));
    let (transaction, id) = send(&mut e, s(1)).unwrap();
    assert_eq!(id, Some(10));
    let refused = e.receive(s(2), tracker(), &response(transaction, &UdpResponse::Error(b"no")));
    assert_eq!(refused, Some(Err(TrackerError::Refused("no".into()))));
    // A new id is renewed, once, if the tracker's error mentions it.
    let (mut e, transaction) = announced(s(0), FOREVER);
    assert!(
        e.receive(s(1), tracker(), &response(transaction, &UdpResponse::Error(b"Connection ID mismatch"))).is_none()
    );
    let (transaction, None) = send(&mut e, s(1)).unwrap() else { panic!("no connect request") };
    e.receive(s(1), tracker(), &response(transaction, &UdpResponse::Connected(10)));
    let (transaction, Some(10)) = send(&mut e, s(1)).unwrap() else { panic!("no announce") };
    let refused = e.receive(s(2), tracker(), &response(transaction, &UdpResponse::Error(b"Connection ID mismatch")));
    assert!(matches!(refused, Some(Err(TrackerError::Refused(_)))), "{refused:?}");
    // The tracker does not respond.
    let mut e = exchange(old, FOREVER);
    assert_eq!(send(&mut e, s(0)).unwrap().1, Some(9));
    assert_eq!(send(&mut e, s(15)).unwrap().1, None);
}

#[test]
fn a_scrape_gives_no_more_than_was_asked_for() {
    let swarms = [InfoHash([1; 20]), InfoHash([2; 20])];
    let old = Some(ConnectionId { id: 9, since: s(0) });
    let mut e = Exchange::begin(s(0), tracker(), TrackerQuery::Scrape(&swarms), old, FOREVER, Random::system());
    let sent = e.next_datagram(s(0)).unwrap();
    let (transaction, UdpRequest::Scrape(9, hashes)) = parse_request(&sent).unwrap() else { panic!() };
    assert_eq!(hashes, [[1; 20], [2; 20]].concat());
    let heard = e.receive(s(0), tracker(), &response(transaction, &UdpResponse::Scraped(&[1; 40])));
    let Some(Ok(Reply::Scraped(figures))) = heard else { panic!("{heard:?}") };
    assert_eq!(figures.len(), 2);
    assert_eq!(figures[0], ScrapeCounts { complete: 0x0101_0101, downloaded: 0x0101_0101, incomplete: 0x0101_0101 });
}
