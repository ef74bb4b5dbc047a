//! What finds peers beside trackers: the DHT and local discovery, which belong to the session's host. Their threads tell of this
//! torrent's peers through channels of its own, which the main thread hears together with its reports.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};
use log::Level;

use crate::client::Seat;
use crate::discovery::dht::{DhtService, Found};
use crate::discovery::lsd::Lsd;
use crate::peer::Report;
use crate::torrent::Config;
use crate::types::InfoHash;
use crate::util::descriptors::is_shortage;

/// How often it is judged whether others can reach our node of the DHT.
const JUDGEMENT: Duration = Duration::from_secs(10 * 60);
/// If there was no descriptor to begin one of the two, it is tried again after this time.
const SHORTAGE: Duration = Duration::from_secs(5);
/// With so many good nodes, somebody would have asked us something by then.
const ENOUGH: usize = 16;

/// Answers of the DHT, each of some dozens of addresses, that may wait for the main thread; others are lost.
const MAX_FOUND: usize = 64;
/// The same for neighbours.
const MAX_NEIGHBOURS: usize = 256;

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
    dht: Option<(InfoHash, Arc<DhtService>)>,
    lsd: Option<(InfoHash, Arc<Lsd>)>,
    found: Receiver<Found>,
    neighbours: Receiver<(InfoHash, SocketAddr)>,
    next_judgement: Duration,
    /// Whether the DHT is still to be begun, and whether local discovery is.
    missing: (bool, bool),
    /// When this is tried again.
    again: Duration,
}

impl Discovery {
    /// Neither of the two.
    pub fn none() -> Discovery {
        Discovery {
            dht: None,
            lsd: None,
            found: never(),
            neighbours: never(),
            next_judgement: JUDGEMENT,
            missing: (false, false),
            again: Duration::MAX,
        }
    }

    /// Looks for peers of a torrent that is not private, as far as its configuration and its host allow, and announces that we
    /// listen.
    pub fn start(config: &Config, info_hash: InfoHash, seat: &Seat, now: Duration) -> Discovery {
        let mut discovery = Discovery::none();
        discovery.missing = (config.dht.is_some(), config.lsd);
        discovery.begin(config, info_hash, seat, now);
        discovery
    }

    /// Tries again to begin what there was no descriptor for, when it is time to; whether we have become a node of the DHT.
    pub fn begin_again(&mut self, config: &Config, info_hash: InfoHash, seat: &Seat, now: Duration) -> bool {
        let had_dht = self.has_dht();
        if now >= self.again {
            self.begin(config, info_hash, seat, now);
        }
        self.has_dht() && !had_dht
    }

    fn begin(&mut self, config: &Config, info_hash: InfoHash, seat: &Seat, now: Duration) {
        self.again = Duration::MAX;
        if self.missing.0 {
            let (tell, found) = bounded(MAX_FOUND);
            let begun = seat.search(&tell);
            self.missing.0 = self.is_put_off("DHT", Level::Warn, begun.as_ref().err(), now);
            if let Ok(Some(dht)) = begun {
                dht.add_hosts(config.nodes.clone());
                (self.dht, self.found) = (Some((info_hash, dht)), found);
            }
        }
        if self.missing.1 {
            let (tell, neighbours) = bounded(MAX_NEIGHBOURS);
            let begun = seat.call_neighbours(tell);
            self.missing.1 = self.is_put_off("local discovery", Level::Info, begun.as_ref().err(), now);
            if let Ok(Some(lsd)) = begun {
                (self.lsd, self.neighbours) = (Some((info_hash, lsd)), neighbours);
            }
        }
    }

    /// Whether it only failed for want of a descriptor. Any other failure is logged, and btsync goes on without.
    fn is_put_off(&mut self, what: &str, level: Level, failure: Option<&io::Error>, now: Duration) -> bool {
        let Some(error) = failure else { return false };
        let is_put_off = is_shortage(error);
        if is_put_off {
            self.again = now + SHORTAGE;
            log::info!("no {what} yet: {error}");
        } else {
            log::log!(level, "no {what}: {error}");
        }
        is_put_off
    }

    /// Whether anybody can reach us is known after a while: a node whom nobody has asked anything, though it knows others, is no
    /// use in their tables, and says so (BEP 43). `reached` says that a peer has called us.
    pub fn judge(&mut self, now: Duration, reached: bool) {
        if let Some((_, dht)) = self.dht.as_ref().filter(|_| now >= self.next_judgement) {
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

    /// When that is judged next, or something is tried again.
    pub fn next_due(&self) -> Duration {
        if self.dht.is_some() { self.next_judgement.min(self.again) } else { self.again }
    }

    /// Whether neither of the two runs, or will.
    pub fn is_none(&self) -> bool {
        self.dht.is_none() && self.lsd.is_none() && self.missing == (false, false)
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
    pub fn wait(&mut self, reports: &Receiver<Report>, callers: &Receiver<Report>, wake: Instant) -> Option<News> {
        select! {
            recv(reports) -> report => report.ok().map(News::Report),
            recv(callers) -> caller => caller.ok().map(News::Report),
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

    /// Looks for nobody any more, and ends both where they were there for this session alone.
    pub fn stop(&mut self, seat: &Seat) {
        self.forget();
        seat.end_discovery();
    }

    fn forget(&mut self) {
        (self.found, self.neighbours) = (never(), never());
        (self.missing, self.again) = ((false, false), Duration::MAX);
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
