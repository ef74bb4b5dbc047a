//! The client that the torrents share, and its replacement when its settings have changed.

use std::sync::Arc;

use crate::client::{Client, ClientError, DhtSettings};
use crate::service::manager::Manager;
use crate::service::settings::SessionSettings;
use crate::util::random::Random;

/// The first of the ports of which a random one is chosen: those that no service has by custom.
const FIRST_RANDOM_PORT: u16 = 49152;

/// Starts a client with these settings.
pub(crate) fn start_client(
    settings: &SessionSettings,
    dht: Option<DhtSettings>,
    block_list: Option<&str>,
) -> Result<Arc<Client>, ClientError> {
    let network = &settings.network;
    let ports = if network.is_port_random {
        let above = Random::system().up_to(u32::from(u16::MAX - FIRST_RANDOM_PORT));
        let port = FIRST_RANDOM_PORT.saturating_add(u16::try_from(above).unwrap_or(0));
        port..=port
    } else {
        network.port..=network.port
    };
    let builder = Client::builder()
        .dht(dht.filter(|_| network.dht))
        .lsd(network.lsd)
        .max_peers(usize::from(network.peer_limit))
        .limits(settings.limits())
        .block_list(block_list);
    builder.clone().listen_ports(ports).build().or_else(|error| {
        if matches!(error, ClientError::BlockList { .. }) {
            return Err(error);
        }
        log::warn!("{error}; any free port will do");
        builder.listen_ports(0..=0).build()
    })
}

impl Manager {
    /// Starts a new client once no torrent uses the one whose settings have changed.
    pub(super) fn replace_client_if_idle(&mut self) {
        if !self.replaces_client || self.torrents.values().any(|torrent| torrent.is_active() || torrent.guard.is_some())
        {
            return;
        }
        // The port must be free before the new client asks for it.
        self.client = None;
        self.shared.client.lock().take();
        match start_client(&self.settings, Some(self.shared.dht.clone()), self.shared.block_list.as_deref()) {
            Ok(client) => {
                *self.shared.client.lock() = Some(client.clone());
                self.client = Some(client);
                self.replaces_client = false;
                self.publish_stats();
            }
            Err(error) => log::error!("{error}"),
        }
    }
}
