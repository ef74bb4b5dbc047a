//! Message stream encryption between sessions within this process: whoever can agree on a beginning completes the download.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use btsync::metainfo::Torrent;
use btsync::metainfo::create::{CreateOptions, create};
use btsync::session::{Config, Event, Handle, Outcome, SeedGoal, Session};
use btsync::types::Encryption::{self, Off, Prefer, Require};

/// Pieces of several blocks and a last one of odd size, so that batches of blocks are encrypted in one write.
fn payload(folder: &Path) -> Torrent {
    let mut rng = fastrand::Rng::with_seed(4);
    let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(3_000_001).collect();
    let source = folder.join("payload.bin");
    std::fs::write(&source, bytes).expect("room for the payload");
    let options = CreateOptions { piece_length: Some(128 * 1024), ..CreateOptions::default() };
    let created = create(&source, &options, &AtomicU64::new(0), &AtomicBool::new(false)).expect("a torrent");
    Torrent::parse(&created.bytes).expect("our own torrent is valid")
}

struct Running {
    handle: Handle,
    events: crossbeam_channel::Receiver<Event>,
    thread: thread::JoinHandle<Outcome>,
}

fn start(torrent: &Torrent, out: &Path, encryption: Encryption, peers: Vec<SocketAddr>) -> Running {
    let mut config = Config::new(out);
    (config.dht, config.lsd) = (None, false);
    config.listen_ports = 0..=0;
    config.encryption = encryption;
    config.seed = SeedGoal { forever: peers.is_empty(), ..SeedGoal::default() };
    config.peers = peers;
    let session = Session::new(torrent.clone(), config);
    let (handle, events) = (session.handle(), session.events());
    let thread = thread::spawn(move || session.run().expect("a session without trouble"));
    Running { handle, events, thread }
}

/// Whether a leecher that knows nobody but the seeder gets everything. A refusal is final when the seeder has been lost as often
/// as there are ways to call it.
fn completes(torrent: &Torrent, folder: &Path, leecher: Encryption, seeder: Encryption) -> bool {
    let out = tempfile::tempdir().expect("a folder");
    let seeds = start(torrent, folder, seeder, Vec::new());
    let port =
        seeds.events.iter().find_map(|event| if let Event::Listening { port } = event { Some(port) } else { None });
    let addr = SocketAddr::from(([127, 0, 0, 1], port.expect("it listens")));
    let fetches = start(torrent, out.path(), leecher, vec![addr]);
    let ways = if leecher == Prefer { 2 } else { 1 };
    let mut lost = 0;
    let completed = loop {
        match fetches.events.recv().expect("an event") {
            Event::Completed => break true,
            Event::PeerFailed { .. } | Event::PeerGone { .. } => lost += 1,
            _ => {}
        }
        if lost == ways {
            break false;
        }
    };
    fetches.handle.stop();
    let outcome = fetches.thread.join().expect("no panic");
    seeds.handle.stop();
    assert_eq!(seeds.thread.join().expect("no panic"), Outcome::StoppedWhole);
    if completed {
        assert!(matches!(outcome, Outcome::Completed | Outcome::StoppedWhole));
        let read = |folder: &Path| std::fs::read(folder.join("payload.bin")).expect("it is there");
        assert!(read(out.path()) == read(folder), "{leecher:?} fetched something else from {seeder:?}");
    }
    completed
}

#[test]
fn all_but_require_and_off_find_a_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let torrent = payload(folder.path());
    for leecher in [Prefer, Require, Off] {
        for seeder in [Prefer, Require, Off] {
            let expected = !matches!((leecher, seeder), (Require, Off) | (Off, Require));
            assert_eq!(completes(&torrent, folder.path(), leecher, seeder), expected, "{leecher:?} from {seeder:?}");
        }
    }
}
