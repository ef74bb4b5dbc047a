use std::net::Ipv6Addr;

use super::*;
use crate::strategy::quality::canonical_priority;

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

#[test]
fn a_failed_call_is_repeated_later_and_later_and_then_no_more() {
    let mut book = Book::default();
    let named = [addr(1), addr(1), SocketAddr::from(([10, 0, 0, 2], 0)), SocketAddr::from(([0, 0, 0, 2], 5))];
    assert_eq!(book.add(&named, Source::Tracker), 1);
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for n in 0..=MAX_FAILURES {
        assert_eq!(book.callable(now, 9), [addr(1)]);
        book.calling(addr(1), PeerKey(n));
        assert!(book.callable(now, 9).is_empty());
        book.lost(addr(1), PeerKey(n), now, false);
        assert!(book.callable(now, 9).is_empty());
        if let Some(next) = book.next_call() {
            pauses.push(next.saturating_sub(now));
            now = next;
        }
    }
    assert_eq!(pauses.len(), MAX_FAILURES as usize);
    // Each is twice the last one give or take a quarter, until the longest is reached.
    assert!(pauses[..6].windows(2).all(|p| p[0] < p[1]), "{pauses:?}");
    assert_eq!(book.len(), 0);
}

#[test]
fn offenders_are_neither_called_nor_let_in_until_their_ban_ends() {
    let (mut book, now, later) = (Book::default(), Duration::from_secs(1), Duration::from_secs(3601));
    book.add(&[addr(1), addr(9)], Source::Tracker);
    book.ban(addr(1), false, now);
    assert_eq!(book.callable(now, 9), [addr(9)]);
    assert!(book.refuses(&addr(1), now) && !book.refuses(&addr(1), later));
    let caller = SocketAddr::from(([10, 0, 0, 9], 50_000));
    book.ban(caller, true, now);
    assert!(book.refuses(&SocketAddr::from(([10, 0, 0, 9], 50_001)), now));
    assert!(book.callable(now, 9).is_empty() && book.next_call() == Some(later));
    assert!(!book.refuses(&caller, later) && book.callable(later, 9).len() == 2);
    book.forget(now);
    assert!(book.len() == 1 && book.refuses(&addr(1), now) && book.refuses(&caller, now));
    book.ban(SocketAddr::from(([127, 0, 0, 1], 5)), true, now);
    assert!(!book.refuses(&SocketAddr::from(([127, 0, 0, 1], 6)), now));
}

#[test]
fn good_givers_are_called_first_then_by_priority() {
    let (mut book, now) = (Book::default(), Duration::from_secs(100));
    let all: Vec<_> = (1..=50).map(|n| SocketAddr::from(([n, 7, 7, 7], 1))).collect();
    book.add(&all, Source::Tracker);
    let ours = SocketAddr::from(([200, 1, 2, 3], 6881));
    book.set_ours(ours);
    book.record(all[7]).expect("known").gave(now, 1 << 20, 1 << 20);
    book.record(all[8]).expect("known").hash_failed();
    let order = book.callable(now, 50);
    assert_eq!((order[0], order[49]), (all[7], all[8]));
    assert!(order[1..49].is_sorted_by_key(|a| std::cmp::Reverse(canonical_priority(ours, *a))));
}

#[test]
fn bans_are_bounded() {
    let mut book = Book::default();
    for n in 0..5000u16 {
        let ip = [10, 1, (n >> 8) as u8, n as u8];
        book.ban(SocketAddr::from((ip, 1)), true, Duration::from_secs(n.into()));
    }
    assert_eq!(book.banned.len(), MAX_BANNED);
    assert!(book.refuses(&SocketAddr::from(([10, 1, 19, 135], 7)), Duration::from_secs(5000)));
}

#[test]
fn who_does_not_answer_is_called_the_other_way_once_at_once_and_then_after_pauses() {
    let mut book = Book::new(Encryption::Prefer);
    book.add(&[addr(1)], Source::Tracker);
    let now = Duration::from_secs(5);
    assert_eq!(book.opening(&addr(1)), Opening::Plain);
    book.calling(addr(1), PeerKey(1));
    assert!(!book.unanswered(addr(1), PeerKey(9)), "that is another connection");
    assert!(book.unanswered(addr(1), PeerKey(1)));
    assert_eq!((book.callable(now, 9), book.opening(&addr(1))), (vec![addr(1)], Opening::Encrypted));
    book.calling(addr(1), PeerKey(2));
    assert!(!book.unanswered(addr(1), PeerKey(2)), "both ways have been tried");
    book.lost(addr(1), PeerKey(2), now, false);
    assert_eq!((book.callable(now, 9), book.opening(&addr(1))), (vec![], Opening::Plain));

    // What worked is remembered, and after that the other way is worth a try again.
    book.calling(addr(1), PeerKey(3));
    assert!(!book.unanswered(addr(1), PeerKey(3)));
    book.lost(addr(1), PeerKey(3), now, false);
    book.calling(addr(1), PeerKey(4));
    book.reached(addr(1), now);
    book.lost(addr(1), PeerKey(4), now, true);
    assert_eq!(book.opening(&addr(1)), Opening::Encrypted);
    book.calling(addr(1), PeerKey(5));
    assert!(book.unanswered(addr(1), PeerKey(5)));
}

#[test]
fn with_one_opening_there_is_no_other() {
    for (encryption, opening) in [(Encryption::Off, Opening::Plain), (Encryption::Require, Opening::Encrypted)] {
        let mut book = Book::new(encryption);
        book.add(&[addr(1)], Source::Tracker);
        book.calling(addr(1), PeerKey(1));
        assert!(!book.unanswered(addr(1), PeerKey(1)));
        assert_eq!(book.opening(&addr(1)), opening);
    }
}

/// Public addresses, each of a network of its own.
fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x1400_0000 + n * 0x0000_0301).to_be_bytes(), 6881))
}

fn publics(range: std::ops::Range<u32>) -> Vec<SocketAddr> {
    range.map(public).collect()
}

#[test]
fn better_sources_come_first_and_leave_room_for_what_trackers_say() {
    let (mut book, now) = (Book::default(), Duration::from_secs(1));
    assert_eq!(book.add(&publics(0..5000), Source::Pex), MAX_UNVERIFIED);
    let known = book.callable(now, 1)[0];
    assert_eq!(book.add(&[addr(1), known], Source::Tracker), 1);
    book.add(&[addr(2)], Source::User);
    book.add(&[addr(3)], Source::Neighbour);
    let mut first = book.callable(now, 4);
    assert_eq!(first[..2], [addr(2), addr(3)]);
    first[2..].sort_unstable();
    assert_eq!(first[2..], [addr(1), known], "a tracker vouches for it now");
    book.add(&[addr(1)], Source::Dht);
    assert!(book.callable(now, 4).contains(&addr(1)));
}

#[test]
fn the_book_is_bounded_and_a_long_answer_is_sampled_at_random() {
    let answer = publics(0..50_000);
    let [one, other] = [Book::default(), Book::default()].map(|mut book| {
        book.rng = fastrand::Rng::with_seed(fastrand::u64(..));
        assert_eq!(book.add(&answer, Source::Tracker), MAX_KNOWN);
        assert_eq!(book.len(), MAX_KNOWN);
        book.entries.into_keys().collect::<std::collections::HashSet<_>>()
    });
    assert!(one.iter().any(|addr| answer[40_000..].contains(addr)), "not only the first of them");
    assert_ne!(one, other);
}

/// Nobody can have us connect to many ports of a host that is no peer.
#[test]
fn a_host_is_tried_on_a_few_ports() {
    let ports = |ip: &str| -> Vec<_> {
        (2000..4000).map(|port| SocketAddr::new(ip.parse().expect("an address"), port)).collect()
    };
    for (source, host, v6, private) in [(Source::Tracker, 4, 4, 256), (Source::Pex, 1, 1, 64), (Source::Dht, 1, 1, 64)]
    {
        let known = |ip| Book::default().add(&ports(ip), source);
        assert_eq!((known("203.0.113.5"), known("2001:db8::5"), known("127.0.0.1")), (host, v6, private), "{source:?}");
        let network: Vec<_> =
            (1..1000_u128).map(|n| SocketAddr::new(Ipv6Addr::from(0x2a00 << 112 | n).into(), 6881)).collect();
        assert_eq!(Book::default().add(&network, source), 4 * host, "{source:?}");
    }
    let mut book = Book::default();
    assert_eq!(book.add(&ports("203.0.113.5"), Source::User), 2000, "the user knows");
    // Different sources together are no better than one, and each may say it again and again.
    let mut book = Book::default();
    for source in [Source::Dht, Source::Pex, Source::Tracker, Source::Pex, Source::Tracker] {
        book.add(&ports("203.0.113.5"), source);
    }
    assert_eq!(book.len(), 4);
}

/// Also not by filling the book, so that the host's entries give way: what was dialled is remembered apart from them.
#[test]
fn a_host_is_tried_on_a_few_ports_however_full_the_book_is() {
    for (source, most) in [(Source::Pex, 1), (Source::Tracker, 4)] {
        let (mut book, mut dialled) = (Book::default(), std::collections::HashSet::new());
        book.add(&publics(0..3000), source);
        for round in 1..45_u32 {
            let now = Duration::from_secs(round.into());
            book.set_time(now);
            let port = |n| SocketAddr::from(([203, 0, 113, 5], (round * 10 + n) as u16 + 2000));
            book.add(&(0..5).map(port).collect::<Vec<_>>(), source);
            book.add(&publics(round * 100 + 3000..round * 100 + 3100), source);
            for (key, addr) in book.callable(now, 100).into_iter().enumerate() {
                dialled.extend(Some(addr).filter(|addr| addr.ip() == port(0).ip()));
                book.calling(addr, PeerKey(key as u32));
                book.lost(addr, PeerKey(key as u32), now, false);
            }
        }
        assert!(dialled.len() <= most, "{} ports, named by {source:?}", dialled.len());
    }
}

/// Peers tell us what our address is, and with it the priority of BEP 40: those that they name do not come first by it.
#[test]
fn a_false_address_of_ours_brings_no_address_of_a_stranger_to_the_front() {
    let first = |ours| {
        let mut book = Book { rng: fastrand::Rng::with_seed(1), ..Book::default() };
        book.add(&publics(0..50), Source::Pex);
        book.set_ours(ours);
        book.callable(Duration::from_secs(1), 50)
    };
    assert_eq!(first(addr(1)), first(SocketAddr::from(([200, 1, 2, 3], 6881))));
}

/// A link is no better than a tracker, and a port of a known service in it is no better than in a peer's message.
#[test]
fn a_links_peers_are_those_of_a_stranger() {
    let mut book = Book::default();
    let ports: Vec<_> = (1..200).map(|port| SocketAddr::from(([203, 0, 113, 5], port))).collect();
    assert_eq!(book.add(&ports, Source::Link), 4);
    book.add(&[public(1)], Source::Dht);
    assert_eq!(book.callable(Duration::ZERO, 9), [public(1)], "what may be another service waits");
}

#[test]
fn a_host_whose_ports_prove_to_be_peers_may_have_many() {
    let ports: Vec<_> = (2000..2040).map(|port| SocketAddr::from(([203, 0, 113, 5], port))).collect();
    let (mut book, now) = (Book::default(), Duration::from_secs(1));
    for round in 1..=10 {
        assert_eq!(book.add(&ports, Source::Tracker), 4, "round {round}");
        for addr in book.callable(now, 99) {
            book.calling(addr, PeerKey(u32::from(addr.port())));
            book.reached(addr, now);
        }
    }
    assert_eq!(book.len(), 40);
}

#[test]
fn ports_of_other_services_are_called_only_where_nothing_else_is_known() {
    let (mut book, now) = (Book::default(), Duration::from_secs(1));
    let web = SocketAddr::from(([203, 0, 113, 5], 443));
    book.add(&[web], Source::Pex);
    assert_eq!((book.callable(now, 9), book.next_call()), (vec![web], Some(Duration::ZERO)), "better than nothing");
    book.add(&[public(1)], Source::Dht);
    assert_eq!(book.callable(now, 9), [public(1)]);
    book.calling(public(1), PeerKey(1));
    assert_eq!((book.callable(now, 9), book.next_call()), (vec![], None));
    book.add(&[web], Source::Tracker);
    assert_eq!(book.callable(now, 9), [web], "a tracker vouches for it");
}

/// Dead addresses that fill the list keep no good address out.
#[test]
fn dead_addresses_give_way_to_new_ones() {
    let now = Duration::from_secs(1);
    for (source, many) in [(Source::Pex, 2000), (Source::Dht, 2000), (Source::Tracker, 3000)] {
        let mut book = Book::default();
        assert_eq!(book.add(&publics(0..many), source), many as usize);
        // None has been tried yet: a message of the same kind, and an answer of a tracker, get in by chance.
        assert_eq!(book.add(&publics(9000..9050), source), 50, "{source:?}");
        assert_eq!(book.add(&publics(9900..9950), Source::Tracker), 50, "{source:?}");
        assert!(book.len() <= MAX_KNOWN);
        for (key, addr) in book.callable(now, MAX_KNOWN).into_iter().enumerate() {
            book.calling(addr, PeerKey(key as u32));
            book.lost(addr, PeerKey(key as u32), now, false);
        }
        let good = public(10_000);
        assert_eq!(book.add(&[good], source), 1, "{source:?}");
        assert_eq!(book.callable(now, 9), [good], "{source:?}");
    }
}

#[test]
fn who_proved_to_be_a_peer_is_not_pushed_out() {
    let (mut book, now) = (Book::default(), Duration::from_secs(1));
    let (good, users, banned) = (public(1), public(2), public(3));
    book.add(&[good, banned], Source::Pex);
    book.add(&[users], Source::User);
    book.reached(good, now);
    for addr in [good, users, banned] {
        book.calling(addr, PeerKey(1));
        book.lost(addr, PeerKey(1), now, false);
    }
    book.ban(banned, false, now);
    for n in 1..20 {
        book.add(&publics(n * 10_000..n * 10_000 + 5000), if n % 2 == 0 { Source::Pex } else { Source::Tracker });
    }
    assert!(book.len() == MAX_KNOWN && [good, users, banned].iter().all(|addr| book.entries.contains_key(addr)));
}

/// A long list does not push out all that others named and nobody has tried.
#[test]
fn a_long_answer_displaces_few() {
    let mut book = Book::default();
    book.add(&publics(0..3000), Source::Tracker);
    assert_eq!(book.add(&publics(10_000..40_000), Source::Tracker), 200);
}

#[test]
fn a_peer_that_we_need_is_called_again_soon() {
    let (mut book, now) = (Book::default(), Duration::from_secs(100));
    book.add(&[addr(1)], Source::Tracker);
    book.add(&[public(2)], Source::Pex);
    for (addr, key) in [(addr(1), PeerKey(1)), (public(2), PeerKey(2))] {
        book.calling(addr, key);
        book.lost(addr, key, now, false);
    }
    let pause = |book: &Book| book.next_call().expect("a call").as_secs_f64() - now.as_secs_f64();
    assert!(pause(&book) > 20.0);
    assert!(book.set_in_need(true) && !book.set_in_need(true));
    assert!((1.0..3.0).contains(&pause(&book)));
    assert_eq!(book.callable(now + Duration::from_secs(3), 9), [addr(1)], "strangers' addresses are not hammered");
    book.set_in_need(false);
    assert!(pause(&book) > 20.0);
}

#[test]
fn several_addresses_of_one_peer_are_not_called_while_it_is_connected() {
    let (mut book, now) = (Book::default(), Duration::from_secs(1));
    book.add(&[addr(1), addr(2)], Source::Tracker);
    book.calling(addr(1), PeerKey(1));
    book.leads_to(addr(2), PeerKey(1), now);
    assert!(book.callable(now, 9).is_empty());
    assert_eq!(book.next_call(), Some(now + LINK), "whoever said so may have lied");
    book.lost(addr(1), PeerKey(1), now, true);
    assert_eq!(book.callable(now, 9), [addr(2)]);

    // Two connections turned out to be one peer's.
    book.calling(addr(2), PeerKey(2));
    book.merged(PeerKey(2), PeerKey(3), now);
    book.lost(addr(2), PeerKey(2), now, false);
    assert!(book.callable(now, 9).is_empty(), "it is connected by the other");
    book.lost(addr(9), PeerKey(3), now, false);
    assert_eq!(book.callable(now, 9), [addr(2)], "and is not to blame");
}

#[test]
fn the_users_addresses_are_never_given_up() {
    let (mut book, mut now) = (Book::default(), Duration::ZERO);
    book.add(&[addr(1)], Source::User);
    for n in 0..30 {
        now = book.next_call().expect("it is called again");
        book.calling(addr(1), PeerKey(n));
        book.lost(addr(1), PeerKey(n), now, false);
    }
    assert!(now > FORGET_AFTER * 3);
}
