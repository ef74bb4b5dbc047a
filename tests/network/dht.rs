//! Our DHT node and libtorrent's: each finds what the other announced, over UDP alone.
//!
//! scripts/test-setup.sh installs libtorrent. Each test runs in its own network namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};
use btsync::dht::DhtItem;
use btsync::discovery::dht::message::{KrpcBody, KrpcMessage, KrpcResponse, Query};
use btsync::discovery::dht::{DhtConfig, DhtService, FoundPeers, NodeId};
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

/// What a node at address 2 sees in the first announce of `btsync`: whether the port is implied, and whether it is a seed.
fn first_announce(temp: &TestDir, name: &str, code: i32, args: &[&str]) -> (bool, bool) {
    let node = UdpSocket::bind((four(2), 0)).expect("a port");
    node.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let entry = node.local_addr().expect("an address").to_string();
    let args = [&["--no-lsd", "--dht-entry-point", &entry, "--seed"], args].concat();
    let (torrent, out) = (temp.path("x.torrent"), temp.folder(name));
    let mut running = temp.btsync_with_discovery(name, torrent.as_os_str(), &out, free_port(), &args);
    let mut packet = [0; 1500];
    let body = loop {
        let (length, from) = node.recv_from(&mut packet).expect("a query");
        let Ok(message) = KrpcMessage::decode(&packet[..length]) else { continue };
        let KrpcBody::Query { query, .. } = message.body else { continue };
        if let Query::AnnouncePeer { is_port_implied, is_seed, .. } = query {
            break (is_port_implied, is_seed);
        }
        let token = Some(b"token".to_vec());
        let response = KrpcBody::Response(KrpcResponse { token, ..KrpcResponse::new(NodeId([2; 20])) });
        let answer = KrpcMessage { transaction: message.transaction, ip: None, body: response };
        node.send_to(&answer.encode(), from).expect("sent");
    };
    running.terminate(code);
    body
}

#[test]
fn announces_imply_the_port_with_utp_and_tell_seeds() {
    in_network_namespace("announces_imply_the_port_with_utp_and_tell_seeds", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 100_000, 32 * 1024));
        std::fs::write(temp.path("x.torrent"), payload.torrent("http://127.0.0.1:9/announce")).expect("a torrent");
        payload.write_files(&temp.folder("seed"));
        assert_eq!(first_announce(&temp, "seed", 0, &["--transport", "both"]), (true, true));
        assert_eq!(first_announce(&temp, "leech", 7, &["--transport", "tcp"]), (false, false));
    });
}

/// The output of `btsync dht` at address 1, with `node` as the only entry point.
fn dht_command(temp: &TestDir, node: SocketAddr, args: &[&str]) -> Output {
    let mut command = btsync();
    command.arg("dht").args(args).current_dir(temp.path("")).env("XDG_CACHE_HOME", temp.path("cache"));
    command.args(["--no-config", "--wait", "30", "--dht-entry-point", &node.to_string()]);
    command.args(["--interface", &four(1).to_string(), "--listen-port", &free_port().to_string()]);
    command.stdin(std::process::Stdio::null()).output().expect("btsync starts")
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn libtorrent_and_we_exchange_items() {
    in_network_namespace("libtorrent_and_we_exchange_items", &[PYTHON], || {
        let temp = TestDir::new();
        let (_first, node) = libtorrent(&temp, four(2), None, &["stay"]);
        std::fs::write(temp.path("hello"), "hello world").expect("a file");
        let hash = printed(&dht_command(&temp, node, &["put", "--value", "hello"]));
        let (mut second, _) = libtorrent(&temp, four(3), Some(node), &["get", &hash]);
        second.wait_for_output("item hello world");
        assert_eq!(printed(&dht_command(&temp, node, &["get", &hash])), "hello world");
        let missing = dht_command(&temp, node, &["get", &"ab".repeat(20)]);
        assert_eq!(missing.status.code(), Some(1), "{}", String::from_utf8_lossy(&missing.stderr));

        let put = ["put", "--value", "hello", "--key", "key", "--salt", "s"];
        let key = printed(&dht_command(&temp, node, &put));
        let (mut third, _) = libtorrent(&temp, four(4), Some(node), &["get-signed", &key, "s"]);
        third.wait_for_output("signed 1 hello world");
        let seed = std::fs::read_to_string(temp.path("key")).expect("a key");
        let theirs = ["put-signed", seed.trim(), &key, "s", "good bye"];
        let (mut fourth, _) = libtorrent(&temp, four(5), Some(node), &theirs);
        fourth.wait_for_output("put complete");
        let found = dht_command(&temp, node, &["get", &key, "--salt", "s"]);
        assert_eq!(printed(&found), "good bye");
        assert!(!String::from_utf8_lossy(&found.stderr).contains("sequence number 1\n"));
        assert_eq!(printed(&dht_command(&temp, node, &put)), key, "a value that is put again is the newest");
        assert_eq!(printed(&dht_command(&temp, node, &["get", &key, "--salt", "s"])), "hello world");
    });
}

/// Our node is the only one that libtorrent's nodes know at first.
#[test]
fn libtorrent_stores_items_and_samples_info_hashes_at_our_node() {
    in_network_namespace("libtorrent_stores_items_and_samples_info_hashes_at_our_node", &[PYTHON], || {
        let temp = TestDir::new();
        let unused = SocketAddr::new(four(9), 9);
        let (service, _found) = ours(four(1), unused, false);
        let node = service.local_addrs()[0];
        let (_first, _) = libtorrent(&temp, four(2), Some(node), &["put", "stored by libtorrent"]);
        let stored = || service.stats().iter().any(|(_, stats)| stats.items == 1);
        until("our node has the item", stored);
        let value = b"20:stored by libtorrent".to_vec();
        let item = DhtItem::immutable(value).expect("a value");
        let (mut second, _) = libtorrent(&temp, four(3), Some(node), &["get", &item.target().to_string()]);
        second.wait_for_output("item stored by libtorrent");
        let (_third, _) = libtorrent(&temp, four(4), Some(node), &["announce", &THEIRS.hex(), "7777"]);
        until("our node has the announce", || service.stats().iter().any(|(_, stats)| stats.stored == 1));
        let (mut fourth, _) = libtorrent(&temp, four(5), Some(node), &["sample", &node.to_string()]);
        fourth.wait_for_output(&format!("sample {}", THEIRS.hex()));
        service.stop().expect("nothing to write");
    });
}

#[test]
fn wrong_uses_of_the_dht_command_have_their_codes() {
    let temp = TestDir::new();
    std::fs::write(temp.path("big"), vec![b'x'; 997]).expect("a file");
    std::fs::write(temp.path("small"), "x").expect("a file");
    let cases: [(&[&str], i32); 11] = [
        (&["get"], 28),
        (&["get", "12"], 28),
        (&["get", "12", "--value", "small"], 28),
        (&["put"], 28),
        (&["put", "--value", "big"], 28),
        (&["put", "--value", "small", "--salt", "s"], 28),
        (&["put", "target", "--value", "small"], 28),
        (&["put", "--value", "small", "--key", "small"], 28),
        (&["put", "--value", "missing"], 15),
        (&["put", "--value", "small", "--key", "missing/key"], 16),
        (&["look"], 28),
    ];
    for (args, code) in cases {
        let output = btsync().arg("dht").args(args).current_dir(temp.path("")).output().expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn without_any_dht_node_the_dht_command_runs_out_of_time() {
    in_network_namespace("without_any_dht_node_the_dht_command_runs_out_of_time", &[], || {
        let temp = TestDir::new();
        let node = SocketAddr::new(four(9), 9);
        let mut command = btsync();
        command
            .args(["dht", "get", &"ab".repeat(20), "--no-config", "--wait", "1"])
            .env("XDG_CACHE_HOME", temp.path(""));
        command.args(["--dht-entry-point", &node.to_string(), "--listen-port", &free_port().to_string()]);
        assert_eq!(command.output().expect("btsync starts").status.code(), Some(2));
    });
}
