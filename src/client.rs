//! What the torrents of one process share: the port for incoming connections, the DHT node, local discovery, the rate
//! limits and the number of connections. A torrent by itself has a client of its own, which listens once the torrent does and
//! ends with it; [`Client::start`] creates a client for several torrents, which lives as long as it is referenced.
//!
//! `file_owners` knows which torrent owns a file, `claim_position` is a torrent's position in the order that decides this,
//! `registry` lists the torrents that an incoming connection can be for, `incoming` reads the handshake to find the right one,
//! and `registration` is a torrent's registration with its client.

pub(crate) mod block_list;
mod builder;
mod capacity;
mod claim_position;
mod config;
pub(crate) mod descriptors;
mod discovery;
mod dormant;
mod error;
mod file_owners;
mod incoming;
mod listen_sockets;
pub(crate) mod listener;
mod network_status;
mod port_mapping;
mod proxy_check;
mod registration;
mod registry;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::client::listen_sockets::ListenSockets;
use crate::client::listener::Listener;
use crate::discovery::dht::DhtService;
use crate::discovery::lsd::Lsd;
use crate::discovery::port_mapping::PortMapper;
use crate::discovery::port_mapping::status::SharedMappingStatus;
use crate::discovery::tracker::dormant::DormantPool;
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::route::Route;
use crate::peer::{DialTransports, Throttle};
use crate::storage::FileIdentity;
use crate::strategy::dial_rate::DialBudget;
use crate::strategy::rate_limiter::Limits;
use crate::types::{InfoHash, Transport, Transports};
use crate::udp::UdpService;
use crate::util::atomics::{Counter, Flag};
use crate::util::paths::resolved;
use block_list::BlockListWatch;
use capacity::ConnectionCapacity;
use file_owners::FileOwners;
use registry::TorrentRegistry;

pub use block_list::BlockListSource;
pub use builder::ClientBuilder;
pub use claim_position::ClaimPosition;
pub use config::{ClientConfig, DhtSettings};
#[cfg(feature = "internals")]
pub use descriptors::{LISTEN_DESCRIPTORS, UDP_PER_FAMILY};
pub use dormant::{DormantGuard, DormantSeed, DormantTrackerView};
pub use error::ClientError;
pub(crate) use incoming::IncomingHandshaker;
pub use network_status::{DhtStatus, NetworkStatus};
pub use port_mapping::{MappedPorts, PortMapping};
pub use proxy_check::ProxyCheck;
pub(crate) use registration::Registration;
pub use registry::{WakeFn, WakeReason};

/// The resources that several torrents share; see the module's documentation.
pub struct Client {
    config: ClientConfig,
    throttle: Arc<Throttle>,
    registry: Arc<TorrentRegistry>,
    owners: Mutex<FileOwners>,
    /// Signalled when the owners of files have changed.
    owners_changed: Condvar,
    /// The next position in the claim order.
    next_position: Counter,
    net: Mutex<NetworkServices>,
    /// The addresses of the block list.
    address_filter: Arc<AddressFilter>,
    /// What the router said about our port.
    mapping_status: Arc<SharedMappingStatus>,
    /// Whether it was created for several torrents, so that its port and its DHT node outlive each of them.
    is_shared: bool,
    /// How many connections there may be, and how many there are.
    capacity: ConnectionCapacity,
    /// Whether any peer has ever connected to us, so that others can reach us.
    has_had_incoming_peer: Flag,
    /// The sockets for uTP, if it is used.
    udp: OnceLock<Arc<UdpService>>,
    /// Seeds that do not run, once there are any.
    dormant: OnceLock<DormantPool>,
    /// How many connections all torrents together may start now; its clock starts at `started`.
    dials: Mutex<DialBudget>,
    started: Instant,
}

/// The services that have threads of their own.
#[derive(Default)]
struct NetworkServices {
    listener: Option<Listener>,
    dht: Option<Arc<DhtService>>,
    lsd: Option<Arc<Lsd>>,
    block_list: Option<BlockListWatch>,
    /// Whether the router is asked; the service changes it at run time.
    port_mapping: PortMapping,
    port_mapper: Option<PortMapper>,
}

impl Client {
    /// A client for several torrents that listens from now on. It uses the settings in `config` that apply to the whole
    /// process: `listen_ports`, `route`, `dht`, `lsd`, `limits`, `max_peers`, `block_list` and `port_mapping`. The DHT and local discovery start
    /// with the first torrent that may use them. Everything ends when the last torrent and the last reference are gone.
    ///
    /// # Errors
    /// [`ClientError::Listen`] if no port is free, [`ClientError::Interface`] if the interface does not exist.
    #[doc(hidden)]
    pub fn start(config: &ClientConfig) -> Result<Arc<Client>, ClientError> {
        let client = Client::new(config, true);
        client.listen()?;
        Ok(Arc::new(client))
    }

    /// A client for one torrent, which does nothing yet.
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
            next_position: Counter::default(),
            net: Mutex::new(NetworkServices { port_mapping: config.port_mapping, ..NetworkServices::default() }),
            address_filter: config.address_filter.clone().unwrap_or_default(),
            mapping_status: Arc::default(),
            is_shared,
            capacity: ConnectionCapacity::new(config.max_peers, config.uses_utp()),
            has_had_incoming_peer: Flag::default(),
            udp: OnceLock::new(),
            dormant: OnceLock::new(),
            dials: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// The TCP port on which all torrents listen, and the DHT's UDP port; `None` while the client does not listen.
    pub fn port(&self) -> Option<u16> {
        self.net.lock().listener.as_ref().map(|listener| listener.port)
    }

    /// Changes the most connections of all torrents together. Torrents that have too many close some within a minute.
    pub fn set_max_peers(&self, max_peers: usize) {
        self.capacity.set_wanted(max_peers);
    }

    /// Changes the rate limits, which apply to the peers of all torrents together, at once.
    pub fn set_limits(&self, limits: Limits) {
        self.throttle.limit_group().set(limits);
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.throttle.limit_group().limits()
    }

    /// The addresses of the block list.
    pub(crate) fn address_filter(&self) -> &Arc<AddressFilter> {
        &self.address_filter
    }

    /// Whether any peer has ever connected to us, so that others can reach us.
    pub fn has_had_incoming_peer(&self) -> bool {
        self.has_had_incoming_peer.is_set()
    }

    /// Whether a file belongs to one of the torrents.
    pub fn owns_file(&self, file: &std::path::Path) -> bool {
        let (file, identity) = (resolved(file), FileIdentity::at(file)); // accesses the disk, so before the lock
        self.owners.lock().owns(&file, identity)
    }

    /// Wakes torrents that wait for write access, so that they notice a stop.
    pub(crate) fn wake_stopped_torrents(&self) {
        drop(self.owners.lock()); // a torrent that saw no stop waits by now
        self.owners_changed.notify_all();
    }

    /// A torrent has failed: other torrents may have its files.
    pub(crate) fn release_torrent_files(&self, info_hash: InfoHash) {
        self.owners.lock().release(info_hash);
        self.owners_changed.notify_all();
    }

    /// The rate limits and the limiter.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        self.throttle.clone()
    }

    /// How all connections leave the machine.
    pub(crate) fn route(&self) -> &Route {
        &self.config.route
    }

    /// Listens, unless the client does already. Returns the port; 0 behind a proxy, where it does not listen.
    fn listen(&self) -> Result<u16, ClientError> {
        self.load_block_list()?;
        let mut net = self.net.lock();
        if let Some(listener) = &net.listener {
            return Ok(listener.port);
        }
        let ClientConfig { listen_ports, route, .. } = &self.config;
        // Nobody can reach us through a proxy, and without one, they would go around it.
        let Some(bind) = route.direct_bind() else { return Ok(0) };
        let to_client_error = |error: io::Error| {
            let of_the_port = matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
            if *bind != Bind::Any && !of_the_port {
                return ClientError::Interface { bind: bind.clone(), error };
            }
            let (first, last) = (listen_ports.start(), listen_ports.end());
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            ClientError::Listen { ports, error }
        };
        let transports = if self.capacity.uses_utp { self.config.transports } else { Transports::Tcp };
        let sockets =
            ListenSockets::bind(listen_ports, bind, transports, self.config.dht.is_some()).map_err(to_client_error)?;
        let handshaker = IncomingHandshaker::new(self.registry.clone());
        let listener = Listener::start(sockets.tcp, sockets.port, handshaker, self.address_filter.clone());
        let listener = listener.map_err(to_client_error)?;
        if let Some(udp) = sockets.udp {
            match UdpService::start(udp, &self.address_filter, &listener.utp_acceptor()) {
                Ok(udp) => drop(self.udp.set(Arc::new(udp))),
                Err(error) if transports == Transports::Utp => return Err(to_client_error(error)),
                Err(error) => log::info!("no uTP: {error}"),
            }
        }
        let port = net.listener.insert(listener).port;
        self.start_port_mapping(&mut net, port);
        Ok(port)
    }

    /// Whether peers may be connected by uTP.
    #[doc(hidden)]
    pub fn is_utp_on(&self) -> bool {
        self.udp.get().is_some()
    }

    /// Whether peers may be connected by TCP.
    #[cfg(feature = "service")]
    pub(crate) fn is_tcp_on(&self) -> bool {
        self.dial_transports().uses_tcp
    }

    /// The transports that a torrent may use for its connections.
    fn dial_transports(&self) -> DialTransports {
        let utp = self.udp.get().cloned();
        DialTransports { uses_tcp: utp.is_none() || self.config.transports.includes(Transport::Tcp), utp }
    }

    /// Stops accepting connections.
    fn stop_listening(&self) {
        let listener = self.net.lock().listener.take();
        drop(listener);
    }

    /// How many connections a torrent that has `own` of them may have.
    fn capacity(&self, own: usize) -> usize {
        self.capacity.for_torrent(own, self.throttle.limit_group().torrents())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // First, so that the router answers while trackers do.
        self.begin_removal_of_mappings();
        drop(self.dormant.take());
        self.stop_listening();
        self.stop_discovery();
        let mut net = self.net.lock();
        let rest = (net.block_list.take(), net.port_mapper.take());
        drop(net);
        drop((rest, self.udp.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_torrent_that_has_ended_is_for_others() {
        let client = Client::new(
            &ClientConfig { listen_ports: 0..=0, dht: None, uses_lsd: false, max_peers: 10, ..ClientConfig::default() },
            true,
        );
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let all = usize::try_from(limit.expect("a limit of descriptors")).expect("a number of files");
        client.capacity.reserve_files(all);
        assert_eq!(client.capacity(0), 1, "there is none left, and one must do");
        client.capacity.release_files(all);
        assert_eq!(client.capacity(0), 10);
    }
}
