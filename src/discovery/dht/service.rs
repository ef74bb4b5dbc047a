//! The DHT's threads: one per family, asleep until a packet arrives on its UDP socket or work is due. Commands go through a
//! channel, and a byte in a pipe wakes the thread to read them. Host names are resolved on separate threads (`resolver`), because
//! the system's resolver cannot be interrupted.

mod associator;
mod channel;
mod dht_loop;
mod items;
mod named_nodes;
mod proxied;
mod resolver;
mod socket;
mod state_file;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::discovery::DormantTorrentsCell;
use crate::discovery::dht::item_request::{ItemOutcome, ItemRequest};
use crate::discovery::dht::message::Family;
use crate::discovery::dht::node::{Dht, NodeSettings};
use crate::discovery::dht::state::DhtState;
use crate::discovery::dht::stats::DhtStats;
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::proxy::connect::UdpAssociation;
use crate::types::InfoHash;
use crate::udp::DhtLink;
use crate::util::descriptors::is_shortage;
use crate::util::random;
use associator::ProxyAssociator;
use channel::{DhtLoopHandle, DhtLoopInbox, command_channel};
use dht_loop::{DhtClock, DhtLoop};
pub use items::ItemPutResult;
use named_nodes::{NamedNode, NamedNodes};
use resolver::HostResolver;
#[cfg(test)]
pub(crate) use resolver::STOP_TIMEOUT as RESOLVER_STOP_TIMEOUT;
use socket::{DhtSocket, naming_port};
use state_file::{load, save};

/// The thread's stack size; the node's tables are on the heap.
const STACK: usize = 256 * 1024;

/// Upper limit on results that wait for the reader of [`DhtService::find_peers`]; further ones are lost.
const MAX_WAITING_RESULTS: usize = 256;

/// Well-known bootstrap nodes, which most clients query first.
pub const ROUTERS: [&str; 4] = [
    "dht.libtorrent.org:25401",
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "router.utorrent.com:6881",
];

/// The configuration of the DHT.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct DhtConfig {
    /// The UDP port of both families; 0 picks a free port.
    pub port: u16,
    /// The interface or address to bind the sockets to. A family that it excludes is not used.
    pub interface: Bind,
    /// Routers as `HOST:PORT`: bootstrap nodes to query only while the routing table is nearly empty, such as [`ROUTERS`].
    pub routers: Vec<String>,
    /// Nodes to add, as `HOST:PORT`: the user's own, and a torrent's `nodes`.
    pub entry_points: Vec<String>,
    /// The file in which ids and nodes are saved between runs.
    pub state_file: Option<PathBuf>,
    /// Whether other nodes cannot reach us (BEP 43).
    pub is_read_only: bool,
    /// Whether packets omit the name and version of this client.
    pub is_anonymous: bool,
}

impl Default for DhtConfig {
    /// Both families, any free port, the well-known routers, and no state file.
    fn default() -> DhtConfig {
        DhtConfig {
            port: 0,
            interface: Bind::Any,
            routers: ROUTERS.map(String::from).to_vec(),
            entry_points: Vec::new(),
            state_file: None,
            is_read_only: false,
            is_anonymous: false,
        }
    }
}

/// Peers of a torrent that the DHT found, from an unverified source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPeers {
    /// The torrent's info-hash.
    pub info_hash: InfoHash,
    /// The peers' addresses; each is reported once per search.
    pub peers: Vec<SocketAddr>,
}

/// A command for a thread.
#[derive(Clone, Debug)]
enum DhtCommand {
    /// Search for peers of a torrent. The sender, if any, receives them instead of the one passed to [`DhtService::start`].
    Search(InfoHash, Option<u16>, Option<Sender<FoundPeers>>),
    AnnounceOnce(InfoHash, Option<u16>),
    Forget(InfoHash),
    SetSeed(InfoHash, bool),
    Node(SocketAddr),
    Router(SocketAddr),
    /// A node whose name the proxy resolves.
    Name(NamedNode),
    /// Packets go through this association from now on.
    Associated(Arc<UdpAssociation>),
    SetReadOnly {
        is_read_only: bool,
    },
    SetPortImplied {
        is_port_implied: bool,
    },
    Item(Box<ItemRequest>, Duration, Sender<ItemOutcome>),
    Stop,
}

/// A running DHT. Dropping it stops it like [`DhtService::stop`].
#[derive(Debug)]
pub struct DhtService {
    handles: Arc<Vec<DhtLoopHandle>>,
    threads: Vec<JoinHandle<DhtState>>,
    resolver: Option<HostResolver>,
    /// With a proxy, this in place of `resolver`.
    associator: Option<ProxyAssociator>,
    state_file: Option<PathBuf>,
    dormant: DormantTorrentsCell,
    /// The state loaded at the start. A family that is not used keeps its part.
    loaded_state: DhtState,
}

impl DhtService {
    /// Searches for peers of a torrent, and returns them as they are found, for as long as `timeout` says; announces that we
    /// accept connections on `announce_port`, if given. Never to be called for a private torrent (BEP 27).
    pub fn find_peers(
        &self,
        info_hash: InfoHash,
        announce_port: Option<u16>,
        timeout: Duration,
    ) -> impl Iterator<Item = SocketAddr> + '_ {
        let (found, peers) = bounded(MAX_WAITING_RESULTS);
        self.search_for(info_hash, announce_port, found);
        let end = Instant::now() + timeout;
        let results = std::iter::from_fn(move || {
            let next = peers.recv_deadline(end).ok();
            if next.is_none() {
                self.forget(info_hash);
            }
            next
        });
        results.flat_map(|found: FoundPeers| found.peers)
    }

    /// Binds the sockets and starts the threads. Sends peers to `found` as they are found, and drops them if the channel is full.
    ///
    /// # Errors
    /// If no socket could be bound for either family. One family may be missing, as on a machine without IPv6. If file
    /// descriptors run out, nothing is started, so that the caller can try again.
    #[doc(hidden)]
    pub fn start(config: &DhtConfig, found: &Sender<FoundPeers>) -> io::Result<DhtService> {
        DhtService::start_filtered(config, found, &Arc::default())
    }

    /// Like [`DhtService::start`], but exchanges no packets with addresses that `filter` blocks, and reports no such peers.
    pub(crate) fn start_filtered(
        config: &DhtConfig,
        found: &Sender<FoundPeers>,
        filter: &Arc<AddressFilter>,
    ) -> io::Result<DhtService> {
        let mut sides = Vec::new();
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the DHT has no address to use");
        for family in [Family::V4, Family::V6] {
            let Some(ip) = config.interface.ip(family == Family::V4) else { continue };
            let socket = config.interface.udp(SocketAddr::new(ip, config.port)).and_then(DhtSocket::direct);
            match socket.and_then(|socket| command_channel(family, socket)) {
                Ok(both) => sides.push(both),
                Err(error) => {
                    log::info!("no DHT at {ip}, port {}: {error}", config.port);
                    failure = error;
                }
            }
        }
        if sides.is_empty() || is_shortage(&failure) {
            return Err(naming_port(failure, config.port));
        }
        DhtService::start_with_sides(config, sides, found, filter)
    }

    /// Like [`DhtService::start_filtered`], but shares sockets with uTP.
    pub(crate) fn start_linked(
        links: Vec<DhtLink>,
        config: &DhtConfig,
        found: &Sender<FoundPeers>,
        filter: &Arc<AddressFilter>,
    ) -> io::Result<DhtService> {
        let sides = links.into_iter().map(|link| {
            let family = Family::of(link.local_addr()?.ip());
            command_channel(family, DhtSocket::Shared(link))
        });
        DhtService::start_with_sides(config, sides.collect::<io::Result<_>>()?, found, filter)
    }

    fn start_with_sides(
        config: &DhtConfig,
        sides: Vec<(DhtLoopHandle, DhtLoopInbox)>,
        found: &Sender<FoundPeers>,
        filter: &Arc<AddressFilter>,
    ) -> io::Result<DhtService> {
        let loaded_state = config.state_file.as_deref().map(load).transpose()?.unwrap_or_default();
        let mut service = DhtService::start_threads(config, loaded_state, sides, found, filter)?;
        service.resolver = Some(HostResolver::default());
        service.add_first_nodes(config);
        Ok(service)
    }

    /// Starts the threads, which know no node yet.
    fn start_threads(
        config: &DhtConfig,
        loaded_state: DhtState,
        sides: Vec<(DhtLoopHandle, DhtLoopInbox)>,
        found: &Sender<FoundPeers>,
        filter: &Arc<AddressFilter>,
    ) -> io::Result<DhtService> {
        let (handles, inboxes): (Vec<_>, Vec<_>) = sides.into_iter().unzip();
        let mut service = DhtService {
            handles: Arc::new(handles),
            threads: Vec::new(),
            resolver: None,
            associator: None,
            state_file: config.state_file.clone(),
            dormant: DormantTorrentsCell::default(),
            loaded_state,
        };
        for (at, inbox) in inboxes.into_iter().enumerate() {
            let Some(handle) = service.handles.get(at) else { continue };
            let settings = NodeSettings {
                family: handle.family,
                is_read_only: config.is_read_only,
                is_anonymous: config.is_anonymous,
                secret: random::bytes(),
            };
            let run = DhtLoop {
                dht: Dht::new(&settings, &service.loaded_state, random::fast_rng()),
                at,
                inbox,
                handles: service.handles.clone(),
                found: found.clone(),
                dormant: service.dormant.clone(),
                filter: filter.clone(),
                subscribers: BTreeMap::new(),
                item_subscribers: BTreeMap::new(),
                names: NamedNodes::default(),
                clock: DhtClock::default(),
            };
            let name = if handle.family == Family::V4 { "dht4" } else { "dht6" };
            let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || run.run());
            // If this fails, dropping the service stops the threads that have started.
            service.threads.push(thread?);
        }
        Ok(service)
    }

    /// Adds the nodes that the user named.
    fn add_first_nodes(&self, config: &DhtConfig) {
        self.add_nodes_by_name(config.routers.clone(), true, true);
        self.add_nodes_by_name(config.entry_points.clone(), false, true);
    }

    /// Searches for peers of a torrent from now on, every ten minutes, and more often while there are none. Announces our TCP
    /// port if given. Must not be called for a private torrent (BEP 27).
    pub fn search(&self, info_hash: InfoHash, announce_port: Option<u16>) {
        self.send_to_all(&DhtCommand::Search(info_hash, announce_port, None));
    }

    /// Like [`DhtService::search`], but sends the peers of this torrent only to `found`.
    #[doc(hidden)]
    pub fn search_for(&self, info_hash: InfoHash, announce_port: Option<u16>, found: Sender<FoundPeers>) {
        self.send_to_all(&DhtCommand::Search(info_hash, announce_port, Some(found)));
    }

    /// Stops [`DhtService::search`] for a torrent.
    pub fn forget(&self, info_hash: InfoHash) {
        self.send_to_all(&DhtCommand::Forget(info_hash));
    }

    /// Adds a node: a peer's address with the port from its PORT message (BEP 5).
    pub fn add_node(&self, addr: SocketAddr) {
        self.handles.iter().for_each(|handle| handle.send_address(addr, DhtCommand::Node));
    }

    /// Adds nodes given as `HOST:PORT`, such as a torrent's `nodes` (BEP 5); at most 32.
    pub fn add_hosts(&self, hosts: Vec<String>) {
        self.add_nodes_by_name(hosts, false, false);
    }

    /// Sets whether to answer no queries, because other nodes cannot reach us (BEP 43).
    pub fn set_read_only(&self, is_read_only: bool) {
        self.send_to_all(&DhtCommand::SetReadOnly { is_read_only });
    }

    /// Sets whether our announces ask nodes to tell others the port that our packets come from, instead of the announced one
    /// (`implied_port`, BEP 5). Only if that port accepts uTP connections, and if the external port is not known otherwise.
    #[doc(hidden)]
    pub fn set_port_implied(&self, is_port_implied: bool) {
        self.send_to_all(&DhtCommand::SetPortImplied { is_port_implied });
    }

    /// The statistics of each family.
    #[doc(hidden)]
    pub fn stats(&self) -> Vec<(Family, DhtStats)> {
        self.handles.iter().map(|handle| (handle.family, *handle.stats.lock())).collect()
    }

    /// The local addresses of the sockets, for tests.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.handles.iter().map(|handle| handle.bound).collect()
    }

    /// Stops the threads, waits for them, and saves ids and nodes for the next run.
    ///
    /// # Errors
    /// If the state cannot be written. The DHT is stopped nevertheless.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn send_to_all(&self, command: &DhtCommand) {
        self.handles.iter().for_each(|handle| handle.send_command(command.clone()));
    }

    fn add_nodes_by_name(&self, hosts: Vec<String>, are_routers: bool, are_trusted: bool) {
        if self.associator.is_some() {
            return self.add_nodes_through_proxy(&hosts, are_routers, are_trusted);
        }
        let to_command = if are_routers { DhtCommand::Router } else { DhtCommand::Node };
        // A resolver thread abandoned at shutdown must not keep the sockets open, and with them the port in use.
        let handles = Arc::downgrade(&self.handles);
        let send_address = move |addr| {
            if let Some(handles) = handles.upgrade() {
                handles.iter().for_each(|handle| handle.send_address(addr, to_command));
            }
        };
        if let Some(resolver) = &self.resolver {
            resolver.look_up(hosts, send_address);
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.threads.is_empty() {
            return Ok(());
        }
        self.send_to_all(&DhtCommand::Stop);
        let mut state = DhtState::default();
        let mut ended = Vec::new();
        for (thread, handle) in self.threads.drain(..).zip(self.handles.iter()) {
            match thread.join() {
                Ok(part) => {
                    state.ids.extend(part.ids);
                    state.nodes.extend(part.nodes);
                    ended.push(handle.family);
                }
                Err(_) => log::error!("the DHT's thread panicked"),
            }
        }
        (self.resolver, self.associator) = (None, None);
        let kept = |family: Family| !ended.contains(&family);
        state.ids.extend(self.loaded_state.ids.iter().filter(|(ip, _)| kept(Family::of(*ip))));
        state.nodes.extend(self.loaded_state.nodes.iter().filter(|node| kept(Family::of(node.addr.ip()))));
        self.state_file.as_deref().map_or(Ok(()), |path| save(path, &state))
    }
}

impl Drop for DhtService {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::warn!("cannot save the DHT nodes: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
