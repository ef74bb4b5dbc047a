//! Finds out which torrent an incoming connection is for: its handshake says so (BEP 3), or the encrypted start of it. If only
//! one torrent accepts connections, it gets the connection at once. A connection for a dormant torrent waits until that has started.
//!
//! The handshaker belongs to the listener's thread. Each connection that it has to read from gets a short-lived thread. Their
//! number is bounded, and each lasts no longer than a handshake may take. When full, it evicts a connection of the IP address
//! or network with the most pending handshakes.

use std::net::{IpAddr, Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::client::registry::{IncomingChoice, TorrentRegistry};
use crate::net::networks::is_private;
use crate::peer::connection::HANDSHAKE_TIMEOUT;
use crate::peer::encryption::HandshakeStream;
use crate::peer::{DisconnectReason, IncomingHandshake};
use crate::strategy::eviction::{EvictionCandidate, EvictionLimiter, HandshakeProgress, Usefulness, choose_eviction};
use crate::types::{Encryption, PeerKey};
use crate::udp::PeerStream;
use crate::util::atomics::Flag;

/// Pending handshakes at a time. Even with 300 silent connections a second, there is still room for others.
const MAX_PENDING_HANDSHAKES: usize = 128;
/// An address may have more pending handshakes than this only while nobody else connects.
const FAIR_SHARE_PER_NETWORK: usize = MAX_PENDING_HANDSHAKES / 4;
/// Evicted connections whose threads have not ended yet, at most.
const MAX_CLOSING: usize = 24;
/// The same as for a connection's threads; little of it is touched.
const STACK: usize = 256 * 1024;

/// See the module's documentation.
pub struct IncomingHandshaker {
    registry: Arc<TorrentRegistry>,
    pending: Vec<PendingHandshake>,
    /// The handshakes have keys of their own, unrelated to those of connections.
    next_key: u32,
    /// The start of the clock.
    started: Instant,
    /// The stack size of a handshake's thread, in bytes.
    stack: usize,
}

/// An incoming connection whose torrent is not known yet.
struct PendingHandshake {
    key: PeerKey,
    ip: IpAddr,
    /// The thread owns the stream until it passes it on.
    stream: Weak<PeerStream>,
    thread: JoinHandle<()>,
    /// When the connection was accepted.
    since: Duration,
    /// Whether any byte of its handshake has arrived.
    has_received: Arc<Flag>,
    /// Set if it has to end while it waits for its torrent.
    closing: Arc<Flag>,
    /// Whether it was evicted to make room.
    is_closing: bool,
}

impl IncomingHandshaker {
    /// A handshaker for the torrents of `registry`.
    pub fn new(registry: Arc<TorrentRegistry>) -> IncomingHandshaker {
        registry.set_listening(true);
        IncomingHandshaker { registry, pending: Vec::new(), next_key: 0, started: Instant::now(), stack: STACK }
    }

    /// Takes an incoming connection.
    pub fn receive(&mut self, stream: PeerStream, addr: SocketAddr) {
        if !is_private(addr.ip()) {
            self.registry.has_had_public_connection.set(true);
        }
        match self.registry.choice() {
            IncomingChoice::None => {}
            IncomingChoice::One(only) => only.receive(stream, addr, None),
            IncomingChoice::Several => self.find_torrent(stream, addr),
        }
    }

    fn find_torrent(&mut self, stream: PeerStream, addr: SocketAddr) {
        let (over, still): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.thread.is_finished());
        self.pending = still;
        over.into_iter().for_each(PendingHandshake::join);
        if self.pending.iter().filter(|pending| !pending.is_closing).count() >= MAX_PENDING_HANDSHAKES
            && !self.evict_for(addr.ip())
        {
            log::debug!("{addr}: refused, because too many handshakes are pending");
            return;
        }
        let stream = Arc::new(stream);
        let (held, has_received) = (Arc::downgrade(&stream), Arc::new(Flag::default()));
        let (noted, registry) = (has_received.clone(), self.registry.clone());
        let closing = Arc::new(Flag::default());
        let ends = closing.clone();
        let work = move || {
            let asked = catch_unwind(AssertUnwindSafe(|| deliver(stream, addr, &noted, &ends, &registry)));
            if let Err(why) = asked.unwrap_or(Err(DisconnectReason::Bug)) {
                log::debug!("{addr}: {why}");
            }
        };
        match Builder::new().name("handshake".into()).stack_size(self.stack).spawn(work) {
            Ok(thread) => {
                let key = PeerKey(self.next_key);
                self.next_key = self.next_key.wrapping_add(1);
                let since = self.started.elapsed();
                self.pending.push(PendingHandshake {
                    key,
                    ip: addr.ip(),
                    stream: held,
                    thread,
                    since,
                    has_received,
                    closing,
                    is_closing: false,
                });
            }
            Err(error) => {
                // No thread could be started. Silent connections hold some threads: evict one of them.
                log::debug!("cannot start a thread for the handshake of {addr}: {error}");
                self.evict_for(addr.ip());
            }
        }
    }

    /// Evicts a connection that has sent nothing, or one of the network with the most: neither many silent connections nor a
    /// network with many addresses may keep everyone else out. Returns whether it evicted one.
    fn evict_for(&mut self, newcomer: IpAddr) -> bool {
        if self.pending.iter().filter(|pending| pending.is_closing).count() >= MAX_CLOSING {
            return false;
        }
        let staying = self.pending.iter().filter(|pending| !pending.is_closing);
        let incoming_connections: Vec<_> = staying.map(PendingHandshake::eviction_candidate).collect();
        let now = self.started.elapsed();
        let Some(gone) =
            choose_eviction(newcomer, &incoming_connections, FAIR_SHARE_PER_NETWORK, &EvictionLimiter::default(), now)
        else {
            return false;
        };
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.key == gone.key) else { return false };
        pending.is_closing = true;
        pending.disconnect();
        self.registry.wake_waiting();
        true
    }
}

impl Drop for IncomingHandshaker {
    fn drop(&mut self) {
        self.registry.set_listening(false);
        self.pending.iter().for_each(PendingHandshake::disconnect);
        self.pending.drain(..).for_each(PendingHandshake::join);
    }
}

impl PendingHandshake {
    fn eviction_candidate(&self) -> EvictionCandidate {
        let handshake = if self.has_received.is_set() { HandshakeProgress::Begun } else { HandshakeProgress::Silent };
        EvictionCandidate {
            key: self.key,
            ip: self.ip,
            handshake,
            since: self.since,
            last_block: self.since,
            usefulness: Usefulness::Unknown,
            total: 0,
            recent: 0,
        }
    }

    fn disconnect(&self) {
        self.closing.set(true);
        if let Some(stream) = self.stream.upgrade() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn join(self) {
        if self.thread.join().is_err() {
            log::error!("a handshake thread panicked");
        }
    }
}

/// Receives a handshake up to the info-hash, and passes the connection to its torrent, which answers the handshake.
fn deliver(
    stream: Arc<PeerStream>,
    addr: SocketAddr,
    has_received: &Flag,
    closing: &Flag,
    registry: &TorrentRegistry,
) -> Result<(), DisconnectReason> {
    const ANOTHER: DisconnectReason = DisconnectReason::Handshake("another torrent");
    let mut handshake = HandshakeStream::new(&stream, Instant::now() + HANDSHAKE_TIMEOUT, has_received);
    let meant = handshake.respond_for_any(registry)?;
    let swarm = handshake.read_info_hash()?;
    let stream_state = handshake.finish();
    match (meant, registry.policy(swarm).ok_or(ANOTHER)?) {
        (None, Encryption::Require) => return Err(DisconnectReason::Handshake("not encrypted")),
        (Some(meant), _) if meant != swarm => return Err(ANOTHER),
        _ => {}
    }
    let wait = || registry.wait_for(swarm, addr.ip(), closing, || has_hung_up(&stream));
    let torrent = registry.accepting(swarm).or_else(wait).ok_or(ANOTHER)?;
    // If this fails, the handshaker is about to disconnect it.
    if let Some(stream) = Arc::into_inner(stream) {
        torrent.receive(stream, addr, Some(Box::new(IncomingHandshake { stream_state })));
    }
    Ok(())
}

/// Whether the other side has closed the connection, even if it has sent something before that nobody has read.
fn has_hung_up(stream: &PeerStream) -> bool {
    let mut poll = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests;
