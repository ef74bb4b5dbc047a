//! Tests of tokens, rate limits and response sizes.

use proptest::prelude::*;

use super::content::MAX_AMPLIFICATION;
use super::limiter::{IN_TOTAL, MAX_NETWORKS, PER_ADDRESS, PER_SUBNET};
use super::*;
use crate::discovery::dht::item::{DhtItem, FoundItem, ItemKey, MAX_ITEM_VALUE};
use crate::discovery::dht::message::{
    CAS_MISMATCH, INVALID_SIGNATURE, KrpcMessage, MAX_PACKET, SEQUENCE_NUMBER_TOO_LOW, ScrapeOptions,
};

const HASH: InfoHash = InfoHash([7; 20]);
const OWN: NodeId = NodeId([1; 20]);

fn get_peers() -> Query {
    Query::GetPeers { info_hash: HASH, want: Want::default(), scrape: ScrapeOptions::default() }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn asker() -> SocketAddr {
    "90.1.2.3:4000".parse().unwrap()
}

/// The response to a query of typical length.
fn answer(server: &mut QueryServer, now: Duration, from: SocketAddr, query: &Query) -> KrpcBody {
    let table = RoutingTable::new(OWN);
    server.answer(now, (OWN, &table), ReceivedQuery { from, size: 100, query }, &mut fastrand::Rng::with_seed(1))
}

fn token(server: &mut QueryServer, now: Duration, from: SocketAddr) -> Vec<u8> {
    match answer(server, now, from, &get_peers()) {
        KrpcBody::Response(response) => response.token.expect("a token with every answer to get_peers"),
        other => panic!("{other:?}"),
    }
}

fn announce(server: &mut QueryServer, now: Duration, from: SocketAddr, token: Vec<u8>, port: Option<u16>) -> bool {
    let (is_port_implied, port) = (port.is_none(), port.unwrap_or_default());
    let query = Query::AnnouncePeer { info_hash: HASH, port, is_port_implied, is_seed: false, token };
    let body = answer(server, now, from, &query);
    assert!(matches!(body, KrpcBody::Response(_) | KrpcBody::Error(PROTOCOL_ERROR, _)));
    matches!(body, KrpcBody::Response(_))
}

fn found(server: &mut QueryServer, now: Duration) -> Vec<SocketAddr> {
    match answer(server, now, asker(), &get_peers()) {
        KrpcBody::Response(response) => response.values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_is_valid_for_its_address_and_for_ten_minutes() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    let given = token(&mut server, secs(10), asker());
    let other = "90.1.2.4:4000".parse().unwrap();
    assert!(!announce(&mut server, secs(11), other, given.clone(), Some(1)), "another's token");
    assert!(!announce(&mut server, secs(11), asker(), vec![], Some(1)), "none");
    assert!(!announce(&mut server, secs(11), asker(), given[..7].to_vec(), Some(1)), "a part of it");
    assert!(!announce(&mut server, secs(601), asker(), given.clone(), Some(1)), "too old");
    assert_eq!(found(&mut server, secs(601)), []);
    assert!(announce(&mut server, secs(599), asker(), given.clone(), Some(1)));
    assert!(announce(&mut server, secs(11), "90.1.2.3:77".parse().unwrap(), given, None), "any port of the address");
    let mut peers = found(&mut server, secs(599));
    peers.sort_unstable();
    assert_eq!(
        peers,
        ["90.1.2.3:1".parse().unwrap(), "90.1.2.3:77".parse().unwrap()],
        "the implied port is that of the packet"
    );
}

#[test]
fn tokens_differ_by_secret_address_and_time() {
    let make = |secret: u8, at: u64, ip: &str| Tokens::new([secret; 16]).make(secs(at), ip.parse().unwrap());
    let one = make(1, 0, "90.1.2.3");
    assert_eq!(one, make(1, 299, "90.1.2.3"));
    for other in [make(2, 0, "90.1.2.3"), make(1, 300, "90.1.2.3"), make(1, 0, "90.1.2.4"), make(1, 0, "2001::1")] {
        assert_ne!(one, other);
    }
}

#[test]
fn one_address_gets_its_rate_and_all_get_theirs() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    let admitted =
        |server: &mut QueryServer, now, n: u32| (0..n).filter(|_| server.may_answer(now, asker())).count() as u64;
    assert_eq!(admitted(&mut server, secs(0), 1000), PER_ADDRESS.burst);
    assert_eq!(admitted(&mut server, secs(1), 1000), PER_ADDRESS.per_second);
    assert_eq!(admitted(&mut server, secs(1000), 1000), PER_ADDRESS.burst, "no more is saved up");
    let from = |n: u32| SocketAddr::from((n.to_be_bytes(), 1));
    let all = (1 << 24..(1 << 24) + 100_000).filter(|n| server.may_answer(secs(2000), from(*n))).count() as u64;
    assert_eq!(all, IN_TOTAL.burst);
    assert!(server.limiter.addresses.budgets.len() <= MAX_NETWORKS);
    assert!(server.may_answer(secs(3000), asker()), "and the storm over, all is well");
}

#[test]
fn an_ipv6_customer_is_one_address() {
    let mut server = QueryServer::new(Family::V6, [3; 16]);
    let from = |n: u64| SocketAddr::from(([0x2001, 1, 2, 3, n as u16, 0, 0, 1], 1));
    assert_eq!((0..1000).filter(|n| server.may_answer(secs(0), from(*n))).count() as u64, PER_ADDRESS.burst);
}

#[test]
fn one_subnet_leaves_most_of_the_rate_to_others() {
    let mut server = QueryServer::new(Family::V6, [3; 16]);
    let from = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 1, n, 0, 0, 0, 1], 1));
    assert_eq!((0..60_000).filter(|n| server.may_answer(secs(0), from(*n))).count() as u64, PER_SUBNET.burst);
    assert!(server.may_answer(secs(0), "[2001:db8:2::1]:1".parse().unwrap()));
    let local = |n: u16| SocketAddr::from(([0xfd00, 0, 0, n, 0, 0, 0, 1], 1));
    assert!((0..200).all(|n| server.may_answer(secs(0), local(n))), "a private subnet may have all users");
}

fn response_of(server: &mut QueryServer, now: Duration, from: SocketAddr, query: &Query) -> KrpcResponse {
    match answer(server, now, from, query) {
        KrpcBody::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scrape_counts_seeds_and_others() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    let scrape = |wants_filters, wants_no_seeds| Query::GetPeers {
        info_hash: HASH,
        want: Want::default(),
        scrape: ScrapeOptions { wants_filters, wants_no_seeds },
    };
    assert_eq!(response_of(&mut server, secs(1), asker(), &scrape(true, false)).filters, None, "there is nothing");
    for n in 0..60_u8 {
        let from = SocketAddr::from(([90, 2, n, 1], 4000));
        let token = token(&mut server, secs(1), from);
        let query = Query::AnnouncePeer { info_hash: HASH, port: 1, is_port_implied: false, is_seed: n < 40, token };
        assert!(matches!(answer(&mut server, secs(1), from, &query), KrpcBody::Response(_)));
    }
    let response = response_of(&mut server, secs(1), asker(), &scrape(true, false));
    let filters = response.filters.expect("filters");
    assert!((35..45).contains(&filters.seeds.estimate()) && (17..24).contains(&filters.others.estimate()));
    assert_eq!(response_of(&mut server, secs(1), asker(), &scrape(false, false)).filters, None);
    let values = response_of(&mut server, secs(1), asker(), &scrape(false, true)).values;
    assert!(
        !values.is_empty() && values.iter().all(|peer| matches!(peer.ip(), IpAddr::V4(ip) if ip.octets()[2] >= 40))
    );
}

#[test]
fn samples_of_info_hashes_change_only_after_their_interval() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    for n in 0..50 {
        let addr = SocketAddr::from(([90, 2, n, 1], 1));
        server.store.announce(InfoHash([n; 20]), StoredPeer { addr, at: secs(0), is_seed: false });
    }
    let query = Query::SampleInfohashes { target: OWN, want: Want::default() };
    let sample =
        |server: &mut QueryServer, at| response_of(server, secs(at), asker(), &query).samples.expect("samples");
    let first = sample(&mut server, 1);
    assert_eq!((first.count, first.samples.len(), first.interval), (50, 20, 600));
    for n in 50..200 {
        let addr = SocketAddr::from(([90, 2, n, 1], 1));
        server.store.announce(InfoHash([n; 20]), StoredPeer { addr, at: secs(2), is_seed: false });
    }
    let second = sample(&mut server, 600);
    assert_eq!((second.count, &second.samples), (200, &first.samples));
    assert!(sample(&mut server, 601).samples.iter().any(|hash| hash.0[0] >= 50));
    assert_eq!(sample(&mut server, 3000).samples, []);
}

#[test]
fn an_item_is_stored_with_a_token_and_returned() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    let key = ItemKey::from_seed([7; 32]).expect("a key");
    let make = |value: &[u8], seq| DhtItem::mutable(value.to_vec(), &key, b"s", seq).expect("an item");
    let target = make(b"1:a", 1).to_put(None).id();
    let get = |seq| Query::Get { target, seq, want: Want::default() };
    let given = response_of(&mut server, secs(1), asker(), &get(None)).token.expect("a token");
    let mut put = |item: ItemPut, token: &[u8]| match answer(
        &mut server,
        secs(2),
        asker(),
        &Query::Put { token: token.to_vec(), put: Box::new(item) },
    ) {
        KrpcBody::Response(_) => 0,
        KrpcBody::Error(code, _) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(put(make(b"1:a", 1).to_put(None), b"wrong"), PROTOCOL_ERROR);
    assert_eq!(put(make(b"1:b", 2).to_put(None), &given), 0);
    assert_eq!(put(make(b"1:a", 1).to_put(None), &given), SEQUENCE_NUMBER_TOO_LOW);
    assert_eq!(put(make(b"1:c", 3).to_put(Some(1)), &given), CAS_MISMATCH);
    assert_eq!(put(ItemPut { value: b"1:x".to_vec(), ..make(b"1:c", 3).to_put(None) }, &given), INVALID_SIGNATURE);
    let found = response_of(&mut server, secs(3), asker(), &get(None)).item.expect("an item");
    assert_eq!(make(b"1:b", 2).target().check(found), Some(make(b"1:b", 2)));
    assert_eq!(response_of(&mut server, secs(3), asker(), &get(Some(2))).item, Some(FoundItem::NotNewer(2)));
    assert_eq!(server.stored_items(), 1);
}

/// An item that is much larger than the query goes to an address, which may be forged, only now and then.
#[test]
fn large_items_have_a_rate_of_their_own() {
    let mut server = QueryServer::new(Family::V4, [3; 16]);
    let value = [b"990:".as_slice(), &[b'x'; 990]].concat();
    let put = DhtItem::immutable(value).expect("a value").to_put(None);
    let target = put.id();
    server.items.put(secs(0), asker().ip(), &put).expect("there is room");
    let query = Query::Get { target, seq: None, want: Want::default() };
    let sent = |server: &mut QueryServer, at, size| {
        let table = RoutingTable::new(OWN);
        let received = ReceivedQuery { from: asker(), size, query: &query };
        let body = server.answer(secs(at), (OWN, &table), received, &mut fastrand::Rng::with_seed(1));
        matches!(body, KrpcBody::Response(KrpcResponse { item: Some(_), token: Some(_), .. }))
    };
    assert_eq!((0..100).filter(|_| sent(&mut server, 0, 100)).count(), 8);
    assert_eq!((0..100).filter(|_| sent(&mut server, 1, 100)).count(), 1);
    assert_eq!((0..100).filter(|_| sent(&mut server, 1, 200)).count(), 100, "a large query is answered");
}

/// The table of a node that knows enough others for every answer.
fn full_table(v6: bool, rng: &mut fastrand::Rng) -> RoutingTable {
    let mut table = RoutingTable::new(OWN);
    for n in 0..20 {
        let v4_addr = SocketAddr::from(([91, n as u8, 1, 1], 9));
        let addr = if v6 { SocketAddr::from(([0x2001, n, 0, 0, 0, 0, 0, 1], 9)) } else { v4_addr };
        table.responded(secs(0), Contact { id: NodeId::random(rng), addr });
    }
    table
}

/// Bencode of a string of that length.
fn value_of(length: usize) -> Vec<u8> {
    [format!("{length}:").as_bytes(), &vec![b'x'; length]].concat()
}

proptest! {
    /// Items are stored and returned, whatever they are. Answers that are much longer than the query are few.
    #[test]
    fn answers_about_items_fit_into_a_packet_and_few_are_large(
        v6: bool, signs: bool, salt in proptest::collection::vec(any::<u8>(), 0..=64), length in 0_usize..=996,
        size in 60_usize..1400, known in proptest::option::of(0_i64..20),
    ) {
        let item = value_of(length);
        // Without the feature `tls`, there are no signatures.
        let put = if signs && cfg!(feature = "tls") {
            let key = ItemKey::from_seed([7; 32]).expect("a key");
            DhtItem::mutable(item, &key, &salt, 9).expect("an item").to_put(None)
        } else {
            DhtItem::immutable(item).expect("an item").to_put(None)
        };
        let (target, is_signed) = (put.id(), put.signed.is_some());
        let (mut server, mut rng) = (QueryServer::new(if v6 { Family::V6 } else { Family::V4 }, [3; 16]), fastrand::Rng::with_seed(1));
        let table = full_table(v6, &mut rng);
        let from: SocketAddr = if v6 { "[2001:db8::1]:9".parse().unwrap() } else { asker() };
        let mut ask = |query: &Query| {
            let question = KrpcBody::Query { id: OWN, query: query.clone(), is_read_only: false };
            let question = KrpcMessage { transaction: vec![1; 4], ip: None, body: question }.encode();
            let size = size.max(question.len());
            let body = server.answer(secs(1), (OWN, &table), ReceivedQuery { from, size, query }, &mut rng);
            let packet = KrpcMessage { transaction: vec![1; 20], ip: Some(from), body: body.clone() }.encode();
            let KrpcBody::Response(response) = body else { panic!("an answer: {body:?}") };
            (response, packet.len(), packet.len() > MAX_AMPLIFICATION * size)
        };
        let get = Query::Get { target, seq: known, want: Want::default() };
        let (response, length, is_large) = ask(&get);
        prop_assert!(response.item.is_none() && length <= MAX_PACKET && !is_large);
        let token = response.token.expect("a token");
        let (_, length, is_large) = ask(&Query::Put { token, put: Box::new(put.clone()) });
        prop_assert!(length <= MAX_PACKET && !is_large);
        let mut large = 0;
        for _ in 0..50 {
            let (response, length, is_large) = ask(&get);
            // With a value, the answer may be longer than others, but then it has no nodes.
            let limit = if response.nodes.is_empty() { MAX_ITEM_VALUE + 260 } else { MAX_PACKET };
            prop_assert!(length <= limit, "{length} bytes");
            large += usize::from(is_large);
            match response.item {
                Some(FoundItem::Immutable(value)) => prop_assert!(!is_signed && value == put.value),
                Some(FoundItem::Mutable(value, _)) => prop_assert!(known.is_none_or(|seq| seq < 9) && value == put.value),
                Some(FoundItem::NotNewer(seq)) => prop_assert!(seq == 9 && known.is_some_and(|seq| seq >= 9)),
                None => prop_assert!(large > 0, "only large items are left out"),
            }
        }
        prop_assert!(large <= 8, "{large} large answers");
    }

    /// However full the table and the store are, the response fits into a packet and within the limit on amplification.
    #[test]
    fn answers_are_no_larger_than_a_small_multiple_of_the_question(
        v6: bool, wants_filters: bool, samples: bool, peers in 0_u16..250, size in 60_usize..1400,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let at = |n: u16| -> SocketAddr {
            if v6 { SocketAddr::from(([0x2001, n, 0, 0, 0, 0, 0, 1], 9)) } else { SocketAddr::from(([90, 1, (n >> 8) as u8, n as u8], 9)) }
        };
        let mut rng = fastrand::Rng::with_seed(peers.into());
        let table = full_table(v6, &mut rng);
        let mut server = QueryServer::new(family, [3; 16]);
        for n in 0..peers {
            server.store.announce(HASH, StoredPeer { addr: at(n), at: secs(0), is_seed: n % 2 == 0 });
        }
        let scrape = ScrapeOptions { wants_filters, wants_no_seeds: false };
        let query = if samples {
            Query::SampleInfohashes { target: OWN, want: Want::default() }
        } else {
            Query::GetPeers { info_hash: HASH, want: Want::default(), scrape }
        };
        let body = server.answer(secs(0), (OWN, &table), ReceivedQuery { from: at(1), size, query: &query }, &mut rng);
        let packet = KrpcMessage { transaction: vec![1; 20], ip: Some(at(1)), body: body.clone() }.encode();
        let question = KrpcMessage { transaction: vec![1; 4], ip: None, body: KrpcBody::Query { id: OWN, query, is_read_only: false } };
        let (given, size) = (size, size.max(question.encode().len()));
        prop_assert!(packet.len() <= MAX_PACKET && packet.len() <= MAX_AMPLIFICATION * size, "{} bytes for {size}", packet.len());
        let KrpcBody::Response(response) = body else { panic!("an answer") };
        prop_assert!(response.nodes.len() == 8 || (wants_filters && response.nodes.len() >= 4));
        if given >= 110 && peers > 0 && !samples {
            prop_assert_eq!(response.filters.is_some(), wants_filters);
        }
        if size >= 90 && peers > 0 && !samples && !wants_filters {
            prop_assert!(!response.values.is_empty(), "there is room for some");
        }
    }
}
