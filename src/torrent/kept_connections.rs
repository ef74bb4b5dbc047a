//! The connections of the metadata phase while the files are examined: the peer manager lends them to the file check.

use std::collections::HashMap;
use std::net::SocketAddr;

use parking_lot::Mutex;

use crate::torrent::connection_entry::ConnectionEntry;
use crate::torrent::final_announce;
use crate::types::PeerKey;
use crate::util::cold_sort;
use crate::util::units::count;

/// The reason reported for closing connections.
pub const CLOSED_FOR_FILES: &str = "the files need the file descriptors";

/// The kept connections while the files are examined; each holds a file descriptor that a file may need.
#[derive(Default)]
pub struct KeptConnections(pub(super) Mutex<KeptState>);

/// See [`KeptConnections`].
#[derive(Default)]
pub struct KeptState {
    /// The connections that are still open.
    pub connections: HashMap<PeerKey, ConnectionEntry>,
    /// The addresses of the connections that were closed meanwhile.
    pub ended: Vec<SocketAddr>,
}

impl KeptConnections {
    /// Closes some of the connections because there is no descriptor for a file.
    pub fn close_some(&self) {
        let connections = self.0.lock().connections.len();
        self.close_all_but(connections - connections.div_ceil(4));
    }

    /// Closes connections until `most` are left, the newest first. Returns how many are left.
    pub fn close_all_but(&self, most: usize) -> usize {
        let mut lent = self.0.lock();
        let mut order: Vec<PeerKey> = lent.connections.keys().copied().collect();
        cold_sort::sort(&mut order);
        let surplus: Vec<ConnectionEntry> =
            order.iter().skip(most).filter_map(|key| lent.connections.remove(key)).collect();
        lent.ended.extend(surplus.iter().map(|entry| entry.connection.addr));
        let stay = lent.connections.len();
        drop(lent);
        if !surplus.is_empty() {
            log::debug!("disconnected {}: {CLOSED_FOR_FILES}; {stay} left", count(surplus.len(), "peer"));
        }
        // Their threads have ended, so this waits for nothing.
        final_announce::close_connections(surplus.into_iter().map(|entry| entry.connection).collect());
        stay
    }
}
