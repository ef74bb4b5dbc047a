//! Several torrents in one client: they share the port for incoming connections (plain and encrypted), rate limits, the
//! connection limit, the DHT node and local discovery. All of that is gone when the client ends.
//!
//! Each test runs in a process of its own, because it counts threads.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::netns::{address, allow_multicast_on_lo, alone_in_process, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::wire::{Wire, handshake, id};
use crate::common::{PATIENCE, TestDir, until};
use btsync::discovery::dht::{DhtConfig, DhtService};
use btsync::metainfo::{Magnet, Metainfo};
use btsync::net::bind::Bind;
use btsync::net::route::Route;
use btsync::torrent::{
    Client, ClientConfig, ClientError, DhtSettings, Event, Limits, Outcome, SeedGoal, Source, Torrent, TorrentConfig,
    TorrentError, TorrentHandle,
};
use btsync::types::Encryption;

/// The number of the library's threads, recognised by name.
fn threads() -> usize {
    const NAMES: [&str; 10] =
        ["listen", "handshake", "read", "write", "time", "dht4", "dht6", "dht-names", "lsd", "announce"];
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    // A thread may end while we look.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| NAMES.iter().any(|ours| name.trim_end().split(' ').next() == Some(*ours))).count()
}

/// Runs a test in a process of its own, because it counts threads. It must leave none behind.
fn in_own_process(test: &str, body: impl FnOnce()) {
    alone_in_process(test, || {
        body();
        // The kernel removes a thread shortly after it was joined.
        until("no thread is left behind", || threads() == 0);
    });
}

/// A configuration without DHT and local discovery, on any port.
fn quiet(out: &Path) -> TorrentConfig {
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.search.exclude_trackers = vec!["*".into()];
    config
}

const FOREVER: SeedGoal = SeedGoal { is_forever: true, time: None, ratio: None };

fn payload(name: &str) -> Payload {
    Payload::single(name, 96 * 16 * 1024, 64 * 1024)
}

fn torrent(payload: &Payload) -> Metainfo {
    Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent")
}

struct Running {
    handle: TorrentHandle,
    events: btsync::torrent::Events,
    thread: JoinHandle<Result<Outcome, Arc<TorrentError>>>,
}

impl Running {
    fn start(torrent: Torrent) -> Running {
        let (handle, events) = (torrent.handle(), torrent.events());
        Running { handle, events, thread: thread::spawn(move || torrent.run()) }
    }

    /// Starts a torrent on this client that connects to `peers`.
    fn with_client(client: &Arc<Client>, source: impl Into<Source>, out: &Path, peers: &[SocketAddr]) -> Running {
        let mut config = TorrentConfig { seed: FOREVER, ..quiet(out) };
        config.search.peers = peers.to_vec();
        Running::start(Torrent::with_client(client, source, config))
    }

    /// Starts a torrent without a shared client, until it is complete or the peer has refused it.
    fn without_client(payload: &Payload, out: &Path, encryption: Encryption, peer: SocketAddr) -> Running {
        let mut config = quiet(out);
        (config.search.peers, config.connections.encryption) = (vec![peer], encryption);
        Running::start(Torrent::new(torrent(payload), config))
    }

    /// Waits for an event. The channel closes when the torrent ends, so this never waits for ever.
    fn wait_for_event(&self, wanted: impl Fn(&Event) -> bool) {
        let is_received = self.events.iter().any(|event| wanted(&event));
        assert!(is_received, "the torrent ended without the event");
    }

    fn ends(self, outcome: Outcome) {
        assert_eq!(self.thread.join().expect("no panic").expect("no trouble"), outcome);
    }

    fn stops(self, outcome: Outcome) {
        self.handle.stop();
        self.ends(outcome);
    }
}

fn at(client: &Client) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], client.port().expect("it listens")))
}

/// Sends a handshake for a torrent that the client lacks; the client must close the connection without an answer.
fn is_refused(addr: SocketAddr, info_hash: [u8; 20]) {
    let mut wire = Wire::connect(addr);
    wire.send_raw(&handshake(info_hash)).expect("room for it");
    let end = wire.read_handshake().expect_err("an answer").kind();
    assert!(!matches!(end, ErrorKind::WouldBlock | ErrorKind::TimedOut), "neither answered nor disconnected");
}

/// Exchanges handshakes for a torrent that the client has.
fn assert_served(addr: SocketAddr, info_hash: [u8; 20]) -> Wire {
    let mut wire = Wire::connect(addr);
    wire.send_raw(&handshake(info_hash)).expect("room for it");
    let theirs = wire.read_handshake().expect("an answer");
    assert_eq!(theirs[28..48], info_hash, "another torrent");
    wire
}

#[test]
fn two_torrents_come_at_once_and_are_given_through_one_port() {
    in_own_process("two_torrents_come_at_once_and_are_given_through_one_port", || {
        let (temp, a, b, unknown) = (TestDir::new(), payload("a.bin"), payload("b.bin"), payload("unknown.bin"));
        let client = Client::start(&quiet(&temp.path("unused")).client).expect("a port");
        let addr = at(&client);
        let gate = Gate::new(0);
        let (gives_a, gives_b) = (FakePeer::honest(&a, &gate), FakePeer::honest(&b, &gate));
        let (out_a, out_b) = (temp.folder("a"), temp.folder("b"));
        let magnet: Magnet = Magnet::parse(&b.magnet("")).expect("a link");
        let first = Running::with_client(&client, torrent(&a), &out_a, &[gives_a.addr]);
        let second = Running::with_client(&client, torrent(&b), &out_b, &[gives_b.addr]);
        for running in [&first, &second] {
            running.wait_for_event(|event| *event == Event::Listening { port: addr.port() });
            until("a peer is there", || running.handle.snapshot().connected_peers == 1);
        }
        let again = Torrent::with_client(&client, magnet, quiet(&out_b));
        assert!(
            matches!(again.run(), Err(error) if matches!(*error, TorrentError::Client(ClientError::DuplicateTorrent { info_hash }) if info_hash.0 == b.info_hash()))
        );
        gate.open();
        for running in [&first, &second] {
            running.wait_for_event(|event| *event == Event::Completed);
        }

        for (n, encryption) in [Encryption::Off, Encryption::Require, Encryption::Allow].into_iter().enumerate() {
            for payload in [&a, &b] {
                let out = temp.folder(&format!("{}-{n}", payload.name));
                Running::without_client(payload, &out, encryption, addr).ends(Outcome::Completed);
                payload.assert_at(&out);
            }
            let stranger = Running::without_client(&unknown, &temp.folder("unknown"), encryption, addr);
            stranger.wait_for_event(|event| matches!(event, Event::PeerFailed { .. }));
            stranger.stops(Outcome::Stopped);
        }
        is_refused(addr, unknown.info_hash());

        first.stops(Outcome::StoppedComplete);
        is_refused(addr, a.info_hash());
        drop(assert_served(addr, b.info_hash()));
        assert!(!second.thread.is_finished());
        second.stops(Outcome::StoppedComplete);
        is_refused(addr, b.info_hash());
        a.assert_at(&out_a);
        b.assert_at(&out_b);
        drop(client);
        assert!(TcpStream::connect(addr).is_err(), "somebody still listens");
    });
}

/// A magnet link and a .torrent download at the same time in one client, both from another client that seeds both.
#[test]
fn a_magnet_link_and_a_torrent_share_a_host() {
    in_own_process("a_magnet_link_and_a_torrent_share_a_host", || {
        let (temp, a, b) = (TestDir::new(), payload("a.bin"), payload("b.bin"));
        let seeders = Client::start(&quiet(&temp.path("unused")).client).expect("a port");
        let gives: Vec<_> = [&a, &b]
            .map(|payload| {
                Running::with_client(&seeders, torrent(payload), &temp.folder_with(&payload.name, payload), &[])
            })
            .into_iter()
            .collect();
        for seeder in &gives {
            seeder.wait_for_event(|event| *event == Event::Completed);
        }
        let client = Client::start(&quiet(&temp.path("unused")).client).expect("a port");
        let (out_a, out_b) = (temp.folder("out a"), temp.folder("out b"));
        let linked =
            Running::with_client(&client, Magnet::parse(&a.magnet("")).expect("a link"), &out_a, &[at(&seeders)]);
        let ordinary = Running::with_client(&client, torrent(&b), &out_b, &[at(&seeders)]);
        for running in [&linked, &ordinary] {
            running.wait_for_event(|event| *event == Event::Completed);
        }
        a.assert_at(&out_a);
        b.assert_at(&out_b);
        for running in gives.into_iter().chain([linked, ordinary]) {
            running.stops(Outcome::StoppedComplete);
        }
    });
}

#[test]
fn limits_hold_over_all_torrents_together() {
    in_own_process("limits_hold_over_all_torrents_together", || {
        let (temp, a, b) = (TestDir::new(), payload("a.bin"), payload("b.bin"));
        let limits = Limits { down: 1024 * 1024, up: 0 };
        let client = Client::start(&ClientConfig { limits, ..quiet(&temp.path("unused")).client }).expect("a port");
        let gates = [Gate::new(usize::MAX), Gate::new(usize::MAX)];
        let gives = [FakePeer::honest(&a, &gates[0]), FakePeer::honest(&b, &gates[1])];
        let began = Instant::now();
        let first = Running::with_client(&client, torrent(&a), &temp.folder("a"), &[gives[0].addr]);
        let second = Running::with_client(&client, torrent(&b), &temp.folder("b"), &[gives[1].addr]);
        assert_eq!((first.handle.limits(), second.handle.limits()), (limits, limits));
        for running in [&first, &second] {
            running.wait_for_event(|event| *event == Event::Completed);
        }
        // 3 MiB, minus the burst that a limiter allows. A limit per torrent would take half the time.
        assert!(began.elapsed() >= Duration::from_millis(2500), "done after {:?}", began.elapsed());
        first.stops(Outcome::StoppedComplete);
        second.stops(Outcome::StoppedComplete);

        // A transfer that would take hours completes as soon as the limits are lifted for both torrents, through one torrent's
        // handle or through the client.
        for lift in [
            |client: &Client, _: &TorrentHandle| client.set_limits(Limits::default()),
            |_: &Client, handle: &TorrentHandle| {
                handle.set_limits(Limits::default());
            },
        ] {
            client.set_limits(Limits { down: 1024, up: 0 });
            let before: Vec<_> = gates.iter().map(|gate| gate.served()).collect();
            let out = temp.folder(&format!("again {}", before[0]));
            let first = Running::with_client(&client, torrent(&a), &out, &[gives[0].addr]);
            let second = Running::with_client(&client, torrent(&b), &out, &[gives[1].addr]);
            until("blocks are on their way", || {
                gates.iter().zip(&before).all(|(gate, before)| gate.served() > *before)
            });
            for running in [&first, &second] {
                assert!(!running.events.try_iter().any(|event| event == Event::Completed), "the limit does not hold");
            }
            lift(&client, &second.handle);
            assert_eq!((client.limits(), first.handle.limits()), (Limits::default(), Limits::default()));
            for running in [first, second] {
                running.wait_for_event(|event| *event == Event::Completed);
                running.stops(Outcome::StoppedComplete);
            }
        }
    });
}

/// A torrent that uses all connections gives some up when another torrent needs its share.
#[test]
fn connections_are_shared() {
    in_own_process("connections_are_shared", || {
        let (temp, a, b) = (TestDir::new(), payload("a.bin"), payload("b.bin"));
        let client =
            Client::start(&ClientConfig { max_peers: 12, ..quiet(&temp.path("unused")).client }).expect("a port");
        let first = Running::with_client(&client, torrent(&a), &temp.folder_with("a", &a), &[]);
        first.wait_for_event(|event| *event == Event::Completed);
        // A quarter is reserved for outgoing connections.
        let _dialers: Vec<_> = (0..9).map(|_| assert_served(at(&client), a.info_hash())).collect();
        until("all have a place", || first.handle.snapshot().connected_peers == 9);
        is_refused(at(&client), a.info_hash());
        let second = Running::with_client(&client, torrent(&b), &temp.folder_with("b", &b), &[]);
        second.wait_for_event(|event| *event == Event::Completed);
        // Half of the twelve belong to the second torrent; a quarter of its half is for outgoing connections.
        let _others: Vec<_> = (0..5).map(|_| assert_served(at(&client), b.info_hash())).collect();
        is_refused(at(&client), b.info_hash());
        until("the first has given up two", || first.handle.snapshot().connected_peers == 7);
        until("the second has five", || second.handle.snapshot().connected_peers == 5);
        first.stops(Outcome::StoppedComplete);
        let _more: Vec<_> = (0..4).map(|_| assert_served(at(&client), b.info_hash())).collect();
        second.stops(Outcome::StoppedComplete);
    });
}

/// Connects from a different address than the other peers.
fn connect_from_other_address(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address of the loopback");
    socket.connect(&to.into()).expect("a connection");
    socket.into()
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    in_own_process("silent_connections_do_not_keep_others_out", || {
        let (temp, a, b) = (TestDir::new(), payload("a.bin"), payload("b.bin"));
        let client = Client::start(&quiet(&temp.path("unused")).client).expect("a port");
        let gives: Vec<_> = [&a, &b]
            .map(|payload| {
                Running::with_client(&client, torrent(payload), &temp.folder_with(&payload.name, payload), &[])
            })
            .into_iter()
            .collect();
        for seeder in &gives {
            seeder.wait_for_event(|event| *event == Event::Completed);
        }
        // As many pending handshakes as the client holds at a time.
        let mut silent: Vec<_> = (0..128).map(|_| Wire::connect(at(&client))).collect();
        let mut other = connect_from_other_address(at(&client));
        other.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        other.write_all(&handshake(b.info_hash())).expect("room for it");
        let mut theirs = [0; 68];
        other.read_exact(&mut theirs).expect("an answer");
        assert_eq!(theirs[28..48], b.info_hash());
        silent.remove(0).wait_for_close().expect("the first to come made room");
        // A pending connection can still send its info-hash.
        let mut late = silent.pop().expect("another");
        late.send_raw(&handshake(a.info_hash())).expect("room for it");
        assert_eq!(late.read_handshake().expect("an answer")[28..48], a.info_hash());
        late.send(id::INTERESTED, &[]).expect("it goes on as any connection");
        late.receive_until(&crate::common::wire::Message::Unchoke).expect("to be unchoked");
        for running in gives {
            running.stops(Outcome::StoppedComplete);
        }
        drop(client); // dropping the client does not wait for the remaining silent connections
    });
}

/// The number of the process's threads with this name.
fn named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// The DHT finds two torrents, then local discovery finds two. Neither finds or searches for a private torrent beside them.
#[test]
fn the_dht_and_neighbours_are_shared_but_not_with_private_torrents() {
    in_network_namespace("the_dht_and_neighbours_are_shared_but_not_with_private_torrents", &[], || {
        allow_multicast_on_lo();
        for by_dht in [true, false] {
            are_found(by_dht);
        }
    });
}

fn are_found(by_dht: bool) {
    let ip = |last| address(last).parse().expect("an address");
    let (temp, a, b) = (TestDir::new(), payload("a.bin"), payload("b.bin"));
    let mut private = payload("private.bin");
    private.private = true;
    let (tell, _nobody) = crossbeam_channel::unbounded();
    let config = DhtConfig { interface: Bind::Address(ip(2)), routers: vec![], ..DhtConfig::default() };
    let node = DhtService::start(&config, &tell).expect("a DHT node");
    let dht = DhtSettings { routers: vec![], entry_points: vec![node.local_addrs()[0].to_string()], state_file: None };
    let open = |out: &Path, last| {
        let mut config = TorrentConfig { seed: FOREVER, ..quiet(out) };
        config.client.route = Route::direct(Bind::Address(ip(last)));
        (config.client.dht, config.client.uses_lsd) = (by_dht.then(|| dht.clone()), !by_dht);
        config
    };
    let hosts = [1, 3].map(|last| Client::start(&open(&temp.path("unused"), last).client).expect("a port"));
    let begin = |which: usize, payload: &Payload, out: &Path| {
        Running::start(Torrent::with_client(&hosts[which], torrent(payload), open(out, 1)))
    };
    let hidden: Vec<_> =
        (0..2).map(|which| begin(which, &private, &temp.folder(&format!("private {which}")))).collect();
    for running in &hidden {
        running.wait_for_event(|event| matches!(event, Event::NoPeerSource { .. }));
    }
    assert_eq!((named("dht4"), named("lsd")), (1, 0), "begun for a private torrent");
    let seeders = [&a, &b].map(|payload| begin(0, payload, &temp.folder_with(&payload.name, payload)));
    let leechers = [&a, &b].map(|payload| begin(1, payload, &temp.folder(&format!("out {}", payload.name))));
    for (running, payload) in leechers.iter().zip([&a, &b]) {
        running.wait_for_event(|event| *event == Event::Completed);
        payload.assert_at(&temp.path(&format!("out {}", payload.name)));
    }
    // Either side may have found the other.
    let found: Vec<_> = leechers.iter().chain(&seeders).map(|running| running.handle.peer_search()).collect();
    for each in [&found[0], &found[1]].into_iter().zip(&found[2..]) {
        let (by_the_dht, by_neighbours) = (each.0.dht_peers + each.1.dht_peers, each.0.lsd_peers + each.1.lsd_peers);
        assert_eq!((by_the_dht > 0, by_neighbours > 0), (by_dht, !by_dht));
    }
    let (dht, lsd) = if by_dht { (3, 0) } else { (1, 2) };
    // A thread gives itself its name, so the first time one may not have it yet.
    let has = |expected| move || (named("dht4"), named("lsd"), named("listen")) == expected;
    until("there is one of each for a client", has((dht, lsd, 2)));
    for running in &hidden {
        let (search, snapshot) = (running.handle.peer_search(), running.handle.snapshot());
        assert_eq!(
            (search.dht_peers, search.lsd_peers, search.incoming_connections, snapshot.known_peers),
            (0, 0, 0, 0)
        );
    }
    for running in leechers.into_iter().chain(seeders) {
        running.stops(Outcome::StoppedComplete);
    }
    assert_eq!((named("dht4"), named("lsd")), (dht, lsd), "a client for several outlives them");
    for running in hidden {
        running.stops(Outcome::Stopped);
    }
    drop(hosts);
    until("the threads of the clients are gone", has((1, 0, 0)));
    node.stop().expect("nothing to write");
}
