//! Local discovery over real multicast, in a network of the test's own.

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use btsync::sources::lsd::Lsd;
use btsync::types::InfoHash;
use common::PATIENCE;
use common::netns::{allow_multicast_on_lo, isolated};
use crossbeam_channel::{Receiver, unbounded};

const OURS: InfoHash = InfoHash([7; 20]);

/// An interface that multicast works on: the loopback interface has none over IPv6. What leaves by it goes nowhere, but comes back
/// to all sockets of the group on this side.
fn allow_multicast() {
    let script = "set -e
        ip link add near type veth peer name far
        ip link set far up; ip link set near up
        ip -6 route del multicast ff00::/8 dev far table local
        ip addr add 10.89.0.1/24 dev near; ip addr add fd89::1/64 dev near nodad
        ip route add 239.0.0.0/8 dev near";
    assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success());
}

/// Waits until both families have told the one at port `own` of the one at port `port`. Others may be heard before.
fn hears(found: &Receiver<(InfoHash, SocketAddr)>, own: u16, port: u16) {
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
    isolated("neighbours_find_each_other_and_nobody_finds_itself", &[], || {
        allow_multicast();
        let (tell_one, one_hears) = unbounded();
        let (tell_other, other_hears) = unbounded();
        let one = Lsd::start(&btsync::bind::Bind::Any, 1001, vec![OURS], tell_one).expect("multicast");
        let other =
            Lsd::start(&btsync::bind::Bind::Any, 1002, vec![InfoHash([8; 20]), OURS], tell_other).expect("multicast");
        hears(&one_hears, 1001, 1002);
        let (tell_third, _unheard) = unbounded();
        let third = Lsd::start(&btsync::bind::Bind::Any, 1003, vec![OURS], tell_third).expect("multicast");
        hears(&other_hears, 1002, 1003);
        let begun = Instant::now();
        [one, other, third].into_iter().for_each(Lsd::stop);
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for nothing but its thread");
    });
}

/// The routes lead multicast elsewhere.
#[test]
fn neighbours_on_the_interface_given_are_heard() {
    isolated("neighbours_on_the_interface_given_are_heard", &[], || {
        allow_multicast_on_lo();
        let script = "ip link add near type veth peer name far && ip link set far up && ip link set near up &&
            ip addr add 10.89.0.1/24 dev near && ip addr add fd89::1/64 dev near nodad";
        assert!(Command::new("sh").args(["-c", script]).status().expect("sh").success());
        let (tell_one, one_hears) = unbounded();
        let (tell_other, _unheard) = unbounded();
        let near = btsync::bind::Bind::Interface("near".into());
        let one = Lsd::start(&near, 1001, vec![OURS], tell_one).expect("multicast");
        let other = Lsd::start(&near, 1002, vec![OURS], tell_other).expect("multicast");
        hears(&one_hears, 1001, 1002);
        [one, other].into_iter().for_each(Lsd::stop);
    });
}
