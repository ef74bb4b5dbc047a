//! The block list as a torrent applies it: to addresses that it learns, to those that it is about to dial, and to connections that
//! exist when the list changes. The listener applies it to incoming connections, and the DHT to its packets.

use std::net::SocketAddr;

use crate::strategy::peer_list::PeerSource;
use crate::torrent::peer_manager::PeerManager;

impl PeerManager<'_> {
    /// Adds addresses that are not on the block list, and returns how many are new.
    pub(super) fn add_peers(&mut self, addresses: &[SocketAddr], source: PeerSource) -> usize {
        let allowed = self.registration.address_filter().allowed(addresses);
        if source == PeerSource::User && allowed.len() < addresses.len() {
            for addr in addresses.iter().filter(|addr| !allowed.contains(addr)) {
                log::warn!("btsync does not connect to {addr}: it is on the block list");
            }
        }
        self.peer_list.add(&allowed, source)
    }

    /// Whether an address has come to be on the block list since it was added; it is forgotten then.
    pub(super) fn forget_if_blocked(&mut self, addr: SocketAddr) -> bool {
        let is_blocked = self.registration.address_filter().count_if_blocked(addr.ip());
        if is_blocked {
            self.peer_list.remove(&addr);
        }
        is_blocked
    }

    /// Closes the connections whose addresses are on a list that is new, and publishes the list's figures.
    pub(super) fn apply_block_list(&mut self) {
        let filter = self.registration.address_filter();
        let version = filter.version();
        if std::mem::replace(&mut self.block_list_version, version) != version {
            let blocked = |addr: &SocketAddr| filter.is_blocked(addr.ip());
            for entry in self.connections.values_mut().filter(|entry| blocked(&entry.connection.addr)) {
                log::debug!("{}: disconnected, because it is on the block list", entry.connection.addr);
                entry.is_closing = true;
                entry.connection.close();
            }
        }
        let stats = filter.stats();
        self.inner.peers.search.lock().block_list = stats;
    }
}
