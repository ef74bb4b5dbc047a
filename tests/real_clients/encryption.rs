//! Message stream encryption with other clients: each configured for RC4 only, and libtorrent also for plain connections only.
//! btsync prefers encryption, which is its default, and in one test requires it.

use std::path::Path;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::real::{Client, TrackerKind};
use crate::common::{TestDir, free_port, until};

const SEEDER: u8 = 2;
const LEECHER: u8 = 3;

/// The arguments that make each client require RC4.
fn rc4_only(client: Client) -> &'static [&'static str] {
    match client {
        Client::Transmission => &["--encryption-required"],
        Client::Aria2 => &["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"],
        Client::Libtorrent => &["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=2"],
        Client::Rtorrent | Client::Qbittorrent => panic!("its command line cannot carry encryption options"),
    }
}

/// The settings that restrict libtorrent to plain connections.
const PLAIN_ONLY: &[&str] = &["in_enc_policy=2", "out_enc_policy=2"];

fn payload() -> Payload {
    Payload::single("odd size.bin", 5 * 1024 * 1024 + 4_321, 128 * 1024)
}

/// The other client seeds and btsync downloads.
fn they_seed(client: Client, theirs: &[&str], ours: &[&str]) {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let folder = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let _seeder = client.start_with(&temp, SEEDER, &torrent, &folder, theirs);
    tracker.wait_for_seeds(payload.info_hash(), 1);

    let out = temp.folder("out");
    temp.btsync("leecher", &torrent, &out, free_port(), ours).expect_exit(0);
    payload.assert_at(&out);
}

/// btsync seeds and the other client downloads.
fn we_seed(client: Client, theirs: &[&str], ours: &[&str]) {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = TrackerKind::Ours.start(&temp, &payload);
    let folder = temp.folder_with("seeder", &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let mut seeder = temp.btsync("seeder", &torrent, &folder, free_port(), &[&["--seed"], ours].concat());
    tracker.wait_for_seeds(payload.info_hash(), 1);

    let out = temp.folder("out");
    let _leecher = client.start_with(&temp, LEECHER, &torrent, &out, theirs);
    arrives(&payload, &out);
    seeder.terminate(0);
}

fn arrives(payload: &Payload, folder: &Path) {
    until("the payload has arrived", || payload.difference_in_content(folder).is_none());
}

/// Defines two tests for each client and setting, one for each direction.
macro_rules! both_ways {
    ($($seeds:ident, $fetches:ident: $client:ident, $theirs:expr, $ours:expr;)*) => {$(
        #[test]
        fn $seeds() {
            let client = Client::$client;
            in_network_namespace(stringify!($seeds), &[client.program()], || they_seed(client, $theirs, $ours));
        }

        #[test]
        fn $fetches() {
            let client = Client::$client;
            in_network_namespace(stringify!($fetches), &[client.program()], || we_seed(client, $theirs, $ours));
        }
    )*};
}

both_ways! {
    transmission_seeds_by_rc4, transmission_fetches_by_rc4: Transmission, rc4_only(Client::Transmission), &[];
    aria2_seeds_by_rc4, aria2_fetches_by_rc4: Aria2, rc4_only(Client::Aria2), &[];
    libtorrent_seeds_by_rc4, libtorrent_fetches_by_rc4: Libtorrent, rc4_only(Client::Libtorrent), &[];
    aria2_seeds_plainly_behind_mse, aria2_fetches_plainly_behind_mse: Aria2, &["--bt-require-crypto=true"], &[];
    libtorrent_seeds_plainly, libtorrent_fetches_plainly: Libtorrent, PLAIN_ONLY, &[];
    transmission_seeds_to_who_insists, transmission_fetches_from_who_insists: Transmission, &[], &["--encryption=require"];
    aria2_seeds_to_who_insists, aria2_fetches_from_who_insists: Aria2, &[], &["--encryption=require"];
    libtorrent_seeds_to_who_insists, libtorrent_fetches_from_who_insists: Libtorrent, &[], &["--encryption=require"];
}
