//! Seeds that do not run: a torrent without peers costs a service no thread and no socket. The client announces it, and when
//! somebody connects for it, the program starts it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::client::Client;
use crate::client::registry::{DormantRegistration, TorrentRegistry, WakeFn, WakeReason};
use crate::discovery::DormantTorrents;
use crate::discovery::tracker::announce::{AnnouncedBefore, AnnouncedPayload, RegisteredTracker};
use crate::discovery::tracker::dormant::{
    DormantAnnounce, DormantClient, DormantId, DormantPool, DormantTracker, DormantTrackerStatus,
};
use crate::discovery::tracker::error::TrackerError;
use crate::net::networks::Network;
use crate::strategy::peer_list::PeerSource;
use crate::types::{Encryption, InfoHash};

/// A seed that does not run.
#[derive(Clone, Debug)]
pub struct DormantSeed {
    /// What is announced of it.
    pub announce: DormantAnnounce,
    /// Its trackers by tier.
    pub tiers: Vec<Vec<DormantTracker>>,
    /// Whether it is announced in the DHT too, unless it is private.
    pub uses_dht: bool,
    /// Whether a peer in the local network that searches for others wakes it, unless it is private.
    pub uses_lsd: bool,
    /// The encryption policy for connections.
    pub encryption: Encryption,
    /// The tracker that has it in its swarm already.
    pub registered_at: Option<RegisteredTracker>,
}

/// One tracker of a dormant seed.
#[derive(Clone, Debug)]
pub struct DormantTrackerView {
    /// Its URL in full, which may contain a passkey.
    pub url: String,
    /// Its tier, from 0.
    pub tier: u32,
    /// Whether an announce is under way.
    pub is_announcing: bool,
    /// When the last announce ended, if it went to this tracker.
    pub last_announce: Option<SystemTime>,
    /// The number of peers in its answer, or why there was none.
    pub last_result: Option<Result<usize, TrackerError>>,
    /// The number of seeds that it named.
    pub seeds: Option<u32>,
    /// The number of leechers that it named.
    pub leechers: Option<u32>,
    /// Its warning.
    pub warning: Option<String>,
    /// When the next announce is due, if it goes to this tracker.
    pub next_announce: Option<SystemTime>,
    /// When [`DormantGuard::reannounce`] may announce at the earliest.
    pub earliest_announce: Option<SystemTime>,
}

/// Keeps a seed known while it does not run, until it is dropped. It may be kept while the seed runs: connections then go to the
/// running torrent, which announces itself.
pub struct DormantGuard {
    client: Arc<Client>,
    registration: DormantRegistration,
    id: DormantId,
}

impl Client {
    /// Announces a seed that does not run to its trackers and in the DHT, and calls `wake` once, when the first peer connects for
    /// it, or when peers are found that cannot connect to us, so that the seed has to dial them. The program then adds the torrent,
    /// and the connection waits five seconds for that, unless the peer hangs up. At most 64 connections wait, and at most eight
    /// of a network: `wake` is called only for a connection that waits, and [`Client::waiting_networks`] names it. Anybody who
    /// knows the info-hash can cause this, so a program with many seeds limits how many it starts at a time. `wake` must return
    /// at once; it is called on a thread of the client.
    #[doc(hidden)]
    pub fn register_dormant(self: &Arc<Self>, seed: DormantSeed, wake: WakeFn) -> DormantGuard {
        let DormantSeed { announce, tiers, uses_dht, uses_lsd, encryption, registered_at } = seed;
        let is_public = !announce.is_private;
        if uses_lsd && is_public {
            self.start_lsd_for_dormant();
        }
        let registration = self.registry.register_dormant(announce.info_hash, encryption, is_public, wake);
        let id =
            self.dormant_pool().add(announce, &tiers, uses_dht && self.config.dht.is_some(), registered_at.as_ref());
        DormantGuard { client: self.clone(), registration, id }
    }

    /// The networks whose connections wait for dormant seeds to start, each as often as it has connections.
    #[doc(hidden)]
    pub fn waiting_networks(&self) -> HashMap<InfoHash, Vec<Network>> {
        self.registry.waiting_networks()
    }

    /// Starts local discovery for torrents that do not run.
    fn start_lsd_for_dormant(self: &Arc<Self>) {
        if let Some(port) = self.port().filter(|_| self.config.uses_lsd) {
            match self.start_lsd(port) {
                Ok(Some(lsd)) => lsd.dormant().set(|| Box::new(self.dormant_client())),
                Ok(None) => {}
                Err(error) => log::info!("no local discovery: {error}"),
            }
        }
    }

    fn dormant_client(self: &Arc<Self>) -> DormantClientRef {
        DormantClientRef { registry: self.registry.clone(), client: Arc::downgrade(self) }
    }

    fn dormant_pool(self: &Arc<Self>) -> &DormantPool {
        self.dormant.get_or_init(|| DormantPool::new(self.config.route.clone(), Box::new(self.dormant_client())))
    }
}

impl DormantGuard {
    /// Has `wake` called when the next peer connects while the seed does not run, or at once if a connection waits: after it has
    /// run, or after the program has decided not to start it yet.
    pub fn rearm(&self, wake: WakeFn) {
        self.registration.rearm(wake);
    }

    /// Records that the seed has run and has ended. `registered_at` is the tracker that still has it in its swarm; `None` if its
    /// trackers have been told that it stopped. `payload` is that of the whole session, this run included.
    pub fn note_run_ended(&self, registered_at: Option<&RegisteredTracker>, payload: AnnouncedPayload) {
        self.pool().note_run_ended(self.id, registered_at, payload);
    }

    /// Replaces its trackers.
    pub fn set_trackers(&self, tiers: &[Vec<DormantTracker>]) {
        self.pool().set_trackers(self.id, tiers);
    }

    /// Announces it as soon as its tracker allows. Returns how long that takes; `None` if it has no tracker.
    pub fn reannounce(&self) -> Option<Duration> {
        self.pool().reannounce(self.id)
    }

    /// Its trackers, by tier.
    pub fn trackers(&self) -> Vec<DormantTrackerView> {
        let (trackers, now) = self.pool().tracker_status(self.id);
        let clock = SystemTime::now();
        let time = |due: Duration| clock.checked_add(due.saturating_sub(now));
        let view = |DormantTrackerStatus { url, tier, is_announcing, last, next, earliest }: DormantTrackerStatus| {
            DormantTrackerView {
                url,
                tier,
                is_announcing,
                last_announce: last.as_ref().map(|last| last.at),
                seeds: last.as_ref().and_then(|last| last.seeds),
                leechers: last.as_ref().and_then(|last| last.leechers),
                warning: last.as_ref().and_then(|last| last.warning.clone()),
                last_result: last.map(|last| last.peers),
                next_announce: next.and_then(time),
                earliest_announce: earliest.and_then(time),
            }
        };
        trackers.into_iter().map(view).collect()
    }

    /// The seed stops: tells the tracker that knows it, and forgets it.
    pub fn stop(&self) {
        self.pool().remove(self.id, true);
    }

    /// What a run has to know of its trackers, so that they see one peer that is always there. `payload` is that of the session.
    pub fn announced(&self, payload: AnnouncedPayload) -> AnnouncedBefore {
        AnnouncedBefore { payload, registered_at: self.pool().registered(self.id) }
    }

    fn pool(&self) -> &DormantPool {
        self.client.dormant_pool()
    }
}

impl Drop for DormantGuard {
    fn drop(&mut self) {
        self.pool().remove(self.id, false);
    }
}

/// The client, as the announces of dormant torrents see it.
struct DormantClientRef {
    registry: Arc<TorrentRegistry>,
    client: Weak<Client>,
}

impl DormantClient for DormantClientRef {
    fn is_running(&self, info_hash: InfoHash) -> bool {
        self.registry.has(info_hash)
    }

    fn port(&self) -> Option<u16> {
        self.client.upgrade()?.announced_port()
    }

    fn has_had_public_peer(&self) -> bool {
        self.registry.has_had_public_peer.is_set()
    }

    fn found_leechers(&self, info_hash: InfoHash, peers: &[SocketAddr]) {
        self.registry.wake(info_hash, WakeReason::Found(peers.to_vec(), PeerSource::Tracker));
    }

    fn announce_in_dht(&self, info_hash: InfoHash) {
        let Some(client) = self.client.upgrade() else { return };
        match client.dht().zip(client.dht_port()) {
            Some((dht, port)) => {
                dht.dormant().set(|| Box::new(client.dormant_client()));
                client.update_implied_port();
                dht.announce_once_with_ports(info_hash, client.mapped_ports().tcp.unwrap_or(port), port);
            }
            None => log::debug!("the DHT does not run, so {info_hash} is not announced there"),
        }
    }
}

impl DormantTorrents for DormantClientRef {
    fn has(&self, info_hash: InfoHash) -> bool {
        self.registry.is_dormant_and_public(info_hash)
    }

    /// If peers can connect to us, those that need us do.
    fn found_in_dht(&self, info_hash: InfoHash, peers: Vec<SocketAddr>) {
        if !self.registry.has_had_public_peer.is_set() {
            self.registry.wake(info_hash, WakeReason::Found(peers, PeerSource::Dht));
        }
    }

    /// The peer does not know of us, because we do not announce torrents nearby that do not run.
    fn found_by_lsd(&self, info_hash: InfoHash, peer: SocketAddr) {
        self.registry.wake(info_hash, WakeReason::Found(vec![peer], PeerSource::LocalDiscovery));
    }
}
