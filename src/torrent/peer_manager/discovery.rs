//! Discovery of peers by the DHT and local discovery, which belong to the client. Their threads send this torrent's
//! peers through channels of its own, which main reads together with the events of its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use log::Level;

use crate::client::Registration;
use crate::discovery::dht::{DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::peer::{IncomingConnection, TorrentMessage};
use crate::torrent::TorrentConfig;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;

/// How often to check whether our DHT node can be reached.
const REACHABILITY_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long to wait before another attempt if there was no descriptor to start one of the two.
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_secs(5);
/// With this many good nodes, some node would have queried us by then.
const MIN_GOOD_NODES: usize = 16;

/// DHT results, each with some dozens of addresses, that may wait for main; more are dropped.
const MAX_FOUND: usize = 64;
/// The same for peers from local discovery.
const MAX_LSD_PEERS: usize = 256;

/// An event for main.
pub enum LoopEvent {
    /// A message from one of the torrent's threads.
    Message(TorrentMessage),
    /// An accepted connection.
    Incoming(IncomingConnection),
    /// Peers found by the DHT.
    Dht(FoundPeers),
    /// A peer found by local discovery.
    LocalDiscovery(SocketAddr),
    /// The router has said something new about our port.
    PortMapping,
}

/// The DHT and local discovery, if they are enabled and could be started.
pub struct Discovery {
    dht: Option<(InfoHash, Arc<DhtService>)>,
    /// Whether the torrent is a seed.
    is_seed: bool,
    lsd: Option<(InfoHash, Arc<Lsd>)>,
    found: Receiver<FoundPeers>,
    /// The other end of `found`.
    found_sender: Option<Sender<FoundPeers>>,
    lsd_peers: Receiver<(InfoHash, SocketAddr)>,
    next_reachability_check: Duration,
    /// What has yet to be started.
    not_started: NotStarted,
    /// When to try that again.
    retry_at: Duration,
}

/// Which of the two is enabled but could not be started so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct NotStarted {
    lacks_dht: bool,
    lacks_lsd: bool,
}

impl Discovery {
    /// Neither of the two.
    pub fn none() -> Discovery {
        Discovery {
            dht: None,
            is_seed: false,
            lsd: None,
            found: never(),
            found_sender: None,
            lsd_peers: never(),
            next_reachability_check: REACHABILITY_INTERVAL,
            not_started: NotStarted::default(),
            retry_at: Duration::MAX,
        }
    }

    /// Starts the search for peers of a torrent that is not private, as far as its configuration and the client allow, and
    /// announces our port.
    pub fn start(config: &TorrentConfig, info_hash: InfoHash, registration: &Registration, now: Duration) -> Discovery {
        let mut discovery = Discovery::none();
        discovery.not_started =
            NotStarted { lacks_dht: config.client.dht.is_some(), lacks_lsd: config.client.uses_lsd };
        discovery.try_start(config, info_hash, registration, now);
        discovery
    }

    /// Tries again to start what had no descriptor, if it is time to. Returns whether this has started the DHT.
    pub fn retry_start(
        &mut self,
        config: &TorrentConfig,
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

    fn try_start(&mut self, config: &TorrentConfig, info_hash: InfoHash, registration: &Registration, now: Duration) {
        self.retry_at = Duration::MAX;
        if self.not_started.lacks_dht {
            let (found_sender, found) = bounded(MAX_FOUND);
            let begun = registration.start_dht_search(&found_sender);
            self.not_started.lacks_dht = self.should_retry("DHT", Level::Warn, begun.as_ref().err(), now);
            if let Ok(Some(dht)) = begun {
                dht.add_hosts(config.search.nodes.clone());
                dht.set_seed(info_hash, self.is_seed);
                (self.dht, self.found, self.found_sender) = (Some((info_hash, dht)), found, Some(found_sender));
            }
        }
        if self.not_started.lacks_lsd {
            let (lsd_sender, lsd_peers) = bounded(MAX_LSD_PEERS);
            let begun = registration.start_lsd_search(lsd_sender);
            self.not_started.lacks_lsd = self.should_retry("local discovery", Level::Info, begun.as_ref().err(), now);
            if let Ok(Some(lsd)) = begun {
                (self.lsd, self.lsd_peers) = (Some((info_hash, lsd)), lsd_peers);
            }
        }
    }

    /// Whether it failed only for lack of a descriptor. Any other failure is logged, and btsync goes on without the service.
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

    /// Checks whether other nodes reach us. A node that knows others but has received no query is of no use in their routing
    /// tables, so it becomes read-only (BEP 43). `was_reached` tells that a peer has connected to us.
    pub fn check_reachability(&mut self, now: Duration, was_reached: bool) {
        if let Some((_, dht)) = self.dht.as_ref().filter(|_| now >= self.next_reachability_check) {
            self.next_reachability_check = now + REACHABILITY_INTERVAL;
            let stats = dht.stats();
            let asked: u64 = stats.iter().map(|(_, stats)| stats.queries_received).sum();
            let good: usize = stats.iter().map(|(_, stats)| stats.good).sum();
            if asked == 0 && good >= MIN_GOOD_NODES && !was_reached {
                log::info!("no other DHT node reaches ours: it now only sends queries (BEP 43)");
                dht.set_read_only(true);
            } else if was_reached {
                dht.set_read_only(false);
            }
        }
    }

    /// When the next check or the next attempt is due.
    pub fn next_due(&self) -> Duration {
        if self.dht.is_some() { self.next_reachability_check.min(self.retry_at) } else { self.retry_at }
    }

    /// Whether neither of the two runs or will run.
    pub fn is_none(&self) -> bool {
        self.dht.is_none() && self.lsd.is_none() && self.not_started == NotStarted::default()
    }

    /// Whether the DHT runs.
    pub fn has_dht(&self) -> bool {
        self.dht.is_some()
    }

    /// The number of DHT nodes that we know, if the DHT runs.
    pub fn dht_nodes(&self) -> Option<usize> {
        self.dht.as_ref().map(|(_, dht)| dht.stats().iter().map(|(_, stats)| stats.nodes).sum())
    }

    /// The number of network interfaces that local discovery uses, if it runs.
    pub fn lsd_interfaces(&self) -> Option<usize> {
        self.lsd.as_ref().map(|(_, lsd)| lsd.interfaces())
    }

    /// Adds a peer that is a DHT node.
    pub fn add_node(&self, addr: SocketAddr) {
        if let Some((_, dht)) = &self.dht {
            dht.add_node(addr);
        }
    }

    /// Tells the DHT whether the torrent is a seed (BEP 33).
    pub fn set_seed(&mut self, is_seed: bool) {
        self.is_seed = is_seed;
        if let Some((info_hash, dht)) = &self.dht {
            dht.set_seed(*info_hash, is_seed);
        }
    }

    /// Announces these ports in the DHT, over IPv4 and over IPv6, in place of the former ones.
    pub fn announce_ports(&self, v4: u16, v6: u16) {
        if let Some(((info_hash, dht), found_sender)) = self.dht.as_ref().zip(self.found_sender.as_ref()) {
            dht.search_with_ports(*info_hash, v4, v6, found_sender);
        }
    }

    /// Waits for an event until `wake`; `None` if there was none.
    pub fn wait(
        &mut self,
        messages: &Receiver<TorrentMessage>,
        registration: &Registration,
        wake: Instant,
    ) -> Option<LoopEvent> {
        select! {
            recv(messages) -> message => message.ok().map(LoopEvent::Message),
            recv(registration.mapping_changes()) -> _ => Some(LoopEvent::PortMapping),
            recv(registration.incoming_connections()) -> connection => connection.ok().map(LoopEvent::Incoming),
            recv(self.found) -> found => {
                if found.is_err() {
                    self.found = never(); // its threads have ended
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

    /// Stops the search, and both services if the client serves only this torrent.
    pub fn stop(&mut self, registration: &Registration) {
        self.forget();
        registration.stop_discovery();
    }

    fn forget(&mut self) {
        (self.found, self.lsd_peers, self.found_sender) = (never(), never(), None);
        (self.not_started, self.retry_at) = (NotStarted::default(), Duration::MAX);
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
