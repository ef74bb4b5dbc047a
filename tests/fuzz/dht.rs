//! DHT packets, and how a node handles them.

use std::net::SocketAddr;
use std::time::Duration;

use btsync::discovery::dht::item::ItemTarget;
use btsync::discovery::dht::item_request::ItemRequest;
use btsync::discovery::dht::message::{KrpcBody, KrpcMessage, MAX_PACKET};
use btsync::discovery::dht::{Dht, DhtOutput, DhtState, Family, NodeSettings};
use btsync::types::InfoHash;

/// Parses a packet or a saved state; encoding it and parsing it again must give the same value. Then a node receives the packet:
/// as it is, and, if it is a response, once with the transaction id of each query that the node has sent.
pub fn dht(bytes: &[u8]) -> bool {
    if let Ok(state) = DhtState::decode(bytes) {
        assert_eq!(DhtState::decode(&state.encode()), Ok(state));
    }
    let message = KrpcMessage::decode(bytes);
    let accepted = message.as_ref().is_ok_and(|message| !matches!(message.body, KrpcBody::Invalid { .. }));
    if let Ok(message) = &message
        && !matches!(message.body, KrpcBody::Invalid { .. })
    {
        assert_eq!(KrpcMessage::decode(&message.encode()).as_ref(), Ok(message));
    }
    let router = SocketAddr::from(([81, 2, 3, 4], 6881));
    let settings = NodeSettings { family: Family::V4, is_read_only: false, is_anonymous: false, secret: [7; 16] };
    let mut node = Dht::new(&settings, &DhtState::default(), fastrand::Rng::with_seed(1));
    node.add_router(Duration::ZERO, router);
    node.search(Duration::ZERO, InfoHash([9; 20]), Some(6881));
    let target = ItemTarget::Mutable { key: [7; 32], salt: b"salt".to_vec() };
    node.request_item(Duration::ZERO, ItemRequest::Get(target), Duration::from_secs(9));
    let asked = sent(&mut node);
    node.on_packet(Duration::from_millis(1), router, bytes);
    if let Ok(message) = message
        && matches!(message.body, KrpcBody::Response(_) | KrpcBody::Error(..))
    {
        for question in &asked {
            let Ok(KrpcMessage { transaction, .. }) = KrpcMessage::decode(question) else {
                panic!("we read what we write")
            };
            let answer = KrpcMessage { transaction, ..message.clone() };
            node.on_packet(Duration::from_millis(2), router, &answer.encode());
        }
    }
    sent(&mut node);
    let _ = node.stats(Duration::from_millis(3));
    accepted
}

/// The packets that the node wants to send. Each must be valid and short enough.
fn sent(node: &mut Dht) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(output) = node.next_output() {
        if let DhtOutput::Send { bytes, .. } = output {
            assert!(bytes.len() <= MAX_PACKET && KrpcMessage::decode(&bytes).is_ok());
            packets.push(bytes);
        }
    }
    packets
}
