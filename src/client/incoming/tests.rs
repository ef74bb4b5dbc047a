//! Callers, real sockets on the loopback, and sessions that are the receiving end of a channel.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::mse::{Draw, Initiator, Methods};
use crate::peer::Report;
use crate::types::{InfoHash, PeerId};
use crate::util::random::Random;
use crate::wire::handshake::Handshake;

const PATIENCE: Duration = Duration::from_secs(60);
const OFF: InfoHash = InfoHash([1; 20]);
const PREFER: InfoHash = InfoHash([2; 20]);
const REQUIRE: InfoHash = InfoHash([3; 20]);
const HELD: InfoHash = InfoHash([4; 20]);
const UNKNOWN: InfoHash = InfoHash([5; 20]);

/// A host's lobby with a session of each kind.
struct Scene {
    lobby: Lobby,
    port: TcpListener,
    sessions: Vec<(InfoHash, Receiver<Report>)>,
}

impl Scene {
    fn new(guests: &[(InfoHash, Encryption)]) -> Scene {
        let door = Arc::new(Door::default());
        let seat = |&(info_hash, encryption): &(InfoHash, Encryption)| {
            let (tell, reports) = unbounded();
            let guest = door.register(info_hash, encryption, tell).expect("each is there once");
            guest.set_open(info_hash != HELD);
            (info_hash, reports)
        };
        let sessions = guests.iter().map(seat).collect();
        Scene { lobby: Lobby::new(door), port: TcpListener::bind("127.0.0.1:0").expect("a port"), sessions }
    }

    /// Somebody calls; its end.
    fn call(&mut self) -> TcpStream {
        let caller = TcpStream::connect(self.port.local_addr().expect("an address")).expect("a connection");
        caller.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (stream, addr) = self.port.accept().expect("a connection");
        self.lobby.receive(stream, addr);
        caller
    }

    /// The session that a caller is handed to, and what came of its handshake; `None` where it is hung up on.
    fn meets(&self, mut caller: TcpStream) -> Option<(InfoHash, Vec<u8>, bool)> {
        // What is said to an encrypted caller comes first; a caller that is handed on hears nothing more.
        caller.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (info_hash, reports) in &self.sessions {
                if let Ok(Report::Incoming(_, _, heard)) = reports.try_recv() {
                    let heard = heard.expect("it was asked");
                    assert_eq!(heard.rest.early.first_chunk().and_then(Handshake::decode_swarm), Some(*info_hash));
                    return Some((*info_hash, heard.rest.early, heard.rest.ciphers.is_some()));
                }
            }
            match caller.read(&mut [0; 4096]) {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {}
                _ => return None,
            }
        }
        panic!("neither handed on nor hung up on");
    }
}

fn all() -> Scene {
    let [off, prefer, require] = [Encryption::Off, Encryption::Prefer, Encryption::Require];
    Scene::new(&[(OFF, off), (PREFER, prefer), (REQUIRE, require), (HELD, prefer)])
}

fn hello(info_hash: InfoHash) -> Vec<u8> {
    let handshake = Handshake::ours(info_hash, PeerId([9; 20]), false).encode();
    [handshake.as_slice(), b"more"].concat()
}

/// Calls in the encrypted way for `skey`, and says hello for `info_hash` in it.
fn encrypted(caller: &mut TcpStream, skey: InfoHash, info_hash: InfoHash) -> bool {
    let draw = Draw::new(&mut Random::seeded(1));
    let mut out = Vec::new();
    let mut mse = Initiator::new(skey, Methods::Rc4Only, &hello(info_hash), draw, &mut out);
    while mse.wanted() > 0 {
        let said = caller.write_all(&out);
        out.clear();
        let mut byte = [0];
        if said.is_err() || caller.read_exact(&mut byte).is_err() || mse.advance(&byte, &mut out).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn plain_callers_reach_whom_they_mean() {
    let mut scene = all();
    let reached = [(OFF, true), (PREFER, true), (REQUIRE, false), (HELD, false), (UNKNOWN, false)];
    for (info_hash, expected) in reached {
        let mut caller = scene.call();
        caller.write_all(&hello(info_hash)).expect("room for it");
        let met = scene.meets(caller);
        assert_eq!(met.is_some(), expected, "{info_hash}");
        if let Some(met) = met {
            // Bytes behind the info-hash stay in the socket, or are handed on.
            assert_eq!((met.0, met.2), (info_hash, false));
        }
    }
}

/// A tracker's check whether we can be reached waits for our handshake before it sends the rest of its own.
#[test]
fn the_info_hash_is_enough_to_be_handed_on() {
    let mut scene = all();
    let mut caller = scene.call();
    caller.write_all(&hello(PREFER)[..48]).expect("room for it");
    assert_eq!(scene.meets(caller), Some((PREFER, hello(PREFER)[..48].to_vec(), false)));
}

#[test]
fn encrypted_callers_reach_whom_they_mean() {
    let mut scene = all();
    let reached = [(OFF, false), (PREFER, true), (REQUIRE, true), (HELD, false), (UNKNOWN, false)];
    for (info_hash, expected) in reached {
        let mut caller = scene.call();
        assert_eq!(encrypted(&mut caller, info_hash, info_hash), expected, "{info_hash}");
        let met = scene.meets(caller);
        assert_eq!(met, expected.then(|| (info_hash, hello(info_hash), true)), "{info_hash}");
    }
    let mut caller = scene.call();
    assert!(encrypted(&mut caller, PREFER, REQUIRE), "the lie comes behind the agreement");
    assert_eq!(scene.meets(caller), None, "two torrents in one call");
}

#[test]
fn where_there_is_one_session_nobody_is_asked() {
    let mut scene = Scene::new(&[(PREFER, Encryption::Prefer), (HELD, Encryption::Prefer)]);
    let _caller = scene.call();
    let report = scene.sessions[0].1.try_recv().expect("handed on at once");
    assert!(matches!(report, Report::Incoming(_, _, None)));
    assert!(scene.lobby.waiting.is_empty());
    let mut nobody = Scene::new(&[(HELD, Encryption::Prefer)]);
    assert_eq!(nobody.call().read(&mut [0; 1]).expect("an end"), 0);
}

#[test]
fn many_who_say_nothing_keep_nobody_out() {
    let mut scene = all();
    // From so many addresses that none has more than its part.
    let mut silent: Vec<_> = (0..ROOM).map(|_| scene.call()).collect();
    for (waiting, place) in scene.lobby.waiting.iter_mut().zip(1..) {
        waiting.host = [192, 0, place, 1].into();
    }
    scene.lobby.started -= Duration::from_secs(1);
    let mut caller = scene.call();
    caller.write_all(&hello(PREFER)).expect("room for it");
    assert_eq!(scene.meets(caller).map(|met| met.0), Some(PREFER));
    assert_eq!(silent[0].read(&mut [0; 1]).expect("an end"), 0, "the first to come had the most time");
}

/// Among more silent connections than there is room for, one that has begun its handshake is kept.
#[test]
fn silent_callers_do_not_push_out_an_encrypted_one() {
    let mut scene = all();
    let mut caller = scene.call();
    let draw = Draw::new(&mut Random::seeded(1));
    let mut out = Vec::new();
    let mut mse = Initiator::new(PREFER, Methods::Rc4Only, &hello(PREFER), draw, &mut out);
    caller.write_all(&out).expect("room for it");
    let mut byte = [0];
    caller.read_exact(&mut byte).expect("an answer: it has been heard");
    let _silent: Vec<_> = (0..3 * ROOM)
        .map(|n| {
            let silent = scene.call();
            if let Some(last) = scene.lobby.waiting.last_mut() {
                last.host = [192, 0, (n % 250) as u8, 1].into();
            }
            scene.lobby.started -= Duration::from_millis(3);
            silent
        })
        .collect();
    loop {
        out.clear();
        mse.advance(&byte, &mut out).expect("the agreement goes on");
        if mse.wanted() == 0 {
            break;
        }
        caller.write_all(&out).expect("room for it");
        caller.read_exact(&mut byte).expect("it is not hung up on");
    }
    assert_eq!(scene.meets(caller).map(|met| met.0), Some(PREFER));
}

#[test]
fn the_lobby_is_bounded_and_ends_at_once() {
    let mut scene = all();
    scene.lobby.started += Duration::from_secs(3600); // no time passes
    let callers: Vec<_> = (0..ROOM).map(|_| scene.call()).collect();
    assert_eq!(scene.call().read(&mut [0; 1]).expect("an end"), 0, "no more than there is room for");
    assert_eq!(scene.lobby.waiting.len(), ROOM);
    assert!(scene.lobby.make_room_for("127.0.0.9".parse().expect("an address")), "for one from elsewhere");
    drop(scene.lobby);
    for mut caller in callers {
        assert_eq!(caller.read(&mut [0; 1]).expect("an end"), 0);
    }
}

/// Each caller for whom there is no thread ends a silent one that holds one, and only those: the next caller has its thread.
#[test]
fn where_no_thread_is_left_a_silent_caller_gives_its_own_up() {
    let mut scene = all();
    let mut begun = scene.call();
    begun.write_all(&hello(PREFER)[..20]).expect("room for it");
    let deadline = Instant::now() + PATIENCE;
    while !scene.lobby.waiting[0].heard.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "its first bytes are not heard");
        std::thread::yield_now();
    }
    let mut silent: Vec<_> = (0..3).map(|_| scene.call()).collect();
    scene.lobby.started -= Duration::from_secs(1);
    // No system has the memory for that.
    scene.lobby.stack = 1 << 60;
    for gives_way in silent.iter_mut().take(2) {
        let mut caller = scene.call();
        assert_eq!(caller.read(&mut [0; 1]).expect("an end"), 0, "there is no thread for it");
        assert_eq!(gives_way.read(&mut [0; 1]).expect("an end"), 0, "the first to come had the most time");
    }
    scene.lobby.stack = STACK;
    let mut caller = scene.call();
    caller.write_all(&hello(OFF)).expect("room for it");
    assert_eq!(scene.meets(caller).map(|met| met.0), Some(OFF));
    begun.write_all(&hello(PREFER)[20..]).expect("it is still there");
    assert_eq!(scene.meets(begun).map(|met| met.0), Some(PREFER));
}
