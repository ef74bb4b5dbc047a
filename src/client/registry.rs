//! The torrents that an incoming connection can be for: those that run, and dormant ones, which the program starts once somebody
//! connects for them. The threads that handle incoming connections look them up; the torrents' loops and the program add and
//! remove them.

mod dormant;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use crate::mse::obfuscated_info_hash;
use crate::peer::encryption::OfferedTorrents;
use crate::peer::{IncomingConnection, IncomingHandshake};
use crate::types::{Encryption, InfoHash};
use crate::udp::PeerStream;
use crate::util::atomics::Flag;

pub use dormant::{DormantRegistration, WakeFn, WakeReason};
use dormant::{DormantTorrent, WaitingConnection};

/// How long an incoming connection waits for a busy torrent to take it.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(100);

/// The torrents of a client, including those that accept no connections yet.
#[derive(Default)]
pub struct TorrentRegistry {
    state: Mutex<RegistryState>,
    /// Signalled when a torrent starts to accept connections, when a connection that waits for one is closed, and at the end.
    changed: Condvar,
    /// Whether a peer outside of private networks has ever connected to us, so that seeds need not dial leechers.
    pub has_had_public_peer: Flag,
    /// Whether such a host has ever connected to our port, for whatever torrent or none.
    pub has_had_public_connection: Flag,
}

#[derive(Default)]
struct RegistryState {
    torrents: HashMap<InfoHash, Arc<RegisteredTorrent>>,
    dormant: HashMap<InfoHash, DormantTorrent>,
    /// The info-hashes of both, by their obfuscated forms in encrypted handshakes.
    by_obfuscated_hash: HashMap<[u8; 20], InfoHash>,
    next_dormant: u64,
    /// The connections that wait for a dormant torrent to start, in the order of their arrival.
    waiting: Vec<WaitingConnection>,
    next_waiting: u64,
    is_closed: bool,
}

/// A torrent, as incoming connections find it.
pub struct RegisteredTorrent {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The encryption policy for its connections.
    pub encryption: Encryption,
    /// Whether it accepts connections now; it does not while it checks its files.
    accepting: Flag,
    incoming_connections: Sender<IncomingConnection>,
}

/// For how many torrents an incoming connection can be.
pub enum IncomingChoice {
    /// For none.
    None,
    /// Only for this one, so that its handshake need not be read.
    One(Arc<RegisteredTorrent>),
    /// For several, or for a dormant one.
    Several,
}

impl RegistryState {
    /// The policy of a torrent that takes connections, now or once it has started.
    fn policy(&self, info_hash: InfoHash) -> Option<Encryption> {
        let running = self.torrents.get(&info_hash).filter(|torrent| torrent.is_accepting());
        running.map(|torrent| torrent.encryption).or_else(|| Some(self.dormant.get(&info_hash)?.encryption))
    }

    fn policies(&self) -> impl Iterator<Item = Encryption> {
        let running = self.torrents.values().filter(|torrent| torrent.is_accepting()).map(|torrent| torrent.encryption);
        running.chain(self.dormant.values().map(|dormant| dormant.encryption))
    }

    fn add_obfuscated(&mut self, info_hash: InfoHash) {
        self.by_obfuscated_hash.insert(obfuscated_info_hash(info_hash), info_hash);
    }

    fn remove_obfuscated(&mut self, info_hash: InfoHash) {
        if !self.torrents.contains_key(&info_hash) && !self.dormant.contains_key(&info_hash) {
            self.by_obfuscated_hash.remove(&obfuscated_info_hash(info_hash));
        }
    }
}

impl TorrentRegistry {
    /// Adds a torrent that accepts no connections yet; `None` if the client already has a torrent with this info-hash.
    pub fn register(
        &self,
        info_hash: InfoHash,
        encryption: Encryption,
        incoming_connections: Sender<IncomingConnection>,
    ) -> Option<Arc<RegisteredTorrent>> {
        let mut state = self.state.lock();
        if state.torrents.contains_key(&info_hash) {
            return None;
        }
        let torrent =
            Arc::new(RegisteredTorrent { info_hash, encryption, accepting: Flag::default(), incoming_connections });
        state.torrents.insert(info_hash, torrent.clone());
        state.add_obfuscated(info_hash);
        Some(torrent)
    }

    /// Removes a torrent.
    pub fn unregister(&self, torrent: &Arc<RegisteredTorrent>) {
        let mut state = self.state.lock();
        if state.torrents.get(&torrent.info_hash).is_some_and(|other| Arc::ptr_eq(other, torrent)) {
            state.torrents.remove(&torrent.info_hash);
            state.remove_obfuscated(torrent.info_hash);
        }
    }

    /// Sets whether a torrent accepts connections.
    pub fn set_accepting(&self, torrent: &RegisteredTorrent, is_accepting: bool) {
        torrent.accepting.set(is_accepting);
        if is_accepting {
            drop(self.state.lock()); // a connection that saw the torrent before waits by now
            self.changed.notify_all();
        }
    }

    /// For how many torrents an incoming connection can be.
    pub fn choice(&self) -> IncomingChoice {
        let state = self.state.lock();
        let mut accepting = state.torrents.values().filter(|torrent| torrent.is_accepting());
        match (accepting.next(), accepting.next(), state.dormant.is_empty()) {
            (None, _, true) => IncomingChoice::None,
            (Some(only), None, true) => IncomingChoice::One(only.clone()),
            _ => IncomingChoice::Several,
        }
    }

    /// Whether the client has a torrent with this info-hash that runs.
    pub fn has(&self, info_hash: InfoHash) -> bool {
        self.state.lock().torrents.contains_key(&info_hash)
    }

    /// The torrent with this info-hash, if it accepts connections.
    pub fn accepting(&self, info_hash: InfoHash) -> Option<Arc<RegisteredTorrent>> {
        self.state.lock().torrents.get(&info_hash).filter(|torrent| torrent.is_accepting()).cloned()
    }

    /// The encryption policy of a torrent that takes connections, now or once it has started.
    pub fn policy(&self, info_hash: InfoHash) -> Option<Encryption> {
        self.state.lock().policy(info_hash)
    }
}

impl OfferedTorrents for TorrentRegistry {
    fn any_policy(&self, is_meant: &dyn Fn(Encryption) -> bool) -> bool {
        self.state.lock().policies().any(is_meant)
    }

    fn by_obfuscated_hash(&self, hash: &[u8; 20]) -> Option<(InfoHash, Encryption)> {
        let state = self.state.lock();
        let info_hash = *state.by_obfuscated_hash.get(hash)?;
        Some((info_hash, state.policy(info_hash)?))
    }
}

impl RegisteredTorrent {
    /// Whether the torrent accepts connections.
    pub fn is_accepting(&self) -> bool {
        self.accepting.is_set()
    }

    /// Passes an incoming connection to its torrent, with the bytes received so far. If too many connections wait for the
    /// torrent, this pauses accepting for a moment; if that does not help, the connection is closed.
    pub fn receive(&self, stream: PeerStream, addr: SocketAddr, handshake: Option<Box<IncomingHandshake>>) {
        if self
            .incoming_connections
            .send_timeout(IncomingConnection { stream, addr, handshake }, HANDOVER_TIMEOUT)
            .is_err()
        {
            log::debug!("{addr}: refused, because the torrent is busy");
        }
    }
}
