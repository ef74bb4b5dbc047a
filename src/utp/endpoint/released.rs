//! Limits the connections that were released: they deliver their last data, and nobody else counts them any more. Otherwise one host
//! could fill the table with them.

use crate::net::networks::{Network, heaviest_users};
use crate::utp::UtpKey;
use crate::utp::connection::UtpConnection;
use crate::utp::endpoint::UtpEndpoint;

impl UtpEndpoint {
    /// Notes that a connection was released. If its host has too many, or there are too many, resets an older one.
    pub(super) fn limit_released(&mut self, key: UtpKey) {
        let table = &self.table;
        let Some(ip) = table.ip(key) else { return };
        self.released.retain(|other| table.ip(*other).is_some());
        self.released.push_back(key);
        let host = Network::host(ip);
        let mut of_host =
            self.released.iter().filter(|key| table.ip(**key).is_some_and(|ip| Network::host(ip) == host));
        let oldest = of_host.next().copied();
        let held = |key: &UtpKey| self.table.get_slot(key.slot).map_or(0, UtpConnection::allocated);
        let victim = if of_host.count() >= self.config.max_released_per_host {
            oldest
        } else if self.released.iter().map(held).sum::<usize>() > self.config.max_released_bytes {
            heaviest_users(self.released.iter().copied(), |key| table.ip(*key), held).first().copied()
        } else if self.released.len() > self.config.max_released {
            heaviest_users(self.released.iter().copied(), |key| table.ip(*key), |_| 1).first().copied()
        } else {
            None
        };
        if let Some(victim) = victim {
            self.reset_slot(victim.slot);
        }
    }

    fn reset_slot(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_slot_mut(slot) {
            let header = connection.reset_header(self.now);
            self.resets.push(connection.local_ip, connection.addr, &header);
            self.forget(slot);
        }
    }
}
