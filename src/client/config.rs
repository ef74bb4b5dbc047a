//! The configuration that all torrents of a client share.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::client::PortMapping;
use crate::client::block_list::BlockListSource;
use crate::client::descriptors;
use crate::discovery::dht::service::{DhtConfig, DhtService, ROUTERS};
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::route::Route;
use crate::strategy::rate_limiter::Limits;
use crate::types::Transports;

/// The settings of a client: they apply to the process, not to one torrent.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// TCP ports to listen on: btsync takes the first free one.
    pub listen_ports: RangeInclusive<u16>,
    /// How all connections leave the machine.
    pub route: Route,
    /// What carries connections. Behind a proxy, only TCP does.
    pub transports: Transports,
    /// The DHT; `None` turns it off.
    pub dht: Option<DhtSettings>,
    /// Whether local discovery is on (BEP 14).
    pub uses_lsd: bool,
    /// Upper limit on the connections of all torrents together.
    pub max_peers: usize,
    /// Rate limits over all peers of all torrents.
    pub limits: Limits,
    /// The addresses that btsync neither connects to nor accepts.
    pub block_list: Option<BlockListSource>,
    /// Whether the router is asked to forward the port.
    pub port_mapping: PortMapping,
    /// The file that keeps the last list of a URL for a start at which the URL fails.
    pub block_list_copy: Option<PathBuf>,
    /// The filter that the client uses, if its owner loads the block list.
    pub address_filter: Option<Arc<AddressFilter>>,
}

impl Default for ClientConfig {
    /// The usual ports, the DHT and local discovery, without rate limits.
    fn default() -> ClientConfig {
        ClientConfig {
            listen_ports: 6881..=6889,
            route: Route::default(),
            transports: Transports::default(),
            dht: Some(DhtSettings::default()),
            uses_lsd: true,
            max_peers: 300,
            limits: Limits::default(),
            block_list: None,
            port_mapping: PortMapping::Off,
            block_list_copy: None,
            address_filter: None,
        }
    }
}

impl ClientConfig {
    /// Whether connections may use uTP: not behind a proxy and, unless it is all that is wanted, not with few descriptors.
    pub(super) fn uses_utp(&self) -> bool {
        let is_possible = self.route.proxy().is_none();
        match self.transports {
            Transports::Tcp => false,
            Transports::Utp => is_possible,
            Transports::Both => is_possible && descriptors::suffice_for_utp(),
        }
    }
}

/// How the DHT is bootstrapped, and where its nodes are saved.
#[derive(Clone, Debug)]
pub struct DhtSettings {
    /// `HOST:PORT` of public bootstrap nodes.
    pub routers: Vec<String>,
    /// `HOST:PORT` of the user's own bootstrap nodes.
    pub entry_points: Vec<String>,
    /// The file in which the ids and nodes of the DHT are saved between runs; `None` saves nothing.
    pub state_file: Option<PathBuf>,
}

impl DhtSettings {
    /// Starts a node of the DHT for a program without a [`Client`](crate::client::Client); the node answers others from now on.
    /// `port` is its UDP port, 0 for any.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use btsync::{Bind, DhtSettings, InfoHash};
    ///
    /// let mut settings = DhtSettings::default();
    /// settings.routers.clear(); // a network of its own
    /// let dht = settings.start(0, &Bind::Address([127, 0, 0, 1].into()))?;
    /// let mut peers = dht.find_peers(InfoHash([7; 20]), None, Duration::from_millis(100));
    /// assert_eq!(peers.next(), None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If no socket can be bound for any address family, or the saved nodes cannot be read.
    pub fn start(&self, port: u16, bind: &Bind) -> io::Result<DhtService> {
        let config = DhtConfig {
            port,
            interface: bind.clone(),
            routers: self.routers.clone(),
            entry_points: self.entry_points.clone(),
            state_file: self.state_file.clone(),
            is_read_only: false,
            is_anonymous: false,
        };
        DhtService::start(&config, &bounded(0).0)
    }
}

impl Default for DhtSettings {
    /// The default bootstrap nodes; saves nothing.
    fn default() -> DhtSettings {
        DhtSettings { routers: ROUTERS.map(String::from).to_vec(), entry_points: Vec::new(), state_file: None }
    }
}
