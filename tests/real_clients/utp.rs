//! btsync with libtorrent and Transmission over uTP, as seeder and as leecher. libtorrent uses no TCP; with Transmission, btsync uses
//! none.

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::real::{Client, TrackerKind};
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
