//! The torrents that an incoming connection can be for. The threads that handle incoming connections look them up; the
//! torrents' loops add and remove them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::peer::{IncomingConnection, IncomingHandshake};
use crate::types::{Encryption, InfoHash};
use crate::util::atomics::Flag;

/// How long an incoming connection waits for a busy torrent to take it.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(100);

/// The torrents of a client, including those that accept no connections yet.
#[derive(Default)]
pub struct TorrentRegistry {
    torrents: Mutex<Vec<Arc<RegisteredTorrent>>>,
}

/// A torrent, as incoming connections find it.
pub struct RegisteredTorrent {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The encryption policy for its connections.
    pub encryption: Encryption,
    /// Whether it accepts connections now; it does not while it checks its files.
    accepting: Flag,
    incoming_connections: Sender<IncomingConnection>,
}

impl TorrentRegistry {
    /// Adds a torrent that accepts no connections yet; `None` if the client already has a torrent with this info-hash.
    pub fn register(
        &self,
        info_hash: InfoHash,
        encryption: Encryption,
        incoming_connections: Sender<IncomingConnection>,
    ) -> Option<Arc<RegisteredTorrent>> {
        let mut torrents = self.torrents.lock();
        if torrents.iter().any(|torrent| torrent.info_hash == info_hash) {
            return None;
        }
        let torrent =
            Arc::new(RegisteredTorrent { info_hash, encryption, accepting: Flag::default(), incoming_connections });
        torrents.push(torrent.clone());
        Some(torrent)
    }

    /// Removes a torrent.
    pub fn unregister(&self, torrent: &Arc<RegisteredTorrent>) {
        self.torrents.lock().retain(|other| !Arc::ptr_eq(other, torrent));
    }

    /// The torrents that accept connections.
    pub fn accepting(&self) -> Vec<Arc<RegisteredTorrent>> {
        self.torrents.lock().iter().filter(|torrent| torrent.is_accepting()).cloned().collect()
    }
}

impl RegisteredTorrent {
    /// Whether the torrent accepts connections.
    pub fn is_accepting(&self) -> bool {
        self.accepting.is_set()
    }

    /// Sets whether the torrent accepts connections.
    pub fn set_accepting(&self, accepting: bool) {
        self.accepting.set(accepting);
    }

    /// Passes an incoming connection to its torrent, with the bytes received so far. If too many connections wait for the
    /// torrent, this pauses accepting for a moment; if that does not help, the connection is closed.
    pub fn receive(&self, stream: TcpStream, addr: SocketAddr, handshake: Option<Box<IncomingHandshake>>) {
        if self
            .incoming_connections
            .send_timeout(IncomingConnection { stream, addr, handshake }, HANDOVER_TIMEOUT)
            .is_err()
        {
            log::debug!("{addr}: refused, because the torrent is busy");
        }
    }
}
