//! Who is connected: from a key to the peer's shared state. The lock is held for a look or a change, never while anything
//! is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::state::Peer;
use crate::types::{PeerId, PeerKey};

/// A connection that moved a block within this time is in use.
const JUST_MOVED: Duration = Duration::from_secs(60);

/// The connected peers of one torrent.
#[derive(Default)]
pub struct Roster {
    peers: Mutex<HashMap<PeerKey, Arc<Peer>>>,
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
    /// Enters a peer, unless there is a connection to the same peer id at the same address (an id alone is easily copied). When both sides called each other at the same time, both
    /// must keep the same connection: the one that was opened by the side with the greater id. Where that is us, a connection that has
    /// just moved blocks also stays against one from another address; see [`twins`](crate::swarm::quality::twins) for the rest.
    pub fn admit(&self, peer: &Arc<Peer>, ours: PeerId, now: Duration) -> Admission {
        let mut peers = self.peers.lock();
        let same = |other: &Peer| other.id == peer.id && other.addr.ip() == peer.addr.ip();
        let twin = peers.values().find(|other| same(other)).cloned();
        if let Some(twin) = &twin {
            let prefer_incoming = peer.id > ours;
            if twin.incoming == peer.incoming || peer.incoming != prefer_incoming {
                return Admission::Duplicate(twin.key);
            }
            peers.remove(&twin.key);
        } else if ours > peer.id {
            let moved = |other: &Peer| other.last_payload().is_some_and(|last| now < last + JUST_MOVED);
            if let Some(twin) = peers.values().find(|other| other.id == peer.id && moved(other)) {
                return Admission::Duplicate(twin.key);
            }
        }
        peers.insert(peer.key, peer.clone());
        twin.map_or(Admission::Admitted, Admission::Replaces)
    }

    /// Takes a peer out.
    pub fn remove(&self, key: PeerKey) {
        self.peers.lock().remove(&key);
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
