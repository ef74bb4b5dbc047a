//! The invariants of the routing table, one by one and after random operations.

use proptest::prelude::*;

use super::*;

const OWN: NodeId = NodeId([0; 20]);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A node in a network of its own whose id starts with `first`.
fn node(first: u8, n: u8) -> Contact {
    let mut id = [n; 20];
    id[0] = first;
    Contact { id: NodeId(id), addr: SocketAddr::from(([20, first, n, 1], 6881)) }
}

impl RoutingTable {
    /// Panics if an invariant of the table is violated.
    pub(crate) fn check(&self) {
        let mut ids = std::collections::HashSet::new();
        let mut ips = std::collections::HashSet::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.live.len() <= K && bucket.spare.len() <= K, "bucket {at} is overfull");
            for entry in &bucket.live {
                let contact = entry.contact;
                assert_eq!(self.bucket_of(contact.id), at, "{contact:?} is in the wrong bucket");
                assert!(ids.insert(contact.id) && contact.id != self.own, "{contact:?} stands twice, or is ourselves");
                assert!(
                    is_private(contact.addr.ip()) || ips.insert(contact.addr.ip()),
                    "{contact:?} shares its address"
                );
            }
            assert!(bucket.spare.iter().all(|e| self.bucket_of(e.contact.id) == at));
        }
        assert!(self.buckets.len() <= NodeId::BITS);
    }
}

#[test]
fn far_buckets_hold_eight_and_near_ones_split() {
    let mut table = RoutingTable::new(OWN);
    for n in 0..20 {
        table.responded(secs(1), node(0x80, n));
        table.responded(secs(1), node(0x01, n));
    }
    table.check();
    // Eight of the far half; of the others only those eight that have a bucket of their own.
    assert_eq!(table.count(secs(1)), (16, 16));
    assert!(table.responded(secs(1), node(0x00, 9)).is_none());
    assert_eq!(table.count(secs(1)).0, 17);
    table.check();
}

#[test]
fn a_silent_node_is_questionable_then_bad_then_replaced_by_a_spare() {
    let mut table = RoutingTable::new(OWN);
    for n in 0..8 {
        table.responded(secs(u64::from(n)), node(0x80, n));
    }
    assert_eq!(table.responded(secs(20), node(0x80, 100)), None, "all are good: nobody is asked");
    let later = QUESTIONABLE_AFTER + secs(3);
    assert_eq!(table.count(later), (8, 4));
    let asked = table.responded(later, node(0x80, 101));
    assert_eq!(asked, Some(node(0x80, 0)), "the one that was silent longest");
    let silent = node(0x80, 0).addr;
    assert!(table.failed(silent), "one more try");
    assert!(!table.closest(node(0x80, 101).id, 8).contains(&node(0x80, 101)));
    assert!(!table.failed(silent));
    assert!(table.closest(node(0x80, 101).id, 8).contains(&node(0x80, 101)), "the latest spare takes the place");
    assert!(!table.closest(OWN, 8).iter().any(|c| c.addr == silent));
    table.check();
}

#[test]
fn a_node_that_queries_us_stays_good_once_it_has_answered() {
    let mut table = RoutingTable::new(OWN);
    assert!(table.queried(secs(0), node(0x80, 1)), "worth a ping");
    assert_eq!(table.count(secs(0)), (0, 0), "but not known by that alone");
    table.responded(secs(0), node(0x80, 1));
    assert!(!table.queried(QUESTIONABLE_AFTER, node(0x80, 1)), "known");
    assert_eq!(table.count(QUESTIONABLE_AFTER + secs(1)), (1, 1));
    assert_eq!(table.count(QUESTIONABLE_AFTER * 2), (1, 0));
}

#[test]
fn saved_nodes_are_unproven_told_to_nobody_and_make_room() {
    let mut table = RoutingTable::new(OWN);
    for n in 0..30 {
        table.remember(node(0x80, n));
    }
    assert_eq!(table.count(secs(0)), (8, 0));
    assert!(table.closest_good(secs(0), OWN).is_empty());
    assert_eq!(table.closest(OWN, 8).len(), 8, "we ask them all the same");
    table.responded(secs(1), node(0x80, 99));
    assert_eq!(table.closest_good(secs(1), OWN), [node(0x80, 99)]);
    table.check();
}

#[test]
fn an_id_is_not_taken_over_and_an_address_has_one_node() {
    let mut table = RoutingTable::new(OWN);
    table.responded(secs(0), node(0x80, 1));
    let thief = Contact { addr: "99.9.9.9:1".parse().unwrap(), ..node(0x80, 1) };
    table.responded(secs(1), thief);
    assert_eq!(table.closest(OWN, 8), [node(0x80, 1)]);
    let neighbour = Contact { addr: SocketAddr::new(node(0x80, 1).addr.ip(), 7), ..node(0x40, 1) };
    table.responded(secs(1), neighbour);
    assert_eq!(table.closest(OWN, 8), [node(0x80, 1)], "a second port of an address");
    let renamed = Contact { addr: node(0x80, 1).addr, ..node(0x40, 1) };
    table.responded(secs(1), renamed);
    assert_eq!(table.closest(OWN, 8), [renamed], "it has another id now");
    table.check();
}

#[test]
fn a_network_has_two_nodes_in_a_bucket_unless_it_is_local() {
    let (mut public, mut local) = (RoutingTable::new(OWN), RoutingTable::new(OWN));
    for n in 0..6 {
        let id = node(0x80, n).id;
        public.responded(secs(0), Contact { id, addr: SocketAddr::from(([20, 1, 1, n], 1)) });
        local.responded(secs(0), Contact { id, addr: SocketAddr::from(([127, 0, 0, 1], 1 + u16::from(n))) });
    }
    assert_eq!((public.count(secs(0)).0, local.count(secs(0)).0), (2, 6));
    let mut of_subnet = RoutingTable::new(OWN);
    for n in 0..6 {
        let addr = SocketAddr::from(([0x2001, 0xdb8, 0, u16::from(n), 0, 0, 0, 1], 1));
        of_subnet.responded(secs(0), Contact { id: node(0x80, n).id, addr });
    }
    assert_eq!(of_subnet.count(secs(0)).0, 2);
}

#[test]
fn quiet_buckets_are_refreshed_once() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut table = RoutingTable::new(OWN);
    for n in 0..12 {
        table.responded(secs(0), node(0x80, n));
        table.responded(secs(60), node(0x01, n));
    }
    assert_eq!(table.refresh(secs(14 * 60), &mut rng), None);
    let target = table.refresh(QUESTIONABLE_AFTER, &mut rng).expect("the far bucket is stale");
    assert_eq!(OWN.shared_bits(target), 0);
    assert_eq!(table.refresh(QUESTIONABLE_AFTER, &mut rng), None);
    let later = QUESTIONABLE_AFTER + secs(60);
    let target = table.refresh(later, &mut rng).expect("the others are stale, too");
    assert!(OWN.shared_bits(target) > 0);
    while table.refresh(later, &mut rng).is_some() {}
    assert!(table.next_refresh() > later);
}

proptest! {
    /// Whatever happens in whatever order, the invariants hold, also after changing our own id.
    #[test]
    fn invariants(operations in proptest::collection::vec((0_u8..6, any::<u16>(), 0_u64..100), 1..400), seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut table = RoutingTable::new(NodeId::random(&mut rng));
        let mut now = Duration::ZERO;
        for (operation, who, pause) in operations {
            now += secs(pause);
            // Few distinct nodes, so that the same ones return; half of them are close to us.
            let mut ids = fastrand::Rng::with_seed(u64::from(who % 300));
            let id = table.own.near(usize::from(who % 2) * 20, false, &mut ids);
            let addr = SocketAddr::from(([20, 1, (who % 97) as u8, (who % 89) as u8], 1 + who % 3));
            let contact = Contact { id, addr };
            match operation {
                0 => table.remember(contact),
                1 | 2 => assert_ne!(table.responded(now, contact), Some(contact), "nobody is asked about himself"),
                3 => assert!(!table.queried(now, contact) || table.live().all(|e| e.contact.id != id), "it is known"),
                4 => {
                    table.failed(addr);
                }
                _ => {
                    table.refresh(now, &mut rng);
                }
            }
            table.check();
            prop_assert!(table.closest_good(now, id).len() <= K);
        }
        table.change_own_id(now, NodeId::random(&mut rng));
        table.check();
    }
}
