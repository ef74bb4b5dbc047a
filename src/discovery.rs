//! Peer discovery: [`tracker`] announces to trackers, [`dht`] finds peers without trackers, and [`lsd`] finds peers on the local
//! network.
//! These modules yield peer addresses and know nothing of pieces.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::types::InfoHash;

pub mod dht;
pub mod lsd;
pub mod port_mapping;
pub mod tracker;

/// Torrents that do not run: the DHT and local discovery search for no peers of them, but report those that they come across.
pub trait DormantTorrents: Send + Sync {
    /// Whether there is such a torrent, and it is not private.
    fn has(&self, info_hash: InfoHash) -> bool;
    /// A node of the DHT has named these peers. Must return at once.
    fn found_in_dht(&self, info_hash: InfoHash, peers: Vec<SocketAddr>);
    /// A peer in the local network searches for others. Must return at once.
    fn found_by_lsd(&self, info_hash: InfoHash, peer: SocketAddr);
}

/// A place for the [`DormantTorrents`] to which the threads of the DHT and of local discovery report. It is empty until the client
/// has its first dormant torrent, because those threads start earlier. All clones share it.
#[derive(Clone, Default)]
pub struct DormantTorrentsCell(Arc<OnceLock<Box<dyn DormantTorrents>>>);

impl DormantTorrentsCell {
    /// Sets the torrents, unless they are set.
    pub fn set(&self, torrents: impl FnOnce() -> Box<dyn DormantTorrents>) {
        self.0.get_or_init(torrents);
    }

    fn get(&self) -> Option<&dyn DormantTorrents> {
        self.0.get().map(|torrents| &**torrents)
    }
}

impl Debug for DormantTorrentsCell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("DormantTorrentsCell")
    }
}
