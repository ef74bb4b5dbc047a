//! `--max-download-limit` and `--max-upload-limit`: they hold, cause no superfluous requests, change at run time, and do not
//! delay the shutdown. The tests assert only lower bounds of times: a busy machine is slower, never faster.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::payload::Payload;
use crate::common::relay::Relay;
use crate::common::seeder::{FakePeer, Gate, block};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, id};
use crate::common::{TestDir, btsync, free_port, until};
use btsync::metainfo::Metainfo;
use btsync::torrent::{Event, Limits, Outcome, Torrent, TorrentConfig};

/// Blocks in the payload of 2.5 MiB.
const BLOCKS: usize = 160;

/// The least time for 2.5 MiB at 1 MiB/s, minus the burst that a limiter allows.
const AT_A_MIB: Duration = Duration::from_secs(2);

fn payload() -> Payload {
    Payload::single("limited.bin", BLOCKS * 16 * 1024, 64 * 1024)
}

/// Fake seeders, and a torrent whose tracker returns their addresses.
struct Source {
    gates: Vec<Arc<Gate>>,
    torrent: PathBuf,
    peers: Vec<FakePeer>,
    tracker: Tracker,
}

impl Source {
    /// `seeders` seeders behind gates that grant `blocks` blocks.
    fn new(temp: &TestDir, seeders: usize, blocks: usize) -> Source {
        let payload = payload();
        let gates: Vec<_> = (0..seeders).map(|_| Gate::new(blocks)).collect();
        let peers: Vec<_> = gates.iter().map(|gate| FakePeer::honest(&payload, gate)).collect();
        let tracker = Tracker::start(&peers.iter().map(|peer| peer.addr).collect::<Vec<_>>());
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        Source { gates, torrent, peers, tracker }
    }

    /// Blocks served by all seeders.
    fn served(&self) -> usize {
        self.gates.iter().map(|gate| gate.served()).sum()
    }
}

#[test]
fn a_download_keeps_its_limit_and_asks_for_nothing_twice() {
    let temp = TestDir::new();
    let (source, out) = (Source::new(&temp, 1, usize::MAX), temp.folder("out"));
    let began = Instant::now();
    let limit = ["--max-download-limit", "1M"];
    temp.btsync("fetch", &source.torrent, &out, free_port(), &limit).expect_exit(0);
    assert!(began.elapsed() >= AT_A_MIB, "done after {:?}", began.elapsed());
    payload().assert_at(&out);
    assert_eq!(source.served(), BLOCKS, "blocks served");
}

/// At this limit, each peer's first block takes longer than the timeout of a first block.
#[test]
fn requests_do_not_run_out_of_time_because_we_hold_back() {
    let temp = TestDir::new();
    let source = Source::new(&temp, 30, usize::MAX);
    let mut command = btsync();
    command.arg(&source.torrent).arg(temp.folder("out")).args([
        "--max-overall-download-limit",
        "40K",
        "--no-dht",
        "--no-lsd",
    ]);
    command.args(["--listen-port", &free_port().to_string()]).env("RUST_LOG", "btsync=debug");
    let mut running = temp.start("fetch", &mut command);
    // btsync requests two blocks of each peer at first, and more when the first block has arrived.
    until("many have brought a block", || source.served() >= 75);
    let log = running.log();
    assert!(log.contains("DEBUG"), "nothing would be said of requests that are late");
    assert!(!log.contains("requests timed out"), "requests were given up:\n{log}");
    running.signal("USR1");
    running.expect_exit(0);
}

#[test]
fn a_seeder_keeps_its_limit() {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let source = temp.folder_with("seeder", &payload);
    let options = ["--seed", "--max-upload-limit", "1M"];
    let mut seeder = temp.btsync("seeder", &torrent, &source, free_port(), &options);
    until("the tracker knows the seeder", || tracker.announces().iter().any(|a| a.left == 0));
    let began = Instant::now();
    let out = temp.folder("out");
    temp.btsync("leecher", &torrent, &out, free_port(), &[]).expect_exit(0);
    assert!(began.elapsed() >= AT_A_MIB, "done after {:?}", began.elapsed());
    payload.assert_at(&out);
    seeder.terminate(0);
}

#[test]
fn signals_lift_the_limits_and_put_them_back() {
    let temp = TestDir::new();
    let source = Source::new(&temp, 1, 0);
    let options = ["--max-download-limit", "1M"];
    let mut running = temp.btsync("fetch", &source.torrent, &temp.folder("out"), free_port(), &options);
    until("btsync runs", || !source.tracker.announces().is_empty());
    running.signal("USR1");
    running.wait_for_output("limits: down none");
    running.signal("USR2");
    running.wait_for_output("limits: down 1.0 MiB/s");
    let began = Instant::now();
    source.gates[0].open();
    running.expect_exit(0);
    assert!(began.elapsed() >= AT_A_MIB, "done after {:?}", began.elapsed());
}

/// A transfer that takes hours at the limit completes as soon as the limit is lifted.
#[test]
fn a_limit_is_lifted_while_blocks_wait() {
    let temp = TestDir::new();
    let source = Source::new(&temp, 1, usize::MAX);
    let options = ["--max-download-limit", "1K"];
    let mut running = temp.btsync("fetch", &source.torrent, &temp.folder("out"), free_port(), &options);
    until("blocks are on their way", || source.served() > 0);
    assert!(running.is_running(), "done without a lift");
    running.signal("USR1");
    running.expect_exit(0);
    payload().assert_at(&temp.folder("out"));
}

#[test]
fn a_process_that_waits_under_a_rate_limit_still_stops_in_time() {
    let temp = TestDir::new();
    let source = Source::new(&temp, 1, usize::MAX);
    let options = ["--max-download-limit", "1K", "--max-upload-limit", "1K"];
    let mut running = temp.btsync("fetch", &source.torrent, &temp.folder("out"), free_port(), &options);
    until("blocks are on their way", || source.served() > 0);
    running.terminate(7);
}

/// The library: limits in the configuration, changed through a handle before the start and at run time.
#[test]
fn a_handle_changes_the_limits() {
    let temp = TestDir::new();
    let source = Source::new(&temp, 1, usize::MAX);
    let mut config = TorrentConfig::new(temp.folder("out"));
    (config.client.dht, config.client.uses_lsd) = (None, false);
    (config.client.listen_ports, config.search.peers) = (0..=0, vec![source.peers[0].addr]);
    config.client.limits = Limits { down: 0, up: 7 };
    let torrent = Torrent::new(Metainfo::read(&source.torrent).expect("a torrent"), config);
    let (handle, events) = (torrent.handle(), torrent.events());
    assert_eq!(handle.limits(), Limits { down: 0, up: 7 });
    handle.set_limits(Limits { down: 1024, up: 0 });
    let running = thread::spawn(move || torrent.run().expect("no trouble"));
    until("blocks are on their way", || source.served() > 0);
    assert!(!events.try_iter().any(|event| event == Event::Completed), "the limit was not passed on");
    handle.set_limits(Limits::default());
    assert_eq!(handle.limits(), Limits::default());
    assert_eq!(running.join().expect("no panic"), Outcome::Completed);
}

/// Exchanges pieces with a peer over a slow uplink: requests are sent between our own blocks, without waiting for everything that
/// the peer has requested. The measure is how much btsync uploaded until its download was complete.
#[test]
fn requests_do_not_queue_behind_our_own_blocks() {
    const UPLINK: u32 = 400_000;
    let (temp, payload) = (TestDir::new(), Payload::single("traded.bin", 256 * 64 * 1024, 64 * 1024));
    let (content, sent) = (Arc::new(payload.content()), Arc::new(AtomicUsize::new(0)));
    let out = temp.folder("out");
    // btsync starts with the first half.
    let mut half = content[..content.len() / 2].to_vec();
    half.resize(content.len(), 0);
    std::fs::write(out.join("traded.bin"), half).expect("a file");
    let (theirs, counts) = (payload.clone(), sent.clone());
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &[[0; 16], [0xff; 16]].concat())?;
        wire.send(id::INTERESTED, &[])?;
        wire.send(id::UNCHOKE, &[])?;
        let mut asked = 0..u32::MAX;
        loop {
            match wire.receive()? {
                // As many outstanding requests as clients use, so that btsync always has blocks to send.
                Message::Unchoke => {
                    for number in asked.by_ref().take(500) {
                        wire.request(number / 4 % 128, number % 4 * 16 * 1024, 16 * 1024)?;
                    }
                }
                Message::Piece(..) => {
                    counts.fetch_add(16 * 1024, Ordering::Relaxed);
                    let number = asked.next().unwrap_or_default();
                    wire.request(number / 4 % 128, number % 4 * 16 * 1024, 16 * 1024)?;
                }
                Message::Request(piece, begin, length) => {
                    wire.send_block(piece, begin, block(&theirs, &content, piece, begin, length))?;
                }
                _ => {}
            }
        }
    });
    let relay = Relay::start(peer.addr, UPLINK);
    let torrent = temp.torrent(&payload, "http://127.0.0.1:9/announce");
    let more = ["--bt-exclude-tracker", "*", "--peer", &relay.addr.to_string()];
    temp.btsync("trade", &torrent, &out, free_port(), &more).expect_exit(0);
    payload.assert_at(&out);
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent > 0, "nothing was traded");
    assert!(sent < 3 << 20, "{sent} bytes were sent until 8 MiB had come");
}
