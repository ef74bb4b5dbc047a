//! The client that the torrents share, and its replacement when its settings have changed.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, ClientBuilder, ClientError, PortMapping};
use crate::net::address_filter::AddressFilter;
use crate::service::manager::Manager;
use crate::service::settings::{NetworkSettings, SessionSettings};
use crate::types::Transports;
use crate::util::random::Random;

/// The first of the ports of which a random one is chosen: those that no service has by custom.
const FIRST_RANDOM_PORT: u16 = 49152;

/// Whether the client asks the router: as the settings say, otherwise the options that made `base`.
pub(crate) fn port_mapping(network: &NetworkSettings, base: &ClientBuilder) -> PortMapping {
    match (network.maps_port, base.config().port_mapping) {
        (Some(false), _) => PortMapping::Off,
        (Some(true), PortMapping::Off) => PortMapping::Auto { after: Duration::ZERO },
        (_, option) => option,
    }
}

/// The protocols of connections: as the settings say, otherwise the options that made `base`.
fn transports(network: &NetworkSettings, base: &ClientBuilder) -> Transports {
    match (network.uses_utp, base.config().transports) {
        (Some(false), _) => Transports::Tcp,
        (Some(true), Transports::Tcp) => Transports::Both,
        (_, option) => option,
    }
}

/// Starts a client with these settings in addition to those of `base`.
pub(crate) fn start_client(
    settings: &SessionSettings,
    base: &ClientBuilder,
    filter: Arc<AddressFilter>,
) -> Result<Arc<Client>, ClientError> {
    let network = &settings.network;
    let ports = if network.is_port_random {
        let above = Random::system().up_to(u32::from(u16::MAX - FIRST_RANDOM_PORT));
        let port = FIRST_RANDOM_PORT.saturating_add(u16::try_from(above).unwrap_or(0));
        port..=port
    } else {
        network.port..=network.port
    };
    let builder = if network.uses_dht { base.clone() } else { base.clone().dht(None) };
    let builder = builder
        .lsd(network.uses_lsd)
        .max_peers(usize::from(network.peer_limit))
        .limits(settings.limits())
        .port_mapping(port_mapping(network, base))
        .transports(transports(network, base))
        .address_filter(filter);
    builder.clone().listen_ports(ports).build().or_else(|error| {
        log::warn!("{error}; any free port will do");
        builder.listen_ports(0..=0).build()
    })
}

/// The client that the torrents share.
pub(super) struct CurrentClient {
    /// `None` while it is replaced because its settings have changed.
    pub current: Option<Arc<Client>>,
    /// Whether it must be replaced once no torrent uses it.
    pub is_outdated: bool,
}

impl Manager {
    /// Starts a new client once no torrent uses the one whose settings have changed.
    pub(super) fn replace_client_if_idle(&mut self) {
        if !self.client.is_outdated
            || self.torrents.values().any(|torrent| torrent.is_active() || torrent.guard.is_some())
        {
            return;
        }
        // The port must be free before the new client asks for it.
        self.client.current = None;
        let last = self.control.client.lock().take();
        // Without the lock: it joins its threads, and removes the port mapping.
        drop(last);
        match start_client(&self.settings, &self.control.base, self.control.block_list.filter()) {
            Ok(client) => {
                *self.control.client.lock() = Some(client.clone());
                self.client.current = Some(client);
                self.client.is_outdated = false;
                self.publish_stats();
            }
            Err(error) => log::error!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_turn_port_mapping_on_and_off_and_the_options_say_how() {
        let of = |maps_port, option| {
            let network = NetworkSettings { maps_port, ..NetworkSettings::default() };
            port_mapping(&network, &Client::builder().port_mapping(option))
        };
        let auto = PortMapping::Auto { after: Duration::ZERO };
        for option in [PortMapping::Off, PortMapping::On, auto] {
            assert_eq!(of(None, option), option);
            assert_eq!(of(Some(false), option), PortMapping::Off);
        }
        assert_eq!(of(Some(true), PortMapping::Off), auto);
        assert_eq!(of(Some(true), PortMapping::On), PortMapping::On);
    }

    #[test]
    fn the_settings_turn_utp_on_and_off_and_the_options_say_whether_tcp_is_used() {
        let of = |uses_utp, option| {
            let network = NetworkSettings { uses_utp, ..NetworkSettings::default() };
            transports(&network, &Client::builder().transports(option))
        };
        for option in [Transports::Tcp, Transports::Utp, Transports::Both] {
            assert_eq!(of(None, option), option);
            assert_eq!(of(Some(false), option), Transports::Tcp);
        }
        assert_eq!(of(Some(true), Transports::Tcp), Transports::Both);
        assert_eq!(of(Some(true), Transports::Utp), Transports::Utp);
    }
}
