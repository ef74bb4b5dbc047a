//! Attacks with addresses: idle connections from few addresses or one IPv6 network that fill the connection limit, silent
//! incoming connections, address lists that aim us at a victim or at ourselves, and peers with several addresses.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::extended_peer::{ExtendedPeer, size_of};
use crate::common::hostile_peer::{seed_with_12_incoming, seeding, thirty_pieces};
use crate::common::netns::{address, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::tracker::Tracker;
use crate::common::trickle::TrickleLeechers;
use crate::common::web::{Page, WebServer};
use crate::common::wire::{Message, Wire, connect_as_peer_from, connect_from, extended_handshake, handshake, id};
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};
use btsync::metainfo::Metainfo;
use btsync::strategy::rate_limiter::Limits;
use btsync::torrent::{Event, Outcome, SeedGoal, Torrent, TorrentConfig, TorrentHandle};

/// Incoming connections that btsync accepts with the default limit of 300 connections.
const CONNECTIONS: u8 = 225;

/// Fills a seed at `host` with idle connections from the addresses that `idle` returns. A connection from `newcomer` must still
/// become a peer.
fn assert_newcomer_accepted(host: &str, idle: impl Fn(u8) -> IpAddr, newcomer: IpAddr) {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let addr = SocketAddr::new(host.parse().expect("an address"), addr.port());
    let taken: Vec<_> = (0..CONNECTIONS)
        .filter_map(|n| {
            let mut wire = connect_as_peer_from(idle(n), addr, payload.info_hash())?;
            // Half of them are interested but request nothing.
            (n % 2 == 0).then(|| wire.send(id::INTERESTED, &[]));
            Some(wire)
        })
        .collect();
    assert_eq!(taken.len(), usize::from(CONNECTIONS), "all places are taken");
    until("the newcomer is a peer", || connect_as_peer_from(newcomer, addr, payload.info_hash()).is_some());
    drop(taken);
}

/// Runs ip(8) in the test's namespace.
fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().expect("ip").success(), "ip {args:?}");
}

#[test]
fn idle_connections_from_three_addresses_lock_nobody_out() {
    assert_newcomer_accepted("127.0.0.1", |n| [127, 0, 0, 2 + n % 3].into(), [127, 0, 0, 9].into());
}

#[test]
fn idle_connections_from_one_ipv6_network_lock_nobody_out() {
    in_network_namespace("idle_connections_from_one_ipv6_network_lock_nobody_out", &[], || {
        // All addresses of these networks are local.
        for network in ["2001:db8:7::/48", "2001:db8:8::/48"] {
            ip(&["-6", "route", "add", "local", network, "dev", "lo"]);
        }
        ip(&["-6", "addr", "add", "2001:db8:7::1/128", "dev", "lo", "nodad"]);
        std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").expect("a namespace of our own");
        let of_a_48 = |n: u8| format!("2001:db8:7:{:x}::1", u16::from(n) * 257).parse().expect("an address");
        assert_newcomer_accepted("2001:db8:7::1", of_a_48, "2001:db8:8::1".parse().expect("an address"));
    });
}

#[test]
fn idle_connections_from_as_many_networks_lock_nobody_out() {
    assert_newcomer_accepted("127.0.0.1", |n| [127, 1, n, 1].into(), [127, 2, 0, 1].into());
}

/// A seed with few slots, and 225 interested peers from three addresses that request nothing when unchoked.
#[test]
fn peers_that_ask_for_nothing_keep_no_slots() {
    let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let words = ["--seed", "--max-upload-limit", "128K"];
    let _seeder = temp.btsync("seeder", &torrent, &temp.folder_with("seeder", &payload), port, &words);
    until("the seeder has announced itself as complete", || tracker.announces().iter().any(|a| a.left == 0));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let mut idle: Vec<_> = (0..CONNECTIONS)
        .filter_map(|n| {
            let mut wire = connect_as_peer_from([127, 0, 0, 2 + n % 3].into(), addr, payload.info_hash())?;
            wire.send(id::INTERESTED, &[]).ok()?;
            Some(wire)
        })
        .collect();
    for wire in &mut idle[..4] {
        wire.receive_until(&Message::Unchoke).expect("a slot");
    }
    // They outnumber the slot turns of a minute, and they connected first.
    let mut wire = Wire::raw(connect_from([127, 0, 1, 9].into(), addr).expect("a connection"));
    wire.send_raw(&handshake(payload.info_hash())).expect("a handshake");
    wire.read_handshake().expect("a handshake");
    wire.send(id::INTERESTED, &[]).expect("a word to the seeder");
    wire.receive_until(&Message::Unchoke).expect("to be unchoked");
    wire.request(0, 0, 16 << 10).expect("a request");
    while !matches!(wire.receive().expect("a block"), Message::Piece(0, 0, _)) {}
}

/// Everybody who connects to a peer learns its id.
#[test]
fn a_copied_peer_id_keeps_no_peer_out() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let leech = |host| {
        let mut wire = Wire::raw(connect_from([127, 0, 0, host].into(), addr).expect("a connection"));
        let mut hello = handshake(payload.info_hash());
        // Of another client than the seeder's and less than its id: then the seeder decides which connections stay.
        hello[48..].copy_from_slice(b"-AA0001-000000000000");
        wire.send_raw(&hello).expect("a handshake");
        wire.read_handshake().expect("a handshake");
        wire.send(id::INTERESTED, &[]).expect("a word to the seeder");
        wire.receive_until(&Message::Unchoke).expect("to be unchoked");
        for begin in 0..4 {
            wire.request(0, begin, 1).expect("a request");
            while !matches!(wire.receive().expect("a block"), Message::Piece(..)) {}
        }
        wire
    };
    let _copy = leech(2);
    leech(3);
}

/// A stranger at the address of the user's peer says that it listens on that peer's port (BEP 10).
#[test]
fn a_claimed_port_keeps_no_peer_of_the_user_away() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let gate = Gate::new(0);
    gate.open();
    let peer = FakePeer::honest(&payload, &gate);
    let out = temp.folder("out");
    let torrent = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
    let (handle, events, download) = start(&torrent, &out, |_| ());
    let port = events.iter().find_map(|event| if let Event::Listening { port } = event { Some(port) } else { None });
    let btsync = SocketAddr::from(([127, 0, 0, 1], port.expect("it listens")));
    let mut connection = None;
    until("btsync accepts connections", || {
        let mut wire = Wire::connect(btsync);
        let shaken = wire.send_raw(&extended_handshake(payload.info_hash())).and_then(|()| wire.read_handshake());
        connection = shaken.is_ok().then_some(wire);
        connection.is_some()
    });
    let mut stranger = connection.expect("a connection");
    let says = format!("d1:md11:ut_metadatai3ee1:pi{}ee", peer.addr.port());
    stranger.send(id::EXTENDED, &[&[0], says.as_bytes()].concat()).expect("a claim");
    stranger.send(id::HAVE_ALL, &[]).expect("another one");
    stranger.receive_until(&Message::Interested).expect("btsync has read both");
    handle.add_peer(peer.addr);
    until("the peer has sent everything", || download.is_finished());
    assert_eq!(download.join().expect("no panic"), Outcome::Completed);
    payload.assert_at(&out);
}

/// Connections that fill the limit, each from another network, have downloaded blocks and continue at one byte a second.
#[test]
fn a_byte_a_second_keeps_no_place() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, _tracker, addr, wires) = seed_with_12_incoming(&temp, &payload);
    // More than 1 MiB each.
    let leechers = TrickleLeechers::start(wires, 80);
    until("each has had its blocks", || leechers.completed.load(Ordering::Relaxed) == 12);
    until("a newcomer is a peer", || connect_as_peer_from([127, 2, 0, 1].into(), addr, payload.info_hash()).is_some());
}

#[test]
fn a_byte_a_second_keeps_no_slot() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, _tracker, _, mut wires) = seed_with_12_incoming(&temp, &payload);
    let mut honest = wires.pop().expect("a connection");
    let leechers = TrickleLeechers::start(wires, 0);
    until("they have the four slots of a seed", || leechers.unchoked.load(Ordering::Relaxed) >= 4);
    honest.send(id::INTERESTED, &[]).expect("a word to the seeder");
    honest.receive_until(&Message::Unchoke).expect("to be unchoked");
    honest.request(0, 0, 16 << 10).expect("a request");
    while !matches!(honest.receive().expect("a block"), Message::Piece(0, 0, _)) {}
}

/// Whether the other side has not closed the connection.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket of ours");
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends a third of a handshake, and the rest after 300 more connections from others, which take a second unless the machine is busy.
/// Returns whether the seed answers.
fn completes_slow_handshake(to: SocketAddr, info_hash: [u8; 20], connected: &AtomicUsize) -> bool {
    let Ok(stream) = connect_from([127, 0, 0, 3].into(), to) else { return false };
    let (mut wire, bytes, before) = (Wire::raw(stream), handshake(info_hash), connected.load(Ordering::Relaxed));
    let begun = wire.send_raw(&bytes[..20]).is_ok();
    // After ten seconds the seed no longer waits for the rest.
    let start = Instant::now();
    until("300 others have connected", || {
        connected.load(Ordering::Relaxed) >= before + 300 || start.elapsed() >= Duration::from_secs(4)
    });
    begun && wire.send_raw(&bytes[20..]).is_ok() && wire.read_handshake().is_ok()
}

/// Encrypted and slow handshakes must complete beside 300 silent connections a second.
#[test]
fn silent_connections_do_not_starve_an_encrypted_handshake() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let (over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (begun, mut held) = (Instant::now(), Vec::new());
            while !over.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE * 2 {
                held.extend(connect_from([127, 0, 0, 2].into(), addr));
                if connected.fetch_add(1, Ordering::Relaxed) % 100 == 0 {
                    held.retain(is_open); // the attacker closes none itself
                }
                std::thread::sleep(Duration::from_micros(3300));
            }
        });
        until("all places are taken several times", || connected.load(Ordering::Relaxed) >= 600);
        let completed = (0..5).filter(|_| completes_slow_handshake(addr, payload.info_hash(), &connected)).count();
        assert!(completed >= 3, "{completed} of 5 slow handshakes came to their end");
        let torrent = temp.torrent(&payload, "http://127.0.0.1:1/announce");
        let out = temp.folder("out");
        let seeder = addr.to_string();
        let more = ["--encryption", "require", "--peer", &seeder];
        let mut leecher = temp.btsync("leecher", &torrent, &out, free_port(), &more);
        leecher.expect_exit(0);
        over.store(true, Ordering::Relaxed);
        payload.assert_at(&out);
    });
}

/// The number of connections opened in this network namespace so far.
fn connections_begun() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the counters");
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, mut values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let at = names.into_iter().position(|name| name == "ActiveOpens").expect("a counter");
    values.nth(at).and_then(|value| value.parse().ok()).expect("a number")
}

/// A tracker returns thousands of ports of one host that is not a peer, and one seed.
#[test]
fn a_tracker_cannot_aim_us_at_a_host() {
    in_network_namespace("a_tracker_cannot_aim_us_at_a_host", &[], || {
        let (temp, payload, gate) = (TestDir::new(), thirty_pieces(), Gate::new(0));
        ip(&["addr", "add", "203.0.113.5/32", "dev", "lo"]);
        let honest = FakePeer::honest(&payload, &gate);
        let victim = (2000..4000).map(|port| SocketAddr::from(([203, 0, 113, 5], port)));
        let tracker = Tracker::start(&victim.chain([honest.addr]).collect::<Vec<_>>());
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let out = temp.folder("out");
        let before = connections_begun();
        let mut btsync = temp.btsync("btsync", &torrent, &out, free_port(), &[]);
        // The seed waits until btsync has tried as many of the victim's ports as it is going to.
        until("dials have been refused", || connections_begun() >= before + 3);
        let mut last = (connections_begun(), Instant::now());
        until("no more dials follow", || {
            let begun = connections_begun();
            if begun != last.0 {
                last = (begun, Instant::now());
            }
            last.1.elapsed() >= Duration::from_secs(2)
        });
        gate.open();
        btsync.expect_exit(0);
        payload.assert_at(&out);
        let begun = connections_begun() - before - tracker.announces().len() as u64;
        assert!(begun <= 40, "{begun} connections were begun");
    });
}

/// A tracker returns three thousand addresses that refuse connections, and one seed.
#[test]
fn three_thousand_addresses_that_refuse_are_no_flood() {
    in_network_namespace("three_thousand_addresses_that_refuse_are_no_flood", &[], || {
        let (temp, payload) = (TestDir::new(), thirty_pieces());
        let honest = FakePeer::honest(&payload, &Gate::new(usize::MAX));
        let dead = (0..2999u16).map(|n| SocketAddr::from(([127, 9, (n >> 8) as u8, n as u8], 6881)));
        let tracker = Tracker::start(&dead.chain([honest.addr]).collect::<Vec<_>>());
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let out = temp.folder("out");
        let (before, start) = (connections_begun(), Instant::now());
        let mut btsync = temp.btsync("btsync", &torrent, &out, free_port(), &[]);
        btsync.expect_exit(0);
        let (begun, seconds) = (connections_begun() - before, start.elapsed().as_secs_f64());
        payload.assert_at(&out);
        // A hundred at once, a hundred a second, announces, and connections opened between the two measurements.
        assert!(begun as f64 <= 100.0 * (seconds + 1.0) + 20.0, "{begun} connections were begun in {seconds} s");
    });
}

/// The tracker returns all addresses of this machine with our own port. btsync connects to none of them.
#[test]
fn we_do_not_connect_to_ourselves() {
    in_network_namespace("we_do_not_connect_to_ourselves", &[], || {
        let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
        let mut ours: Vec<_> = (1..=10).map(|host| format!("{}:{port}", address(host))).collect();
        ours.extend([format!("127.0.0.1:{port}"), format!("[fd88::1]:{port}"), format!("[::1]:{port}")]);
        let honest = FakePeer::honest(&payload, &Gate::new(usize::MAX));
        let named = ours.iter().map(|addr| addr.parse().expect("an address")).chain([honest.addr]);
        let tracker = Tracker::start(&named.collect::<Vec<SocketAddr>>());
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        let out = temp.folder("out");
        let before = connections_begun();
        temp.btsync("btsync", &torrent, &out, port, &[]).expect_exit(0);
        payload.assert_at(&out);
        // The connection to the seed. Two announces may be unread.
        let begun = connections_begun() - before - tracker.announces().len() as u64;
        assert!(begun <= 3, "{begun} connections were begun");
    });
}

/// A torrent within this process, to seed or to download.
fn start(
    metainfo: &Metainfo,
    folder: &Path,
    change: impl FnOnce(&mut TorrentConfig),
) -> (TorrentHandle, btsync::torrent::Events, JoinHandle<Outcome>) {
    let mut config = TorrentConfig::new(folder);
    (config.client.dht, config.client.uses_lsd, config.client.listen_ports) = (None, false, 0..=0);
    change(&mut config);
    let torrent = Torrent::new(metainfo.clone(), config);
    let (handle, events) = (torrent.handle(), torrent.events());
    (handle, events, std::thread::spawn(move || torrent.run().expect("no error")))
}

/// A peer known by several addresses: btsync may connect to each of them, but both sides keep the same single connection.
#[test]
fn several_addresses_of_a_peer_are_one_connection() {
    in_network_namespace("several_addresses_of_a_peer_are_one_connection", &[], || {
        let (temp, payload) = (TestDir::new(), Payload::single("slow.bin", 24 << 20, 256 << 10));
        let torrent = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
        let forever = SeedGoal { is_forever: true, ..SeedGoal::default() };
        let home = temp.folder_with("home", &payload);
        let (seeder, events, seeds) = start(&torrent, &home, |config| {
            config.seed = forever;
            config.connections.peer_id_prefix = Some(*b"-BY0000-"); // the leecher has the greater id, and decides
        });
        let port =
            events.iter().find_map(|event| if let Event::Listening { port } = event { Some(port) } else { None });
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port.expect("it listens"));
        let out = temp.folder("out");
        let (leecher, events, download) = start(&torrent, &out, |config| {
            config.search.peers = ["10.88.0.1", "10.88.0.2", "127.0.0.1", "fd88::1"].map(at).to_vec();
            config.client.limits.down = 100 << 10;
        });
        let mut reached = std::collections::HashSet::new();
        until("both ends have one connection left", || {
            for event in events.try_iter() {
                if let Event::PeerConnected { addr, .. } = event {
                    reached.insert(addr);
                }
            }
            reached.len() >= 3 && seeder.peers().len() == 1 && leecher.peers().len() == 1
        });
        leecher.set_limits(Limits::default());
        assert_eq!(download.join().expect("no panic"), Outcome::Completed);
        payload.assert_at(&out);
        seeder.stop();
        seeds.join().expect("no panic");
    });
}

/// A non-blocking listener.
fn listening(ip: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    listener.set_nonblocking(true).expect("a socket of ours");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A public tracker returns a device on the user's network and a service on this machine, and one public address.
#[test]
fn a_public_tracker_leads_to_no_private_address() {
    in_network_namespace("a_public_tracker_leads_to_no_private_address", &[], || {
        ip(&["addr", "add", "11.0.0.1/32", "dev", "lo"]);
        let (temp, payload) = (TestDir::new(), thirty_pieces());
        let ((device, at_home), (service, on_loopback)) = (listening("10.88.0.2"), listening("127.0.0.1"));
        let (public, at_large) = listening("11.0.0.1");
        let peer = |addr: SocketAddr| {
            let ip = addr.ip().to_string();
            format!("d2:ip{}:{ip}4:porti{}ee", ip.len(), addr.port())
        };
        let by_name = format!("d2:ip9:localhost4:porti{}ee", on_loopback.port());
        let peers = [peer(at_home), peer(on_loopback), by_name, peer(at_large)].concat();
        let answer = Page::Bytes(format!("d8:intervali60e5:peersl{peers}ee").into_bytes());
        for host in ["11.0.0.1", "10.88.0.1"] {
            let tracker = WebServer::at(host, &[("/announce", answer.clone())]);
            let torrent = temp.torrent(&payload, &tracker.url("/announce"));
            let mut btsync = temp.btsync(host, &torrent, &temp.folder(host), free_port(), &[]);
            let is_dialled = |listener: &TcpListener| listener.accept().is_ok();
            until("the public address is dialled", || is_dialled(&public));
            if host == "11.0.0.1" {
                btsync.terminate(7);
                assert!(!is_dialled(&device) && !is_dialled(&service), "the tracker at {host}");
            } else {
                until("the device is dialled", || is_dialled(&device));
                until("the service is dialled", || is_dialled(&service));
                btsync.terminate(7);
            }
        }
    });
}

/// The .torrent that a magnet link names by URL is downloaded in parallel to the metadata exchange, only from public addresses,
/// and used only if it is the right one. Local addresses get no request, not even through a redirect or a name.
#[test]
fn a_links_url_brings_the_metadata_and_leads_to_no_local_address() {
    in_network_namespace("a_links_url_brings_the_metadata_and_leads_to_no_local_address", &[], || {
        let add = Command::new("ip").args(["addr", "add", "11.0.0.1/32", "dev", "lo"]).status();
        assert!(add.expect("ip").success(), "a public address");
        let (temp, payload) = (TestDir::new(), Payload::tree("set", &[("a", 5), ("b", 40_000)], 16 * 1024));
        let torrent = Page::Bytes(payload.torrent("http://127.0.0.1:9/announce"));
        let local = WebServer::start(&[("/x", torrent.clone()), ("/announce", torrent.clone())]);
        let home = WebServer::at("10.88.0.2", &[("/x", torrent.clone())]);
        let other = Payload::single("other", 5000, 16 * 1024);
        let public = WebServer::at(
            "11.0.0.1",
            &[
                ("/x", torrent),
                ("/moved", Page::Redirect("/x".to_owned())),
                ("/local", Page::Redirect(local.url("/x"))),
                ("/home", Page::Redirect(home.url("/x"))),
                ("/other", Page::Bytes(other.torrent("http://127.0.0.1:9/announce"))),
                ("/silence", Page::Silence),
                ("/endless", Page::Endless),
            ],
        );
        let lists = |parameters: &str, peer: &str, patience: &str| {
            let mut command = btsync();
            command.args(["--list", "--no-dht", "--no-lsd", "--stop-timeout", patience, &payload.magnet(parameters)]);
            command.args(["--listen-port", &free_port().to_string(), "--peer", peer]);
            command.current_dir(temp.path("")).env("XDG_CACHE_HOME", temp.path("cache"));
            command.output().expect("btsync runs").status.code()
        };
        let nobody = format!("127.0.0.1:{}", free_port());
        for good in ["&xs={}/x", "&as={}/moved", "&xs=urn:sha1:x&xs={}/other&as={}/x"] {
            assert_eq!(lists(&good.replace("{}", &public.url("")), &nobody, "100"), Some(0), "{good}");
        }
        let urls = ["/local", "/home", "/other", "/nowhere"].map(|path| public.url(path));
        let direct = [local.url("/x"), local.url("/announce"), home.url("/x")];
        let named = local.url("/x").replace("127.0.0.1", "localhost");
        for bad in urls.into_iter().chain(direct).chain([named, "ftp://11.0.0.1/x".to_owned()]) {
            assert_eq!(lists(&format!("&xs={bad}"), &nobody, "1"), Some(2), "{bad}");
        }
        assert_eq!((local.request_count(), home.request_count()), (0, 0), "a local address was asked");
        // A URL that hangs or never ends does not delay the download: the peers have the metadata too.
        let knows = ExtendedPeer::new(&payload, size_of(&payload), |_, _| Ok(false));
        for slow in ["/silence", "/endless"] {
            assert_eq!(
                lists(&format!("&xs={}", public.url(slow)), &knows.addr().to_string(), "100"),
                Some(0),
                "{slow}"
            );
        }
    });
}
