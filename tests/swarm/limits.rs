//! Rate limits of one torrent and of a group of torrents, beside those of their client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::common::payload::Payload;
use crate::common::{TestDir, until};
use btsync::metainfo::Metainfo;
use btsync::net::bind::Bind;
use btsync::peer::LimitGroup;
use btsync::torrent::{AddOptions, Client, Limits, Outcome, SeedGoal, Stage, TorrentHandle};

const A_BYTE: Limits = Limits { down: 1, up: 1 };

/// A client on an address of its own.
fn client(host: u8) -> Arc<Client> {
    let bind = Bind::Address([127, 0, 0, host].into());
    Client::builder().listen_ports(0..=0).bind(bind).dht(None).lsd(false).build().expect("a client")
}

/// Two torrents that one client seeds and another one downloads.
struct TwoTorrents {
    temp: TestDir,
    payloads: [Payload; 2],
    seeds: [TorrentHandle; 2],
    seeder: SocketAddr,
    leecher: Arc<Client>,
}

impl TwoTorrents {
    fn new(host: u8) -> TwoTorrents {
        let temp = TestDir::new();
        let payloads = ["a.bin", "b.bin"].map(|name| Payload::single(name, 20 * 64 * 1024, 64 * 1024));
        let (seeder, leecher) = (client(host), client(host + 1));
        let seeds = [0, 1].map(|n| {
            let folder = temp.folder_with(&format!("seed{n}"), &payloads[n]);
            seeder.add(metainfo(&payloads[n]), options(&folder).seed(SeedGoal::forever())).expect("a thread")
        });
        until("they seed", || seeds.iter().all(|seed| seed.snapshot().stage == Stage::Seeding));
        let seeder = SocketAddr::from(([127, 0, 0, host], seeder.port().expect("it listens")));
        TwoTorrents { temp, payloads, seeds, seeder, leecher }
    }

    /// Starts a download with these options.
    fn download(&self, n: usize, set: impl FnOnce(AddOptions) -> AddOptions) -> TorrentHandle {
        let options = options(&self.temp.path(&format!("copy{n}"))).peers(vec![self.seeder]);
        self.leecher.add(metainfo(&self.payloads[n]), set(options)).expect("a thread")
    }
}

impl Drop for TwoTorrents {
    fn drop(&mut self) {
        for seed in &self.seeds {
            seed.stop();
            let _ = seed.wait();
        }
    }
}

fn options(folder: &Path) -> AddOptions {
    AddOptions::new(folder).exclude_trackers(vec!["*".into()])
}

fn metainfo(payload: &Payload) -> Metainfo {
    Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent")
}

fn is_connected(torrent: &TorrentHandle) -> bool {
    torrent.snapshot().connected_peers == 1
}

fn assert_held_up(torrent: &TorrentHandle) {
    let snapshot = torrent.snapshot();
    assert!(snapshot.have < snapshot.total, "a torrent at a byte a second is complete");
}

#[test]
fn a_torrents_own_download_limit_holds_up_no_other_torrent() {
    let two = TwoTorrents::new(71);
    let slow = two.download(0, |options| options.limits(A_BYTE));
    until("it reaches the seed", || is_connected(&slow));
    let fast = two.download(1, |options| options);
    assert_eq!(fast.wait().expect("no error"), Outcome::Completed);
    assert_held_up(&slow);
    assert_eq!((slow.torrent_limits(), slow.limits()), (A_BYTE, Limits::default()));
    slow.set_torrent_limits(Limits::default());
    assert_eq!(slow.wait().expect("no error"), Outcome::Completed);
}

#[test]
fn a_torrents_own_upload_limit_holds_up_no_other_torrent() {
    let two = TwoTorrents::new(73);
    two.seeds[0].set_torrent_limits(A_BYTE);
    let slow = two.download(0, |options| options);
    until("it reaches the seed", || is_connected(&slow));
    assert_eq!(two.download(1, |options| options).wait().expect("no error"), Outcome::Completed);
    assert_held_up(&slow);
    two.seeds[0].set_torrent_limits(Limits::default());
    assert_eq!(slow.wait().expect("no error"), Outcome::Completed);
}

#[test]
fn a_torrent_may_ignore_the_clients_limits() {
    let two = TwoTorrents::new(75);
    two.leecher.set_limits(A_BYTE);
    let slow = two.download(0, |options| options);
    until("it reaches the seed", || is_connected(&slow));
    let fast = two.download(1, |options| options.ignore_client_limits(true));
    assert_eq!(fast.wait().expect("no error"), Outcome::Completed);
    assert_held_up(&slow);
    slow.ignore_client_limits(true);
    assert_eq!(slow.wait().expect("no error"), Outcome::Completed);
}

#[test]
fn a_group_limits_its_torrents_until_they_leave_it() {
    let two = TwoTorrents::new(77);
    let group = Arc::new(LimitGroup::new(A_BYTE));
    let slow = two.download(0, |options| options.limit_group(Some(group.clone())));
    until("it reaches the seed", || is_connected(&slow));
    assert_eq!(two.download(1, |options| options).wait().expect("no error"), Outcome::Completed);
    assert_held_up(&slow);
    slow.set_limit_group(None);
    assert_eq!(slow.wait().expect("no error"), Outcome::Completed);
}

#[test]
fn a_lower_limit_on_the_peers_of_a_torrent_closes_connections() {
    let two = TwoTorrents::new(79);
    let payload = &two.payloads[0];
    let leechers: Vec<_> = (81..84).map(client).collect();
    let downloads: Vec<_> = leechers
        .iter()
        .enumerate()
        .map(|(n, leecher)| {
            let options = options(&two.temp.path(&format!("leecher{n}"))).peers(vec![two.seeder]).limits(A_BYTE);
            leecher.add(metainfo(payload), options).expect("a thread")
        })
        .collect();
    until("all are connected", || two.seeds[0].snapshot().connected_peers == 3);
    two.seeds[0].set_max_peers(1);
    until("two connections are closed", || two.seeds[0].snapshot().connected_peers == 1);
    two.seeds[0].set_max_peers(50);
    for download in &downloads {
        download.set_torrent_limits(Limits::default());
        assert_eq!(download.wait().expect("no error"), Outcome::Completed);
    }
}
