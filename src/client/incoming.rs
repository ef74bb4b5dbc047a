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

use crate::client::registry::{RegisteredTorrent, TorrentRegistry};
use crate::peer::connection::HANDSHAKE_TIMEOUT;
use crate::peer::encryption::PeerStream;
use crate::peer::{DisconnectReason, IncomingHandshake};
use crate::strategy::eviction::{EvictionCandidate, EvictionLimiter, Handshake, Usefulness, evicted};
use crate::types::{Encryption, PeerKey};

/// Pending handshakes at a time. With 300 silent connections a second there is still room for others.
const MAX_PENDING_HANDSHAKES: usize = 128;
/// An address may fill more than this only while nobody else calls.
const FAIR_SHARE_PER_NETWORK: usize = MAX_PENDING_HANDSHAKES / 4;
/// Callers that were hung up on to make room and whose threads have not ended yet, at most.
const MAX_CLOSING: usize = 24;
/// As much as a connection's threads have; little of it is touched.
const STACK: usize = 256 * 1024;

/// See the module's head.
pub struct IncomingHandshaker {
    registry: Arc<TorrentRegistry>,
    pending: Vec<PendingHandshake>,
    next_key: u32,
    /// The clock begins here.
    started: Instant,
    /// The stack of a caller's thread, in bytes.
    stack: usize,
}

/// A caller that is being asked.
struct PendingHandshake {
    key: PeerKey,
    host: IpAddr,
    /// Its thread's, for as long as it is not handed on.
    stream: Weak<TcpStream>,
    thread: JoinHandle<()>,
    /// When the connection was accepted.
    since: Duration,
    /// Whether any byte of its handshake has arrived.
    received: Arc<AtomicBool>,
    /// It was hung up on to make room.
    is_closing: bool,
}

impl IncomingHandshaker {
    /// A lobby behind this door.
    pub fn new(registry: Arc<TorrentRegistry>) -> IncomingHandshaker {
        IncomingHandshaker { registry, pending: Vec::new(), next_key: 0, started: Instant::now(), stack: STACK }
    }

    /// Somebody calls.
    pub fn receive(&mut self, stream: TcpStream, addr: SocketAddr) {
        let accepting = self.registry.accepting();
        match accepting.as_slice() {
            [] => {}
            [only] => only.receive(stream, addr, None),
            _ => self.identify(stream, addr, accepting),
        }
    }

    fn identify(&mut self, stream: TcpStream, addr: SocketAddr, torrents: Vec<Arc<RegisteredTorrent>>) {
        let (over, still): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.thread.is_finished());
        self.pending = still;
        over.into_iter().for_each(PendingHandshake::join);
        if self.pending.iter().filter(|pending| !pending.is_closing).count() >= MAX_PENDING_HANDSHAKES
            && !self.evict_for(addr.ip())
        {
            log::debug!("{addr}: turned away, too many callers at a time");
            return;
        }
        let stream = Arc::new(stream);
        let (held, received) = (Arc::downgrade(&stream), Arc::new(AtomicBool::new(false)));
        let noted = received.clone();
        let work = move || {
            let asked = catch_unwind(AssertUnwindSafe(|| deliver(stream, addr, &noted, &torrents)));
            if let Err(why) = asked.unwrap_or(Err(DisconnectReason::Bug)) {
                log::debug!("{addr}: {why}");
            }
        };
        match Builder::new().name("lobby".into()).stack_size(self.stack).spawn(work) {
            Ok(thread) => {
                let key = PeerKey(self.next_key);
                self.next_key = self.next_key.wrapping_add(1);
                let since = self.started.elapsed();
                self.pending.push(PendingHandshake {
                    key,
                    host: addr.ip(),
                    stream: held,
                    thread,
                    since,
                    received,
                    is_closing: false,
                });
            }
            Err(error) => {
                // No thread is left. Silent callers hold some of them, and each of them ends one.
                log::debug!("cannot ask {addr} which torrent it means: {error}");
                self.evict_for(addr.ip());
            }
        }
    }

    /// Hangs up on a caller that has said nothing, or on one of the fullest network: neither many silent callers nor a network with many
    /// addresses must keep everybody out.
    fn evict_for(&mut self, newcomer: IpAddr) -> bool {
        if self.pending.iter().filter(|pending| pending.is_closing).count() >= MAX_CLOSING {
            return false;
        }
        let staying = self.pending.iter().filter(|pending| !pending.is_closing);
        let incoming_connections: Vec<_> = staying.map(PendingHandshake::occupant).collect();
        let now = self.started.elapsed();
        let Some(gone) =
            evicted(newcomer, &incoming_connections, FAIR_SHARE_PER_NETWORK, &EvictionLimiter::default(), now)
        else {
            return false;
        };
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.key == gone.key) else { return false };
        pending.is_closing = true;
        pending.disconnect();
        true
    }
}

impl Drop for IncomingHandshaker {
    fn drop(&mut self) {
        self.pending.iter().for_each(PendingHandshake::disconnect);
        self.pending.drain(..).for_each(PendingHandshake::join);
    }
}

impl PendingHandshake {
    fn occupant(&self) -> EvictionCandidate {
        let handshake = if self.received.load(Ordering::Relaxed) { Handshake::Begun } else { Handshake::Silent };
        EvictionCandidate {
            key: self.key,
            host: self.host,
            handshake,
            since: self.since,
            moved: self.since,
            usefulness: Usefulness::Unknown,
            total: 0,
            recent: 0,
        }
    }

    fn disconnect(&self) {
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
fn deliver(
    stream: Arc<TcpStream>,
    addr: SocketAddr,
    received: &AtomicBool,
    torrents: &[Arc<RegisteredTorrent>],
) -> Result<(), DisconnectReason> {
    const ANOTHER: DisconnectReason = DisconnectReason::Handshake("another torrent");
    let swarms: Vec<_> = torrents.iter().map(|torrent| (torrent.info_hash, torrent.encryption)).collect();
    let mut line = PeerStream::new(&stream, Instant::now() + HANDSHAKE_TIMEOUT, received);
    let meant = line.respond_for_any(&swarms)?;
    let swarm = line.read_info_hash()?;
    let rest = line.finish();
    let torrent =
        torrents.iter().find(|torrent| torrent.info_hash == swarm && torrent.is_accepting()).ok_or(ANOTHER)?;
    match meant {
        None if torrent.encryption == Encryption::Require => return Err(DisconnectReason::Handshake("not encrypted")),
        Some(meant) if meant != swarm => return Err(ANOTHER),
        _ => {}
    }
    // Where it fails, the lobby is about to hang up.
    if let Some(stream) = Arc::into_inner(stream) {
        torrent.receive(stream, addr, Some(Box::new(IncomingHandshake { rest })));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
