//! The DHT through a SOCKS 5 proxy that carries datagrams (UDP ASSOCIATE). Other nodes cannot reach us, so the node only sends queries
//! (BEP 43), and whoever uses it announces no port. IPv4 only.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::discovery::dht::message::Family;
use crate::discovery::dht::service::associator::ProxyAssociator;
use crate::discovery::dht::service::channel::command_channel;
use crate::discovery::dht::service::named_nodes::NamedNode;
use crate::discovery::dht::service::socket::DhtSocket;
use crate::discovery::dht::service::{DhtCommand, DhtConfig, DhtService, FoundPeers};
use crate::discovery::dht::state::DhtState;
use crate::net::address_filter::AddressFilter;
use crate::net::proxy::state::Proxy;

/// The most nodes of one list.
const MAX_HOSTS: usize = 32;

impl DhtService {
    /// Starts a node whose packets go only through this proxy, once it grants an association. `config.port` and `config.interface` have
    /// no effect, and nothing is saved: the id of this run must not lead to runs without a proxy.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn start_through(
        proxy: Arc<Proxy>,
        config: &DhtConfig,
        found: &Sender<FoundPeers>,
        filter: &Arc<AddressFilter>,
    ) -> io::Result<DhtService> {
        let config = DhtConfig { is_read_only: true, state_file: None, ..config.clone() };
        let (tell_lost, lost) = bounded(1);
        let sides = vec![command_channel(Family::V4, DhtSocket::proxied(tell_lost))?];
        let mut service = DhtService::start_threads(&config, DhtState::default(), sides, found, filter)?;
        service.associator = Some(ProxyAssociator::start(proxy, Arc::downgrade(&service.handles), lost)?);
        service.add_first_nodes(&config);
        Ok(service)
    }

    /// Adds nodes given as `HOST:PORT`. The proxy resolves their names.
    pub(super) fn add_nodes_through_proxy(&self, hosts: &[String], are_routers: bool, are_trusted: bool) {
        for host in hosts.iter().take(MAX_HOSTS) {
            let Some(node) = NamedNode::new(host, are_routers, are_trusted) else { continue };
            for handle in self.handles.iter() {
                match node.addr() {
                    Some(addr) if are_routers => handle.send_address(addr, DhtCommand::Router),
                    Some(addr) => handle.send_address(addr, DhtCommand::Node),
                    None => handle.send_command(DhtCommand::Name(node.clone())),
                }
            }
        }
    }
}
