//! Hole punching (BEP 55): between machines behind routers, and what strangers can make of it.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Instant;

use crate::common::nat::{NattedMachine, become_internet};
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, Wire, connect_from, extended_handshake, id};
use crate::common::{PATIENCE, TestDir, btsync, until};

/// The relay's address, and that of another host of the internet.
const RELAY: &str = "20.0.0.1";
const OTHER: &str = "20.0.0.9";
const RELAY_PORT: u16 = 6880;
/// The id under which our scripted peers receive holepunch messages, and that of btsync.
const OUR_ID: u8 = 9;
const THEIR_ID: u8 = 5;

fn relay_addr() -> SocketAddr {
    SocketAddr::new(RELAY.parse().expect("an address"), RELAY_PORT)
}

/// Files of which the relay wants only the second. They share no piece.
fn payload() -> Payload {
    Payload::tree("both", &[("large.bin", 1 << 20), ("small.bin", 50_000)], 64 * 1024)
}

/// A btsync that finds peers only by its tracker and peer exchange.
fn peer(temp: &TestDir, name: &str, payload: &Payload, announce: &str, folder: &str, port: u16) -> Command {
    let mut command = btsync();
    command.arg(temp.torrent(payload, announce)).arg(temp.folder(folder)).args(["--json", "--no-dht", "--no-lsd"]);
    command.args(["--listen-port", &port.to_string()]).env("XDG_CACHE_HOME", temp.path(&format!("{name}-cache")));
    command.env("RUST_LOG", "info,btsync::torrent::peer_manager::hole_punch=debug");
    command
}

/// The relay, which wants only the small file of the payload, and has it if `is_complete`.
fn start_relay(temp: &TestDir, payload: &Payload, announce: &str, is_complete: bool) -> Running {
    if is_complete {
        payload.write_files(&temp.folder("relay"));
        std::fs::remove_file(temp.path("relay").join("both/large.bin")).expect("the file");
    }
    let mut command = peer(temp, "relay", payload, announce, "relay", RELAY_PORT);
    command.args(["--select", "2", "--seed", "--interface", RELAY]);
    let mut relay = temp.start("relay", &mut command);
    relay.wait_for_output("\"listening\"");
    relay
}

/// A scripted peer that connects from `from`, with the entries of its extension handshake.
fn scripted_peer(from: &str, to: SocketAddr, payload: &Payload, messages: &str, port: u16) -> Wire {
    let from: IpAddr = from.parse().expect("an address");
    let mut wire = Wire::raw(connect_from(from, to).expect("a connection"));
    wire.send_raw(&extended_handshake(payload.info_hash())).expect("an open connection");
    wire.read_handshake().expect("a handshake");
    let said = format!("d1:md{messages}e1:pi{port}ee");
    wire.send(id::EXTENDED, &[&[0], said.as_bytes()].concat()).expect("an open connection");
    wire
}

/// A holepunch message with an IPv4 address.
fn message(kind: u8, addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("{addr}") };
    [&[kind, 0][..], &addr.ip().octets(), &addr.port().to_be_bytes(), &[0; 4]].concat()
}

fn send(wire: &mut Wire, kind: u8, addr: SocketAddr) {
    wire.send(id::EXTENDED, &[&[THEIR_ID], &message(kind, addr)[..]].concat()).expect("an open connection");
}

/// The next holepunch message that the scripted peer receives.
fn next_message(wire: &mut Wire) -> Vec<u8> {
    loop {
        match wire.receive().expect("an open connection") {
            Message::Other(id::EXTENDED, body) if body.first() == Some(&OUR_ID) => return body[1..].to_vec(),
            _ => {}
        }
    }
}

/// Whether a line of the log has all these words.
fn has_line(running: &Running, words: &[&str]) -> bool {
    running.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
}

/// One side knows the other's address from the tracker, but each is behind a router that lets nobody in. Only the relay tells the
/// other side to dial, and the relay has no data.
#[test]
fn two_peers_behind_routers_exchange_data_through_a_hole() {
    let test = "two_peers_behind_routers_exchange_data_through_a_hole";
    in_network_namespace(test, &["nft"], || {
        become_internet(&[RELAY, OTHER]);
        let (temp, payload) = (TestDir::new(), payload());
        let (one, two) = (NattedMachine::new(1, "drop"), NattedMachine::new(2, "reject"));
        let (seeds, fetchers) = (format!("{}:6881", one.public_ip()), format!("{}:6882", two.public_ip()));
        // The tracker of one side knows the other, and that of the other side only the relay.
        let fetcher_addr = fetchers.parse().expect("an address");
        let trackers =
            [Tracker::without_repeats(&[relay_addr(), fetcher_addr]), Tracker::without_repeats(&[relay_addr()])];
        let [announce, fetchers_announce] = [0, 1].map(|n: usize| trackers[n].url(RELAY));
        let relay = start_relay(&temp, &payload, &announce, false);

        let mut fetch = peer(&temp, "fetch", &payload, &fetchers_announce, "fetched", 6882);
        let mut fetcher = temp.start("fetch", &mut two.command(fetch.args(["--select", "1"])));
        until("it is connected to the relay", || has_line(&fetcher, &["\"connected\"", RELAY]));
        // The relay tells a peer of others once a minute. Having told of this one, it is silent when the seed comes.
        let _told = scripted_peer(OTHER, relay_addr(), &payload, "", 7000);
        until("the relay has told of another peer", || has_line(&fetcher, &["\"failed\"", OTHER]));

        // If it had the small file, neither it nor the relay would need the other in the end.
        payload.write_files(&temp.folder("seed"));
        std::fs::remove_file(temp.path("seed").join("both/small.bin")).expect("the file");
        let mut seed = peer(&temp, "seed", &payload, &announce, "seed", 6881);
        let seed = temp.start("seed", &mut one.command(seed.args(["--seed", "--select", "1"])));
        fetcher.expect_exit(0);
        let large = temp.path("fetched").join("both/large.bin");
        let expected = temp.path("seed").join("both/large.bin");
        assert!(std::fs::read(large).expect("the file") == std::fs::read(expected).expect("the file"));

        assert!(has_line(&seed, &["\"failed\"", &fetchers]), "the router has let somebody in: {}", seed.log());
        assert!(has_line(&seed, &["asking", RELAY, &fetchers]), "{}", seed.log());
        assert!(has_line(&relay, &["introducing", &seeds, &fetchers]), "{}", relay.log());
        assert!(has_line(&fetcher, &["punching a hole", &seeds]), "{}", fetcher.log());
        assert!(has_line(&fetcher, &["\"connected\"", &seeds, "utp"]), "{}", fetcher.log());
        assert!(!temp.path("relay").join("both/large.bin").exists(), "the relay has nothing of the data");
    });
}

#[test]
fn a_relay_introduces_only_its_own_peers() {
    in_network_namespace("a_relay_introduces_only_its_own_peers", &[], || {
        become_internet(&[RELAY, OTHER, "20.0.0.8", "20.0.0.7"]);
        let (temp, payload) = (TestDir::new(), payload());
        let victim = UdpSocket::bind("20.0.0.7:6881").expect("a port");
        let _relay = start_relay(&temp, &payload, "http://20.0.0.1:1/announce", true);
        let supports = format!("12:ut_holepunchi{OUR_ID}e");
        let mut one = scripted_peer(OTHER, relay_addr(), &payload, &supports, 7001);
        let other = scripted_peer("20.0.0.8", relay_addr(), &payload, &supports, 7002);
        let mut deaf = scripted_peer("20.0.0.8", relay_addr(), &payload, "", 7003);
        let at = |host: &str, port: u16| SocketAddr::new(host.parse().expect("an address"), port);
        let answer = |wire: &mut Wire, wanted: SocketAddr| {
            send(wire, 0, wanted);
            next_message(wire)
        };
        let error = |wanted: SocketAddr, code: u8| {
            let mut expected = message(2, wanted);
            expected[11] = code;
            expected
        };
        for (wanted, code) in [
            (at("20.0.0.7", 6881), 2), // not connected to the relay
            (at("20.0.0.8", 6881), 2), // connected, but at other ports
            (at("224.0.0.1", 6881), 1),
            (at(OTHER, 7001), 1), // the initiator itself
            (relay_addr(), 4),
        ] {
            assert_eq!(answer(&mut one, wanted), error(wanted, code), "{wanted}");
        }
        // The relay has read what this peer said, once it answers something else.
        send(&mut deaf, 0, at(OTHER, 7001));
        deaf.send(id::EXTENDED, &[&[2], &b"d8:msg_typei0e5:piecei0ee"[..]].concat()).expect("an open connection");
        let mut other = other;
        until("the other peers are known", || {
            answer_is(&mut one, at("20.0.0.8", 7003), &error(at("20.0.0.8", 7003), 3))
        });
        send(&mut one, 0, at("20.0.0.8", 7002));
        assert_eq!(next_message(&mut one), message(1, at("20.0.0.8", 7002)));
        assert_eq!(next_message(&mut other), message(1, at(OTHER, 7001)));
        victim.set_nonblocking(true).expect("a socket");
        assert!(victim.recv(&mut [0; 100]).is_err(), "a packet reached a host that is no peer");
    });
}

fn answer_is(wire: &mut Wire, wanted: SocketAddr, expected: &[u8]) -> bool {
    send(wire, 0, wanted);
    next_message(wire) == expected
}

#[test]
fn a_relay_that_floods_a_peer_makes_it_dial_little_and_never_by_tcp() {
    let test = "a_relay_that_floods_a_peer_makes_it_dial_little_and_never_by_tcp";
    in_network_namespace(test, &[], || {
        become_internet(&[RELAY, OTHER]);
        let route = Command::new("ip").args(["route", "add", "local", "20.7.0.0/16", "dev", "lo"]).status();
        assert!(route.expect("ip").success(), "no route");
        let (temp, payload) = (TestDir::new(), payload());
        let udp = UdpSocket::bind("0.0.0.0:5000").expect("a port");
        let local = UdpSocket::bind("0.0.0.0:1000").expect("a port");
        udp.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let tcp = TcpListener::bind("0.0.0.0:5000").expect("a port");
        let mut target = start_relay(&temp, &payload, "http://20.0.0.1:1/announce", true);
        let begun = Instant::now();
        let mut relays: Vec<Wire> = (0..3)
            .map(|n| scripted_peer(OTHER, relay_addr(), &payload, &format!("12:ut_holepunchi{OUR_ID}e"), 7001 + n))
            .collect();
        for (number, relay) in relays.iter_mut().enumerate() {
            for n in 0..300_u16 {
                let [high, low] = n.to_be_bytes();
                let host = IpAddr::from([20, 7, 10 * number as u8 + high, low.max(1)]);
                send(relay, 1, SocketAddr::new(host, if n % 3 == 0 { 5000 } else { 1000 }));
                // Addresses that a public relay must not name.
                send(relay, 1, SocketAddr::new([10, 88, 0, 1].into(), 5000));
                send(relay, 1, SocketAddr::new([127, 0, 0, 1].into(), 5000));
            }
        }
        let mut packets = 0;
        while packets < 3 {
            let (_, from) = udp.recv_from(&mut [0; 100]).expect("it dials some of them");
            assert_eq!(from, relay_addr());
            packets += 1;
        }
        target.terminate(0);
        udp.set_nonblocking(true).expect("a socket");
        while udp.recv_from(&mut [0; 100]).is_ok() {
            packets += 1;
        }
        // Four addresses of each relay, eight in all, and one more every four seconds; three packets each.
        let most = 3 * (8 + begun.elapsed().as_secs() / 4);
        assert!(packets <= most, "{packets} packets, {most} allowed");
        local.set_nonblocking(true).expect("a socket");
        tcp.set_nonblocking(true).expect("a socket");
        assert!(local.recv_from(&mut [0; 100]).is_err() && tcp.accept().is_err());
    });
}

#[test]
fn hole_punching_is_offered_only_where_it_can_work() {
    in_network_namespace("hole_punching_is_offered_only_where_it_can_work", &[], || {
        become_internet(&[RELAY, OTHER]);
        let payload = payload();
        let mut private = payload.clone();
        private.private = true;
        let offers = |payload: &Payload, more: &[&str]| {
            let temp = TestDir::new();
            let mut command = peer(&temp, "it", payload, "http://20.0.0.1:1/announce", "it", RELAY_PORT);
            let mut running = temp.start("it", command.args(["--interface", RELAY]).args(more));
            running.wait_for_output("\"listening\"");
            let mut wire = scripted_peer(OTHER, relay_addr(), payload, "", 7001);
            loop {
                match wire.receive().expect("an open connection") {
                    Message::Other(id::EXTENDED, body) if body.first() == Some(&0) => {
                        return String::from_utf8_lossy(&body).contains("12:ut_holepunch");
                    }
                    _ => {}
                }
            }
        };
        assert!(offers(&payload, &[]));
        for more in [&["--transport", "tcp"][..], &["--no-pex"], &["--anonymous"]] {
            assert!(!offers(&payload, more), "{more:?}");
        }
        assert!(!offers(&private, &[]), "a private torrent");
    });
}
