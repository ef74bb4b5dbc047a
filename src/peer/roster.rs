//! Who is connected: from a key to the peer's shared state. The lock is held for a look or a change, never while anything
//! is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::types::{PeerId, PeerKey};

/// A connection that moved a block within this time is in use.
const RECENT_TRANSFER: Duration = Duration::from_secs(60);
/// How long a second connection to another program waits for that to end one of the two.
const DUPLICATE_TIMEOUT: Duration = Duration::from_secs(3);

/// The connected peers of one torrent.
#[derive(Default)]
pub struct Roster {
    peers: Mutex<HashMap<PeerKey, Arc<Peer>>>,
    /// A peer was removed.
    peer_removed: Condvar,
}

/// What became of a peer that wanted in.
pub enum Admission {
    /// It is in.
    Admitted,
    /// It is in, in the place of an older connection to the same peer, which is to be closed.
    Replaces(Arc<Peer>),
    /// There is a connection to this peer already, and that one stays.
    Duplicate(PeerKey),
}

impl Roster {
    /// Enters a peer, unless there is a connection to the same peer id at the same address (an id alone is easily copied).
    ///
    /// Where both sides dialled each other at the same time, both must keep the same connection. Two btsyncs keep the one that was
    /// opened by the side with the greater id. Other programs have rules of their own, such as to keep the first one: there the
    /// second connection waits until the peer has ended one of them, so that not each side ends another one.
    ///
    /// Where our id is the greater, a connection that has just moved blocks also stays against one from another address; see
    /// [`twins`](crate::strategy::quality::duplicates) for the rest.
    pub fn admit(&self, peer: &Arc<Peer>, ours: PeerId, now: Duration) -> Admission {
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
        } else if ours > peer.id {
            let moved = |other: &Peer| other.last_payload().is_some_and(|last| now < last + RECENT_TRANSFER);
            if let Some(duplicate) = peers.values().find(|other| other.id == peer.id && moved(other)) {
                return Admission::Duplicate(duplicate.key);
            }
        }
        peers.insert(peer.key, peer.clone());
        duplicate.map_or(Admission::Admitted, Admission::Replaces)
    }

    /// Enters a peer once its twin is gone.
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
        // A third connection may have been made meanwhile.
        let same = |other: &&Arc<Peer>| other.id == peer.id && other.addr.ip() == peer.addr.ip();
        if let Some(third) = peers.values().find(same) {
            return Admission::Duplicate(third.key);
        }
        peers.insert(peer.key, peer.clone());
        Admission::Admitted
    }

    /// Takes a peer out.
    pub fn remove(&self, key: PeerKey) {
        self.peers.lock().remove(&key);
        self.peer_removed.notify_all();
    }

    /// The peer of that key, while it is connected.
    pub fn get(&self, key: PeerKey) -> Option<Arc<Peer>> {
        self.peers.lock().get(&key).cloned()
    }

    /// Those of `keys` that are connected.
    pub fn pick(&self, keys: &[PeerKey]) -> Vec<Arc<Peer>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let peers = self.peers.lock();
        keys.iter().filter_map(|key| peers.get(key).cloned()).collect()
    }

    /// Everybody.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.peers.lock().len()
    }
}

/// Blocks have become free: requests them from idle peers, first from those that are known to answer.
pub fn refill_idle_peers(shared: &TorrentContext) {
    if shared.pieces.is_complete() {
        return;
    }
    let mut peers = shared.roster.all();
    peers.sort_by_key(|peer| peer.flow.load(Ordering::Relaxed) == 0);
    for peer in peers {
        peer.refresh_interest(shared);
        if peer.can_request_any() && peer.requests.lock().is_empty() {
            peer.refill(shared);
        }
    }
}
