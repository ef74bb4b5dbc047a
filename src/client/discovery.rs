//! The DHT node and local discovery of a client, which all of its torrents share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::client::Client;
use crate::discovery::dht::{DhtConfig, DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::net::bind::Bind;
use crate::net::proxy::state::Proxy;
use crate::net::proxy::url::ProxyKind;
use crate::types::InfoHash;

impl Client {
    /// Starts to search the DHT for peers of `info_hash` and to announce `port`. `None` if the DHT is off.
    pub(super) fn start_dht_search(
        &self,
        info_hash: InfoHash,
        port: u16,
        found: &Sender<FoundPeers>,
    ) -> io::Result<Option<Arc<DhtService>>> {
        let dht = self.start_dht(port)?;
        if let Some(dht) = &dht {
            self.update_implied_port();
            dht.search_with_ports(info_hash, self.mapped_ports().tcp.unwrap_or(port), port, found);
        }
        Ok(dht)
    }

    /// Asks nodes to take the port of our packets instead of the announced one (`implied_port`, BEP 5), if uTP accepts connections
    /// there and the router has not said under which port others reach us. A router that maps ports unasked then gives our
    /// packets one at which it lets uTP through, while TCP connections do not get through at any.
    pub(super) fn update_implied_port(&self) {
        let is_mapped = self.mapped_ports().tcp.is_some();
        let dht = self.net.lock().dht.clone();
        if let Some(dht) = dht {
            dht.set_port_implied(self.is_utp_on() && !is_mapped);
        }
    }

    /// The client's DHT node, which this starts if necessary; `None` if the DHT is off or cannot be started.
    pub(super) fn dht(&self) -> Option<Arc<DhtService>> {
        let started = self.start_dht(self.dht_port()?);
        started.inspect_err(|error| log::info!("no DHT: {error}")).ok().flatten()
    }

    /// The port that the DHT announces: 0 for none behind a proxy, where nobody can connect to us. `None` while the client does not
    /// listen yet.
    pub(super) fn dht_port(&self) -> Option<u16> {
        self.port().or_else(|| self.config.route.proxy().map(|_| 0))
    }

    pub(super) fn start_dht(&self, port: u16) -> io::Result<Option<Arc<DhtService>>> {
        let Some(settings) = &self.config.dht else { return Ok(None) };
        let route = &self.config.route;
        let carries_udp = |proxy: &&Arc<Proxy>| proxy.url().kind == ProxyKind::Socks5;
        let (bind, proxy) = match (route.direct_bind(), route.proxy().filter(carries_udp)) {
            (Some(bind), _) => (bind.clone(), None),
            (None, Some(proxy)) => (Bind::Any, Some(proxy.clone())),
            (None, None) => return Ok(None),
        };
        let is_anonymous = route.is_anonymous();
        let mut net = self.net.lock();
        if net.dht.is_none() {
            let settings = DhtConfig {
                port,
                interface: bind,
                routers: settings.routers.clone(),
                entry_points: settings.entry_points.clone(),
                // The saved ids would connect this run with earlier ones.
                state_file: settings.state_file.clone().filter(|_| !is_anonymous),
                is_read_only: false,
                is_anonymous,
            };
            // Each torrent gets the peers found for it through a channel of its own; the node's general channel is not used.
            let (found, filter) = (bounded(0).0, &self.address_filter);
            net.dht = Some(Arc::new(match (proxy, self.udp.get()) {
                (Some(proxy), _) => DhtService::start_through(proxy, &settings, &found, filter)?,
                (None, Some(udp)) => DhtService::start_linked(udp.attach_dht()?, &settings, &found, filter)?,
                (None, None) => DhtService::start_filtered(&settings, &found, filter)?,
            }));
        }
        Ok(net.dht.clone())
    }

    /// The same for local discovery.
    pub(super) fn start_lsd_search(
        &self,
        info_hash: InfoHash,
        port: u16,
        found: Sender<(InfoHash, SocketAddr)>,
    ) -> io::Result<Option<Arc<Lsd>>> {
        if !self.config.uses_lsd {
            return Ok(None);
        }
        let Some(lsd) = self.start_lsd(port)? else { return Ok(None) };
        lsd.add(info_hash, found);
        Ok(Some(lsd))
    }

    /// Starts local discovery, unless it runs; `None` behind a proxy and for an anonymous client.
    pub(super) fn start_lsd(&self, port: u16) -> io::Result<Option<Arc<Lsd>>> {
        let route = &self.config.route;
        let Some(bind) = route.direct_bind().filter(|_| !route.is_anonymous()) else { return Ok(None) };
        let mut net = self.net.lock();
        if net.lsd.is_none() {
            net.lsd = Some(Arc::new(Lsd::start(bind, port, Vec::new(), bounded(0).0)?));
        }
        Ok(net.lsd.clone())
    }

    /// Stops local discovery and the DHT, whose nodes are saved for the next run.
    pub(super) fn stop_discovery(&self) {
        let mut net = self.net.lock();
        let (lsd, dht) = (net.lsd.take(), net.dht.take());
        drop(net);
        drop(lsd);
        if let Some(Err(error)) = dht.and_then(Arc::into_inner).map(DhtService::stop) {
            log::info!("cannot save the DHT nodes: {error}");
        }
    }
}
