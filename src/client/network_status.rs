//! What a client has learned about its network: whether others can reach it, and the state of its DHT node.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::client::Client;
use crate::discovery::dht::{DhtService, DhtStats, Family};

/// What a client has learned about its network; see [`Client::network_status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkStatus {
    /// Whether a host with a public address has connected to the client's port, also for no torrent of the client.
    pub has_public_connection: bool,
    /// The DHT over IPv4; `None` if it does not run.
    pub dht_ipv4: Option<DhtStatus>,
    /// The DHT over IPv6.
    pub dht_ipv6: Option<DhtStatus>,
}

/// The state of a client's DHT node for one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtStatus {
    /// The nodes that have answered lately.
    pub good_nodes: usize,
    /// The answers received so far.
    pub answers: u64,
    /// Our address as the majority of at least six nodes sees it.
    pub external_address: Option<IpAddr>,
    /// Whether a node with a public address to which btsync had sent nothing has sent a query, so that others can reach the UDP port.
    pub has_unsolicited_query: bool,
}

impl DhtStatus {
    fn new(stats: &DhtStats) -> DhtStatus {
        DhtStatus {
            good_nodes: stats.good,
            answers: stats.responses_received,
            external_address: stats.external_ip,
            has_unsolicited_query: stats.has_unsolicited_query,
        }
    }
}

impl Client {
    /// Joins the DHT before there is a torrent that needs it. Returns whether the client uses the DHT: not if it is turned off, or if
    /// there is a proxy other than a SOCKS 5 proxy.
    ///
    /// # Errors
    /// If no UDP socket can be bound to the client's port.
    pub fn join_dht(&self) -> io::Result<bool> {
        let Some(port) = self.dht_port() else { return Ok(false) };
        Ok(self.start_dht(port)?.is_some())
    }

    /// The client's DHT node, which this starts if necessary, to get and store items; `None` where [`Client::join_dht`] returns false.
    ///
    /// # Errors
    /// If no UDP socket can be bound to the client's port.
    pub fn dht_node(&self) -> io::Result<Option<Arc<DhtService>>> {
        let Some(port) = self.dht_port() else { return Ok(None) };
        self.start_dht(port)
    }

    /// What the client has learned about its network so far.
    pub fn network_status(&self) -> NetworkStatus {
        let dht = self.net.lock().dht.clone();
        let stats = dht.map(|dht| dht.stats()).unwrap_or_default();
        let of = |wanted| stats.iter().find(|(family, _)| *family == wanted).map(|(_, stats)| DhtStatus::new(stats));
        NetworkStatus {
            has_public_connection: self.registry.has_had_public_connection.is_set(),
            dht_ipv4: of(Family::V4),
            dht_ipv6: of(Family::V6),
        }
    }
}
