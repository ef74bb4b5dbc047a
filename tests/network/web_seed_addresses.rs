//! Where web seeds may be: those of torrents and links at public addresses only, and none at a blocked address.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::common::bencode;
use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::service::{Service, base64};
use crate::common::tracker::Tracker;
use crate::common::web_seed::{SeedRequest, TestWebSeed, WebSeedOptions, part, status};
use crate::common::{TestDir, free_port, until};
use crate::web_seeds::{single, tree};

/// An address that counts as public; in the test's namespace, it is on loopback.
const PUBLIC: &str = "203.0.113.7";

/// A web seed at this address with other responses.
fn seed_at(
    ip: &str,
    payload: &Payload,
    respond: impl Fn(&SeedRequest, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> TestWebSeed {
    let options = WebSeedOptions { ip: ip.parse().expect("an address"), ..WebSeedOptions::default() };
    TestWebSeed::with_all(payload, options, respond)
}

fn add_public_address() {
    let mut ip = Command::new("ip");
    ip.args(["addr", "add", &format!("{PUBLIC}/32"), "dev", "lo"]);
    assert!(ip.status().expect("ip").success());
}

/// A torrent whose tracker names an honest peer, and that has these web seeds.
fn torrent(temp: &TestDir, payload: &Payload, tracker: &str, seeds: &[String]) -> std::path::PathBuf {
    let seeds = seeds.iter().map(|url| bencode::bytes(url.as_bytes()));
    let torrent = bencode::dict([
        ("announce", bencode::bytes(tracker.as_bytes())),
        ("info", payload.info()),
        ("url-list", bencode::list(seeds)),
    ]);
    let path = temp.path("seeds.torrent");
    std::fs::write(&path, torrent).expect("a torrent file");
    path
}

/// An honest peer, and a tracker that names it.
fn peer(payload: &Payload) -> (FakePeer, Tracker, Arc<Gate>) {
    let gate = Gate::new(0);
    let peer = FakePeer::honest(payload, &gate);
    let tracker = Tracker::start(&[peer.addr]);
    (peer, tracker, gate)
}

#[test]
fn the_torrents_own_web_seed_is_used_at_a_public_address() {
    in_network_namespace("the_torrents_own_web_seed_is_used_at_a_public_address", &[], || {
        add_public_address();
        for payload in [single(), tree()] {
            let temp = TestDir::new();
            let seed = seed_at(PUBLIC, &payload, |request, file| Some(part(file, &request.bytes)));
            let torrent = torrent(&temp, &payload, "", &[seed.url()]);
            temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &[]).expect_exit(0);
            payload.assert_at(&temp.path("out"));
            assert_eq!(seed.connections(), 1);
        }
    });
}

#[test]
fn the_torrents_own_web_seeds_can_be_switched_off() {
    in_network_namespace("the_torrents_own_web_seeds_can_be_switched_off", &[], || {
        add_public_address();
        let (temp, payload) = (TestDir::new(), single());
        let seed = seed_at(PUBLIC, &payload, |request, file| Some(part(file, &request.bytes)));
        let (_peer, tracker, gate) = peer(&payload);
        gate.open();
        let torrent = torrent(&temp, &payload, &tracker.url(&address(1)), &[seed.url()]);
        temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &["--no-web-seeds"]).expect_exit(0);
        payload.assert_at(&temp.path("out"));
        let service = Service::start(&temp, "service", &["--no-web-seeds"]);
        let bytes = std::fs::read(&torrent).expect("the torrent file");
        let id = service.rpc("torrent_add", json!({ "metainfo": base64(&bytes) }))["torrent_added"]["id"].as_u64();
        service.wait_until_seeding(id.expect("an id"));
        assert_eq!(seed.connections(), 0, "nothing was requested from it");
        // The user's own is still used.
        let args = ["--no-web-seeds", "--bt-exclude-tracker", "*", "--web-seed", &seed.url()];
        temp.btsync("own", &torrent, &temp.path("own"), free_port(), &args).expect_exit(0);
        payload.assert_at(&temp.path("own"));
    });
}

#[test]
fn a_redirect_to_a_local_address_is_refused() {
    in_network_namespace("a_redirect_to_a_local_address_is_refused", &[], || {
        add_public_address();
        let (temp, payload) = (TestDir::new(), single());
        let local = TestWebSeed::start(&payload);
        let to = format!("Location: {}x\r\n", local.url());
        let public = seed_at(PUBLIC, &payload, move |_, _| Some(status("302 Found", &to)));
        let (_peer, tracker, gate) = peer(&payload);
        let torrent = torrent(&temp, &payload, &tracker.url(&address(1)), &[public.url()]);
        let args = ["--web-seed", &public.url().replace("//", "//user@")];
        let mut btsync = temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &args);
        let refusals = || btsync.log().matches("not used any more: redirect not followed").count();
        until("both web seeds are given up", || refusals() == 2);
        gate.open();
        btsync.expect_exit(0);
        payload.assert_at(&temp.path("out"));
        assert_eq!((public.requests(), local.connections()), (2, 0));
    });
}

#[test]
fn no_web_seed_at_a_blocked_address_is_asked() {
    in_network_namespace("no_web_seed_at_a_blocked_address_is_asked", &[], || {
        let (temp, payload) = (TestDir::new(), single());
        let blocked = seed_at(&address(2), &payload, |request, file| Some(part(file, &request.bytes)));
        let to = format!("Location: {}x\r\n", blocked.url());
        let moved = seed_at(&address(3), &payload, move |_, _| Some(status("302 Found", &to)));
        std::fs::write(temp.path("list"), "10.88.0.2/32\n").expect("a list");
        let (_peer, tracker, gate) = peer(&payload);
        let torrent = torrent(&temp, &payload, &tracker.url(&address(1)), &[]);
        let list = temp.path("list");
        let (first, second) = (blocked.url(), moved.url());
        let args = ["--web-seed", &first, "--web-seed", &second, "--block-list", list.to_str().expect("UTF-8")];
        let mut btsync = temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &args);
        let refusals = || btsync.log().matches("not used any more: its address is on the block list").count();
        until("both web seeds are given up", || refusals() == 2);
        gate.open();
        btsync.expect_exit(0);
        payload.assert_at(&temp.path("out"));
        assert_eq!((moved.requests(), blocked.connections()), (1, 0));
    });
}

#[test]
fn a_magnet_links_web_seed_sends_the_data() {
    in_network_namespace("a_magnet_links_web_seed_sends_the_data", &[], || {
        add_public_address();
        let (temp, payload) = (TestDir::new(), tree());
        let seed = seed_at(PUBLIC, &payload, |request, file| Some(part(file, &request.bytes)));
        // It has the metadata but no piece.
        let port = free_port();
        let torrent = torrent(&temp, &payload, "", &[]);
        let _holder = temp.btsync("holder", &torrent, &temp.path("holder"), port, &[]);
        let holder = SocketAddr::new(address(1).parse().expect("an address"), port);
        let link = payload.magnet(&format!("&ws={}", seed.url().replace(':', "%3A")));
        let args = ["--no-dht", "--no-lsd", "--peer", &holder.to_string()];
        let out = temp.folder("out");
        let mut btsync = temp.btsync_with_discovery("btsync", link.as_ref(), &out, free_port(), &args);
        btsync.expect_exit(0);
        payload.assert_at(&out);
        assert!(seed.sent() > payload.content().len() as u64);
    });
}

/// `btsync create` makes a torrent in which each file begins a piece; the server does not have the padding.
#[test]
fn padding_is_never_requested() {
    let (temp, payload) = (TestDir::new(), tree());
    let seed = TestWebSeed::start(&payload);
    let source = temp.folder_with("source", &payload).join(&payload.name);
    let torrent = temp.path("padded.torrent");
    let mut create = crate::common::btsync();
    create.arg("create").arg(&source).arg("--pad-files").arg("--output").arg(&torrent);
    temp.start("create", &mut create).expect_exit(0);
    let args = ["--web-seed", &seed.url()];
    temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &args).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert!(seed.sent() < payload.content().len() as u64 + seed.requests() as u64 * 300);
}

/// The limit holds for web seeds: what comes in one second is at most twice the limit.
#[test]
fn a_download_limit_holds_for_web_seeds() {
    let (temp, payload) = (TestDir::new(), single());
    let seed = TestWebSeed::start(&payload);
    let (begun, args) = (std::time::Instant::now(), ["--max-download-limit", "400K"]);
    crate::web_seeds::start(&temp, &payload, &seed.url(), "", &args).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    let least = payload.content().len() as f64 / (2.0 * 400.0 * 1024.0);
    assert!(begun.elapsed().as_secs_f64() > least, "{:?}", begun.elapsed());
}

/// A torrent with many files and many web seeds at one server that has none of them: btsync uses two of the web seeds, and asks each
/// for few files.
#[test]
fn a_torrent_cannot_aim_a_flood_at_a_web_server() {
    in_network_namespace("a_torrent_cannot_aim_a_flood_at_a_web_server", &[], || {
        add_public_address();
        let names: Vec<String> = (0..400).map(|number| format!("{number}")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 16 << 10)).collect();
        let (temp, payload) = (TestDir::new(), Payload::tree("many", &files, 16 << 10));
        let used = Arc::new(Mutex::new(HashSet::new()));
        let noted = used.clone();
        let victim = seed_at(PUBLIC, &payload, move |request, _| {
            let seed = request.target.split(['=', '/']).nth(2).map(str::to_owned);
            noted.lock().expect("no panic").insert(seed);
            Some(status("404 Not Found", ""))
        });
        let seeds: Vec<String> = (0..16).map(|number| format!("{}?seed={number}/", victim.url())).collect();
        let (_peer, tracker, gate) = peer(&payload);
        let torrent = torrent(&temp, &payload, &tracker.url(&address(1)), &seeds);
        let mut btsync = temp.btsync("btsync", &torrent, &temp.path("out"), free_port(), &[]);
        until("both web seeds lack some files", || victim.requests() >= 10);
        gate.open();
        btsync.expect_exit(0);
        payload.assert_at(&temp.path("out"));
        assert_eq!(used.lock().expect("no panic").len(), 2);
        assert!(victim.requests() < 100, "{} requests", victim.requests());
    });
}
