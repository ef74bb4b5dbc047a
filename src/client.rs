//! What the sessions of one process share: the port and whoever calls there, the node of the DHT, local discovery, the limits and
//! the number of connections. A session by itself has a host of its own, which listens when the session comes to it and ends
//! with it; [`Client::start`] makes one for several, which lives as long as anybody holds it.
//!
//! `file_owners` knows whose each file is, `turn` is a torrent's place in the order in which that is decided, `registry` knows which session
//! a caller may be for, `lobby` asks the callers where that is not clear, `seat` is a session's place at its host.

mod config;
pub(crate) mod descriptors;
mod error;
mod file_owners;
mod incoming;
pub(crate) mod listener;
mod opening_order;
mod registration;
mod registry;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use crate::client::listener::Listener;
use crate::discovery::dht::{DhtConfig, DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::net::bind::Bind;
use crate::peer::Throttle;
use crate::storage::{Trait, resolved};
use crate::strategy::dial_rate::DialBudget;
use crate::strategy::rate_limiter::Limits;
use crate::types::InfoHash;
use file_owners::FileOwners;
use registry::TorrentRegistry;

pub use config::{ClientConfig, DhtSettings};
pub use error::ClientError;
pub(crate) use incoming::IncomingHandshaker;
pub use opening_order::OpeningOrder;
pub(crate) use registration::Registration;

/// Connections that each session may have at least, however many there are.
const MIN_PEERS_PER_TORRENT: usize = 4;

/// What several sessions have in common; see the module's head.
pub struct Client {
    config: ClientConfig,
    throttle: Arc<Throttle>,
    registry: Arc<TorrentRegistry>,
    owners: Mutex<FileOwners>,
    /// The owners of files have changed.
    owners_changed: Condvar,
    /// How many turns were given.
    next_position: AtomicU64,
    net: Mutex<NetworkServices>,
    /// It was made for several sessions, so that its port and its node outlive each of them.
    is_shared: bool,
    /// Connections at most, as far as there are descriptors; those that there are; files that may be open.
    max_connections: AtomicUsize,
    connections: AtomicUsize,
    files: AtomicUsize,
    /// Whether anybody has ever called us: then others can reach us.
    has_incoming_connections: AtomicBool,
    /// How many connections all sessions may begin now, on the clock that began when the host was made.
    dials: Mutex<DialBudget>,
    started: Instant,
    /// For how few peers there is room, as it was said last.
    warned_capacity: AtomicUsize,
}

/// What has threads of its own.
#[derive(Default)]
struct NetworkServices {
    listener: Option<Listener>,
    dht: Option<Arc<DhtService>>,
    lsd: Option<Arc<Lsd>>,
}

impl Client {
    /// A host for several sessions that listens from now on. Of `config` it takes what is the process's own: `listen_ports`,
    /// `bind`, `dht`, `lsd`, `limits` and `max_peers`. The DHT and local discovery begin with the first session that may use
    /// them. All ends when the last session and the last holder let go of it.
    ///
    /// # Errors
    /// [`ClientError::Listen`] where no port is free, [`ClientError::Interface`] where there is no such interface.
    pub fn start(config: &ClientConfig) -> Result<Arc<Client>, ClientError> {
        let client = Client::new(config, true);
        client.listen()?;
        Ok(Arc::new(client))
    }

    /// A host for one session, which does nothing yet.
    pub(crate) fn for_one_torrent(config: &ClientConfig) -> Arc<Client> {
        Arc::new(Client::new(config, false))
    }

    fn new(config: &ClientConfig, is_shared: bool) -> Client {
        Client {
            config: config.clone(),
            throttle: Arc::new(Throttle::new(config.limits)),
            registry: Arc::default(),
            owners: Mutex::default(),
            owners_changed: Condvar::new(),
            next_position: AtomicU64::new(0),
            net: Mutex::default(),
            is_shared,
            max_connections: AtomicUsize::new(config.max_peers),
            connections: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
            has_incoming_connections: AtomicBool::new(false),
            dials: Mutex::default(),
            started: Instant::now(),
            warned_capacity: AtomicUsize::new(usize::MAX),
        }
    }

    /// The TCP port on which all sessions listen, which is the DHT's UDP port, too; `None` while nobody listens.
    pub fn port(&self) -> Option<u16> {
        self.net.lock().listener.as_ref().map(|listener| listener.port)
    }

    /// Changes the limits, which hold over the peers of all sessions together, at once.
    pub fn set_limits(&self, limits: Limits) {
        self.throttle.set(limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.throttle.limits()
    }

    /// Whether a file belongs to one of the torrents.
    pub fn owns_file(&self, file: &std::path::Path) -> bool {
        let (file, there) = (resolved(file), Trait::at(file)); // asks the disk, and so before the lock is taken
        self.owners.lock().has(&file, there)
    }

    /// A session ended by a failure: other torrents may have its files.
    pub(crate) fn release_torrent_files(&self, info_hash: InfoHash) {
        self.owners.lock().release(info_hash);
        self.owners_changed.notify_all();
    }

    /// The limits, where bytes meet them.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        self.throttle.clone()
    }

    /// What all sockets are tied to.
    pub(crate) fn bind(&self) -> &Bind {
        &self.config.bind
    }

    /// Listens, where nobody does yet; the port.
    fn listen(&self) -> Result<u16, ClientError> {
        let mut net = self.net.lock();
        if let Some(listener) = &net.listener {
            return Ok(listener.port);
        }
        let ClientConfig { listen_ports, bind, .. } = &self.config;
        let started = Listener::start(listen_ports.clone(), bind, IncomingHandshaker::new(self.registry.clone()));
        let listener = started.map_err(|error| {
            let of_the_port = matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
            if *bind != Bind::Any && !of_the_port {
                return ClientError::Interface { bind: bind.clone(), error };
            }
            let (first, last) = (listen_ports.start(), listen_ports.end());
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            ClientError::Listen { ports, error }
        })?;
        Ok(net.listener.insert(listener).port)
    }

    /// Has the DHT look for peers of `info_hash` and announce that we listen on `port`. What cannot be had is said in the log and
    /// done without.
    fn start_dht_search(
        &self,
        info_hash: InfoHash,
        port: u16,
        found: &Sender<FoundPeers>,
    ) -> io::Result<Option<Arc<DhtService>>> {
        let Some(settings) = &self.config.dht else { return Ok(None) };
        let mut net = self.net.lock();
        if net.dht.is_none() {
            let settings = DhtConfig {
                port,
                interface: self.config.bind.clone(),
                routers: settings.routers.clone(),
                entry_points: settings.entry_points.clone(),
                state_path: settings.state_path.clone(),
                read_only: false,
            };
            // Each session hears of its own torrent, and nobody of others.
            net.dht = Some(Arc::new(DhtService::start(&settings, &bounded(0).0)?));
        }
        let dht = net.dht.clone();
        drop(net);
        if let Some(dht) = &dht {
            dht.search_for(info_hash, Some(port), found.clone());
        }
        Ok(dht)
    }

    /// The same for local discovery.
    fn start_lsd_search(
        &self,
        info_hash: InfoHash,
        port: u16,
        found: Sender<(InfoHash, std::net::SocketAddr)>,
    ) -> io::Result<Option<Arc<Lsd>>> {
        if !self.config.lsd {
            return Ok(None);
        }
        let mut net = self.net.lock();
        if let Some(lsd) = net.lsd.clone() {
            drop(net);
            lsd.add(info_hash, found);
            return Ok(Some(lsd));
        }
        net.lsd = Some(Arc::new(Lsd::start(&self.config.bind, port, vec![info_hash], found)?));
        Ok(net.lsd.clone())
    }

    /// Ends local discovery and the DHT, whose nodes are kept for the next time.
    fn stop_discovery(&self) {
        let mut net = self.net.lock();
        let (lsd, dht) = (net.lsd.take(), net.dht.take());
        drop(net);
        drop(lsd);
        if let Some(Err(error)) = dht.and_then(Arc::into_inner).map(DhtService::stop) {
            log::info!("the DHT's nodes are not kept: {error}");
        }
    }

    /// Nobody is let in any more.
    fn stop_listening(&self) {
        let listener = self.net.lock().listener.take();
        drop(listener);
    }

    /// A session may hold so many files open from now on; how many connections that leaves is found anew.
    fn reserve_files(&self, files: usize) {
        self.update_capacity(self.files.fetch_add(files, Ordering::Relaxed) + files);
    }

    /// A session that may hold so many is over: others may have its place.
    fn release_files(&self, files: usize) {
        self.update_capacity(self.files.fetch_sub(files, Ordering::Relaxed) - files);
    }

    fn update_capacity(&self, files: usize) {
        let wanted = self.config.max_peers;
        let (capacity, have) = descriptors::connection_capacity(wanted, files);
        self.max_connections.store(capacity, Ordering::Relaxed);
        // Every session changes it a little: it is said again only where it has become much worse.
        if files > 0 && capacity < wanted && capacity < self.warned_capacity.load(Ordering::Relaxed) / 2 {
            self.warned_capacity.store(capacity, Ordering::Relaxed);
            log::warn!("only {have} files may be open: {capacity} peers at most");
        }
    }

    /// How many connections a session with `own` of them may have: its equal part, and beyond that what the others leave.
    fn capacity(&self, own: usize) -> usize {
        let max_connections = self.max_connections.load(Ordering::Relaxed);
        let others = self.connections.load(Ordering::Relaxed).saturating_sub(own);
        capacity(max_connections, self.throttle.torrents(), others)
    }
}

/// Of `max_connections` connections those that are open to one of `sessions`, where the others have `others`. Whoever has less than its part
/// may take it at any time; those who have more then have too many, and give back.
fn capacity(max_connections: usize, sessions: usize, others: usize) -> usize {
    let part = (max_connections / sessions.max(1)).max(MIN_PEERS_PER_TORRENT.min(max_connections));
    part.max(max_connections.saturating_sub(others))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop_listening();
        self.stop_discovery();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_session_that_is_over_is_for_others() {
        let client = Client::new(
            &ClientConfig {
                listen_ports: 0..=0,
                bind: Bind::Any,
                dht: None,
                lsd: false,
                max_peers: 10,
                limits: Limits::default(),
            },
            true,
        );
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let all = usize::try_from(limit.expect("a limit of descriptors")).expect("a number of files");
        client.reserve_files(all);
        assert_eq!(client.capacity(0), 1, "there is none left, and one must do");
        client.release_files(all);
        assert_eq!(client.capacity(0), 10);
    }

    #[test]
    fn one_session_has_all_and_several_share() {
        assert_eq!(capacity(300, 1, 0), 300);
        assert_eq!(capacity(1, 1, 0), 1, "no more than the user wants");
        assert_eq!(capacity(300, 3, 0), 300, "the others want none");
        assert_eq!(capacity(300, 3, 40), 260, "all that they leave");
        assert_eq!(capacity(300, 3, 300), 100, "an equal part, whatever they have");
        assert_eq!(capacity(20, 10, 20), 4, "nobody starves");
        assert_eq!(capacity(0, 0, 0), 0);
    }

    /// Each in turn takes what it may, and gives back what is too much.
    #[test]
    fn what_is_open_to_all_is_not_exceeded_for_long() {
        let (max_connections, mut connections) = (100, [0_usize; 4]);
        for turn in 0..100 {
            let at = turn % connections.len();
            let others = connections.iter().sum::<usize>() - connections[at];
            connections[at] =
                capacity(max_connections, connections.len(), others).min(if at == 3 { 10 } else { usize::MAX });
        }
        assert_eq!(connections.iter().sum::<usize>(), max_connections);
        assert!(connections[..3].iter().all(|has| *has >= 25) && connections[3] == 10, "{connections:?}");
    }
}
