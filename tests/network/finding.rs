//! Each way of finding peers by itself, against other programs: DHT, local discovery, peer exchange, UDP and HTTP trackers, and
//! addresses in a magnet link; over IPv4 and IPv6, in both directions.
//!
//! scripts/test-setup.sh installs the other programs. Each test runs in its own network namespace.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::netns::{RemoteMachine, address, allow_multicast_on_lo, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::real::{Client, PYTHON, TrackerKind, libtorrent};
use crate::common::tracker::{Tracker, scrape};
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};

/// The host numbers of the seed, of a peer in between, and of a DHT node. btsync connects from the first address.
const SEED: u8 = 2;
const BETWEEN: u8 = 3;
const NODE: u8 = 4;

const NOTHING: &[&str] = &["--no-dht", "--no-lsd", "--no-pex"];
const DHT_ALONE: &[&str] = &["--no-lsd", "--no-pex", "--dht-entry-point"];
const LSD_ALONE: &[&str] = &["--no-dht", "--no-pex"];
const PEX_ALONE: &[&str] = &["--no-dht", "--no-lsd"];
/// A tracker that does not exist, for torrents whose peers are found in another way.
const NO_TRACKER: &str = "http://10.88.0.9:1/announce";

/// Metadata of more than one piece: 900 pieces have 18,000 bytes of hashes.
fn payload() -> Payload {
    Payload::single("found.bin", 900 * 16 * 1024 - 77, 16 * 1024)
}

/// An address of the test's network in the given family, as written in URLs.
fn host_of(host: u8, six: bool) -> String {
    if six { format!("[fd88::{host:x}]") } else { address(host) }
}

/// btsync must download everything by this link and exit.
fn fetches(temp: &TestDir, payload: &Payload, link: &str, more: &[&str]) {
    let out = temp.folder("out");
    temp.btsync_with_discovery("leecher", OsStr::new(link), &out, free_port(), more).expect_exit(0);
    payload.assert_at(&out);
}

/// Waits until another client's folder has the payload.
fn arrives(payload: &Payload, folder: &Path) {
    let deadline = Instant::now() + PATIENCE * 2;
    while let Some(difference) = payload.difference_in_content(folder) {
        assert!(Instant::now() < deadline, "gave up waiting for the payload: {difference}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Another client as a seed, and the address it listens on. Returns once it listens.
fn seed(client: Client, temp: &TestDir, payload: &Payload, more: &[&str]) -> (Running, SocketAddr) {
    let (port, folder) = (free_port(), temp.folder_with("seed", payload));
    let running = client.start_at(temp, (SEED, port), &temp.torrent(payload, NO_TRACKER), &folder, more);
    let addr = format!("{}:{port}", address(SEED)).parse().expect("an address");
    listens(addr);
    (running, addr)
}

fn listens(addr: SocketAddr) {
    until(&format!("somebody listens on {addr}"), || TcpStream::connect(addr).is_ok());
}

/// btsync as a seed, and its address.
fn our_seed(temp: &TestDir, payload: &Payload, tracker: &str, more: &[&str]) -> (Running, String) {
    let (port, folder) = (free_port(), temp.folder_with("seed", payload));
    let torrent = temp.torrent(payload, tracker);
    let more = [&["--seed"], more].concat();
    (temp.btsync_with_discovery("seed", torrent.as_os_str(), &folder, port, &more), format!("{}:{port}", address(1)))
}

/// Starts libtorrent with an IPv4 or IPv6 address.
fn libtorrent_at(
    temp: &TestDir,
    host: u8,
    six: bool,
    torrent: &Path,
    folder: &Path,
    more: &[&str],
) -> (Running, String) {
    let (host, port) = (host_of(host, six), free_port());
    let bare = host.trim_matches(['[', ']']);
    let mut command = libtorrent(bare, &port.to_string(), torrent, folder);
    let running = temp.start(&format!("libtorrent-{}", bare.replace(':', "_")), command.args(more));
    (running, format!("{host}:{port}"))
}

/// Starts libtorrent as a DHT node that knows no other node.
fn node(temp: &TestDir, six: bool) -> (Running, String) {
    let addr = format!("{}:{}", host_of(NODE, six), free_port());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(repository.join(PYTHON));
    command.arg(repository.join("scripts/lt_dht.py")).args([&addr, "-", "stay"]);
    (temp.start("node", &mut command), addr)
}

/// Defines tests that run in their own namespace and need these programs.
macro_rules! tests {
    ($($(#[$about:meta])* $name:ident needs $programs:expr => $body:expr;)*) => {$(
        $(#[$about])*
        #[test]
        fn $name() {
            in_network_namespace(stringify!($name), $programs, || $body);
        }
    )*};
}

tests! {
    transmission_named_in_the_link needs &["transmission-daemon"] => by_address(Client::Transmission);
    libtorrent_named_in_the_link needs &[PYTHON] => by_address(Client::Libtorrent);
    aria2_named_in_the_link needs &["aria2c"] => by_address(Client::Aria2);
    named_in_the_link_over_ipv6 needs &[PYTHON] => by_address_over_ipv6();
    by_a_node_of_the_dht needs &[PYTHON] => by_dht(false);
    by_a_node_of_the_dht_over_ipv6 needs &[PYTHON] => by_dht(true);
    by_the_dht_on_one_interface needs &[PYTHON, "nsenter"] => by_dht_on_one_interface();
    libtorrent_finds_us_through_the_dht needs &[PYTHON] => found_by_dht();
    by_local_discovery needs &[PYTHON] => by_lsd();
    libtorrent_finds_us_by_local_discovery needs &[PYTHON] => found_by_lsd();
    by_an_http_tracker needs &[PYTHON, "opentracker"] => by_tracker(TrackerKind::Opentracker);
    by_a_udp_tracker needs &[PYTHON, "opentracker"] => by_tracker(TrackerKind::OpentrackerUdp);
    by_an_http_tracker_over_ipv6 needs &[PYTHON] => by_tracker_over_ipv6("http");
    by_a_udp_tracker_over_ipv6 needs &[PYTHON] => by_tracker_over_ipv6("udp");
    by_peer_exchange needs &[PYTHON] => by_pex();
    libtorrent_finds_a_seed_by_our_peer_exchange needs &[PYTHON] => found_by_pex();
    libtorrent_fetches_from_us_by_link needs &[PYTHON] => fetched_by_link(Client::Libtorrent);
    transmission_fetches_from_us_by_link needs &["transmission-daemon"] => fetched_by_link(Client::Transmission);
    aria2_fetches_from_us_by_link needs &["aria2c"] => fetched_by_link(Client::Aria2);
    the_saved_torrent_is_the_real_one needs &[PYTHON] => saves_the_torrent();
    a_link_goes_on_with_what_is_there needs &[PYTHON] => resumes();
}

fn by_address(client: Client) {
    let (temp, payload) = (TestDir::new(), payload());
    let (_seed, addr) = seed(client, &temp, &payload, &[]);
    fetches(&temp, &payload, &payload.magnet(&format!("&x.pe={addr}")), NOTHING);
}

fn by_address_over_ipv6() {
    let (temp, payload) = (TestDir::new(), payload());
    let torrent = temp.torrent(&payload, NO_TRACKER);
    let (_seed, addr) = libtorrent_at(&temp, SEED, true, &torrent, &temp.folder_with("seed", &payload), &[]);
    listens(addr.parse().expect("an address"));
    fetches(&temp, &payload, &payload.magnet(&format!("&x.pe={addr}")), NOTHING);
}

fn by_dht(six: bool) {
    let (temp, payload) = (TestDir::new(), payload());
    let (mut first, node) = node(&temp, six);
    first.wait_for_output("nodes 0");
    let (torrent, folder) = (temp.torrent(&payload, NO_TRACKER), temp.folder_with("seed", &payload));
    let entry = format!("node={node}");
    let (_seed, addr) = libtorrent_at(&temp, SEED, six, &torrent, &folder, &["enable_dht=1", &entry]);
    first.wait_for_output(&format!("incoming dht announce: {}", addr.replace(['[', ']'], "")));
    fetches(&temp, &payload, &payload.magnet(""), &[DHT_ALONE, &[&node]].concat());
}

/// The DHT node and the seed are on another machine; btsync binds all sockets to the interface towards it.
fn by_dht_on_one_interface() {
    let (temp, payload, far) = (TestDir::new(), payload(), RemoteMachine::new());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = |script: &str| {
        let mut command = far.command(&repository.join(PYTHON));
        command.arg(repository.join(script));
        command
    };
    let (node, seed) = (format!("10.89.0.2:{}", free_port()), free_port().to_string());
    let mut first = temp.start("node", python("scripts/lt_dht.py").args([&node, "-", "stay"]));
    first.wait_for_output("nodes 0");
    let mut command = python("scripts/lt_peer.py");
    command.arg(temp.torrent(&payload, NO_TRACKER)).arg(temp.folder_with("seed", &payload));
    command.args(["10.89.0.3", &seed, "enable_dht=1", &format!("node={node}")]);
    let _seed = temp.start("seed", &mut command);
    first.wait_for_output(&format!("incoming dht announce: 10.89.0.3:{seed}"));
    fetches(&temp, &payload, &payload.magnet(""), &[DHT_ALONE, &[&node, "--interface", "near"]].concat());
}

fn found_by_dht() {
    let (temp, payload) = (TestDir::new(), payload());
    let (mut first, node) = node(&temp, false);
    first.wait_for_output("nodes 0");
    let (mut seed, addr) = our_seed(&temp, &payload, NO_TRACKER, &[DHT_ALONE, &[&node]].concat());
    first.wait_for_output(&format!("incoming dht announce: {addr}"));
    let (out, link) = (temp.folder("out"), PathBuf::from(payload.magnet("")));
    let entry = format!("node={node}");
    let _leecher = Client::Libtorrent.start_with(&temp, BETWEEN, &link, &out, &["enable_dht=1", &entry]);
    arrives(&payload, &out);
    seed.terminate(0);
}

fn by_lsd() {
    allow_multicast_on_lo();
    let (temp, payload) = (TestDir::new(), payload());
    let _seed = seed(Client::Libtorrent, &temp, &payload, &["enable_lsd=1", "local_service_announce_interval=2"]);
    fetches(&temp, &payload, &payload.magnet(""), LSD_ALONE);
}

fn found_by_lsd() {
    allow_multicast_on_lo();
    let (temp, payload) = (TestDir::new(), payload());
    let (mut seed, _) = our_seed(&temp, &payload, NO_TRACKER, LSD_ALONE);
    let (out, link) = (temp.folder("out"), PathBuf::from(payload.magnet("")));
    let more = ["enable_lsd=1", "local_service_announce_interval=2"];
    let _leecher = Client::Libtorrent.start_with(&temp, BETWEEN, &link, &out, &more);
    arrives(&payload, &out);
    seed.terminate(0);
}

fn by_tracker(kind: TrackerKind) {
    let (temp, payload) = (TestDir::new(), payload());
    let tracker = kind.start(&temp, &payload);
    let torrent = temp.torrent(&payload, &tracker.url());
    let _seed = Client::Libtorrent.start(&temp, SEED, &torrent, &temp.folder_with("seed", &payload));
    tracker.wait_for_seeds(payload.info_hash(), 1);
    fetches(&temp, &payload, &payload.magnet(&format!("&tr={}", tracker.url())), NOTHING);
}

/// Debian's opentracker supports IPv4 only, so the tracker is ours; the seed is another client.
fn by_tracker_over_ipv6(scheme: &str) {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let mut command = btsync();
    let host = host_of(5, true);
    command.args(["tracker", "--listen", &format!("{host}:{port}"), "--interval", "2"]);
    let _tracker = temp.start("tracker", &mut command);
    let url = |scheme| format!("{scheme}://{host}:{port}/announce");
    let (torrent, folder) = (temp.torrent(&payload, &url(scheme)), temp.folder_with("seed", &payload));
    let _seed = libtorrent_at(&temp, SEED, true, &torrent, &folder, &[]);
    until("the tracker knows the seed", || {
        scrape(&url("http"), payload.info_hash()).is_some_and(|(complete, _)| complete > 0)
    });
    fetches(&temp, &payload, &payload.magnet(&format!("&tr={}", url(scheme))), NOTHING);
}

/// The peer in the magnet link has the metadata but no piece, and is connected to a seed.
fn by_pex() {
    let (temp, payload) = (TestDir::new(), payload());
    let stay = "close_redundant_connections=0";
    let (_seed, addr) = seed(Client::Libtorrent, &temp, &payload, &[stay]);
    let (torrent, empty, dials) = (temp.torrent(&payload, NO_TRACKER), temp.folder("empty"), format!("peer={addr}"));
    let more = ["want=nothing", stay, &dials];
    let (mut between, there) = libtorrent_at(&temp, BETWEEN, false, &torrent, &empty, &more);
    between.wait_for_output(&format!("connected {addr}"));
    fetches(&temp, &payload, &payload.magnet(&format!("&x.pe={there}")), PEX_ALONE);
    assert!(payload.difference(&empty).is_some(), "it was to fetch nothing");
}

/// btsync is connected to a seed and downloads at 1 KiB/s. A leecher that knows only btsync still completes, because btsync tells
/// it about the seed.
fn found_by_pex() {
    let (temp, payload, port) = (TestDir::new(), payload(), free_port());
    let (_seed, addr) = seed(Client::Libtorrent, &temp, &payload, &[]);
    let (torrent, named) = (temp.torrent(&payload, NO_TRACKER), addr.to_string());
    let more = [PEX_ALONE, &["--max-download-limit", "1K", "--peer", &named]].concat();
    let mut ours = temp.btsync_with_discovery("ours", torrent.as_os_str(), &temp.folder("ours"), port, &more);
    let (out, dials) = (temp.folder("out"), format!("peer={}:{port}", address(1)));
    listens(format!("{}:{port}", address(1)).parse().expect("an address"));
    let _leecher = Client::Libtorrent.start_with(&temp, BETWEEN, &torrent, &out, &[&dials]);
    arrives(&payload, &out);
    ours.terminate(7);
}

/// Other clients get metadata and payload from us by a magnet link. Only libtorrent reads addresses in links; the others ask a
/// tracker.
fn fetched_by_link(client: Client) {
    let (temp, payload, tracker) = (TestDir::new(), payload(), Tracker::start(&[]));
    let url = tracker.url(&address(1));
    let (mut seed, addr) = our_seed(&temp, &payload, &url, NOTHING);
    until("the seed has announced itself", || tracker.announces().iter().any(|heard| heard.left == 0));
    let link = match client {
        Client::Libtorrent => payload.magnet(&format!("&x.pe={addr}")),
        _ => payload.magnet(&format!("&tr={url}")),
    };
    let out = temp.folder("out");
    let _leecher = client.start(&temp, BETWEEN, Path::new(&link), &out);
    arrives(&payload, &out);
    seed.terminate(0);
}

/// `btsync info` reports the right info-hash for the saved torrent, and libtorrent accepts it.
fn saves_the_torrent() {
    let (temp, payload) = (TestDir::new(), payload());
    let (_seed, addr) = seed(Client::Libtorrent, &temp, &payload, &[]);
    let kept = temp.path("kept.torrent");
    let link = payload.magnet(&format!("&x.pe={addr}&tr=http://{}:1/a?b=c%26d", address(9)));
    let more = [NOTHING, &["--save-torrent", kept.to_str().expect("a path in UTF-8")]].concat();
    fetches(&temp, &payload, &link, &more);

    let said = btsync().arg("info").arg(&kept).arg("--json").output().expect("btsync info");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("\"info_hash\":\"{}\"", payload.hex())), "{said}");
    assert!(said.contains("http://10.88.0.9:1/a?b=c&d"), "the tracker of the link: {said}");
    let mut other = Client::Libtorrent.start(&temp, BETWEEN, &kept, &temp.path("out"));
    other.wait_for_output("complete");
}

/// A quarter is already on disk, with one wrong byte.
fn resumes() {
    let (temp, payload) = (TestDir::new(), payload());
    let (_seed, addr) = seed(Client::Libtorrent, &temp, &payload, &[]);
    let (out, mut part) = (temp.folder("out"), payload.content());
    part.truncate(225 * payload.piece_length);
    part[0] ^= 1;
    std::fs::write(out.join(&payload.name), part).expect("a part of the payload");
    let link = payload.magnet(&format!("&x.pe={addr}"));
    let mut ours = temp.btsync_with_discovery("leecher", OsStr::new(&link), &out, free_port(), NOTHING);
    ours.expect_exit(0);
    payload.assert_at(&out);
    assert!(
        ours.log().contains("24.8%") || ours.log().contains("24.9%"),
        "224 of 900 pieces were right: {}",
        ours.log()
    );
}
