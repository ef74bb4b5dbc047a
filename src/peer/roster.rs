//! The connected peers of one torrent, by key. The lock is held only to look up or change an entry, never while anything is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::types::{PeerId, PeerKey};

/// How long a second connection to a peer with another client waits for that peer to close one of the two.
const DUPLICATE_TIMEOUT: Duration = Duration::from_secs(3);

/// The connected peers of one torrent.
#[derive(Default)]
pub struct Roster {
    peers: Mutex<HashMap<PeerKey, Arc<Peer>>>,
    /// Signalled when a peer was removed.
    peer_removed: Condvar,
}

/// Whether a peer was added to the roster.
pub enum Admission {
    /// The peer was added.
    Admitted,
    /// The peer was added in place of an older connection to the same peer, which the caller has to close.
    Replaces(Arc<Peer>),
    /// Not added: a connection to this peer exists already, and it stays.
    Duplicate(PeerKey),
}

impl Roster {
    /// Adds a peer, unless there is a connection to the same peer id at the same address (an id alone is easily copied).
    ///
    /// If both sides connected to each other at the same time, both must keep the same connection. Two btsyncs keep the
    /// connection that the side with the greater id opened. Other clients have rules of their own, such as keeping the first
    /// one: with those, the second connection waits until the peer has closed one of the two, so that the two sides do not
    /// close different ones.
    ///
    /// A connection from another address is always added, because its id may be the original and that of an older connection the
    /// copy; [`quality::duplicates`](crate::strategy::quality::duplicates) compares them later.
    pub fn admit(&self, peer: &Arc<Peer>, ours: PeerId) -> Admission {
        let mut peers = self.peers.lock();
        let same = |other: &Peer| other.id == peer.id && other.addr.ip() == peer.addr.ip();
        let duplicate = peers.values().find(|other| same(other)).cloned();
        if let Some(duplicate) = &duplicate {
            if duplicate.incoming == peer.incoming {
                return Admission::Duplicate(duplicate.key);
            }
            if !peer.id.is_same_client(&ours) {
                return self.wait_for_duplicate(duplicate, peer, peers);
            }
            if peer.incoming != (peer.id > ours) {
                return Admission::Duplicate(duplicate.key);
            }
            peers.remove(&duplicate.key);
        }
        peers.insert(peer.key, peer.clone());
        duplicate.map_or(Admission::Admitted, Admission::Replaces)
    }

    /// Adds a peer once the older connection to it has ended.
    fn wait_for_duplicate(
        &self,
        duplicate: &Peer,
        peer: &Arc<Peer>,
        mut peers: MutexGuard<'_, HashMap<PeerKey, Arc<Peer>>>,
    ) -> Admission {
        let deadline = Instant::now() + DUPLICATE_TIMEOUT;
        while peers.contains_key(&duplicate.key) {
            if self.peer_removed.wait_until(&mut peers, deadline).timed_out() {
                return Admission::Duplicate(duplicate.key);
            }
        }
        // Another connection to the peer may have been added meanwhile.
        let same = |other: &&Arc<Peer>| other.id == peer.id && other.addr.ip() == peer.addr.ip();
        if let Some(third) = peers.values().find(same) {
            return Admission::Duplicate(third.key);
        }
        peers.insert(peer.key, peer.clone());
        Admission::Admitted
    }

    /// Removes a peer.
    pub fn remove(&self, key: PeerKey) {
        self.peers.lock().remove(&key);
        self.peer_removed.notify_all();
    }

    /// The peer with this key, if it is connected.
    pub fn get(&self, key: PeerKey) -> Option<Arc<Peer>> {
        self.peers.lock().get(&key).cloned()
    }

    /// The connected peers among `keys`.
    pub fn get_all(&self, keys: &[PeerKey]) -> Vec<Arc<Peer>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let peers = self.peers.lock();
        keys.iter().filter_map(|key| peers.get(key).cloned()).collect()
    }

    /// All connected peers.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    /// The number of connected peers.
    pub fn count(&self) -> usize {
        self.peers.lock().len()
    }
}

/// Requests blocks that have become free from idle peers, first from peers whose rate is known.
pub fn refill_idle_peers(context: &TorrentContext) {
    if context.pieces.is_complete() {
        return;
    }
    let peers = context.roster.all().into_iter();
    let (known, unknown): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.rates.download_rate.get() > 0);
    for peer in known.into_iter().chain(unknown) {
        peer.refresh_interest(context);
        if peer.can_request_any() && peer.requesting.pipeline.lock().is_empty() {
            peer.refill(context);
        }
    }
}
