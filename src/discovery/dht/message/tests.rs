//! Packets: the examples of BEP 5 byte for byte, round trips, and malformed input.

use crate::bencode::validate;
use proptest::prelude::*;

use super::*;

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
    let announce = Query::AnnouncePeer { info_hash, port: None, token: b"aoeusnth".to_vec() };
    let table: [(&[u8], Query); 3] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Query::Ping),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Query::FindNode { target: NodeId(MNO), want: Want::default() },
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Query::GetPeers { info_hash, want: Want::default() },
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
    let response = KrpcResponse { id: ABC, nodes: vec![], values: values.to_vec(), token: Some(b"aoeusnth".to_vec()) };
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
    assert_eq!(response.nodes.len(), MAX_CONTACTS);
    assert!(response.nodes.iter().all(|node| node.addr.port() == 1), "nobody listens at port 0");
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    let v4 =
        (1_u32..0xe000_0000, 1_u16..).prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip | 1 << 24).into(), port));
    let v6 = (any::<u64>(), 1_u16..)
        .prop_map(|(low, port)| SocketAddr::new(Ipv6Addr::from(0x2001_u128 << 112 | u128::from(low)).into(), port));
    prop_oneof![v4, v6]
}

fn any_message() -> impl Strategy<Value = KrpcMessage> {
    let id = || any::<[u8; 20]>().prop_map(NodeId);
    let want = || any::<(bool, bool)>().prop_map(|(wants_v4, wants_v6)| Want { wants_v4, wants_v6 });
    let query = prop_oneof![
        Just(Query::Ping),
        (id(), want()).prop_map(|(target, want)| Query::FindNode { target, want }),
        (any::<[u8; 20]>(), want()).prop_map(|(hash, want)| Query::GetPeers { info_hash: InfoHash(hash), want }),
        (any::<[u8; 20]>(), proptest::option::of(1_u16..), any::<[u8; 8]>()).prop_map(|(hash, port, token)| {
            Query::AnnouncePeer { info_hash: InfoHash(hash), port, token: token.to_vec() }
        }),
    ];
    let contact = (id(), any_addr()).prop_map(|(id, addr)| Contact { id, addr });
    let response = (
        id(),
        proptest::collection::vec(contact, 0..8),
        proptest::collection::vec(any_addr(), 0..20),
        proptest::option::of(any::<[u8; 8]>()),
    );
    let body = prop_oneof![
        (id(), query, any::<bool>()).prop_map(|(id, query, is_read_only)| KrpcBody::Query { id, query, is_read_only }),
        response.prop_map(|(id, mut nodes, values, token)| {
            // Each family has its own list in the packet.
            nodes.sort_by_key(|node| node.addr.is_ipv6());
            KrpcBody::Response(KrpcResponse { id, nodes, values, token: token.map(|t| t.to_vec()) })
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
                prop_assert!(response.nodes.len() <= 2 * MAX_CONTACTS && response.values.len() <= MAX_VALUES);
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
