//! The client's part of port mapping: whether the router is asked, and which ports we announce.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, NetworkServices};
use crate::discovery::port_mapping::status::{MappingState, PortMappingStatus, SharedMappingStatus};
use crate::discovery::port_mapping::{PortMapper, PortMapperConfig};
use crate::net::bind::Bind;
use crate::net::route::Route;

/// Whether the client asks the router to forward its port, by NAT-PMP, PCP or UPnP, so that peers can connect to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapping {
    /// It does not.
    #[default]
    Off,
    /// It does if this machine has a private address, and no interface or address is set ([`ClientBuilder::bind`]).
    ///
    /// [`ClientBuilder::bind`]: crate::client::ClientBuilder::bind
    Auto {
        /// How long after it has begun to listen.
        after: Duration,
    },
    /// It does, at once. If an interface or address is set, it asks only the gateway of that interface.
    On,
}

/// The ports at which others reach us over IPv4, as far as the router maps other ones than ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappedPorts {
    /// For TCP.
    pub tcp: Option<u16>,
    /// For UDP.
    pub udp: Option<u16>,
}

/// What to map, and when; `None` if nothing. The one place that decides whether the router is asked.
fn mapper_config(route: &Route, port_mapping: PortMapping, port: u16) -> Option<PortMapperConfig> {
    // Behind a proxy, nobody can connect to us. Requests to the router contain our address and our name.
    let bind = route.direct_bind().filter(|_| !route.is_anonymous())?.clone();
    match port_mapping {
        PortMapping::Off => None,
        PortMapping::Auto { .. } if bind != Bind::Any => None,
        PortMapping::Auto { after } => Some(PortMapperConfig { port, bind, after, is_forced: false }),
        PortMapping::On => Some(PortMapperConfig { port, bind, after: Duration::ZERO, is_forced: true }),
    }
}

impl Client {
    /// The state of port mapping; `None` if it is off or has not begun.
    pub fn port_mapping(&self) -> Option<PortMappingStatus> {
        self.mapping_status.get()
    }

    /// What the router said, for threads that look often.
    pub(super) fn mapping_status(&self) -> &SharedMappingStatus {
        &self.mapping_status
    }

    /// The ports at which others reach us over IPv4.
    pub(super) fn mapped_ports(&self) -> MappedPorts {
        let ipv4 = self.port_mapping().map(|status| status.ipv4);
        let tcp = ipv4.as_ref().and_then(MappingState::tcp_port);
        MappedPorts { tcp, udp: ipv4.as_ref().and_then(MappingState::udp_port) }
    }

    /// The TCP port that is announced: the router's, if it forwards one, otherwise ours. `None` while the client does not listen.
    pub(super) fn announced_port(&self) -> Option<u16> {
        self.port().map(|port| self.mapped_ports().tcp.unwrap_or(port))
    }

    /// Whether btsync asks the router to forward the port, or will.
    pub fn is_port_mapping_on(&self) -> bool {
        self.net.lock().port_mapper.is_some()
    }

    /// Starts to ask the router, if that is wanted.
    pub(super) fn start_port_mapping(&self, net: &mut NetworkServices, port: u16) {
        let Some(config) = mapper_config(&self.config.route, net.port_mapping, port) else { return };
        // The mappings of an earlier port go first.
        drop(net.port_mapper.take());
        match PortMapper::start(config, Arc::clone(&self.mapping_status)) {
            Ok(mapper) => net.port_mapper = Some(mapper),
            Err(error) => log::info!("no port mapping: {error}"),
        }
    }

    /// Starts or ends port mapping while the client runs. The end removes the mappings, which takes less than a second. Only one
    /// thread may do this: a removal that overlaps with a start could remove the new mapping.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "only the service changes it"))]
    pub(crate) fn set_port_mapping(&self, port_mapping: PortMapping) {
        let mut net = self.net.lock();
        if std::mem::replace(&mut net.port_mapping, port_mapping) == port_mapping {
            return;
        }
        let before = net.port_mapper.take();
        drop(net);
        // Without the lock: it joins its thread.
        drop(before);
        let mut net = self.net.lock();
        if let Some(port) = net.listener.as_ref().map(|listener| listener.port) {
            self.start_port_mapping(&mut net, port);
        }
        if net.port_mapper.is_none() {
            // Torrents announce the port of the listener again.
            self.mapping_status.clear();
        }
    }

    /// Begins to remove the mappings. The drop of the client waits for that.
    pub(super) fn begin_removal_of_mappings(&self) {
        if let Some(mapper) = &self.net.lock().port_mapper {
            mapper.begin_stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_client_asks_only_if_it_is_told_to() {
        let of = |port_mapping, bind| {
            mapper_config(&Route::direct(bind), port_mapping, 6881)
                .map(|config| (config.port, config.after.as_secs(), config.is_forced))
        };
        let auto = PortMapping::Auto { after: Duration::from_secs(60) };
        let wg = || Bind::Interface("wg0".to_owned());
        assert_eq!(of(PortMapping::Off, Bind::Any), None);
        assert_eq!(of(auto, Bind::Any), Some((6881, 60, false)));
        assert_eq!(of(auto, wg()), None);
        assert_eq!(of(PortMapping::On, wg()), Some((6881, 0, true)));
        assert_eq!(of(PortMapping::On, Bind::Any), Some((6881, 0, true)));
        let route = Route::default().through("socks5://127.0.0.1:1".parse().ok());
        assert!(mapper_config(&route, PortMapping::On, 6881).is_none(), "not behind a proxy");
        let route = Route::default().anonymous(true);
        assert!(mapper_config(&route, PortMapping::On, 6881).is_none(), "not for an anonymous client");
    }
}
