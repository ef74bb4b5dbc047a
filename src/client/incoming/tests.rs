//! Incoming connections over real loopback sockets; each torrent is the receiving end of a channel.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::mse::{CryptoMethods, Initiator, KeyMaterial};
use crate::peer::IncomingConnection;
use crate::types::{InfoHash, PeerId};
use crate::util::random::Random;
use crate::wire::handshake::Handshake;

const PATIENCE: Duration = Duration::from_secs(60);
const OFF: InfoHash = InfoHash([1; 20]);
const ALLOW: InfoHash = InfoHash([2; 20]);
const REQUIRE: InfoHash = InfoHash([3; 20]);
const HELD: InfoHash = InfoHash([4; 20]);
const UNKNOWN: InfoHash = InfoHash([5; 20]);

/// A handshaker with the given torrents; the torrent `HELD` accepts no connections.
struct HandshakerFixture {
    registry: Arc<TorrentRegistry>,
    handshaker: IncomingHandshaker,
    port: TcpListener,
    torrents: Vec<(InfoHash, Receiver<IncomingConnection>)>,
}

impl HandshakerFixture {
    fn new(torrents: &[(InfoHash, Encryption)]) -> HandshakerFixture {
        let registry = Arc::new(TorrentRegistry::default());
        let add_torrent = |&(info_hash, encryption): &(InfoHash, Encryption)| {
            let (event_sender, peer_events) = unbounded();
            let torrent = registry.register(info_hash, encryption, event_sender).expect("each is there once");
            registry.set_accepting(&torrent, info_hash != HELD);
            (info_hash, peer_events)
        };
        let torrents = torrents.iter().map(add_torrent).collect();
        HandshakerFixture {
            handshaker: IncomingHandshaker::new(registry.clone()),
            registry,
            port: TcpListener::bind("127.0.0.1:0").expect("a port"),
            torrents,
        }
    }

    /// Connects to the handshaker; returns the connecting end.
    fn dial(&mut self) -> TcpStream {
        let dialer = TcpStream::connect(self.port.local_addr().expect("an address")).expect("a connection");
        dialer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (stream, addr) = self.port.accept().expect("a connection");
        self.handshaker.receive(stream.into(), addr);
        dialer
    }

    /// The torrent that a connection is passed to, the handshake bytes received, and whether it is encrypted; `None` if the
    /// connection is closed.
    fn delivered_to(&self, mut dialer: TcpStream) -> Option<(InfoHash, Vec<u8>, bool)> {
        // An encrypted connection first gets an answer; one that has been passed on gets nothing more.
        dialer.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (info_hash, peer_events) in &self.torrents {
                if let Ok(IncomingConnection { handshake: received, .. }) = peer_events.try_recv() {
                    let received = received.expect("it was asked");
                    assert_eq!(
                        received.stream_state.unparsed.first_chunk().and_then(Handshake::decode_info_hash),
                        Some(*info_hash)
                    );
                    return Some((*info_hash, received.stream_state.unparsed, received.stream_state.ciphers.is_some()));
                }
            }
            match dialer.read(&mut [0; 4096]) {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {}
                _ => return None,
            }
        }
        panic!("neither passed on nor closed");
    }
}

mod dormant;

fn all() -> HandshakerFixture {
    let [off, allow, require] = [Encryption::Off, Encryption::Allow, Encryption::Require];
    HandshakerFixture::new(&[(OFF, off), (ALLOW, allow), (REQUIRE, require), (HELD, allow)])
}

fn handshake(info_hash: InfoHash) -> Vec<u8> {
    let handshake = Handshake::ours(info_hash, PeerId([9; 20]), false).encode();
    [handshake.as_slice(), b"more"].concat()
}

/// Connects encrypted for `skey`, and sends a handshake for `info_hash` inside.
fn encrypted(dialer: &mut TcpStream, skey: InfoHash, info_hash: InfoHash) -> bool {
    let key_material = KeyMaterial::new(&mut Random::seeded(1));
    let mut out = Vec::new();
    let mut mse = Initiator::new(skey, CryptoMethods::Rc4Only, &handshake(info_hash), key_material, &mut out);
    while mse.wanted() > 0 {
        let said = dialer.write_all(&out);
        out.clear();
        let mut byte = [0];
        if said.is_err() || dialer.read_exact(&mut byte).is_err() || mse.advance(&byte, &mut out).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn plain_connections_reach_their_torrent() {
    let mut fixture = all();
    let reached = [(OFF, true), (ALLOW, true), (REQUIRE, false), (HELD, false), (UNKNOWN, false)];
    for (info_hash, expected) in reached {
        let mut dialer = fixture.dial();
        dialer.write_all(&handshake(info_hash)).expect("room for it");
        let met = fixture.delivered_to(dialer);
        assert_eq!(met.is_some(), expected, "{info_hash}");
        if let Some(met) = met {
            // Bytes after the info-hash stay in the socket, or are passed on.
            assert_eq!((met.0, met.2), (info_hash, false));
        }
    }
}

/// A tracker that checks whether we can be reached waits for our handshake before it sends the rest of its own.
#[test]
fn the_info_hash_is_enough_to_be_handed_on() {
    let mut fixture = all();
    let mut dialer = fixture.dial();
    dialer.write_all(&handshake(ALLOW)[..48]).expect("room for it");
    assert_eq!(fixture.delivered_to(dialer), Some((ALLOW, handshake(ALLOW)[..48].to_vec(), false)));
}

#[test]
fn encrypted_connections_reach_their_torrent() {
    let mut fixture = all();
    let reached = [(OFF, false), (ALLOW, true), (REQUIRE, true), (HELD, false), (UNKNOWN, false)];
    for (info_hash, expected) in reached {
        let mut dialer = fixture.dial();
        assert_eq!(encrypted(&mut dialer, info_hash, info_hash), expected, "{info_hash}");
        let met = fixture.delivered_to(dialer);
        assert_eq!(met, expected.then(|| (info_hash, handshake(info_hash), true)), "{info_hash}");
    }
    let mut dialer = fixture.dial();
    assert!(encrypted(&mut dialer, ALLOW, REQUIRE), "the lie comes behind the agreement");
    assert_eq!(fixture.delivered_to(dialer), None, "two torrents on one connection");
}

#[test]
fn with_one_torrent_nobody_is_asked() {
    let mut fixture = HandshakerFixture::new(&[(ALLOW, Encryption::Allow), (HELD, Encryption::Allow)]);
    let _dialer = fixture.dial();
    let report = fixture.torrents[0].1.try_recv().expect("handed on at once");
    assert!(report.handshake.is_none());
    assert!(fixture.handshaker.pending.is_empty());
    let mut nobody = HandshakerFixture::new(&[(HELD, Encryption::Allow)]);
    assert_eq!(nobody.dial().read(&mut [0; 1]).expect("an end"), 0);
}

#[test]
fn many_silent_connections_keep_nobody_out() {
    let mut fixture = all();
    // From so many networks that none exceeds its share.
    let mut silent: Vec<_> = (0..MAX_PENDING_HANDSHAKES).map(|_| fixture.dial()).collect();
    for (pending, place) in fixture.handshaker.pending.iter_mut().zip(1..) {
        pending.ip = [192, 0, place, 1].into();
    }
    fixture.handshaker.started -= Duration::from_secs(1);
    let mut dialer = fixture.dial();
    dialer.write_all(&handshake(ALLOW)).expect("room for it");
    assert_eq!(fixture.delivered_to(dialer).map(|met| met.0), Some(ALLOW));
    assert_eq!(silent[0].read(&mut [0; 1]).expect("an end"), 0, "the first to come had the most time");
}

/// Among more silent connections than there is room for, one that has started its handshake is kept.
#[test]
fn silent_connections_do_not_push_out_an_encrypted_one() {
    let mut fixture = all();
    let mut dialer = fixture.dial();
    let key_material = KeyMaterial::new(&mut Random::seeded(1));
    let mut out = Vec::new();
    let mut mse = Initiator::new(ALLOW, CryptoMethods::Rc4Only, &handshake(ALLOW), key_material, &mut out);
    dialer.write_all(&out).expect("room for it");
    let mut byte = [0];
    dialer.read_exact(&mut byte).expect("an answer: it has been heard");
    let _silent: Vec<_> = (0..3 * MAX_PENDING_HANDSHAKES)
        .map(|n| {
            let silent = fixture.dial();
            if let Some(last) = fixture.handshaker.pending.last_mut() {
                last.ip = [192, 0, (n % 250) as u8, 1].into();
            }
            fixture.handshaker.started -= Duration::from_millis(3);
            silent
        })
        .collect();
    loop {
        out.clear();
        mse.advance(&byte, &mut out).expect("the agreement goes on");
        if mse.wanted() == 0 {
            break;
        }
        dialer.write_all(&out).expect("room for it");
        dialer.read_exact(&mut byte).expect("it is not closed");
    }
    assert_eq!(fixture.delivered_to(dialer).map(|met| met.0), Some(ALLOW));
}

#[test]
fn pending_handshakes_are_bounded_and_end_at_once() {
    let mut fixture = all();
    fixture.handshaker.started += Duration::from_secs(3600); // stops the clock
    let incoming_connections: Vec<_> = (0..MAX_PENDING_HANDSHAKES).map(|_| fixture.dial()).collect();
    assert_eq!(fixture.dial().read(&mut [0; 1]).expect("an end"), 0, "no more than there is room for");
    assert_eq!(fixture.handshaker.pending.len(), MAX_PENDING_HANDSHAKES);
    assert!(fixture.handshaker.evict_for("127.0.0.9".parse().expect("an address")), "for one from elsewhere");
    drop(fixture.handshaker);
    for mut dialer in incoming_connections {
        assert_eq!(dialer.read(&mut [0; 1]).expect("an end"), 0);
    }
}

/// Each connection for which no thread can be started evicts one silent connection that holds a thread, and no others.
#[test]
fn where_no_thread_is_left_a_silent_connection_gives_its_own_up() {
    let mut fixture = all();
    let mut begun = fixture.dial();
    begun.write_all(&handshake(ALLOW)[..20]).expect("room for it");
    let deadline = Instant::now() + PATIENCE;
    while !fixture.handshaker.pending[0].has_received.is_set() {
        assert!(Instant::now() < deadline, "its first bytes are not heard");
        std::thread::yield_now();
    }
    let mut silent: Vec<_> = (0..3).map(|_| fixture.dial()).collect();
    fixture.handshaker.started -= Duration::from_secs(1);
    // No system has that much memory.
    fixture.handshaker.stack = 1 << 60;
    for gives_way in silent.iter_mut().take(2) {
        let mut dialer = fixture.dial();
        assert_eq!(dialer.read(&mut [0; 1]).expect("an end"), 0, "there is no thread for it");
        assert_eq!(gives_way.read(&mut [0; 1]).expect("an end"), 0, "the first to come had the most time");
    }
    fixture.handshaker.stack = STACK;
    let mut dialer = fixture.dial();
    dialer.write_all(&handshake(OFF)).expect("room for it");
    assert_eq!(fixture.delivered_to(dialer).map(|met| met.0), Some(OFF));
    begun.write_all(&handshake(ALLOW)[20..]).expect("it is still there");
    assert_eq!(fixture.delivered_to(begun).map(|met| met.0), Some(ALLOW));
}
