//! Set-ups for tests with hostile peers: a download from a hostile peer and an honest one, which serves nothing until the hostile
//! peer is done, and a seeder for hostile leechers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::payload::Payload;
use super::process::Running;
use super::seeder::{FakePeer, Gate, full_bitfield};
use super::tracker::Tracker;
use super::wire::{Message, Wire, connect_as_peer_from, id};
use super::{TestDir, free_port, until};

/// A single file of 30 pieces of two blocks; its bitfield has two spare bits.
pub fn thirty_pieces() -> Payload {
    Payload::single("thirty.bin", 30 * 32 * 1024 - 777, 32 * 1024)
}

/// A download from a hostile peer and an honest peer that waits.
pub struct HostilePeerTest {
    temp: TestDir,
    payload: Payload,
    hostile: FakePeer,
    gate: Arc<Gate>,
    btsync: Running,
    port: u16,
    _honest: FakePeer,
    _tracker: Tracker,
}

impl HostilePeerTest {
    /// Starts btsync with the hostile peer and an honest one whose gate is closed.
    pub fn new(hostile: FakePeer) -> HostilePeerTest {
        let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
        let gate = Gate::new(0);
        let honest = FakePeer::honest(&payload, &gate);
        let tracker = Tracker::start(&[hostile.addr, honest.addr]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let btsync = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &[]);
        HostilePeerTest { temp, payload, hostile, gate, btsync, port, _honest: honest, _tracker: tracker }
    }

    /// The address btsync listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Lets the honest peer serve; btsync must complete.
    pub fn completes(&mut self) {
        self.gate.open();
        self.btsync.expect_exit(0);
        self.payload.assert_at(&self.temp.path("out"));
    }

    /// The hostile peer must finish its script without an error while btsync keeps running; then btsync must complete.
    pub fn survives(mut self) {
        self.hostile.outcome().expect("the hostile peer's part");
        assert!(self.btsync.is_running(), "btsync ended before anyone gave it anything");
        self.completes();
    }
}

/// A request: piece, begin, length.
pub type RequestFields = (u32, u32, u32);

/// Offers every piece, unchokes btsync, and returns its first request.
pub fn wait_for_request(wire: &mut Wire) -> io::Result<RequestFields> {
    wire.send(id::BITFIELD, &full_bitfield(thirty_pieces().pieces()))?;
    wire.send(id::UNCHOKE, &[])?;
    wire.next_request()
}

/// Starts a complete btsync that seeds until the test ends. Returns its address and its tracker too.
pub fn seeding(temp: &TestDir, payload: &Payload) -> (Running, SocketAddr, Tracker) {
    let (tracker, port) = (Tracker::start(&[]), free_port());
    let torrent = temp.torrent(payload, &tracker.url("127.0.0.1"));
    let running = temp.btsync("seeder", &torrent, &temp.folder_with("seeder", payload), port, &["--seed"]);
    // btsync listens before it has checked its files, and can serve only after the check.
    until("the seeder has announced itself as complete", || tracker.announces().iter().any(|a| a.left == 0));
    (running, SocketAddr::from(([127, 0, 0, 1], port)), tracker)
}

/// A seed without an upload limit that accepts 12 incoming connections (a share of `--max-peers 16`), and 12 connections that
/// take them all, each from a different network.
pub fn seed_with_12_incoming(temp: &TestDir, payload: &Payload) -> (Running, Tracker, SocketAddr, Vec<Wire>) {
    let (tracker, port) = (Tracker::start(&[]), free_port());
    let torrent = temp.torrent(payload, &tracker.url("127.0.0.1"));
    let words = ["--seed", "--max-peers", "16"];
    let seeder = temp.btsync("seeder", &torrent, &temp.folder_with("seeder", payload), port, &words);
    until("the seeder has announced itself as complete", || tracker.announces().iter().any(|a| a.left == 0));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let connect = |n| connect_as_peer_from([127, 1, n, 1].into(), addr, payload.info_hash()).expect("a place");
    let wires = (0..12).map(connect).collect();
    (seeder, tracker, addr, wires)
}

/// Connects as a leecher and returns once the seeder has unchoked the connection.
pub fn unchoked(addr: SocketAddr, payload: &Payload) -> Wire {
    let mut wire = Wire::connect_and_handshake(addr, payload.info_hash()).expect("a handshake with the seeder");
    wire.send(id::INTERESTED, &[]).expect("a word to the seeder");
    wire.receive_until(&Message::Unchoke).expect("to be unchoked");
    wire
}
