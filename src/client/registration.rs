//! A torrent's registration with its client: made when the torrent starts, and removed when the guard is dropped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::ClientError;
use crate::client::registry::RegisteredTorrent;
use crate::client::{ClaimPosition, Client, MappedPorts};
use crate::discovery::dht::{DhtService, FoundPeers};
use crate::discovery::lsd::Lsd;
use crate::discovery::port_mapping::status::{MappingSubscription, SharedMappingStatus};
use crate::net::address_filter::AddressFilter;
use crate::net::networks::is_private;
use crate::peer::{DialTransports, IncomingConnection};
use crate::storage::{FileIdentity, Layout, StopCheck};
use crate::strategy::dial_rate::DIALS_PER_SECOND;

use crate::types::{Encryption, InfoHash};
use crate::util::atomics::Amount;

/// Incoming connections that may wait for a torrent to take them; each holds a file descriptor.
const MAX_WAITING_CONNECTIONS: usize = 16;

/// See the module's documentation.
pub struct Registration {
    client: Arc<Client>,
    claim_position: ClaimPosition,
    torrent: Arc<RegisteredTorrent>,
    incoming_connections: Receiver<IncomingConnection>,
    /// Has something when the router has said something new about our port.
    mapping_changes: MappingSubscription,
    port: u16,
    /// The torrent's own limit on connections, which its handle may change.
    max_peers: Arc<Amount>,
    /// How many files it may hold open, once that is known.
    reserved_files: usize,
    /// The number of connections that it has reported to the client.
    connections: usize,
    /// Whether it shares in limits and connections: it transfers data, or is about to.
    is_active: bool,
}

impl Registration {
    /// Registers a torrent that accepts no connections yet and does not count among those that share limits and connections.
    ///
    /// # Errors
    /// [`ClientError::DuplicateTorrent`] if the client already has the torrent.
    pub fn new(
        client: Arc<Client>,
        claim_position: ClaimPosition,
        info_hash: InfoHash,
        encryption: Encryption,
        max_peers: Arc<Amount>,
    ) -> Result<Registration, ClientError> {
        let (deliver, incoming_connections) = bounded(MAX_WAITING_CONNECTIONS);
        let torrent = client.registry.register(info_hash, encryption, deliver);
        let torrent = torrent.ok_or(ClientError::DuplicateTorrent { info_hash })?;
        client.capacity.reserve_files(0);
        Ok(Registration {
            mapping_changes: MappingSubscription::new(client.mapping_status.clone()),
            client,
            claim_position,
            torrent,
            incoming_connections,
            port: 0,
            max_peers,
            reserved_files: 0,
            connections: 0,
            is_active: false,
        })
    }

    /// Tells the client which files the torrent has, so that its other torrents do not write to them. Reserves the file
    /// descriptors for them. `incomplete`: the layout that they have as long as they are incomplete, if that is another one.
    pub fn register_files(
        &mut self,
        out_dir: &Path,
        max_open_files: usize,
        layout: &Layout,
        incomplete: Option<&Layout>,
    ) {
        self.claim_position.add_torrent(self.torrent.info_hash, out_dir, layout, incomplete);
        // There may be a part file in addition.
        let files = max_open_files.min(layout.files().len() + 1);
        self.client.capacity.reserve_files(files);
        self.client.capacity.release_files(std::mem::replace(&mut self.reserved_files, files));
    }

    /// Tells the client which files still have the names of incomplete ones, by the layout; with `None`, none has.
    pub fn retain_incomplete_names(&self, layout: Option<&Layout>) {
        self.claim_position.retain_incomplete_names(self.torrent.info_hash, layout);
    }

    /// Tells the client how the torrent's files, by their indices, are identified on disk.
    pub fn add_identities(&self, files: impl Iterator<Item = (usize, FileIdentity, PathBuf)>) {
        self.claim_position.add_identities(self.torrent.info_hash, files);
    }

    /// Checks that no other torrent writes to this torrent's files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if one does.
    pub fn check_not_written(&self, layout: &Layout) -> Result<(), ClientError> {
        self.claim_position.check_not_written(self.torrent.info_hash, layout)
    }

    /// Declares that the torrent only reads its files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if another torrent writes to one of them.
    pub fn claim_for_reading(&self, layout: &Layout) -> Result<(), ClientError> {
        self.claim_position.claim_for_reading(self.torrent.info_hash, layout)
    }

    /// Waits until the torrent may write to its files, because no torrent that was named earlier does. Returns false if it has
    /// to stop first.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if another torrent has one of them.
    pub fn claim_for_writing(&self, layout: &Layout, stop: &dyn StopCheck) -> Result<bool, ClientError> {
        self.claim_position.claim_for_writing(self.torrent.info_hash, layout, stop)
    }

    /// Accepts connections from now on, and shares in limits and connections. Returns the port.
    ///
    /// # Errors
    /// If the client does not listen yet and cannot.
    pub fn listen(&mut self) -> Result<u16, ClientError> {
        // First, so that a peer that connects at once is not refused.
        self.client.registry.set_accepting(&self.torrent, true);
        self.port = self.client.listen().inspect_err(|_| self.client.registry.set_accepting(&self.torrent, false))?;
        if !self.is_active {
            self.is_active = true;
            self.client.throttle.limit_group().torrent_started();
        }
        Ok(self.port)
    }

    /// The port on which the client listens; 0 before `listen` was called.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port at which others reach us at our address `ip`, as far as we know.
    pub fn port_for(&self, ip: IpAddr) -> u16 {
        let mapped = self.client.mapped_ports().tcp.filter(|_| ip.is_ipv4() && !is_private(ip));
        mapped.unwrap_or(self.port)
    }

    /// Sets whether incoming connections are closed for now, including those that wait already.
    pub fn refuse_incoming(&self, refuses: bool) {
        self.client.registry.set_accepting(&self.torrent, !refuses);
        if refuses {
            self.incoming_connections.try_iter().for_each(drop);
        }
    }

    /// The incoming connections that the torrent has yet to accept.
    pub fn incoming_connections(&self) -> &Receiver<IncomingConnection> {
        &self.incoming_connections
    }

    /// Accepts no more connections, and frees the port if the client serves only this torrent.
    pub fn close(&self) {
        self.client.registry.set_accepting(&self.torrent, false);
        if !self.client.is_shared {
            self.client.begin_removal_of_mappings();
            self.client.stop_listening();
        }
    }

    /// Reports the number of the torrent's connections, including those being established.
    pub fn set_connection_count(&mut self, connections: usize) {
        self.client.capacity.connections.add(connections);
        self.client.capacity.connections.sub(std::mem::replace(&mut self.connections, connections));
    }

    /// How many connections the torrent may have, given those of all torrents.
    pub fn capacity(&self) -> usize {
        self.client.capacity(self.connections).min(self.max_peers.get())
    }

    /// The torrent's share of a resource of which the process should have at most `all`, but any torrent may have `least`.
    pub fn fair_share(&self, all: usize, least: usize) -> usize {
        (all / self.client.throttle.limit_group().torrents().max(1)).max(least)
    }

    /// The transports of the torrent's connections.
    pub fn dial_transports(&self) -> DialTransports {
        self.client.dial_transports()
    }

    /// How many connections the torrent may start now.
    pub fn dials_allowed(&self) -> usize {
        self.client.dials.lock().allowed(self.client.started.elapsed(), DIALS_PER_SECOND)
    }

    /// Records that the torrent has started a connection.
    pub fn note_dial(&self) {
        self.client.dials.lock().begun();
    }

    /// How long the torrent has to wait before it may start another connection.
    pub fn dial_wait(&self) -> Duration {
        self.client.dials.lock().next().saturating_sub(self.client.started.elapsed())
    }

    /// Records that a peer has connected to us.
    pub fn note_incoming_connection(&self, from: IpAddr) {
        self.client.has_had_incoming_peer.set(true);
        if !is_private(from) {
            self.client.registry.has_had_public_peer.set(true);
        }
    }

    /// Whether any peer has ever connected to us, for any torrent.
    pub fn has_had_incoming_peer(&self) -> bool {
        self.client.has_had_incoming_peer.is_set()
    }

    /// The addresses that are not to be connected to.
    pub fn address_filter(&self) -> &Arc<AddressFilter> {
        self.client.address_filter()
    }

    /// Has something when the router has said something new about our port.
    pub fn mapping_changes(&self) -> &Receiver<()> {
        &self.mapping_changes.changes
    }

    /// What the router said about our port.
    pub fn mapping_status(&self) -> &SharedMappingStatus {
        self.client.mapping_status()
    }

    /// The ports at which others reach us over IPv4, if the router maps any.
    pub fn mapped_ports(&self) -> MappedPorts {
        self.client.mapped_ports()
    }

    /// Tells the DHT whether the router maps our port, see [`Client::update_implied_port`].
    pub fn update_implied_port(&self) {
        self.client.update_implied_port();
    }

    /// Starts the search for this torrent's peers in the client's DHT node. Not to be called for a private torrent (BEP 27).
    pub fn start_dht_search(&self, found: &Sender<FoundPeers>) -> io::Result<Option<Arc<DhtService>>> {
        self.client.start_dht_search(self.torrent.info_hash, self.port, found)
    }

    /// The same for the client's local discovery.
    pub fn start_lsd_search(&self, found: Sender<(InfoHash, SocketAddr)>) -> io::Result<Option<Arc<Lsd>>> {
        self.client.start_lsd_search(self.torrent.info_hash, self.port, found)
    }

    /// The torrent no longer needs the DHT or local discovery. They end if the client serves only this torrent.
    pub fn stop_discovery(&self) {
        if !self.client.is_shared {
            self.client.stop_discovery();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.client.registry.set_accepting(&self.torrent, false);
        self.client.registry.unregister(&self.torrent);
        self.set_connection_count(0);
        self.client.capacity.release_files(self.reserved_files);
        if self.is_active {
            self.client.throttle.limit_group().torrent_stopped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::client::ClientConfig;
    use crate::net::bind::Bind;
    use crate::net::route::Route;

    const INFO_HASH: InfoHash = InfoHash([5; 20]);

    fn registration(addr: SocketAddr) -> (Arc<Client>, Registration) {
        let (listen_ports, route) = (addr.port()..=addr.port(), Route::direct(Bind::Address(addr.ip())));
        let config = ClientConfig { listen_ports, route, dht: None, uses_lsd: false, ..ClientConfig::default() };
        let client = Client::for_one_torrent(&config);
        let position = client.claim_position("it", true);
        let registration = Registration::new(client.clone(), position, INFO_HASH, Encryption::Allow, Arc::default());
        (client, registration.expect("the only torrent"))
    }

    #[test]
    fn a_peer_that_connects_as_soon_as_the_port_is_open_is_accepted() {
        let addr = TcpListener::bind("127.0.0.57:0").and_then(|free| free.local_addr()).expect("a port");
        for _ in 0..30 {
            let (_client, mut registration) = registration(addr);
            let dialer = thread::spawn(move || {
                loop {
                    if let Ok(stream) = TcpStream::connect(addr) {
                        return stream;
                    }
                }
            });
            registration.listen().expect("a free port");
            let accepted = registration.incoming_connections().recv_timeout(Duration::from_secs(60));
            assert!(accepted.is_ok(), "it was refused");
            dialer.join().expect("no panic");
        }
    }

    #[test]
    fn a_torrent_that_cannot_listen_accepts_nothing() {
        let taken = TcpListener::bind("127.0.0.57:0").expect("a port");
        let (client, mut registration) = registration(taken.local_addr().expect("an address"));
        assert!(registration.listen().is_err());
        assert!(client.registry.accepting(INFO_HASH).is_none());
        drop(taken);
        registration.listen().expect("a free port");
        assert!(client.registry.accepting(INFO_HASH).is_some());
    }
}
