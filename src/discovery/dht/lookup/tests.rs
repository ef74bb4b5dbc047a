//! Single lookups, step by step.

use super::*;

const OWN: NodeId = NodeId([0xff; 20]);
const TARGET: NodeId = NodeId([0; 20]);

/// A node on a local network; a smaller `n` is closer to the target.
fn node(n: u8) -> Contact {
    let mut id = [0; 20];
    id[0] = n;
    id[19] = 1;
    Contact { id: NodeId(id), addr: SocketAddr::from(([10, 0, 0, n], 1)) }
}

fn lookup(seeds: &[Contact]) -> Lookup {
    Lookup::new(OWN, TARGET, Family::V4, seeds, &[])
}

fn says(who: Contact, nodes: Vec<Contact>) -> KrpcResponse {
    KrpcResponse { nodes, token: Some(vec![who.id.0[0]]), ..KrpcResponse::new(who.id) }
}

fn asked(lookup: &mut Lookup) -> Vec<SocketAddr> {
    std::iter::from_fn(|| lookup.next_query()).collect()
}

#[test]
fn asks_four_at_a_time_closest_first_and_more_when_they_are_slow() {
    let nodes: Vec<Contact> = (1..=20).map(node).collect();
    let mut lookup = lookup(&nodes);
    let first = asked(&mut lookup);
    assert_eq!(first, nodes[..4].iter().map(|n| n.addr).collect::<Vec<_>>());
    for addr in &first {
        lookup.late(*addr);
    }
    assert_eq!(asked(&mut lookup), nodes[4..8].iter().map(|n| n.addr).collect::<Vec<_>>());
    for node in &nodes[4..8] {
        lookup.late(node.addr);
    }
    assert_eq!(asked(&mut lookup), [], "eight are in flight");
    lookup.failed(nodes[0].addr);
    assert_eq!(asked(&mut lookup), [nodes[8].addr]);
}

#[test]
fn ends_when_the_eight_closest_have_answered() {
    let nodes: Vec<Contact> = (1..=20).map(node).collect();
    let mut lookup = lookup(&nodes);
    while let Some(addr) = lookup.next_query() {
        let who = nodes.iter().find(|n| n.addr == addr).unwrap();
        assert!(!lookup.is_done());
        lookup.answered(addr, &says(*who, nodes.clone()));
    }
    assert!(lookup.is_done());
    assert_eq!(lookup.summary(), LookupSummary { queries: 8, answers: 8, hops: 0, peers: 0 });
    let announce_targets = lookup.announce_targets();
    assert_eq!(
        announce_targets.iter().map(|(a, _)| *a).collect::<Vec<_>>(),
        nodes[..8].iter().map(|n| n.addr).collect::<Vec<_>>()
    );
}

#[test]
fn a_slow_node_is_waited_for_only_where_there_are_too_few() {
    let mut lookup = lookup(&[node(1), node(2)]);
    asked(&mut lookup);
    lookup.late(node(1).addr);
    lookup.answered(node(2).addr, &says(node(2), vec![]));
    assert!(!lookup.is_done());
    lookup.failed(node(1).addr);
    assert!(lookup.is_done());
}

#[test]
fn an_id_that_bep_42_forbids_neither_ends_a_search_nor_keeps_the_announce_from_others() {
    let attacker = |n: u8| Contact { id: NodeId([0; 20]), addr: SocketAddr::from(([80 + n, n, 9, 9], 1)) };
    let attackers: Vec<Contact> = (0..10).map(attacker).filter(|c| !c.id.fits(c.addr.ip())).take(8).collect();
    assert_eq!(attackers.len(), 8);
    let honest: Vec<Contact> = (1..=8).map(node).collect();
    let mut lookup = lookup(&[attackers.clone(), honest.clone()].concat());
    while let Some(addr) = lookup.next_query() {
        let who = *attackers.iter().chain(&honest).find(|n| n.addr == addr).unwrap();
        lookup.answered(addr, &says(who, vec![]));
    }
    assert_eq!(lookup.summary().queries, 16);
    let announce_targets: HashSet<SocketAddr> = lookup.announce_targets().into_iter().map(|(addr, _)| addr).collect();
    assert_eq!(announce_targets, attackers.iter().chain(&honest).map(|n| n.addr).collect(), "eight of each kind");
}

#[test]
fn strangers_neither_lead_us_into_the_local_network_nor_endlessly_on() {
    let stranger = Contact { id: NodeId([9; 20]), addr: "80.1.1.1:1".parse().unwrap() };
    let mut lookup = lookup(&[stranger]);
    asked(&mut lookup);
    let mut response = says(stranger, vec![node(1)]);
    response.values = vec!["192.168.0.1:80".parse().unwrap(), "90.0.0.1:2".parse().unwrap()];
    assert_eq!(lookup.answered(stranger.addr, &response), ["90.0.0.1:2".parse().unwrap()]);
    assert_eq!(asked(&mut lookup), []);

    // Every response names eight nodes that are even closer.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut lookup = Lookup::new(OWN, TARGET, Family::V4, &[stranger], &[]);
    let mut queries = 0;
    while let Some(addr) = lookup.next_query() {
        queries += 1;
        let closer = |n: u8| Contact {
            id: TARGET.near(queries.min(150), true, &mut fastrand::Rng::with_seed(u64::from(n))),
            addr: SocketAddr::from((rng.u32(0x5000_0000..0x6000_0000).to_be_bytes(), 1)),
        };
        let nodes = (0..8).map(closer).collect();
        lookup.answered(addr, &KrpcResponse { nodes, ..KrpcResponse::new(NodeId([9; 20])) });
        assert!(lookup.candidates.len() <= MAX_CANDIDATES);
    }
    assert!(lookup.is_done() && queries <= MAX_QUERIES);
}

#[test]
fn nodes_whose_ids_do_not_fit_displace_no_others_beyond_their_share() {
    let unfit = |n: u8| Contact { id: NodeId([0; 20]), addr: SocketAddr::from(([80, n, 9, 9], 1)) };
    let fit = |n: u8| {
        let ip = std::net::IpAddr::from([90, n, 9, 9]);
        Contact { id: NodeId::for_ip(ip, &mut fastrand::Rng::with_seed(u64::from(n))), addr: SocketAddr::new(ip, 1) }
    };
    let seeds: Vec<Contact> = (0..40).map(fit).chain((0..=255).map(unfit)).chain((40..100).map(fit)).collect();
    let lookup = lookup(&seeds);
    let unfit = lookup.candidates.iter().filter(|c| c.violates_bep42()).count();
    assert_eq!((lookup.candidates.len(), unfit), (MAX_CANDIDATES, MAX_CANDIDATES / UNFIT_DIVISOR));
}

#[test]
fn one_ipv6_subnet_has_three_nodes_in_a_lookup() {
    let node = |subnet, n| Contact {
        id: NodeId([n as u8; 20]),
        addr: SocketAddr::from(([0x2001, 0xdb8, subnet, n, 0, 0, 0, 1], 1)),
    };
    let seeds: Vec<_> = (1..100).map(|n| node(0, n)).chain([node(1, 100)]).collect();
    let lookup = Lookup::new(OWN, TARGET, Family::V6, &seeds, &[]);
    let addrs: Vec<_> = lookup.candidates.iter().map(|candidate| candidate.addr).collect();
    assert_eq!(addrs, [seeds[0].addr, seeds[1].addr, seeds[2].addr, seeds[99].addr]);
}

#[test]
fn nobody_answers_in_our_name_or_twice() {
    let mut lookup = lookup(&[node(1), node(2)]);
    asked(&mut lookup);
    let mut response = says(node(1), vec![]);
    response.id = OWN;
    lookup.answered(node(1).addr, &response);
    let mut response = says(node(2), vec![]);
    response.values = vec!["10.9.9.9:9".parse().unwrap()];
    assert_eq!(lookup.answered(node(2).addr, &response).len(), 1);
    assert_eq!(lookup.answered(node(2).addr, &response).len(), 0);
    assert_eq!(lookup.announce_targets().len(), 1);
    assert!(lookup.is_done());
}
