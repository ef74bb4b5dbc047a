//! Where callers wait until it is clear which session they mean: their handshake says it (BEP 3), or its encrypted beginning. Where
//! only one session takes callers there is nothing to ask, and they are handed on at once.
//!
//! The lobby belongs to the listener's thread. Each caller that must be asked has a short-lived thread of its own; there is room
//! for a few, for each no longer than a handshake may take, and where it is full who fills it makes room for others.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::registry::{Door, Guest};
use crate::peer::connection::HANDSHAKE_TIMEOUT;
use crate::peer::encryption::Line;
use crate::peer::{Gone, Greeting};
use crate::strategy::eviction::{Churn, Handshake, Merit, Occupant, evicted};
use crate::types::{Encryption, PeerKey};

/// Pending handshakes at a time. With 300 silent connections a second there is still room for others.
const ROOM: usize = 128;
/// An address may fill more than this only while nobody else calls.
const FAIR: usize = ROOM / 4;
/// Callers that were hung up on to make room and whose threads have not ended yet, at most.
const MAX_GOING: usize = 24;
/// As much as a connection's threads have; little of it is touched.
const STACK: usize = 256 * 1024;

/// See the module's head.
pub struct Lobby {
    door: Arc<Door>,
    waiting: Vec<Waiting>,
    next: u32,
    /// The clock begins here.
    started: Instant,
    /// The stack of a caller's thread, in bytes.
    stack: usize,
}

/// A caller that is being asked.
struct Waiting {
    key: PeerKey,
    host: IpAddr,
    /// Its thread's, for as long as it is not handed on.
    stream: Weak<TcpStream>,
    thread: JoinHandle<()>,
    /// When the connection was accepted.
    since: Duration,
    /// Whether any byte of its handshake has arrived.
    heard: Arc<AtomicBool>,
    /// It was hung up on to make room.
    going: bool,
}

impl Lobby {
    /// A lobby behind this door.
    pub fn new(door: Arc<Door>) -> Lobby {
        Lobby { door, waiting: Vec::new(), next: 0, started: Instant::now(), stack: STACK }
    }

    /// Somebody calls.
    pub fn receive(&mut self, stream: TcpStream, addr: SocketAddr) {
        let open = self.door.open();
        match open.as_slice() {
            [] => {}
            [only] => only.receive(stream, addr, None),
            _ => self.ask(stream, addr, open),
        }
    }

    fn ask(&mut self, stream: TcpStream, addr: SocketAddr, guests: Vec<Arc<Guest>>) {
        let (over, still): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|waiting| waiting.thread.is_finished());
        self.waiting = still;
        over.into_iter().for_each(Waiting::join);
        if self.waiting.iter().filter(|waiting| !waiting.going).count() >= ROOM && !self.make_room_for(addr.ip()) {
            log::debug!("{addr}: turned away, too many callers at a time");
            return;
        }
        let stream = Arc::new(stream);
        let (held, heard) = (Arc::downgrade(&stream), Arc::new(AtomicBool::new(false)));
        let noted = heard.clone();
        let work = move || {
            let asked = catch_unwind(AssertUnwindSafe(|| hand_on(stream, addr, &noted, &guests)));
            if let Err(why) = asked.unwrap_or(Err(Gone::Bug)) {
                log::debug!("{addr}: {why}");
            }
        };
        match Builder::new().name("lobby".into()).stack_size(self.stack).spawn(work) {
            Ok(thread) => {
                let key = PeerKey(self.next);
                self.next = self.next.wrapping_add(1);
                let since = self.started.elapsed();
                self.waiting.push(Waiting { key, host: addr.ip(), stream: held, thread, since, heard, going: false });
            }
            Err(error) => {
                // No thread is left. Silent callers hold some of them, and each of them ends one.
                log::debug!("cannot ask {addr} which torrent it means: {error}");
                self.make_room_for(addr.ip());
            }
        }
    }

    /// Hangs up on a caller that has said nothing, or on one of the fullest network: neither many silent callers nor a network with many
    /// addresses must keep everybody out.
    fn make_room_for(&mut self, newcomer: IpAddr) -> bool {
        if self.waiting.iter().filter(|waiting| waiting.going).count() >= MAX_GOING {
            return false;
        }
        let staying = self.waiting.iter().filter(|waiting| !waiting.going);
        let callers: Vec<_> = staying.map(Waiting::occupant).collect();
        let now = self.started.elapsed();
        let Some(gone) = evicted(newcomer, &callers, FAIR, &Churn::default(), now) else { return false };
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.key == gone.key) else { return false };
        waiting.going = true;
        waiting.hang_up();
        true
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        self.waiting.iter().for_each(Waiting::hang_up);
        self.waiting.drain(..).for_each(Waiting::join);
    }
}

impl Waiting {
    fn occupant(&self) -> Occupant {
        let handshake = if self.heard.load(Ordering::Relaxed) { Handshake::Begun } else { Handshake::Silent };
        Occupant {
            key: self.key,
            host: self.host,
            handshake,
            since: self.since,
            moved: self.since,
            merit: Merit::Unknown,
            total: 0,
            lately: 0,
        }
    }

    fn hang_up(&self) {
        if let Some(stream) = self.stream.upgrade() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn join(self) {
        if self.thread.join().is_err() {
            log::error!("a caller's thread panicked");
        }
    }
}

/// Receives an incoming connection's handshake as far as the info-hash, and hands it to the session that it is for, which answers it.
fn hand_on(stream: Arc<TcpStream>, addr: SocketAddr, heard: &AtomicBool, guests: &[Arc<Guest>]) -> Result<(), Gone> {
    const ANOTHER: Gone = Gone::Handshake("another torrent");
    let swarms: Vec<_> = guests.iter().map(|guest| (guest.info_hash, guest.encryption)).collect();
    let mut line = Line::new(&stream, Instant::now() + HANDSHAKE_TIMEOUT, heard);
    let meant = line.answer_for(&swarms)?;
    let swarm = line.hear_swarm()?;
    let rest = line.finish();
    let guest = guests.iter().find(|guest| guest.info_hash == swarm && guest.is_open()).ok_or(ANOTHER)?;
    match meant {
        None if guest.encryption == Encryption::Require => return Err(Gone::Handshake("not encrypted")),
        Some(meant) if meant != swarm => return Err(ANOTHER),
        _ => {}
    }
    // Where it fails, the lobby is about to hang up.
    if let Some(stream) = Arc::into_inner(stream) {
        guest.receive(stream, addr, Some(Box::new(Greeting { rest })));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
