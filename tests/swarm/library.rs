//! A swarm within this process through the library's public interface: a tracker, seeders and leechers on loopback. The test
//! counts the threads of its process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use btsync::metainfo::Metainfo;
use btsync::metainfo::create::{CreateOptions, create};
use btsync::torrent::{Event, Outcome, SeedGoal, Stage, Torrent, TorrentConfig, TorrentHandle};
use btsync::tracker_server::{TrackerServer, TrackerServerConfig};

use crate::common::netns::alone_in_process;
use crate::common::until;

/// A folder of three files with pieces that span them, and its torrent.
fn payload(folder: &Path, announce: &str) -> Metainfo {
    let source = folder.join("payload");
    std::fs::create_dir_all(source.join("deep")).expect("a folder");
    let mut rng = fastrand::Rng::with_seed(1);
    for (name, size) in [("a", 700_001), ("deep/b", 0), ("deep/c", 2_345_678)] {
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        std::fs::write(source.join(name), bytes).expect("room for the payload");
    }
    let options = CreateOptions {
        piece_length: Some(32 * 1024),
        tiers: vec![vec![announce.to_string()]],
        ..CreateOptions::default()
    };
    let created = create(&source, &options, &AtomicU64::new(0), &AtomicBool::new(false)).expect("a torrent");
    Metainfo::parse(&created.bytes).expect("our own torrent is valid")
}

/// The number of threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

struct Running {
    handle: TorrentHandle,
    events: btsync::torrent::Events,
    thread: thread::JoinHandle<Outcome>,
}

fn start(metainfo: &Metainfo, out: &Path, seed: SeedGoal) -> Running {
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.seed = seed;
    let torrent = Torrent::new(metainfo.clone(), config);
    let (handle, events) = (torrent.handle(), torrent.events());
    let thread = thread::spawn(move || torrent.run().expect("no error"));
    Running { handle, events, thread }
}

/// Waits for an event. The channel closes when the torrent ends, so this never waits for ever.
fn wait_for(running: &Running, wanted: impl Fn(&Event) -> bool) {
    let mut seen = Vec::new();
    while let Some(event) = running.events.recv() {
        if wanted(&event) {
            return;
        }
        seen.push(event);
    }
    panic!("the torrent ended without the event; it said {seen:?}");
}

const FOREVER: SeedGoal = SeedGoal { is_forever: true, time: None, ratio: None };

#[test]
fn a_swarm_completes_and_leaves_no_thread_behind() {
    alone_in_process("a_swarm_completes_and_leaves_no_thread_behind", || {
        let folder = tempfile::tempdir().expect("a folder");
        let before = threads();
        let server = TrackerServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), TrackerServerConfig::default())
            .expect("a tracker");
        let torrent = payload(folder.path(), &format!("http://{}/announce", server.addr()));

        let seeder = start(&torrent, folder.path(), FOREVER);
        wait_for(&seeder, |event| matches!(event, Event::Announced { .. }));
        assert_eq!(seeder.handle.snapshot().stage, Stage::Seeding);
        // Three seed until the test stops them, and one ends when it is complete.
        let outs: Vec<_> = (0..4).map(|n| folder.path().join(format!("out{n}"))).collect();
        let stay: Vec<_> = outs[..3].iter().map(|out| start(&torrent, out, FOREVER)).collect();
        let leaves = start(&torrent, &outs[3], SeedGoal::default());
        for leecher in &stay {
            wait_for(leecher, |event| *event == Event::Completed);
            let snapshot = leecher.handle.snapshot();
            assert_eq!((snapshot.have, snapshot.stage), (snapshot.total, Stage::Seeding));
        }
        assert_eq!(leaves.thread.join().expect("no panic"), Outcome::Completed);
        for running in stay.into_iter().chain([seeder]) {
            running.handle.stop();
            assert_eq!(running.thread.join().expect("no panic"), Outcome::StoppedComplete);
        }
        for out in &outs {
            for name in ["a", "deep/b", "deep/c"] {
                let (got, want) = (out.join("payload").join(name), folder.path().join("payload").join(name));
                assert!(
                    std::fs::read(&got).expect("it is there") == std::fs::read(want).expect("it is there"),
                    "{}",
                    got.display()
                );
            }
        }
        server.stop();
        // The kernel removes a thread shortly after it was joined.
        until("no thread is left behind", || threads() == before);
    });
}
