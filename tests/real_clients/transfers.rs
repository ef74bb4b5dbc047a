//! btsync with transmission, aria2, libtorrent and rtorrent, as seeder and as leecher. The peers find each other through
//! opentracker, the tests' own tracker, and `btsync tracker`; no peer is given by hand.
//!
//! scripts/test-setup.sh installs the clients. Each test runs in its own network namespace.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::real::{Client, RunningTracker, TrackerKind};
use crate::common::{PATIENCE, TestDir, btsync, free_port};

/// The addresses of the other clients on the test's network. btsync connects from the first address and listens on all.
const SEEDER: u8 = 2;
const LEECHER: u8 = 3;

/// The payload: an awkward tree with opentracker, a single file of odd size with the other trackers.
fn payload_for(kind: TrackerKind) -> Payload {
    match kind {
        TrackerKind::Opentracker => Payload::edge_cases(),
        TrackerKind::OpentrackerUdp | TrackerKind::Ours => {
            Payload::single("odd size.bin", 5 * 1024 * 1024 + 4_321, 128 * 1024)
        }
    }
}

/// Waits until another client's folder has the payload. Includes clients that use .part files or write out of order.
pub fn arrives(payload: &Payload, folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(difference) = payload.difference_in_content(folder) {
        assert!(Instant::now() < deadline, "gave up waiting for the payload: {difference}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The other client seeds and btsync downloads: it must exit with 0 by itself, with every byte correct.
fn they_seed(client: Client, kind: TrackerKind) {
    let (temp, payload) = (TestDir::new(), payload_for(kind));
    let tracker = kind.start(&temp, &payload);
    let theirs = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let _seeder = client.start(&temp, SEEDER, &torrent, &theirs);
    tracker.wait_for_seeds(payload.info_hash(), 1);

    let out = temp.folder("out");
    temp.btsync("leecher", &torrent, &out, free_port(), &[]).expect_exit(0);
    payload.assert_at(&out);
}

/// btsync seeds and the other client downloads.
fn we_seed(client: Client, kind: TrackerKind) {
    let (temp, payload) = (TestDir::new(), payload_for(kind));
    let tracker = kind.start(&temp, &payload);
    let ours = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let mut seeder = temp.btsync("seeder", &torrent, &ours, free_port(), &["--seed"]);
    tracker.wait_for_seeds(payload.info_hash(), 1);

    let out = temp.folder("out");
    let _leecher = client.start(&temp, LEECHER, &torrent, &out);
    arrives(&payload, &out);
    seeder.terminate(0);
    payload.assert_at(&ours);
}

/// Defines two tests for each client and tracker, one for each direction.
macro_rules! both_ways {
    ($($seeds:ident, $fetches:ident: $client:ident by $kind:ident;)*) => {$(
        #[test]
        fn $seeds() {
            let (client, kind) = (Client::$client, TrackerKind::$kind);
            let programs = [&[client.program()], kind.programs()].concat();
            in_network_namespace(stringify!($seeds), &programs, || they_seed(client, kind));
        }

        #[test]
        fn $fetches() {
            let (client, kind) = (Client::$client, TrackerKind::$kind);
            let programs = [&[client.program()], kind.programs()].concat();
            in_network_namespace(stringify!($fetches), &programs, || we_seed(client, kind));
        }
    )*};
}

both_ways! {
    transmission_seeds_by_opentracker, transmission_fetches_by_opentracker: Transmission by Opentracker;
    aria2_seeds_by_opentracker, aria2_fetches_by_opentracker: Aria2 by Opentracker;
    libtorrent_seeds_by_opentracker, libtorrent_fetches_by_opentracker: Libtorrent by Opentracker;
    transmission_seeds_by_opentracker_over_udp, transmission_fetches_by_opentracker_over_udp: Transmission by OpentrackerUdp;
    libtorrent_seeds_by_opentracker_over_udp, libtorrent_fetches_by_opentracker_over_udp: Libtorrent by OpentrackerUdp;
    transmission_seeds_by_own_tracker, transmission_fetches_by_own_tracker: Transmission by Ours;
    aria2_seeds_by_own_tracker, aria2_fetches_by_own_tracker: Aria2 by Ours;
    libtorrent_seeds_by_own_tracker, libtorrent_fetches_by_own_tracker: Libtorrent by Ours;
    rtorrent_seeds_by_opentracker, rtorrent_fetches_by_opentracker: Rtorrent by Opentracker;
    rtorrent_seeds_by_own_tracker, rtorrent_fetches_by_own_tracker: Rtorrent by Ours;
}

/// A swarm without btsync. If this fails, the test environment is broken, and the other tests say nothing about btsync.
#[test]
fn the_others_get_along_on_this_stage() {
    let programs = ["opentracker", Client::Libtorrent.program(), "aria2c", "transmission-daemon"];
    in_network_namespace("the_others_get_along_on_this_stage", &programs, || {
        let (temp, payload) = (TestDir::new(), Payload::edge_cases());
        let tracker = TrackerKind::Opentracker.start(&temp, &payload);
        let theirs = temp.folder_with("seeder", &payload);
        let torrent = temp.torrent(&payload, &tracker.url());
        let mut seeder = Client::Libtorrent.start(&temp, SEEDER, &torrent, &theirs);
        seeder.wait_for_output("complete");
        tracker.wait_for_seeds(payload.info_hash(), 1);
        for (client, host) in [(Client::Aria2, 3), (Client::Transmission, 4)] {
            let out = temp.folder(&format!("out-{host}"));
            let _leecher = client.start(&temp, host, &torrent, &out);
            arrives(&payload, &out);
        }
    });
}

/// One btsync seeds. Another btsync and the three other clients download at the same time, and share with each other.
#[test]
fn a_mixed_swarm_completes() {
    let others = [(Client::Aria2, 4), (Client::Transmission, 5), (Client::Libtorrent, 6)];
    let mut programs = vec!["opentracker"];
    programs.extend(others.map(|(client, _)| client.program()));
    in_network_namespace("a_mixed_swarm_completes", &programs, || {
        let temp = TestDir::new();
        let payload = Payload::single("swarm.bin", 16 * 1024 * 1024 + 77, 256 * 1024);
        let tracker = TrackerKind::Opentracker.start(&temp, &payload);
        let ours = temp.folder_with("seeder", &payload);
        let torrent = temp.torrent(&payload, &tracker.url());
        let mut seeder = temp.btsync("seeder", &torrent, &ours, free_port(), &["--seed"]);
        tracker.wait_for_seeds(payload.info_hash(), 1);

        let start = |(client, host): (Client, u8)| {
            let out = temp.folder(&format!("out-{host}"));
            (client.start(&temp, host, &torrent, &out), out)
        };
        let others = others.map(start);
        let out = temp.folder("out");
        let mut leecher = temp.btsync("leecher", &torrent, &out, free_port(), &["--seed"]);
        arrives(&payload, &out);
        for (_running, out) in &others {
            arrives(&payload, out);
        }
        leecher.terminate(0);
        seeder.terminate(0);
    });
}

/// `btsync tracker` serves other clients in either direction, over HTTP and over UDP (which aria2 supports only together with its
/// DHT).
#[test]
fn our_tracker_serves_the_others() {
    let (aria2, libtorrent, transmission) = (Client::Aria2, Client::Libtorrent, Client::Transmission);
    let pairs = [("http", aria2, libtorrent), ("udp", transmission, libtorrent)];
    let pairs = pairs.into_iter().flat_map(|(scheme, one, other)| [(scheme, one, other), (scheme, other, one)]);
    in_network_namespace(
        "our_tracker_serves_the_others",
        &[aria2, libtorrent, transmission].map(Client::program),
        || {
            for (scheme, seeds, fetches) in pairs {
                let (temp, payload) = (TestDir::new(), Payload::edge_cases());
                let port = free_port();
                let mut command = btsync();
                command.args(["tracker", "--listen", &format!("0.0.0.0:{port}"), "--interval", "2"]);
                let tracker = RunningTracker::from_process(scheme, port, temp.start("tracker", &mut command));
                let theirs = temp.folder_with("seeder", &payload);
                let torrent = temp.torrent(&payload, &tracker.url());
                let _seeder = seeds.start(&temp, SEEDER, &torrent, &theirs);
                tracker.wait_for_seeds(payload.info_hash(), 1);
                let out = temp.folder("out");
                let _leecher = fetches.start(&temp, LEECHER, &torrent, &out);
                arrives(&payload, &out);
            }
        },
    );
}

/// Other clients read a torrent from `btsync create` as btsync does: they find the files complete.
#[test]
fn other_clients_read_torrents_that_btsync_creates() {
    in_network_namespace("other_clients_read_torrents_that_btsync_creates", &[Client::Libtorrent.program()], || {
        let (temp, payload) = (TestDir::new(), Payload::edge_cases());
        let folder = temp.folder_with("source", &payload);
        let torrent = temp.path("made.torrent");
        let mut command = btsync();
        command.arg("create").arg(folder.join(&payload.name)).arg("-o").arg(&torrent);
        command.args(["--announce", &format!("http://{}:1/announce", address(9)), "--piece-length", "64K"]);
        temp.start("create", &mut command).expect_exit(0);
        let mut seeder = Client::Libtorrent.start(&temp, SEEDER, &torrent, &folder);
        seeder.wait_for_output("complete");
    });
}
