//! btsync with libtorrent and Transmission over uTP, as seeder and as leecher. libtorrent uses no TCP; with Transmission, btsync uses
//! none. Once in one network, and once over a path that delays, loses and reorders packets.

use std::path::Path;

use crate::common::netns::{RemoteMachine, SlowPath, address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::{Running, without_settings};
use crate::common::real::{Client, TrackerKind, libtorrent};
use crate::common::{TestDir, free_port};
use crate::transfers::arrives;

const OTHER: u8 = 2;

/// The options of the other client, and ours.
fn options(client: Client) -> (&'static [&'static str], &'static [&'static str]) {
    if client.program() == Client::Libtorrent.program() {
        let without_tcp =
            &["enable_incoming_utp=1", "enable_outgoing_utp=1", "enable_incoming_tcp=0", "enable_outgoing_tcp=0"];
        (without_tcp, &[])
    } else {
        (&["--utp"], &["--transport", "utp"])
    }
}

fn they_seed(client: Client) {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let theirs = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let (their_options, our_options) = options(client);
    let _seeder = client.start_with(&temp, OTHER, &torrent, &theirs, their_options);
    tracker.wait_for_seeds(payload.info_hash(), 1);
    let out = temp.folder("out");
    temp.btsync("leecher", &torrent, &out, free_port(), our_options).expect_exit(0);
    payload.assert_at(&out);
}

fn we_seed(client: Client) {
    let (temp, payload) = (TestDir::new(), Payload::edge_cases());
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let ours = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let (their_options, our_options) = options(client);
    let mut seeder = temp.btsync("seeder", &torrent, &ours, free_port(), &[our_options, &["--seed"]].concat());
    tracker.wait_for_seeds(payload.info_hash(), 1);
    let out = temp.folder("out");
    let _leecher = client.start_with(&temp, OTHER, &torrent, &out, their_options);
    arrives(&payload, &out);
    seeder.terminate(0);
}

/// The round trip takes 50 ms. Of a thousand packets, ten are lost and ten are overtaken.
const POOR: [&str; 3] = ["delay=25", "loss=10", "late=10"];

/// btsync on the far machine, with uTP only.
fn btsync_there(far: &RemoteMachine, temp: &TestDir, torrent: &Path, folder: &Path, more: &[&str]) -> Running {
    let mut command = far.command(Path::new(env!("CARGO_BIN_EXE_btsync")));
    command.arg(torrent).arg(folder).args(["--no-dht", "--no-lsd", "--transport", "utp"]).args(more);
    without_settings(&mut command).env("XDG_CACHE_HOME", temp.path("far-cache"));
    temp.start("there", &mut command)
}

/// The other client at the near end. libtorrent announces nothing, because no route leads to everywhere; it dials or is dialled.
fn start_here(client: Client, temp: &TestDir, torrent: &Path, folder: &Path, (port, peer): (u16, u16)) -> Running {
    if client.program() != Client::Libtorrent.program() {
        return client.start_at(temp, (OTHER, port), torrent, folder, options(client).0);
    }
    let mut command = libtorrent(SlowPath::NEAR, &port.to_string(), torrent, folder);
    command.args(options(client).0).arg(format!("peer={}:{peer}", SlowPath::FAR));
    temp.start("here", &mut command)
}

fn they_seed_far_away(client: Client) {
    let (temp, payload, far) = (TestDir::new(), Payload::edge_cases(), RemoteMachine::new());
    let path = SlowPath::new(&temp, &far, &POOR);
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let theirs = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let (port, ours) = (free_port(), free_port());
    let _seeder = start_here(client, &temp, &torrent, &theirs, (port, ours));
    let out = temp.folder("out");
    let is_libtorrent = client.program() == Client::Libtorrent.program();
    let peer = if is_libtorrent { format!("{}:{port}", SlowPath::NEAR) } else { format!("{}:{port}", address(OTHER)) };
    btsync_there(&far, &temp, &torrent, &out, &["--listen-port", &ours.to_string(), "--peer", &peer]).expect_exit(0);
    payload.assert_at(&out);
    assert!(path.lost() > 0, "the packets took the lossy path");
}

fn we_seed_far_away(client: Client) {
    let (temp, payload, far) = (TestDir::new(), Payload::edge_cases(), RemoteMachine::new());
    let path = SlowPath::new(&temp, &far, &POOR);
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let folder = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let ours = free_port();
    let mut seeder = btsync_there(&far, &temp, &torrent, &folder, &["--seed", "--listen-port", &ours.to_string()]);
    tracker.wait_for_seeds(payload.info_hash(), 1);
    let out = temp.folder("out");
    let _leecher = start_here(client, &temp, &torrent, &out, (free_port(), ours));
    arrives(&payload, &out);
    assert!(path.lost() > 0, "the packets took the lossy path");
    seeder.terminate(0);
}

macro_rules! over_a_poor_path {
    ($($name:ident: $run:ident, $client:ident;)*) => {$(
        #[test]
        fn $name() {
            let programs = [Client::$client.program(), "python3", "nsenter"];
            in_network_namespace(stringify!($name), &programs, || {
                if SlowPath::is_possible(stringify!($name)) {
                    $run(Client::$client);
                }
            });
        }
    )*};
}

over_a_poor_path! {
    libtorrent_seeds_over_a_poor_path: they_seed_far_away, Libtorrent;
    libtorrent_fetches_over_a_poor_path: we_seed_far_away, Libtorrent;
    transmission_seeds_over_a_poor_path: they_seed_far_away, Transmission;
    transmission_fetches_over_a_poor_path: we_seed_far_away, Transmission;
}

macro_rules! both_ways {
    ($($seeds:ident, $fetches:ident: $client:ident;)*) => {$(
        #[test]
        fn $seeds() {
            in_network_namespace(stringify!($seeds), &[Client::$client.program()], || they_seed(Client::$client));
        }

        #[test]
        fn $fetches() {
            in_network_namespace(stringify!($fetches), &[Client::$client.program()], || we_seed(Client::$client));
        }
    )*};
}

both_ways! {
    libtorrent_without_tcp_seeds, libtorrent_without_tcp_fetches: Libtorrent;
    transmission_seeds_over_utp, transmission_fetches_over_utp: Transmission;
}
