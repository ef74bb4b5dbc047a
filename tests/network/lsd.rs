//! Local discovery over real multicast, in the test's own network.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::netns::{RemoteMachine, allow_multicast_on_lo, in_network_namespace};
use crate::common::{PATIENCE, until};
use btsync::client::{Client, DormantSeed, WakeFn, WakeReason};
use btsync::discovery::lsd::Lsd;
use btsync::discovery::tracker::announce::{AnnouncedPayload, TorrentIdentity};
use btsync::discovery::tracker::dormant::DormantAnnounce;
use btsync::types::{Encryption, InfoHash};
use crossbeam_channel::{Receiver, unbounded};

const OURS: InfoHash = InfoHash([7; 20]);

/// Creates an interface that supports multicast; loopback has none over IPv6. Packets sent on it reach no other host, but return
/// to all local sockets of the group.
fn allow_multicast() {
    let script = "set -e
        ip link add near type veth peer name far
        ip link set far up; ip link set near up
        ip -6 route del multicast ff00::/8 dev far table local
        ip addr add 10.89.0.1/24 dev near; ip addr add fd89::1/64 dev near nodad
        ip route add 239.0.0.0/8 dev near";
    assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success());
}

/// Waits until the node at port `own` has found the node at port `port` over both families. Others may be found before.
fn wait_for_peer(found: &Receiver<(InfoHash, SocketAddr)>, own: u16, port: u16) {
    let deadline = Instant::now() + PATIENCE;
    let (mut four, mut six) = (0, 0);
    while four + six < 2 {
        let (swarm, addr) = found.recv_deadline(deadline).expect("a peer");
        assert!(swarm == OURS && addr.port() != own, "{addr}: nobody hears itself or of other swarms");
        if addr.port() == port {
            *(if addr.is_ipv4() { &mut four } else { &mut six }) = 1;
        }
    }
}

#[test]
fn neighbours_find_each_other_and_nobody_finds_itself() {
    in_network_namespace("neighbours_find_each_other_and_nobody_finds_itself", &[], || {
        allow_multicast();
        let (tell_one, one_hears) = unbounded();
        let (tell_other, other_hears) = unbounded();
        let one = Lsd::start(&btsync::net::bind::Bind::Any, 1001, vec![OURS], tell_one).expect("multicast");
        let other = Lsd::start(&btsync::net::bind::Bind::Any, 1002, vec![InfoHash([8; 20]), OURS], tell_other)
            .expect("multicast");
        wait_for_peer(&one_hears, 1001, 1002);
        let (tell_third, _unheard) = unbounded();
        let third = Lsd::start(&btsync::net::bind::Bind::Any, 1003, vec![OURS], tell_third).expect("multicast");
        wait_for_peer(&other_hears, 1002, 1003);
        let begun = Instant::now();
        [one, other, third].into_iter().for_each(Lsd::stop);
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for nothing but its thread");
    });
}

/// Routes send multicast elsewhere.
#[test]
fn neighbours_on_the_interface_given_are_heard() {
    in_network_namespace("neighbours_on_the_interface_given_are_heard", &[], || {
        allow_multicast_on_lo();
        let script = "ip link add near type veth peer name far && ip link set far up && ip link set near up &&
            ip addr add 10.89.0.1/24 dev near && ip addr add fd89::1/64 dev near nodad";
        assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success());
        let (tell_one, one_hears) = unbounded();
        let (tell_other, _unheard) = unbounded();
        let near = btsync::net::bind::Bind::Interface("near".into());
        let one = Lsd::start(&near, 1001, vec![OURS], tell_one).expect("multicast");
        let other = Lsd::start(&near, 1002, vec![OURS], tell_other).expect("multicast");
        wait_for_peer(&one_hears, 1001, 1002);
        [one, other].into_iter().for_each(Lsd::stop);
    });
}

/// One node announces two swarms, which are added and removed. Each subscriber receives only the peers of its own swarm.
#[test]
fn swarms_come_and_go() {
    in_network_namespace("swarms_come_and_go", &[], || {
        const OTHER: InfoHash = InfoHash([8; 20]);
        allow_multicast();
        let any = btsync::net::bind::Bind::Any;
        let ((tell_ours, ours), (tell_other, other)) = (unbounded(), unbounded());
        let one = Lsd::start(&any, 1001, vec![OURS], tell_ours).expect("multicast");
        one.add(OTHER, tell_other);
        let (tell_second, second_hears) = unbounded();
        let second = Lsd::start(&any, 1002, vec![OTHER], tell_second.clone()).expect("multicast");
        let next = |found: &Receiver<(InfoHash, SocketAddr)>| {
            let (swarm, addr) = found.recv_timeout(PATIENCE).expect("a peer");
            (swarm, addr.port())
        };
        assert_eq!(next(&other), (OTHER, 1002));
        second.add(OURS, tell_second);
        assert_eq!(next(&ours), (OURS, 1002));
        one.remove(OTHER);
        let end = Instant::now() + PATIENCE;
        while let Ok((swarm, addr)) = other.recv_deadline(end) {
            assert_eq!((swarm, addr.port()), (OTHER, 1002), "of the other family, before it was removed");
        }
        assert!(Instant::now() < end, "nobody is there who could say more");
        // A swarm added later is announced at once.
        let third = InfoHash([9; 20]);
        let (tell_third, third_hears) = unbounded();
        second.add(third, tell_third);
        let (tell_one, _unheard) = unbounded();
        one.add(third, tell_one);
        assert_eq!(next(&third_hears), (third, 1001));
        assert!(second_hears.try_iter().all(|(swarm, addr)| swarm != third && addr.port() == 1001));
        [one, second].into_iter().for_each(Lsd::stop);
    });
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-c", &format!("set -e; {script}")]).status().expect("sh").success(), "{script}");
}

/// Adds a second interface to the far side.
fn second_cable(far: &RemoteMachine) {
    let inside =
        |words: &str| assert!(far.command("ip".as_ref()).args(words.split(' ')).status().expect("ip").success());
    let pid = far.pid();
    sh(&format!(
        "ip link add near2 type veth peer name far2; ip link set far2 netns {pid}
         ip addr add 10.91.0.1/24 dev near2; ip link set near2 up"
    ));
    inside("addr add 10.91.0.2/24 dev far2");
    inside("link set far2 up");
}

/// Waits for a peer with an address in this network.
fn wait_for_peer_in(found: &Receiver<(InfoHash, SocketAddr)>, network: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !found.recv_deadline(deadline).expect("a peer").1.to_string().starts_with(network) {}
}

/// No route covers multicast. During the test no regular second announce is due, so only a change causes one.
#[test]
fn every_interface_is_used_and_one_that_comes_up_later_as_well() {
    in_network_namespace("every_interface_is_used_and_one_that_comes_up_later_as_well", &["nsenter"], || {
        let any = btsync::net::bind::Bind::Any;
        let far = RemoteMachine::new();
        sh("ip link set near down");
        let ((to_us, here), (to_there, there)) = (unbounded(), unbounded());
        let one = Lsd::start(&any, 1001, vec![OURS], to_us).expect("local discovery without a network");
        let other = far.run_inside(|| Lsd::start(&any, 1002, vec![OURS], to_there)).expect("local discovery");
        until("nothing is used here", || one.interfaces() == 0);
        sh("ip link set near up");
        wait_for_peer_in(&here, "10.89.0.2:1002");
        wait_for_peer_in(&there, "10.89.0.1:1001");
        // The second interface did not exist before.
        second_cable(&far);
        wait_for_peer_in(&here, "10.91.0.2:1002");
        wait_for_peer_in(&there, "10.91.0.1:1001");
        until("both are used", || one.interfaces() == 2);
        sh("ip link del near2");
        until("it is gone", || one.interfaces() == 1);
        one.stop();
        other.stop();
    });
}

/// Bound to one of two interfaces, by name or by address.
#[test]
fn an_interface_that_is_not_meant_is_not_used() {
    in_network_namespace("an_interface_that_is_not_meant_is_not_used", &["nsenter"], || {
        let far = RemoteMachine::new();
        second_cable(&far);
        for name in ["near2", "10.91.0.1"] {
            let tied = name.parse().expect("an interface");
            let ((to_us, _here), (to_there, there)) = (unbounded(), unbounded());
            let other = far.run_inside(|| Lsd::start(&btsync::net::bind::Bind::Any, 1002, vec![OURS], to_there));
            let other = other.expect("local discovery");
            until("the far side uses both", || other.interfaces() == 2);
            let one = Lsd::start(&tied, 1001, vec![OURS], to_us).expect("local discovery");
            until("it is used", || one.interfaces() == 1);
            wait_for_peer_in(&there, "10.91.0.1:1001");
            one.stop();
            other.stop();
            assert!(there.try_iter().all(|(_, addr)| !addr.to_string().starts_with("10.89.0.1:")), "{name}");
        }
    });
}

/// A service does not announce seeds that do not run, so it has to notice who looks for them.
#[test]
fn a_neighbour_that_looks_for_a_dormant_seed_wakes_it() {
    in_network_namespace("a_neighbour_that_looks_for_a_dormant_seed_wakes_it", &[], || {
        allow_multicast();
        let client = Client::builder().listen_ports(0..=0).dht(None).lsd(true).build().expect("a client");
        let (tell, causes) = unbounded();
        let register = |info_hash: InfoHash, is_private: bool| {
            let tell = tell.clone();
            let wake: WakeFn = Arc::new(move |reason| _ = tell.send((info_hash, reason)));
            let identity = TorrentIdentity::generate(None);
            let payload = AnnouncedPayload::default();
            let announce = DormantAnnounce { info_hash, identity, payload, left: 0, is_private, user_agent: None };
            let encryption = Encryption::Allow;
            let seed = DormantSeed {
                announce,
                tiers: Vec::new(),
                uses_dht: false,
                uses_lsd: true,
                encryption,
                registered_at: None,
            };
            client.register_dormant(seed, wake)
        };
        let private = InfoHash([8; 20]);
        let _guards = [register(private, true), register(OURS, false)];
        let (tell, _heard) = unbounded();
        let any = btsync::net::bind::Bind::Any;
        let _neighbour = Lsd::start(&any, 1002, vec![private, OURS], tell).expect("multicast");
        let (woken, reason) = causes.recv_timeout(PATIENCE).expect("it is woken");
        let WakeReason::Found(peers, _) = reason else { panic!("{reason:?}") };
        assert!(woken == OURS && peers.len() == 1 && peers[0].port() == 1002, "{peers:?}");
        assert!(causes.try_recv().is_err(), "not the private one, which came first");
    });
}
