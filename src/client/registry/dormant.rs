//! Dormant torrents: they do not run, but the program starts them when somebody connects for them. The connection waits for that.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::registry::{RegisteredTorrent, RegistryState, TorrentRegistry};
use crate::net::networks::Network;
use crate::strategy::peer_list::PeerSource;
use crate::types::{Encryption, InfoHash};
use crate::util::atomics::Flag;

/// How long a connection waits for its torrent to start. The tests' connections wait for each other first.
const START_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 600 } else { 5 });
/// The most connections that wait for a torrent to start. Each holds the thread of a pending handshake, of which there are more.
const MAX_WAITING: usize = 64;
/// The most of these from one network.
const MAX_WAITING_OF_NETWORK: usize = 8;
/// How often a connection that waits is looked at: one whose peer has hung up waits no longer.
const HANG_UP_CHECK: Duration = Duration::from_millis(200);

/// Called when a dormant torrent has to start, on a thread of the client. It must not wait for anything.
pub type WakeFn = Arc<dyn Fn(WakeReason) + Send + Sync>;

/// Why a dormant torrent has to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// A peer has connected for it, and waits for five seconds; see [`TorrentRegistry::waiting_networks`].
    Connection,
    /// These peers were found, and cannot connect to us or do not know of us.
    Found(Vec<SocketAddr>, PeerSource),
}

/// A torrent that does not run.
pub(super) struct DormantTorrent {
    id: u64,
    pub(super) encryption: Encryption,
    /// Whether peers of any source may wake it; if not, only those of its trackers, and connections.
    is_public: bool,
    /// `None` once it has been called.
    wake: Option<WakeFn>,
}

/// A connection that waits for its torrent to start.
pub(super) struct WaitingConnection {
    id: u64,
    info_hash: InfoHash,
    network: Network,
}

/// A dormant torrent's place in the registry, until it is dropped.
pub struct DormantRegistration {
    registry: Arc<TorrentRegistry>,
    info_hash: InfoHash,
    id: u64,
}

impl TorrentRegistry {
    /// Adds a dormant torrent, in place of an earlier one with the same info-hash. `wake` is called once, when the first connection
    /// for it arrives while it does not run.
    pub fn register_dormant(
        self: &Arc<Self>,
        info_hash: InfoHash,
        encryption: Encryption,
        is_public: bool,
        wake: WakeFn,
    ) -> DormantRegistration {
        let mut state = self.state.lock();
        let id = state.next_dormant;
        state.next_dormant += 1;
        state.dormant.insert(info_hash, DormantTorrent { id, encryption, is_public, wake: Some(wake) });
        state.add_obfuscated(info_hash);
        DormantRegistration { registry: self.clone(), info_hash, id }
    }

    /// The torrent that a connection from `ip` names, once it accepts connections; wakes it if it is dormant. `None` if it does
    /// not start soon, if too many connections wait, if the peer hangs up, or if `closing` is set, which
    /// [`TorrentRegistry::wake_waiting`] makes known.
    pub fn wait_for(
        &self,
        info_hash: InfoHash,
        ip: IpAddr,
        closing: &Flag,
        has_hung_up: impl Fn() -> bool,
    ) -> Option<Arc<RegisteredTorrent>> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut state = self.state.lock();
        if !state.dormant.contains_key(&info_hash) || !state.make_room_for(Network::public_subnet(ip)) {
            return None;
        }
        let id = state.next_waiting;
        state.next_waiting += 1;
        state.waiting.push(WaitingConnection { id, info_hash, network: Network::public_subnet(ip) });
        self.changed.notify_all(); // another one may have made room
        // Only now, so that whoever is woken finds the connection.
        if let Some(wake) = state.dormant.get_mut(&info_hash).and_then(|dormant| dormant.wake.take()) {
            drop(state);
            wake(WakeReason::Connection);
            state = self.state.lock();
        }
        let mut next_check = Instant::now() + HANG_UP_CHECK;
        let found = loop {
            if state.is_closed || closing.is_set() || state.waiting.iter().all(|waiting| waiting.id != id) {
                break None;
            }
            if let Some(torrent) = state.torrents.get(&info_hash).filter(|torrent| torrent.is_accepting()) {
                break Some(torrent.clone());
            }
            let now = Instant::now();
            if now >= deadline || (now >= next_check && has_hung_up()) {
                break None;
            }
            if now >= next_check {
                next_check = now + HANG_UP_CHECK;
            }
            self.changed.wait_until(&mut state, deadline.min(next_check));
        };
        state.waiting.retain(|waiting| waiting.id != id);
        found
    }

    /// The networks whose connections wait for dormant torrents to start, each as often as it has connections.
    pub fn waiting_networks(&self) -> HashMap<InfoHash, Vec<Network>> {
        let mut networks: HashMap<InfoHash, Vec<Network>> = HashMap::new();
        for WaitingConnection { info_hash, network, .. } in &self.state.lock().waiting {
            networks.entry(*info_hash).or_default().push(*network);
        }
        networks
    }

    /// Whether there is such a dormant torrent that does not run and is not private.
    pub fn is_dormant_and_public(&self, info_hash: InfoHash) -> bool {
        let state = self.state.lock();
        !state.torrents.contains_key(&info_hash)
            && state.dormant.get(&info_hash).is_some_and(|dormant| dormant.is_public)
    }

    /// Wakes a dormant torrent that has not been woken yet and does not run.
    pub fn wake(&self, info_hash: InfoHash, reason: WakeReason) {
        let mut state = self.state.lock();
        if state.torrents.contains_key(&info_hash) {
            return;
        }
        let wake = state.dormant.get_mut(&info_hash).and_then(|dormant| dormant.wake.take());
        drop(state);
        if let Some(wake) = wake {
            wake(reason);
        }
    }

    /// Makes connections look whether they have to end that wait for a torrent to start.
    pub fn wake_waiting(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// Sets whether the client listens. If not, no connection waits any more.
    pub fn set_listening(&self, is_listening: bool) {
        self.state.lock().is_closed = !is_listening;
        self.changed.notify_all();
    }

    /// How many connections wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }
}

impl RegistryState {
    /// Whether one more connection of a network may wait. If too many wait, the network that has the most of them gives up its
    /// oldest to a network that has far fewer.
    fn make_room_for(&mut self, network: Network) -> bool {
        let of_network = |of: Network| self.waiting.iter().filter(|waiting| waiting.network == of).count();
        let own = of_network(network);
        if own >= MAX_WAITING_OF_NETWORK {
            return false;
        }
        if self.waiting.len() < MAX_WAITING {
            return true;
        }
        // They are in the order of their arrival.
        let counts = self.waiting.iter().enumerate().map(|(at, waiting)| (of_network(waiting.network), at));
        match counts.max_by_key(|(count, at)| (*count, std::cmp::Reverse(*at))) {
            Some((count, at)) if count >= 2 * (own + 1) => {
                self.waiting.remove(at);
                true
            }
            _ => false,
        }
    }
}

impl DormantRegistration {
    /// Has `wake` called when the next connection for the torrent arrives while it does not run, or at once if one waits.
    pub fn rearm(&self, wake: WakeFn) {
        let mut state = self.registry.state.lock();
        let RegistryState { dormant, waiting, .. } = &mut *state;
        let Some(dormant) = dormant.get_mut(&self.info_hash).filter(|dormant| dormant.id == self.id) else { return };
        if waiting.iter().any(|waiting| waiting.info_hash == self.info_hash) {
            dormant.wake = None;
            drop(state);
            wake(WakeReason::Connection);
        } else {
            dormant.wake = Some(wake);
        }
    }
}

impl Drop for DormantRegistration {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        if state.dormant.get(&self.info_hash).is_some_and(|dormant| dormant.id == self.id) {
            state.dormant.remove(&self.info_hash);
            state.remove_obfuscated(self.info_hash);
        }
    }
}
