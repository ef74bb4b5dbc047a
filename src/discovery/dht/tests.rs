//! One node and malicious ones: packets that do not answer one of its queries change nothing, and no node can use more than its
//! share.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::discovery::dht::item::ItemPut;
use crate::discovery::dht::message::{KrpcBody, KrpcMessage, KrpcResponse, Query, ScrapeOptions, Want};
use crate::types::InfoHash;

const HASH: InfoHash = InfoHash([0x5a; 20]);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([90, n, 1, 1], 6881))
}

fn dht(is_read_only: bool) -> Dht {
    let settings = NodeSettings { family: Family::V4, is_read_only, is_anonymous: false, secret: [1; 16] };
    Dht::new(&settings, &DhtState::default(), fastrand::Rng::with_seed(1))
}

/// Decodes all packets that the node sends.
fn sent(dht: &mut Dht) -> Vec<(SocketAddr, KrpcMessage)> {
    outputs(dht)
        .into_iter()
        .filter_map(|out| match out {
            DhtOutput::Send { to, bytes, .. } => Some((to, KrpcMessage::decode(&bytes).unwrap())),
            _ => None,
        })
        .collect()
}

/// The ping among the packets that the node sends.
fn pinged(dht: &mut Dht) -> (SocketAddr, KrpcMessage) {
    let ping = |(_, m): &(SocketAddr, KrpcMessage)| matches!(m.body, KrpcBody::Query { query: Query::Ping, .. });
    sent(dht).into_iter().find(ping).expect("a ping")
}

fn outputs(dht: &mut Dht) -> Vec<DhtOutput> {
    std::iter::from_fn(|| dht.next_output()).collect()
}

fn response(to: &KrpcMessage, n: u8, values: Vec<SocketAddr>) -> Vec<u8> {
    let body = KrpcResponse { values, token: Some(vec![n]), ..KrpcResponse::new(NodeId([n; 20])) };
    KrpcMessage { transaction: to.transaction.clone(), ip: None, body: KrpcBody::Response(body) }.encode()
}

fn question(n: u8, query: Query, is_read_only: bool) -> Vec<u8> {
    let body = KrpcBody::Query { id: NodeId([n; 20]), query, is_read_only };
    KrpcMessage { transaction: vec![n; 2], ip: None, body }.encode()
}

#[test]
fn only_the_asked_node_answers_and_only_once() {
    let mut dht = dht(false);
    dht.add_node(secs(0), addr(1));
    let (to, ping) = pinged(&mut dht);
    assert_eq!((to, ping.transaction.len()), (addr(1), 4));
    let right = response(&ping, 1, vec![]);
    let mut wrong = ping.clone();
    wrong.transaction[0] ^= 1;
    dht.on_packet(secs(1), addr(1), &response(&wrong, 1, vec![]));
    dht.on_packet(secs(1), addr(2), &right);
    dht.on_packet(secs(1), SocketAddr::new(addr(1).ip(), 7), &right);
    assert_eq!((dht.stats(secs(1)).nodes, dht.stats(secs(1)).invalid_packets), (0, 3));
    dht.on_packet(secs(1), addr(1), &right);
    assert_eq!((dht.stats(secs(1)).nodes, dht.stats(secs(1)).responses_received), (1, 1));
    dht.on_packet(secs(1), addr(1), &right);
    assert_eq!((dht.stats(secs(1)).responses_received, dht.stats(secs(1)).invalid_packets), (1, 4));
}

#[test]
fn a_named_node_gets_five_pings_and_no_more() {
    let mut dht = dht(false);
    dht.add_node(secs(0), addr(1));
    let mut pings = 0;
    for now in 0..600 {
        dht.handle_deadlines(secs(now));
        let is_ping =
            |(_, m): &&(SocketAddr, KrpcMessage)| matches!(m.body, KrpcBody::Query { query: Query::Ping, .. });
        pings += sent(&mut dht).iter().filter(is_ping).count();
    }
    assert_eq!(pings, 5);
}

#[test]
fn while_nobody_answers_a_slow_node_is_asked_once_more() {
    let mut dht = dht(false);
    dht.add_router(secs(0), addr(9));
    dht.add_router(secs(0), addr(8));
    let mut asked = |now| {
        dht.handle_deadlines(secs(now));
        sent(&mut dht)
    };
    let first = asked(0);
    let to = |packets: &[(SocketAddr, KrpcMessage)]| packets.iter().map(|(to, _)| *to).collect::<Vec<_>>();
    let again = asked(2);
    assert!(!first.is_empty() && to(&first) == to(&again), "{first:?}, then {again:?}");
    assert!(first[0].1.transaction != again[0].1.transaction);
    assert!((3..10).all(|now| asked(now).is_empty()));
}

#[test]
fn transaction_ids_are_not_guessed_from_those_before() {
    let ids = |secret: u8| {
        let settings =
            NodeSettings { family: Family::V4, is_read_only: false, is_anonymous: false, secret: [secret; 16] };
        let mut dht = Dht::new(&settings, &DhtState::default(), fastrand::Rng::with_seed(1));
        (1..20).for_each(|n| dht.add_node(secs(0), addr(n)));
        sent(&mut dht).into_iter().map(|(_, message)| message.transaction).collect::<std::collections::HashSet<_>>()
    };
    assert!(ids(1).len() >= 19 && ids(1).is_disjoint(&ids(2)));
}

#[test]
fn peers_are_found_told_once_and_our_own_announced_with_the_token() {
    let mut dht = dht(false);
    dht.set_port_implied(true);
    dht.add_router(secs(0), addr(9));
    dht.search(secs(0), HASH, Some(5000));
    let packets = sent(&mut dht);
    let find =
        |(_, m): &&(SocketAddr, KrpcMessage)| matches!(m.body, KrpcBody::Query { query: Query::GetPeers { .. }, .. });
    let (_, search) = packets.iter().find(find).expect("a search by way of the router");
    dht.on_packet(secs(1), addr(9), &response(search, 9, vec![addr(50), addr(50), addr(51)]));
    let out = outputs(&mut dht);
    assert!(out.contains(&DhtOutput::FoundPeers { info_hash: HASH, peers: vec![addr(50), addr(51)] }), "{out:?}");
    let announce = out.iter().find_map(|out| match out {
        DhtOutput::Send { to, bytes, .. } => match KrpcMessage::decode(bytes).unwrap().body {
            KrpcBody::Query { query: Query::AnnouncePeer { info_hash, port, is_port_implied, token, .. }, .. } => {
                Some((*to, info_hash, port, is_port_implied, token))
            }
            _ => None,
        },
        _ => None,
    });
    assert_eq!(announce, Some((addr(9), HASH, 5000, true, vec![9])));

    // The search repeats after ten minutes, and stops once forgotten.
    let searches = |dht: &mut Dht, now| {
        dht.handle_deadlines(now);
        sent(dht).iter().filter(find).count()
    };
    assert_eq!((searches(&mut dht, secs(300)), searches(&mut dht, secs(602))), (0, 1));
    dht.forget(HASH);
    assert_eq!((searches(&mut dht, secs(3000)), searches(&mut dht, secs(9000))), (0, 0));
}

#[test]
fn announces_say_whether_we_are_a_seed() {
    let mut dht = dht(false);
    dht.add_router(secs(0), addr(9));
    let mut said = |now: u64, seeds: bool, work: &dyn Fn(&mut Dht)| {
        work(&mut dht);
        dht.handle_deadlines(secs(now));
        let packets = sent(&mut dht);
        let is_search = |(_, m): &&(SocketAddr, KrpcMessage)| {
            matches!(m.body, KrpcBody::Query { query: Query::GetPeers { .. }, .. })
        };
        let (_, search) = packets.iter().find(is_search).expect("a search");
        if seeds {
            dht.set_seed(HASH, true);
        }
        dht.on_packet(secs(now), addr(9), &response(search, 9, vec![]));
        sent(&mut dht).into_iter().find_map(|(_, message)| match message.body {
            KrpcBody::Query { query: Query::AnnouncePeer { is_seed, .. }, .. } => Some(is_seed),
            _ => None,
        })
    };
    let search = |dht: &mut Dht| dht.search(secs(1), HASH, Some(5000));
    assert_eq!(said(1, false, &search), Some(false));
    assert_eq!(said(1, true, &search), Some(true), "the torrent completes while the search runs");
    assert_eq!(said(1, false, &search), Some(true), "another port changes nothing");
    assert_eq!(
        said(1, false, &|dht| {
            dht.forget(HASH);
            search(dht);
        }),
        Some(false)
    );
    let once = |dht: &mut Dht| {
        dht.forget(HASH);
        dht.announce_once(secs(1), HASH, Some(5000));
    };
    assert_eq!(said(1, false, &once), Some(true), "only seeds are announced once");
}

#[test]
fn a_read_only_node_asks_says_so_and_answers_nobody() {
    let mut dht = dht(true);
    dht.on_packet(secs(0), addr(1), &question(1, Query::Ping, false));
    assert_eq!(sent(&mut dht), []);
    dht.add_node(secs(0), addr(1));
    assert!(matches!(pinged(&mut dht).1.body, KrpcBody::Query { is_read_only: true, .. }));
    dht.set_read_only(false);
    dht.on_packet(secs(0), addr(1), &question(1, Query::Ping, false));
    assert!(matches!(sent(&mut dht).first(), Some((_, KrpcMessage { body: KrpcBody::Response(_), .. }))));
}

#[test]
fn querying_nodes_are_pinged_before_they_are_known_unless_read_only() {
    let mut dht = dht(false);
    dht.on_packet(secs(0), addr(1), &question(1, Query::Ping, true));
    let answers = sent(&mut dht);
    assert!(
        matches!(&answers[..], [(to, KrpcMessage { body: KrpcBody::Response(_), ip, .. })] if *to == addr(1) && *ip == Some(addr(1)))
    );
    dht.on_packet(secs(0), addr(2), &question(2, Query::Ping, false));
    let [(_, answer), (to, ping)] = &sent(&mut dht)[..] else { panic!("an answer and a ping") };
    assert!(matches!(answer.body, KrpcBody::Response(_)) && *to == addr(2));
    assert_eq!(dht.stats(secs(0)).nodes, 0);
    dht.on_packet(secs(1), addr(2), &response(ping, 2, vec![]));
    assert_eq!(dht.stats(secs(1)).nodes, 1);
}

#[test]
fn bad_questions_get_errors_and_errors_get_nothing() {
    let mut dht = dht(false);
    dht.on_packet(secs(0), addr(1), b"d1:ad2:id20:abcdefghij0123456789e1:q4:fish1:t2:aa1:y1:qe");
    assert!(matches!(&sent(&mut dht)[..], [(_, KrpcMessage { body: KrpcBody::Error(204, _), .. })]));
    dht.on_packet(secs(0), addr(1), b"d1:eli201e3:bade1:t2:aa1:y1:ee");
    assert_eq!(sent(&mut dht), []);
}

#[test]
fn a_flood_of_questions_is_answered_at_its_rate_and_makes_few_pings() {
    let mut dht = dht(false);
    for n in 0..10_000_u32 {
        let from = SocketAddr::from(((0x5000_0000 + n * 300).to_be_bytes(), 1));
        let id = NodeId([n as u8; 20]);
        let body =
            KrpcBody::Query { id, query: Query::FindNode { target: id, want: Want::default() }, is_read_only: false };
        let packet = KrpcMessage { transaction: vec![1; 2], ip: None, body }.encode();
        dht.on_packet(secs(1), from, &packet);
    }
    let packets = sent(&mut dht);
    let pings = packets.iter().filter(|(_, m)| matches!(m.body, KrpcBody::Query { .. })).count();
    assert!(packets.len() - pings <= 600 && pings <= 32, "{} answers, {pings} pings", packets.len() - pings);
    assert_eq!(dht.stats(secs(1)).queries_received, 10_000);
}

#[test]
fn reports_of_a_few_nodes_do_not_change_our_id() {
    let mut dht = dht(false);
    let before = dht.id();
    for n in 1..=5 {
        dht.add_node(secs(0), addr(n));
        let packets = sent(&mut dht);
        let (_, ping) = packets.iter().find(|(to, _)| *to == addr(n)).unwrap();
        let body = KrpcResponse::new(NodeId([n; 20]));
        let answer =
            KrpcMessage { transaction: ping.transaction.clone(), ip: Some(addr(99)), body: KrpcBody::Response(body) };
        dht.on_packet(secs(0), addr(n), &answer.encode());
    }
    assert_eq!((dht.id(), dht.stats(secs(0)).external_ip), (before, None));
}

proptest! {
    /// Any bytes from any sender, or any query with some bytes changed: responses go only to the sender and are of limited size,
    /// no node enters the table, and the deadline advances.
    #[test]
    fn garbage_changes_nothing(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..80), any::<u8>(), any::<u8>(), any::<prop::sample::Index>()), 1..60),
    ) {
        let mut dht = dht(false);
        dht.search(secs(0), HASH, Some(1));
        for (n, (bytes, who, kind, at)) in packets.into_iter().enumerate() {
            let query = match kind % 7 {
                0 => Query::Ping,
                1 => Query::FindNode { target: NodeId([who; 20]), want: Want { wants_v4: true, wants_v6: true } },
                2 => {
                    let scrape = ScrapeOptions { wants_filters: true, wants_no_seeds: false };
                    Query::GetPeers { info_hash: HASH, want: Want::default(), scrape }
                }
                3 => Query::SampleInfohashes { target: NodeId([who; 20]), want: Want::default() },
                4 => Query::Get { target: NodeId([who; 20]), seq: None, want: Want::default() },
                5 => {
                    let put = ItemPut { value: b"1:x".to_vec(), signed: None, cas: None };
                    Query::Put { token: bytes.clone(), put: Box::new(put) }
                }
                _ => {
                    let token = bytes.clone();
                    Query::AnnouncePeer { info_hash: HASH, port: 1, is_port_implied: false, is_seed: false, token }
                }
            };
            let mut packet = question(who, query, kind > 127);
            let at = at.index(packet.len());
            let end = (at + bytes.len()).min(packet.len());
            packet.splice(at..end, bytes);
            let now = secs(n as u64);
            dht.on_packet(now, addr(who), &packet);
            let mut spent = 0;
            for out in outputs(&mut dht) {
                let DhtOutput::Send { to, bytes, .. } = out else { panic!("nothing was found") };
                prop_assert!(to == addr(who) || !bytes.ends_with(b"1:y1:re"));
                spent += bytes.len();
            }
            // One response, a ping to a new node, and retries of earlier pings.
            prop_assert!(spent <= 8 * packet.len() + 100 * 33, "{spent} bytes for {}", packet.len());
            prop_assert!(dht.next_deadline() > now);
            prop_assert_eq!(dht.stats(now).nodes, 0);
            dht.table.check();
        }
    }
}
