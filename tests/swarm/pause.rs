//! Pausing through the library: btsync cancels its requests, serves no peer, keeps connections open, and continues after the
//! pause.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, block, full_bitfield};
use crate::common::web_seed::{TestWebSeed, WebSeedOptions};
use crate::common::wire::{Message, Wire, id};
use crate::common::{PATIENCE, TestDir, free_port, until};
use btsync::metainfo::Metainfo;
use btsync::torrent::{Limits, Outcome, SeedGoal, Torrent, TorrentConfig, TorrentHandle};

fn new_torrent(
    temp: &TestDir,
    payload: &Payload,
    out: &str,
    set: impl FnOnce(&mut TorrentConfig),
) -> (Torrent, TorrentHandle) {
    let metainfo = Metainfo::parse(&payload.torrent("http://127.0.0.1:9/")).expect("a torrent");
    let mut config = TorrentConfig::new(temp.folder(out));
    (config.client.dht, config.client.uses_lsd, config.records.resume_folder) = (None, false, None);
    config.client.listen_ports = 0..=0;
    config.search.exclude_trackers = vec!["*".to_owned()];
    set(&mut config);
    let torrent = Torrent::new(metainfo, config);
    let handle = torrent.handle();
    (torrent, handle)
}

/// Serves nothing until btsync has sent requests, paused (`CANCEL` for every request) and sent requests again; then serves
/// everything.
fn through_a_pause(wire: &mut Wire, payload: &Payload, told: &mpsc::Sender<&'static str>) -> io::Result<()> {
    let content = payload.content();
    wire.send(id::BITFIELD, &full_bitfield(payload.pieces()))?;
    wire.send(id::UNCHOKE, &[])?;
    let mut asked = vec![wire.next_request()?];
    let _ = told.send("asked");
    let mut cancelled = false;
    while !asked.is_empty() {
        match wire.receive()? {
            Message::Request(piece, begin, length) => {
                assert!(!cancelled, "asked for something in the pause");
                asked.push((piece, begin, length));
            }
            Message::Cancel(piece, begin, length) => {
                cancelled = true;
                asked.retain(|block| *block != (piece, begin, length));
            }
            _ => {}
        }
    }
    let _ = told.send("cancelled");
    loop {
        if let Message::Request(piece, begin, length) = wire.receive()? {
            let _ = told.send("asked again");
            wire.send_block(piece, begin, block(payload, &content, piece, begin, length))?;
        }
    }
}

#[test]
fn requests_are_cancelled_at_a_pause_and_sent_again_after_it() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40 * 32 * 1024, 32 * 1024));
    let (tell, told) = mpsc::channel();
    let served = payload.clone();
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| through_a_pause(&mut wire, &served, &tell));
    let (torrent, handle) = new_torrent(&temp, &payload, "out", |config| config.search.peers = vec![peer.addr]);
    let thread = std::thread::spawn(move || torrent.run().expect("no error"));
    let hears = |word| assert_eq!(told.recv_timeout(PATIENCE), Ok(word));
    hears("asked");
    handle.pause();
    hears("cancelled");
    assert!(handle.is_paused() && handle.snapshot().connected_peers == 1);
    handle.resume();
    hears("asked again");
    assert_eq!(thread.join().expect("no panic"), Outcome::Completed);
    payload.assert_at(&temp.path("out"));
}

#[test]
fn a_pause_drops_the_response_of_a_web_seed_which_is_requested_again_after_it() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 64 * 32 * 1024, 32 * 1024));
    let options = WebSeedOptions { part: 4096, pause: Duration::from_millis(5), ..WebSeedOptions::default() };
    let seed = TestWebSeed::with_options(&payload, options);
    let (torrent, handle) = new_torrent(&temp, &payload, "out", |config| config.search.web_seeds = vec![seed.url()]);
    let thread = std::thread::spawn(move || torrent.run().expect("no error"));
    until("the web seed sends", || seed.sent() > 300_000);
    handle.pause();
    until("the response is dropped", || seed.open_connections() == 0);
    let requests = seed.requests();
    assert!(handle.is_paused() && payload.difference(&temp.path("out")).is_some());
    handle.resume();
    assert_eq!(thread.join().expect("no panic"), Outcome::Completed);
    payload.assert_at(&temp.path("out"));
    assert!(seed.requests() > requests && seed.connections() == 2, "{} connections", seed.connections());
    let wasted = seed.sent() - 64 * 32 * 1024;
    assert!(wasted < 200_000, "{wasted} bytes more than the payload, heads included");
}

#[test]
fn a_seed_that_pauses_serves_nobody_until_it_goes_on() {
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 40 * 32 * 1024, 32 * 1024));
    temp.folder_with("seed", &payload);
    let port = free_port();
    let (torrent, handle) = new_torrent(&temp, &payload, "seed", |config| {
        config.client.listen_ports = port..=port;
        config.seed = SeedGoal { is_forever: true, ..SeedGoal::default() };
    });
    let thread = std::thread::spawn(move || torrent.run().expect("no error"));
    let addr = ([127, 0, 0, 1], port).into();
    let connect = || {
        drop(Wire::connect(addr)); // waits until it listens
        let mut wire = Wire::connect_and_handshake(addr, payload.info_hash()).expect("a handshake");
        wire.send(id::INTERESTED, &[]).expect("a word");
        wire
    };
    let mut wire = connect();
    wire.receive_until(&Message::Unchoke).expect("a slot");
    handle.pause();
    wire.receive_until(&Message::Choke).expect("the pause");
    // A peer that connects during the pause gets no slot either; after the pause btsync unchokes both.
    let mut late = connect();
    wire.request(0, 0, 16_384).expect("a word");
    handle.resume();
    late.receive_until(&Message::Unchoke).expect("a slot");
    wire.receive_until(&Message::Unchoke).expect("a slot again");
    handle.stop();
    assert_eq!(thread.join().expect("no panic"), Outcome::StoppedComplete);
}

/// A peer that ignores CANCEL: it serves every request. Counts the blocks that it has sent and the requests that btsync cancelled,
/// and reports the first CANCEL and the first request after it.
fn ignores_cancels(payload: &Payload, told: mpsc::Sender<&'static str>, counts: &Arc<[AtomicUsize; 2]>) -> FakePeer {
    let (theirs, content, counts) = (payload.clone(), payload.content(), counts.clone());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        let [served, cancelled] = &*counts;
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        loop {
            match wire.receive()? {
                Message::Request(piece, begin, length) => {
                    if cancelled.load(Ordering::SeqCst) > 0 {
                        let _ = told.send("asked again");
                    }
                    wire.send_block(piece, begin, block(&theirs, &content, piece, begin, length))?;
                    served.fetch_add(1, Ordering::SeqCst);
                }
                Message::Cancel(..) => {
                    let before = cancelled.fetch_add(1, Ordering::SeqCst);
                    if before == 0 {
                        let _ = told.send("cancelled");
                    }
                }
                _ => {}
            }
        }
    })
}

/// Under a rate limit, outstanding requests cover at most two seconds of data. The peer sends all of it after the pause.
#[test]
fn a_pause_under_a_limit_has_little_to_wait_for() {
    const LIMIT: u64 = 200 * 1024;
    const BLOCK_SIZE: u64 = 16 * 1024;
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 512 * 16 * 1024, 64 * 1024));
    let ((tell, told), counts) = (mpsc::channel(), Arc::<[AtomicUsize; 2]>::default());
    let peer = ignores_cancels(&payload, tell, &counts);
    let (torrent, handle) = new_torrent(&temp, &payload, "out", |config| {
        config.search.peers = vec![peer.addr];
        config.client.limits = Limits { down: LIMIT, up: 0 };
    });
    let thread = std::thread::spawn(move || torrent.run().expect("no error"));
    let downloaded = || handle.snapshot().downloaded;
    until("some of it is there", || downloaded() >= 20 * BLOCK_SIZE);
    let hears = |word| assert_eq!(told.recv_timeout(PATIENCE), Ok(word));
    handle.pause();
    hears("cancelled");
    // The peer has answered all requests, because it read them before the first CANCEL.
    let [served, cancelled] = counts.each_ref().map(|count| move || count.load(Ordering::SeqCst) as u64);
    until("all that was asked for has come", || downloaded() == served() * BLOCK_SIZE);
    handle.resume();
    hears("asked again");
    let outstanding = cancelled() * BLOCK_SIZE;
    assert!(outstanding <= 2 * LIMIT, "{outstanding} bytes were to come after the pause");
    handle.stop();
    assert!(matches!(thread.join().expect("no panic"), Outcome::Stopped | Outcome::Completed));
}
