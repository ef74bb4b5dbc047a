//! A session's place at its host: taken when the session begins, given up when it says goodbye, by whichever way.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::ClientError;
use crate::client::registry::RegisteredTorrent;
use crate::client::{Client, OpeningOrder};
use crate::discovery::dht::{DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::peer::PeerEvent;
use crate::storage::{Layout, Trait};
use crate::strategy::dial_rate::DIALS_PER_SECOND;

use crate::types::{Encryption, InfoHash};

/// Callers that may wait for a session to take them: each has a descriptor.
const MAX_WAITING_CONNECTIONS: usize = 16;

/// See the module's head.
pub struct Registration {
    client: Arc<Client>,
    opening_order: OpeningOrder,
    torrent: Arc<RegisteredTorrent>,
    incoming_connections: Receiver<PeerEvent>,
    port: u16,
    /// What the session may have by its own configuration.
    max_peers: usize,
    /// Files that it may hold open, once they are known.
    files: usize,
    /// Connections that the host knows of.
    connections: usize,
    /// It talks to peers, or is about to.
    is_active: bool,
}

impl Registration {
    /// A seat for a session that takes no callers yet and does not count among those that share limits and connections.
    ///
    /// # Errors
    /// [`ClientError::DuplicateTorrent`] where another session of this host has the torrent.
    pub fn new(
        client: Arc<Client>,
        opening_order: OpeningOrder,
        info_hash: InfoHash,
        encryption: Encryption,
        max_peers: usize,
    ) -> Result<Registration, ClientError> {
        let (deliver, incoming_connections) = bounded(MAX_WAITING_CONNECTIONS);
        let torrent = client.registry.register(info_hash, encryption, deliver);
        let torrent = torrent.ok_or(ClientError::DuplicateTorrent { info_hash })?;
        client.reserve_files(0);
        Ok(Registration {
            client,
            opening_order,
            torrent,
            incoming_connections,
            port: 0,
            max_peers,
            files: 0,
            connections: 0,
            is_active: false,
        })
    }

    /// The torrent's files are these: the host's other sessions are kept from writing to them. Takes the descriptors that they need.
    pub fn claim_files(&mut self, out_dir: &Path, max_open_files: usize, layout: &Layout) {
        self.opening_order.enter(self.torrent.info_hash, out_dir, layout);
        // Beside its own files there may be the part file.
        let files = max_open_files.min(layout.files().len() + 1);
        self.client.reserve_files(files);
        self.client.release_files(std::mem::replace(&mut self.files, files));
    }

    /// The files that the session has claimed are these on disk, by their numbers.
    pub fn identify(&self, files: impl Iterator<Item = (usize, Trait)>) {
        self.opening_order.identify(self.torrent.info_hash, files);
    }

    /// Whether no other torrent writes to the files that the session has claimed.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where one does.
    pub fn check_not_written(&self, layout: &Layout) -> Result<(), ClientError> {
        self.opening_order.check_not_written(self.torrent.info_hash, layout)
    }

    /// The session only reads the files that it has claimed.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent writes to one of them.
    pub fn claim_for_reading(&self, layout: &Layout) -> Result<(), ClientError> {
        self.opening_order.claim_for_reading(self.torrent.info_hash, layout)
    }

    /// Waits until the session may write to the files that it has claimed, as no torrent that was named before does; false where
    /// it is to stop.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent has one of them.
    pub fn claim_for_writing(&self, layout: &Layout, stop: &AtomicBool) -> Result<bool, ClientError> {
        self.opening_order.claim_for_writing(self.torrent.info_hash, layout, stop)
    }

    /// Takes callers from now on, and has a part of limits and connections; the port.
    ///
    /// # Errors
    /// Where the host does not listen yet and cannot.
    pub fn listen(&mut self) -> Result<u16, ClientError> {
        self.port = self.client.listen()?;
        if !self.is_active {
            self.is_active = true;
            self.client.throttle.enter();
        }
        self.torrent.set_accepting(true);
        Ok(self.port)
    }

    /// The port on which the host listens; 0 before the session does.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether incoming connections are closed for now, those that wait already included.
    pub fn refuse_incoming(&self, refuse_incoming: bool) {
        self.torrent.set_accepting(!refuse_incoming);
        if refuse_incoming {
            self.incoming_connections.try_iter().for_each(drop);
        }
    }

    /// Incoming connections that the session has yet to accept.
    pub fn incoming_connections(&self) -> &Receiver<PeerEvent> {
        &self.incoming_connections
    }

    /// Nobody is let in any more; the port is free again where it was this session's alone.
    pub fn close(&self) {
        self.torrent.set_accepting(false);
        if !self.client.is_shared {
            self.client.stop_listening();
        }
    }

    /// The session has so many connections now, those that are being made included.
    pub fn count(&mut self, connections: usize) {
        self.client.connections.fetch_add(connections, Ordering::Relaxed);
        self.client.connections.fetch_sub(std::mem::replace(&mut self.connections, connections), Ordering::Relaxed);
    }

    /// How many it may have, as it stands with all sessions.
    pub fn capacity(&self) -> usize {
        self.client.capacity(self.connections).min(self.max_peers)
    }

    /// Its part of something of which the process should have `all` at most, and any session `least`.
    pub fn fair_share(&self, all: usize, least: usize) -> usize {
        (all / self.client.throttle.torrents().max(1)).max(least)
    }

    /// How many connections it may begin now.
    pub fn dials_allowed(&self) -> usize {
        self.client.dials.lock().allowed(self.client.started.elapsed(), DIALS_PER_SECOND)
    }

    /// It has begun a connection.
    pub fn note_dial(&self) {
        self.client.dials.lock().begun();
    }

    /// In how long it may begin the next one.
    pub fn dial_wait(&self) -> Duration {
        self.client.dials.lock().next().saturating_sub(self.client.started.elapsed())
    }

    /// Somebody has called us.
    pub fn note_incoming_connection(&self) {
        self.client.has_incoming_connections.store(true, Ordering::Relaxed);
    }

    /// Whether anybody has ever called us, for any torrent.
    pub fn has_incoming_connections(&self) -> bool {
        self.client.has_incoming_connections.load(Ordering::Relaxed)
    }

    /// The host's node of the DHT, which now looks for this session's peers. Never for a private torrent (BEP 27).
    pub fn start_dht_search(&self, found: &Sender<FoundPeers>) -> io::Result<Option<Arc<DhtService>>> {
        self.client.start_dht_search(self.torrent.info_hash, self.port, found)
    }

    /// The host's local discovery, which now does the same.
    pub fn start_lsd_search(&self, found: Sender<(InfoHash, SocketAddr)>) -> io::Result<Option<Arc<Lsd>>> {
        self.client.start_lsd_search(self.torrent.info_hash, self.port, found)
    }

    /// The session needs neither of the two any more; they end where they were there for it alone.
    pub fn stop_discovery(&self) {
        if !self.client.is_shared {
            self.client.stop_discovery();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.torrent.set_accepting(false);
        self.client.registry.unregister(&self.torrent);
        self.count(0);
        self.client.release_files(self.files);
        if self.is_active {
            self.client.throttle.quit();
        }
    }
}
