//! What finds peers beside trackers: the DHT and local discovery. Their threads tell of peers through channels of their own, which
//! the main thread hears together with its reports.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select, unbounded};

use crate::peer::Report;
use crate::session::Config;
use crate::sources::dht::{DhtConfig, DhtService, Found};
use crate::sources::lsd::Lsd;
use crate::types::InfoHash;

/// How often it is judged whether others can reach our node of the DHT.
const JUDGEMENT: Duration = Duration::from_secs(10 * 60);
/// With so many good nodes, somebody would have asked us something by then.
const ENOUGH: usize = 16;

/// Something that the main thread hears.
pub enum News {
    /// From a connection, the listener or a tracker.
    Report(Report),
    /// The DHT named peers.
    Dht(Found),
    /// A neighbour has the torrent.
    Neighbour(SocketAddr),
}

/// The DHT and local discovery, as far as they are wanted and to be had.
pub struct Discovery {
    dht: Option<DhtService>,
    lsd: Option<Lsd>,
    found: Receiver<Found>,
    neighbours: Receiver<(InfoHash, SocketAddr)>,
    next_judgement: Duration,
}

impl Discovery {
    /// Neither of the two.
    pub fn none() -> Discovery {
        Discovery { dht: None, lsd: None, found: never(), neighbours: never(), next_judgement: JUDGEMENT }
    }

    /// Looks for peers of a torrent that is not private, and announces that we listen on `port`. What cannot be had is said in
    /// the log and done without.
    pub fn start(config: &Config, info_hash: InfoHash, port: u16) -> Discovery {
        let mut discovery = Discovery::none();
        if let Some(settings) = &config.dht {
            let (tell, found) = unbounded();
            let settings = DhtConfig {
                port,
                interface: config.bind.clone(),
                routers: settings.routers.clone(),
                entry_points: settings.entry_points.clone(),
                state_path: settings.state_path.clone(),
                read_only: false,
            };
            match DhtService::start(&settings, &tell) {
                Ok(dht) => {
                    dht.search(info_hash, Some(port));
                    (discovery.dht, discovery.found) = (Some(dht), found);
                }
                Err(error) => log::warn!("no DHT: {error}"),
            }
        }
        if config.lsd {
            let (tell, neighbours) = unbounded();
            match Lsd::start(&config.bind, port, vec![info_hash], tell) {
                Ok(lsd) => (discovery.lsd, discovery.neighbours) = (Some(lsd), neighbours),
                Err(error) => log::info!("no local discovery: {error}"),
            }
        }
        discovery
    }

    /// Whether anybody can reach us is known after a while: a node whom nobody has asked anything, though it knows others, is no
    /// use in their tables, and says so (BEP 43). `reached` says that a peer has called us.
    pub fn judge(&mut self, now: Duration, reached: bool) {
        if let Some(dht) = self.dht.as_ref().filter(|_| now >= self.next_judgement) {
            self.next_judgement = now + JUDGEMENT;
            let stats = dht.stats();
            let asked: u64 = stats.iter().map(|(_, stats)| stats.asked).sum();
            let good: usize = stats.iter().map(|(_, stats)| stats.good).sum();
            if asked == 0 && good >= ENOUGH && !reached {
                log::info!("nobody reaches our node of the DHT: it asks, and answers nobody");
                dht.set_read_only(true);
            } else if reached {
                dht.set_read_only(false);
            }
        }
    }

    /// When that is judged next.
    pub fn next_judgement(&self) -> Duration {
        if self.dht.is_some() { self.next_judgement } else { Duration::MAX }
    }

    /// Whether neither of the two runs.
    pub fn is_none(&self) -> bool {
        self.dht.is_none() && self.lsd.is_none()
    }

    /// Whether we are a node of the DHT.
    pub fn has_dht(&self) -> bool {
        self.dht.is_some()
    }

    /// How many nodes of the DHT we know, where we take part.
    pub fn dht_nodes(&self) -> Option<usize> {
        self.dht.as_ref().map(|dht| dht.stats().iter().map(|(_, stats)| stats.nodes).sum())
    }

    /// A peer is a node of the DHT.
    pub fn add_node(&self, addr: SocketAddr) {
        if let Some(dht) = &self.dht {
            dht.add_node(addr);
        }
    }

    /// Waits for news until `wake`; `None` when none came.
    pub fn wait(&mut self, reports: &Receiver<Report>, wake: Instant) -> Option<News> {
        select! {
            recv(reports) -> report => report.ok().map(News::Report),
            recv(self.found) -> found => {
                if found.is_err() {
                    self.found = never(); // its threads are gone
                }
                found.ok().map(News::Dht)
            }
            recv(self.neighbours) -> neighbour => {
                if neighbour.is_err() {
                    self.neighbours = never();
                }
                neighbour.ok().map(|(_, addr)| News::Neighbour(addr))
            }
            default(wake.saturating_duration_since(Instant::now())) => None,
        }
    }

    /// Ends both; the DHT's nodes are kept for the next time.
    pub fn stop(&mut self) {
        (self.found, self.neighbours) = (never(), never());
        if let Some(lsd) = self.lsd.take() {
            lsd.stop();
        }
        if let Some(Err(error)) = self.dht.take().map(DhtService::stop) {
            log::info!("the DHT's nodes are not kept: {error}");
        }
    }
}
