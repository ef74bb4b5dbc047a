//! Packets: the examples of BEP 5 byte for byte, round trips, and malformed input.

use crate::bencode::validate;
use proptest::prelude::*;

use super::*;
use crate::discovery::dht::bloom::BloomFilter;
use crate::discovery::dht::item::SignedFields;

const ABC: NodeId = NodeId(*b"abcdefghij0123456789");
const MNO: [u8; 20] = *b"mnopqrstuvwxyz123456";

fn decode(bytes: &[u8]) -> KrpcMessage {
    KrpcMessage::decode(bytes).unwrap()
}

fn ask(query: Query) -> KrpcMessage {
    KrpcMessage { transaction: b"aa".to_vec(), ip: None, body: KrpcBody::Query { id: ABC, query, is_read_only: false } }
}

/// BEP 5's examples have no `v`; our packets always do.
fn without_version(bytes: &[u8]) -> Vec<u8> {
    let version = b"1:v4:BY\0\x01";
    let at = bytes.windows(version.len()).position(|w| w == version).unwrap();
    [&bytes[..at], &bytes[at + version.len()..]].concat()
}

#[test]
fn queries_of_bep_5_to_the_byte() {
    let info_hash = InfoHash(MNO);
    let token = b"aoeusnth".to_vec();
    let announce = Query::AnnouncePeer { info_hash, port: 6881, is_port_implied: true, is_seed: false, token };
    let table: [(&[u8], Query); 3] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Query::Ping),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Query::FindNode { target: NodeId(MNO), want: Want::default() },
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Query::GetPeers { info_hash, want: Want::default(), scrape: ScrapeOptions::default() },
        ),
    ];
    for (bytes, query) in table {
        assert_eq!(decode(bytes), ask(query.clone()));
        assert_eq!(without_version(&ask(query.clone()).encode()), bytes);
        assert_eq!(ask(query).encode_anonymously(), bytes);
    }
    let example = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e\
        5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    assert_eq!(decode(example), ask(announce));
}

#[test]
fn responses_of_bep_5_to_the_byte() {
    let bytes = b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    let message = decode(bytes);
    let values = ["97.120.106.101:11893", "105.100.104.116:28269"].map(|a| a.parse().unwrap());
    let response =
        KrpcResponse { values: values.to_vec(), token: Some(b"aoeusnth".to_vec()), ..KrpcResponse::new(ABC) };
    assert_eq!(message.body, KrpcBody::Response(response));
    assert_eq!(without_version(&message.encode()), bytes);
    assert_eq!(message.encode_anonymously(), bytes);
    let error = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
    assert_eq!(decode(error).body, KrpcBody::Error(201, "A Generic Error Ocurred".into()));
    assert_eq!(without_version(&decode(error).encode()), error);
}

#[test]
fn bad_arguments_get_the_errors_of_bep_5() {
    let table: [(&[u8], i64); 6] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:fish1:t2:aa1:y1:qe", METHOD_UNKNOWN),
        (b"d1:q4:ping1:t2:aa1:y1:qe", PROTOCOL_ERROR),
        (b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe", PROTOCOL_ERROR),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", PROTOCOL_ERROR),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t2:aa1:y1:qe", PROTOCOL_ERROR),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe\
            1:q13:announce_peer1:t2:aa1:y1:qe",
            PROTOCOL_ERROR,
        ),
    ];
    for (bytes, expected) in table {
        assert!(
            matches!(decode(bytes).body, KrpcBody::Invalid { code, .. } if code == expected),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn bad_items_get_the_errors_of_bep_44() {
    let put = |arguments: &str| {
        let packet = format!("d1:ad{arguments}e1:q3:put1:t2:aa1:y1:qe");
        match decode(packet.as_bytes()).body {
            KrpcBody::Invalid { code, .. } => code,
            KrpcBody::Query { query: Query::Put { .. }, .. } => 0,
            other => panic!("{other:?}"),
        }
    };
    let id = "2:id20:abcdefghij0123456789";
    let (key, sig) = (format!("1:k32:{}", "k".repeat(32)), format!("3:sig64:{}", "s".repeat(64)));
    let salt = |length: usize| format!("4:salt{length}:{}", "x".repeat(length));
    let value = |length: usize| format!("1:v{length}:{}", "x".repeat(length));
    let token = "5:token1:t";
    for (arguments, code) in [
        (format!("{id}{token}{}", value(996)), 0),
        (format!("{id}{token}{}", value(997)), VALUE_TOO_BIG),
        (format!("{id}{token}"), PROTOCOL_ERROR),
        (format!("{id}{}", value(1)), PROTOCOL_ERROR),
        (format!("{id}{key}{}3:seqi1e{sig}{token}{}", salt(64), value(996)), 0),
        (format!("{id}{key}{}3:seqi1e{sig}{token}{}", salt(65), value(9)), SALT_TOO_BIG),
        (format!("{id}{key}3:seqi-1e{sig}{token}{}", value(9)), PROTOCOL_ERROR),
        (format!("{id}{key}{sig}{token}{}", value(9)), PROTOCOL_ERROR),
        (format!("{id}{key}3:seqi1e{token}{}", value(9)), PROTOCOL_ERROR),
        (format!("{id}1:k3:abc3:seqi1e{sig}{token}{}", value(9)), PROTOCOL_ERROR),
    ] {
        assert_eq!(put(&arguments), code, "{arguments}");
    }
}

#[test]
fn the_value_of_an_item_stays_as_it_was_sent() {
    // The keys are not sorted, so that encoding the value again would change its hash.
    let packet = b"d1:ad2:id20:abcdefghij01234567895:token1:t1:vd1:bi1e1:ali2eeee1:q3:put1:t2:aa1:y1:qe";
    let KrpcBody::Query { query: Query::Put { put, .. }, .. } = decode(packet).body else { panic!("a query") };
    assert_eq!(put.value, b"d1:bi1e1:ali2eee");
}

#[test]
fn malformed_packets_are_refused() {
    let long = [b"d1:t2:aa1:v5000:".as_slice(), &[b'x'; 5000], b"1:y1:qe"].concat();
    let table: [(&[u8], KrpcError); 6] = [
        (&long, KrpcError::TooLong(long.len())),
        (b"", KrpcError::Bencode(validate::BencodeError::Truncated(0))),
        (b"le", KrpcError::Key("d")),
        (b"d1:y1:qe", KrpcError::Key("t")),
        (b"d1:t21:aaaaaaaaaaaaaaaaaaaaa1:y1:qe", KrpcError::Key("t")),
        (b"d1:rd2:id3:abce1:t2:aa1:y1:re", KrpcError::Key("r")),
    ];
    for (bytes, error) in table {
        assert_eq!(KrpcMessage::decode(bytes), Err(error));
    }
}

#[test]
fn impossible_and_surplus_nodes_are_left_out() {
    let mut nodes = Vec::new();
    for host in 0..100_u8 {
        nodes.extend([host; 20]);
        nodes.extend([9, 9, 9, host, 0, u8::from(host != 3)]);
    }
    let packet = [b"d1:rd2:id20:abcdefghij01234567895:nodes2600:".as_slice(), &nodes, b"e1:t2:aa1:y1:re"].concat();
    let KrpcBody::Response(response) = decode(&packet).body else { panic!("a response") };
    assert_eq!(response.nodes.len(), 16);
    assert!(response.nodes.iter().all(|node| node.addr.port() == 1), "nobody listens at port 0");
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    let v4 =
        (1_u32..0xe000_0000, 1_u16..).prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip | 1 << 24).into(), port));
    let v6 = (any::<u64>(), 1_u16..)
        .prop_map(|(low, port)| SocketAddr::new(Ipv6Addr::from(0x2001_u128 << 112 | u128::from(low)).into(), port));
    prop_oneof![v4, v6]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::collection::vec(any::<u8>(), 0..990);
    text.prop_map(|text| [format!("{}:", text.len()).as_bytes(), &text].concat())
}

fn signature() -> impl Strategy<Value = SignedFields> {
    let salt = proptest::collection::vec(any::<u8>(), 0..=64);
    (any::<[u8; 32]>(), salt, 0..i64::MAX, any::<[[u8; 32]; 2]>()).prop_map(|(key, salt, seq, halves)| {
        let signature = std::array::from_fn(|at| halves[at / 32][at % 32]);
        SignedFields { key, salt, seq, signature }
    })
}

fn any_item() -> impl Strategy<Value = FoundItem> {
    let without_salt = |signed| SignedFields { salt: Vec::new(), ..signed };
    prop_oneof![
        value().prop_map(FoundItem::Immutable),
        (value(), signature()).prop_map(move |(v, signed)| FoundItem::Mutable(v, Box::new(without_salt(signed)))),
        (0..i64::MAX).prop_map(FoundItem::NotNewer),
    ]
}

fn any_samples() -> impl Strategy<Value = InfohashSamples> {
    let hashes = proptest::collection::vec(any::<[u8; 20]>().prop_map(InfoHash), 0..20);
    (any::<u16>(), any::<u32>(), hashes).prop_map(|(interval, count, samples)| InfohashSamples {
        interval,
        count,
        samples,
    })
}

fn any_filters() -> impl Strategy<Value = Box<SwarmFilters>> {
    any::<[[u8; 4]; 2]>().prop_map(|ips| {
        let [seeds, others] = ips.map(|ip| {
            let mut filter = BloomFilter::default();
            filter.add(IpAddr::from(ip));
            filter
        });
        Box::new(SwarmFilters { seeds, others })
    })
}

fn any_message() -> impl Strategy<Value = KrpcMessage> {
    let id = || any::<[u8; 20]>().prop_map(NodeId);
    let want = || any::<(bool, bool)>().prop_map(|(wants_v4, wants_v6)| Want { wants_v4, wants_v6 });
    let query = prop_oneof![
        Just(Query::Ping),
        (id(), want()).prop_map(|(target, want)| Query::FindNode { target, want }),
        (any::<[u8; 20]>(), want(), any::<(bool, bool)>()).prop_map(|(hash, want, (wants_filters, wants_no_seeds))| {
            let scrape = ScrapeOptions { wants_filters, wants_no_seeds };
            Query::GetPeers { info_hash: InfoHash(hash), want, scrape }
        }),
        (any::<[u8; 20]>(), 1_u16.., any::<(bool, bool)>(), any::<[u8; 8]>()).prop_map(
            |(hash, port, (is_port_implied, is_seed), token)| {
                let (info_hash, token) = (InfoHash(hash), token.to_vec());
                Query::AnnouncePeer { info_hash, port, is_port_implied, is_seed, token }
            }
        ),
        (id(), want()).prop_map(|(target, want)| Query::SampleInfohashes { target, want }),
        (id(), any::<Option<i64>>(), want()).prop_map(|(target, seq, want)| Query::Get { target, seq, want }),
        (value(), proptest::option::of(signature()), any::<Option<i64>>(), any::<[u8; 8]>()).prop_map(
            |(value, signed, cas, token)| {
                let cas = cas.filter(|_| signed.is_some());
                Query::Put { token: token.to_vec(), put: Box::new(ItemPut { value, signed, cas }) }
            }
        ),
    ];
    let contact = (id(), any_addr()).prop_map(|(id, addr)| Contact { id, addr });
    let response = (
        id(),
        proptest::collection::vec(contact, 0..8),
        proptest::collection::vec(any_addr(), 0..20),
        proptest::option::of(any::<[u8; 8]>()),
        proptest::option::of(any_filters()),
        proptest::option::of(any_samples()),
        proptest::option::of(any_item()),
    );
    let body = prop_oneof![
        (id(), query, any::<bool>()).prop_map(|(id, query, is_read_only)| KrpcBody::Query { id, query, is_read_only }),
        response.prop_map(|(id, mut nodes, values, token, filters, samples, item)| {
            // Each family has its own list in the packet.
            nodes.sort_by_key(|node| node.addr.is_ipv6());
            let token = token.map(|t| t.to_vec());
            KrpcBody::Response(KrpcResponse { id, nodes, values, token, filters, samples, item })
        }),
        (any::<i32>(), "[a-z ]{0,90}").prop_map(|(code, text)| KrpcBody::Error(code.into(), text)),
    ];
    let transaction = proptest::collection::vec(any::<u8>(), 1..20);
    let ip = proptest::option::of(any_addr());
    (transaction, ip, body).prop_map(|(transaction, ip, body)| KrpcMessage { transaction, ip, body })
}

proptest! {
    #[test]
    fn round_trip(message in any_message()) {
        prop_assert_eq!(KrpcMessage::decode(&message.encode()), Ok(message));
    }

    /// Whatever a flipped, truncated or extended packet contains, decoding it neither panics nor exceeds the limits.
    #[test]
    fn mutated_packets_are_read_within_bounds(
        message in any_message(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message.encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(KrpcMessage { body: KrpcBody::Response(response), .. }) = KrpcMessage::decode(bytes) {
                prop_assert!(response.nodes.len() <= 2 * 16 && response.values.len() <= 200);
                prop_assert!(response.values.iter().all(|a| is_usable(*a)));
            }
        }
    }

    #[test]
    fn garbage_is_no_packet(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assume!(bytes.first() != Some(&b'd'));
        prop_assert!(KrpcMessage::decode(&bytes).is_err());
    }
}
