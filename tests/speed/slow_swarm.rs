//! Swarms under realistic conditions: peers that stall, paths with jitter, slow seeds and large pieces. The tests assert the
//! outcome and the requests, never how long a download took.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::netns::{RemoteMachine, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate, block, full_bitfield};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, Wire, frame, id};
use crate::common::{TestDir, free_port, until};
use parking_lot::Mutex;

const BLOCK_SIZE: usize = 16 * 1024;

/// How a peer stalls after it has unchoked us and accepted our requests.
#[derive(Clone, Copy, Debug)]
enum Stall {
    /// Sends nothing.
    Silent,
    /// Sends keep-alives.
    KeepAlive,
    /// Sends the first block byte by byte.
    Drip,
    /// Sends half of each block.
    Short,
}

const STALLS: [Stall; 4] = [Stall::Silent, Stall::KeepAlive, Stall::Drip, Stall::Short];

fn staller(payload: &Payload, stall: Stall, asked: &Arc<AtomicUsize>) -> FakePeer {
    let (pieces, asked) = (payload.pieces(), asked.clone());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(pieces))?;
        wire.send(id::UNCHOKE, &[])?;
        let (piece, begin, length) = wire.next_request()?;
        asked.fetch_add(1, Ordering::Relaxed);
        match stall {
            Stall::Silent => {}
            Stall::KeepAlive => every_half_second(&wire, vec![0; 4])?,
            Stall::Drip => {
                let mut head = frame(id::PIECE, &[piece.to_be_bytes(), begin.to_be_bytes()].concat());
                head[..4].copy_from_slice(&(length + 9).to_be_bytes());
                wire.send_raw(&head)?;
                every_half_second(&wire, vec![0])?;
            }
            Stall::Short => loop {
                let (piece, begin, length) = wire.next_request()?;
                wire.send_block(piece, begin, &vec![0; length as usize / 2])?;
            },
        }
        loop {
            wire.receive()?;
        }
    })
}

/// Sends these bytes twice a second from another thread until the connection ends.
fn every_half_second(wire: &Wire, bytes: Vec<u8>) -> io::Result<()> {
    let mut wire = wire.try_clone()?;
    std::thread::spawn(move || {
        while wire.send_raw(&bytes).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    Ok(())
}

/// Starts btsync with these peers, and the tracker that returns them.
fn download(temp: &TestDir, payload: &Payload, peers: &[FakePeer], port: u16) -> (Running, Tracker) {
    let addrs: Vec<_> = peers.iter().map(|peer| peer.addr).collect();
    let tracker = Tracker::start(&addrs);
    let torrent = temp.torrent(payload, &tracker.url("127.0.0.1"));
    (temp.btsync("btsync", &torrent, &temp.folder("out"), port, &[]), tracker)
}

/// Downloads 4 MiB from one honest peer beside peers that stall. btsync must complete and request nothing from the honest peer
/// twice.
fn completes_beside(stallers: &[Stall]) {
    let (temp, payload, gate) = (TestDir::new(), Payload::single("stalled.bin", 4 << 20, 256 * 1024), Gate::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut peers: Vec<FakePeer> = stallers.iter().map(|&stall| staller(&payload, stall, &asked)).collect();
    peers.push(FakePeer::honest(&payload, &gate));
    let (mut btsync, _tracker) = download(&temp, &payload, &peers, free_port());
    // The stalling peers have received requests before the honest peer unchokes.
    until("all stallers were asked", || asked.load(Ordering::Relaxed) >= stallers.len());
    gate.open();
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert_eq!(gate.served(), (4 << 20) / BLOCK_SIZE, "blocks from the honest peer");
}

#[test]
fn one_staller_does_not_hold_the_end() {
    for stall in STALLS {
        completes_beside(&[stall]);
    }
}

#[test]
fn three_stallers_do_not_hold_the_end() {
    for stall in STALLS {
        completes_beside(&[stall; 3]);
    }
}

#[test]
fn fifty_stallers_do_not_hold_the_end() {
    completes_beside(&std::array::from_fn::<Stall, 50, _>(|n| STALLS[n % STALLS.len()]));
}

/// A seeder that answers each request after a delay, in order, at a limited rate.
struct Delayed {
    delay: fn(&mut fastrand::Rng) -> Duration,
    bytes_per_second: f64,
}

/// What a seeder observed.
#[derive(Default)]
struct Seen {
    /// The number of requests for each block.
    asked: Mutex<HashMap<(u32, u32), usize>>,
    /// The number of CANCEL messages.
    cancels: AtomicUsize,
    /// The most requests that waited for an answer at one time.
    deepest: AtomicUsize,
    waiting: AtomicUsize,
    served: AtomicUsize,
}

impl Delayed {
    /// Starts a seeder that unchokes at once.
    fn seed(self, payload: &Arc<Payload>, content: &Arc<Vec<u8>>, seen: &Arc<Seen>) -> FakePeer {
        let (payload, seen, content) = (payload.clone(), seen.clone(), content.clone());
        let (delay, rate) = (self.delay, self.bytes_per_second);
        let pieces = content.len().div_ceil(payload.piece_length);
        FakePeer::new(payload.info_hash(), move |mut wire| {
            wire.send(id::BITFIELD, &full_bitfield(pieces))?;
            wire.send(id::UNCHOKE, &[])?;
            let (queue, asked) = std::sync::mpsc::channel::<(Instant, (u32, u32, u32))>();
            let (mut out, theirs, bytes, counted) = (wire.try_clone()?, payload.clone(), content.clone(), seen.clone());
            let cancelled = Arc::new(Mutex::new(HashSet::new()));
            let withdrawn = cancelled.clone();
            std::thread::spawn(move || {
                let mut free = Instant::now();
                for (due, (piece, begin, length)) in asked {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if withdrawn.lock().remove(&(piece, begin)) {
                        counted.waiting.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let data = block(&theirs, &bytes, piece, begin, length);
                    let mut message = frame(id::PIECE, &[piece.to_be_bytes(), begin.to_be_bytes()].concat());
                    message[..4].copy_from_slice(&(length + 9).to_be_bytes());
                    message.extend_from_slice(data);
                    // A slow link delivers a block in parts.
                    let part = if rate < 1e6 { 512 } else { message.len() };
                    for part in message.chunks(part) {
                        free = free.max(Instant::now()) + Duration::from_secs_f64(part.len() as f64 / rate);
                        std::thread::sleep(free.saturating_duration_since(Instant::now()));
                        if out.send_raw(part).is_err() {
                            return;
                        }
                    }
                    counted.waiting.fetch_sub(1, Ordering::Relaxed);
                    counted.served.fetch_add(1, Ordering::Relaxed);
                }
            });
            let (mut rng, mut last) = (fastrand::Rng::with_seed(7), Instant::now());
            loop {
                match wire.receive()? {
                    Message::Request(piece, begin, length) => {
                        *seen.asked.lock().entry((piece, begin)).or_default() += 1;
                        let waiting = seen.waiting.fetch_add(1, Ordering::Relaxed) + 1;
                        seen.deepest.fetch_max(waiting, Ordering::Relaxed);
                        last = last.max(Instant::now() + delay(&mut rng));
                        let _ = queue.send((last, (piece, begin, length)));
                    }
                    Message::Cancel(piece, begin, _) => {
                        seen.cancels.fetch_add(1, Ordering::Relaxed);
                        cancelled.lock().insert((piece, begin));
                    }
                    _ => {}
                }
            }
        })
    }
}

#[test]
fn a_path_with_jitter_is_asked_deep_enough() {
    let (temp, payload) = (TestDir::new(), Arc::new(Payload::single("jitter.bin", 16 << 20, 256 * 1024)));
    let content = Arc::new(payload.content());
    let seen = Arc::new(Seen::default());
    let jitter = |rng: &mut fastrand::Rng| Duration::from_millis(rng.u64(20..=200));
    let peers = [Delayed { delay: jitter, bytes_per_second: 1e9 }.seed(&payload, &content, &seen)];
    let (mut btsync, _tracker) = download(&temp, &payload, &peers, free_port());
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    let deepest = seen.deepest.load(Ordering::Relaxed);
    assert!(deepest >= 300, "{deepest} requests outstanding at most");
}

#[test]
fn a_very_slow_peer_is_asked_for_each_block_once() {
    let (temp, payload) = (TestDir::new(), Arc::new(Payload::single("slow.bin", BLOCK_SIZE + 2000, 32 * 1024)));
    let content = Arc::new(payload.content());
    let seen = Arc::new(Seen::default());
    let peers = [Delayed { delay: |_| Duration::ZERO, bytes_per_second: 1200.0 }.seed(&payload, &content, &seen)];
    let (mut btsync, _tracker) = download(&temp, &payload, &peers, free_port());
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    let asked = seen.asked.lock();
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
    assert_eq!(seen.cancels.load(Ordering::Relaxed), 0, "cancels");
}

#[test]
fn slow_peers_share_large_pieces() {
    let (temp, payload, port) =
        (TestDir::new(), Arc::new(Payload::single("large.bin", 16 << 20, 4 << 20)), free_port());
    let content = Arc::new(payload.content());
    let seen = Arc::new(Seen::default());
    let slow = || Delayed { delay: |_| Duration::from_millis(10), bytes_per_second: 50e3 };
    let seeds: Vec<_> = (0..10).map(|_| slow().seed(&payload, &content, &seen)).collect();
    let (_btsync, _tracker) = download(&temp, &payload, &seeds, port);
    // Another leecher receives HAVE for the first complete piece.
    let mut wire =
        Wire::connect_and_handshake(([127, 0, 0, 1], port).into(), payload.info_hash()).expect("a handshake");
    while !matches!(wire.receive().expect("a HAVE"), Message::Have(_)) {}
    let served = seen.served.load(Ordering::Relaxed);
    let per_piece = (4 << 20) / BLOCK_SIZE;
    assert!(served <= 2 * per_piece, "{served} blocks had come when the first piece of {per_piece} was whole");
}

/// What a seed's leechers have downloaded.
#[derive(Default)]
struct Fetched {
    blocks: AtomicUsize,
    whole_pieces: AtomicUsize,
}

/// Downloads one piece with sixteen requests at a time, as far as the seed serves it.
fn fetch_piece(mut wire: Wire, piece: u32, blocks: u32, fetched: &Fetched) -> io::Result<()> {
    wire.send(id::INTERESTED, &[])?;
    let mut missing: HashSet<u32> = (0..blocks).map(|n| n * BLOCK_SIZE as u32).collect();
    while !missing.is_empty() {
        match wire.receive()? {
            Message::Unchoke => {
                for begin in &missing {
                    wire.request(piece, *begin, BLOCK_SIZE as u32)?;
                }
            }
            Message::Piece(_, begin, _) if missing.remove(&begin) => _ = fetched.blocks.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
    fetched.whole_pieces.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Forty leechers on a link of 125 kB/s: the seed serves few at a time, so that one soon has a complete piece.
#[test]
fn a_seed_on_a_slow_uplink_serves_few_at_a_time() {
    in_network_namespace("a_seed_on_a_slow_uplink_serves_few_at_a_time", &["tc"], || {
        let (temp, payload, port) = (TestDir::new(), Payload::single("line.bin", 10 << 20, 256 << 10), free_port());
        let far = RemoteMachine::new();
        let slow = ["qdisc", "add", "dev", "near", "root", "tbf", "rate", "1mbit", "burst", "16kb", "latency", "250ms"];
        assert!(std::process::Command::new("tc").args(slow).status().expect("tc").success());
        let tracker = Tracker::start(&[]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let home = temp.folder_with("seeder", &payload);
        let _seeder = temp.btsync("seeder", &torrent, &home, port, &["--seed"]);
        until("the seeder has announced itself as complete", || tracker.announces().iter().any(|a| a.left == 0));
        let dial =
            || Wire::connect_and_handshake(([10, 89, 0, 1], port).into(), payload.info_hash()).expect("a handshake");
        let wires = far.run_inside(|| (0..40).map(|_| dial()).collect::<Vec<_>>());
        let fetched = Arc::new(Fetched::default());
        for (piece, wire) in wires.into_iter().enumerate() {
            let fetched = fetched.clone();
            std::thread::spawn(move || fetch_piece(wire, piece as u32, 16, &fetched));
        }
        until("somebody has a whole piece", || fetched.whole_pieces.load(Ordering::Relaxed) > 0);
        let blocks = fetched.blocks.load(Ordering::Relaxed);
        assert!(blocks <= 6 * 16, "{blocks} blocks had been sent when the first piece of 16 was whole");
    });
}

/// A leecher that always has 64 requests for the first `have` pieces outstanding. Each time it chokes and unchokes btsync, btsync
/// repeats the requests it lost. Returns how many block bytes arrive before those requests, for each of `times` rounds.
fn blocks_before_requests(mut wire: Wire, have: u32, times: usize) -> io::Result<Vec<usize>> {
    let per_piece = (256 << 10) / BLOCK_SIZE as u32;
    wire.send(id::BITFIELD, &[0, 0xff])?; // the other half, because btsync would not unchoke a seed
    wire.send(id::INTERESTED, &[])?;
    let mut next = 0;
    let mut ask = |wire: &mut Wire| {
        let block = next % (have * per_piece);
        next += 1;
        wire.request(block / per_piece, block % per_piece * BLOCK_SIZE as u32, BLOCK_SIZE as u32)
    };
    let (mut ahead, mut since, mut come) = (Vec::new(), None, 0);
    while ahead.len() < times {
        match wire.receive()? {
            Message::Unchoke => (0..64).try_for_each(|_| ask(&mut wire))?,
            Message::Piece(_, _, block) => {
                come += 1;
                if let Some(bytes) = &mut since {
                    *bytes += block.len();
                } else if come % 8 == 0 {
                    wire.send(id::CHOKE, &[])?;
                    wire.send(id::UNCHOKE, &[])?;
                    since = Some(0);
                }
                ask(&mut wire)?;
            }
            Message::Request(..) => ahead.extend(since.take()),
            _ => {}
        }
    }
    Ok(ahead)
}

/// A link of 100 kB/s, on which more than a second's worth of blocks would be queued.
#[test]
fn requests_do_not_wait_behind_blocks_on_a_slow_uplink() {
    in_network_namespace("requests_do_not_wait_behind_blocks_on_a_slow_uplink", &["tc"], || {
        let (temp, payload, port) = (TestDir::new(), Payload::single("trade.bin", 4 << 20, 256 << 10), free_port());
        let far = RemoteMachine::new();
        let slow = ["qdisc", "add", "dev", "near", "root", "tbf", "rate", "800kbit", "burst", "16kb", "limit", "200kb"];
        assert!(std::process::Command::new("tc").args(slow).status().expect("tc").success());
        let tracker = Tracker::start(&[]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let home = temp.folder_with("home", &payload);
        std::fs::OpenOptions::new()
            .write(true)
            .open(home.join("trade.bin"))
            .and_then(|file| file.set_len(2 << 20))
            .expect("half of it");
        let _btsync = temp.btsync("trader", &torrent, &home, port, &["--seed"]);
        until("it has announced itself", || !tracker.announces().is_empty());
        let wire = far.run_inside(|| {
            Wire::connect_and_handshake(([10, 89, 0, 1], port).into(), payload.info_hash()).expect("a handshake")
        });
        let mut ahead = blocks_before_requests(wire, 8, 9).expect("a connection that lasts");
        ahead.sort_unstable();
        assert!(ahead[4] <= 3 * BLOCK_SIZE, "bytes of blocks before a request: {ahead:?}");
    });
}
