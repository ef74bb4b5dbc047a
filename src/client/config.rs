//! The configuration that all torrents of a client share.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::discovery::dht::service::ROUTERS;
use crate::net::bind::Bind;
use crate::strategy::rate_limiter::Limits;

/// The settings of a client: they apply to the process, not to one torrent.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// TCP ports to listen on: btsync takes the first free one.
    pub listen_ports: RangeInclusive<u16>,
    /// The interface or address that all sockets are bound to.
    pub bind: Bind,
    /// The DHT; `None` turns it off.
    pub dht: Option<DhtSettings>,
    /// Whether local service discovery is on (BEP 14).
    pub lsd: bool,
    /// Upper limit on the connections of all torrents together.
    pub max_peers: usize,
    /// Rate limits over all peers of all torrents.
    pub limits: Limits,
}

/// How the DHT is bootstrapped, and where its nodes are saved.
#[derive(Clone, Debug)]
pub struct DhtSettings {
    /// `HOST:PORT` of public bootstrap nodes.
    pub routers: Vec<String>,
    /// `HOST:PORT` of the user's own bootstrap nodes.
    pub entry_points: Vec<String>,
    /// The folder where the routing table is saved between runs; `None` saves nothing.
    pub state_path: Option<PathBuf>,
}

impl Default for DhtSettings {
    /// The default bootstrap nodes; saves nothing.
    fn default() -> DhtSettings {
        DhtSettings { routers: ROUTERS.map(String::from).to_vec(), entry_points: Vec::new(), state_path: None }
    }
}
