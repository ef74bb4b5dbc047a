//! Tests of tokens, rate limits and response sizes.

use proptest::prelude::*;

use super::*;
use crate::types::InfoHash;

const HASH: InfoHash = InfoHash([7; 20]);
const OWN: NodeId = NodeId([1; 20]);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn asker() -> SocketAddr {
    "90.1.2.3:4000".parse().unwrap()
}

/// The response to a query of typical length.
fn answer(server: &mut QueryServer, now: Duration, from: SocketAddr, query: &Query) -> KrpcBody {
    let table = RoutingTable::new(OWN);
    server.answer(now, (OWN, &table), (from, 100), query, &mut fastrand::Rng::with_seed(1))
}

fn token(server: &mut QueryServer, now: Duration, from: SocketAddr) -> Vec<u8> {
    match answer(server, now, from, &Query::GetPeers { info_hash: HASH, want: Want::default() }) {
        KrpcBody::Response(response) => response.token.expect("a token with every answer to get_peers"),
        other => panic!("{other:?}"),
    }
}

fn announce(server: &mut QueryServer, now: Duration, from: SocketAddr, token: Vec<u8>, port: Option<u16>) -> bool {
    let body = answer(server, now, from, &Query::AnnouncePeer { info_hash: HASH, port, token });
    assert!(matches!(body, KrpcBody::Response(_) | KrpcBody::Error(PROTOCOL_ERROR, _)));
    matches!(body, KrpcBody::Response(_))
}

fn found(server: &mut QueryServer, now: Duration) -> Vec<SocketAddr> {
    match answer(server, now, asker(), &Query::GetPeers { info_hash: HASH, want: Want::default() }) {
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

proptest! {
    /// However full the table and the store are, the response fits into a packet and within the limit on amplification.
    #[test]
    fn answers_are_no_larger_than_a_small_multiple_of_the_question(v6: bool, peers in 0_u16..250, size in 60_usize..1400) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let at = |n: u16| -> SocketAddr {
            if v6 { SocketAddr::from(([0x2001, n, 0, 0, 0, 0, 0, 1], 9)) } else { SocketAddr::from(([90, 1, (n >> 8) as u8, n as u8], 9)) }
        };
        let mut rng = fastrand::Rng::with_seed(peers.into());
        let mut table = RoutingTable::new(OWN);
        for n in 0..20 {
            let addr = if v6 { at(n) } else { SocketAddr::from(([91, n as u8, 1, 1], 9)) };
            table.responded(secs(0), Contact { id: NodeId::random(&mut rng), addr });
        }
        let mut server = QueryServer::new(family, [3; 16]);
        for n in 0..peers {
            server.store.announce(secs(0), HASH, at(n));
        }
        let query = Query::GetPeers { info_hash: HASH, want: Want::default() };
        let body = server.answer(secs(0), (OWN, &table), (at(1), size), &query, &mut rng);
        let packet = KrpcMessage { transaction: vec![1; 20], ip: Some(at(1)), body: body.clone() }.encode();
        let question = KrpcMessage { transaction: vec![1; 4], ip: None, body: KrpcBody::Query { id: OWN, query, is_read_only: false } };
        let size = size.max(question.encode().len());
        prop_assert!(packet.len() <= MAX_PACKET && packet.len() <= MAX_AMPLIFICATION * size, "{} bytes for {size}", packet.len());
        let KrpcBody::Response(response) = body else { panic!("an answer") };
        prop_assert_eq!(response.nodes.len(), 8);
        if size >= 90 && peers > 0 {
            prop_assert!(!response.values.is_empty(), "there is room for some");
        }
    }
}
