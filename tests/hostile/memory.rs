//! Attacks on memory and file descriptors: floods by peers that never read an answer, rapid choking and unchoking, and more
//! incoming connections than descriptors. btsync runs as a separate process, whose peak resident memory is checked.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::extended_peer::{ExtendedEvent, ExtendedPeer, size_of};
use crate::common::hostile_peer::{seeding, unchoked};
use crate::common::netns::can_trace;
use crate::common::payload::Payload;
use crate::common::process::{Running, without_settings};
use crate::common::seeder::{FakePeer, Gate, block, full_bitfield};
use crate::common::tracker::Tracker;
use crate::common::web::{Page, WebServer};
use crate::common::wire::{Message, Wire, connect_as_peer_from, extended_handshake, frame, id};
use crate::common::{TestDir, btsync, free_port, until};

/// The number of flooding connections, and how often each sends the same message.
const FLOODERS: usize = 8;
const TIMES: usize = 2000;
/// The number of connections that choke and unchoke rapidly, and how often: less than the flood threshold.
const FLAPPERS: usize = 24;
const FLAPS: usize = 800;
/// The number of connections that flood until btsync ends.
const CONNECTIONS: usize = 50;
/// The highest peak of resident memory that passes, in KiB. Without an attack btsync needs a quarter of it.
const PEAK: u64 = 32 * 1024;

fn payload() -> Payload {
    Payload::single("flood.bin", 8 << 20, 16 * 1024)
}

/// Sends `round` that many times, or until the other side closes the connection. Reads nothing.
fn flood(wire: &mut Wire, round: &[u8], times: usize) {
    let once = round.repeat(100);
    for _ in 0..times / 100 {
        if wire.send_raw(&once).is_err() {
            return;
        }
    }
}

/// A connection with all extensions; its extension handshake announces metadata and peer exchange.
fn extended(addr: SocketAddr, info_hash: [u8; 20]) -> Wire {
    let mut wire = Wire::connect(addr);
    let said = frame(id::EXTENDED, b"\0d1:md11:ut_metadatai3e6:ut_pexi7eee");
    wire.send_raw(&[extended_handshake(info_hash), said].concat()).expect("a handshake");
    wire.read_handshake().expect("a handshake in return");
    wire
}

/// Several connections send `first`, then `round` many times, read nothing, and stay open until the memory is measured.
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

/// The number of connections that request much and read nothing, as many as btsync accepts, and the highest peak that passes.
const STALLERS: u32 = 225;
const STALLED_PEAK: u64 = 64 * 1024;
/// Blocks that each of them downloads first, more than the buffers hold, so that the seed opens slots for all of them.
const FAST: u32 = 64;

/// Peers that download until all of them have a slot, then send as many requests as allowed and stop reading.
#[test]
fn peers_that_ask_for_much_and_read_nothing() {
    let (temp, payload) = (TestDir::new(), payload());
    let (seeder, addr, _tracker) = seeding(&temp, &payload);
    let swarm = payload.info_hash();
    let unchoked = Arc::new(AtomicUsize::new(0));
    let pieces = payload.pieces() as u32;
    let blocks = |from: u32, count: u32| -> Vec<u8> {
        let block = |n: u32| [number((from + n) % pieces), number(0), number(16 * 1024)].concat();
        (0..count).flat_map(|n| frame(id::REQUEST, &block(n))).collect()
    };
    let wires: Vec<_> = (0..STALLERS)
        .map(|n| {
            let (unchoked, few, many) = (unchoked.clone(), blocks(n, FAST), blocks(n, 1900));
            let from = [127, 1 + (n / 200) as u8, (n % 200) as u8, 1];
            thread::spawn(move || {
                let mut wire = connect_as_peer_from(from.into(), addr, swarm).expect("a place");
                wire.send(id::INTERESTED, &[]).expect("a word to the seeder");
                wire.receive_until(&Message::Unchoke).expect("a slot");
                unchoked.fetch_add(1, Ordering::Relaxed);
                while unchoked.load(Ordering::Relaxed) < STALLERS as usize {
                    wire.send_raw(&few).expect("requests");
                    for _ in 0..FAST {
                        while !matches!(wire.receive().expect("a block"), Message::Piece(..)) {}
                    }
                }
                wire.send_raw(&many).expect("requests");
                wire
            })
        })
        .collect();
    let wires: Vec<_> = wires.into_iter().map(|wire| wire.join().expect("no panic")).collect();
    // The kernel's buffers are full once no data has been sent for a while.
    let mut before = u64::MAX;
    until("no writer gets anything into its socket", || {
        thread::sleep(Duration::from_millis(500));
        let read = seeder.bytes_read();
        std::mem::replace(&mut before, read) == read
    });
    let peak = seeder.peak_memory();
    assert!(peak < STALLED_PEAK, "btsync took {peak} KiB");
    drop(wires);
}

/// Every kind of message that costs an answer or state, repeated less often than the flood threshold.
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

/// One flood after the other; afterwards the seeder still serves an honest peer.
#[test]
fn floods_against_a_seeder() {
    let (temp, payload) = (TestDir::new(), payload());
    let (seeder, addr, _tracker) = seeding(&temp, &payload);
    let swarm = payload.info_hash();
    for round in rounds() {
        all_flood(&seeder, addr, swarm, &[], &round);
    }
    let (mut fair, content) = (unchoked(addr, &payload), payload.content());
    fair.request(3, 0, 16 * 1024).expect("a request");
    let right = block(&payload, &content, 3, 0, 16 * 1024).to_vec();
    fair.receive_until(&Message::Piece(3, 0, right)).expect("the block that was asked for");
}

/// The same floods against a download, from peers that offer everything.
#[test]
fn floods_against_a_download() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let running = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &["--max-peers", "100"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let all = frame(id::BITFIELD, &full_bitfield(payload.pieces()));
    let swarm = payload.info_hash();
    for round in rounds() {
        all_flood(&running, addr, swarm, &all, &round);
    }
    // btsync picks requests at each unchoke, and the choke makes them void before they are sent.
    let flaps = [frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat().repeat(FLAPS);
    let wires: Vec<_> = (0..FLAPPERS)
        .map(|_| {
            let mut wire = Wire::connect_and_handshake(addr, swarm).expect("a handshake");
            wire.send_raw(&[&*all, &flaps].concat()).expect("below what counts as a flood");
            wire
        })
        .collect();
    assert_bounded(&running);
    drop(wires);
}

/// A peer that chokes and unchokes constantly costs the piece picker time. btsync disconnects it.
#[test]
fn a_peer_that_flaps_is_disconnected() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut running = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &[]);
    let mut wire =
        Wire::connect_and_handshake(([127, 0, 0, 1], port).into(), payload.info_hash()).expect("a handshake");
    wire.send(id::BITFIELD, &full_bitfield(payload.pieces())).expect("a bitfield");
    let mut reads = wire.try_clone().expect("a second handle");
    let reader = thread::spawn(move || reads.wait_for_close());
    flood(&mut wire, &[frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat(), 4000);
    reader.join().expect("a reader").expect("to be disconnected");
    assert!(running.is_running());
}

/// A block now and then is no excuse for choking and unchoking constantly.
#[test]
fn a_peer_that_flaps_between_blocks_is_disconnected() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let (tracker, content) = (Tracker::start(&[]), payload.content());
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut running = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &[]);
    let mut wire =
        Wire::connect_and_handshake(([127, 0, 0, 1], port).into(), payload.info_hash()).expect("a handshake");
    wire.send(id::BITFIELD, &full_bitfield(payload.pieces())).expect("a bitfield");
    let flaps = [frame(id::UNCHOKE, &[]), frame(id::CHOKE, &[])].concat().repeat(100);
    let mut round = || {
        wire.send(id::UNCHOKE, &[])?;
        let (piece, begin, length) = wire.next_request()?;
        wire.send_block(piece, begin, block(&payload, &content, piece, begin, length))?;
        wire.send_raw(&flaps)
    };
    // An error is the disconnection. If requests of earlier rounds are still unread, it may come after the last round.
    if (0..100).all(|_| round().is_ok()) {
        wire.wait_for_close().expect("the peer must be disconnected");
    }
    assert!(running.is_running());
}

/// Peers connect constantly between a magnet link's metadata and its download, more of them than btsync may have descriptors. The
/// limit is low, so btsync could not open files if the connections used them all.
#[test]
fn connections_between_the_metadata_and_the_download() {
    let (temp, payload, port) = (TestDir::new(), Payload::single("linked.bin", 400 * 4096, 4096), free_port());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let (come, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let dialers: Vec<_> = (0..4)
        .map(|_| {
            let (come, over) = (come.clone(), over.clone());
            thread::spawn(move || {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match TcpStream::connect_timeout(&addr, crate::common::PATIENCE) {
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
    // It stays connected after the metadata is complete, which prolongs the step to the download.
    let info_hash = payload.info_hash();
    let lingers = thread::spawn(move || {
        let mut wire = Wire::connect(addr);
        let _ = wire.send_raw(&extended_handshake(info_hash));
        let _ = wire.wait_for_close();
    });
    let held_back = come.clone();
    let honest = ExtendedPeer::new(&payload, size_of(&payload), move |_, event| {
        if matches!(event, ExtendedEvent::Metadata(_)) {
            until("many have connected", || held_back.load(Ordering::Relaxed) > 600);
        }
        Ok(false)
    });
    let mut command = Command::new("prlimit");
    without_settings(&mut command).arg("--nofile=100").arg(btsync().get_program());
    command.arg(payload.magnet("")).arg(temp.folder("out")).args(["--no-dht", "--no-lsd"]);
    command.args(["--listen-port", &port.to_string(), "--peer", &honest.addr().to_string()]);
    let mut poor = temp.start("poor", command.env("XDG_CACHE_HOME", temp.path("cache")));
    poor.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    over.store(true, Ordering::Relaxed);
    for dialer in dialers {
        dialer.join().expect("a dialer");
    }
    let _ = lingers.join();
}

/// Descriptors run out in the middle of a download of many files. btsync waits until some are free, and continues.
#[test]
fn a_download_outlives_a_shortage_of_descriptors() {
    let names: Vec<String> = (0..60).map(|n| format!("f{n:02}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 32_000)).collect();
    let (temp, payload) = (TestDir::new(), Payload::tree("many", &files, 16 * 1024));
    let gate = Gate::new(5);
    let seeder = FakePeer::honest(&payload, &gate);
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let more = ["--bt-exclude-tracker", "*", "--peer", &seeder.addr.to_string()];
    let mut running = temp.btsync("btsync", &torrent, &temp.folder("out"), free_port(), &more);
    until("some blocks have come", || gate.served() >= 5);
    let limit = |files: u32| {
        let (pid, files) = (format!("--pid={}", running.pid()), format!("--nofile={files}:"));
        assert!(Command::new("prlimit").args([pid, files]).status().expect("prlimit").success());
    };
    // All remaining numbers are in use: no open succeeds, whatever btsync closes.
    limit(3);
    gate.open();
    until("it finds no descriptor", || running.log().contains("no file descriptors are left"));
    limit(1024);
    running.expect_exit(0);
    payload.assert_at(&temp.path("out"));
}

/// btsync raises its soft limit of descriptors, and runs the user's command with the original limit.
#[test]
fn more_descriptors_are_asked_for_but_not_for_the_users_command() {
    let (temp, payload) = (TestDir::new(), Payload::single("small.bin", 32 * 1024, 16 * 1024));
    let (mut command, told) = (Command::new("prlimit"), temp.path("told"));
    without_settings(&mut command).args(["--nofile=256:4096"]).arg(btsync().get_program());
    command.arg(temp.torrent(&payload, "http://127.0.0.1:9/announce")).arg(temp.folder_with("out", &payload));
    command.args([
        "--no-dht",
        "--no-lsd",
        "--seed",
        "--bt-exclude-tracker",
        "*",
        "--listen-port",
        &free_port().to_string(),
    ]);
    // The torrent was complete before, which by itself does not run the command.
    command.args(["--on-complete-always", "--on-download-complete"]);
    command.arg(format!("ulimit -Sn > {0}.new; mv {0}.new {0}", told.display()));
    let mut running = temp.start("btsync", command.env("XDG_CACHE_HOME", temp.path("cache")));
    until("the command has been run", || told.exists());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line on files");
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    assert_eq!(std::fs::read_to_string(&told).expect("the command's limit").trim(), "256");
    running.terminate(0);
}

/// No descriptor is free for the listening socket, or for DHT and local discovery: btsync retries until one is.
#[test]
fn sockets_that_find_no_descriptor_at_the_start_are_tried_again() {
    const TEST: &str = "sockets_that_find_no_descriptor_at_the_start_are_tried_again";
    if !can_trace(TEST) {
        return;
    }
    // The first socket listens, the next ones are those of the DHT and of local discovery.
    for calls in ["1..3", "2..5"] {
        let (temp, payload) = (TestDir::new(), payload());
        let node = UdpSocket::bind("127.0.0.1:0").expect("a port");
        node.set_read_timeout(Some(crate::common::PATIENCE)).expect("a timeout");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(temp.path("trace")).arg("-e").arg("trace=socket");
        command.arg(format!("--inject=socket:error=EMFILE:when={calls}")).arg(btsync().get_program());
        command.arg(temp.torrent(&payload, "http://127.0.0.1:9/announce")).arg(temp.folder("out"));
        command.args(["--bt-exclude-tracker", "*", "--listen-port", &free_port().to_string(), "--dht-entry-point"]);
        command.arg(node.local_addr().expect("an address").to_string());
        let command = without_settings(&mut command).env("RUST_LOG", "info");
        let mut poor = temp.start("poor", command.env("XDG_CACHE_HOME", temp.path("cache")));
        let (length, _) = node.recv_from(&mut [0; 1500]).expect("a query of the DHT");
        assert!(length > 0 && poor.is_running());
        let trace = std::fs::read_to_string(temp.path("trace")).expect("a trace");
        assert!(trace.lines().filter(|line| line.contains("(INJECTED)")).count() >= 3, "{trace}");
        assert_eq!(poor.log().contains("no DHT yet"), calls == "2..5");
        // strace does not pass signals on.
        let pid = trace.split_whitespace().next().expect("a process");
        assert!(Command::new("kill").arg(pid).status().expect("kill").success());
        poor.expect_exit(7);
    }
}

/// Writes the torrents' files and returns their paths as arguments.
fn torrents(temp: &TestDir, payloads: &[Payload]) -> Vec<String> {
    let file = |payload| temp.torrent(payload, "http://127.0.0.1:9/announce").display().to_string();
    payloads.iter().map(file).collect()
}

/// A download in which three system calls of one kind in a row fail for lack of descriptors, at any position. It must complete
/// every time.
struct DescriptorShortage<'a> {
    temp: TestDir,
    payloads: &'a [Payload],
    /// Has all payloads.
    seeder: (Running, SocketAddr),
}

impl DescriptorShortage<'_> {
    fn of(payloads: &[Payload]) -> DescriptorShortage<'_> {
        let (temp, port) = (TestDir::new(), free_port());
        let complete = temp.folder("complete");
        for payload in payloads {
            payload.write_files(&complete);
        }
        let (mut command, addr) = (btsync(), SocketAddr::from(([127, 0, 0, 1], port)));
        command.args(torrents(&temp, payloads)).arg("-d").arg(&complete).args(["--no-dht", "--no-lsd", "--seed"]);
        command.args(["--bt-exclude-tracker", "*", "--listen-port", &port.to_string()]);
        let seeder = temp.start("seeder", command.env("XDG_CACHE_HOME", temp.path("seeder-cache")));
        until("each is seeded", || {
            payloads.iter().all(|payload| Wire::connect_and_handshake(addr, payload.info_hash()).is_ok())
        });
        DescriptorShortage { temp, payloads, seeder: (seeder, addr) }
    }

    /// The torrents' files, as arguments.
    fn torrents(&self) -> Vec<String> {
        torrents(&self.temp, self.payloads)
    }

    /// Downloads `names` while the given calls of `call` fail. Returns whether there was any such call.
    fn run_with_failures(&self, call: &str, when: &str, names: &[String], more: &[&str]) -> bool {
        let out = self.temp.path("out");
        let _ = std::fs::remove_dir_all(&out);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.temp.path("trace")).arg("-e").arg(format!("trace={call}"));
        command.arg(format!("--inject={call}:error=EMFILE:when={when}")).arg(btsync().get_program());
        command.args(names).arg("-d").arg(self.temp.folder("out")).args(["--no-dht", "--no-lsd"]);
        command.args(["--bt-exclude-tracker", "*", "--listen-port", &free_port().to_string()]).args(more);
        command.args(["--peer", &self.seeder.1.to_string()]);
        // Cargo's value would make the loader search for libraries in many places.
        without_settings(&mut command).env_remove("LD_LIBRARY_PATH").env("XDG_CACHE_HOME", self.temp.path("cache"));
        let mut running = self.temp.start("poor", &mut command);
        let code = running.end_within(crate::common::PATIENCE);
        let trace = std::fs::read_to_string(self.temp.path("trace")).expect("a trace");
        let failed: Vec<&str> = trace.lines().filter(|line| line.contains("(INJECTED)")).collect();
        // btsync has not started if the loader could not open its libraries.
        let is_loader = code == Some(127) || failed.iter().any(|line| line.contains(".so"));
        if !is_loader && !failed.is_empty() {
            assert_eq!(code, Some(0), "{failed:?}");
            self.payloads.iter().for_each(|payload| assert_eq!(payload.difference_in_content(&out), None));
            let names = std::fs::read_dir(&out).expect("it").map(|entry| entry.expect("an entry").file_name());
            let hidden: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
            assert!(hidden.is_empty(), "{hidden:?} is left behind: {failed:?}");
        }
        !failed.is_empty()
    }

    /// Runs [`DescriptorShortage::run_with_failures`] at every position.
    fn fail_everywhere(&self, call: &str, names: &[String], more: &[&str]) {
        let failing = (1..200)
            .step_by(3)
            .take_while(|at| self.run_with_failures(call, &format!("{at}..{}", at + 2), names, more));
        assert!((1..60).contains(&failing.count()), "{call}");
    }
}

/// Names that differ only in case make btsync examine the file system.
fn two_payloads() -> [Payload; 2] {
    [
        Payload::tree("one", &[("a", 40_000), ("A", 40_000), ("b", 1)], 16 * 1024),
        Payload::single("two.bin", 70_000, 16 * 1024),
    ]
}

#[test]
fn a_shortage_of_descriptors_ends_no_download_wherever_it_occurs() {
    if !can_trace("a_shortage_of_descriptors_ends_no_download_wherever_it_occurs") {
        return;
    }
    let payloads = two_payloads();
    let shortage = DescriptorShortage::of(&payloads[..1]);
    for call in ["socket", "socketpair", "openat", "openat2"] {
        shortage.fail_everywhere(call, &shortage.torrents(), &["--incomplete-suffix", ".part"]);
    }
}

#[test]
fn a_shortage_of_descriptors_ends_none_of_several_downloads() {
    if !can_trace("a_shortage_of_descriptors_ends_none_of_several_downloads") {
        return;
    }
    let payloads = two_payloads();
    let shortage = DescriptorShortage::of(&payloads);
    for call in ["socketpair", "openat", "openat2"] {
        shortage.fail_everywhere(call, &shortage.torrents(), &[]);
    }
    // The first socket calls of each thread: the listening port, and each connection.
    assert!(shortage.run_with_failures("socket", "1..3", &shortage.torrents(), &[]));
    // The names come from a list, then from a URL.
    let list = shortage.temp.path("list");
    std::fs::write(&list, shortage.torrents().join("\n")).expect("a list");
    shortage.fail_everywhere("openat", &[], &["--input-file", list.to_str().expect("UTF-8")]);
    let web = WebServer::start(&[("/two.torrent", Page::Bytes(payloads[1].torrent("http://127.0.0.1:9/announce")))]);
    let names = [shortage.torrents().remove(0), web.url("/two.torrent")];
    assert!(shortage.run_with_failures("socket", "1", &names, &[]));
}

/// When reading the resume data finds no free descriptor, btsync retries. It does not hash again what the resume data vouches
/// for.
#[test]
fn resume_data_is_waited_for_where_there_is_no_descriptor() {
    if !can_trace("resume_data_is_waited_for_where_there_is_no_descriptor") {
        return;
    }
    let payloads = [Payload::single("kept.bin", 70_000, 16 * 1024)];
    let shortage = DescriptorShortage::of(&payloads);
    let torrent = shortage.torrents().remove(0);
    let run = |traced: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(shortage.temp.path("trace")).args(traced).arg(btsync().get_program());
        command.args([&torrent, "--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
        command.arg("-d").arg(shortage.temp.path("out")).args(["--peer", &shortage.seeder.1.to_string()]);
        let command = without_settings(&mut command).env("XDG_CACHE_HOME", shortage.temp.path("cache"));
        shortage.temp.start("kept", command.env("RUST_LOG", "debug")).expect_exit(0);
        std::fs::read_to_string(shortage.temp.path("trace")).expect("a trace")
    };
    shortage.temp.folder("out");
    run(&["-e", "trace=none"]);
    let resume = std::fs::read_dir(shortage.temp.path("cache/btsync/resume")).expect("records");
    let record = resume.map(|entry| entry.expect("a record").path().display().to_string()).next().expect("a record");
    let pieces = "trace=?open,openat,pread64";
    let file = shortage.temp.path("out/kept.bin").display().to_string();
    for path in ["/proc/sys/kernel/random/boot_id", &record] {
        let trace = run(&["-P", path, "-P", &file, "-e", pieces, "--inject=?open,openat:error=EMFILE:when=1..3"]);
        assert_eq!(trace.matches("(INJECTED)").count(), 3, "{trace}");
        assert!(!trace.contains("pread64"), "it was hashed: {trace}");
    }
}

/// If one of its sockets gets no descriptor, `btsync tracker` ends with an error instead of running without it.
#[test]
fn a_tracker_that_lacks_a_descriptor_at_the_start_ends_and_says_so() {
    if !can_trace("a_tracker_that_lacks_a_descriptor_at_the_start_ends_and_says_so") {
        return;
    }
    let temp = TestDir::new();
    for (call, when) in [("socket", 1), ("socket", 2), ("epoll_create1", 1), ("pipe2", 1)] {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.arg(format!("--inject={call}:error=EMFILE:when={when}")).arg(btsync().get_program());
        let mut running =
            temp.start("tracker", without_settings(&mut command).args(["tracker", "--listen", "127.0.0.1:0"]));
        running.expect_exit(6);
        let said = running.log();
        assert!(said.contains("cannot listen") && said.contains("too many open files"), "{call} {when}: {said}");
    }
    // If another process uses the UDP port, the tracker serves HTTP only, and reports that.
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("its address").to_string();
    let mut running = temp.start("http only", btsync().args(["tracker", "--listen", &addr]));
    running.wait_for_output("the tracker answers over HTTP only: UDP port");
    running.terminate(0);
}

/// If the DHT's state cannot be read at the start for lack of a descriptor, btsync neither treats it as missing nor overwrites it
/// at the end.
#[test]
fn the_state_of_the_dht_survives_a_shortage_of_descriptors() {
    const TEST: &str = "the_state_of_the_dht_survives_a_shortage_of_descriptors";
    if !can_trace(TEST) {
        return;
    }
    let (temp, payload) = (TestDir::new(), payload());
    let nodes = temp.path("cache/btsync/dht");
    let run = |inject: &[&str]| {
        let node = UdpSocket::bind("127.0.0.1:0").expect("a port");
        node.set_read_timeout(Some(crate::common::PATIENCE)).expect("a timeout");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(temp.path("trace")).args(inject).arg(btsync().get_program());
        command.arg(temp.torrent(&payload, "http://127.0.0.1:9/announce")).arg(temp.folder("out"));
        command.args(["--no-lsd", "--bt-exclude-tracker", "*", "--listen-port", &free_port().to_string()]);
        command.args(["--dht-entry-point", &node.local_addr().expect("an address").to_string()]);
        let command = without_settings(&mut command).env("XDG_CACHE_HOME", temp.path("cache"));
        let mut running = temp.start("dht", command);
        node.recv_from(&mut [0; 1500]).expect("a query of the DHT");
        let trace = std::fs::read_to_string(temp.path("trace")).expect("a trace");
        // strace does not pass signals on.
        let pid = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid())).expect("procfs");
        assert!(Command::new("kill").arg(pid.trim()).status().expect("kill").success());
        running.expect_exit(7);
        (std::fs::read(&nodes).expect("its nodes"), trace)
    };
    let (first, _) = run(&["-e", "trace=none"]);
    let path = nodes.display().to_string();
    let inject = ["-P", &path, "-e", "trace=?open,openat", "--inject=?open,openat:error=EMFILE:when=1..2"];
    let (second, trace) = run(&inject);
    assert_eq!(trace.matches("(INJECTED)").count(), 2, "{trace}");
    // The state begins with our node ids. btsync would have generated new ones had it not read the file.
    assert_eq!(second, first);
}

/// If the descriptor limit is too low for any download, btsync says so. With a low limit, it gives up optional features.
#[test]
fn too_low_a_limit_of_descriptors_is_told_of_at_once() {
    let payloads = two_payloads();
    let shortage = DescriptorShortage::of(&payloads);
    let run = |limit: u32, names: &[String]| {
        // Close descriptors inherited from the test's environment, because they count too.
        let alone = "for n in 3 4 5 6 7 8 9; do eval exec $n'>&-'; done; ulimit -n $0; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", alone, &limit.to_string()]).arg(btsync().get_program()).args(names);
        command.arg("-d").arg(shortage.temp.folder("out")).args(["--listen-port", &free_port().to_string()]);
        command.args(["--bt-exclude-tracker", "*", "--dht-entry-point", "127.0.0.1:9"]);
        command.args(["--peer", &shortage.seeder.1.to_string()]);
        let command = without_settings(&mut command).env("XDG_CACHE_HOME", shortage.temp.path("cache"));
        let mut running = shortage.temp.start("poor", command);
        let code = running.end_within(crate::common::PATIENCE);
        (code, running.log())
    };
    for names in [&shortage.torrents()[..1], &shortage.torrents()] {
        let (code, said) = run(10, names);
        let line = "btsync: only 10 files may be open at a time, and a download needs 16: raise `ulimit -n`\n";
        assert_eq!((code, said.as_str()), (Some(1), line));
    }
    let (code, said) = run(20, &shortage.torrents());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 torrent at a time") && said.contains("without the DHT, local discovery"), "{said}");
    for payload in &payloads {
        assert_eq!(payload.difference_in_content(&shortage.temp.path("out")), None);
    }
}

/// Connections keep their socket queues full of long extension handshakes. Linux still delivers received data after a shutdown of
/// the socket; a signal must end btsync without reading all of it.
#[test]
fn a_signal_ends_a_seeder_that_many_flood_with_expensive_handshakes() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let folder = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &torrent, &folder, port, &["--seed", "--max-peers", "250"]);
    until("the seeder has announced itself as complete", || tracker.announces().iter().any(|a| a.left == 0));
    let ids = (0..4096).map(|n| format!("3:{n:03x}i1e")).collect::<Vec<_>>().concat();
    let said = frame(id::EXTENDED, format!("\0d1:md{ids}ee").as_bytes());
    let sent = Arc::new(AtomicUsize::new(0));
    let swarm = payload.info_hash();
    let wires: Vec<_> = (0..CONNECTIONS).map(|_| extended(addr, swarm)).collect();
    let floods: Vec<_> = wires
        .into_iter()
        .map(|mut wire| {
            let (said, sent) = (said.clone(), sent.clone());
            thread::spawn(move || {
                while wire.send_raw(&said).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("much has been sent", || sent.load(Ordering::Relaxed) > 40 * CONNECTIONS);
    assert_bounded(&seeder);
    seeder.signal("TERM");
    // To read all of it takes a minute of a processor and more.
    assert_eq!(seeder.end_within(Duration::from_secs(30)), Some(0));
    for flood in floods {
        flood.join().expect("a flood");
    }
}
