//! Attacks on the memory and the descriptors of the process: floods by peers that never read an answer, choke flapping, and more
//! callers than descriptors. The program runs as a process of its own, and its peak of resident memory is what counts.

mod common;

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::netns::{installed, not_run};
use common::payload::Payload;
use common::process::{Running, without_settings};
use common::scene::{seeding, unchoked};
use common::seeder::{FakePeer, Gate, block, full_bitfield};
use common::talker::{Talker, Turn, size_of};
use common::tracker::Tracker;
use common::wire::{Message, Wire, extended_handshake, frame, id};
use common::{Stage, btsync, free_port, until};

/// Connections that flood at the same time, and how often each says the same.
const FLOODERS: usize = 8;
const TIMES: usize = 2000;
/// Connections that choke and unchoke at the same time, and how often: below what counts as a flood.
const FLAPPERS: usize = 24;
const FLAPS: usize = 900;
/// What the process may have had resident at any time, in KiB. Without an attack it takes a quarter of that.
const PEAK: u64 = 32 * 1024;

fn payload() -> Payload {
    Payload::single("flood.bin", 8 << 20, 16 * 1024)
}

/// Sends `round` until so many messages have been sent, or until the other end has had enough. Reads nothing.
fn flood(wire: &mut Wire, round: &[u8], times: usize) {
    let once = round.repeat(100);
    for _ in 0..times / 100 {
        if wire.send_raw(&once).is_err() {
            return;
        }
    }
}

/// A connection with all extensions, whose extension handshake says that it knows metadata and peer exchange messages.
fn extended(addr: SocketAddr, info_hash: [u8; 20]) -> Wire {
    let mut wire = Wire::call(addr);
    let said = frame(id::EXTENDED, b"\0d1:md11:ut_metadatai3e6:ut_pexi7eee");
    wire.send_raw(&[extended_handshake(info_hash), said].concat()).expect("a handshake");
    wire.read_handshake().expect("a handshake in return");
    wire
}

/// Many connections send `first`, then `round` many times each, read nothing, and stay until the memory was looked at.
fn all_flood(running: &Running, addr: SocketAddr, swarm: [u8; 20], first: &[u8], round: &[u8]) {
    let floods: Vec<_> = (0..FLOODERS)
        .map(|_| {
            let (mut wire, round) = (extended(addr, swarm), round.to_vec());
            wire.send_raw(first).expect("a word to btsync");
            thread::spawn(move || {
                flood(&mut wire, &round, TIMES);
                wire
            })
        })
        .collect();
    let wires: Vec<_> = floods.into_iter().map(|flood| flood.join().expect("a flood")).collect();
    assert_bounded(running);
    drop(wires);
}

fn assert_bounded(running: &Running) {
    let peak = running.peak_memory();
    assert!(peak < PEAK, "btsync took {peak} KiB");
}

fn number(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Each kind of message that costs an answer or a note, below the number at which it counts as a flood.
fn rounds() -> Vec<Vec<u8>> {
    let block = [number(1), number(0), number(16 * 1024)].concat();
    let peers: Vec<u8> = (0..50u8).flat_map(|n| [192, 0, 2, n, 1, 1]).collect();
    let pex = [&b"\x01d5:added300:"[..], &peers, b"e"].concat();
    vec![
        frame(id::EXTENDED, b"\x02d8:msg_typei0e5:piecei0ee"),
        frame(id::EXTENDED, b"\x02d8:msg_typei0e5:piecei99ee"),
        frame(id::EXTENDED, b"\0d1:md11:ut_metadatai3e6:ut_pexi7ee13:metadata_sizei9999e6:yourip4:\x01\x02\x03\x04e"),
        frame(id::EXTENDED, &pex),
        frame(id::HAVE, &number(1)),
        frame(id::CANCEL, &block),
        [frame(id::REQUEST, &block), frame(id::CANCEL, &block)].concat(),
        frame(id::REQUEST, &block),
        frame(id::SUGGEST, &number(1)),
        frame(id::ALLOWED_FAST, &number(1)),
        frame(9, &[0x1a, 0xe1]),
        [frame(id::INTERESTED, &[]), frame(id::NOT_INTERESTED, &[])].concat(),
        [frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat(),
    ]
}

/// One after the other, and the seeder serves an honest peer afterwards.
#[test]
fn floods_against_a_seeder() {
    let (stage, payload) = (Stage::new(), payload());
    let (seeder, addr, _tracker) = seeding(&stage, &payload);
    let swarm = payload.info_hash();
    for round in rounds() {
        all_flood(&seeder, addr, swarm, &[], &round);
    }
    let (mut fair, content) = (unchoked(addr, &payload), payload.content());
    fair.request(3, 0, 16 * 1024).expect("a request");
    let right = block(&payload, &content, 3, 0, 16 * 1024).to_vec();
    fair.receive_until(&Message::Piece(3, 0, right)).expect("the block that was asked for");
}

/// The same against a download, whose peers offer all of it.
#[test]
fn floods_against_a_download() {
    let (stage, payload, port) = (Stage::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = stage.torrent(&payload, &tracker.url("127.0.0.1"));
    let running = stage.btsync("btsync", &torrent, &stage.folder("out"), port, &["--max-peers", "100"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let all = frame(id::BITFIELD, &full_bitfield(payload.pieces()));
    let swarm = payload.info_hash();
    for round in rounds() {
        all_flood(&running, addr, swarm, &all, &round);
    }
    // Requests are picked at each unchoke, and are of no use after the choke: the peer is never told of them.
    let flaps = [frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat().repeat(FLAPS);
    let wires: Vec<_> = (0..FLAPPERS)
        .map(|_| {
            let mut wire = Wire::dial(addr, swarm).expect("a handshake");
            wire.send_raw(&[&*all, &flaps].concat()).expect("below what counts as a flood");
            wire
        })
        .collect();
    assert_bounded(&running);
    drop(wires);
}

/// A peer that chokes and unchokes all the time costs the picker's time: it is disconnected.
#[test]
fn a_peer_that_flaps_is_disconnected() {
    let (stage, payload, port) = (Stage::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = stage.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut running = stage.btsync("btsync", &torrent, &stage.folder("out"), port, &[]);
    let mut wire = Wire::dial(([127, 0, 0, 1], port).into(), payload.info_hash()).expect("a handshake");
    wire.send(id::BITFIELD, &full_bitfield(payload.pieces())).expect("a bitfield");
    let mut reads = wire.again().expect("a second handle");
    let reader = thread::spawn(move || reads.closed());
    flood(&mut wire, &[frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat(), 4000);
    reader.join().expect("a reader").expect("to be hung up on");
    assert!(running.runs());
}

/// Callers come all the time between a link's metadata and its download, more of them than the process may have descriptors. It
/// has few, so that files cannot be opened where the callers have them all.
#[test]
fn callers_between_the_metadata_and_the_download() {
    let (stage, payload, port) = (Stage::new(), Payload::single("linked.bin", 400 * 4096, 4096), free_port());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let (come, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (come, over) = (come.clone(), over.clone());
            thread::spawn(move || {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match TcpStream::connect_timeout(&addr, common::PATIENCE) {
                        Ok(stream) => held.push(stream),
                        Err(_) => thread::yield_now(),
                    }
                    come.fetch_add(1, Ordering::Relaxed);
                    if held.len() >= 300 {
                        held.clear();
                    }
                }
            })
        })
        .collect();
    // It does not hang up when the metadata is there: the step to the download takes its time.
    let info_hash = payload.info_hash();
    let lingers = thread::spawn(move || {
        let mut wire = Wire::call(addr);
        let _ = wire.send_raw(&extended_handshake(info_hash));
        let _ = wire.closed();
    });
    let held_back = come.clone();
    let honest = Talker::new(&payload, size_of(&payload), move |_, turn| {
        if matches!(turn, Turn::Metadata(_)) {
            until("many have called", || held_back.load(Ordering::Relaxed) > 600);
        }
        Ok(false)
    });
    let mut command = Command::new("prlimit");
    without_settings(&mut command).arg("--nofile=100").arg(btsync().get_program());
    command.arg(payload.magnet("")).arg(stage.folder("out")).args(["--no-dht", "--no-lsd"]);
    command.args(["--listen-port", &port.to_string(), "--peer", &honest.addr().to_string()]);
    let mut poor = stage.start("poor", command.env("XDG_CACHE_HOME", stage.path("cache")));
    poor.ends_with(0);
    payload.assert_at(&stage.path("out"));
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("a caller");
    }
    let _ = lingers.join();
}

/// Descriptors run out in the middle of a download of many files: it waits for some, and goes on.
#[test]
fn a_download_outlives_a_shortage_of_descriptors() {
    let names: Vec<String> = (0..60).map(|n| format!("f{n:02}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 32_000)).collect();
    let (stage, payload) = (Stage::new(), Payload::tree("many", &files, 16 * 1024));
    let gate = Gate::new(5);
    let seeder = FakePeer::honest(&payload, &gate);
    let torrent = stage.torrent(&payload, "http://127.0.0.1:9/announce");
    let more = ["--bt-exclude-tracker", "*", "--peer", &seeder.addr.to_string()];
    let mut running = stage.btsync("btsync", &torrent, &stage.folder("out"), free_port(), &more);
    until("some blocks have come", || gate.served() >= 5);
    let limit = |files: u32| {
        let (pid, files) = (format!("--pid={}", running.pid()), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args([pid, files]).status().expect("prlimit").success());
    };
    // The lowest numbers are taken: nothing can be opened, whatever is closed.
    limit(3);
    gate.open();
    until("it finds no descriptor", || running.log().contains("no descriptors are left"));
    limit(1024);
    running.ends_with(0);
    payload.assert_at(&stage.path("out"));
}

/// The soft limit of descriptors is raised, and the user's own command has the one from before.
#[test]
fn more_descriptors_are_asked_for_but_not_for_the_users_command() {
    let (stage, payload) = (Stage::new(), Payload::single("small.bin", 32 * 1024, 16 * 1024));
    let (mut command, told) = (Command::new("prlimit"), stage.path("told"));
    without_settings(&mut command).args(["--nofile=256:4096"]).arg(btsync().get_program());
    command.arg(stage.torrent(&payload, "http://127.0.0.1:9/announce")).arg(stage.folder_with("out", &payload));
    command.args([
        "--no-dht",
        "--no-lsd",
        "--seed",
        "--bt-exclude-tracker",
        "*",
        "--listen-port",
        &free_port().to_string(),
    ]);
    command.args(["--on-download-complete", &format!("ulimit -Sn > {0}.new; mv {0}.new {0}", told.display())]);
    let mut running = stage.start("btsync", command.env("XDG_CACHE_HOME", stage.path("cache")));
    until("the command has been run", || told.exists());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line on files");
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    assert_eq!(std::fs::read_to_string(&told).expect("the command's limit").trim(), "256");
    running.terminate(0);
}

/// There is no descriptor when it is to listen, or when the DHT and local discovery are to begin: it tries again until there is one.
#[test]
fn what_finds_no_descriptor_at_the_start_is_tried_again() {
    const TEST: &str = "what_finds_no_descriptor_at_the_start_is_tried_again";
    if !installed(TEST, &["strace"]) {
        return;
    }
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !traced {
        return not_run(TEST, "this machine lets nobody trace a process");
    }
    // The first socket listens, the next ones are the DHT's and local discovery's.
    for calls in ["1..3", "2..5"] {
        let (stage, payload) = (Stage::new(), payload());
        let node = UdpSocket::bind("127.0.0.1:0").expect("a port");
        node.set_read_timeout(Some(common::PATIENCE)).expect("a timeout");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(stage.path("trace")).arg("-e").arg("trace=socket");
        command.arg(format!("--inject=socket:error=EMFILE:when={calls}")).arg(btsync().get_program());
        command.arg(stage.torrent(&payload, "http://127.0.0.1:9/announce")).arg(stage.folder("out"));
        command.args(["--bt-exclude-tracker", "*", "--listen-port", &free_port().to_string(), "--dht-entry-point"]);
        command.arg(node.local_addr().expect("an address").to_string());
        let command = without_settings(&mut command).env("RUST_LOG", "info");
        let mut poor = stage.start("poor", command.env("XDG_CACHE_HOME", stage.path("cache")));
        let (length, _) = node.recv_from(&mut [0; 1500]).expect("a query of the DHT");
        assert!(length > 0 && poor.runs());
        let trace = std::fs::read_to_string(stage.path("trace")).expect("a trace");
        assert!(trace.lines().filter(|line| line.contains("(INJECTED)")).count() >= 3, "{trace}");
        assert_eq!(poor.log().contains("no DHT yet"), calls == "2..5");
        // strace keeps signals to itself.
        let pid = trace.split_whitespace().next().expect("a process");
        assert!(Command::new("kill").arg(pid).status().expect("kill").success());
        poor.ends_with(7);
    }
}
