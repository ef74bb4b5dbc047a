//! Connections for torrents that do not run.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::*;
use crate::client::registry::{DormantRegistration, WakeFn};
use crate::net::networks::Network;

const DORMANT: InfoHash = InfoHash([6; 20]);

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Whether the other side closes the connection, without an answer. It has not read all that was sent.
fn is_closed(dialer: &mut TcpStream) -> bool {
    match dialer.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A function that counts its calls.
fn counting() -> (WakeFn, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    (Arc::new(move |_| _ = counted.fetch_add(1, Ordering::SeqCst)), calls)
}

impl HandshakerFixture {
    fn dormant(&self, encryption: Encryption) -> (DormantRegistration, Arc<AtomicUsize>) {
        let (wake, calls) = counting();
        (self.registry.register_dormant(DORMANT, encryption, true, wake), calls)
    }

    /// The dormant torrent starts.
    fn start(&mut self) {
        let (connection_sender, connections) = bounded(16);
        let torrent =
            self.registry.register(DORMANT, Encryption::Allow, connection_sender).expect("it does not run yet");
        self.registry.set_accepting(&torrent, true);
        self.torrents.push((DORMANT, connections));
    }
}

#[test]
fn connections_wait_until_their_torrent_has_started() {
    for with_others in [false, true] {
        let others: &[_] = if with_others { &[(ALLOW, Encryption::Allow)] } else { &[] };
        let mut fixture = HandshakerFixture::new(others);
        let (_registration, calls) = fixture.dormant(Encryption::Allow);
        let mut plain = fixture.dial();
        plain.write_all(&handshake(DORMANT)).expect("room for it");
        until("it is woken", || calls.load(Ordering::SeqCst) == 1);
        let mut covert = fixture.dial();
        assert!(encrypted(&mut covert, DORMANT, DORMANT));
        until("both wait", || fixture.registry.waiting() == 2);
        assert_eq!(calls.load(Ordering::SeqCst), 1, "it is woken once");
        fixture.start();
        let (_, connections) = fixture.torrents.last().expect("it has started");
        let mut are_encrypted = [(); 2].map(|()| {
            let connection = connections.recv_timeout(PATIENCE).expect("it is handed on");
            connection.handshake.expect("it was read").stream_state.ciphers.is_some()
        });
        are_encrypted.sort_unstable();
        assert_eq!(are_encrypted, [false, true]);
        drop((plain, covert));
        until("nobody waits", || fixture.registry.waiting() == 0);
        let mut late = fixture.dial();
        late.write_all(&handshake(DORMANT)).expect("room for it");
        assert_eq!(fixture.delivered_to(late).map(|met| met.0), Some(DORMANT));
    }
}

#[test]
fn only_connections_that_the_policy_allows_wake_a_torrent() {
    let mut fixture = HandshakerFixture::new(&[]);
    let (_registration, calls) = fixture.dormant(Encryption::Require);
    let mut plain = fixture.dial();
    plain.write_all(&handshake(DORMANT)).expect("room for it");
    assert!(is_closed(&mut plain));
    let mut unknown = fixture.dial();
    unknown.write_all(&handshake(UNKNOWN)).expect("room for it");
    assert!(is_closed(&mut unknown));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let mut covert = fixture.dial();
    assert!(encrypted(&mut covert, DORMANT, DORMANT));
    until("it is woken", || calls.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_torrent_is_woken_again_only_after_it_was_armed_again() {
    let mut fixture = HandshakerFixture::new(&[]);
    let (registration, calls) = fixture.dormant(Encryption::Allow);
    let connect = |fixture: &mut HandshakerFixture| {
        let mut dialer = fixture.dial();
        dialer.write_all(&handshake(DORMANT)).expect("room for it");
        dialer
    };
    let first = connect(&mut fixture);
    until("one waits", || fixture.registry.waiting() == 1);
    let second = connect(&mut fixture);
    until("two wait", || fixture.registry.waiting() == 2);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let (wake, again) = counting();
    registration.rearm(wake);
    assert_eq!(again.load(Ordering::SeqCst), 1, "at once, because two wait");
    drop((first, second));
    until("nobody waits", || fixture.registry.waiting() == 0);
    let (wake, again) = counting();
    registration.rearm(wake);
    assert_eq!(again.load(Ordering::SeqCst), 0);
    let _third = connect(&mut fixture);
    until("it is woken again", || again.load(Ordering::SeqCst) == 1);
    drop(registration);
    let mut last = connect(&mut fixture);
    assert!(is_closed(&mut last), "it is not dormant any more");
}

#[test]
fn the_connections_that_wait_are_bounded_and_end_with_the_client() {
    let mut fixture = HandshakerFixture::new(&[]);
    let (_registration, _) = fixture.dormant(Encryption::Allow);
    let waiting: Vec<_> = (1..=8)
        .map(|count| {
            let mut dialer = fixture.dial();
            dialer.write_all(&handshake(DORMANT)).expect("room for it");
            until("it waits", || fixture.registry.waiting() == count);
            dialer
        })
        .collect();
    let mut one_more = fixture.dial();
    one_more.write_all(&handshake(DORMANT)).expect("room for it");
    assert!(is_closed(&mut one_more), "its network has its share");
    // One that is evicted makes room at once.
    fixture.handshaker.started -= Duration::from_secs(20);
    assert!(fixture.handshaker.evict_for([192, 0, 2, 1].into()));
    until("one less waits", || fixture.registry.waiting() == 7);
    let started = Instant::now();
    drop(fixture.handshaker);
    assert!(started.elapsed() < PATIENCE);
    for mut dialer in waiting {
        assert!(is_closed(&mut dialer));
    }
}

/// Connections that end at once, or are too many of one network, take the place of nobody else.
#[test]
fn only_connections_that_wait_wake_a_torrent_and_only_as_long_as_they_do() {
    let fixture = HandshakerFixture::new(&[]);
    let (registry, hash) = (&fixture.registry, |n: u8| InfoHash([n; 20]));
    let woken = Arc::new(Mutex::new(Vec::new()));
    let _registrations: Vec<_> = (0..70)
        .map(|n| {
            let woken = woken.clone();
            let wake: WakeFn = Arc::new(move |_| woken.lock().push(n));
            registry.register_dormant(hash(n), Encryption::Allow, true, wake)
        })
        .collect();
    let (closing, has_hung_up) = (Flag::default(), Flag::default());
    std::thread::scope(|scope| {
        let wait = |n: u8, ip: [u8; 4]| {
            let (registry, closing, has_hung_up) = (registry.clone(), &closing, &has_hung_up);
            scope.spawn(move || {
                let ends = || has_hung_up.is_set() && ip[0] == 192;
                registry.wait_for(hash(n), ip.into(), closing, ends)
            });
        };
        for n in 0..8 {
            wait(n, [192, 0, 2, n]);
            until("it waits", || registry.waiting() == usize::from(n) + 1);
        }
        assert!(registry.wait_for(hash(8), [192, 0, 2, 200].into(), &closing, || false).is_none());
        until("all that wait have woken their torrents", || woken.lock().len() >= 8);
        assert!(!woken.lock().contains(&8), "one that may not wait wakes nothing");
        // Eight networks wait with eight connections each; a ninth gets the place of the oldest of one of them.
        for n in 8..64 {
            wait(n, [203, 0, n / 8, 1]);
            until("it waits", || registry.waiting() == usize::from(n) + 1);
        }
        wait(64, [198, 51, 100, 1]);
        until("it has a place", || registry.waiting_networks().contains_key(&hash(64)) && registry.waiting() == 64);
        assert!(!registry.waiting_networks().contains_key(&hash(0)), "the oldest of them");
        has_hung_up.set(true);
        until("those that hung up do not wait", || registry.waiting() == 57);
        assert!((1..8).all(|n| !registry.waiting_networks().contains_key(&hash(n))));
        closing.set(true);
        registry.wake_waiting();
    });
    assert_eq!(registry.waiting(), 0);
}

#[test]
fn a_peer_that_hangs_up_waits_no_longer_whatever_it_has_sent() {
    let mut fixture = HandshakerFixture::new(&[]);
    let (_registration, _) = fixture.dormant(Encryption::Allow);
    let mut dialer = fixture.dial();
    dialer.write_all(&handshake(DORMANT)).expect("room for it");
    until("it waits", || fixture.registry.waiting() == 1);
    let networks = fixture.registry.waiting_networks();
    assert_eq!(networks[&DORMANT], [Network::host([127, 0, 0, 1].into())]);
    dialer.write_all(b"still here").expect("room for it");
    drop(dialer);
    until("it waits no longer", || fixture.registry.waiting() == 0);
}

#[test]
fn a_torrent_is_found_among_many_by_either_kind_of_handshake() {
    let mut fixture = all();
    let (wake, calls) = counting();
    let others: Vec<_> = (0..3000u32)
        .map(|n| {
            let mut hash = [9; 20];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            fixture.registry.register_dormant(InfoHash(hash), Encryption::Allow, true, wake.clone())
        })
        .collect();
    let mut dialer = fixture.dial();
    assert!(encrypted(&mut dialer, ALLOW, ALLOW));
    assert_eq!(fixture.delivered_to(dialer).map(|met| met.0), Some(ALLOW));
    let mut hash = [9; 20];
    hash[..4].copy_from_slice(&2999u32.to_be_bytes());
    let mut dialer = fixture.dial();
    assert!(encrypted(&mut dialer, InfoHash(hash), InfoHash(hash)));
    until("it is woken", || calls.load(Ordering::SeqCst) == 1);
    drop(others);
    let mut dialer = fixture.dial();
    assert!(!encrypted(&mut dialer, InfoHash(hash), InfoHash(hash)), "it is forgotten");
}
