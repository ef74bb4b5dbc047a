//! Failures of the network and of remote hosts, after which a download continues by itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::extended_peer::{ExtendedEvent, ExtendedPeer, size_of};
use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate, full_bitfield, serve};
use crate::common::tracker::Tracker;
use crate::common::wire::{Wire, extended_handshake, handshake, id};
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};
use socket2::{Domain, Socket, Type};

fn payload() -> Payload {
    Payload::single("payload.bin", (3 << 20) - 77, 64 * 1024)
}

#[test]
fn a_network_that_goes_and_comes_back_is_waited_for() {
    in_network_namespace("a_network_that_goes_and_comes_back_is_waited_for", &[], || {
        let link = |state| {
            let status = Command::new("ip").args(["link", "set", "lo", state]).status();
            assert!(status.expect("ip").success());
        };
        let (temp, payload, gate) = (TestDir::new(), payload(), Gate::new(0));
        let peer = FakePeer::honest(&payload, &gate);
        let tracker = Tracker::start(&[peer.addr]);
        let torrent = temp.torrent(&payload, &tracker.url(&address(1)));
        gate.grant(60);
        let mut btsync = temp.btsync("btsync", &torrent, &temp.folder("out"), free_port(), &[]);
        until("some is there", || gate.served() == 60);
        link("down");
        gate.open();
        std::thread::sleep(Duration::from_secs(4)); // the network is down for that long
        assert!(btsync.is_running());
        assert!(payload.difference(&temp.path("out")).is_some(), "nothing was missing without a network");
        link("up");
        btsync.expect_exit(0);
        payload.assert_at(&temp.path("out"));
    });
}

#[test]
fn a_seeder_that_moves_is_found_again() {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let home = temp.folder_with("home", &payload);
    let seed = |name| temp.btsync(name, &torrent, &home, free_port(), &["--seed"]);
    let mut first = seed("first");
    until("the first is known", || !tracker.announces().is_empty());
    let (out, slowly) = (temp.folder("out"), ["--max-download-limit", "300K"]);
    let mut btsync = temp.btsync("btsync", &torrent, &out, free_port(), &slowly);
    until("some is there", || payload.right_pieces(&out) > 0);
    first.signal("KILL");
    first.end_within(PATIENCE);
    let _second = seed("second");
    btsync.expect_exit(0);
    payload.assert_at(&out);
}

#[test]
fn a_process_that_slept_goes_on() {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let seeder = temp.btsync("seeder", &torrent, &temp.folder_with("home", &payload), free_port(), &["--seed"]);
    until("the seeder is known", || !tracker.announces().is_empty());
    let (out, slowly) = (temp.folder("out"), ["--max-download-limit", "300K"]);
    let mut btsync = temp.btsync("btsync", &torrent, &out, free_port(), &slowly);
    until("some is there", || payload.right_pieces(&out) > 0);
    for sleeper in [&btsync, &seeder] {
        sleeper.signal("STOP");
        std::thread::sleep(Duration::from_secs(4)); // the process is stopped for that long
        sleeper.signal("CONT");
    }
    btsync.expect_exit(0);
    payload.assert_at(&out);
}

#[test]
fn a_process_that_slept_while_its_seeder_moved_to_another_address_finds_it() {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let home = temp.folder_with("home", &payload);
    let seed = |name, host| temp.btsync(name, &torrent, &home, free_port(), &["--seed", "--interface", host]);
    let from = |host: &str| tracker.announces().iter().filter(|a| a.addr.ip().to_string() == host).count();
    let mut first = seed("first", "127.0.0.2");
    until("the first is known", || from("127.0.0.2") > 0);
    let (out, slowly) = (temp.folder("out"), ["--max-download-limit", "300K"]);
    let mut btsync = temp.btsync("btsync", &torrent, &out, free_port(), &slowly);
    until("some is there", || payload.right_pieces(&out) > 0);
    btsync.signal("STOP");
    first.terminate(0);
    let _second = seed("second", "127.0.0.3");
    until("the second is known", || from("127.0.0.3") > 0);
    std::thread::sleep(Duration::from_secs(3)); // the process is stopped for at least that long
    btsync.signal("CONT");
    btsync.expect_exit(0);
    payload.assert_at(&out);
}

/// Connects from this address of the machine.
fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of the machine");
    socket.connect(&to.into()).expect("btsync listens");
    socket.into()
}

/// Whether btsync answers a handshake.
fn is_accepted(mut stream: &TcpStream, payload: &Payload) -> bool {
    let mut answer = [0; 68];
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&handshake(payload.info_hash())).is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn one_address_does_not_keep_others_out() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let home = temp.folder_with("home", &payload);
    let _btsync = temp.btsync("btsync", &torrent, &home, port, &["--seed", "--max-peers", "12"]);
    until("it seeds", || !tracker.announces().is_empty());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let same_address: Vec<_> = (0..9).map(|_| connect_from([127, 0, 0, 2], addr)).collect();
    for stream in &same_address {
        assert!(is_accepted(stream, &payload), "there is room for nine connections");
    }
    assert!(!is_accepted(&connect_from([127, 0, 0, 2], addr), &payload), "and for no tenth from there");
    let others: Vec<_> = (3..9).map(|host| connect_from([127, 0, 0, host], addr)).collect();
    for other in &others {
        assert!(is_accepted(other, &payload), "a place for everyone from elsewhere");
    }
    // btsync disconnected the connections that had been idle longest.
    for stream in same_address.into_iter().take(6) {
        Wire::raw(stream).wait_for_close().expect("to be disconnected");
    }
}

#[test]
fn more_connections_than_descriptors_keep_nobody_out_for_long() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    // Descriptors for 12 peers besides the files.
    let mut command = Command::new("prlimit");
    command.arg("--nofile=54").arg(btsync().get_program()).arg(&torrent).arg(temp.folder_with("home", &payload));
    command.args(["--seed", "--no-dht", "--no-lsd", "--listen-port", &port.to_string()]).env("RUST_LOG", "info");
    let mut seeder = temp.start("seeder", command.env("XDG_CACHE_HOME", temp.path("cache")));
    until("it seeds", || !tracker.announces().is_empty());
    assert!(seeder.log().contains("at most 12 peers"), "{}", seeder.log());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let _silent: Vec<_> = (0..300).map(|_| connect_from([127, 0, 0, 2], addr)).collect();
    until("one from elsewhere is let in", || is_accepted(&connect_from([127, 0, 0, 3], addr), &payload));
    assert!(seeder.is_running());
    seeder.terminate(0);
    assert!(!seeder.log().contains("panicked"), "{}", seeder.log());
}

/// A magnet link of many files, all but the last of which are already on disk. When [`LinkWithIdlePeers::connected`] returns, idle peers are
/// connected, and so is the peer that sends the metadata once its gate is opened. No peer sends a block, so the download does not complete.
struct LinkWithIdlePeers {
    running: Running,
    metadata: Arc<Gate>,
    _honest: ExtendedPeer,
    _idle: Vec<FakePeer>,
    _stage: TestDir,
}

impl LinkWithIdlePeers {
    fn connected(files: usize, idle: usize, more: &[&str]) -> LinkWithIdlePeers {
        let names: Vec<String> = (0..files).map(|n| format!("f{n:02}")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 32_000)).collect();
        let (temp, payload) = (TestDir::new(), Payload::tree("many", &files, 16 * 1024));
        let out = temp.folder_with("out", &payload);
        std::fs::write(out.join("many").join(names.last().expect("files")), "").expect("an empty file");
        // A connection may fail first, if the peer's thread does not run for a while.
        let connected: Vec<Arc<AtomicBool>> = (0..idle).map(|_| Arc::default()).collect();
        let idler = |connected: &Arc<AtomicBool>| {
            let (connected, info_hash) = (connected.clone(), payload.info_hash());
            FakePeer::raw(move |mut wire| {
                wire.read_handshake()?;
                wire.send_raw(&extended_handshake(info_hash))?;
                connected.store(true, Ordering::Relaxed);
                wire.wait_for_close()
            })
        };
        let peers: Vec<_> = connected.iter().map(idler).collect();
        let (asked, metadata) = (Arc::new(AtomicBool::new(false)), Gate::new(0));
        let (told, held) = (asked.clone(), metadata.clone());
        let honest = ExtendedPeer::new(&payload, size_of(&payload), move |_, event| {
            if matches!(event, ExtendedEvent::Metadata(_)) {
                told.store(true, Ordering::Relaxed);
                held.wait_open()?;
            }
            Ok(matches!(event, ExtendedEvent::Block(..)))
        });
        let mut command = Command::new("prlimit");
        command.args(more).arg(btsync().get_program()).arg(payload.magnet("")).arg(&out);
        command.args(["--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
        for peer in peers.iter().map(|peer| peer.addr).chain([honest.addr()]) {
            command.args(["--peer", &peer.to_string()]);
        }
        command.env("XDG_CACHE_HOME", temp.path("cache")).env("RUST_LOG", "debug");
        let running = temp.start("btsync", &mut command);
        until("all are connected", || connected.iter().chain([&asked]).all(|it| it.load(Ordering::Relaxed)));
        LinkWithIdlePeers { running, metadata, _honest: honest, _idle: peers, _stage: temp }
    }
}

/// btsync closes connections when it needs their descriptors to check files.
#[test]
fn connections_of_a_link_give_way_to_the_look_at_its_files() {
    let linked = LinkWithIdlePeers::connected(60, 20, &["--nofile=1024:1024"]);
    // All lower numbers are in use: no open succeeds, whatever btsync closes. This sets the hard limit, because btsync raises the
    // soft limit to it.
    let pid = format!("--pid={}", linked.running.pid());
    assert!(Command::new("prlimit").args([&pid, "--nofile=3:3"]).status().expect("prlimit").success());
    linked.metadata.open();
    // One connection would fit, but no file can be opened before that one is closed too.
    until("all have ended", || linked.running.log().contains("the files need the file descriptors; 0 left"));
}

/// btsync closes the surplus connections before it runs out of descriptors.
#[test]
fn a_link_keeps_no_more_connections_than_its_files_leave_descriptors_for() {
    // Descriptors for 24 peers without files, and for one with them.
    let mut linked = LinkWithIdlePeers::connected(30, 23, &["--nofile=64"]);
    linked.metadata.open();
    until("the others have ended", || linked.running.log().contains("disconnected 23 peers: the files need"));
    linked.running.terminate(7);
}

/// A seed that connects to btsync while btsync connects to it, with a peer id below or above every btsync id. It keeps one of the
/// two connections and closes the other by its own rule.
fn simultaneous_dialer(payload: &Payload, port: u16, peer_id: [u8; 20], keeps_its_own: bool) -> FakePeer {
    let (payload, content) = (payload.clone(), payload.content());
    FakePeer::raw(move |mut theirs| {
        let mut hello = extended_handshake(payload.info_hash());
        hello[48..].copy_from_slice(&peer_id);
        theirs.read_handshake()?;
        let mut own = Wire::connect(SocketAddr::from(([127, 0, 0, 1], port)));
        own.send_raw(&hello)?;
        own.read_handshake()?;
        own.receive()?; // btsync has accepted it as a peer
        theirs.send_raw(&hello)?;
        let mut kept = if keeps_its_own {
            own
        } else {
            drop(own);
            theirs.try_clone()?
        };
        kept.send(id::BITFIELD, &full_bitfield(payload.pieces()))?;
        kept.send(id::UNCHOKE, &[])?;
        serve(&mut kept, &payload, &content, &Gate::new(usize::MAX))
    })
}

/// Transmission keeps the connection whose handshake completed first. If btsync closed that one by a rule of its own, none would
/// be left.
#[test]
fn of_two_connections_that_cross_the_peer_chooses_one() {
    for (peer_id, keeps_its_own) in [(b'+', true), (b'+', false), (b'~', true), (b'~', false)] {
        let (temp, payload, port) = (TestDir::new(), payload(), free_port());
        let peer = simultaneous_dialer(&payload, port, [peer_id; 20], keeps_its_own);
        let tracker = Tracker::start(&[peer.addr]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let mut btsync = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &[]);
        btsync.expect_exit(0);
        payload.assert_at(&temp.path("out"));
        drop(peer);
    }
}
