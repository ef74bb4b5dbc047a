//! Our DHT node and libtorrent's: each finds what the other announced, over UDP alone.
//!
//! scripts/test-setup.sh installs libtorrent. Each test runs in its own network namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::{PATIENCE, TestDir, btsync, free_port};
use btsync::discovery::dht::{DhtConfig, DhtService, FoundPeers};
use btsync::types::InfoHash;
use crossbeam_channel::{Receiver, unbounded};

const PYTHON: &str = ".venv/bin/python";
/// The info-hash that libtorrent announces, and the one that btsync announces.
const THEIRS: InfoHash = InfoHash([0x3c; 20]);
const OURS: InfoHash = InfoHash([0xa5; 20]);

fn four(host: u16) -> IpAddr {
    crate::common::netns::address(host as u8).parse().expect("an address")
}

fn six(host: u16) -> IpAddr {
    IpAddr::from([0xfd88, 0, 0, 0, 0, 0, 0, host])
}

/// Starts libtorrent at `ip` with `node` as its bootstrap node.
fn libtorrent(temp: &TestDir, ip: IpAddr, node: Option<SocketAddr>, deed: &[&str]) -> (Running, SocketAddr) {
    let addr = SocketAddr::new(ip, free_port());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(repository.join(PYTHON));
    command.arg(repository.join("scripts/lt_dht.py")).arg(addr.to_string());
    command.arg(node.map_or("-".into(), |node| node.to_string())).args(deed);
    (temp.start(&format!("libtorrent-{ip}").replace(':', "_"), &mut command), addr)
}

fn ours(ip: IpAddr, node: SocketAddr, is_read_only: bool) -> (DhtService, Receiver<FoundPeers>) {
    let (sender, found) = unbounded();
    let config = DhtConfig {
        interface: btsync::net::bind::Bind::Address(ip),
        routers: vec![],
        entry_points: vec![node.to_string()],
        is_read_only,
        ..DhtConfig::default()
    };
    (DhtService::start(&config, &sender).expect("a DHT node"), found)
}

/// Two libtorrent nodes run, and one announces. Our node finds that announce and announces itself; a third libtorrent node finds
/// ours.
fn each_finds_the_others(address: fn(u16) -> IpAddr, read_only: bool) {
    let temp = TestDir::new();
    let (mut first, node) = libtorrent(&temp, address(2), None, &["stay"]);
    let (_second, _) = libtorrent(&temp, address(3), Some(node), &["announce", &THEIRS.hex(), "7777"]);
    first.wait_for_output(&format!("incoming dht announce: {}:7777", address(3)));

    let (service, found) = ours(address(1), node, read_only);
    service.search(THEIRS, None);
    service.search(OURS, Some(4444));
    let peer = SocketAddr::new(address(3), 7777);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match found.recv_deadline(deadline) {
            Ok(found) if found.info_hash == THEIRS && found.peers.contains(&peer) => break,
            Ok(found) => assert!(found.info_hash != THEIRS || found.peers.is_empty(), "unknown peers: {found:?}"),
            Err(error) => panic!("{peer} was not found: {error}; {:?}", service.stats()),
        }
    }
    let (mut third, _) = libtorrent(&temp, address(4), Some(node), &["find", &OURS.hex()]);
    third.wait_for_output(&format!("peer {}:4444", address(1)));
    if !read_only {
        // libtorrent has our node in its routing table too.
        first.wait_for_output("nodes 3");
    }
    service.stop().expect("nothing to write");
}

#[test]
fn libtorrent_and_we_find_each_other() {
    in_network_namespace("libtorrent_and_we_find_each_other", &[PYTHON], || each_finds_the_others(four, false));
}

#[test]
fn libtorrent_and_we_find_each_other_over_ipv6() {
    in_network_namespace("libtorrent_and_we_find_each_other_over_ipv6", &[PYTHON], || {
        each_finds_the_others(six, false);
    });
}

#[test]
fn a_read_only_node_finds_and_is_found_all_the_same() {
    in_network_namespace("a_read_only_node_finds_and_is_found_all_the_same", &[PYTHON], || {
        each_finds_the_others(four, true);
    });
}

#[test]
fn the_nodes_that_a_torrent_names_are_asked() {
    in_network_namespace("the_nodes_that_a_torrent_names_are_asked", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 100_000, 32 * 1024));
        let node = UdpSocket::bind((four(2), 0)).expect("a port");
        node.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let port = node.local_addr().expect("an address").port();
        let mut bytes = payload.torrent("http://127.0.0.1:9/announce");
        bytes.pop();
        let host = four(2).to_string();
        bytes.extend(format!("5:nodesll{}:{host}i{port}eeee", host.len()).bytes());
        std::fs::write(temp.path("x.torrent"), &bytes).expect("a torrent");
        let info = btsync().arg("info").arg(temp.path("x.torrent")).output().expect("it starts");
        let said = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(said.contains(&format!("DHT node    {}:{port}\n", four(2))), "{said}");
        let out = temp.folder("out");
        let torrent = temp.path("x.torrent");
        let mut running = temp.btsync_with_discovery("nodes", torrent.as_os_str(), &out, free_port(), &["--no-lsd"]);
        let mut packet = [0; 1500];
        let length = node.recv(&mut packet).expect("a question");
        assert!(packet[..length].starts_with(b"d1:ad2:id20:"), "{}", packet[..length].escape_ascii());
        running.terminate(7);
    });
}
