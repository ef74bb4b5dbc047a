//! Seeds without peers: they cost no thread, a peer that connects wakes them, and strangers cannot wake all of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::{Service, base64};
use crate::common::tracker::Tracker;
use crate::common::{PATIENCE, TestDir, free_port, until};

/// The most seeds that run for one stranger: eight, as many that are just ending, and the one that a leecher woke.
const MOST_AWAKE: usize = 17;

fn payload(number: usize) -> Payload {
    Payload::single(&format!("file {number}"), 50_000, 16_384)
}

/// How many torrents of a service run.
fn running(service: &Service) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.running.pid())).expect("procfs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "torrent").count()
}

/// A service that was killed while `count` torrents seeded, and has started again.
fn seeding(temp: &TestDir, tracker: &str, count: usize) -> Service {
    let service = Service::start(temp, "service", &[]);
    service.rpc("session_set", json!({"dht_enabled": false, "lpd_enabled": false}));
    for number in 0..count {
        payload(number).write_files(&Service::downloads(temp, "service"));
        service.rpc("torrent_add", json!({"metainfo": base64(&payload(number).torrent(tracker))}));
    }
    all_seed(&service, count);
    service.kill();
    let service = Service::start(temp, "service", &[]);
    all_seed(&service, count);
    service
}

fn all_seed(service: &Service, count: usize) {
    until("all seed", || {
        let torrents = service.torrents(&["status", "left_until_done", "done_date"]);
        torrents.iter().filter(|it| it["status"] == 6 && it["left_until_done"] == 0 && it["done_date"] != 0).count()
            == count
    });
}

#[test]
fn seeds_without_peers_have_no_threads_and_wake_for_a_leecher() {
    in_network_namespace("seeds_without_peers_have_no_threads_and_wake_for_a_leecher", &[], || {
        let (temp, tracker, seeds) = (TestDir::new(), Tracker::start(&[]), 50);
        let service = seeding(&temp, &tracker.url("127.0.0.1"), seeds);
        let hashes: Vec<Vec<u8>> = (0..seeds).map(|number| payload(number).info_hash().to_vec()).collect();
        let port = service.rpc("session_get", json!({"fields": ["peer_port"]}))["peer_port"].as_u64();
        let announced = || {
            let all = tracker.announces();
            let of_service = all.into_iter().filter(|it| Some(u64::from(it.addr.port())) == port);
            of_service.map(|it| (it.info_hash, it.event)).collect::<Vec<_>>()
        };
        let before = announced().len();
        until("all are announced", || {
            assert_eq!(running(&service), 0);
            let announced = announced();
            hashes.iter().all(|hash| announced[before.min(announced.len())..].iter().any(|(of, _)| of == hash))
        });
        let torrent = temp.torrent(&payload(7), &tracker.url("127.0.0.1"));
        let mut leecher = temp.btsync("leecher", &torrent, &temp.folder("copy"), free_port(), &[]);
        leecher.expect_exit(0);
        payload(7).assert_at(&temp.path("copy"));
        assert!(running(&service) <= 1, "only the one that was wanted: {}", running(&service));
        let sent = || -> u64 {
            service.torrents(&["uploaded_ever"]).iter().filter_map(|it| it["uploaded_ever"].as_u64()).sum()
        };
        until("its upload is counted", || sent() == 50_000);
        let of_it = announced().into_iter().filter(|(of, _)| *of == hashes[7]).map(|(_, event)| event);
        assert!(of_it.skip(1).all(|event| event != "stopped"), "{:?}", announced());
    });
}

#[test]
fn a_stranger_wakes_only_some_of_many_seeds_and_leechers_are_served() {
    in_network_namespace("a_stranger_wakes_only_some_of_many_seeds_and_leechers_are_served", &[], || {
        let (temp, tracker, seeds) = (TestDir::new(), Tracker::start(&[]), 90);
        let service = seeding(&temp, &tracker.url("127.0.0.1"), seeds);
        let port = service.rpc("session_get", json!({"fields": ["peer_port"]}))["peer_port"].as_u64();
        let port = u16::try_from(port.expect("a port")).expect("a port");
        // The stranger has another address than the leecher, wants blocks, and connects again while its connections are closed.
        let is_over = AtomicBool::new(false);
        let connect = |number: usize| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address");
            socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("it listens");
            socket.set_nonblocking(true).expect("a socket");
            let handshake = [&b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..], &payload(number).info_hash(), &[7; 20]];
            let interested = [&handshake.concat()[..], &[0, 0, 0, 1, 2]].concat();
            let mut stream = TcpStream::from(socket);
            stream.write_all(&interested).expect("room for it");
            stream
        };
        let stranger = || {
            let mut connections: Vec<TcpStream> = (0..seeds).map(connect).collect();
            while !is_over.load(Ordering::Relaxed) {
                for (number, stream) in connections.iter_mut().enumerate() {
                    if !matches!(stream.read(&mut [0; 4096]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
                        *stream = connect(number);
                    }
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(stranger);
            until("some have woken", || {
                let count = running(&service);
                assert!(count <= MOST_AWAKE, "{count}");
                count >= 8
            });
            let torrent = temp.torrent(&payload(seeds - 1), &tracker.url("127.0.0.1"));
            let mut leecher = temp.btsync("leecher", &torrent, &temp.folder("copy"), free_port(), &[]);
            assert_eq!(leecher.end_within(3 * PATIENCE), Some(0));
            payload(seeds - 1).assert_at(&temp.path("copy"));
            assert!(running(&service) <= MOST_AWAKE);
            is_over.store(true, Ordering::Relaxed);
        });
    });
}
