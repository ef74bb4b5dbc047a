//! Swarms of btsync processes on loopback: a tracker, a seeder and leechers, with interruptions and resumed downloads.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::bencode::{bytes, dict, list};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate, full_bitfield};
use crate::common::tracker::{Tracker, scrape};
use crate::common::web::{Page, WebServer};
use crate::common::wire::{Message, id};
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};
use parking_lot::Mutex;

/// The longest that a shutdown may take. Two seconds of it are for the tracker; without a shutdown btsync waits 30 s for one.
const STOP: Duration = Duration::from_secs(25);

/// Blocks in a piece of [`forty_pieces`].
const BLOCKS: usize = 4;

/// A single file of 40 pieces of four blocks; the last piece is short.
fn forty_pieces() -> Payload {
    Payload::single("forty.bin", 40 * 64 * 1024 - 1_234, 64 * 1024)
}

/// A fake seeder behind a gate, and a tracker that returns its address.
struct Source {
    gate: Arc<Gate>,
    torrent: PathBuf,
    _peer: FakePeer,
    _tracker: Tracker,
}

impl Source {
    /// A source that serves `blocks` blocks and then waits.
    fn new(temp: &TestDir, payload: &Payload, blocks: usize) -> Source {
        let gate = Gate::new(blocks);
        let peer = FakePeer::honest(payload, &gate);
        let tracker = Tracker::start(&[peer.addr]);
        let torrent = temp.torrent(payload, &tracker.url("127.0.0.1"));
        Source { gate, torrent, _peer: peer, _tracker: tracker }
    }

    /// Starts `btsync TORRENT OUT`, which downloads from this source.
    fn fetch(&self, temp: &TestDir, name: &str, out: &Path) -> Running {
        temp.btsync(name, &self.torrent, out, free_port(), &[])
    }
}

/// Starts `btsync tracker` on a free port; returns its announce URL too.
fn our_tracker(temp: &TestDir) -> (Running, String) {
    let port = free_port();
    let mut command = btsync();
    command.args(["tracker", "--listen", &format!("127.0.0.1:{port}"), "--interval", "2"]);
    let tracker = temp.start("tracker", &mut command);
    until("the tracker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (tracker, format!("http://127.0.0.1:{port}/announce"))
}

/// The events of the announces that have one.
fn events(tracker: &Tracker) -> Vec<String> {
    let events = tracker.announces().into_iter().map(|announce| announce.event);
    events.filter(|event| !event.is_empty()).collect()
}

/// Whether a process listens on the port.
fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The whole cycle with btsync alone: create, tracker, seed, and five leechers that share with each other.
#[test]
fn five_leechers_share_the_pieces_of_one_seeder() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let (_tracker, url) = our_tracker(&temp);
    let source = temp.folder_with("seeder", &payload);
    let torrent = temp.path("made.torrent");
    let mut create = btsync();
    create.arg("create").arg(source.join(&payload.name)).arg("-o").arg(&torrent);
    create.args(["--announce", &url, "--piece-length", "64K"]);
    temp.start("create", &mut create).expect_exit(0);

    let mut seeder = temp.btsync("seeder", &torrent, &source, free_port(), &["--seed"]);
    let mut leechers: Vec<(Running, PathBuf)> = (1..=5)
        .map(|number| {
            let out = temp.folder(&format!("out-{number}"));
            (temp.btsync(&format!("leecher-{number}"), &torrent, &out, free_port(), &["--seed"]), out)
        })
        .collect();
    for (_, out) in &leechers {
        until("a leecher has it all", || payload.difference(out).is_none());
    }
    for (leecher, out) in &mut leechers {
        leecher.terminate(0);
        payload.assert_at(out);
    }
    seeder.terminate(0);
    payload.assert_at(&source);
}

/// A seeder announces itself as complete, and a scrape counts it.
#[test]
fn a_seeder_announces_itself_as_complete() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let (_tracker, url) = our_tracker(&temp);
    let source = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &temp.torrent(&payload, &url), &source, free_port(), &["--seed"]);
    until("the tracker knows the seeder", || scrape(&url, payload.info_hash()) == Some((1, 0)));
    seeder.terminate(0);
    until("the tracker has forgotten the seeder", || {
        scrape(&url, payload.info_hash()).is_none_or(|figures| figures == (0, 0))
    });
}

/// btsync announces started once, completed once, and stopped when it ends.
#[test]
fn the_tracker_hears_each_event_once() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let peer = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let tracker = Tracker::start(&[peer.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    temp.btsync("fetch", &torrent, &temp.folder("out"), free_port(), &[]).expect_exit(0);
    until("the tracker has read the last one", || events(&tracker).last().is_some_and(|event| event == "stopped"));
    assert_eq!(events(&tracker), ["started", "completed", "stopped"]);
    let announces = tracker.announces();
    assert_eq!(announces.first().map(|a| a.left), Some(payload.content().len() as u64));
    assert_eq!(announces.last().map(|a| a.left), Some(0));
}

/// Torrent shapes that implementations often get wrong.
#[test]
fn every_shape_of_torrent_arrives() {
    let shapes = [
        Payload::single("one byte", 1, 16 * 1024),
        Payload::single("exactly one block", 16 * 1024, 16 * 1024),
        Payload::single("exactly two pieces", 64 * 1024, 32 * 1024),
        Payload::single("piece longer than file", 100_000, 1024 * 1024),
        Payload::single("a block and a byte", 16 * 1024 + 1, 32 * 1024),
        Payload::tree("one file in a folder", &[("inside/it", 70_000)], 32 * 1024),
        Payload::tree("first is empty", &[("0", 0), ("1", 50_000), ("2", 0), ("3", 0)], 32 * 1024),
        Payload::tree("crumbs", &[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 16 * 1024)], 16 * 1024),
        Payload::edge_cases(),
    ];
    for payload in shapes {
        let temp = TestDir::new();
        let source = Source::new(&temp, &payload, usize::MAX);
        let out = temp.folder("out");
        source.fetch(&temp, &payload.name, &out).expect_exit(0);
        payload.assert_at(&out);
    }
}

/// Interrupts a download midway by a signal. The next start downloads only the missing pieces.
fn resumes_after(signal: &str, code: Option<i32>) {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let out = temp.folder("out");
    let first = Source::new(&temp, &payload, 20 * BLOCKS);
    let mut interrupted = first.fetch(&temp, "interrupted", &out);
    until("some pieces are on disk", || payload.right_pieces(&out) >= 10);
    interrupted.signal(signal);
    assert_eq!(interrupted.end_within(PATIENCE), code);

    let kept = payload.right_pieces(&out);
    assert!((10..40).contains(&kept), "interrupted midway, yet {kept} of 40 pieces are there");
    let second = Source::new(&temp, &payload, usize::MAX);
    second.fetch(&temp, "resumed", &out).expect_exit(0);
    payload.assert_at(&out);
    let fetched = second.gate.served();
    assert!(fetched <= (40 - kept) * BLOCKS, "fetched {fetched} blocks although {kept} of 40 pieces were there");
}

#[test]
fn resumes_after_sigterm() {
    resumes_after("TERM", Some(7));
}

#[test]
fn resumes_after_sigint() {
    resumes_after("INT", Some(7));
}

#[test]
fn resumes_after_sigkill() {
    resumes_after("KILL", None);
}

/// One wrong byte costs one piece.
#[test]
fn a_corrupted_file_is_repaired() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let out = temp.folder_with("out", &payload);
    let file = out.join(&payload.name);
    let mut content = payload.content();
    content[3 * payload.piece_length + 5] ^= 1;
    std::fs::write(&file, content).expect("a corrupted file");
    let source = Source::new(&temp, &payload, usize::MAX);
    source.fetch(&temp, "repair", &out).expect_exit(0);
    payload.assert_at(&out);
    assert_eq!(source.gate.served(), BLOCKS, "blocks fetched to repair one piece");
}

/// btsync downloads a missing or short file; other files in the same pieces stay correct.
#[test]
fn missing_and_short_files_are_fetched() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let out = temp.folder_with("out", &payload);
    let files = payload.paths_with_content(&out);
    std::fs::remove_file(&files[0].0).expect("a file to remove");
    let (last, content) = files.last().expect("files");
    std::fs::write(last, &content[..500_000]).expect("a file that is too short");
    let source = Source::new(&temp, &payload, usize::MAX);
    source.fetch(&temp, "fetch", &out).expect_exit(0);
    payload.assert_at(&out);
}

/// A download completes before the tiers that hang time out. The tracker that received `started` also receives `completed`.
#[test]
fn completed_reaches_the_tracker_that_answers_beside_those_that_do_not() {
    let hangs = Tracker::unresponsive();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let udp = format!("udp://{}/announce", silent.local_addr().expect("an address"));
    let moved = WebServer::start(&[("/announce", Page::Redirect(hangs.url("127.0.0.1")))]);
    let never = WebServer::start(&[("/announce", Page::Silence)]);
    let plain = || hangs.url("127.0.0.1");
    let before = [
        vec![plain()],
        vec![plain().replace("http:", "https:")],
        vec![udp.clone()],
        vec![moved.url("/announce")],
        vec![never.url("/announce"), udp],
    ];
    thread::scope(|scope| {
        for (number, before) in before.iter().enumerate() {
            scope.spawn(move || {
                let (temp, payload) = (TestDir::new(), Payload::single(&format!("{number}.bin"), 40_000, 16 * 1024));
                let peer = FakePeer::honest(&payload, &Gate::new(usize::MAX));
                let tracker = Tracker::start(&[peer.addr]);
                let tiers = before.iter().cloned().chain([tracker.url("127.0.0.1")]);
                let tiers = list(tiers.map(|url| list([bytes(url.as_bytes())])));
                let torrent = temp.path("x.torrent");
                fs::write(&torrent, dict([("announce-list", tiers), ("info", payload.info())]))
                    .expect("a torrent file");
                temp.btsync("fetch", &torrent, &temp.folder("out"), free_port(), &[]).expect_exit(0);
                let expected = ["started", "completed", "stopped"];
                until(&format!("the events are there, behind {before:?}"), || events(&tracker) == expected);
            });
        }
    });
}

/// A complete torrent ends with exit code 0, without a peer and without waiting for an unresponsive tracker.
#[test]
fn a_complete_torrent_ends_at_once() {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let out = temp.folder_with("out", &payload);
    let tracker = Tracker::unresponsive();
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut running = temp.btsync("again", &torrent, &out, free_port(), &[]);
    assert_eq!(running.end_within(STOP), Some(0));
    payload.assert_at(&out);
}

/// Ctrl-C waits neither for a tracker that accepts the connection and does not answer, nor for one that is down.
#[test]
fn stops_in_time_with_a_tracker_that_does_not_answer() {
    let unresponsive = Tracker::unresponsive();
    let dead = format!("http://127.0.0.1:{}/announce", free_port());
    for (url, signal) in [(unresponsive.url("127.0.0.1"), "INT"), (dead, "TERM")] {
        let (temp, payload, port) = (TestDir::new(), forty_pieces(), free_port());
        let torrent = temp.torrent(&payload, &url);
        let mut running = temp.btsync("stuck", &torrent, &temp.folder("out"), port, &[]);
        until("btsync listens", || listens(port));
        running.signal(signal);
        assert_eq!(running.end_within(STOP), Some(7), "exit code with {url}");
    }
}

/// btsync seeds until it has uploaded the torrent's size, then ends by itself.
#[test]
fn a_seeding_ratio_ends_the_torrent() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    let mut seeder = temp.btsync("seeder", &torrent, &source, free_port(), &["--seed-ratio", "1.0"]);
    until("the tracker knows the seeder", || tracker.announces().iter().any(|a| a.left == 0));
    assert!(seeder.is_running(), "a ratio of 0 was enough");
    let out = temp.folder("out");
    temp.btsync("leecher", &torrent, &out, free_port(), &[]).expect_exit(0);
    payload.assert_at(&out);
    seeder.expect_exit(0);
    // The ratio counts the bytes of all runs, so it is already reached.
    temp.btsync("seeder", &torrent, &source, free_port(), &["--seed-ratio", "1.0"]).expect_exit(0);
    // With one more copy the ratio is 2.
    let mut seeder = temp.btsync("seeder", &torrent, &source, free_port(), &["--seed-ratio", "2.0", "--json"]);
    temp.btsync("other", &torrent, &temp.folder("other"), free_port(), &[]).expect_exit(0);
    seeder.expect_exit(0);
    let twice = format!("\"total_uploaded\":{}", payload.content().len() * 2);
    assert!(seeder.log().contains(&twice), "{twice} in {}", seeder.log());
}

/// btsync seeds for a time, then ends by itself. The unit is minutes as in aria2; fractions are allowed.
#[test]
fn a_seeding_time_ends_the_torrent() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    temp.btsync("seeder", &torrent, &source, free_port(), &["--seed-time", "0.02"]).expect_exit(0);
    // It did seed: it announced itself as complete, and then `stopped`.
    until("the tracker has read both", || events(&tracker) == ["started", "stopped"]);
    assert!(tracker.announces().iter().all(|announce| announce.left == 0));
}

/// btsync sends HAVE to a seed for every piece, although the seed needs none: its user sees our progress, and clients that watch
/// for cheaters do not suspect us.
#[test]
fn a_seed_is_told_of_our_pieces() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let gate = Gate::new(100);
    let giving = FakePeer::honest(&payload, &gate);
    let received = Arc::new(Mutex::new(Vec::new()));
    let (log, pieces) = (received.clone(), payload.pieces());
    let choking = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(pieces))?;
        loop {
            if let Message::Have(piece) = wire.receive()? {
                log.lock().push(piece);
            }
        }
    });
    let tracker = Tracker::start(&[giving.addr, choking.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut fetch = temp.btsync("fetch", &torrent, &temp.folder("out"), free_port(), &[]);
    until("the choking seed has heard of most of what was sent", || received.lock().len() >= 20);
    gate.open();
    fetch.expect_exit(0);
    assert!(choking.outcome().is_err(), "the connection ended");
    let mut all = received.lock().clone();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "each piece once");
}

/// A peer given on the command line is enough when the tracker knows no peer.
#[test]
fn a_peer_given_by_hand_is_dialed() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let peer = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let out = temp.folder("out");
    temp.btsync("fetch", &torrent, &out, free_port(), &["--peer", &peer.addr.to_string()]).expect_exit(0);
    payload.assert_at(&out);
}

/// btsync uses a tracker given on the command line although the torrent's own is dead.
#[test]
fn a_tracker_given_by_hand_is_asked() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let peer = FakePeer::honest(&payload, &Gate::new(usize::MAX));
    let tracker = Tracker::start(&[peer.addr]);
    let torrent = temp.torrent(&payload, &format!("http://127.0.0.1:{}/announce", free_port()));
    let out = temp.folder("out");
    let more = ["--bt-tracker", &tracker.url("127.0.0.1")];
    temp.btsync("fetch", &torrent, &out, free_port(), &more).expect_exit(0);
    payload.assert_at(&out);
}

/// The torrent of a single file has exactly the info value that BEP 3 specifies, byte for byte.
#[test]
fn created_torrents_have_the_info_they_should() {
    let (temp, payload) = (TestDir::new(), forty_pieces());
    let source = temp.folder_with("source", &payload);
    let torrent = temp.path("made.torrent");
    let mut create: Command = btsync();
    create.arg("create").arg(source.join(&payload.name)).arg("-o").arg(&torrent);
    create.args(["--announce", "http://127.0.0.1:1/announce", "--piece-length", "64K"]);
    temp.start("create", &mut create).expect_exit(0);
    let (made, info) = (std::fs::read(&torrent).expect("the torrent"), payload.info());
    assert!(made.windows(info.len()).any(|window| window == info), "another info value");
}
