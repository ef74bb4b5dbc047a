//! What finds peers beside trackers: the DHT and local discovery, which belong to the session's host. Their threads tell of this
//! torrent's peers through channels of its own, which the main thread hears together with its reports.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};
use log::Level;

use crate::client::Registration;
use crate::discovery::dht::{DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::peer::PeerEvent;
use crate::torrent::Config;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;

/// How often it is judged whether others can reach our node of the DHT.
const REACHABILITY_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// If there was no descriptor to begin one of the two, it is tried again after this time.
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_secs(5);
/// With so many good nodes, somebody would have asked us something by then.
const MIN_GOOD_NODES: usize = 16;

/// Answers of the DHT, each of some dozens of addresses, that may wait for the main thread; others are lost.
const MAX_FOUND: usize = 64;
/// The same for neighbours.
const MAX_LSD_PEERS: usize = 256;

/// Something that the main thread hears.
pub enum LoopEvent {
    /// From a connection, the listener or a tracker.
    PeerEvent(PeerEvent),
    /// The DHT named peers.
    Dht(FoundPeers),
    /// A neighbour has the torrent.
    LocalDiscovery(SocketAddr),
}

/// The DHT and local discovery, as far as they are wanted and to be had.
pub struct Discovery {
    dht: Option<(InfoHash, Arc<DhtService>)>,
    lsd: Option<(InfoHash, Arc<Lsd>)>,
    found: Receiver<FoundPeers>,
    lsd_peers: Receiver<(InfoHash, SocketAddr)>,
    next_reachability_check: Duration,
    /// Whether the DHT is still to be begun, and whether local discovery is.
    not_started: (bool, bool),
    /// When this is tried again.
    retry_at: Duration,
}

impl Discovery {
    /// Neither of the two.
    pub fn none() -> Discovery {
        Discovery {
            dht: None,
            lsd: None,
            found: never(),
            lsd_peers: never(),
            next_reachability_check: REACHABILITY_INTERVAL,
            not_started: (false, false),
            retry_at: Duration::MAX,
        }
    }

    /// Looks for peers of a torrent that is not private, as far as its configuration and its host allow, and announces that we
    /// listen.
    pub fn start(config: &Config, info_hash: InfoHash, registration: &Registration, now: Duration) -> Discovery {
        let mut discovery = Discovery::none();
        discovery.not_started = (config.dht.is_some(), config.lsd);
        discovery.try_start(config, info_hash, registration, now);
        discovery
    }

    /// Tries again to begin what there was no descriptor for, when it is time to; whether we have become a node of the DHT.
    pub fn retry_start(
        &mut self,
        config: &Config,
        info_hash: InfoHash,
        registration: &Registration,
        now: Duration,
    ) -> bool {
        let had_dht = self.has_dht();
        if now >= self.retry_at {
            self.try_start(config, info_hash, registration, now);
        }
        self.has_dht() && !had_dht
    }

    fn try_start(&mut self, config: &Config, info_hash: InfoHash, registration: &Registration, now: Duration) {
        self.retry_at = Duration::MAX;
        if self.not_started.0 {
            let (tell, found) = bounded(MAX_FOUND);
            let begun = registration.start_dht_search(&tell);
            self.not_started.0 = self.should_retry("DHT", Level::Warn, begun.as_ref().err(), now);
            if let Ok(Some(dht)) = begun {
                dht.add_hosts(config.nodes.clone());
                (self.dht, self.found) = (Some((info_hash, dht)), found);
            }
        }
        if self.not_started.1 {
            let (tell, lsd_peers) = bounded(MAX_LSD_PEERS);
            let begun = registration.start_lsd_search(tell);
            self.not_started.1 = self.should_retry("local discovery", Level::Info, begun.as_ref().err(), now);
            if let Ok(Some(lsd)) = begun {
                (self.lsd, self.lsd_peers) = (Some((info_hash, lsd)), lsd_peers);
            }
        }
    }

    /// Whether it only failed for want of a descriptor. Any other failure is logged, and btsync goes on without.
    fn should_retry(&mut self, what: &str, level: Level, failure: Option<&io::Error>, now: Duration) -> bool {
        let Some(error) = failure else { return false };
        let should_retry = is_shortage(error);
        if should_retry {
            self.retry_at = now + DESCRIPTOR_RETRY_DELAY;
            log::info!("no {what} yet: {error}");
        } else {
            log::log!(level, "no {what}: {error}");
        }
        should_retry
    }

    /// Whether anybody can reach us is known after a while: a node whom nobody has asked anything, though it knows others, is no
    /// use in their tables, and says so (BEP 43). `reached` says that a peer has called us.
    pub fn check_reachability(&mut self, now: Duration, reached: bool) {
        if let Some((_, dht)) = self.dht.as_ref().filter(|_| now >= self.next_reachability_check) {
            self.next_reachability_check = now + REACHABILITY_INTERVAL;
            let stats = dht.stats();
            let asked: u64 = stats.iter().map(|(_, stats)| stats.asked).sum();
            let good: usize = stats.iter().map(|(_, stats)| stats.good).sum();
            if asked == 0 && good >= MIN_GOOD_NODES && !reached {
                log::info!("nobody reaches our node of the DHT: it asks, and answers nobody");
                dht.set_read_only(true);
            } else if reached {
                dht.set_read_only(false);
            }
        }
    }

    /// When that is judged next, or something is tried again.
    pub fn next_due(&self) -> Duration {
        if self.dht.is_some() { self.next_reachability_check.min(self.retry_at) } else { self.retry_at }
    }

    /// Whether neither of the two runs, or will.
    pub fn is_none(&self) -> bool {
        self.dht.is_none() && self.lsd.is_none() && self.not_started == (false, false)
    }

    /// Whether we are a node of the DHT.
    pub fn has_dht(&self) -> bool {
        self.dht.is_some()
    }

    /// How many nodes of the DHT we know, where we take part.
    pub fn dht_nodes(&self) -> Option<usize> {
        self.dht.as_ref().map(|(_, dht)| dht.stats().iter().map(|(_, stats)| stats.nodes).sum())
    }

    /// How many network interfaces local discovery uses, where we take part.
    pub fn lsd_interfaces(&self) -> Option<usize> {
        self.lsd.as_ref().map(|(_, lsd)| lsd.interfaces())
    }

    /// A peer is a node of the DHT.
    pub fn add_node(&self, addr: SocketAddr) {
        if let Some((_, dht)) = &self.dht {
            dht.add_node(addr);
        }
    }

    /// Waits for news until `wake`; `None` when none came.
    pub fn wait(
        &mut self,
        peer_events: &Receiver<PeerEvent>,
        incoming_connections: &Receiver<PeerEvent>,
        wake: Instant,
    ) -> Option<LoopEvent> {
        select! {
            recv(peer_events) -> event => event.ok().map(LoopEvent::PeerEvent),
            recv(incoming_connections) -> caller => caller.ok().map(LoopEvent::PeerEvent),
            recv(self.found) -> found => {
                if found.is_err() {
                    self.found = never(); // its threads are gone
                }
                found.ok().map(LoopEvent::Dht)
            }
            recv(self.lsd_peers) -> neighbour => {
                if neighbour.is_err() {
                    self.lsd_peers = never();
                }
                neighbour.ok().map(|(_, addr)| LoopEvent::LocalDiscovery(addr))
            }
            default(wake.saturating_duration_since(Instant::now())) => None,
        }
    }

    /// Looks for nobody any more, and ends both where they were there for this session alone.
    pub fn stop(&mut self, registration: &Registration) {
        self.forget();
        registration.stop_discovery();
    }

    fn forget(&mut self) {
        (self.found, self.lsd_peers) = (never(), never());
        (self.not_started, self.retry_at) = ((false, false), Duration::MAX);
        if let Some((info_hash, lsd)) = self.lsd.take() {
            lsd.remove(info_hash);
        }
        if let Some((info_hash, dht)) = self.dht.take() {
            dht.forget(info_hash);
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.forget();
    }
}
