//! Items (BEP 44) in the simulated network.

use super::*;
use crate::discovery::dht::item::{DhtItem, ItemKey};
use crate::discovery::dht::item_request::ItemRequest;
use crate::discovery::dht::message::SEQUENCE_NUMBER_TOO_LOW;

const PATIENCE: Duration = Duration::from_secs(60);

impl SimulatedNetwork {
    /// The result of a node's request.
    fn item(&mut self, n: usize, request: ItemRequest) -> ItemOutcome {
        self.act(n, |dht, now| {
            dht.request_item(now, request, now + PATIENCE).expect("there is room");
        });
        self.run(PATIENCE + Duration::from_secs(1));
        self.nodes[n].items.pop().expect("a result")
    }

    fn get(&mut self, n: usize, item: &DhtItem) -> Option<DhtItem> {
        match self.item(n, ItemRequest::Get(item.target())) {
            ItemOutcome::Found(item) => item,
            ItemOutcome::Stored { .. } => panic!("nothing was to be stored"),
        }
    }

    fn put(&mut self, n: usize, item: &DhtItem) -> (usize, i64) {
        match self.item(n, ItemRequest::Put { item: item.clone(), cas: None }) {
            ItemOutcome::Stored { nodes, refusal } => (nodes, refusal.map_or(0, |(code, _)| code)),
            ItemOutcome::Found(_) => panic!("nothing was to be found"),
        }
    }
}

#[test]
fn items_are_found_by_others_and_the_newest_value_counts() {
    let mut world = SimulatedNetwork::new(200, 0.0, 5);
    world.make_malicious(20);
    world.loss = 0.05;
    let honest = world.honest();
    let [author, other, third] = [honest[1], honest[50], honest[100]];
    let hello = DhtItem::immutable(b"5:hello".to_vec()).expect("a value");
    assert_eq!(world.get(other, &hello), None);
    assert!(world.put(author, &hello).0 >= 6);
    assert_eq!(world.get(other, &hello), Some(hello));

    let key = ItemKey::from_seed([7; 32]).expect("a key");
    let version = |seq: i64| DhtItem::mutable(format!("i{seq}e").into_bytes(), &key, b"s", seq).expect("an item");
    assert!(world.put(author, &version(1)).0 >= 6);
    assert!(world.put(other, &version(3)).0 >= 6);
    assert_eq!(world.get(third, &version(1)), Some(version(3)));
    let (nodes, refusal) = world.put(author, &version(2));
    assert!(nodes <= 8 && refusal == SEQUENCE_NUMBER_TOO_LOW, "{nodes} nodes took an older value: {refusal}");
    assert_eq!(world.get(author, &version(1)), Some(version(3)));
}

#[test]
fn a_request_ends_at_its_deadline_even_without_any_node() {
    let mut world = SimulatedNetwork::new(1, 0.0, 5);
    let hello = DhtItem::immutable(b"5:hello".to_vec()).expect("a value");
    assert_eq!((world.get(0, &hello), world.put(0, &hello)), (None, (0, 0)));
}

#[test]
fn requests_are_bounded() {
    let mut world = SimulatedNetwork::new(20, 0.0, 5);
    let hello = DhtItem::immutable(b"5:hello".to_vec()).expect("a value");
    let mut accepted = 0;
    world.act(1, |dht, now| {
        let request = || ItemRequest::Get(hello.target());
        accepted = (0..100).filter(|_| dht.request_item(now, request(), now + PATIENCE).is_some()).count();
    });
    assert_eq!(accepted, 16);
    world.run(PATIENCE);
    assert_eq!(world.nodes[1].items, vec![ItemOutcome::Found(None); 16]);
}
