//! Downloads from web seeds, good and bad ones.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::common::bencode;
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tracker::Tracker;
use crate::common::web_seed::{SeedRequest, TestWebSeed, part, response, status, whole};
use crate::common::{TestDir, free_port, until};

const PIECE: usize = 64 * 1024;

fn single() -> Payload {
    Payload::single("one file.bin", 20 * PIECE - 1_234, PIECE)
}

/// Files whose ends are within blocks, with names that must be encoded.
fn tree() -> Payload {
    let files = [("a b/ü#1.txt", 100_000), ("a b/100%.bin", 7), ("empty", 0), ("c?d", 3 * PIECE + 5), ("z", 250_000)];
    Payload::tree("the + tree", &files, PIECE)
}

/// Starts a download whose only source is this URL, or a tracker with peers too.
fn start(temp: &TestDir, payload: &Payload, url: &str, announce: &str, more: &[&str]) -> Running {
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

/// Python's server ignores ranges and has other habits of its own.
#[test]
fn a_server_without_ranges_sends_whole_files() {
    for payload in [single(), tree()] {
        let temp = TestDir::new();
        let root = temp.folder_with("web", &payload);
        let mut server = Command::new("python3");
        server.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(root);
        server.stdin(Stdio::null());
        let server = temp.start("python", &mut server);
        until("python serves", || server.log().contains(" port "));
        let log = server.log();
        let port = log.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        start(&temp, &payload, &format!("http://127.0.0.1:{port}/"), "", &[]).expect_exit(0);
        payload.assert_at(&temp.path("out"));
        drop(server);
    }
}

/// Each of these servers fails at first, or always in a way that does not matter.
#[test]
fn bad_habits_of_servers_are_survived() {
    type Respond = fn(&SeedRequest, &[u8]) -> Option<Vec<u8>>;
    let servers: [(&str, Respond); 8] = [
        ("closes each connection", |request, file| {
            let range = format!("bytes {}-{}/{}", request.bytes.start, request.bytes.end - 1, file.len());
            let headers = format!("Connection: close\r\nContent-Range: {range}\r\n");
            Some(response("206 Partial Content", &headers, &file[request.bytes.clone()]))
        }),
        ("sends at most 50,000 bytes", |request, file| {
            let end = request.bytes.end.min(request.bytes.start + 50_000);
            Some(part(file, &(request.bytes.start..end)))
        }),
        ("is busy at first", |request, file| match request.number {
            0 => Some(status("503 Busy", "Retry-After: 1\r\n")),
            1 => Some(status("429 Too Many", "Retry-After: 1\r\n")),
            _ => Some(part(file, &request.bytes)),
        }),
        ("redirects", |request, file| {
            let to = format!("Location: {}?moved\r\n", request.target);
            let is_moved = request.target.ends_with("?moved");
            Some(if is_moved { part(file, &request.bytes) } else { status("302 Found", &to) })
        }),
        ("sends whole files", |_, file| Some(whole(file))),
        ("sends chunks", |request, file| {
            let range = format!("bytes {}-{}/{}", request.bytes.start, request.bytes.end - 1, file.len());
            let head = format!("HTTP/1.1 206 Partial\r\nContent-Range: {range}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut sent = head.into_bytes();
            for chunk in file[request.bytes.clone()].chunks(10_000) {
                sent.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            sent.extend(b"0\r\n\r\n");
            Some(sent)
        }),
        ("does not know the length", |request, file| {
            let headers = format!("Content-Range: bytes {}-{}/*\r\n", request.bytes.start, request.bytes.end - 1);
            Some(response("206 Partial", &headers, &file[request.bytes.clone()]))
        }),
        ("breaks off once", |request, file| {
            let mut sent = part(file, &request.bytes);
            if request.number == 1 {
                sent.truncate(sent.len() / 2);
                let line = sent.windows(2).position(|end| end == b"\r\n").expect("a line") + 2;
                sent.splice(line..line, *b"Connection: close\r\n");
            }
            Some(sent)
        }),
    ];
    for (what, respond) in servers {
        let payload = tree();
        let seed = TestWebSeed::with(&payload, respond);
        let temp = TestDir::new();
        let mut btsync = start(&temp, &payload, &seed.url(), "", &[]);
        assert_eq!(btsync.end_within(crate::common::PATIENCE), Some(0), "{what}: {}", btsync.log());
        payload.assert_at(&temp.path("out"));
    }
}

/// An honest peer behind a gate, and a tracker that names it.
fn peer(payload: &Payload, gate: &Arc<Gate>) -> (FakePeer, Tracker) {
    let peer = FakePeer::honest(payload, gate);
    let tracker = Tracker::start(&[peer.addr]);
    (peer, tracker)
}

/// Runs a download from a web seed, and from an honest peer once the web seed was asked. Returns the log.
fn with_peer(payload: &Payload, seed: &TestWebSeed) -> String {
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
fn inverted(file: &[u8]) -> Vec<u8> {
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
