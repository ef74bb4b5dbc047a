//! Message stream encryption between torrents within this process: a download completes whenever both sides' settings have a
//! method in common.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Instant;

use crate::common::PATIENCE;
use btsync::metainfo::create::{CreateOptions, create};
use btsync::metainfo::{Magnet, Metainfo};
use btsync::torrent::{Event, Outcome, SeedGoal, Source, Torrent, TorrentConfig, TorrentHandle};
use btsync::types::Encryption::{self, Allow, Off, Require};

/// Pieces of several blocks and a last piece of odd size, so that one write encrypts several blocks.
fn payload(folder: &Path) -> Metainfo {
    let mut rng = fastrand::Rng::with_seed(4);
    let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(3_000_001).collect();
    let source = folder.join("payload.bin");
    std::fs::write(&source, bytes).expect("room for the payload");
    let options = CreateOptions { piece_length: Some(128 * 1024), ..CreateOptions::default() };
    let created = create(&source, &options, &AtomicU64::new(0), &AtomicBool::new(false)).expect("a torrent");
    Metainfo::parse(&created.bytes).expect("our own torrent is valid")
}

struct Running {
    handle: TorrentHandle,
    events: btsync::torrent::Events,
    thread: thread::JoinHandle<Outcome>,
}

fn start(what: impl Into<Source>, out: &Path, encryption: Encryption, peers: Vec<SocketAddr>, seeds: bool) -> Running {
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.connections.encryption = encryption;
    config.seed = SeedGoal { is_forever: seeds, ..SeedGoal::default() };
    config.search.peers = peers;
    let torrent = Torrent::new(what, config);
    let (handle, events) = (torrent.handle(), torrent.events());
    let thread = thread::spawn(move || torrent.run().expect("no error"));
    Running { handle, events, thread }
}

/// The address it listens on. Call it before any other event is read.
fn address(running: &Running) -> SocketAddr {
    let port = |event| if let Event::Listening { port } = event { Some(port) } else { None };
    SocketAddr::from(([127, 0, 0, 1], running.events.iter().find_map(port).expect("it listens")))
}

/// A leecher that knows only the seeder completes, or not, as expected. Where it must not, it has failed once the connection was lost
/// as often as there are ways to connect (encrypted, plain). Where it must, a busy machine may make it lose more connections.
fn completes(torrent: &Metainfo, folder: &Path, (leecher, seeder): (Encryption, Encryption), expected: bool) -> bool {
    let out = tempfile::tempdir().expect("a folder");
    let seeds = start(torrent.clone(), folder, seeder, Vec::new(), true);
    let fetches = start(torrent.clone(), out.path(), leecher, vec![address(&seeds)], false);
    let ways = if leecher == Allow { 2 } else { 1 };
    let (mut lost, deadline) = (0, Instant::now() + PATIENCE);
    let completed = loop {
        match fetches.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Completed) => break true,
            Ok(Event::PeerFailed { .. } | Event::PeerDisconnected { .. }) => lost += 1,
            Ok(_) => {}
            Err(_) => break false,
        }
        if lost == ways && !expected {
            break false;
        }
    };
    fetches.handle.stop();
    let outcome = fetches.thread.join().expect("no panic");
    seeds.handle.stop();
    assert_eq!(seeds.thread.join().expect("no panic"), Outcome::StoppedComplete);
    if completed {
        assert!(matches!(outcome, Outcome::Completed | Outcome::StoppedComplete));
        let read = |folder: &Path| std::fs::read(folder.join("payload.bin")).expect("it is there");
        assert!(read(out.path()) == read(folder), "{leecher:?} fetched something else from {seeder:?}");
    }
    completed
}

#[test]
fn all_but_require_and_off_find_a_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let torrent = payload(folder.path());
    for leecher in [Allow, Require, Off] {
        for seeder in [Allow, Require, Off] {
            let expected = !matches!((leecher, seeder), (Require, Off) | (Off, Require));
            let completed = completes(&torrent, folder.path(), (leecher, seeder), expected);
            assert_eq!(completed, expected, "{leecher:?} from {seeder:?}");
        }
    }
}

/// Metadata exchange and download share the encrypted connection, whichever side connects.
#[test]
fn an_encrypted_connection_outlasts_the_metadata() {
    let folder = tempfile::tempdir().expect("a folder");
    let torrent = payload(folder.path());
    for seed_dials in [false, true] {
        let out = tempfile::tempdir().expect("a folder");
        let link = || Magnet::of(&torrent);
        let seed = |peers| start(torrent.clone(), folder.path(), Require, peers, true);
        let leecher = |peers| start(link(), out.path(), Require, peers, true);
        let (seeds, fetches) = if seed_dials {
            let fetches = leecher(Vec::new());
            (seed(vec![address(&fetches)]), fetches)
        } else {
            let seeds = seed(Vec::new());
            let fetches = leecher(vec![address(&seeds)]);
            (seeds, fetches)
        };
        let mut connections = 0;
        for event in fetches.events.iter().take_while(|event| !matches!(event, Event::Completed)) {
            assert!(!matches!(event, Event::PeerDisconnected { .. } | Event::PeerFailed { .. }), "{event:?}");
            connections += usize::from(matches!(event, Event::PeerConnected { .. }));
        }
        assert_eq!(connections, 1, "{seed_dials}");
        fetches.handle.stop();
        assert_eq!(fetches.thread.join().expect("no panic"), Outcome::StoppedComplete);
        seeds.handle.stop();
        seeds.thread.join().expect("no panic");
        let read = |folder: &Path| std::fs::read(folder.join("payload.bin")).expect("it is there");
        assert!(read(out.path()) == read(folder.path()), "something else was fetched");
        let connected =
            |event: &Event| matches!(event, Event::PeerConnected { is_incoming, .. } if *is_incoming != seed_dials);
        assert_eq!(seeds.events.try_iter().filter(connected).count(), 1, "{seed_dials}");
    }
}
