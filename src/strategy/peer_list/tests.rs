use std::net::Ipv6Addr;

use super::aliases::{ALIAS_PAUSE, USER_ALIAS_PAUSE};
use super::*;
use crate::strategy::quality::canonical_priority;

pub(super) fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

#[test]
fn a_failed_dial_is_repeated_later_and_later_and_then_no_more() {
    let mut peer_list = PeerList::default();
    let named = [addr(1), addr(1), SocketAddr::from(([10, 0, 0, 2], 0)), SocketAddr::from(([0, 0, 0, 2], 5))];
    assert_eq!(peer_list.add(&named, PeerSource::Tracker), 1);
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for n in 0..=MAX_FAILURES {
        assert_eq!(peer_list.dial_candidates(now, 9), [addr(1)]);
        peer_list.note_dialed(addr(1), PeerKey(n));
        assert!(peer_list.dial_candidates(now, 9).is_empty());
        peer_list.disconnected(addr(1), PeerKey(n), now, false);
        assert!(peer_list.dial_candidates(now, 9).is_empty());
        if let Some(next) = peer_list.next_dial() {
            pauses.push(next.saturating_sub(now));
            now = next;
        }
    }
    assert_eq!(pauses.len(), MAX_FAILURES as usize);
    // Each pause is twice the previous one, give or take a quarter, up to the longest.
    assert!(pauses[..6].windows(2).all(|p| p[0] < p[1]), "{pauses:?}");
    assert_eq!(peer_list.len(), 0);
}

#[test]
fn banned_peers_are_neither_dialed_nor_accepted_until_their_ban_ends() {
    let (mut peer_list, now, later) = (PeerList::default(), Duration::from_secs(1), Duration::from_secs(3601));
    peer_list.add(&[addr(1), addr(9)], PeerSource::Tracker);
    peer_list.ban(addr(1), false, now);
    assert_eq!(peer_list.dial_candidates(now, 9), [addr(9)]);
    assert!(peer_list.is_refused(&addr(1), now) && !peer_list.is_refused(&addr(1), later));
    let incoming = SocketAddr::from(([10, 0, 0, 9], 50_000));
    peer_list.ban(incoming, true, now);
    assert!(peer_list.is_refused(&SocketAddr::from(([10, 0, 0, 9], 50_001)), now));
    assert!(peer_list.dial_candidates(now, 9).is_empty() && peer_list.next_dial() == Some(later));
    assert!(!peer_list.is_refused(&incoming, later) && peer_list.dial_candidates(later, 9).len() == 2);
    peer_list.forget(now);
    assert!(peer_list.len() == 1 && peer_list.is_refused(&addr(1), now) && peer_list.is_refused(&incoming, now));
    peer_list.ban(SocketAddr::from(([127, 0, 0, 1], 5)), true, now);
    assert!(!peer_list.is_refused(&SocketAddr::from(([127, 0, 0, 1], 6)), now));
}

#[test]
fn fast_uploaders_are_dialed_first_then_by_priority() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(100));
    let all: Vec<_> = (1..=50).map(|n| SocketAddr::from(([n, 7, 7, 7], 1))).collect();
    peer_list.add(&all, PeerSource::Tracker);
    let ours = SocketAddr::from(([200, 1, 2, 3], 6881));
    peer_list.set_ours(ours);
    peer_list.record(all[7]).expect("known").record_delivered(now, 1 << 20, 1 << 20);
    peer_list.record(all[8]).expect("known").hash_failed();
    let order = peer_list.dial_candidates(now, 50);
    assert_eq!((order[0], order[49]), (all[7], all[8]));
    assert!(order[1..49].is_sorted_by_key(|a| std::cmp::Reverse(canonical_priority(ours, *a))));
}

#[test]
fn bans_are_bounded() {
    let mut peer_list = PeerList::default();
    for n in 0..5000u16 {
        let ip = [10, 1, (n >> 8) as u8, n as u8];
        peer_list.ban(SocketAddr::from((ip, 1)), true, Duration::from_secs(n.into()));
    }
    assert_eq!(peer_list.banned.len(), MAX_BANNED);
    assert!(peer_list.is_refused(&SocketAddr::from(([10, 1, 19, 135], 7)), Duration::from_secs(5000)));
}

#[test]
fn an_unanswered_handshake_is_tried_the_other_way_at_once_and_then_after_pauses() {
    let mut peer_list = PeerList::new(Encryption::Allow);
    peer_list.add(&[addr(1)], PeerSource::Tracker);
    let now = Duration::from_secs(5);
    assert_eq!(peer_list.dial_mode(&addr(1)), DialMode::Plain);
    peer_list.note_dialed(addr(1), PeerKey(1));
    assert!(!peer_list.note_unanswered(addr(1), PeerKey(9)), "that is another connection");
    assert!(peer_list.note_unanswered(addr(1), PeerKey(1)));
    assert_eq!(
        (peer_list.dial_candidates(now, 9), peer_list.dial_mode(&addr(1))),
        (vec![addr(1)], DialMode::Encrypted)
    );
    peer_list.note_dialed(addr(1), PeerKey(2));
    assert_eq!(peer_list.first_transport(&addr(1)), Transport::Tcp);
    assert!(!peer_list.note_unanswered(addr(1), PeerKey(2)), "both ways have been tried");
    assert_eq!(peer_list.first_transport(&addr(1)), Transport::Utp, "something else may listen at the other port");
    peer_list.disconnected(addr(1), PeerKey(2), now, false);
    assert_eq!((peer_list.dial_candidates(now, 9), peer_list.dial_mode(&addr(1))), (vec![], DialMode::Plain));

    // The opening that worked is remembered, and after that the other one may be tried again.
    peer_list.note_dialed(addr(1), PeerKey(3));
    assert!(!peer_list.note_unanswered(addr(1), PeerKey(3)));
    peer_list.disconnected(addr(1), PeerKey(3), now, false);
    peer_list.note_dialed(addr(1), PeerKey(4));
    peer_list.reached(addr(1), now);
    peer_list.disconnected(addr(1), PeerKey(4), now, true);
    assert_eq!(peer_list.dial_mode(&addr(1)), DialMode::Encrypted);
    peer_list.note_dialed(addr(1), PeerKey(5));
    assert!(peer_list.note_unanswered(addr(1), PeerKey(5)));
}

#[test]
fn with_one_opening_there_is_no_other() {
    for (encryption, dial_mode) in [(Encryption::Off, DialMode::Plain), (Encryption::Require, DialMode::Encrypted)] {
        let mut peer_list = PeerList::new(encryption);
        peer_list.add(&[addr(1)], PeerSource::Tracker);
        peer_list.note_dialed(addr(1), PeerKey(1));
        assert!(!peer_list.note_unanswered(addr(1), PeerKey(1)));
        assert_eq!(peer_list.dial_mode(&addr(1)), dial_mode);
    }
}

/// A public address, each in a network of its own.
fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x1400_0000 + n * 0x0000_0301).to_be_bytes(), 6881))
}

fn publics(range: std::ops::Range<u32>) -> Vec<SocketAddr> {
    range.map(public).collect()
}

#[test]
fn better_sources_come_first_and_leave_room_for_addresses_from_trackers() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(1));
    assert_eq!(peer_list.add(&publics(0..5000), PeerSource::Pex), MAX_UNVERIFIED);
    let known = peer_list.dial_candidates(now, 1)[0];
    assert_eq!(peer_list.add(&[addr(1), known], PeerSource::Tracker), 1);
    peer_list.add(&[addr(2)], PeerSource::User);
    peer_list.add(&[addr(3)], PeerSource::LocalDiscovery);
    let mut first = peer_list.dial_candidates(now, 4);
    assert_eq!(first[..2], [addr(2), addr(3)]);
    first[2..].sort_unstable();
    assert_eq!(first[2..], [addr(1), known], "a tracker vouches for it now");
    peer_list.add(&[addr(1)], PeerSource::Dht);
    assert!(peer_list.dial_candidates(now, 4).contains(&addr(1)));
}

#[test]
fn the_list_is_bounded_and_a_long_answer_is_sampled_at_random() {
    let answer = publics(0..50_000);
    let [one, other] = [PeerList::default(), PeerList::default()].map(|mut peer_list| {
        peer_list.rng = fastrand::Rng::with_seed(fastrand::u64(..));
        assert_eq!(peer_list.add(&answer, PeerSource::Tracker), MAX_KNOWN);
        assert_eq!(peer_list.len(), MAX_KNOWN);
        peer_list.entries.into_keys().collect::<std::collections::HashSet<_>>()
    });
    assert!(one.iter().any(|addr| answer[40_000..].contains(addr)), "not only the first of them");
    assert_ne!(one, other);
}

/// Nobody can make us connect to many ports of a host that is not a peer.
#[test]
fn a_host_is_tried_on_a_few_ports() {
    let ports = |ip: &str| -> Vec<_> {
        (2000..4000).map(|port| SocketAddr::new(ip.parse().expect("an address"), port)).collect()
    };
    for (source, host, v6, private) in
        [(PeerSource::Tracker, 4, 4, 256), (PeerSource::Pex, 1, 1, 64), (PeerSource::Dht, 1, 1, 64)]
    {
        let known = |ip| PeerList::default().add(&ports(ip), source);
        assert_eq!((known("203.0.113.5"), known("2001:db8::5"), known("127.0.0.1")), (host, v6, private), "{source:?}");
        let network: Vec<_> =
            (1..1000_u128).map(|n| SocketAddr::new(Ipv6Addr::from(0x2a00 << 112 | n).into(), 6881)).collect();
        assert_eq!(PeerList::default().add(&network, source), 4 * host, "{source:?}");
    }
    let mut peer_list = PeerList::default();
    assert_eq!(peer_list.add(&ports("203.0.113.5"), PeerSource::User), 2000, "the user knows");
    // Several sources together achieve no more than one, however often each repeats an address.
    let mut peer_list = PeerList::default();
    for source in [PeerSource::Dht, PeerSource::Pex, PeerSource::Tracker, PeerSource::Pex, PeerSource::Tracker] {
        peer_list.add(&ports("203.0.113.5"), source);
    }
    assert_eq!(peer_list.len(), 4);
}

/// Filling the list so that the host's entries are displaced does not help: dialed addresses are remembered separately.
#[test]
fn a_host_is_tried_on_a_few_ports_however_full_the_list_is() {
    for (source, most) in [(PeerSource::Pex, 1), (PeerSource::Tracker, 4)] {
        let (mut peer_list, mut dialed) = (PeerList::default(), std::collections::HashSet::new());
        peer_list.add(&publics(0..3000), source);
        for round in 1..45_u32 {
            let now = Duration::from_secs(round.into());
            peer_list.set_time(now);
            let port = |n| SocketAddr::from(([203, 0, 113, 5], (round * 10 + n) as u16 + 2000));
            peer_list.add(&(0..5).map(port).collect::<Vec<_>>(), source);
            peer_list.add(&publics(round * 100 + 3000..round * 100 + 3100), source);
            for (key, addr) in peer_list.dial_candidates(now, 100).into_iter().enumerate() {
                dialed.extend(Some(addr).filter(|addr| addr.ip() == port(0).ip()));
                peer_list.note_dialed(addr, PeerKey(key as u32));
                peer_list.disconnected(addr, PeerKey(key as u32), now, false);
            }
        }
        assert!(dialed.len() <= most, "{} ports, named by {source:?}", dialed.len());
    }
}

/// Peers tell us our own address, which determines the priority of BEP 40. Addresses that they name do not get this priority.
#[test]
fn a_false_address_of_ours_brings_no_address_of_a_stranger_to_the_front() {
    let first = |ours| {
        let mut peer_list = PeerList { rng: fastrand::Rng::with_seed(1), ..PeerList::default() };
        peer_list.add(&publics(0..50), PeerSource::Pex);
        peer_list.set_ours(ours);
        peer_list.dial_candidates(Duration::from_secs(1), 50)
    };
    assert_eq!(first(addr(1)), first(SocketAddr::from(([200, 1, 2, 3], 6881))));
}

/// A link counts no more than a tracker, and a well-known service's port in it no more than one from a peer.
#[test]
fn a_links_peers_are_those_of_a_stranger() {
    let mut peer_list = PeerList::default();
    let ports: Vec<_> = (1..200).map(|port| SocketAddr::from(([203, 0, 113, 5], port))).collect();
    assert_eq!(peer_list.add(&ports, PeerSource::MagnetLink), 4);
    peer_list.add(&[public(1)], PeerSource::Dht);
    assert_eq!(peer_list.dial_candidates(Duration::ZERO, 9), [public(1)], "a port that may be another service waits");
}

#[test]
fn a_host_with_proven_peers_may_have_many_ports() {
    let ports: Vec<_> = (2000..2040).map(|port| SocketAddr::from(([203, 0, 113, 5], port))).collect();
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(1));
    for round in 1..=10 {
        assert_eq!(peer_list.add(&ports, PeerSource::Tracker), 4, "round {round}");
        for addr in peer_list.dial_candidates(now, 99) {
            peer_list.note_dialed(addr, PeerKey(u32::from(addr.port())));
            peer_list.reached(addr, now);
        }
    }
    assert_eq!(peer_list.len(), 40);
}

#[test]
fn ports_of_other_services_are_dialed_only_if_nothing_else_is_known() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(1));
    let web = SocketAddr::from(([203, 0, 113, 5], 443));
    peer_list.add(&[web], PeerSource::Pex);
    assert_eq!(
        (peer_list.dial_candidates(now, 9), peer_list.next_dial()),
        (vec![web], Some(Duration::ZERO)),
        "better than nothing"
    );
    peer_list.add(&[public(1)], PeerSource::Dht);
    assert_eq!(peer_list.dial_candidates(now, 9), [public(1)]);
    peer_list.note_dialed(public(1), PeerKey(1));
    assert_eq!((peer_list.dial_candidates(now, 9), peer_list.next_dial()), (vec![], None));
    peer_list.add(&[web], PeerSource::Tracker);
    assert_eq!(peer_list.dial_candidates(now, 9), [web], "a tracker vouches for it");
}

/// A list full of dead addresses keeps no good address out.
#[test]
fn dead_addresses_give_way_to_new_ones() {
    let now = Duration::from_secs(1);
    for (source, many) in [(PeerSource::Pex, 2000), (PeerSource::Dht, 2000), (PeerSource::Tracker, 3000)] {
        let mut peer_list = PeerList::default();
        assert_eq!(peer_list.add(&publics(0..many), source), many as usize);
        // None has been tried yet. A message from the same source, and a tracker's answer, get in by random displacement.
        assert_eq!(peer_list.add(&publics(9000..9050), source), 50, "{source:?}");
        assert_eq!(peer_list.add(&publics(9900..9950), PeerSource::Tracker), 50, "{source:?}");
        assert!(peer_list.len() <= MAX_KNOWN);
        for (key, addr) in peer_list.dial_candidates(now, MAX_KNOWN).into_iter().enumerate() {
            peer_list.note_dialed(addr, PeerKey(key as u32));
            peer_list.disconnected(addr, PeerKey(key as u32), now, false);
        }
        let good = public(10_000);
        assert_eq!(peer_list.add(&[good], source), 1, "{source:?}");
        assert_eq!(peer_list.dial_candidates(now, 9), [good], "{source:?}");
    }
}

#[test]
fn an_address_that_proved_to_be_a_peer_is_not_displaced() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(1));
    let (good, users, banned) = (public(1), public(2), public(3));
    peer_list.add(&[good, banned], PeerSource::Pex);
    peer_list.add(&[users], PeerSource::User);
    peer_list.reached(good, now);
    for addr in [good, users, banned] {
        peer_list.note_dialed(addr, PeerKey(1));
        peer_list.disconnected(addr, PeerKey(1), now, false);
    }
    peer_list.ban(banned, false, now);
    for n in 1..20 {
        peer_list.add(
            &publics(n * 10_000..n * 10_000 + 5000),
            if n % 2 == 0 { PeerSource::Pex } else { PeerSource::Tracker },
        );
    }
    assert!(
        peer_list.len() == MAX_KNOWN && [good, users, banned].iter().all(|addr| peer_list.entries.contains_key(addr))
    );
}

/// A long list does not displace all untried addresses from other sources.
#[test]
fn a_long_answer_displaces_few() {
    let mut peer_list = PeerList::default();
    peer_list.add(&publics(0..3000), PeerSource::Tracker);
    assert_eq!(peer_list.add(&publics(10_000..40_000), PeerSource::Tracker), 200);
}

#[test]
fn a_peer_that_we_need_is_dialed_again_soon() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(100));
    peer_list.add(&[addr(1)], PeerSource::Tracker);
    peer_list.add(&[public(2)], PeerSource::Pex);
    for (addr, key) in [(addr(1), PeerKey(1)), (public(2), PeerKey(2))] {
        peer_list.note_dialed(addr, key);
        peer_list.disconnected(addr, key, now, false);
    }
    let pause = |peer_list: &PeerList| peer_list.next_dial().expect("a dial").as_secs_f64() - now.as_secs_f64();
    assert!(pause(&peer_list) > 20.0);
    assert!(peer_list.set_in_need(true) && !peer_list.set_in_need(true));
    assert!((1.0..3.0).contains(&pause(&peer_list)));
    assert_eq!(
        peer_list.dial_candidates(now + Duration::from_secs(3), 9),
        [addr(1)],
        "strangers' addresses are not hammered"
    );
    peer_list.set_in_need(false);
    assert!(pause(&peer_list) > 20.0);
}

#[test]
fn other_addresses_of_a_connected_peer_are_not_dialed() {
    let (mut peer_list, now) = (PeerList::default(), Duration::from_secs(1));
    peer_list.add(&[addr(1), addr(2)], PeerSource::Tracker);
    peer_list.note_dialed(addr(1), PeerKey(1));
    assert!(peer_list.link_to(addr(2), PeerKey(1), now));
    assert!(peer_list.dial_candidates(now, 9).is_empty());
    assert_eq!(peer_list.next_dial(), Some(now + ALIAS_PAUSE), "the claim may be false");
    peer_list.disconnected(addr(1), PeerKey(1), now, true);
    assert_eq!(peer_list.dial_candidates(now, 9), [addr(2)]);

    // Two connections turned out to lead to the same peer.
    peer_list.note_dialed(addr(2), PeerKey(2));
    peer_list.note_duplicate(PeerKey(2), PeerKey(3), now);
    peer_list.disconnected(addr(2), PeerKey(2), now, false);
    assert!(peer_list.dial_candidates(now, 9).is_empty(), "it is connected by the other");
    peer_list.disconnected(addr(9), PeerKey(3), now, false);
    assert_eq!(peer_list.dial_candidates(now, 9), [addr(2)], "and is not to blame");

    // The user named one of the addresses, then both.
    for (users, pause) in [(addr(2), 2 * USER_ALIAS_PAUSE), (addr(1), 4 * ALIAS_PAUSE)] {
        peer_list.add(&[users], PeerSource::User);
        peer_list.note_dialed(addr(1), PeerKey(4));
        peer_list.note_dialed(addr(2), PeerKey(5));
        peer_list.note_duplicate(PeerKey(5), PeerKey(4), now);
        assert_eq!(peer_list.next_dial(), Some(now + pause), "a stranger may have copied the id of the user's peer");
    }
}

#[test]
fn the_users_addresses_are_never_given_up() {
    let (mut peer_list, mut now) = (PeerList::default(), Duration::ZERO);
    peer_list.add(&[addr(1)], PeerSource::User);
    for n in 0..30 {
        now = peer_list.next_dial().expect("it is dialed again");
        peer_list.note_dialed(addr(1), PeerKey(n));
        peer_list.disconnected(addr(1), PeerKey(n), now, false);
    }
    assert!(now > FORGET_AFTER * 3);
}
