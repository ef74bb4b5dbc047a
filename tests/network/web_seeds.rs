//! Downloads from web seeds, good and bad ones.

use std::sync::Arc;

use crate::common::bencode;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tracker::Tracker;
use crate::common::web_seed::{TestWebSeed, part};
use crate::common::{TestDir, free_port, until};

const PIECE: usize = 64 * 1024;

pub fn single() -> Payload {
    Payload::single("one file.bin", 20 * PIECE - 1_234, PIECE)
}

/// Files whose ends are within blocks, with names that must be encoded.
pub fn tree() -> Payload {
    let files = [("a b/ü#1.txt", 100_000), ("a b/100%.bin", 7), ("empty", 0), ("c?d", 3 * PIECE + 5), ("z", 250_000)];
    Payload::tree("the + tree", &files, PIECE)
}

/// Starts a download whose only source is this URL, or a tracker with peers too.
pub fn start(temp: &TestDir, payload: &Payload, url: &str, announce: &str, more: &[&str]) -> Running {
    let torrent = temp.torrent(payload, announce);
    let args = [&["--web-seed", url], more].concat();
    temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &args)
}

/// Downloads a payload from a web seed and nothing else.
fn downloads(payload: &Payload, seed: &TestWebSeed) {
    let temp = TestDir::new();
    start(&temp, payload, &seed.url(), "", &[]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_file_and_a_folder_come_from_a_web_seed_over_one_connection() {
    for payload in [single(), tree(), Payload::edge_cases()] {
        let seed = TestWebSeed::start(&payload);
        downloads(&payload, &seed);
        assert_eq!(seed.connections(), 1, "{}", payload.name);
        let size = payload.content().len() as u64;
        assert!(seed.sent() < size + seed.requests() as u64 * 300, "nothing came twice: {} of {size}", seed.sent());
    }
}

/// An honest peer behind a gate, and a tracker that names it.
pub fn peer(payload: &Payload, gate: &Arc<Gate>) -> (FakePeer, Tracker) {
    let peer = FakePeer::honest(payload, gate);
    let tracker = Tracker::start(&[peer.addr]);
    (peer, tracker)
}

/// Runs a download from a web seed, and from an honest peer once the web seed was asked. Returns the log.
pub fn with_peer(payload: &Payload, seed: &TestWebSeed) -> String {
    let temp = TestDir::new();
    let gate = Gate::new(0);
    let (_peer, tracker) = peer(payload, &gate);
    let mut btsync = start(&temp, payload, &seed.url(), &tracker.url("127.0.0.1"), &[]);
    until("the web seed was asked", || seed.requests() > 0);
    gate.open();
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    btsync.log()
}

/// The bytes of a file, all wrong.
pub fn inverted(file: &[u8]) -> Vec<u8> {
    file.iter().map(|byte| !byte).collect()
}

#[test]
fn a_mirror_with_other_content_is_dropped_and_no_peer_is_blamed() {
    let payload = single();
    let seed = TestWebSeed::with(&payload, |request, file| Some(part(&inverted(file), &request.bytes)));
    let log = with_peer(&payload, &seed);
    assert!(!log.contains("is banned"), "{log}");
}

#[test]
fn a_mirror_with_one_updated_file_still_sends_the_others() {
    let payload = Payload::tree("t", &[("a", 10 * PIECE), ("b", 10 * PIECE), ("c", 10 * PIECE)], PIECE);
    let seed = TestWebSeed::with(&payload, |request, file| {
        let is_b = request.target.ends_with("/b");
        Some(if is_b { part(&inverted(file), &request.bytes) } else { part(file, &request.bytes) })
    });
    let temp = TestDir::new();
    let mut btsync = start(&temp, &payload, &seed.url(), "", &["--select", "1,3"]);
    btsync.expect_exit(0);
    let gate = Gate::new(usize::MAX);
    let (_peer, tracker) = peer(&payload, &gate);
    let mut btsync = start(&temp, &payload, &seed.url(), &tracker.url("127.0.0.1"), &[]);
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert!(!btsync.log().contains("is banned"), "{}", btsync.log());
}

#[test]
fn nothing_comes_twice_from_a_web_seed_and_a_peer() {
    let payload = Payload::single("large", 500 * PIECE, PIECE);
    let seed = TestWebSeed::slow(&payload);
    let temp = TestDir::new();
    let gate = Gate::new(usize::MAX);
    let (_peer, tracker) = peer(&payload, &gate);
    start(&temp, &payload, &seed.url(), &tracker.url("127.0.0.1"), &[]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    let (of_peer, size) = (gate.served() as u64 * 16_384, payload.content().len() as u64);
    let all = seed.sent() - seed.requests() as u64 * 100 + of_peer;
    println!("{} bytes from the web seed, {of_peer} from the peer, of {size}", seed.sent());
    assert!(of_peer > 0 && seed.sent() > 0);
    assert!(all <= size + size / 50, "{} and {of_peer} bytes of {size}", seed.sent());
}

#[test]
fn a_torrent_cannot_name_a_local_web_seed() {
    let payload = single();
    let seed = TestWebSeed::start(&payload);
    let gate = Gate::new(usize::MAX);
    let (_peer, tracker) = peer(&payload, &gate);
    let temp = TestDir::new();
    let named = bencode::dict([
        ("announce", bencode::bytes(tracker.url("127.0.0.1").as_bytes())),
        ("httpseeds", bencode::list([bencode::bytes(seed.url().as_bytes())])),
        ("info", payload.info()),
        ("url-list", bencode::bytes(seed.url().as_bytes())),
    ]);
    let torrent = temp.path("named.torrent");
    std::fs::write(&torrent, named).expect("a torrent file");
    temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &[]).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert_eq!(seed.requests(), 0);
}

#[test]
fn a_stop_does_not_wait_for_a_silent_server() {
    let payload = single();
    let gate = Gate::new(0);
    let held = gate.clone();
    let seed = TestWebSeed::with(&payload, move |_, _| {
        let _ = held.wait_open();
        None
    });
    let temp = TestDir::new();
    let mut btsync = start(&temp, &payload, &seed.url(), "", &[]);
    until("the web seed was asked", || seed.requests() > 0);
    btsync.signal("TERM");
    btsync.end_within(std::time::Duration::from_secs(10));
    gate.open();
}
