//! Which sessions callers may be for. The listener's thread and those of the lobby look, the sessions' main threads come and go.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::peer::{IncomingHandshake, PeerEvent};
use crate::types::{Encryption, InfoHash};

/// How long an incoming connection waits for a busy session to take it.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(100);

/// The sessions of a host, those included that do not listen yet.
#[derive(Default)]
pub struct TorrentRegistry {
    torrents: Mutex<Vec<Arc<RegisteredTorrent>>>,
}

/// A session as callers find it.
pub struct RegisteredTorrent {
    /// Its swarm.
    pub info_hash: InfoHash,
    /// Which callers it takes.
    pub encryption: Encryption,
    /// Whether it takes any now: while files are being checked nobody has time for them.
    accepting: AtomicBool,
    incoming_connections: Sender<PeerEvent>,
}

impl TorrentRegistry {
    /// A session that takes no callers yet; `None` where there is one for the same torrent already.
    pub fn register(
        &self,
        info_hash: InfoHash,
        encryption: Encryption,
        incoming_connections: Sender<PeerEvent>,
    ) -> Option<Arc<RegisteredTorrent>> {
        let mut torrents = self.torrents.lock();
        if torrents.iter().any(|torrent| torrent.info_hash == info_hash) {
            return None;
        }
        let torrent = Arc::new(RegisteredTorrent {
            info_hash,
            encryption,
            accepting: AtomicBool::new(false),
            incoming_connections,
        });
        torrents.push(torrent.clone());
        Some(torrent)
    }

    /// A session is over.
    pub fn unregister(&self, torrent: &Arc<RegisteredTorrent>) {
        self.torrents.lock().retain(|other| !Arc::ptr_eq(other, torrent));
    }

    /// The sessions that take callers.
    pub fn accepting(&self) -> Vec<Arc<RegisteredTorrent>> {
        self.torrents.lock().iter().filter(|torrent| torrent.is_accepting()).cloned().collect()
    }
}

impl RegisteredTorrent {
    /// Whether the session takes callers.
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// From now on it does, or does not.
    pub fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Release);
    }

    /// Hands an incoming connection to its session, with the bytes received so far. If the session has too many waiting, accepting pauses
    /// for a moment; if that does not help, the connection is closed.
    pub fn receive(&self, stream: TcpStream, addr: SocketAddr, handshake: Option<Box<IncomingHandshake>>) {
        if self
            .incoming_connections
            .send_timeout(PeerEvent::Incoming(stream, addr, handshake), HANDOVER_TIMEOUT)
            .is_err()
        {
            log::debug!("{addr}: turned away, the session has no time");
        }
    }
}
