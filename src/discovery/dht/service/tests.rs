//! Nodes with real sockets on the loopback interface find each other's peers, and their threads stop.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::*;

/// Longer than any step takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const HASH: InfoHash = InfoHash([9; 20]);

fn config(ip: IpAddr) -> DhtConfig {
    DhtConfig { interface: Bind::Address(ip), routers: vec![], ..DhtConfig::default() }
}

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn start(config: &DhtConfig) -> (DhtService, Receiver<FoundPeers>) {
    let (sender, receiver) = unbounded();
    (DhtService::start(config, &sender).expect("a DHT on the loopback"), receiver)
}

fn find(found: &Receiver<FoundPeers>, peer: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match found.recv_deadline(deadline) {
            Ok(found) if found.peers.contains(&peer) => return assert_eq!(found.info_hash, HASH),
            Ok(_) => {}
            Err(error) => panic!("{peer} was not found: {error}"),
        }
    }
}

/// Waits until a node stores an announce; its statistics lag slightly behind.
fn holds_one(service: &DhtService) {
    let deadline = Instant::now() + PATIENCE;
    while service.stats().iter().all(|(_, stats)| stats.stored == 0) {
        assert!(Instant::now() < deadline, "nothing was announced");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn announced_between(one: IpAddr, two: IpAddr) {
    let (first, _) = start(&config(one));
    let entry = first.local_addrs()[0];
    let (second, _) = start(&DhtConfig { entry_points: vec![entry.to_string()], ..config(two) });
    second.search(HASH, Some(4321));
    holds_one(&first);
    let (third, found) = start(&DhtConfig { entry_points: vec![entry.to_string()], ..config(one) });
    third.search(HASH, None);
    find(&found, SocketAddr::new(two, 4321));
    for service in [first, second, third] {
        service.stop().expect("nothing to write");
    }
}

#[test]
fn a_query_is_answered_from_the_address_that_was_asked() {
    let (service, _) = start(&DhtConfig { routers: vec![], ..DhtConfig::default() });
    let asked = SocketAddr::new(local(9), service.local_addrs()[0].port());
    let node = UdpSocket::bind((local(1), 0)).unwrap();
    node.set_read_timeout(Some(PATIENCE)).unwrap();
    node.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", asked).unwrap();
    let is_answer = |packet: &[u8]| packet.ends_with(b"1:y1:re");
    let mut buffer = [0; 500];
    loop {
        // The node also asks whether we exist.
        let (size, from) = node.recv_from(&mut buffer).expect("an answer");
        if is_answer(&buffer[..size]) {
            return assert_eq!(from, asked);
        }
    }
}

#[test]
fn an_announce_is_found_by_another() {
    announced_between(local(1), local(2));
}

/// Two torrents on one node: each receiver gets peers of its own torrent only, and none after `forget`.
#[test]
fn a_receiver_gets_peers_of_its_own_torrent_only() {
    const OTHER: InfoHash = InfoHash([8; 20]);
    let (first, _) = start(&config(local(1)));
    let entry = first.local_addrs()[0];
    let with_entry = |ip| DhtConfig { entry_points: vec![entry.to_string()], ..config(ip) };
    let (second, _) = start(&with_entry(local(2)));
    second.search(HASH, Some(4321));
    second.search(OTHER, Some(1234));
    let deadline = Instant::now() + PATIENCE;
    while first.stats().iter().all(|(_, stats)| stats.stored < 2) {
        assert!(Instant::now() < deadline, "nothing was announced");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (third, unasked) = start(&with_entry(local(3)));
    let ((sender_of_one, one), (sender_of_other, other)) = (unbounded(), unbounded());
    third.search_for(HASH, None, sender_of_one);
    third.search_for(OTHER, None, sender_of_other);
    let peer = |port| {
        Ok(FoundPeers {
            info_hash: if port == 4321 { HASH } else { OTHER },
            peers: vec![SocketAddr::new(local(2), port)],
        })
    };
    assert_eq!(one.recv_timeout(PATIENCE), peer(4321));
    assert_eq!(other.recv_timeout(PATIENCE), peer(1234));
    third.forget(HASH);
    assert_eq!(
        one.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected),
        "nothing more, and nobody who could say it"
    );
    assert!(other.try_iter().all(|found| found.info_hash == OTHER) && unasked.is_empty());
    for service in [first, second, third] {
        service.stop().expect("nothing to write");
    }
}

#[test]
fn stop_and_drop_end_all_threads_though_nothing_ever_comes() {
    let all = DhtConfig { routers: vec!["name.invalid:1".into()], ..DhtConfig::default() };
    let (service, found) = start(&all);
    let handles = service.handles.clone();
    service.stop().expect("nothing to write");
    // The threads and their senders are gone. An abandoned resolver thread may still run, but holds no sender.
    assert_eq!(found.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    handles
        .iter()
        .for_each(|handle| assert!(handle.commands.send(DhtCommand::Stop).is_err(), "nobody listens any more"));
    let (service, found) = start(&all);
    drop(service);
    assert_eq!(found.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn a_command_wakes_a_thread_that_hears_nothing() {
    let socket = DhtSocket::direct(Bind::Any.udp(SocketAddr::new(local(1), 0)).unwrap()).unwrap();
    let (handle, mut inbox) = command_channel(Family::V4, socket).unwrap();
    let (sender, woken) = unbounded();
    let thread = std::thread::spawn(move || {
        let error = inbox.receive(&mut [0; 8], PATIENCE * 2).unwrap_err();
        sender.send((error.kind(), inbox.commands.try_recv().is_ok()))
    });
    handle.send_command(DhtCommand::SetReadOnly { is_read_only: true });
    assert_eq!(woken.recv_timeout(PATIENCE), Ok((io::ErrorKind::WouldBlock, true)), "woken, by no packet");
    thread.join().unwrap().unwrap();
}

#[test]
fn the_port_is_free_after_the_end() {
    let (service, _) = start(&config(local(1)));
    let (addr, handles) = (service.local_addrs()[0], Arc::downgrade(&service.handles));
    service.add_hosts(vec!["name.invalid:1".into(), "localhost:1".into()]);
    service.stop().expect("nothing to write");
    assert_eq!(handles.strong_count(), 0);
    UdpSocket::bind(addr).expect("the port is free again");
}

#[test]
fn the_state_is_kept_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache").join("dht.state");
    let (first, _) = start(&config(local(1)));
    let entry = first.local_addrs()[0];
    let with_state = DhtConfig { state_file: Some(path.clone()), ..config(local(2)) };
    let (second, _) = start(&DhtConfig { entry_points: vec![entry.to_string()], ..with_state.clone() });
    second.search(HASH, Some(1234));
    holds_one(&first);
    second.stop().expect("a state");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let state = load(&path).expect("a state");
    assert_eq!(state.nodes.iter().map(|node| node.addr).collect::<Vec<_>>(), [entry]);
    assert_eq!(state.ids.len(), 1);

    // The next run finds the announce without being given any node.
    let (third, found) = start(&with_state);
    third.search(HASH, None);
    find(&found, SocketAddr::new(local(2), 1234));
    drop(third);
    for garbage in [&b"garbage"[..], b"d4:infod4:name1:xee", b"de"] {
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(load(&path).expect("none"), DhtState::default());
        let kept = save(&path, &DhtState::default()).map_err(|error| error.kind());
        assert_eq!((kept, std::fs::read(&path).unwrap().as_slice()), (Err(io::ErrorKind::AlreadyExists), garbage));
    }
    for ours in [Vec::new(), DhtState::default().encode(), state.encode()] {
        std::fs::write(&path, ours).unwrap();
        save(&path, &state).unwrap();
        assert_eq!(load(&path).expect("a state"), state);
    }
}

#[test]
fn a_port_in_use_is_an_error_and_one_family_is_enough() {
    let taken = UdpSocket::bind((local(1), 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let (sender, _receiver) = unbounded();
    let error = DhtService::start(&DhtConfig { port, ..config(local(1)) }, &sender).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::AddrInUse, format!("UDP port {port} is in use")));
    let none = DhtConfig { interface: Bind::Interface("no-such-one".to_owned()), ..config(local(1)) };
    assert!(DhtService::start(&none, &sender).is_err(), "nothing is sent by another way");
}
