//! A small in-memory tracker over HTTP and UDP, for tests, the demo and `btsync tracker`.
//! [`Server`] has all HTTP connections, in one thread; another thread answers datagrams. Both sleep until data arrives.
//!
//! Resource use by untrusted clients is bounded: peers by [`RegistryLimits`], connections by [`MAX_CONNECTIONS`], the duration of
//! a connection by `CONNECTION_TIMEOUT` and the size of a request by `MAX_REQUEST`.

pub mod registry;
mod requests;
#[cfg(test)]
mod tests;
mod udp;

use std::io::{self, PipeWriter};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http_server::{HttpListener, ListenAddress, Server, ServerLimits};
use crate::tracker_server::registry::{Registry, RegistryLimits};
use crate::tracker_server::requests::TrackerHandler;
use crate::util::descriptors::is_shortage;

/// The most concurrent HTTP connections. Beyond this, the server closes the oldest connection of the network that has the most.
pub const MAX_CONNECTIONS: usize = 512;
/// The time that a client has to send its request, and the time in which it must accept some of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest request, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// The stack size of the thread for datagrams; it needs little.
const STACK: usize = 128 * 1024;

/// The configuration of a tracker server.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct TrackerServerConfig {
    /// The announce interval that clients are told. A peer that does not announce for two intervals expires.
    pub interval: Duration,
    /// The minimum announce interval that clients are told.
    pub min_interval: Duration,
    /// The most peers stored in total. Beyond this, the peer with the oldest announce is evicted.
    pub max_peers: usize,
    /// The most peers of one IPv4 address or one IPv6 /64 in total; an announce of a further peer is refused.
    pub max_peers_per_network: usize,
    /// The most peers of one network in one torrent. Beyond this, the one of them with the oldest announce is evicted.
    pub max_peers_per_network_and_torrent: usize,
}

impl Default for TrackerServerConfig {
    fn default() -> TrackerServerConfig {
        TrackerServerConfig {
            interval: Duration::from_secs(120),
            min_interval: Duration::from_secs(60),
            max_peers: 200_000,
            max_peers_per_network: 10_000,
            max_peers_per_network_and_torrent: 32,
        }
    }
}

/// A running tracker; stops on [`TrackerServer::stop`] or when dropped.
#[derive(Debug)]
pub struct TrackerServer {
    addr: SocketAddr,
    http: Option<Server>,
    /// Dropping it tells the thread for datagrams to exit.
    shutdown_sender: Option<PipeWriter>,
    udp: Option<JoinHandle<()>>,
    /// The error that prevented UDP service, if any.
    udp_error: Option<io::Error>,
}

/// The state shared by both threads.
#[derive(Debug)]
struct ServerShared {
    config: TrackerServerConfig,
    started: Instant,
    registry: Mutex<Registry>,
}

impl TrackerServer {
    /// Starts a tracker on `listen` with its own threads. `[::]` accepts IPv4 clients too; port 0 picks a free port.
    ///
    /// # Errors
    /// If the address is in use or not local, or no thread or file descriptor is available. If only the UDP port is unavailable,
    /// the server starts with HTTP alone; see [`TrackerServer::udp_error`].
    pub fn start(listen: SocketAddr, config: TrackerServerConfig) -> io::Result<TrackerServer> {
        TrackerServer::start_with_timeout(listen, config, CONNECTION_TIMEOUT)
    }

    fn start_with_timeout(
        listen: SocketAddr,
        config: TrackerServerConfig,
        timeout: Duration,
    ) -> io::Result<TrackerServer> {
        let listener = HttpListener::tcp(listen)?;
        let ListenAddress::Tcp(addr) = *listener.address() else { return Err(io::ErrorKind::Unsupported.into()) };
        let limits = RegistryLimits {
            expiry: config.interval.saturating_mul(2),
            max_peers: config.max_peers,
            max_per_network: config.max_peers_per_network,
            max_per_network_in_swarm: config.max_peers_per_network_and_torrent,
        };
        let registry = Mutex::new(Registry::new(limits));
        let shared = Arc::new(ServerShared { config, started: Instant::now(), registry });
        let (shutdown_pipe, shutdown_sender) = io::pipe()?;
        let datagrams = udp::bind(addr);
        let handler = Arc::new(TrackerHandler::new(Arc::clone(&shared)));
        let http = Server::start("tracker", vec![listener], http_limits(timeout), handler)?;
        let mut server = TrackerServer {
            addr,
            http: Some(http),
            shutdown_sender: Some(shutdown_sender),
            udp: None,
            udp_error: None,
        };
        let serve = |mut socket| {
            let work = move || udp::serve(&mut socket, &shutdown_pipe, &shared);
            thread::Builder::new().name("tracker-udp".into()).stack_size(STACK).spawn(work)
        };
        match datagrams.and_then(serve) {
            Ok(thread) => server.udp = Some(thread),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => server.udp_error = Some(error),
        }
        Ok(server)
    }

    /// The listen address, with the actual port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Why the tracker does not serve UDP; `None` if it does.
    pub fn udp_error(&self) -> Option<&io::Error> {
        self.udp_error.as_ref()
    }

    /// Closes all connections and waits for the threads to exit.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.http = None;
        self.shutdown_sender = None;
        if self.udp.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("a thread of the tracker panicked");
        }
    }
}

impl Drop for TrackerServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Each connection is for one request: clients announce once in many minutes.
fn http_limits(timeout: Duration) -> ServerLimits {
    ServerLimits {
        max_connections: MAX_CONNECTIONS,
        max_connections_per_client: MAX_CONNECTIONS,
        max_head: MAX_REQUEST,
        head_timeout: timeout,
        write_timeout: timeout,
        keep_alive: Duration::ZERO,
        ..ServerLimits::default()
    }
}
