//! btsync with transmission, aria2, libtorrent and rtorrent, as seeder and as leecher. The peers find each other through
//! opentracker, the tests' own tracker, and `btsync tracker`; no peer is given by hand.
//!
//! scripts/test-setup.sh installs the clients. Each test runs in its own network namespace.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::netns::{address, isolated};
use crate::common::payload::Payload;
use crate::common::real::{Client, Introducer, Introduction};
use crate::common::{PATIENCE, Stage, btsync, free_port};

/// The addresses of the other clients on the test's network. btsync connects from the first address and listens on all.
const SEEDER: u8 = 2;
const LEECHER: u8 = 3;

/// The payload: an awkward tree with opentracker, a single file of odd size with the other trackers.
fn payload_for(introducer: Introducer) -> Payload {
    match introducer {
        Introducer::Opentracker => Payload::awkward(),
        Introducer::OpentrackerUdp | Introducer::Ours => {
            Payload::single("odd size.bin", 5 * 1024 * 1024 + 4_321, 128 * 1024)
        }
    }
}

/// Waits until another client's folder has the payload. Includes clients that use .part files or write out of order.
fn arrives(payload: &Payload, folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(difference) = payload.difference_in_content(folder) {
        assert!(Instant::now() < deadline, "gave up waiting for the payload: {difference}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The other client seeds and btsync downloads: it must exit with 0 by itself, with every byte correct.
fn they_seed(client: Client, introducer: Introducer) {
    let (stage, payload) = (Stage::new(), payload_for(introducer));
    let tracker = introducer.start(&stage, &payload);
    let theirs = stage.folder_with("seeder", &payload);
    let torrent = stage.torrent(&payload, &tracker.url());
    let _seeder = client.start(&stage, SEEDER, &torrent, &theirs);
    tracker.knows_seeds(payload.info_hash(), 1);

    let out = stage.folder("out");
    stage.btsync("leecher", &torrent, &out, free_port(), &[]).ends_with(0);
    payload.assert_at(&out);
}

/// btsync seeds and the other client downloads.
fn we_seed(client: Client, introducer: Introducer) {
    let (stage, payload) = (Stage::new(), payload_for(introducer));
    let tracker = introducer.start(&stage, &payload);
    let ours = stage.folder_with("seeder", &payload);
    let torrent = stage.torrent(&payload, &tracker.url());
    let mut seeder = stage.btsync("seeder", &torrent, &ours, free_port(), &["--seed"]);
    tracker.knows_seeds(payload.info_hash(), 1);

    let out = stage.folder("out");
    let _leecher = client.start(&stage, LEECHER, &torrent, &out);
    arrives(&payload, &out);
    seeder.terminate(0);
    payload.assert_at(&ours);
}

/// Defines two tests for each client and tracker, one for each direction.
macro_rules! both_ways {
    ($($seeds:ident, $fetches:ident: $client:ident by $introducer:ident;)*) => {$(
        #[test]
        fn $seeds() {
            let (client, introducer) = (Client::$client, Introducer::$introducer);
            let programs = [&[client.program()], introducer.programs()].concat();
            isolated(stringify!($seeds), &programs, || they_seed(client, introducer));
        }

        #[test]
        fn $fetches() {
            let (client, introducer) = (Client::$client, Introducer::$introducer);
            let programs = [&[client.program()], introducer.programs()].concat();
            isolated(stringify!($fetches), &programs, || we_seed(client, introducer));
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
    isolated("the_others_get_along_on_this_stage", &programs, || {
        let (stage, payload) = (Stage::new(), Payload::awkward());
        let tracker = Introducer::Opentracker.start(&stage, &payload);
        let theirs = stage.folder_with("seeder", &payload);
        let torrent = stage.torrent(&payload, &tracker.url());
        let mut seeder = Client::Libtorrent.start(&stage, SEEDER, &torrent, &theirs);
        seeder.says("complete");
        tracker.knows_seeds(payload.info_hash(), 1);
        for (client, host) in [(Client::Aria2, 3), (Client::Transmission, 4)] {
            let out = stage.folder(&format!("out-{host}"));
            let _leecher = client.start(&stage, host, &torrent, &out);
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
    isolated("a_mixed_swarm_completes", &programs, || {
        let stage = Stage::new();
        let payload = Payload::single("swarm.bin", 16 * 1024 * 1024 + 77, 256 * 1024);
        let tracker = Introducer::Opentracker.start(&stage, &payload);
        let ours = stage.folder_with("seeder", &payload);
        let torrent = stage.torrent(&payload, &tracker.url());
        let mut seeder = stage.btsync("seeder", &torrent, &ours, free_port(), &["--seed"]);
        tracker.knows_seeds(payload.info_hash(), 1);

        let start = |(client, host): (Client, u8)| {
            let out = stage.folder(&format!("out-{host}"));
            (client.start(&stage, host, &torrent, &out), out)
        };
        let others = others.map(start);
        let out = stage.folder("out");
        let mut leecher = stage.btsync("leecher", &torrent, &out, free_port(), &["--seed"]);
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
    isolated("our_tracker_serves_the_others", &[aria2, libtorrent, transmission].map(Client::program), || {
        for (scheme, seeds, fetches) in pairs {
            let (stage, payload) = (Stage::new(), Payload::awkward());
            let port = free_port();
            let mut command = btsync();
            command.args(["tracker", "--listen", &format!("0.0.0.0:{port}"), "--interval", "2"]);
            let tracker = Introduction::by(scheme, port, stage.start("tracker", &mut command));
            let theirs = stage.folder_with("seeder", &payload);
            let torrent = stage.torrent(&payload, &tracker.url());
            let _seeder = seeds.start(&stage, SEEDER, &torrent, &theirs);
            tracker.knows_seeds(payload.info_hash(), 1);
            let out = stage.folder("out");
            let _leecher = fetches.start(&stage, LEECHER, &torrent, &out);
            arrives(&payload, &out);
        }
    });
}

/// Other clients read a torrent from `btsync create` as btsync does: they find the files complete.
#[test]
fn the_others_read_what_we_create() {
    isolated("the_others_read_what_we_create", &[Client::Libtorrent.program()], || {
        let (stage, payload) = (Stage::new(), Payload::awkward());
        let folder = stage.folder_with("source", &payload);
        let torrent = stage.path("made.torrent");
        let mut command = btsync();
        command.arg("create").arg(folder.join(&payload.name)).arg("-o").arg(&torrent);
        command.args(["--announce", &format!("http://{}:1/announce", address(9)), "--piece-length", "64K"]);
        stage.start("create", &mut command).ends_with(0);
        let mut seeder = Client::Libtorrent.start(&stage, SEEDER, &torrent, &folder);
        seeder.says("complete");
    });
}
