//! The connected peers of one torrent, by key. The lock is held only to look up or change an entry, never while anything is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::peer::TorrentContext;
use crate::peer::state::Peer;
use crate::strategy::quality::id_conflicts::{IdConflicts, RACE_TIME};
use crate::types::{PeerId, PeerKey};

/// How long a second connection to a peer with another client waits for that peer to close one of the two.
const DUPLICATE_TIMEOUT: Duration = Duration::from_secs(3);

/// The connected peers of one torrent.
#[derive(Default)]
pub struct Roster {
    peers: Mutex<HashMap<PeerKey, Arc<Peer>>>,
    /// Refused connections.
    conflicts: Mutex<IdConflicts>,
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
    /// copy; [`quality::duplicates`](crate::strategy::quality::duplicates) compares them later. So is one from the same address
    /// if the older connection is too old for that, or if others were refused for a while ([`IdConflicts`]): a stranger behind the
    /// peer's address may have copied its id.
    pub fn admit(&self, peer: &Arc<Peer>, ours: PeerId) -> Admission {
        let mut peers = self.peers.lock();
        let Some(duplicate) = peers.values().find(|other| may_be_duplicates(other, peer)).cloned() else {
            peers.insert(peer.key, peer.clone());
            return Admission::Admitted;
        };
        if self.conflicts.lock().admits(peer.since, peer.id, peer.addr.ip()) {
            peers.insert(peer.key, peer.clone());
            return Admission::Admitted;
        }
        if duplicate.is_incoming == peer.is_incoming {
            return Admission::Duplicate(duplicate.key);
        }
        if !peer.id.is_same_client(&ours) {
            return self.wait_for_duplicate(&duplicate, peer, peers);
        }
        if peer.is_incoming != (peer.id > ours) {
            return Admission::Duplicate(duplicate.key);
        }
        peers.remove(&duplicate.key);
        peers.insert(peer.key, peer.clone());
        Admission::Replaces(duplicate)
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
        if let Some(third) = peers.values().find(|other| may_be_duplicates(other, peer)) {
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

/// Whether both connections may belong to one peer, each opened by one side at the same time.
fn may_be_duplicates(older: &Peer, newer: &Peer) -> bool {
    older.id == newer.id && older.addr.ip() == newer.addr.ip() && newer.since < older.since + RACE_TIME
}

/// Requests blocks that have become free from idle peers, first from peers whose rate is known.
pub fn refill_idle_peers(context: &TorrentContext) {
    context.web_seeds.wake();
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

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::peer::outbox::outbox;
    use crate::types::InfoHash;
    use crate::udp::PeerStream;
    use crate::wire::Handshake;

    const OURS: PeerId = PeerId(*b"-BY0100-000000000000");

    /// A connection of the peer with this id, which it opened at this second.
    fn incoming(key: u32, id: PeerId, second: u64, stream: &Arc<PeerStream>) -> Arc<Peer> {
        let addr = SocketAddr::from(([192, 0, 2, 1], 1000 + key as u16));
        let said = Handshake::ours(InfoHash([0; 20]), id, false);
        let since = Duration::from_secs(second);
        Arc::new(Peer::new(PeerKey(key), addr, true, &said, since, stream.clone(), outbox().0))
    }

    /// A stranger behind the address of a peer has copied its id and connects again and again, so that one of its connections is
    /// always new.
    #[test]
    fn a_copied_id_keeps_a_peer_of_the_same_address_out_for_a_minute_only() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let stream = Arc::new(PeerStream::from(stream));
        for id in [PeerId(*b"-AA0001-000000000000"), PeerId(*b"-BY0100-111111111111")] {
            let roster = Roster::default();
            let admits =
                |key, second| matches!(roster.admit(&incoming(key, id, second, &stream), OURS), Admission::Admitted);
            let mut copy = 0;
            for second in 0..200 {
                if second % 20 == 0 {
                    roster.remove(PeerKey(copy));
                    copy = 1000 + second as u32;
                    assert!(admits(copy, second), "the stranger, at {second} s");
                }
                let key = second as u32 + 1;
                assert_eq!(admits(key, second), second >= 60, "the peer, at {second} s");
                roster.remove(PeerKey(key));
            }
            // An older connection is no reason to refuse one.
            let roster = Roster::default();
            let admits =
                |key, second| matches!(roster.admit(&incoming(key, id, second, &stream), OURS), Admission::Admitted);
            assert!(admits(1, 0) && !admits(2, 29) && admits(3, 30));
        }
    }
}
